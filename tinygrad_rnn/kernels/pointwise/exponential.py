"""Exponentials and logarithms of lanes, and the activations made of them.

Each function is right to a few units in the last place wherever its result is a normal number,
subnormal results are kept, and NaN, ±0 and ±inf give what NumPy's give. Tables have an entry for
each size of a number, 4 and 8 bytes.
"""

from __future__ import annotations

import math

from tinygrad_rnn.kernels.pointwise.lanes import Lane

LOG2E = math.log2(math.e)
LN2 = {4: (0.6931471824645996, -1.904654290582768e-09), 8: (math.log(2), 2.3190468138462996e-17)}
WHOLE = {4: 1.5 * 2**23, 8: 1.5 * 2**52}  # added to a number, its last bits are the whole part
FRACTION = {4: 23, 8: 52}
BIAS = {4: 127, 8: 1023}
LOW = {4: -120.0, 8: -800.0}  # their exponential is 0
HIGH = {4: 89.0, 8: 710.0}  # their exponential is inf
FLAT = {4: -20.0, 8: -40.0}  # adding 1 to their exponential gives 1

# (eʳ - 1 - r) / r² for |r| <= ½ ln 2; eʳ - 1 is off by 2⁻²⁶ and 2⁻⁵⁶ of itself
EXP = {
    4: (0.49999997, 0.16666543, 0.041667204, 0.008366548, 0.0013882373),
    8: (
        0.5000000000000006, 0.16666666666666588, 0.041666666666576466, 0.008333333333389736,
        0.0013888888931667736, 0.00019841269718696555, 2.480150514183012e-05,
        2.755740770214256e-06, 2.7626093187877297e-07, 2.5053770248535292e-08,
    ),
}  # fmt: skip

# (log((1 + s) / (1 - s)) - 2s) / s³ by powers of s², |s| <= 3 - 2√2; errors 2⁻³⁷ and 2⁻⁵⁹ of log
LOG = {
    4: (0.6666666269302368, 0.4000033736228943, 0.28537240624427795, 0.2358357459306717),
    8: (
        0.6666666666666735, 0.39999999999412095, 0.2857142874304275, 0.22222198497258605,
        0.18183568723062632, 0.15313926834281993, 0.1479729549817882,
    ),
}  # fmt: skip


def halvings(x: Lane) -> tuple[Lane, Lane]:
    """A whole n and r = x - n ln 2, |r| <= ½ ln 2."""
    whole, (high, low) = x.pick(WHOLE), x.pick(LN2)
    n = x.fma(LOG2E, whole) - whole
    return n, n.fma(-low, n.fma(-high, x))


def exp_near(r: Lane) -> Lane:
    """eʳ for |r| <= ½ ln 2."""
    return r.polynomial(1.0, 1.0, *r.pick(EXP))


def exp(x: Lane) -> Lane:
    """eˣ."""
    n, r = halvings(x.at_least(x.pick(LOW)).at_most(x.pick(HIGH)))
    return exp_near(r).scaled(n)


def _decay(x: Lane) -> Lane:
    """e^-|x|."""
    n, r = halvings((-x.abs()).at_least(x.pick(LOW)))
    return exp_near(r).scaled(n)


def _expm1(x: Lane, factor: int, parts: int, power: int) -> Lane:
    """2ᵖᵒʷᵉʳ (eᶠˣ - 1) for a factor f, ±1 or ±2; ln 2 in one or two parts."""
    whole = x.pick(WHOLE) + x.pick(BIAS) + power  # the last bits are the exponent of 2ᵖᵒʷᵉʳ ⁺ ⁿ
    moved = x.fma(factor * LOG2E, whole)
    n, r, scale = moved - whole, x, (moved.bits() << x.pick(FRACTION)).number()
    for part in x.pick(LN2)[:parts]:
        r = n.fma(-part / factor, r)
    series = r.polynomial(factor, *(c * factor**k for k, c in enumerate(x.pick(EXP), 2)))
    return (r * scale).fma(series, scale - 2.0**power)


