"""A gradient check whose tolerance is the error that its own numerical derivative estimates.

One direction through all inputs, one cotangent over all outputs, random signs, each entry at its
own scale. Ridders' table of central differences gives the derivative and its error; a difference
table a few ulps wide gives the noise of the function (Moré & Wild 2011, Estimating Computational
Noise). A derivative further off than 12 such errors, along two directions, is wrong. If the
estimate cannot see 1e-4 of the derivative, or a kink is near, the verdict is 'unsure'.
"""

from typing import NamedTuple

import numpy as np

import tinygrad_rnn as tg

STEPS = 0.1 * 4.0 ** -np.arange(8)
ERRORS = 12  # estimated errors that a right derivative may be off
RESOLUTION = 1e-4  # a check that sees less proves nothing
EPS = np.finfo(np.float64).eps
GAMMA = {3: 36 / 720, 4: 576 / 40320, 5: 14400 / 3628800}  # (k!)² / (2k)!, from noise to level k


class Report(NamedTuple):
    verdict: str  # 'pass', 'fail' or 'unsure'
    zero: bool = False  # whether the derivative is zero
    why: str = ""


def check(fn, arrays, rng, order=1):
    """Check the derivatives of `fn` (Tensors -> Tensor or several) at arrays, up to `order`.

    Order 2 checks the function (inputs, cotangents) -> gradients in the same way.
    """
    arrays = [np.asarray(a, np.float64) for a in arrays]
    report = _first_order(fn, arrays, rng)
    if order == 1 or report.verdict != "pass":
        return report
    count = len(arrays)
    cotangents = [_signed(rng, v.shape) for v in _values(fn, arrays)]
    second = check(_pullback(fn, count), [*arrays, *cotangents], rng, order - 1)
    return report if second.verdict == "pass" else second._replace(why=f"order 2: {second.why}")


def _several(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _values(fn, arrays):
    return [v.numpy() for v in _several(fn(*map(tg.from_numpy, arrays)))]


def _pullback(fn, count):
    def pulled(*args):
        graph = any(v.requires_grad for v in args)
        xs = [v if v.requires_grad else tg.Tensor(v, requires_grad=True) for v in args[:count]]
        outputs = _several(fn(*xs))
        found = tg.grad(outputs, xs, args[count:], create_graph=graph, allow_unused=True)
        return [tg.zeros_like(x) if d is None else d for x, d in zip(xs, found, strict=True)]

    return pulled


def _signed(rng, shape):
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.0, shape)


def _own_scale(a):
    """|a|, and its mean where an entry is zero."""
    size = np.abs(a)
    return np.where(size > 0, size, (size.mean() if size.any() else 1.0))


def _first_order(fn, arrays, rng):
    first = _along(fn, arrays, rng)
    if first.verdict != "fail":
        return first
    second = _along(fn, arrays, rng)
    return first if second.verdict == "fail" else Report("unsure", why="one direction of two")


def _along(fn, arrays, rng):
    """One direction, one cotangent."""
    direction = [_signed(rng, a.shape) * _own_scale(a) for a in arrays]
    base = _values(fn, arrays)
    shapes = [v.shape for v in base]
    flat = np.concatenate([v.ravel() for v in base])

    def change(t):
        moved = [np.asarray(a + t * u) for a, u in zip(arrays, direction, strict=True)]
        return np.concatenate([v.ravel() for v in _values(fn, moved)]) - flat

    response = np.abs(change(0.01))
    if not np.isfinite(response).all():
        return Report("unsure", why="not finite nearby")
    largest = response.max(initial=0.0)
    weight = largest / np.maximum(response, 1e-3 * largest) if largest else np.ones_like(response)
    weight *= _signed(rng, weight.shape)
    analytic, scale, why = _analytic(fn, arrays, direction, weight, shapes, flat)
    if why:
        return Report("fail", why=why)
    forward, back = (np.array([weight @ change(s * h) for h in STEPS]) for s in (1, -1))
    near = [weight @ change(k * 16 * EPS) for k in range(7)]
    noise = max(_noise(near), EPS * np.linalg.norm(weight * flat))
    numeric, error = _ridders((forward - back) / (2 * STEPS), noise)
    if not np.isfinite(numeric):
        return Report("unsure", why="not finite nearby")
    off, zero, scale = abs(analytic - numeric), scale == 0, max(scale, abs(numeric))
    # The backward pass and the differences round too, and two neighbours in the table may agree by
    # chance; with one element the second direction is no independent witness against that.
    error += 1e-12 * scale
    why = f"derivative {analytic:.17g}, expected {numeric:.17g} ± {error:.1g}"
    if not off <= ERRORS * error:
        kinked = _kinked(forward, back, noise, scale)
        return Report("unsure" if kinked else "fail", why=why)
    seen = zero or ERRORS * error <= RESOLUTION * scale
    return Report("pass" if seen else "unsure", zero, why)


def _analytic(fn, arrays, direction, weight, shapes, flat):
    """The derivative by the backward pass, the sum of its terms' sizes, and what else is wrong."""
    xs = [tg.Tensor(a, requires_grad=True) for a in arrays]
    outputs = _several(fn(*xs))
    cuts = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]
    parts = np.split(weight, cuts)
    pairs = [
        (v, w.reshape(s)) for v, w, s in zip(outputs, parts, shapes, strict=True) if v.requires_grad
    ]
    if not pairs:
        return 0.0, 0.0, ""
    vs, ws = zip(*pairs, strict=True)
    found = tg.grad(vs, xs, ws, allow_unused=True)
    values = np.concatenate([v.numpy().ravel() for v in outputs])
    if not np.array_equal(values, flat, equal_nan=True):
        return 0.0, 0.0, "recorded values differ from plain ones"
    if any(not np.array_equal(x.numpy(), a) for x, a in zip(xs, arrays, strict=True)):
        return 0.0, 0.0, "an input was changed"
    terms = [d.numpy() * u for d, u in zip(found, direction, strict=True) if d is not None]
    return sum(t.sum() for t in terms), sum(np.abs(t).sum() for t in terms), ""


def _noise(values):
    """The noise of a function from its values at equally near points."""
    table, found = np.asarray(values), 0.0
    for level in range(1, 6):
        table = np.diff(table)
        if level in GAMMA:
            found = max(found, float(np.sqrt(GAMMA[level] * np.mean(table**2))))
    return found


def _ridders(slopes, noise):
    """The best entry of the extrapolation table of central differences, and its error."""
    best, error, previous = np.nan, np.inf, []
    for h, slope in zip(STEPS, slopes, strict=True):
        row = [slope]
        for j, older in enumerate(previous, 1):
            row.append(row[-1] + (row[-1] - older) / (16**j - 1))
            beside = max(abs(row[-1] - row[-2]), abs(row[-1] - older)) + noise / h
            if beside < error:
                best, error = row[-1], beside
        previous = row
    return best, error


def _kinked(forward, back, noise, scale):
    """Whether one-sided slopes, or slopes at smaller and smaller steps, do not come together."""
    floor = 100 * noise / STEPS + 1e-9 * scale
    gaps = np.abs(forward + back) / STEPS
    moves = np.abs(np.diff((forward - back) / (2 * STEPS), prepend=np.nan))
    return any(
        np.any((sizes[1:] > 0.6 * sizes[:-1]) & (sizes[1:] > floor[1:])) for sizes in (gaps, moves)
    )
