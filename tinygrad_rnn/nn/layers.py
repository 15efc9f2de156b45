"""Feed-forward layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.ops.index import embedding
from tinygrad_rnn.autograd.ops.linalg import linear
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.module import Module, Parameter, check_dtype


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
        fan: dict[str, Any] = {"fan": in_features, "rng": rng, "dtype": dtype}
        self.weight = init.uniform(out_features, in_features, **fan)
        self.bias: Parameter | None = init.uniform(out_features, **fan) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        check_dtype("Linear", "x", x, self.weight.dtype)
        output: Tensor = linear(x, self.weight, self.bias)
        return output


class Embedding(Module):
    """A row of a table for each id.

    Args:
        num_embeddings: ids, V.
        embedding_dim: features of a row, E.

    Shapes:
        ids (...) integers in 0..V-1  ->  (..., E);  weight (V, E)

    Raises:
        IndexError: if an id is outside 0..V-1.
        TypeError: if the ids are no integers.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.Embedding(10, 4)([[1, 2, 3]]).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: Any = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.weight = init.normal(num_embeddings, embedding_dim, rng=rng, dtype=dtype)

    def __call__(self, ids: Any) -> Tensor:
        output: Tensor = embedding(ids, self.weight)
        return output
