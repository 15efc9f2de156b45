"""`fused` and `checkpoint`: calls that stand on the graph as one node and carry their definition.

Both differentiate by running the definition again on the tensors themselves and walking the new
part of the graph only: a cotangent stops where it reaches a node older than the replay, so an
input computed from another input is never counted twice.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import generator
from tinygrad_rnn.autograd.flow import flow, frontier
from tinygrad_rnn.autograd.graph import (
    MODE,
    Array,
    Needed,
    Node,
    Parts,
    Value,
    spread,
    switched,
    tick,
    wrap,
)


def replay(fn: Callable[[], Any], g: Array, graph: bool) -> dict[Node, Array]:
    """Run `fn` again, recorded; what its older inputs get from the cotangent `g` of its outputs."""
    start = tick()
    with switched(recording=True):
        outputs = fn()
    several = isinstance(outputs, (tuple, list))
    nodes = [v._node for v in outputs] if several else [outputs._node]
    gs = g.filled() if isinstance(g, Parts) else (g,)
    with switched(recording=graph):
        return flow(nodes, gs, graph=graph, keep=graph, floor=start)


def placed(outputs: Any, node: Node | None) -> Any:
    """Wrap the array, or the tuple of arrays, that a call on `node` gave."""
    if isinstance(outputs, (tuple, list)):
        return spread([np.asarray(a) for a in outputs], node)
    out = np.asarray(outputs)
    if node is not None:
        node.shape, node.dtype = out.shape, out.dtype
    return wrap(out, node)


class _Fused:
    """A definition with kernels of its own for both ways."""

    __slots__ = ("backward", "definition", "name", "tells")

    def __init__(self, definition: Callable[..., Any], backward: Callable[..., Any]) -> None:
        self.definition, self.backward, self.name = definition, backward, definition.__name__
        parameters = inspect.signature(backward).parameters
        self.tells = [n for n in ("needs", "freeing") if n in parameters]

    def pull(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]:
        kept = saved[2]
        gs = g.filled() if isinstance(g, Parts) else (g,)
        needs = tuple(n is not None and (needed is None or n in needed) for n in node.edges)
        told = {"needs": needs, "freeing": node.saved is None}
        found = self.backward(kept, *gs, **{n: told[n] for n in self.tells})
        return [d if want else None for d, want in zip(found, needs, strict=True)]

    def pull_graph(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]:
        inputs, meta, _ = saved
        found = replay(lambda: self.definition(*inputs, **meta), g, graph=True)
        return [found.pop(n, None) if n is not None else None for n in node.edges]


def fused(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """Give a definition (a function of ops) kernels; the definition remains the specification.

    `forward(*arrays, **metadata) -> (output or tuple of outputs, saved)` and
    `backward(saved, *cotangents) -> one gradient, or None, per input` compute on NumPy arrays.
    `backward` may also have parameters `needs` (which inputs want a gradient, a tuple of bool) and
    `freeing` (whether it may overwrite `saved`). Derivatives of gradients, and `definitions()`,
    use the definition.

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
            if mode.definitions or not any(isinstance(v, Value) for v in inputs):
                return definition(*inputs, **meta)
            arrays = (v._data if isinstance(v, Value) else v for v in inputs)
            outputs, saved = forward(*arrays, **meta)
            edges = tuple(v._node if isinstance(v, Value) else None for v in inputs)
            live = mode.recording and any(n is not None for n in edges)
            node = Node(op, edges, (inputs, meta, saved), None, None) if live else None
            result = placed(outputs, node)
            for observer in mode.observers:
                observer.made(op.name, inputs, result if type(result) is tuple else (result,))
            return result

        call.definition = definition  # type: ignore[attr-defined]
        return call

    return decorate


class _Checkpoint:
    """A function whose inner results are computed again on the way back."""

    __slots__ = ("fn", "rng_state")
    name = "checkpoint"

    def __init__(self, fn: Callable[[], Any], rng_state: dict[str, Any]) -> None:
        self.fn, self.rng_state = fn, rng_state

    def again(self, node: Node, g: Array, graph: bool) -> Sequence[Array]:
        now = generator.get_rng_state()
        generator.set_rng_state(self.rng_state)
        try:
            found = replay(self.fn, g, graph)
        finally:
            generator.set_rng_state(now)
        return [found.get(n) for n in node.edges if n is not None]

    def pull(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]:
        return self.again(node, g, graph=False)

    def pull_graph(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]:
        return self.again(node, g, graph=True)


def checkpoint(fn: Callable[..., Any], *inputs: Any) -> Any:
    """Call `fn(*inputs)` and keep none of its inner results: the backward pass runs it again.

    Memory for time (Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost). Tensors that
    `fn` closes over get their gradients too; draws from the default generator are repeated.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor(0.5, requires_grad=True)
    >>> tg.checkpoint(lambda x: tg.exp(tg.sin(x)), x).backward()
    >>> round(x.grad.item(), 4)
    1.4174
    """
    if not MODE.get().recording:
        return fn(*inputs)
    rng_state, start = generator.get_rng_state(), tick()
    outputs = fn(*inputs)
    several = isinstance(outputs, (tuple, list))
    edges = tuple(frontier([v._node for v in outputs] if several else [outputs._node], start))
    op = _Checkpoint(lambda: fn(*inputs), rng_state)
    node = Node(op, edges, inputs, None, None) if edges else None
    return placed([v._data for v in outputs] if several else outputs._data, node)
