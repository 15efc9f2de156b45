"""New memory for kernels."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.kernels.memory import address, aligned


@given(st.lists(st.integers(0, 5), max_size=3), st.sampled_from("Bfdq"))
def test_memory_begins_with_a_cache_line_and_is_writable(shape, kind):
    made = [aligned(shape, kind) for _ in range(3)]
    for k, array in enumerate(made):
        assert array.shape == tuple(shape) and array.dtype == kind and array.flags.c_contiguous
        assert address(array) % 64 == 0 or not math.prod(shape)
        array.fill(k)
    assert all((array == k).all() for k, array in enumerate(made))  # none lies in another


@pytest.mark.parametrize("array", [np.arange(3.0), np.arange(6.0)[::2], np.ones((0, 2))])
def test_address_is_where_numpy_says(array):
    assert address(array) == array.ctypes.data
    frozen = array.copy()
    frozen.flags.writeable = False
    assert address(frozen) == frozen.ctypes.data
    assert address(None) == 0
