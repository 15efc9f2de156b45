"""Feed-forward layers."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from tinygrad_rnn.autograd.generator import default_rng
from tinygrad_rnn.autograd.graph import Array, unwrap
from tinygrad_rnn.autograd.op import primitive
from tinygrad_rnn.autograd.ops.elementwise import where
from tinygrad_rnn.autograd.ops.index import embedding
from tinygrad_rnn.autograd.ops.linalg import linear
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.module import Module, Parameter, check_dtype, check_sizes


class Linear(Module):
    """Affine map y = x Wᵀ + b.

    Args:
        in_features: features of x, I.
        out_features: features of y, O.
        bias: whether b is there.

    Shapes:
        x (..., I)  ->  (..., O);  weight (O, I), bias (O,)

    Raises:
        ValueError: if the last axis of x is not I.
        TypeError: if x has another dtype than the weights.

    Names and initialisation as in PyTorch.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.Linear(3, 5)(tg.zeros(7, 3)).shape
    (7, 5)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        check_sizes("Linear", 0, in_features=in_features, out_features=out_features)
        fan: dict[str, Any] = {"fan": in_features, "rng": rng, "dtype": dtype}
        self.weight = init.uniform(out_features, in_features, **fan)
        self.bias: Parameter | None = init.uniform(out_features, **fan) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        check_dtype("Linear", "x", x, self.weight.dtype)
        output: Tensor = linear(x, self.weight, self.bias)
        return output

    def extra_repr(self) -> str:
        rows, columns = self.weight.shape
        return f"in_features={columns}, out_features={rows}, bias={self.bias is not None}"


