"""What a user reads when an op cannot take its inputs: where, expected, got, remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Value

SUPPORTED = "float32, float64, an integer type or bool"
DTYPES = frozenset(map(np.dtype, "fd?bBhHiIlLqQ"))


def array_of(values: Any, where: str, dtype: Any = None) -> np.ndarray:
    """An array of `dtype`; if None, lists and Python numbers become float32 or int64."""
    if holds_tensors(values) or hasattr(values, "mask"):
        raise TypeError(
            f"{where}: expected numbers, got Tensors in a list or a masked array; "
            "use tg.stack, or fill the mask"
        )
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{where}: expected rows of equal length, got ragged {values!r}") from None
    own = dtype_of(array.dtype, where)
    if dtype is not None:
        return array.astype(dtype_of(dtype, where), copy=False)
    keeps = isinstance(values, (np.ndarray, np.generic)) or holds_arrays(values)
    return array.astype(own if keeps or own.kind != "f" else np.float32, copy=False)


def dtype_of(dtype: Any, where: str) -> np.dtype:
    """A supported dtype, in the machine's byte order."""
    try:
        found: np.dtype | None = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        found = None
    if found is None or found not in DTYPES:
        raise TypeError(
            f"{where}: expected {SUPPORTED}, got {found or repr(dtype)}; "
            "convert with .astype('float32')"
        )
    return np.dtype(found.type)  # the object that arrays share


def holds_tensors(values: Any) -> bool:
    """Whether a (nested) list holds Tensors, which NumPy would take off the graph."""
    return isinstance(values, (list, tuple)) and any(
        isinstance(v, Value) or holds_tensors(v) for v in values
    )


def holds_arrays(values: Any) -> bool:
    """Whether a (nested) list holds arrays or NumPy numbers, which keep their dtype."""
    while isinstance(values, (list, tuple)) and values:
        values = values[0]
    return isinstance(values, (np.ndarray, np.generic))


def operand(value: Any, where: str) -> Any:
    """An op's input that is no Tensor, as NumPy can read it."""
    if isinstance(value, (np.ndarray, np.generic)) and not hasattr(value, "mask"):
        dtype_of(value.dtype, where)
    elif isinstance(value, (list, tuple, np.ndarray)):
        return array_of(value, where)
    elif not isinstance(value, (int, float)):
        raise TypeError(
            f"{where}: expected a Tensor, an array, a number or a list, "
            f"got {type(value).__name__}; convert it first"
        )
    return value


def axes_of(axis: Any, ndim: int, where: str, repeated: bool = False) -> tuple[int, ...]:
    """The axes that `axis` names, counted from 0; None means all."""
    if axis is None or (type(axis) is int and -ndim <= axis < ndim):  # NumPy takes 10 times as long
        return tuple(range(ndim)) if axis is None else (axis % ndim,)
    try:
        return np.lib.array_utils.normalize_axis_tuple(axis, ndim, allow_duplicate=repeated)
    except (TypeError, ValueError):
        raise ValueError(
            f"{where}: expected axes in {-ndim}..{ndim - 1}, each once, got {axis}; "
            "count axes from 0, or back from -1"
        ) from None


def shapes(arguments: Iterable[Any]) -> str:
    """The shapes of the arrays among `arguments`, for a message."""
    found = []
    for value in arguments:
        if isinstance(value, (list, tuple)) and any(isinstance(v, np.ndarray) for v in value):
            found += [np.shape(v) for v in value]
        elif isinstance(value, (np.ndarray, np.generic)):
            found.append(np.shape(value))
    return f"shapes {' and '.join(map(str, found))}" if found else "no array"


def _expectation(text: str, error: Exception) -> tuple[str, str]:
    """What was expected (and got), and what to do, for the reasons NumPy gives."""
    if isinstance(error, np.exceptions.AxisError) and error.ndim is not None:
        n = error.ndim
        span = f"in {-n}..{n - 1}" if n else "to be None (a 0-d input has no axis)"
        return f"axis {span}, got {error.axis} for", "count axes from 0, or back from -1"
    if "broadcast" in text:
        return "shapes that broadcast, got", "equal sizes, or 1, from the last axis back"
    if "core dimension" in text or "matmul" in text:
        return "the last axis of the first to match the second, got", "transpose one of them"
    if "cannot reshape" in text:
        wanted = text.partition("into shape ")[2]
        return f"a new shape with as many elements, got {wanted} for", "at most one size may be -1"
    if "out of bounds" in text:
        return f"indices within the axis ({text}), got", "check the ids or the slice"
    return f"inputs it can take ({text}), got", "check shapes, axes and dtypes"


def explain(
    name: str, forward: Callable[..., Any], error: Exception, arguments: tuple[Any, ...]
) -> Exception:
    """The error to raise instead of `error`: a user's own primitive keeps its own."""
    if not (forward.__module__ or "").startswith("tinygrad_rnn."):
        error.add_note(f"in primitive {name!r}, on {shapes(arguments)}")
        return error
    if str(error).startswith(f"{name}: expected "):
        return error  # it says so already
    kind = next((k for k in (IndexError, TypeError, ValueError) if isinstance(error, k)), None)
    if kind is None:
        return error
    if isinstance(error, np.exceptions.AxisError):
        kind = ValueError
    expected, remedy = _expectation(str(error), error)
    return kind(f"{name}: expected {expected} {shapes(arguments)}; {remedy}")
