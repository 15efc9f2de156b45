"""New tensors. Floating point is float32 unless a dtype is given."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.generator import default_rng
from tinygrad_rnn.autograd.graph import read_only
from tinygrad_rnn.autograd.tensor import Tensor


def _shape(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """zeros(2, 3) and zeros((2, 3)) mean the same."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        return tuple(sizes[0])
    return sizes


def zeros(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Zeros of a shape: zeros(2, 3) or zeros((2, 3))."""
    return Tensor(np.zeros(_shape(shape), dtype), requires_grad)


def ones(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Ones of a shape."""
    return Tensor(np.ones(_shape(shape), dtype), requires_grad)


def full(shape: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """One value everywhere: float32 or int64 by the value, unless a dtype is given."""
    value = Tensor(fill_value, dtype=dtype).numpy()
    return Tensor(np.full(shape, value), requires_grad)


def arange(*span: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """stop; start, stop; or start, stop, step: int64, or float32 if any is a float."""
    values = np.arange(*span)
    dtype = dtype or (np.float32 if values.dtype.kind == "f" else values.dtype)
    return Tensor(values, requires_grad, dtype)


def eye(n: int, m: int | None = None, dtype: Any = np.float32) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix, zeros elsewhere."""
    return Tensor(np.eye(n, m, dtype=dtype))


def zeros_like(a: Any, dtype: Any = None) -> Tensor:
    """Zeros of a's shape and dtype."""
    return Tensor(np.zeros_like(np.asarray(a), dtype))


def ones_like(a: Any, dtype: Any = None) -> Tensor:
    """Ones of a's shape and dtype."""
    return Tensor(np.ones_like(np.asarray(a), dtype))


def randn(
    *shape: Any,
    rng: np.random.Generator | None = None,
    dtype: Any = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """Independent draws from the standard normal distribution.

    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.randn(2, 3, rng=np.random.default_rng(0)).shape
    (2, 3)
    """
    draws = default_rng(rng).standard_normal(_shape(shape))
    return Tensor(draws, requires_grad, dtype)


def rand(
    *shape: Any,
    rng: np.random.Generator | None = None,
    dtype: Any = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """Independent draws from the uniform distribution on [0, 1)."""
    return Tensor(default_rng(rng).random(_shape(shape)), requires_grad, dtype)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of an array, which it never writes.

    >>> import numpy as np, tinygrad_rnn as tg
    >>> a = np.zeros(2); t = tg.from_numpy(a); a[0] = 1.0
    >>> t
    Tensor([1., 0.])
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"from_numpy: expected an array, got {type(array).__name__}; use Tensor(...)"
        )
    tensor = Tensor(np.empty(0, array.dtype))
    if tensor.dtype != array.dtype:
        raise TypeError(
            f"from_numpy: expected native byte order, got {array.dtype}; use Tensor(...)"
        )
    tensor._data = read_only(array)
    return tensor