class Embedding(Module):
    """A row of a table for each id.

    Args:
        num_embeddings: ids, V.
        embedding_dim: features of a row, E.
        padding_idx: an id whose row is zero at first and gets no gradient; counted from the end if
            negative.

    Shapes:
        ids (...) integers in 0..V-1  ->  (..., E);  weight (V, E)

    Raises:
        IndexError: if an id is outside 0..V-1.
        TypeError: if the ids are no integers.
        ValueError: if there is no row `padding_idx`.

    An output layer is tied to it by having its weight: Press & Wolf (2017), Using the Output
    Embedding to Improve Language Models, §3.

    >>> import tinygrad_rnn as tg
    >>> table, output = tg.nn.Embedding(10, 4), tg.nn.Linear(4, 10)
    >>> output.weight = table.weight
    >>> output(table([[1, 2, 3]])).shape
    (1, 3, 10)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: Any = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        check_sizes("Embedding", 0, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.padding_idx = _checked_row(padding_idx, num_embeddings)
        self.weight = init.normal(num_embeddings, embedding_dim, rng=rng, dtype=dtype)
        if self.padding_idx is not None:
            self.weight._data[self.padding_idx] = 0.0

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None
    ) -> Self:
        """An embedding with given rows, which are copied and keep their dtype.

        Args:
            embeddings: array or Tensor (V, E).
            freeze: whether they stay as they are: the weight requires no gradient.
            padding_idx: an id whose row gets no gradient; it stays as given.

        Raises:
            ValueError: if these are no rows of floating-point numbers, or have no such row.

        Name and meaning as in PyTorch.

        >>> Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])([1]).tolist()
        [[3.0, 4.0]]
        """
        weight = Parameter(embeddings, requires_grad=False)
        if weight.ndim != 2 or weight.dtype.kind != "f":
            raise ValueError(
                "Embedding.from_pretrained: expected rows of floating-point numbers (V, E), got "
                f"{weight.dtype} of shape {weight.shape}; convert with np.array(rows, 'float32')"
            )
        layer = cls(1, 1, rng=np.random.default_rng(0))
        layer.padding_idx, layer.weight = _checked_row(padding_idx, len(weight)), weight
        weight.requires_grad = not freeze
        return layer

    def __call__(self, ids: Any) -> Tensor:
        output: Tensor = embedding(ids, self.weight)
        if self.padding_idx is not None:
            padding = np.expand_dims(np.asarray(unwrap(ids)) == self.padding_idx, -1)
            output = where(padding, unwrap(output), output)
        return output

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return ", ".join(map(str, self.weight.shape)) + padding


def _checked_row(index: int | None, rows: int) -> int | None:
    if index is None:
        return None
    if not -rows <= index < rows:
        raise ValueError(f"Embedding: expected padding_idx in {-rows}..{rows - 1}, got {index}")
    return index % rows


def check_share(where: str, name: str, p: float) -> float:
    """Raise unless a share that is dropped leaves something."""
    if not 0 <= p < 1:
        raise ValueError(
            f"{where}: expected {name} in [0, 1), got {p}; it is the share that is dropped"
        )
    return p


def drawn(p: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Which entries are kept, each with probability 1 - p to the nearest 65,536th."""
    count = math.prod(shape)
    words = rng.integers(0, 2**64, -(-count // 4), dtype=np.uint64)  # four entries of 16 bits each
    kept: np.ndarray = words.view(np.uint16)[:count] >= min(round(p * 65_536), 65_535)
    return kept.reshape(shape)


def _masked(g: Array, mask: np.ndarray, scale: float) -> Array:
    return masked(g, mask, scale)


@primitive(x=_masked)
def masked(x: Array, mask: np.ndarray, scale: float) -> Array:
    """x·scale where the mask is true, else 0·x; the mask alone is kept for the way back."""
    y: Array = np.multiply(x, mask)
    y *= y.dtype.type(scale)
    return y


def dropout(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    *,
    rng: np.random.Generator | None = None,
    mask: Any = None,
) -> Any:
    """x·m / (1 - p) with m drawn from {0, 1}, 0 with probability p: the mean stays.

    Args:
        p: the share of entries that are dropped, in [0, 1).
        training: if false, x is returned as it is.
        rng: draws m, the same in either dtype.
        mask: m itself, if it is not to be drawn: bool, true where x is kept; it broadcasts with x.

    Raises:
        ValueError: if p is outside [0, 1).
        TypeError: if x is no floating-point Tensor or array, or the mask is not of bool.

    Srivastava et al. (2014), Dropout: A Simple Way to Prevent Neural Networks from Overfitting,
    §4, with the scaling of §10.

    >>> import tinygrad_rnn as tg
    >>> sorted(set(tg.nn.dropout(tg.ones(100), 0.2).tolist()))
    [0.0, 1.25]
    """
    check_share("dropout", "p", p)
    if getattr(getattr(x, "dtype", None), "kind", None) != "f":
        raise TypeError(
            f"dropout: expected a floating-point Tensor, got {x!r}; "
            "convert with tg.Tensor(x, dtype='float32')"
        )
    if not training or (mask is None and not p):
        return x
    kept = drawn(p, x.shape, default_rng(rng)) if mask is None else np.asarray(mask)
    if kept.dtype != bool:
        raise TypeError(
            f"dropout: expected a mask of bool, true where x is kept, got {kept.dtype}; "
            "convert with .astype(bool)"
        )
    return masked(x, kept, 1 / (1 - p))


class Dropout(Module):
    """`dropout` in training; nothing in evaluation.

    Args:
        p: the share of entries that are dropped, in [0, 1).
        rng: draws what is dropped; by default the default generator, which `tg.checkpoint` needs
            to drop the same again.

    Shapes:
        x (...)  ->  (...)

    Raises:
        ValueError, TypeError: as `dropout`.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.Dropout(0.5).eval()(tg.ones(3))
    Tensor([1., 1., 1.], dtype=float32)
    """

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | None = None) -> None:
        self.p, self.rng = check_share("Dropout", "p", p), rng

    def __call__(self, x: Array) -> Tensor:
        output: Tensor = dropout(x, self.p, self.training, rng=self.rng)
        return output

    def extra_repr(self) -> str:
        return f"p={self.p}"
