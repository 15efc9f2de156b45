"""The table of ops: one row each. The laws of test_laws.py hold for every row."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tests.ops.drawing import (
    ABOVE_MINUS_ONE,
    MODERATE,
    NONZERO,
    POSITIVE,
    REALS,
    SPACED,
    SPREAD,
    alone,
    along,
    broadcast,
    flags,
    ids,
    integer,
    nonzero,
    one_of,
    reduction,
    shape,
)
from tinygrad_rnn.autograd.op import PRIMITIVES


@dataclass(frozen=True)
class Row:
    """An op with what the laws need to know of it."""

    name: str  # the op's, maybe with a word about which of its uses
    fn: Callable[..., Any]  # (*inputs, **arguments) -> result or tuple
    draw: Callable[..., Any]  # draw -> (shapes of the inputs, arguments)
    reference: Callable[..., Any]  # the same on arrays, by NumPy or a plain formula
    domain: Any = REALS  # of all inputs, or a tuple: one for each
    order: int = 2  # of differentiability; 0: its results have no gradient
    flat: bool = False  # the derivative is zero
    polynomial: bool = False  # piecewise linear or quadratic along each coordinate
    pointwise: bool = False
    arity: int = 1  # inputs that broadcast with one another
    nan: bool = True  # a NaN reaches every result that reads it, not just as in NumPy
    ulps: float = 4  # float32 against float64: of each element if pointwise, else of the largest
    shifts: bool = False  # adding a number to the input adds it to the result

    @property
    def multilinear(self):
        """Linear in each input alone."""
        return self.polynomial and self.domain is REALS

    def __str__(self):
        return self.name


ROWS: list[Row] = []


def row(name, fn, draw, reference, domain=REALS, **flags):
    ROWS.append(Row(name, fn, draw, reference, domain, **flags))


def pointwise(name, reference, domain=REALS, fn=None, draw=None, arity=1, **flags):
    fn, draw = fn or getattr(tg, name), draw or (broadcast(arity) if arity > 1 else alone)
    row(name, fn, draw, reference, domain, pointwise=True, arity=arity, **flags)


def vectorized(function):
    wide = np.vectorize(function, otypes=[float])
    return lambda x: wide(x).astype(np.asarray(x).dtype)


# Pointwise

pointwise("negative", np.negative, polynomial=True)
pointwise("abs", np.abs, SPACED, polynomial=True)
pointwise("sign", np.sign, NONZERO, flat=True)
pointwise("exp", np.exp, MODERATE)
pointwise("expm1", np.expm1, MODERATE)
pointwise("log", np.log, POSITIVE)
pointwise("log1p", np.log1p, ABOVE_MINUS_ONE)
pointwise("sqrt", np.sqrt, POSITIVE)
pointwise("rsqrt", lambda x: 1 / np.sqrt(x), POSITIVE)
pointwise("square", np.square, polynomial=True)
pointwise("sin", np.sin, MODERATE)
pointwise("cos", np.cos, MODERATE)
pointwise("tanh", np.tanh, MODERATE)
pointwise("erf", vectorized(math.erf), MODERATE)
pointwise("erfc", vectorized(math.erfc), MODERATE)
pointwise("sigmoid", lambda x: 1 / (1 + np.exp(-x)), MODERATE)
pointwise("softplus", lambda x: np.log(1 + np.exp(x)), MODERATE)
pointwise("log_sigmoid", lambda x: -np.log(1 + np.exp(-x)), MODERATE)
pointwise("relu", lambda x: np.maximum(x, 0), SPACED, polynomial=True)
pointwise(
    "leaky_relu",
    lambda x, negative_slope: np.where(x > 0, x, negative_slope * x),
    SPACED,
    draw=lambda draw: ([shape(draw)], {"negative_slope": one_of(draw, 0.25, -0.5, 0.0)}),
    polynomial=True,
)
pointwise(
    "elu",
    lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)),
    nonzero(scales=(1.0, 0.01)),
    draw=lambda draw: ([shape(draw)], {"alpha": one_of(draw, 1.0, 0.3)}),
)
pointwise("silu", lambda x: x / (1 + np.exp(-x)), MODERATE)
pointwise(
    "normal_cdf",
    vectorized(lambda x: 0.5 * math.erfc(-x / math.sqrt(2))),
    MODERATE,
    fn=PRIMITIVES["normal_cdf"],
)
pointwise("gelu", vectorized(lambda x: 0.5 * x * math.erfc(-x / math.sqrt(2))), MODERATE)
pointwise(
    "gelu tanh",
    lambda x: x / (1 + np.exp(-math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))),
    MODERATE,
    fn=lambda x: tg.gelu(x, approximate="tanh"),
    ulps=32,  # rounding its argument u changes the result by |u| such roundings
)
pointwise("astype", lambda x: x, fn=lambda x: tg.astype(x, x.dtype), polynomial=True)
pointwise(
    "astype to float64",
    lambda x: x.astype(np.float64),
    fn=lambda x: tg.astype(x, np.float64),
    polynomial=True,
)
pointwise(
    "astype to integers",
    lambda x: x.astype(np.int32),
    fn=lambda x: tg.astype(x, "int32"),
    order=0,
    nan=False,
)
pointwise("add", np.add, arity=2, polynomial=True)
pointwise("subtract", np.subtract, arity=2, polynomial=True)
pointwise("multiply", np.multiply, arity=2, polynomial=True)
pointwise("divide", np.divide, (REALS, NONZERO), arity=2)
pointwise("maximum", np.maximum, SPACED, arity=2, polynomial=True)
pointwise("minimum", np.minimum, SPACED, arity=2, polynomial=True)
pointwise("power", np.power, (POSITIVE, MODERATE), arity=2, nan=False)
pointwise(
    "power to a number",
    lambda x, exponent: x**exponent,
    POSITIVE,
    fn=lambda x, exponent: tg.power(x, exponent),
    draw=lambda draw: ([shape(draw)], {"exponent": one_of(draw, 2, 3, 1, -1, 0.5, -1.5, 2.0)}),
)
pointwise(
    "clip",
    np.clip,
    SPACED,
    draw=lambda draw: (
        [shape(draw)],
        {
            "a_min": one_of(draw, -5, -19.0, None),
            "a_max": one_of(draw, 3, 13.0, None),
        },
    ),
    polynomial=True,
)
pointwise("clip to tensors", np.clip, SPACED, fn=tg.clip, arity=3, polynomial=True)


def _where(draw):
    shapes, _ = broadcast(2)(draw)
    return shapes, {"condition": flags(draw, np.broadcast_shapes(*shapes))}


pointwise(
    "where",
    lambda x, y, condition: np.where(condition, x, y),
    fn=lambda x, y, condition: tg.where(condition, x, y),
    draw=_where,
    arity=2,
    polynomial=True,
    nan=False,
)
for _name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    pointwise(_name, getattr(np, _name), arity=2, order=0, nan=False)

# Reductions


def _norm(x, ord, axis, keepdims):
    size = np.abs(x)
    if math.isinf(ord):
        return (np.max if ord > 0 else np.min)(size, axis=axis, keepdims=keepdims)
    return np.sum(size**ord, axis=axis, keepdims=keepdims) ** (1 / ord)


def _logsumexp(a, axis, keepdims):
    top = np.max(a, axis=axis, keepdims=True)
    found = top + np.log(np.sum(np.exp(a - top), axis=axis, keepdims=True))
    return found if keepdims else np.squeeze(found, axis)


def _softmax(x, axis):
    return np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)


_moments = {"ddof": st.sampled_from((0, 1, 0.5))}
row("sum", tg.sum, reduction(empty=True), np.sum, polynomial=True)
row("mean", tg.mean, reduction(), np.mean, shifts=True)
row("prod", tg.prod, reduction(empty=True, most=2), np.prod, MODERATE, polynomial=True)
row("var", tg.var, reduction(least=2, **_moments), np.var, SPREAD)
row("std", tg.std, reduction(least=2, **_moments), np.std, SPACED)
row("max", tg.max, reduction(), np.max, SPACED, polynomial=True)
row("min", tg.min, reduction(), np.min, SPACED, polynomial=True)
row("argmax", tg.argmax, along(empty=False, keepdims=st.booleans()), np.argmax, SPACED, order=0)
row("argmin", tg.argmin, along(empty=False, keepdims=st.booleans()), np.argmin, SPACED, order=0)
_orders = {"empty": False, "keepdims": st.booleans()}
row("norm", tg.norm, reduction(), lambda x, **how: np.sqrt(np.sum(x * x, **how)), NONZERO)
row(
    "norm of an order",
    tg.norm,
    along(**_orders, ord=st.sampled_from((2, 3, 2.5))),
    _norm,
    NONZERO,
    ulps=16,
)
row(
    "norm linear",
    tg.norm,
    along(**_orders, ord=st.sampled_from((1, math.inf, -math.inf))),
    _norm,
    SPACED,
    polynomial=True,
)
row("logsumexp", tg.logsumexp, reduction(), _logsumexp, MODERATE, shifts=True)
row("softmax", tg.softmax, along(), _softmax, MODERATE)
row("log_softmax", tg.log_softmax, along(), lambda x, axis: np.log(_softmax(x, axis)), MODERATE)
row("cumsum", tg.cumsum, along(), np.cumsum, polynomial=True)


def _spanned(draw):
    (full,), meta = reduction()(draw)
    return [np.sum(np.zeros(full), **meta).shape], {"shape": full, **meta}


def _laid_out(g, shape, axis, keepdims):
    if axis is None:
        return np.full(shape, g.reshape(()))
    return np.broadcast_to(g if keepdims else np.expand_dims(g, axis), shape)


row("spanned", PRIMITIVES["spanned"], _spanned, _laid_out, polynomial=True)

# Shape


def _reshape(draw):
    sizes = shape(draw)
    total = math.prod(sizes)
    return [sizes], {"shape": one_of(draw, (-1,), (total, 1), (1, total), sizes[::-1], total)}


def _transpose(draw):
    sizes = shape(draw)
    n = len(sizes)
    order = sorted(range(n), key=lambda _: integer(draw, 0, 9))
    return [sizes], {"axes": one_of(draw, None, tuple(order), [k - n for k in order])}


def _moveaxis(draw):
    sizes = shape(draw, least=1)
    n = len(sizes)
    source, destination = integer(draw, -n, n - 1), integer(draw, -n, n - 1)
    if n > 1 and integer(draw, 0, 1):
        source, destination = (0, -1), one_of(draw, (1, 0), (-1, -2), (0, 1))
    return [sizes], {"source": source, "destination": destination}


def _swapaxes(draw):
    sizes = shape(draw, least=1)
    n = len(sizes)
    return [sizes], {"axis1": integer(draw, -n, n - 1), "axis2": integer(draw, -n, n - 1)}


def _squeeze(draw):
    sizes = list(shape(draw, least=1))
    k = integer(draw, 0, len(sizes) - 1)
    sizes[k] = 1
    return [tuple(sizes)], {"axis": one_of(draw, None, k, k - len(sizes), (k,))}


def _expand(draw):
    sizes = shape(draw)
    n = len(sizes)
    axis = integer(draw, -n - 1, n)
    return [sizes], {"axis": one_of(draw, axis, (0, n + 1), [-1])}


def _flip(draw):
    sizes = shape(draw, least=1)
    n = len(sizes)
    return [sizes], {"axis": one_of(draw, None, integer(draw, -n, n - 1), tuple(range(n)))}


def _roll(draw):
    sizes = shape(draw, least=1)
    shift, n = integer(draw, -4, 4), len(sizes)
    if integer(draw, 0, 2) == 0:
        return [sizes], {"shift": (shift, 1), "axis": (0, n - 1)}
    return [sizes], {"shift": shift, "axis": one_of(draw, None, integer(draw, -n, n - 1))}


def _pad(draw):
    sizes = shape(draw, least=1)
    pairs = [(integer(draw, 0, 2), integer(draw, 0, 2)) for _ in sizes]
    value = one_of(draw, 0, -1.5)
    width = one_of(draw, pairs, 1, (2,), (0, 1))
    return [sizes], {"pad_width": width, "constant_values": value}


def _broadcast_to(draw):
    sizes = shape(draw)
    return [sizes], {"shape": (*shape(draw, most=2), *(3 if n == 1 else n for n in sizes))}


def _concatenate(draw):
    sizes = shape(draw, least=1)
    axis = integer(draw, -len(sizes), len(sizes) - 1)
    shapes = []
    for _ in range(integer(draw, 1, 3)):
        part = list(sizes)
        part[axis] = integer(draw, 0, 3)
        shapes.append(tuple(part))
    return shapes, {"axis": one_of(draw, axis, axis, None)}


def _stack(draw):
    sizes = shape(draw, most=2)
    n = len(sizes)
    return [sizes] * integer(draw, 1, 3), {"axis": integer(draw, -n - 1, n)}


def _split(draw):
    sizes = list(shape(draw, least=1))
    axis = integer(draw, -len(sizes), len(sizes) - 1)
    if integer(draw, 0, 1):
        sections = integer(draw, 1, 3)
        sizes[axis] = sections * integer(draw, 0, 2)
        return [tuple(sizes)], {"indices_or_sections": sections, "axis": axis}
    points = sorted(integer(draw, 0, 4) for _ in range(integer(draw, 0, 3)))
    return [tuple(sizes)], {"indices_or_sections": points, "axis": axis}


def _tile(draw):
    reps = tuple(integer(draw, 0, 3) for _ in range(integer(draw, 1, 3)))
    return [shape(draw)], {"reps": one_of(draw, reps, reps, reps[0])}


def _repeat(draw):
    sizes = shape(draw, least=1)
    axis = integer(draw, -len(sizes), len(sizes) - 1)
    if integer(draw, 0, 1):
        return [sizes], {"repeats": integer(draw, 0, 3), "axis": one_of(draw, axis, None)}
    return [sizes], {"repeats": [integer(draw, 0, 2) for _ in range(sizes[axis])], "axis": axis}


def _sequence(op):
    return lambda *arrays, axis: op(arrays, axis=axis)


def _unstacked(x, axis):
    return tuple(np.take(x, k, axis) for k in range(x.shape[axis]))


def _masked(draw):
    """A mask of the input's shape, or of one that broadcasts with it."""
    (sizes, other), _ = broadcast(2)(draw)
    return [sizes], {"mask": flags(draw, other), "p": one_of(draw, 0.0, 0.5, 0.75)}


