"""`pointwise`: functions of single elements, compiled to one pass over memory each way.

A function is traced once for each dtype, and compiled for the shapes it meets. What cannot be
traced runs by its definition, with one warning that says why.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.fused import fused
from tinygrad_rnn.autograd.graph import MODE, Value
from tinygrad_rnn.autograd.trace.atoms import Untraceable
from tinygrad_rnn.autograd.trace.outside import check_outside, numbers_read
from tinygrad_rnn.elements import Leaf, Shape, Traced, traced, written
from tinygrad_rnn.kernels import choice
from tinygrad_rnn.kernels.elementwise.kernel import Kernel

REMEMBERED = 64  # traces of one function


class Compiled:
    """The fused forward and backward of a function, for inputs of some dtypes."""

    def __init__(self, fn: Traced, name: str, dtype: np.dtype) -> None:
        self.traced, self.name, self.dtype = fn, name, dtype
        program, self.leaves = written(fn.outputs)
        self.uses = [written([atom])[1] for atom in fn.outputs]
        if not all(self.uses):
            raise Untraceable("a result does not depend on its inputs")
        self.ahead = Kernel(program, f"{name}, forward", dtype)
        self.ahead([np.zeros(1, dtype)] * len(self.leaves), (1,), ((1,),) * len(self.uses))
        self._back: dict[Any, tuple[Kernel, list[Leaf], list[Shape], dict[int, int]]] = {}

    def shape(self, shapes: tuple[Shape, ...]) -> Shape | None:
        """The shape of the results, or None if they have several or inputs do not broadcast."""
        if len(set(shapes)) == 1:
            return shapes[0]
        try:
            found = {np.broadcast_shapes(*(shapes[k] for _, k in uses)) for uses in self.uses}
        except ValueError:
            return None
        return found.pop() if len(found) == 1 else None

    def forward(self, arrays: Sequence[np.ndarray], shape: Shape) -> Any:
        """The results: an array, or a tuple."""
        given = [self._float(arrays[k]) for _, k in self.leaves]
        found = self.ahead(given, shape, (shape,) * len(self.uses))
        return tuple(found) if self.traced.several else found[0]

    def backward(
        self,
        arrays: Sequence[np.ndarray],
        gs: Sequence[np.ndarray],
        needs: tuple[bool, ...],
        given: tuple[bool, ...],
    ) -> list[np.ndarray | None]:
        """One gradient, or None, for each input; `given` says which results have a cotangent."""
        shapes = tuple(a.shape for a in arrays)
        if (needs, given, shapes) not in self._back:
            if len(self._back) >= REMEMBERED:
                self._back.clear()
            self._back[needs, given, shapes] = self._way_back(needs, given, shapes)
        kernel, leaves, targets, places = self._back[needs, given, shapes]
        read = [gs[k] if kind == "g" else self._float(arrays[k]) for kind, k in leaves]
        found = kernel(read, gs[0].shape, tuple(targets))
        return [found[places[k]] if k in places else None for k in range(len(arrays))]

    def _way_back(
        self, needs: tuple[bool, ...], given: tuple[bool, ...], shapes: tuple[Shape, ...]
    ) -> Any:
        """Equal gradients of one shape are computed once."""
        reached = self.traced.gradients if all(given) else self.traced.reached(given)
        wanted = {k: (d, shapes[k]) for k, d in reached.items() if needs[k]}
        results = list(dict.fromkeys(wanted.values()))
        program, leaves = written([atom for atom, _ in results])
        kernel = Kernel(program, f"{self.name}, backward", self.dtype)
        places = {k: results.index(r) for k, r in wanted.items()}
        return kernel, leaves, [s for _, s in results], places

    def _float(self, array: np.ndarray) -> np.ndarray:
        return array if array.dtype == self.dtype else array.astype(self.dtype)


class Call(NamedTuple):
    """One call of a compiled function."""

    compiled: Compiled
    shape: Shape
    definition: Callable[..., Any]  # of the same inputs
    outside: tuple[Any, ...]  # the numbers that it read from there


def _forward(*arrays: np.ndarray, call: Call) -> tuple[Any, Any]:
    return call.compiled.forward(arrays, call.shape), (call.compiled, arrays)


def _backward(
    saved: Any, *gs: np.ndarray, needs: tuple[bool, ...], given: tuple[bool, ...]
) -> list[np.ndarray | None]:
    compiled, arrays = saved
    return compiled.backward(arrays, gs, needs, given)  # type: ignore[no-any-return]


class Pointwise:
    """A function of single elements, and what it was compiled to."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self._compiled: dict[Any, Compiled | None] = {}
        functools.update_wrapper(self, fn)
        self._name = getattr(fn, "__name__", type(fn).__name__)
        self._doubts = choice.Doubts(self._name, fn)

        def definition(*inputs: Any, call: Call) -> Any:
            check_outside(self._name, call.outside, self._read())
            return call.definition(*inputs)

        definition.__name__ = self._name
        self._fused = fused(_forward, _backward)(definition)

    def __reduce__(self) -> str:
        """Copied and pickled by name, as functions are."""
        return self.fn.__qualname__

    def __repr__(self) -> str:
        return f"pointwise({self.fn!r})"

    def __call__(self, *args: Any, **options: Any) -> Any:
        given = *args, *options.values()
        tensors: list[Any] = [a for a in given if isinstance(a, (Value, np.ndarray))]
        if MODE.get().definitions or not any(isinstance(a, Value) for a in tensors):
            return self.fn(*args, **options)
        definition = functools.partial(self._filled, kept(given), tuple(options))
        compiled = self._for(definition, tensors, outside := self._read())
        shape = compiled.shape(tuple(a.shape for a in tensors)) if compiled else None
        if compiled is None or shape is None:
            call = functools.partial(definition, *tensors)
            return self._doubts.settled(call, self._compiled, stacklevel=2)
        found = self._fused(*tensors, call=Call(compiled, shape, definition, outside))
        return list(found) if compiled.traced.several is list else found

    def _filled(self, given: Sequence[Any], names: Sequence[str], *inputs: Any) -> Any:
        """A call with these tensors among its arguments, of which the last have names."""
        rest, first = iter(inputs), len(given) - len(names)
        whole = [next(rest) if a is HERE else a for a in given]
        return self.fn(*whole[:first], **dict(zip(names, whole[first:], strict=True)))

    @functools.cached_property
    def _outside(self) -> list[Callable[[], Any]]:
        return numbers_read(self.fn)

    def _read(self) -> tuple[Any, ...]:
        return tuple(read() for read in self._outside)

    def _for(
        self, definition: functools.partial[Any], tensors: Any, outside: tuple[Any, ...]
    ) -> Compiled | None:
        """Its compiled form for such arguments, or None if it can only run by its definition."""
        kinds = "".join(a.dtype.char for a in tensors)
        floats = set(kinds) - {"?"}
        if floats not in ({"f"}, {"d"}):
            return None
        given, names = definition.args
        values = ((type(v), v.hex() if isinstance(v, float) else v)  # 0.0 equals -0.0
                  for v in given)  # fmt: skip
        key = kinds, names, *values, *outside
        try:
            known = key in self._compiled
        except TypeError:  # an argument that cannot be told from others
            return None
        if not known:
            if len(self._compiled) >= REMEMBERED:
                self._compiled.clear()
            self._compiled[key] = self._attempt(definition, kinds, np.dtype(floats.pop()), key)
        return self._compiled[key]

    def _attempt(self, fn: Any, kinds: str, dtype: np.dtype, key: Any) -> Compiled | None:
        if choice.disabled():
            return None
        try:
            return Compiled(traced(fn, kinds, dtype), self._name, dtype)
        except Exception as error:
            self._doubts.keep(error, key)
            return None


