"""Products: matmul, linear, tensordot, einsum, outer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.errors import axes_of
from tinygrad_rnn.autograd.graph import Array, Arrays, shape_of
from tinygrad_rnn.autograd.op import primitive
from tinygrad_rnn.autograd.ops.elementwise import multiply
from tinygrad_rnn.autograd.ops.index import getitem
from tinygrad_rnn.autograd.ops.shape import broadcast_to, expand_dims, reshape, squeeze, transpose


def _flat(a: Array) -> Array:
    """All rows of a, one below another."""
    return a if a.ndim == 2 else reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))


def _left(g: Array, y: Array, shape: tuple[int, ...]) -> Array:
    """The rule for x in x @ y."""
    if y.ndim == 1:
        g, y = expand_dims(g, -1), expand_dims(y, -1)
    if len(shape) == 1:
        g = expand_dims(g, -2)
    return g @ y.mT


def _right(g: Array, x: Array, shape: tuple[int, ...]) -> Array:
    """The rule for y in x @ y: one product where all of x shares y."""
    if len(shape) == 1:
        return squeeze(_right(expand_dims(g, -1), x, (*shape, 1)), -1)
    if x.ndim == 1:
        g, x = expand_dims(g, -2), expand_dims(x, 0)
    return _flat(x).T @ _flat(g) if len(shape) == 2 else x.mT @ g


@primitive(x=_left, y=_right)
def matmul(x: Array, y: Array) -> Array:
    """Matrix product over the last two axes; a 1-d input is a row (left) or a column (right).

    Shapes:
        x (..., M, K), y (..., K, N)  ->  (..., M, N)

    >>> import tinygrad_rnn as tg
    >>> (tg.zeros(5, 2, 3) @ tg.zeros(3, 4)).shape
    (5, 2, 4)
    """
    return np.matmul(x, y)


@primitive(x=lambda g, weight: g @ weight, weight=lambda g, x: _flat(g).T @ _flat(x))
def linear_(x: Array, weight: Array) -> Array:
    """x Wᵀ."""
    return np.matmul(x, weight.T)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x Wᵀ + b, as torch.nn.functional.linear.

    Shapes:
        x (..., I), weight (O, I), bias (O,)  ->  (..., O)

    >>> import tinygrad_rnn as tg
    >>> tg.linear(tg.ones(2, 3), tg.ones(4, 3), tg.ones(4)).shape
    (2, 4)
    """
    rows, shape = shape_of(x), shape_of(weight)
    if len(shape) != 2 or rows[-1:] != shape[-1:]:
        raise ValueError(
            f"linear: expected x (..., I) and a weight (O, I), got {rows} and {shape}; "
            "the last axis of both is I"
        )
    out = linear_(x, weight)
    return out if bias is None else out + bias


def dot(a: Array, b: Array) -> Array:
    """Sum of products over the last axis of a and the last but one (or only) axis of b."""
    if len(shape_of(a)) == 0 or len(shape_of(b)) == 0:
        return multiply(a, b)
    return tensordot(a, b, axes=([-1], [-2 if len(shape_of(b)) > 1 else -1]))


def outer(a: Array, b: Array) -> Array:
    """a bᵀ of two flattened inputs."""
    return reshape(a, (-1, 1)) * reshape(b, (1, -1))


def tensordot(a: Array, b: Array, axes: Any = 2) -> Array:
    """Sum of products over pairs of axes: a number (last of a, first of b), or two lists."""
    m, n = len(shape_of(a)), len(shape_of(b))
    if isinstance(axes, (int, np.integer)):
        axes = (range(-int(axes), 0), range(int(axes)))
    axes_a, axes_b = (list(axes_of(x, d, "tensordot")) for x, d in zip(axes, (m, n), strict=True))
    summed = [shape_of(a)[x] for x in axes_a]
    if summed != [shape_of(b)[x] for x in axes_b]:
        raise ValueError(
            f"tensordot: expected equal sizes along the paired axes, got shapes {shape_of(a)} and "
            f"{shape_of(b)} with axes={axes}; the lists pair up axes"
        )
    free_a, free_b = ([k for k in range(d) if k not in x] for d, x in ((m, axes_a), (n, axes_b)))
    rows, columns = ([shape_of(v)[k] for k in free] for v, free in ((a, free_a), (b, free_b)))
    inner = int(np.prod(summed, dtype=int))
    left = reshape(transpose(a, free_a + axes_a), (int(np.prod(rows, dtype=int)), inner))
    right = reshape(transpose(b, axes_b + free_b), (inner, int(np.prod(columns, dtype=int))))
    return reshape(left @ right, rows + columns)


