"""Memory that kernels read and write: where arrays are, and new ones."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

LINE = 64  # bytes of a cache line; a vector that lies across two takes longer to read


def address(array: Any) -> int:
    """Where an array's memory begins; 0 for None."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # read-only, empty or strided
        return 0 if array is None else int(array.ctypes.data)


def aligned(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array, not filled, whose memory begins with a cache line."""
    memory = np.empty(math.prod(shape) * np.dtype(dtype).itemsize + LINE, np.uint8)
    return np.ndarray(shape, dtype, memory, -address(memory) % LINE)
