"""`fused` and `checkpoint`: calls that stand on the graph as one node and carry their definition.

Both differentiate by running the definition again on the tensors themselves and walking the new
part of the graph only: a cotangent stops where it reaches a node older than the replay, so an
input computed from another input is never counted twice.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import generator
from tinygrad_rnn.autograd.flow import exclusive, flow, frontier
from tinygrad_rnn.autograd.graph import (
    MODE,
    Array,
    Cotangents,
    Needed,
    Node,
    Value,
    announce,
    placed,
    read_only,
    recorded,
    switched,
    tick,
    unwrap,
    wanted,
)
from tinygrad_rnn.autograd.op import one_each


def places(outputs: Any) -> list[Node | None]:
    """Where the outputs of a call stand: a Tensor, or a sequence of them."""
    values = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    for v in values:
        if not isinstance(v, Value):
            raise TypeError(
                "checkpoint, fused: expected a function that returns Tensors, "
                f"got {type(v).__name__}"
            )
    return [v._node for v in values]


def replay(fn: Callable[[], Any], g: Array, graph: bool) -> dict[Node, Array]:
    """Run `fn` again, recorded; what its older inputs get from the cotangent `g` of its outputs."""
    start = tick()
    with switched(recording=True):
        nodes = places(fn())
    with switched(recording=graph):
        gs = g if isinstance(g, Cotangents) else Cotangents((g,))
        present = [d if there else None for d, there in zip(gs, gs.given, strict=True)]
        return flow(nodes, present, graph=graph, keep=graph, floor=start)


class _Fused:
    """A definition with kernels of its own for both ways."""

    __slots__ = ("backward", "definition", "name", "tells", "trusted")

    def __init__(self, definition: Callable[..., Any], backward: Callable[..., Any]) -> None:
        self.definition, self.backward, self.name = definition, backward, definition.__name__
        parameters = inspect.signature(backward).parameters
        self.tells = [n for n in ("needs", "given", "freeing") if n in parameters]
        # Ours write to no cotangent, and give each gradient as an array of its own.
        self.trusted = (backward.__module__ or "").startswith("tinygrad_rnn.")

    def pull(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]:
        needs = wanted(node.edges, needed)
        gs = g if isinstance(g, Cotangents) else Cotangents((g,))
        told = {"needs": needs, "given": gs.given, "freeing": node.saved is None}
        sent = gs if self.trusted else [read_only(np.asarray(d)) for d in gs]
        back = self.backward(saved[2], *sent, **{n: told[n] for n in self.tells})
        found = one_each(self.name, back, len(needs))
        del back
        for k, want in enumerate(needs):  # by position: another name would be another reference
            if not want or found[k] is None:
                found[k] = None
            elif not self.trusted and (type(found[k]) is not np.ndarray or not exclusive(found, k)):
                found[k] = np.array(found[k])
        return found

    def pull_graph(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]:
        inputs, meta, _ = saved
        found = replay(lambda: self.definition(*inputs, **meta), g, graph=True)
        return [found.pop(n, None) if n is not None else None for n in node.edges]


def fused(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """Give a definition (a function of ops) kernels; the definition remains the specification.

    `forward(*arrays, **metadata) -> (output or tuple of outputs, saved)` and
    `backward(saved, *cotangents) -> one gradient, or None, per input` compute on NumPy arrays.
    `backward` may also have parameters `needs` (which inputs want a gradient, a tuple of bool),
    `given` (which outputs have a cotangent, a tuple of bool; the others' are zeros) and `freeing`
    (whether it may overwrite `saved`). Derivatives of gradients, and `definitions()`, use the
    definition.

    >>> import tinygrad_rnn as tg
    >>> @tg.fused(lambda x: (x * x, x), lambda x, g: (2.0 * x * g,))
    ... def square(x):
    ...     return x * x
    >>> x = tg.Tensor(3.0, requires_grad=True)
    >>> tg.grad(square(x), x)
    (Tensor(6., dtype=float32),)
    """

    def decorate(definition: Callable[..., Any]) -> Callable[..., Any]:
        op = _Fused(definition, backward)

        @functools.wraps(definition)
        def call(*inputs: Any, **meta: Any) -> Any:
            mode = MODE.get()
            if any(isinstance(v, Value) for v in meta.values()):
                raise TypeError(f"{op.name}: expected tensors by position, got one by keyword")
            if mode.definitions or not any(isinstance(v, Value) for v in inputs):
                return definition(*inputs, **meta)
            out, saved = forward(*map(unwrap, inputs), **meta)
            result = placed(out, recorded(op, mode, inputs, (inputs, meta, saved)))
            announce(mode, op.name, inputs, result)
            return result

        call.definition = definition  # type: ignore[attr-defined]
        return call

    return decorate


class _Checkpoint:
    """A function whose inner results are computed again on the way back."""

    name = "checkpoint"

    def again(self, node: Node, saved: Any, g: Array, graph: bool) -> Sequence[Array]:
        fn, inputs, rng_state, definitions, _ = saved
        token = generator.REPLAYED.set(generator.replaying(rng_state))
        try:
            with switched(definitions=definitions):
                found = replay(lambda: fn(*inputs), g, graph)
        finally:
            generator.REPLAYED.reset(token)
        if not found.keys() <= set(node.edges):
            raise RuntimeError(
                "checkpoint: expected the function to read the same tensors again, but it read "
                "another; a loop's variable it closes over has moved on: pass it as an input"
            )
        return [found.get(n) for n in node.edges if n is not None]

    def pull(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]:
        return self.again(node, saved, g, graph=False)

    def pull_graph(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]:
        return self.again(node, saved, g, graph=True)


CHECKPOINT = _Checkpoint()


class _Readings:
    """Observes which tensors older than `start` a function reads; those off the graph weakly,
    since the function may have made them."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.values: dict[int, Any] = {}

    def made(self, name: str, inputs: tuple[Any, ...], outputs: tuple[Value, ...]) -> None:
        for v in inputs:
            if isinstance(v, (tuple, list)):
                self.made(name, tuple(v), outputs)
            elif isinstance(v, Value) and (v._node is None or v._node.number < self.start):
                self.values[id(v)] = weakref.ref(v) if v._node is None else v

    def pulled(self, node: Node, g: Array, gradients: Sequence[Array]) -> None:
        """Only the forward pass is of interest."""


def checkpoint(fn: Callable[..., Any], *inputs: Any) -> Any:
    """Call `fn(*inputs)` and, once it has returned, keep none of its inner results: the backward
    pass runs it again.

    Memory for time (Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost). Tensors that
    `fn` closes over get their gradients too; draws from the default generator are repeated.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor(0.5, requires_grad=True)
    >>> tg.checkpoint(lambda x: tg.exp(tg.sin(x)), x).backward()
    >>> round(x.grad.item(), 4)
    1.4174
    """
    mode = MODE.get()
    if not mode.recording:
        return fn(*inputs)
    rng_state, readings = generator.get_rng_state(), _Readings(start := tick())
    with switched(observers=(*mode.observers, readings)):
        outputs = fn(*inputs)
    edges = frontier(places(outputs), start)
    saved = (fn, inputs, rng_state, mode.definitions, tuple(readings.values.values()))
    node = Node(CHECKPOINT, edges, saved, None, None) if edges else None
    several = isinstance(outputs, (tuple, list))
    result = placed([v._data for v in outputs] if several else outputs._data, node)
    announce(mode, CHECKPOINT.name, inputs, result)
    return result
