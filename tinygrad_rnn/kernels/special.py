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


ROOT, REST = math.sqrt(0.5), -4.833646656726457e-17  # √½ and what its rounding left out
HIGH = float(np.float32(ROOT))


def normal_cdf(x: Any) -> Any:
    """½ erfc(-x / √2) of each element; its tail would magnify the rounding of x / √2 by x²."""
    x = np.asarray(x)
    wide = np.clip(x, -40, 40).astype(np.float64)
    high = wide.astype(np.float32).astype(np.float64)
    z, low = wide * ROOT, wide - high
    rest = (high * HIGH - z) + high * (ROOT - HIGH) + low * ROOT + wide * REST  # x / √2 - z
    out = 0.5 * erfc(-z) + rest * np.exp(-z * z) / math.sqrt(math.pi)
    return out.astype(np.result_type(x.dtype, np.float32), copy=False)
