"""Hypothesis strategies for arrays, tensors, shapes, operands, sequences and recurrent layers.

All are ordinary strategies, for `hypothesis.given` as for `assert_gradients`. Names of axes make
the inputs of one example fit: `reals("a b"), reals("b c"), positive("c")`. Examples shrink to small
arrays of short numbers; a large array takes NumPy's time to draw, not one choice per element.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.testing.drawing import Array, Arrays, Shape, Shapes
from tinygrad_rnn.testing.drawing import arrays as arrays
from tinygrad_rnn.testing.drawing import reals as reals
from tinygrad_rnn.testing.drawing import shapes as shapes
from tinygrad_rnn.testing.layers import RecurrentConfig as RecurrentConfig
from tinygrad_rnn.testing.layers import Sequences as Sequences
from tinygrad_rnn.testing.layers import recurrent_configs as recurrent_configs
from tinygrad_rnn.testing.layers import sequences as sequences

# Domains


def positive(shape: Shapes = None, **options: Any) -> Arrays:
    """Arrays of numbers above zero: 1/8 to 4, times 1, 1/10 or 10.

    Args:
        shape, options: as of `arrays`.
    """
    return arrays(shape, **{"low": 0.125, "scales": (1.0, 0.1, 10.0), **options})


def unit_interval(shape: Shapes = None, *, margin: float = 1 / 64, **options: Any) -> Arrays:
    """Arrays of numbers between 0 and 1, as probabilities are.

    Args:
        shape, options: as of `arrays`.
        margin: how near to 0 and 1 elements may be, 1/64; with 0 both may be drawn.
    """
    return arrays(shape, margin, 1 - margin, **options)


def away_from(points: float | Sequence[float], shape: Shapes = None, **options: Any) -> Arrays:
    """Arrays of numbers from -4 to 4 that keep a distance from some points, such as kinks.

    Args:
        points: one or several.
        shape, options: as of `arrays`; the least distance is `margin`, 1/8.

    Raises:
        ValueError: if there is no room between the points and the bounds.

    >>> from hypothesis import find
    >>> find(away_from([0.0, 1.0], "a"), lambda a: a.size > 0)
    array([1.125])
    """
    return arrays(shape, away=np.atleast_1d(points).tolist(), **options)


def small_integers(shape: Shapes = None, low: int = -4, high: int = 4, **options: Any) -> Arrays:
    """Arrays of whole numbers, as floats unless another dtype is asked: for `exact_gradcheck`.

    Args:
        shape, options: as of `arrays`; with `dtype=np.intp` they are indices.
        low, high: the bounds, both included.
    """
    return arrays(shape, low, high, **{"integers": True, **options})


def distinct(
    shape: Shapes = None, *, gap: float = 1.0, offset: float = 0.0, **options: Any
) -> Arrays:
    """Arrays without ties, in any order, for max and sort: the multiples of a gap around zero.

    Args:
        shape: as of `arrays`.
        gap: the distance of neighbours, 1.
        offset: added to all; two arrays with offsets half a gap apart have no tie between them.
        options: dtype of `arrays`.

    Raises:
        ValueError: if the gap is not positive, or the dtype cannot hold it.

    >>> from hypothesis import find
    >>> find(distinct("a"), lambda a: a.size == 3)
    array([-1.,  0.,  1.])
    """

    whole = np.dtype(options.get("dtype", np.float64)).kind in "biu"
    if not gap > 0 or (whole and (gap % 1 or offset % 1)):
        raise ValueError(
            f"distinct: expected a positive gap{' and whole numbers' * whole}, "
            f"got gap={gap}, offset={offset}"
        )

    def ranked(a: Array) -> Array:
        ranks = np.argsort(np.argsort(a, axis=None, kind="stable")).reshape(a.shape)
        return np.asarray(gap * (ranks - a.size // 2) + offset, a.dtype)

    return arrays(shape, **options).map(ranked)


def tensors(strategy: Arrays, requires_grad: bool = False) -> SearchStrategy[Tensor]:
    """Tensors from a strategy of arrays.

    Args:
        strategy: such as `reals("a b")`.
        requires_grad: whether the tensors ask for gradients.
    """
    return strategy.map(lambda a: Tensor(a, requires_grad))


# Several shapes at once


def broadcastable_shapes(count: int, **options: Any) -> SearchStrategy[tuple[Shape, ...]]:
    """Tuples of shapes that broadcast: axes of one shape become 1, or leading ones are left out.

    Args:
        count: how many shapes.
        options: min_dims, max_dims, min_side and max_side of `shapes`.

    >>> from hypothesis import find
    >>> pair = find(broadcastable_shapes(2), lambda pair: len(pair[0]) > len(pair[1]))
    >>> np.broadcast_shapes(*pair) == pair[0]
    True
    """

    @functools.cache
    def several(full: Shape) -> SearchStrategy[tuple[Shape, ...]]:
        ends = [full[drop:] for drop in range(len(full) + 1)]
        forms = [form for end in ends for form in itertools.product(*((n, 1) for n in end))]
        form = st.sampled_from([full] * len(forms) + forms)  # half of the shapes are whole
        return st.tuples(*[form] * count)

    return shapes(**options).flatmap(several)


def operands(
    shapes: SearchStrategy[tuple[Shape, ...]], of: Callable[..., Arrays] = reals, **options: Any
) -> SearchStrategy[tuple[Array, ...]]:
    """Tuples of arrays, one of each shape; a property's function gets them as its arguments.

    Args:
        shapes: a strategy of several shapes, such as `broadcastable_shapes(2)`.
        of, options: the strategy of the arrays (`reals`) and its options.

    >>> import tinygrad_rnn as tg
    >>> tg.testing.assert_gradients(tg.multiply, operands(broadcastable_shapes(2)))
    """

    @functools.cache
    def arrays_of(several: tuple[Shape, ...]) -> SearchStrategy[tuple[Array, ...]]:
        return st.tuples(*(of(shape, **options) for shape in several))

    return shapes.flatmap(arrays_of)


def matmul_operands(**options: Any) -> SearchStrategy[tuple[Array, ...]]:
    """Pairs of arrays that NumPy's matmul takes: vectors, matrices, stacks that broadcast, empties.

    Args:
        options: of `operands`: the strategy of the arrays (`of=reals`) and its options.

    >>> import tinygrad_rnn as tg
    >>> tg.testing.assert_gradients(tg.matmul, matmul_operands())
    """

    def fitting(sides: Shape, stacks: tuple[Shape, ...], *matrices: bool) -> tuple[Shape, ...]:
        (n, k, m), (left, right) = sides, stacks
        stacked = ((*left, n, k), (*right, k, m))
        return tuple(s if matrix else (k,) for s, matrix in zip(stacked, matrices, strict=True))

    matrix = st.sampled_from((True, True, True, False))  # or a vector
    stacks = broadcastable_shapes(2, max_dims=2, max_side=3)
    return operands(st.builds(fitting, shapes(3, 3), stacks, matrix, matrix), **options)
