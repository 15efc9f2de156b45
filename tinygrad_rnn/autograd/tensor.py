"""`Tensor`: an array on the graph, with NumPy's operators and method names. No arithmetic here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import gradient as _gradient
from tinygrad_rnn.autograd import interop
from tinygrad_rnn.autograd.errors import array_of
from tinygrad_rnn.autograd.graph import Value, leaf, read_only, tick, wrap
from tinygrad_rnn.autograd.ops import activation, elementwise, index, linalg, reduce
from tinygrad_rnn.autograd.ops import shape as shaping


def _reflected(op: Callable[..., Any]) -> Callable[..., Any]:
    def reflected(self: Any, other: Any) -> Any:
        return op(other, self)

    return reflected


def _unless_none(op: Callable[..., Any]) -> Callable[..., Any]:
    """A comparison that leaves None to Python: `x == None` and `x in [None]` are False."""

    def compare(self: Any, other: Any) -> Any:
        return NotImplemented if other is None else op(self, other)

    return compare


class Tensor(Value):
    """An array of float32, float64, integers or bool, whose gradient can be followed.

    Args:
        array: a number, a (nested) list or an array; copied. Lists and numbers become float32 or
            int64, arrays keep their dtype.
        requires_grad: whether gradients with respect to it are wanted; floating point only.
        dtype: another dtype to convert to.

    Raises:
        TypeError: if the dtype is not supported, or integers are asked for a gradient.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    Tensor([[2., 4.],
            [6., 8.]], dtype=float32)
    """

    __slots__ = ()

    def __init__(self, array: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        given = array._data if isinstance(array, Value) else array
        self._data = np.array(array_of(given, "Tensor", dtype))
        self._node = None
        self.requires_grad = requires_grad

    # What it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def T(self) -> Any:
        return self.transpose()

    @property
    def mT(self) -> Any:
        return self.swapaxes(-1, -2)

    def numpy(self) -> np.ndarray:
        """The array itself, as a read-only view."""
        return read_only(self._data)

    def item(self) -> Any:
        """The only element, as a Python number."""
        if self._data.size != 1:
            raise ValueError(
                f"item: expected one element, got shape {self.shape}; use .tolist() or .numpy()"
            )
        return self._data.item()

    def tolist(self) -> Any:
        return self._data.tolist()

    # Where it stands on the graph

    @property
    def requires_grad(self) -> bool:
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted == self.requires_grad:
            return
        if not self.is_leaf:
            raise RuntimeError("requires_grad: expected a leaf, got a result; use .detach()")
        if wanted and self._data.dtype.kind != "f":
            raise TypeError(
                f"requires_grad: expected a floating-point tensor, got {self.dtype}; "
                "convert with .astype('float32') first"
            )
        self._node = leaf(self._data) if wanted else None

    @property
    def is_leaf(self) -> bool:
        return self._node is None or self._node.op is None

    @property
    def grad(self) -> Tensor | None:
        """What `backward` has added up here, or None."""
        notes = self._node.notes if self._node else None
        return notes.grad if notes else None

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if self._node is None:
            raise RuntimeError("grad: expected a tensor with requires_grad=True")
        like = isinstance(value, Tensor) and (value.shape, value.dtype) == (self.shape, self.dtype)
        if value is not None and not like:
            raise ValueError(
                f"grad: expected None or a Tensor of shape {self.shape} and {self.dtype}, "
                f"got {value!r}; convert it first"
            )
        self._node.annotate().grad = value

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf it was computed from.

        Args:
            gradient: the cotangent, of this tensor's shape; not needed for a single element.
            retain_graph: keep what the graph saved, so that `backward` can run again.

        Raises:
            RuntimeError: without `gradient` for several elements, without a graph, or once freed.
        """
        _gradient.backward(self, gradient, retain_graph)

    def detach(self) -> Tensor:
        """The same array, off the graph."""
        tensor: Tensor = wrap(self._data)
        return tensor

    def retain_grad(self) -> None:
        """Keep this result's gradient in `.grad` as for a leaf."""
        if self._node is None:
            raise RuntimeError("retain_grad: expected a tensor with requires_grad=True")
        self._node.annotate().keeps = True

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `hook(gradient)` in each backward pass; a Tensor it returns replaces the gradient.
        Returns a function that removes the hook."""
        if self._node is None:
            raise RuntimeError("register_hook: expected a tensor with requires_grad=True")
        if not callable(hook):
            raise TypeError(f"register_hook: expected a function, got {type(hook).__name__}")
        hooks, key = self._node.annotate().hooks, tick()
        hooks[key] = hook
        return lambda: hooks.pop(key, None) and None

    # Python

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: expected a tensor with an axis, got a 0-d one")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("iter: expected a tensor with an axis, got a 0-d one")
        return iter(shaping.unstack(self))

    def __repr__(self) -> str:
        text = np.array_repr(self._data).replace("\n ", "\n  ")
        return f"Tensor{text.removeprefix('array')}"

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.ndim or self.dtype.kind not in "iu":
            raise TypeError(f"index: expected a 0-d integer tensor, got {self!r}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else repr(self)

    def __hash__(self) -> int:
        return id(self)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.is_leaf:
            raise RuntimeError("copy: expected a leaf, got a result with a graph; use .detach()")
        return type(self)._restored, (self._data, self.requires_grad, self.grad)

    @classmethod
    def _restored(cls, data: np.ndarray, requires_grad: bool, grad: Tensor | None) -> Tensor:
        tensor = cls.__new__(cls)
        Tensor.__init__(tensor, data, requires_grad)
        if grad is not None:
            tensor.grad = Tensor(grad)
        return tensor

    # NumPy

    __array__ = interop.array
    __array_ufunc__ = interop.array_ufunc
    __array_function__ = interop.array_function

    # Operators: every one is an op

    __add__ = __radd__ = elementwise.add
    __sub__, __rsub__ = elementwise.subtract, _reflected(elementwise.subtract)
    __mul__ = __rmul__ = elementwise.multiply
    __truediv__, __rtruediv__ = elementwise.divide, _reflected(elementwise.divide)
    __pow__, __rpow__ = elementwise.power, _reflected(elementwise.power)
    __matmul__, __rmatmul__ = linalg.matmul, _reflected(linalg.matmul)
    __neg__, __abs__ = elementwise.negative, elementwise.abs
    __eq__, __ne__ = _unless_none(elementwise.equal), _unless_none(elementwise.not_equal)
    __lt__, __le__ = elementwise.less, elementwise.less_equal
    __gt__, __ge__ = elementwise.greater, elementwise.greater_equal

    def __getitem__(self, key: Any) -> Any:
        return index.getitem(self, index.readable(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "setitem: tensors are not changed in place; build the result with tg.where, "
            "tg.concatenate or tg.pad, or change a NumPy array before Tensor(array)"
        )

    # Methods by NumPy's names

    sum, mean, prod, max, min = reduce.sum, reduce.mean, reduce.prod, reduce.max, reduce.min
    var, std, cumsum = reduce.var, reduce.std, reduce.cumsum
    argmax, argmin, argsort = reduce.argmax, reduce.argmin, index.argsort
    squeeze, swapaxes, ravel, repeat = (
        shaping.squeeze,
        shaping.swapaxes,
        shaping.ravel,
        shaping.repeat,
    )
    flatten, clip, take, astype = shaping.ravel, elementwise.clip, index.take, elementwise.astype
    abs, exp, log, sqrt = elementwise.abs, elementwise.exp, elementwise.log, elementwise.sqrt
    tanh, sigmoid, relu = elementwise.tanh, activation.sigmoid, activation.relu
    dot = linalg.dot

    def reshape(self, *sizes: Any) -> Any:
        """The same elements in another shape: reshape(2, -1) or reshape((2, -1))."""
        return shaping.reshape(self, sizes[0] if len(sizes) == 1 else sizes)

    def transpose(self, *axes: Any) -> Any:
        """Axes in another order: transpose(), transpose(1, 0) or transpose((1, 0))."""
        return shaping.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)
