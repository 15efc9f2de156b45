"""What is kept for the way back, and what is never stored."""

import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg


def test_dropout_keeps_its_mask_alone():
    x = tg.Tensor(np.ones((50, 40)), requires_grad=True) * 2.0
    kept = weakref.ref(x._data)
    y = tg.nn.dropout(x, 0.5, rng=np.random.default_rng(0))
    assert kept() is not None
    del x
    assert kept() is None and y.requires_grad


LOGITS = """
import re
import sys
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg

rows, units, words = map(int, sys.argv[1:])
rng = np.random.default_rng(0)


def resident(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])


def growth(rows, words):
    h = tg.Tensor(rng.standard_normal((rows, units), dtype=np.float32), requires_grad=True)
    w = tg.Tensor(rng.standard_normal((words, units), dtype=np.float32), requires_grad=True)
    b = tg.Tensor(np.zeros(words, np.float32), requires_grad=True)
    targets = rng.integers(0, words, rows)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    tg.nn.linear_cross_entropy(h, w, targets, b).backward()
    after = resident("VmHWM")
    assert all(np.abs(v.grad.numpy()).max() > 0 for v in (h, w, b))
    return after - before


growth(8, 64)  # so that everything is compiled
print(growth(rows, words))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are not told here")
@pytest.mark.parametrize(
    "rows, units, words",
    [(3_500, 32, 10_000), pytest.param(3_500, 200, 50_000, marks=pytest.mark.slow)],
)
def test_logits_of_all_rows_are_never_stored(rows, units, words):
    """Forward and backward together take the gradients, and a fifth of the logits at most."""
    command = [sys.executable, "-c", LOGITS, *map(str, (rows, units, words))]
    done = subprocess.run(command, capture_output=True)
    assert not done.returncode, done.stderr.decode()
    gradients = 4 * (rows * units + words * units + words)
    assert gradients <= int(done.stdout) < gradients + 4 * rows * words // 5
