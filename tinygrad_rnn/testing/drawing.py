"""How hypothesis and NumPy share the drawing of an array.

Hypothesis draws the shape and twenty bytes: the style, and eight elements; what more there are
repeat these, or come from NumPy with the bytes as the seed. So a large array costs no more choices
than a small one. Nothing but the shape changes when an array becomes smaller, or else shrinking
would stop there: what made an example fail is still among the elements. All zeros is the simplest:
ones, one after another in memory. The first element is in the last bytes, as shrinking sorts them.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Arrays = SearchStrategy[Array]
Shape = tuple[int, ...]
Shapes = None | int | str | Sequence[int] | SearchStrategy[Shape]

DRAWN = 8  # elements that hypothesis draws itself
CONTENT = st.binary(min_size=4 + 2 * DRAWN, max_size=4 + 2 * DRAWN)
AXIS = re.compile(r"([^\W\d]\w*|\d+)(\??)")
LAYOUTS: tuple[Callable[[Array], Array], ...] = (
    *[lambda a: a] * 4,
    lambda a: a.copy("F"),
    lambda a: np.flip(np.flip(a).copy()),
    lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    lambda a: np.broadcast_to(a[:1], a.shape),
)


def _counts(least: int, most: int) -> SearchStrategy[int]:
    """How many axes, or how long one: few is simplest, 0 is last and rare."""
    sizes = [*range(max(1, least), most + 1)]
    return st.sampled_from(sizes * 2 + sizes[1:] + [0] * (least == 0))


def shapes(
    min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 5
) -> SearchStrategy[Shape]:
    """Shapes of arrays, as tuples; an axis of size 0 comes now and then.

    Args:
        min_dims, max_dims: how many axes, 0 to 3.
        min_side, max_side: how long an axis, 0 to 5.

    Raises:
        ValueError: if a least is greater than its most, or negative.

    >>> from hypothesis import find
    >>> find(shapes(), lambda shape: len(shape) == 2 and shape[0] > 1)
    (2, 1)
    """
    if not (0 <= min_dims <= max_dims and 0 <= min_side <= max_side):
        got = f"min_dims={min_dims}, max_dims={max_dims}, min_side={min_side}, max_side={max_side}"
        raise ValueError(f"shapes: expected 0 <= least <= most, got {got}")
    side = _counts(min_side, max_side)
    tuples = functools.cache(lambda n: st.tuples(*[side] * n))
    return _counts(min_dims, max_dims).flatmap(tuples)


def _axis(word: str) -> SearchStrategy[int]:
    match = AXIS.fullmatch(word)
    if match is None:
        raise ValueError(
            'shape: expected names or sizes with spaces between, each with a "?" if it may be 1, '
            f'such as "a b", "a 3" or "a? b", got {word!r}'
        )
    name, either = match.groups()
    named = st.shared(_counts(0, 5), key=f"tinygrad_rnn axis {name}")
    size = st.just(int(name)) if name.isdecimal() else named
    return st.tuples(size, st.booleans()).map(lambda d: 1 if d[1] else d[0]) if either else size


def _shapes(shape: Shapes) -> SearchStrategy[Shape]:
    """The strategy behind every form of a shape argument."""
    if shape is None:
        return shapes()
    if isinstance(shape, SearchStrategy):
        return shape
    if isinstance(shape, str):
        return st.tuples(*map(_axis, shape.split()))
    sizes = tuple(np.atleast_1d(shape).tolist())
    if not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise ValueError(f"shape: expected whole numbers of at least 0, got {shape!r}")
    return st.just(sizes)


def _factors(scales: float | Sequence[float], low: float, high: float) -> list[float]:
    """The scales; raise unless they and the bounds are fit to draw from."""
    factors: list[float] = np.atleast_1d(scales).tolist()
    if not (np.isfinite([low, high, *factors]).all() and min(factors, default=0.0) > 0):
        got = f"low={low}, high={high}, scales={scales}"
        raise ValueError(f"arrays: expected finite bounds and positive, finite scales, got {got}")
    return factors


def arrays(
    shape: Shapes = None,
    low: float = -4.0,
    high: float = 4.0,
    *,
    away: Sequence[float] = (),
    margin: float = 0.125,
    scales: float | Sequence[float] = (1.0,),
    integers: bool = False,
    dtype: DTypeLike = np.float64,
    layouts: bool = True,
) -> Arrays:
    """Arrays of numbers between two bounds: the general form of the strategies with a domain.

    A quarter of them hold whole numbers and halves only, so that zeros, ones and ties are common.

    Args:
        shape: None for any small shape; sizes; a strategy of shapes; or names of axes and sizes
            with spaces between, such as "a b" or "a 3". A name has the same size (0 to 5) wherever
            it stands in an example; "a?" is that size or 1; "" is a single number.
        low, high: the bounds, -4 to 4.
        away: points that no element is nearer to than margin (0.125, or 1 for whole numbers), all
            between the bounds.
        scales: the array is multiplied by one of these; positive and finite.
        integers: whether elements are whole numbers.
        dtype: any; bounds hold up to its rounding.
        layouts: whether some arrays are transposed, reversed or gapped views, or have stride 0.

    Raises:
        ValueError: if the shape, bounds or scales are malformed, or there is no room within.

    >>> from hypothesis import find
    >>> find(arrays("a 2", low=0.5), lambda a: len(a) > 1 and (a > 1.2).any())
    array([[1.5, 1. ],
           [1. , 1. ]])
    """
    points, factors = sorted(away), _factors(scales, low, high)
    if integers:
        low, high, margin = math.ceil(low), math.floor(high), max(1.0, margin)
    wide = high - low
    if wide < 0 or np.diff([low - margin, *points, high + margin]).min() < 2 * margin:
        raise ValueError(
            f"arrays: expected low <= high, and room by {margin} on both sides of each point, "
            f"got low={low}, high={high}, points {points}; choose other bounds or a smaller margin"
        )
    start = min(max(1.0, low), high)  # what is beyond `high` comes in again from `low`
    places = 0 if integers else -math.floor(math.log10(wide or 1.0))
    rounding = [(1, 0)] if integers else [(2, places), *[(1, places + 4)] * 3]

    def made(where: Shape, content: bytes) -> Array:
        parts, decimals = rounding[content[1] % len(rounding)]
        scale, size = factors[content[2] % len(factors)], math.prod(where)
        x = np.resize(np.frombuffer(content[4:], "<u2")[::-1] / 2**16, size)
        if content[0] % 3 == 2 and size > DRAWN:
            x[DRAWN:] = np.random.default_rng(list(content[4:])).random(size - DRAWN)
        x = start + x * wide
        x = np.where(x > high, x - wide, x)
        x = np.clip(np.round(x * parts, decimals) / parts, low, high)
        for p in points:
            x = np.where(abs(x - p) < margin, p + np.copysign(margin, x - p), x)
        if scale != 1:
            x = np.round(x * scale, places + 8 - math.floor(math.log10(scale)))
        array: Array = (x + 0.0).reshape(where).astype(dtype)  # no -0.0
        return LAYOUTS[content[3] % len(LAYOUTS)](array) if layouts and where else array

    return st.builds(made, _shapes(shape), CONTENT)


def reals(shape: Shapes = None, **options: Any) -> Arrays:
    """Arrays of numbers of either sign, -4 to 4 times one of the scales, 0 among them.

    Args:
        shape, options: as of `arrays`, with scales of 1, 1/1000 and 1000; `scales=(1.0,)` for a
            function that overflows, such as exp.

    >>> from hypothesis import given
    >>> @given(reals("a b"), reals("b"))
    ... def sizes_agree(x, y):
    ...     assert (x + y).shape == x.shape
    >>> sizes_agree()
    """
    return arrays(shape, **{"scales": (1.0, 1e-3, 1e3), **options})
