"""Pointwise arithmetic, comparisons and elementary functions.

The rules use only arithmetic, comparisons and pointwise ops, so that arrays, Tensors and the
vector code of a compiled cell can read the same lines. Sub-gradients at ties: abs and relu have 0
at 0, maximum and minimum share a tie equally, clip passes the gradient at its bounds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.errors import dtype_of
from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.autograd.op import primitive
from tinygrad_rnn.kernels import special


@primitive(x=lambda g: g, y=lambda g: g)
def add(x: Array, y: Array) -> Array:
    """x + y."""
    return np.add(x, y)


@primitive(x=lambda g: g, y=lambda g: -g)
def subtract(x: Array, y: Array) -> Array:
    """x - y."""
    return np.subtract(x, y)


@primitive(x=lambda g, y: g * y, y=lambda g, x: g * x)
def multiply(x: Array, y: Array) -> Array:
    """x · y, element by element."""
    return np.multiply(x, y)


@primitive(x=lambda g, y: g / y, y=lambda g, out, y: -g * out / y)
def divide(x: Array, y: Array) -> Array:
    """x / y."""
    return np.true_divide(x, y)


@primitive(x=lambda g: -g)
def negative(x: Array) -> Array:
    """-x."""
    return np.negative(x)


@primitive(
    x=lambda g, x, y: g * y * power_(where(y == 0.0, where(x == 0.0, 1.0, x), x), y - 1.0),
    y=lambda g, x, out: g * where(x == 0.0, 0.0, out * log(where(x == 0.0, 1.0, x))),
)
def power_(x: Array, y: Array) -> Array:
    """x to the power of an array y."""
    return np.power(x, y)


@primitive(
    x=lambda g, x, exponent: (
        where(g == g, 0.0, g) if exponent == 0 else g * (exponent * x ** (exponent - 1))
    )
)
def power__(x: Array, exponent: float) -> Array:
    """x to the power of a number."""
    return np.power(x, exponent)


def power(x: Array, y: Array) -> Array:
    """x to the power of y.

    >>> import tinygrad_rnn as tg
    >>> tg.power(tg.Tensor([1.0, 2.0, 3.0]), 2)
    Tensor([1., 4., 9.], dtype=float32)
    """
    return power__(x, y) if isinstance(y, (int, float)) else power_(x, y)


@primitive(x=lambda g, x: g * sign(x))
def abs(x: Array) -> Array:
    """|x|; the sub-gradient at 0 is 0."""
    return np.abs(x)


@primitive(x=lambda g: where(g == g, 0.0, g))
def sign(x: Array) -> Array:
    """-1, 0 or 1; its derivative is 0."""
    return np.sign(x)


@primitive(x=lambda g, out: g * out)
def exp(x: Array) -> Array:
    """eˣ."""
    return np.exp(x)


@primitive(x=lambda g, out: g * (out + 1.0))
def expm1(x: Array) -> Array:
    """eˣ - 1, exact near 0."""
    return np.expm1(x)


@primitive(x=lambda g, x: g / x)
def log(x: Array) -> Array:
    """Natural logarithm."""
    return np.log(x)


@primitive(x=lambda g, x: g / (1.0 + x))
def log1p(x: Array) -> Array:
    """log(1 + x), exact near 0."""
    return np.log1p(x)


@primitive(x=lambda g, out: g * 0.5 / out)
def sqrt(x: Array) -> Array:
    """√x."""
    return np.sqrt(x)


@primitive(x=lambda g, out, x: g * (-0.5) * out / x)
def rsqrt(x: Array) -> Array:
    """1 / √x."""
    return 1.0 / np.sqrt(x)


@primitive(x=lambda g, x: g * (2.0 * x))
def square(x: Array) -> Array:
    """x²."""
    return np.square(x)


@primitive(x=lambda g, x: g * cos(x))
def sin(x: Array) -> Array:
    """sin x, x in radians."""
    return np.sin(x)


@primitive(x=lambda g, x: -g * sin(x))
def cos(x: Array) -> Array:
    """cos x, x in radians."""
    return np.cos(x)


@primitive(x=lambda g, out: g * (1.0 - out) * (1.0 + out))
def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return np.tanh(x)


@primitive(x=lambda g, x: g * (2.0 / math.sqrt(math.pi)) * exp(-x * x))
def erf(x: Array) -> Array:
    """Error function, 2/√π ∫₀ˣ exp(-t²) dt."""
    return special.erf(x)


@primitive(x=lambda g, x: g * (-2.0 / math.sqrt(math.pi)) * exp(-x * x))
def erfc(x: Array) -> Array:
    """1 - erf(x), exact where erf is near 1."""
    return special.erfc(x)


@primitive(
    x=lambda g, x, y: where(x > y, g, where(x == y, 0.5 * g, 0.0)),
    y=lambda g, x, y: where(y > x, g, where(x == y, 0.5 * g, 0.0)),
)
def maximum(x: Array, y: Array) -> Array:
    """The larger of two, element by element; NaN wins, a tie shares the gradient."""
    return np.maximum(x, y)


@primitive(
    x=lambda g, x, y: where(x < y, g, where(x == y, 0.5 * g, 0.0)),
    y=lambda g, x, y: where(y < x, g, where(x == y, 0.5 * g, 0.0)),
)
def minimum(x: Array, y: Array) -> Array:
    """The smaller of two, element by element; NaN wins, a tie shares the gradient."""
    return np.minimum(x, y)


@primitive(
    x=lambda g, condition: where(condition, g, 0.0), y=lambda g, condition: where(condition, 0.0, g)
)
def where(condition: Array, x: Array, y: Array) -> Array:
    """x where the condition holds, else y; no gradient flows to the condition."""
    return np.where(condition, x, y)


def clip(
    a: Array, a_min: Array = None, a_max: Array = None, *, min: Array = None, max: Array = None
) -> Array:
    """a limited to [a_min, a_max], or [min, max]; the gradient passes at the bounds, None leaves a
    side open.

    >>> import tinygrad_rnn as tg
    >>> tg.clip(tg.Tensor([-2.0, 0.5, 9.0]), 0, 1)
    Tensor([0. , 0.5, 1. ], dtype=float32)
    """
    low, high = (min if a_min is None else a_min), (max if a_max is None else a_max)
    if low is not None:
        a = where(greater_equal(a, low), a, maximum(a, low))
    return a if high is None else where(less_equal(a, high), a, minimum(a, high))


@primitive(a=lambda g: g)
def astype_(a: Array, dtype: Any) -> Array:
    """a in another floating-point dtype; the gradient comes back in a's own."""
    return a.astype(dtype)


@primitive()
def astype__(a: Array, dtype: Any) -> Array:
    """a in an integer type or bool; no gradient."""
    return a.astype(dtype)


def astype(a: Array, dtype: Any) -> Array:
    """a converted to another dtype; integers and bool have no gradient.

    >>> import tinygrad_rnn as tg
    >>> tg.astype(tg.Tensor([1.5, 2.5]), "float64")
    Tensor([1.5, 2.5])
    """
    target = dtype_of(dtype, "astype")
    return (astype_ if target.kind == "f" else astype__)(a, target)


def _comparison(ufunc: np.ufunc, text: str) -> Any:
    def compare(x: Array, y: Array) -> Array:
        return ufunc(x, y)

    compare.__name__ = compare.__qualname__ = ufunc.__name__
    compare.__doc__ = f"{text}, a bool for each element; no gradient."
    return primitive()(compare)


equal = _comparison(np.equal, "x == y")
not_equal = _comparison(np.not_equal, "x != y")
less = _comparison(np.less, "x < y")
less_equal = _comparison(np.less_equal, "x <= y")
greater = _comparison(np.greater, "x > y")
greater_equal = _comparison(np.greater_equal, "x >= y")
