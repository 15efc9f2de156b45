"""What a primitive's name means for lanes: the forward of the vector code.

`POINTWISE[name](*lanes)` writes the primitive of that name, for the dtype and the width of the
lanes' module. Comparisons give boolean lanes. A name that is missing has no vector code.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from tinygrad_rnn.kernels.pointwise import error_function, exponential, trigonometric
from tinygrad_rnn.kernels.pointwise.lanes import Lane, Number


def maximum(x: Lane, y: Number) -> Lane:
    """The larger of two; NaN wins."""
    return (x != x).select(x, (x > y).select(x, y))


def minimum(x: Lane, y: Number) -> Lane:
    """The smaller of two; NaN wins."""
    return (x != x).select(x, (x < y).select(x, y))


def relu(x: Lane) -> Lane:
    """max(x, 0); NaN stays."""
    return (x <= 0.0).select(0.0, x)


def where(condition: Lane, x: Number, y: Number) -> Lane:
    """x where the condition holds (of numbers: is not 0), else y."""
    return ((condition != 0.0) if condition.floating else condition).select(x, y)


def sign(x: Lane) -> Lane:
    """-1, 0, 1 or NaN."""
    return (x > 0.0).select(1.0, (x < 0.0).select(-1.0, x + 0.0))


def sqrt(x: Lane) -> Lane:
    """√x."""
    return x.intrinsic("sqrt")


def takes_power(exponent: float) -> bool:
    """Whether `power` can write x to this exponent."""
    return -3 <= exponent <= 5 and float(2 * exponent).is_integer()


def power(x: Lane, exponent: float) -> Lane:
    """x to a number, one of -3, -2½ ... 5; another exponent raises NotImplementedError."""
    if not isinstance(exponent, (int, float)) or not takes_power(exponent):
        raise NotImplementedError(
            f"power: expected a half or whole number in [-3, 5], got {exponent}"
        )
    if exponent == 0.5:
        return sqrt(x)
    whole, half = divmod(abs(exponent), 1)
    if half:
        x = (x == -math.inf).select(math.inf, x + 0.0)  # as C's pow has it; -0 has the root 0
    total = _times(1.0 / x if exponent < 0 else x, int(whole))
    root = (1.0 / sqrt(x) if exponent < 0 else sqrt(x)) if half else total
    return total * root if half and whole else root


def _times(x: Lane, n: int) -> Lane:
    if n < 2:
        return x if n else x.constant(1.0)
    half = _times(x, n // 2)
    return half * half * x if n % 2 else half * half


POINTWISE: dict[str, Callable[..., Lane]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "negative": operator.neg,
    "abs": Lane.abs,
    "sign": sign,
    "square": lambda x: x * x,
    "sqrt": sqrt,
    "rsqrt": lambda x: 1.0 / sqrt(x),
    "power": power,
    "maximum": maximum,
    "minimum": minimum,
    "relu": relu,
    "where": where,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "exp": exponential.exp,
    "expm1": exponential.expm1,
    "log": exponential.log,
    "log1p": exponential.log1p,
    "sin": trigonometric.sin,
    "cos": trigonometric.cos,
    "tanh": exponential.tanh,
    "sigmoid": exponential.sigmoid,
    "silu": exponential.silu,
    "softplus": exponential.softplus,
    "log_sigmoid": exponential.log_sigmoid,
    "erf": error_function.erf,
    "erfc": error_function.erfc,
    "normal_cdf": error_function.normal_cdf,
}