_exact = {"polynomial": True}
row("reshape", tg.reshape, _reshape, lambda a, shape: a.reshape(shape), **_exact)
row("transpose", tg.transpose, _transpose, np.transpose, **_exact)
row("moveaxis", tg.moveaxis, _moveaxis, np.moveaxis, **_exact)
row("swapaxes", tg.swapaxes, _swapaxes, np.swapaxes, **_exact)
row("squeeze", tg.squeeze, _squeeze, np.squeeze, **_exact)
row("expand_dims", tg.expand_dims, _expand, np.expand_dims, **_exact)
row("ravel", tg.ravel, alone, np.ravel, **_exact)
row("flip", tg.flip, _flip, np.flip, **_exact)
row("roll", tg.roll, _roll, np.roll, **_exact)
row("pad", tg.pad, _pad, np.pad, **_exact)
row("broadcast_to", tg.broadcast_to, _broadcast_to, np.broadcast_to, **_exact)
row(
    "masked",
    lambda x, mask, p: tg.nn.dropout(x, p, mask=mask),
    _masked,
    lambda x, mask, p: x * mask / (1 - p),
    MODERATE,
    **_exact,
)
row(
    "concatenate",
    _sequence(tg.concatenate),
    _concatenate,
    _sequence(np.concatenate),
    **_exact,
)
row("stack", _sequence(tg.stack), _stack, _sequence(np.stack), **_exact)
row("unstack", tg.unstack, along(empty=False), _unstacked, **_exact)
row("split", tg.split, _split, np.split, **_exact)
row("tile", tg.tile, _tile, np.tile, **_exact)
row("repeat", tg.repeat, _repeat, np.repeat, **_exact)