def pointwise(fn: Callable[..., Any]) -> Pointwise:
    """Let a function of single elements be compiled: one pass over memory forward, one back.

    The function may use arithmetic, comparisons, `where` and the other elementwise ops, on float32
    or float64 tensors of any shapes that broadcast; it returns a tensor or a tuple of them, all of
    one shape. Python numbers may be arguments too, and those that it reads from the enclosing
    functions or its module may change. Any other function, such as one that looks at values or
    shapes, works by its definition, and a warning says why. The same lines give its derivatives of
    any order.

    >>> import tinygrad_rnn as tg
    >>> @tg.pointwise
    ... def swish(x, beta):
    ...     return x * tg.sigmoid(beta * x)
    >>> x = tg.Tensor([[-1.0, 0.0, 1.0]], requires_grad=True)
    >>> beta = tg.Tensor([[1.0], [2.0]], requires_grad=True)
    >>> swish(x, beta).sum().backward()
    >>> x.grad.shape, beta.grad.shape
    ((1, 3), (2, 1))
    """
    return fn if isinstance(fn, Pointwise) else Pointwise(fn)


HERE = object()  # where a tensor is among arguments


def kept(args: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments without the tensors."""
    return tuple(HERE if isinstance(a, (Value, np.ndarray)) else a for a in args)
