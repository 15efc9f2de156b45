"""How NumPy meets a Tensor: operators give Tensors, functions of NumPy refuse and name ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Value, read_only
from tinygrad_rnn.autograd.op import PRIMITIVES

# What `array op tensor` reaches us as; our ops have the names of NumPy's functions.
OPERATORS = {
    *(np.add, np.subtract, np.multiply, np.true_divide, np.power, np.matmul),
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
}
OURS = {  # where our name is another
    "absolute": "abs",
    "add.reduce": "sum",
    "multiply.reduce": "prod",
    "maximum.reduce": "max",
    "minimum.reduce": "min",
    "add.accumulate": "cumsum",
    "multiply.outer": "outer",
}
# Ours that NumPy has and that are made of primitives.
COMPOSED = set(
    "clip concatenate cumsum dot einsum expand_dims mean moveaxis norm outer pad power prod "
    "ravel repeat sort squeeze std swapaxes take take_along_axis tensordot tile var".split()
)
# Functions that only look: they read a Tensor as the array it holds.
READERS = {np.shape, np.ndim, np.size, np.allclose, np.array_equal, np.isclose, np.array_repr}


def array(self: Value, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """np.asarray(t): the array, read-only unless copied."""
    if copy or (dtype is not None and dtype != self._data.dtype):
        if copy is False:
            raise ValueError(
                f"asarray: expected dtype {self._data.dtype} without a copy, got {dtype}"
            )
        return self._data.astype(dtype or self._data.dtype)
    return read_only(self._data)


def refusal(name: str) -> TypeError:
    ours = OURS.get(name, name.removeprefix("linalg."))
    recorded = f"tg.{ours} (recorded), or " if {ours, f"{ours}_"} & {*PRIMITIVES, *COMPOSED} else ""
    return TypeError(
        f"np.{name}: expected arrays, got a Tensor; use {recorded}np.{name}(t.numpy()) "
        "to leave the graph"
    )


def array_ufunc(self: Value, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    if ufunc not in OPERATORS or method != "__call__" or kwargs:
        raise refusal(ufunc.__name__ + f".{method}" * (method != "__call__"))
    op = PRIMITIVES["power_" if ufunc is np.power else ufunc.__name__]
    return op(*inputs)


def array_function(
    self: Value, func: Callable[..., Any], types: Any, args: Any, kwargs: Any
) -> Any:
    if func not in READERS:
        raise refusal(f"{func.__module__}.{func.__name__}".removeprefix("numpy."))
    plain = [a._data if isinstance(a, Value) else a for a in args]
    return func(*plain, **{k: v._data if isinstance(v, Value) else v for k, v in kwargs.items()})
