"""How inputs are drawn: shapes and arguments for each row, arrays by the public strategies."""

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.testing import strategies as ts

SIDE = 4  # the longest axis
BOOLS = st.booleans()
SEEDS = st.integers(0, 2**32 - 1)


# Domains: functions (shape, number of the input, whether whole numbers) -> strategy of arrays


def domain(real, whole):
    """A domain from its reals and its small whole numbers; each takes a shape and a number."""
    return functools.cache(lambda shape, k, exact: (whole if exact else real)(shape, k))


def _small(low=-4, high=4):
    return lambda shape, k: ts.small_integers(shape, low, high)


def nonzero(scales=(1.0, 1e-3, 1e3)):
    return domain(
        lambda shape, k: ts.away_from(0, shape, margin=0.5, scales=scales),
        lambda shape, k: ts.away_from(0, shape, margin=1, integers=True),
    )


def _spaced(gap):
    """No ties in an input or between two, and no zeros."""
    return lambda shape, k: ts.distinct(shape, gap=gap, offset=gap * (1 + 2 * k) / 8)


REALS = domain(lambda shape, k: ts.reals(shape), _small())
MODERATE = domain(lambda shape, k: ts.reals(shape, scales=(1.0, 0.01)), _small())
NONZERO = nonzero()
POSITIVE = domain(lambda shape, k: ts.positive(shape), _small(1))
ABOVE_MINUS_ONE = domain(lambda shape, k: ts.arrays(shape, -0.8, 3), _small(0))
SPACED = domain(_spaced(8.3), _spaced(8))
SPREAD = domain(  # what is left of an input when its mean is taken off is no rounding error
    lambda shape, k: _spaced(8.3)(shape, k) | ts.small_integers(shape), _small()
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
        return np.random.default_rng(self.seed)


@st.composite
def cases(draw, row, lattice=False, shapes=None):
    """Cases of a row, at reals or at small integers, maybe at shapes from a strategy."""
    wanted, meta = row.draw(draw)
    shapes = wanted if shapes is None else draw(shapes)
    domains = row.domain if isinstance(row.domain, tuple) else (row.domain,) * len(shapes)
    pairs = zip(domains, shapes, strict=True)
    arrays = [np.asarray(draw(of(shape, k, lattice))) for k, (of, shape) in enumerate(pairs)]
    return Case(row, arrays, meta, draw(SEEDS))


# Shapes and arguments: functions draw -> ([shape of each input], arguments)

_shapes = functools.cache(ts.shapes)
_together = functools.cache(ts.broadcastable_shapes)
_integers = functools.cache(st.integers)
_indices = functools.cache(functools.partial(ts.small_integers, dtype=np.intp))
_flags = functools.cache(functools.partial(ts.small_integers, low=0, high=1, dtype=bool))


def shape(draw, least=0, most=3, min_side=0):
    return draw(_shapes(least, most, min_side, SIDE))


def integer(draw, least, most):
    return draw(_integers(least, most))


def one_of(draw, *values):
    return values[integer(draw, 0, len(values) - 1)]


def ids(draw, shape, size):
    """Numbers of an axis of `size` elements, from either end, repeats likely."""
    return draw(_indices(shape, -size, size - 1))


def flags(draw, shape):
    return draw(_flags(shape))


def alone(draw):
    return [shape(draw)], {}


def broadcast(count, most=3):
    """Shapes that broadcast."""
    shapes = _together(count, max_dims=most, max_side=SIDE)
    return lambda draw: (list(draw(shapes)), {})


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