# Indexing


def _key(draw, sizes):
    """A key of any kind: numbers, slices, None, Ellipsis, integer and boolean arrays, mixtures."""
    kind = integer(draw, 0, 4)
    if kind == 0:
        return flags(draw, sizes)
    parts = []
    for n in sizes[: integer(draw, 0, len(sizes))]:
        one = integer(draw, 0, 5 if kind > 1 else 2)
        if one == 0 and n:
            parts.append(integer(draw, -n, n - 1))
        elif one <= 2 or n == 0:
            steps = one_of(draw, None, 1, 2, -1, -2)
            ends = [one_of(draw, None, 0, 1, 2, -1, -3) for _ in range(2)]
            parts.append(slice(*ends, steps))
        elif one == 3 and not any(isinstance(p, np.ndarray) and p.dtype == bool for p in parts):
            parts.append(np.arange(n) % 2 == 0)
        else:
            parts.append(ids(draw, (n + 1) // 2, n))
    if integer(draw, 0, 3) == 0:
        parts.insert(integer(draw, 0, len(parts)), None)
    if integer(draw, 0, 2) == 0:
        parts.append(Ellipsis)
    return tuple(parts)


def _getitem(draw):
    sizes = shape(draw)
    key = _key(draw, sizes)
    while not _fits(key, sizes):
        key = (slice(None), *ids(draw, 1, sizes[-1])) if len(sizes) > 1 and sizes[-1] else ()
    return [sizes], {"key": key}


def _fits(key, sizes):
    try:
        return np.empty(sizes)[key] is not None
    except IndexError:
        return False


def _scattered(a, key, shape):
    out = np.zeros(shape, a.dtype)
    np.add.at(out, key, a)
    return out


def _scatter(draw):
    (sizes,), meta = _getitem(draw)
    return [np.empty(sizes)[meta["key"]].shape], {**meta, "shape": sizes}


def _numbers(draw, size):
    if size == 0:
        return np.zeros((0, 2), np.intp)
    return one_of(draw, ids(draw, 4, size), ids(draw, (2, 2), size), ids(draw, 1, size)[0])


def _take(draw):
    sizes = shape(draw)
    if not sizes or integer(draw, 0, 3) == 0:
        return [sizes], {"indices": _numbers(draw, math.prod(sizes)), "axis": None}
    axis = integer(draw, -len(sizes), len(sizes) - 1)
    return [sizes], {"indices": _numbers(draw, sizes[axis]), "axis": axis}


def _untake(draw):
    sizes = shape(draw, least=1)
    axis = integer(draw, -len(sizes), len(sizes) - 1)
    indices = np.asarray(_numbers(draw, sizes[axis]))
    taken = np.take(np.empty(sizes), indices, axis).shape
    return [taken], {"indices": indices, "axis": axis, "shape": sizes}


def _untaken(a, indices, axis, shape):
    key = (slice(None),) * (axis % len(shape)) + (indices,)
    return _scattered(a, key, shape)


def _embedding(draw):
    rows = integer(draw, 1, 4)
    ids_ = np.abs(_numbers(draw, rows)) % rows
    return [(rows, integer(draw, 0, 3))], {"input": ids_}


def _along_axis(draw):
    sizes = shape(draw, least=1, min_side=1)
    axis = integer(draw, -len(sizes), len(sizes) - 1)
    if integer(draw, 0, 4) == 0:
        return [sizes], {"indices": ids(draw, 5, math.prod(sizes)), "axis": None}
    chosen = [one_of(draw, n, n, 1) for n in sizes]  # the indices broadcast along some axes
    chosen[axis] = integer(draw, 0, 3)
    return [sizes], {"indices": ids(draw, tuple(chosen), sizes[axis]), "axis": axis}


def _put(draw):
    (sizes,), meta = _along_axis(draw)
    if meta["axis"] is None:
        meta = {"indices": np.zeros(sizes, np.intp), "axis": 0}
    taken = list(sizes)
    taken[meta["axis"]] = meta["indices"].shape[meta["axis"]]
    return [tuple(taken)], {**meta, "shape": sizes}


def _putted(a, indices, axis, shape):
    out = np.zeros(shape, a.dtype)
    indices = np.broadcast_to(indices, a.shape)
    for place in np.ndindex(a.shape):
        to = list(place)
        to[axis] = indices[place]
        out[tuple(to)] += a[place]
    return out


def _topk(draw):
    (sizes,), meta = along(largest=st.booleans())(draw)
    return [sizes], {**meta, "k": integer(draw, 0, sizes[meta["axis"]])}


def _top(input, k, axis, largest):
    ordered = np.sort(input, axis=axis)  # NaN last, as the largest
    return np.take(np.flip(ordered, axis) if largest else ordered, np.arange(k), axis)


def _ranks(a, axis):
    """From the largest down, NaN first; ties in order."""
    keys = np.where(np.isnan(a), -np.inf, -a)
    return np.argsort(keys, axis, kind="stable")


def _diagonal(draw):
    sizes = shape(draw, least=2)
    return [sizes], {"k": integer(draw, -3, 3)}


row("getitem", PRIMITIVES["getitem"], _getitem, lambda a, key: a[key], **_exact)
row("scatter", PRIMITIVES["scatter"], _scatter, _scattered, **_exact)
row("take", tg.take, _take, np.take, **_exact)
row("untake", PRIMITIVES["untake"], _untake, _untaken, **_exact)
row(
    "embedding",
    lambda weight, input: tg.embedding(input, weight),
    _embedding,
    lambda weight, input: weight[input],
    **_exact,
)
row(
    "take_along_axis",
    tg.take_along_axis,
    _along_axis,
    np.take_along_axis,
    **_exact,
)
row("put_along_axis", PRIMITIVES["put_along_axis"], _put, _putted, **_exact)
row("argsort", tg.argsort, along(), np.argsort, SPACED, order=0, nan=False)
row(
    "ranking",
    PRIMITIVES["ranking"],
    along(),
    _ranks,
    SPACED,
    order=0,
    nan=False,
)
row("sort", tg.sort, along(), np.sort, SPACED, nan=False, **_exact)
row("topk", lambda *a, **m: tg.topk(*a, **m)[0], _topk, _top, SPACED, nan=False, **_exact)
row("tril", tg.tril, _diagonal, np.tril, nan=False, **_exact)
row("triu", tg.triu, _diagonal, np.triu, nan=False, **_exact)

# Products


def _matmul(draw):
    m, k, n = (integer(draw, 0, 3) for _ in range(3))
    (left, right), _ = broadcast(2, most=2)(draw)
    x = one_of(draw, (k,), (*left, m, k), (*left, m, k))
    return [x, one_of(draw, (k,), (*right, k, n), (*right, k, n))], {}


def _linear(draw):
    i, o = integer(draw, 0, 3), integer(draw, 0, 3)
    return [(*shape(draw, most=2), i), (o, i), (o,)][: integer(draw, 2, 3)], {}


def _dot(draw):
    k = integer(draw, 0, 3)
    if integer(draw, 0, 3) == 0:
        return [one_of(draw, (), (k, 2)), ()], {}
    return [(*shape(draw, most=2), k), one_of(draw, (k,), (k, 2), (2, k, 3))], {}


def _tensordot(draw):
    i, j, k, n = (integer(draw, 0, 3) for _ in range(4))
    return one_of(
        draw,
        ([(i, j), (j, k)], {"axes": 1}),
        ([(i, j, k), (j, k, n)], {"axes": 2}),
        ([(i,), (j, k)], {"axes": 0}),
        ([(i, j, k), (k, n, i)], {"axes": ([0, 2], [2, 0])}),
        ([(i, j), (n, j)], {"axes": (-1, -1)}),
    )


EINSUMS = (
    *("ij,jk->ik", "ij,jk", "ij,kj->ki", "i,i", "i,j->ij", "ij,j->i", "ij,ij->", ",i->i"),
    *("ij->ji", "ji", "ij->j", "i->", "ijk->k", "ij,kl->ik", "i,j->", "ijk,jkl,lm->im"),
    *("ii->i", "ii", "iij->j", "iji->ij", "ii,ij->j", "ij,ij,ij->ij", "tbi,oi->tbo"),
    *("...i,...i->...", "...ij,...jk->...ik", "i...->...", "...,...", "a...,...b->ab..."),
)


def _einsum(draw):
    subscripts = one_of(draw, *EINSUMS)
    sizes = {c: integer(draw, 0, 3) for c in sorted(set(subscripts) - set("->,."))}
    wide = shape(draw, most=2)
    shapes = []
    for term in subscripts.partition("->")[0].split(","):
        ahead, dots, behind = term.partition("...")
        skipped = integer(draw, 0, len(wide)) if dots else len(wide)
        ones = integer(draw, 0, 3) == 0
        middle = tuple(1 if ones else n for n in wide[skipped:])
        short = one_of(draw, *"    ijk")  # a label's axes of size 1 broadcast too
        near, far = (
            tuple(1 if c == short and term.count(c) == 1 else sizes[c] for c in part)
            for part in (ahead, behind)
        )
        shapes.append((*near, *middle, *far))
    return shapes, {"subscripts": subscripts}


row("matmul", tg.matmul, _matmul, np.matmul, **_exact)
row(
    "linear",
    tg.linear,
    _linear,
    lambda x, w, b=None: x @ w.T if b is None else x @ w.T + b,
    **_exact,
)
row("dot", tg.dot, _dot, np.dot, **_exact)
row("outer", tg.outer, lambda draw: ([shape(draw), shape(draw)], {}), np.outer, **_exact)
row("tensordot", tg.tensordot, _tensordot, np.tensordot, **_exact)
row(
    "einsum",
    lambda *a, subscripts: tg.einsum(subscripts, *a),
    _einsum,
    lambda *a, subscripts: np.einsum(subscripts, *a),
    **_exact,
)
