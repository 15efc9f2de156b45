"""Special functions that NumPy lacks. Numba is imported, and compiles, at the first call."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np


@functools.cache
def _compiled(function: Callable[[float], float]) -> Any:
    """`function` over arrays; float32 is computed in float64 and rounded once."""
    import numba

    def pointwise(x: float) -> float:
        return function(x)

    vectorize: Any = numba.vectorize
    return vectorize(["float64(float64)"])(pointwise)


def _over(function: Callable[[float], float], x: Any) -> Any:
    x = np.asarray(x)
    dtype = np.result_type(x.dtype, np.float32) if x.dtype.kind == "f" else np.float64
    return _compiled(function)(x.astype(np.float64, copy=False)).astype(dtype, copy=False)


def erf(x: Any) -> Any:
    """Error function of each element."""
    return _over(math.erf, x)


def erfc(x: Any) -> Any:
    """Complementary error function of each element."""
    return _over(math.erfc, x)
