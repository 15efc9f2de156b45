"""The error function of lanes and the normal distribution's; see `exponential` for the promises."""

from __future__ import annotations

import math

from tinygrad_rnn.kernels.pointwise.exponential import exp_near, halvings
from tinygrad_rnn.kernels.pointwise.lanes import Lane, Number

# erf(z) / z by powers of z², z <= ½; errors 2⁻²⁹ and 2⁻⁵⁷ of itself
NEAR = {
    4: (
        1.1283791065216064, -0.37612608075141907, 0.1128283217549324, -0.02675773948431015,
        0.004718977492302656,
    ),
    8: (
        1.1283791670955126, -0.3761263890318347, 0.1128379167092515, -0.026866170632809883,
        0.0052239773715889, -0.0008548297613885803, 0.00012053327688826003,
        -1.4845645914105407e-05, 1.4723629312143506e-06,
    ),
}  # fmt: skip

# (z + k) exp(z²) erfc(z) by powers of t = (z - k) / (z + k), z in [½, 11] or [½, 28]; errors 2⁻²⁶
# and 2⁻⁵⁸ of itself. The form is that of Shepherd & Laframboise (1981), Math. Computation 36.
CENTRE = {4: 2.0, 8: 4.0}
FAR = {
    4: (
        1.0215827226638794, -0.6871606707572937, 0.2794709801673889, -0.03644183278083801,
        -0.02149299345910549, 0.006472274195402861, 0.002995528979226947,
        -0.0008054515928961337, -0.0004624061402864754,
    ),
    8: (
        1.095995661000491, -0.976548729080882, 0.773208702265236, -0.5408538313132352,
        0.3308515878780833, -0.17401093723994224, 0.07638151490751281, -0.026370053339980895,
        0.006112055678965743, -0.0002809588706575984, -0.00045505286044178586,
        0.00017681285791450033, -3.634336439348439e-06, -1.8861058297566062e-05,
        4.691888517670256e-06, 1.4246313025862067e-06, -8.413439441228141e-07,
        -7.616528652914102e-08, 1.1845921578893027e-07, 1.342775073989331e-09,
        -1.1783694507713765e-08,
    ),
}  # fmt: skip

SLOPE = {4: (1.67, -0.726), 8: (1.89, -1.63, 0.918)}  # d log(exp(z²) erfc(z)) / d log(1 / (z + k))
ROOT = {4: (0.7071067690849304, 1.210161710447897e-08), 8: (math.sqrt(0.5), -4.833646656726457e-17)}


def _near(z: Lane, square: Lane) -> Lane:
    """erf(z) / z for z <= ½."""
    return square.polynomial(*z.pick(NEAR))


def _complement(z: Lane, lost: Number, square: Lane, rest: Lane, unit: float) -> Lane:
    """unit · erfc(z + lost) for z >= 0; its square in two parts, as exp would make errors grow."""
    centre = z.pick(CENTRE)
    below = z + centre
    w = 1.0 / below
    lost = (below - centre - z - lost).fma(w, (-w).fma(below, 1.0))  # w (1 + lost) is more exact
    t = w.fma(-2.0 * centre, 1.0)
    n, r = halvings(-square)
    tail = exp_near(lost.fma(t.polynomial(*z.pick(SLOPE)), r - rest))
    far = (t.polynomial(*z.pick(FAR)) * w * tail * unit).scaled(n)
    return (z < 0.5).select((z * -unit).fma(_near(z, square), unit), far)


def erfc(x: Lane) -> Lane:
    """1 - erf(x)."""
    z = x.abs().at_most(x.pick({4: 11.0, 8: 28.0}))
    square = z * z
    right = _complement(z, 0.0, square, z.fma(z, -square), 1.0)
    return (x < 0.0).select(2.0 - right, right)


def erf(x: Lane) -> Lane:
    """2/√π ∫₀ˣ exp(-t²) dt."""
    z = x.abs().at_most(6.0)
    square = z * z
    far = 1.0 - _complement(z, 0.0, square, z.fma(z, -square), 1.0)
    return (z < 0.5).select(_near(z, square) * z, far).with_sign(x)


def normal_cdf(x: Lane) -> Lane:
    """½ erfc(-x / √2); x² / 2 is known in two parts, so the tail keeps its digits."""
    a = x.abs().at_most(x.pick({4: 15.0, 8: 40.0}))
    square = a * a
    z, (root, tail) = a * math.sqrt(0.5), x.pick(ROOT)
    lost = a.fma(tail, a.fma(root, -z))
    left = _complement(z, lost, square * 0.5, a.fma(a, -square) * 0.5, 0.5)
    return (x > 0.0).select(1.0 - left, left)
