"""Hypothesis profiles by HYPOTHESIS_PROFILE: '', ci (also where CI is set), nightly."""

import gc
import os
import signal

import numpy as np
import pytest
from hypothesis import settings

from tinygrad_rnn.testing import register_profiles

os.environ["TINYGRAD_RNN_STRICT"] = "1"  # a cell that cannot be compiled raises
register_profiles()
_profile = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "")
settings.load_profile(f"tinygrad_rnn-{_profile}" if _profile else "tinygrad_rnn")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background: tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Let the collector pass over the tests themselves: walking them took an eighth of all time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def rng():
    return np.random.default_rng(0)
