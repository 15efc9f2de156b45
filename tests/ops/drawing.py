"""How inputs are drawn.

Hypothesis draws shapes, arguments, scale, seed and a few special elements; NumPy fills the bulk
from the seed. Seed 0 is a plain array, so that failures shrink to simple ones.
"""

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

SIZES = st.sampled_from((1, 2, 3, 4, 2, 3, 2, 3, 1, 2, 3, 0))
POSITIVE_SIZES = st.integers(1, 3)
BOOLS = st.booleans()
SEEDS = st.integers(0, 2**32 - 1)


# Domains: what the elements of an input may be


class Domain(NamedTuple):
    """`fill(rng, shape, k)` gives reals for input k, `lattice` small integers."""

    fill: Any
    lattice: Any
    special: tuple[float, ...] = ()
    scales: tuple[float, ...] = (1.0,)
    plain: Any = None  # the array of seed 0


def _signs(rng, shape):
    return rng.choice([-1.0, 1.0], shape)


def _integers(rng, shape, k):
    return rng.integers(-4, 5, shape).astype(float)


def _spaced(rng, shape, k):
    """Integers 8m + 1 (8m + 3 in the next input): all distinct, none zero, ties two steps away."""
    size = int(np.prod(shape))
    return (8.0 * (rng.permutation(size) - size // 2) + 1 + 2 * k).reshape(shape)


def _one(shape, k):
    return np.ones(shape)


ANY_SCALE = (1.0, 1e-3, 1e3)
REALS = Domain(
    lambda rng, shape, k: rng.standard_normal(shape),
    _integers,
    (0.0, 1.0, -1.0, -2.0, 0.5),
    ANY_SCALE,
    _one,
)
MODERATE = REALS._replace(scales=(1.5, 0.01))
NONZERO = Domain(
    lambda rng, shape, k: _signs(rng, shape) * rng.uniform(0.5, 2.0, shape),
    lambda rng, shape, k: _signs(rng, shape) * rng.integers(1, 5, shape),
    (1.0, -1.0, 2.0, 0.5),
    ANY_SCALE,
    _one,
)
POSITIVE = Domain(
    lambda rng, shape, k: rng.uniform(0.2, 3.0, shape),
    lambda rng, shape, k: rng.integers(1, 5, shape).astype(float),
    (1.0, 2.0, 0.5),
    (1.0, 0.1, 10.0),
    _one,
)
ABOVE_MINUS_ONE = Domain(
    lambda rng, shape, k: rng.uniform(-0.8, 3.0, shape),
    lambda rng, shape, k: rng.integers(0, 5, shape).astype(float),
    (0.0, 1.0, -0.5),
    plain=_one,
)
SPACED = Domain(
    lambda rng, shape, k: _spaced(rng, shape, k) + rng.uniform(-0.3, 0.3, shape),
    _spaced,
    plain=lambda shape, k: (8.0 * np.arange(np.prod(shape, dtype=int)) + 1 + 2 * k).reshape(shape),
)


class Case(NamedTuple):
    """A row of the table at drawn inputs: float64 arrays and arguments."""

    row: Any
    arrays: list[np.ndarray]
    meta: dict[str, Any]
    seed: int

    def __call__(self, *inputs):
        result = self.row.fn(*inputs, **self.meta)
        return result if isinstance(result, tuple) else (result,)

    def reference(self, *arrays):
        result = self.row.reference(*arrays, **self.meta)
        return tuple(result) if isinstance(result, (tuple, list)) else (result,)

    def rng(self):
        return np.random.default_rng(self.seed + 1)


@functools.cache
def _special(domain):
    return st.lists(st.sampled_from(domain.special), max_size=3)


@st.composite
def cases(draw, row, lattice=False, shapes=None):
    """Cases of a row, at reals or at small integers, maybe at shapes from a strategy."""
    wanted, meta = row.draw(draw)
    shapes = wanted if shapes is None else draw(shapes)
    domains = row.domain if isinstance(row.domain[0], Domain) else (row.domain,) * len(shapes)
    seed = draw(SEEDS)
    rng = np.random.default_rng(seed)
    arrays = []
    for k, (domain, shape) in enumerate(zip(domains, shapes, strict=True)):
        if seed == 0:
            arrays.append(domain.plain(shape, k))
        elif lattice:
            arrays.append(np.asarray(domain.lattice(rng, shape, k)))
        else:
            a = np.asarray(domain.fill(rng, shape, k) * draw(_scale(domain)))
            if domain.special and a.size:
                for value in draw(_special(domain)):
                    a.flat[rng.integers(a.size)] = value
            arrays.append(a)
    return Case(row, arrays, meta, seed)


@functools.cache
def _scale(domain):
    return st.sampled_from(domain.scales)


# Shapes and arguments: functions draw -> ([shape of each input], arguments)


def shape(draw, least=0, most=3, sizes=SIZES):
    return tuple(draw(sizes) for _ in range(draw(_counts(least, most))))


@functools.cache
def _counts(least, most):
    return st.integers(least, most)


def integer(draw, least, most):
    return draw(_counts(least, most))


def one_of(draw, *values):
    return values[draw(_counts(0, len(values) - 1))]


def alone(draw):
    return [shape(draw)], {}


def broadcast(count):
    """Shapes that broadcast: axes of one full shape become 1, or leading ones are left out."""

    def drawn(draw):
        full = shape(draw)
        shapes = []
        for _ in range(count):
            mask = draw(MASKS)
            kept = tuple(1 if mask >> k & 1 else n for k, n in enumerate(full))
            shapes.append(kept[mask >> 3 :])
        return shapes, {}

    return drawn


MASKS = st.sampled_from((0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 16, 20, 24))


@functools.cache
def _axes(ndim):
    """Every form of an axis argument: None, numbers from either end, tuples in any order."""
    numbers = list(range(-ndim, ndim))
    pairs = [p for p in itertools.permutations(numbers, 2) if (p[0] - p[1]) % ndim]
    return st.sampled_from([None, *numbers, *pairs, *([(), tuple(range(ndim))] if ndim else [])])


def reduction(empty=False, least=1, most=3, **choices):
    """A shape, an axis argument and keepdims; at least `least` elements along it."""

    def drawn(draw):
        sizes = list(shape(draw, most=most))
        axis = draw(_axes(len(sizes)))
        along = range(len(sizes)) if axis is None else np.atleast_1d(np.array(axis, int))
        if not empty:
            for k in along:
                sizes[k] = max(sizes[k], 1)
        if least > 1 and np.prod([sizes[k] for k in along]) < least:
            sizes, axis = [least, *sizes[:2]], 0
        meta = {name: draw(choice) for name, choice in choices.items()}
        return [tuple(sizes)], {"axis": axis, "keepdims": draw(BOOLS), **meta}

    return drawn


def along(empty=True, **choices):
    """A shape with at least one axis, and the number of one."""

    def drawn(draw):
        sizes = list(shape(draw, least=1))
        axis = integer(draw, -len(sizes), len(sizes) - 1)
        if not empty:
            sizes[axis] = max(1, sizes[axis])
        meta = {name: draw(choice) for name, choice in choices.items()}
        return [tuple(sizes)], {"axis": axis, **meta}

    return drawn


def ids(draw, count, size):
    """`count` numbers of an axis of `size` elements, from either end, repeats likely."""
    return np.array([integer(draw, -size, size - 1) for _ in range(count)], np.intp)
