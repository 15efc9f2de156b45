"""Each program in examples/ shows a right gradient passing and a wrong one found."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# program: what it needs, the verdicts it prints, and what it finds
PROGRAMS = {
    "numpy": (
        None,
        ["pass", "fail", "fail"],
        ["x: a term is missing or wrong", "gamma: the gradient has shape (3, 4), the input (4,)"],
    ),
    "loss": (None, ["pass", "fail"], ["d out / d w[3]", "w: wrong at 1 of 4 elements only"]),
    "torch": ("torch", ["pass", "pass", "pass", "fail"], ["x: a term is missing or wrong"]),
    "jax": ("jax", ["pass", "pass", "fail"], ["y: the sign is wrong"]),
    "autograd": ("autograd", ["pass", "pass", "fail"], ["w: a sum over the broadcast axis 0"]),
    "own_op": (
        None,
        ["pass", "pass", "fail", "pass", "fail", "fail"],
        ["fail: order 2", "def wrong_gated(x", "x0 = np.array([["],
    ),
}


def run(*arguments):
    environment = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
    )


def test_every_program_has_a_row():
    assert {p.stem for p in (ROOT / "examples").glob("*.py")} == {
        f"gradcheck_{n}" for n in PROGRAMS
    }


@pytest.mark.parametrize("name", PROGRAMS)
def test_right_ones_pass_and_wrong_ones_are_found(name):
    needed, verdicts, findings = PROGRAMS[name]
    if needed and find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    path = f"examples/gradcheck_{name}.py"
    done = run(*([] if needed else ["-W", "error"]), path)
    assert (done.returncode, done.stderr) == (0, "")
    printed = re.findall(r"^(?:gradcheck: )?(pass|fail|unsure): order", done.stdout, re.MULTILINE)
    assert printed == verdicts
    for finding in findings:
        assert finding in done.stdout
    assert f"\n    python {path}\n" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name, (needed, *_) in PROGRAMS.items() if needed])
def test_a_missing_library_is_named_in_one_line(name):
    needed = PROGRAMS[name][0]
    path = f"examples/gradcheck_{name}.py"
    code = f"import runpy, sys; sys.modules[{needed!r}] = None; runpy.run_path({path!r})"
    done = run("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"This example needs \w+: pip install {needed}\n", done.stdout)
