"""Sine and cosine of lanes; see `exponential` for the promises."""

from __future__ import annotations

import math
from typing import Any

from tinygrad_rnn.kernels.pointwise.exponential import WHOLE
from tinygrad_rnn.kernels.pointwise.lanes import Lane

LIMIT = 1e5  # beyond it, ½π in three parts is not enough: the C library is called

# ½π: each part is what the ones before it left out
HALF_PI = {
    4: (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    8: (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}

# (sin x - x) / x³ and (cos x - 1 + ½ x²) / x⁴ by powers of x², |x| <= ¼π; errors 2⁻²⁸ and 2⁻⁵⁸
SIN = {
    4: (-0.16666655242443085, 0.008332176133990288, -0.00019516974862199277),
    8: (
        -0.16666666666666632, 0.008333333333322382, -0.00019841269829779437,
        2.7557313681026375e-06, -2.505075626085241e-08, 1.5896680401056094e-10,
    ),
}  # fmt: skip
COS = {
    4: (0.04166664555668831, -0.0013887364184483886, 2.4438097170786932e-05),
    8: (
        0.0416666666666666, -0.0013888888888874068, 2.480158728944522e-05,
        -2.7557314341000523e-07, 2.087572165330878e-09, -1.135956019558233e-11,
    ),
}  # fmt: skip


def _quarter_turns(x: Lane, name: str, ahead: int) -> Lane:
    """sin(x + ahead · ½π)."""
    whole, r = x.pick(WHOLE), x
    moved = x.fma(2.0 / math.pi, whole)
    for part in x.pick(HALF_PI):
        r = (moved - whole).fma(-part, r)
    z, quarters = r * r, moved.bits() + ahead
    sin = (z * r).fma(z.polynomial(*z.pick(SIN)), r)
    cos = (z * z).fma(z.polynomial(*z.pick(COS)), z.fma(-0.5, 1.0))
    found = ((quarters & 1) == 0).select(sin, cos)
    return _or_library(x, ((quarters & 2) == 0).select(found, -found), name)


def _or_library(x: Lane, near: Lane, name: str) -> Lane:
    """The C library's function beyond LIMIT, one element at a time; else `near`."""
    b, far = x.emitter.builder, x.abs() > LIMIT
    kind: Any = type(x.emitter.module.bits)(x.emitter.lanes)  # a bit for each lane
    before, some = b.block, b.icmp_signed("!=", b.bitcast(far.value, kind), kind(0))
    with b.if_then(some, likely=False):
        exact, after = far.select(x.intrinsic(name), near), b.block
    result = b.phi(near.value.type)
    result.add_incoming(near.value, before)
    result.add_incoming(exact.value, after)
    return Lane(x.emitter, result)


def sin(x: Lane) -> Lane:
    """sin x."""
    return (x == 0.0).select(x, _quarter_turns(x, "sin", 0))  # also of -0


def cos(x: Lane) -> Lane:
    """cos x."""
    return _quarter_turns(x, "cos", 1)
