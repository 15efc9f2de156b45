"""The graph: which value came from which call.

Nodes are numbered as they are made, so creation order is a topological order. A node keeps what
its op's rules named and nothing else; it never refers to its own output, so dropping the result of
a computation frees its graph at once.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

import numpy as np

Array = Annotated[Any, "an array or a Tensor"]  # rules and ops read either
Arrays = Annotated[Sequence[Any], "arrays or Tensors"]
Needed = dict["Node", bool] | None  # the nodes a backward pass visits; None: all of them

tick = itertools.count(1).__next__  # one clock numbers nodes and writes


class Op(Protocol):
    """What a node knows of the op that made it: how a cotangent `g` is pulled back to its inputs.

    `pull` computes on arrays, `pull_graph` on Tensors; for a call with several outputs `g` is a
    tuple. `node.saved` is None by then if `saved` is being freed, so that a kernel may reuse it.
    """

    name: str

    def pull(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]: ...
    def pull_graph(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]: ...


class Observer(Protocol):
    """Watches a context: each call of an op, and each step of a backward pass."""

    def made(self, name: str, inputs: tuple[Any, ...], outputs: tuple[Value, ...]) -> None: ...
    def pulled(self, node: Node, g: Array, gradients: Sequence[Array]) -> None: ...


class Mode(NamedTuple):
    recording: bool = True
    definitions: bool = False
    observers: tuple[Observer, ...] = ()
    outer: Mode | None = None  # what to return to


USUAL = Mode()
MODE: ContextVar[Mode] = ContextVar("tinygrad_rnn_mode", default=USUAL)  # threads do not share it


class switched(ContextDecorator):
    """Changes the mode inside a `with` block, or inside each call of a decorated function."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def __enter__(self) -> None:
        mode = MODE.get()
        MODE.set(mode._replace(outer=mode, **self.changes))

    def __exit__(self, *error: object) -> None:
        MODE.set(MODE.get().outer or USUAL)

    def __call__(self, fn: Any) -> Any:
        if not inspect.isgeneratorfunction(fn):
            return super().__call__(fn)

        @functools.wraps(fn)
        def steps(*args: Any, **kwargs: Any) -> Iterator[Any]:
            items = fn(*args, **kwargs)
            while True:
                with self:
                    item = next(items, steps)
                if item is steps:
                    return
                yield item

        return steps


def no_grad(fn: Any = None) -> Any:
    """Record nothing: a context manager, or a decorator with or without parentheses.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor(2.0, requires_grad=True)
    >>> with tg.no_grad():
    ...     (x * x).requires_grad
    False
    """
    switch = switched(recording=False)
    return switch if fn is None else switch(fn)


def definitions() -> switched:
    """Run every fused op by its definition instead of its kernels."""
    return switched(definitions=True)


class Value:
    """An array and its place on the graph. `Tensor` adds the operators."""

    __slots__ = ("__weakref__", "_data", "_node")
    kind: ClassVar[Any]  # the class of every result: Tensor
    _data: np.ndarray
    _node: Node | None

    def __init_subclass__(cls) -> None:
        if not hasattr(Value, "kind"):
            Value.kind = cls


def wrap(array: Array, node: Node | None = None) -> Any:
    """A Tensor that shares `array` and stands at `node`."""
    value = object.__new__(Value.kind)
    value._data = array if type(array) is np.ndarray else np.asarray(array)
    value._node = node
    return value


def unwrap(value: Any) -> Any:
    return value._data if isinstance(value, Value) else value


def read_only(array: np.ndarray) -> np.ndarray:
    """The same memory, not to be written through this view."""
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


def shape_of(a: Any) -> tuple[int, ...]:
    """The shape of a Tensor, an array, a number or a list."""
    return a.shape if hasattr(a, "shape") else np.shape(a)


class Notes:
    """What only some nodes carry."""

    __slots__ = ("digest", "grad", "hooks", "keeps", "line")

    def __init__(self, keeps: bool = False) -> None:
        self.keeps = keeps  # whether `backward` leaves the gradient here
        self.grad: Any = None
        self.hooks: dict[int, Callable[[Any], Any]] = {}
        self.line: str | None = None  # the user's line that made the node (detect_anomaly)
        self.digest: int | None = None  # of what the node saved (detect_mutation)