def _contractions(
    g: Array, operands: Sequence[Array], terms: Sequence[str], result: str
) -> list[Array]:
    """The rule of `contraction`: each gradient is a contraction of g with the other operands."""
    gradients = []
    for i, term in enumerate(terms):
        others = [t for k, t in enumerate(terms) if k != i]
        known = "".join(c for c in term if c in result or any(c in t for t in others))
        rest = [v for k, v in enumerate(operands) if k != i]
        d = einsum_([g, *rest], [result, *others], known)
        d = expand_dims(d, [k for k, c in enumerate(term) if c not in known])
        sizes = zip(d.shape, operands[i].shape, strict=True)
        gradients.append(broadcast_to(d, tuple(n if m == 1 else m for m, n in sizes)))
    return gradients


@primitive(operands=_contractions)
def einsum_(operands: Arrays, terms: Sequence[str], result: str) -> Array:
    """einsum with explicit terms that repeat no label within one operand."""
    return np.einsum(",".join(terms) + "->" + result, *operands, optimize=len(operands) > 1)


def _explicit(subscripts: str, operands: Sequence[Array]) -> tuple[list[str], str]:
    """The terms and the result of an einsum, ellipses written out and the result never implicit."""
    if not isinstance(subscripts, str):
        raise TypeError(
            f"einsum: expected subscripts such as 'ij,jk->ik', got {type(subscripts).__name__}; "
            "they come first"
        )
    left, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(
            f"einsum: expected {len(terms)} operands for {subscripts!r}, got {len(operands)}; "
            "one comma-separated term for each"
        )
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in left]
    wide = 0
    for k, (term, v) in enumerate(zip(terms, operands, strict=True)):
        extra = len(shape_of(v)) - len(term.replace("...", ""))
        if extra < 0 or (extra > 0 and "..." not in term):
            raise ValueError(
                f"einsum: expected an operand with the axes {term!r}, got shape {shape_of(v)}; "
                "a label for each axis, or ..."
            )
        terms[k], wide = term.replace("...", "".join(spare[:extra][::-1])), max(wide, extra)
    shared = "".join(spare[:wide][::-1])
    if not arrow:
        letters = "".join(terms)
        out = "..." + "".join(
            sorted(c for c in set(letters) - set(shared) if letters.count(c) == 1)
        )
    if shared and "..." not in out:
        raise ValueError(
            f"einsum: expected ... in the result of {subscripts!r}, got {out!r}; "
            "sum the other axes afterwards"
        )
    return terms, out.replace("...", shared)


def _diagonal(term: str, a: Array) -> tuple[str, Array]:
    """An operand that repeats no label: repeated ones become its diagonal, in front."""
    for label in dict.fromkeys(term):
        if term.count(label) > 1:
            sizes = {n for c, n in zip(term, shape_of(a), strict=True) if c == label}
            if len(sizes) > 1:
                raise ValueError(
                    f"einsum: expected equal sizes along the axes {label!r} of {term!r}, "
                    f"got shape {shape_of(a)}; a repeated label is a diagonal"
                )
            along = np.arange(sizes.pop())
            a = getitem(a, tuple(along if c == label else slice(None) for c in term))
            rest = term.replace(label, "")
            start = term.index(label)
            beside = term[start : start + term.count(label)] == label * term.count(label)
            term = term[:start] + label + rest[start:] if beside else label + rest
    return term, a


def einsum(subscripts: str, *operands: Array) -> Array:
    """Sum of products by labels, as NumPy: implicit or explicit results, ellipses, diagonals.

    >>> import tinygrad_rnn as tg
    >>> tg.einsum("tbi,oi->tbo", tg.ones(4, 2, 3), tg.ones(5, 3)).shape
    (4, 2, 5)
    """
    terms, out = _explicit(subscripts, operands)
    pairs = [_diagonal(t, v) for t, v in zip(terms, operands, strict=True)]
    return einsum_([v for _, v in pairs], [t for t, _ in pairs], out)