def expm1(x: Lane) -> Lane:
    """eˣ - 1."""
    half = _expm1(x.at_least(x.pick(FLAT)).at_most(x.pick(HIGH)), 1, 2, -1)
    tiny = x.abs() < x.pick({4: 2.0**-24, 8: 2.0**-53})
    return tiny.select(x, half + half)


def tanh(x: Lane) -> Lane:
    """(1 - e^-2|x|) / (1 + e^-2|x|) with the sign of x."""
    e = _expm1(x.abs().at_most(-0.5 * x.pick(FLAT)), -2, 1, 0)
    return (e / (e + 2.0)).with_sign(x)


def sigmoid(x: Lane) -> Lane:
    """1 / (1 + e⁻ˣ); below 0 it is eˣ / (1 + eˣ), which keeps the tail."""
    e = _decay(x)
    return (x >= 0.0).select(1.0, e) / (e + 1.0)


def silu(x: Lane) -> Lane:
    """x σ(x); the tail is scaled last, so that it keeps its digits."""
    low = x.pick(LOW)
    n, r = halvings((-x.abs()).at_least(low))
    e, positive = exp_near(r), x >= 0.0
    numerator = positive.select(x, x.at_least(low) * e)
    return (numerator / (e.scaled(n) + 1.0)).scaled(positive.select(0.0, n))


def _split(x: Lane) -> tuple[Lane, Lane]:
    """k and m with x = 2ᵏ m and m in [√½, √2), of a positive normal x."""
    fraction, root = x.pick(FRACTION), x.constant(math.sqrt(0.5)).bits()
    moved = x.bits() + (x.constant(1.0).bits() - root)
    k = ((moved >> fraction) | x.constant(2.0**fraction).bits()).number()
    m = (moved & (2**fraction - 1)) + root
    return k - (2.0**fraction + x.pick(BIAS)), m.number()


def _log_near(f: Lane, k: Lane, rest: Lane) -> Lane:
    """log(1 + f) + k ln 2 + rest, 1 + f in [√½, √2)."""
    high, low = f.pick(LN2)
    s, square = f / (f + 2.0), f * f * 0.5
    z = s * s
    inner = s.fma(z.fma(z.polynomial(*z.pick(LOG)), square), k.fma(low, rest))
    return k.fma(high, f - (square - inner))


def _limits(result: Lane, x: Lane, pole: float) -> Lane:
    """The result with a logarithm's limits at inf, at its pole, and below the pole."""
    outside = (x == pole).select(-math.inf, x.constant(math.nan))
    return (x <= pole).select(outside, (x < math.inf).select(result, x))


def log(x: Lane) -> Lane:
    """Natural logarithm."""
    subnormal, places = x < x.pick({4: 2.0**-126, 8: 2.0**-1022}), x.pick(FRACTION) + 1.0
    k, m = _split(subnormal.select(x * 2.0**places, x))
    k = subnormal.select(k - places, k)
    return _limits(_log_near(m - 1.0, k, x.constant(0.0)), x, 0.0)


def log1p(x: Lane) -> Lane:
    """log(1 + x); what rounding 1 + x left out is added."""
    u = x + 1.0
    k, m = _split(u)
    lost = (x >= 1.0).select(1.0 - (u - x), x - (u - 1.0)) / u
    near = k == 0.0
    result = _log_near(near.select(x, m - 1.0), k, near.select(0.0, lost))
    return _limits(result.with_sign(x), x, -1.0)


def _log1p_decay(x: Lane) -> Lane:
    """log(1 + e^-|x|); the sum, in [1, 2], is halved where it is over √2."""
    e = _decay(x)
    near, zero = e < math.sqrt(2.0) - 1.0, x.constant(0.0)
    return _log_near(near.select(e, (e - 1.0) * 0.5), near.select(zero, 1.0), zero)


def softplus(x: Lane) -> Lane:
    """log(1 + eˣ)."""
    return (x > 0.0).select(x, 0.0) + _log1p_decay(x)


def log_sigmoid(x: Lane) -> Lane:
    """log σ(x)."""
    return (x < 0.0).select(x, 0.0) - _log1p_decay(x)