class Node:
    """One recorded call, or a leaf (`op` is None); with several outputs, `shape` is None."""

    __slots__ = ("dtype", "edges", "notes", "number", "op", "saved", "shape")

    def __init__(
        self, op: Op | None, edges: Sequence[Node | None], saved: Any, shape: Any, dtype: Any
    ) -> None:
        self.number = tick()
        self.op, self.edges, self.shape, self.dtype = op, edges, shape, dtype
        self.saved = saved  # None once a backward pass has freed it
        self.notes: Notes | None = None

    def annotate(self) -> Notes:
        self.notes = self.notes or Notes()
        return self.notes

    @property
    def name(self) -> str:
        """The op's name, for messages."""
        call = self.edges[0] if self.op is PICK else self
        return call.op.name if call and call.op else "leaf"


def recorded(op: Op, mode: Mode, inputs: Sequence[Any], saved: Any) -> Node | None:
    """The node of a call, if it is recorded and an input wants a gradient."""
    edges = [v._node if isinstance(v, Value) else None for v in inputs]
    return Node(op, edges, saved, None, None) if mode.recording and any(edges) else None


def wanted(nodes: Sequence[Node | None], needed: Needed) -> tuple[bool, ...]:
    """Which of the inputs of a call want a gradient in this backward pass."""
    return tuple(n is not None and (needed is None or n in needed) for n in nodes)


def leaf(array: np.ndarray) -> Node:
    node = Node(None, (), (), array.shape, array.dtype)
    node.notes = Notes(keeps=True)
    return node


class Cotangents(tuple[Array, ...]):
    """Of all outputs of a call: zeros where none is `given`."""

    given: tuple[bool, ...] = (True,)


class Parts:
    """Cotangents of some outputs of a call that has several; the others are zero."""

    __slots__ = ("given", "outputs")
    shape = dtype = None
    base = ()  # never one that may change

    def __init__(self, outputs: Sequence[tuple[Any, Any]], given: dict[int, Array]) -> None:
        self.outputs, self.given = outputs, given

    def __add__(self, other: Parts) -> Parts:
        both = {k: self.given[k] + other.given[k] for k in self.given.keys() & other.given.keys()}
        return Parts(self.outputs, self.given | other.given | both)

    def filled(self, graph: bool) -> Cotangents:
        missing = {k: np.zeros(*o) for k, o in enumerate(self.outputs) if k not in self.given}
        zeros = {k: wrap(a) for k, a in missing.items()} if graph else missing
        found = Cotangents((self.given | zeros)[k] for k in range(len(self.outputs)))
        found.given = tuple(k in self.given for k in range(len(found)))
        return found


class _Pick:
    """The op of one output of a call that has several."""

    name = "pick"

    def pull(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]:
        k, outputs = saved
        return (Parts(outputs, {k: g}),)

    pull_graph = pull


PICK = _Pick()


def spread(arrays: Sequence[Any], node: Node | None) -> tuple[Any, ...]:
    """Wrap the outputs of one call, each at a place of its own."""
    arrays = [np.asarray(a) for a in arrays]
    outputs = [(a.shape, a.dtype) for a in arrays]
    places = [
        Node(PICK, (node,), (k, outputs), a.shape, a.dtype)
        if node and a.dtype.kind == "f"
        else None
        for k, a in enumerate(arrays)
    ]
    return tuple(map(wrap, arrays, places))


def placed(out: Any, node: Node | None) -> Any:
    """Wrap what a call on `node` gave: an array, or a tuple of them; integers leave the graph."""
    if isinstance(out, (tuple, list)):
        return spread(out, node)
    if isinstance(out, Value):
        raise TypeError(
            "op: expected an array from an array function, got a Tensor, which came in by a "
            "parameter without a rule; give it one, or annotate it tg.Array"
        )
    array = np.asarray(out)
    if array.dtype.char == "e":
        raise TypeError(
            "op: expected integers of 32 or 64 bits for a floating-point result, got smaller ones, "
            "for which NumPy gives float16; convert with .astype('float32')"
        )
    if node is None or array.dtype.kind != "f":
        return wrap(array)
    node.shape, node.dtype = array.shape, array.dtype
    return wrap(array, node)


def announce(mode: Mode, name: str, inputs: tuple[Any, ...], result: Any) -> None:
    """Tell the observers of a call."""
    for observer in mode.observers:
        observer.made(name, inputs, result if isinstance(result, tuple) else (result,))
