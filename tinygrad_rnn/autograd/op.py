"""`primitive`: the door by which an op comes onto the graph.

A primitive is its array function with one rule per input on top. A rule names what it needs, and
only that is kept for the backward pass:

    @primitive(x=lambda g, y: g * y, y=lambda g, x: g * x)
    def multiply(x: Array, y: Array) -> Array:
        return x * y

`g` is the cotangent of the result, `out` the result, `shape` the shape of the rule's own input;
any other name is a parameter of the op. The op's inputs are the parameters that have a rule or are
annotated `Array`; an op may instead have one annotated `Arrays`, a sequence of inputs, whose rule
gives a sequence. An op with several results returns a tuple, and its rules get a tuple as `g`.
Rules are written with ops: on arrays they give the first-order backward, on Tensors a recorded
graph, so derivatives of any order. A rule may give None where the gradient is zero. Broadcasting is
undone by the backward pass. A name that ends in _ is what stands behind a public function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import numpy as np

from tinygrad_rnn.autograd.graph import (
    MODE,
    Array,
    Needed,
    Node,
    Value,
    announce,
    placed,
    read_only,
    recorded,
    unwrap,
    wrap,
)
from tinygrad_rnn.autograd.wrapper import specialised, ways_back

F = TypeVar("F", bound=Callable[..., Any])

PRIMITIVES: dict[str, Callable[..., Any]] = {}  # this package's own, by name


class Primitive:
    """What the graph knows of an op: its name, and how to pull a cotangent back through it."""

    __slots__ = ("forward", "large", "name", "pull", "pull_graph", "rules")
    large: Any  # the op on large arrays, where NumPy is slow
    pull: Callable[..., Sequence[Array]]
    pull_graph: Callable[..., Sequence[Array]]

    def __init__(self, forward: Callable[..., Any], rules: dict[str, Callable[..., Any]]) -> None:
        self.forward, self.rules, self.name = forward, rules, forward.__name__.rstrip("_")

    def __getattr__(self, name: str) -> Any:
        """The ways back are compiled when the first of them is wanted."""
        if name not in ("pull", "pull_graph"):
            raise AttributeError(name)
        self.pull, self.pull_graph = ways_back(self)
        return getattr(self, name)


@overload
def primitive(**rules: Callable[..., Any]) -> Callable[[F], F]: ...
@overload
def primitive(fn: Callable[..., Any], vjp: Callable[..., Any], /) -> Callable[..., Any]: ...
def primitive(*opaque: Callable[..., Any], **rules: Callable[..., Any]) -> Any:
    """Make an op of an array function.

    `@primitive(x=rule, ...)` decorates a function of arrays whose rules are written with ops, and
    differentiates to any order. `primitive(f, vjp)` takes two opaque NumPy functions,
    `f(*arrays) -> array` and `vjp(*arrays, cotangent) -> array or tuple`, and differentiates once.

    Raises:
        TypeError: if a rule's name is no parameter, or a rule names what the op does not have.

    >>> import numpy as np, tinygrad_rnn as tg
    >>> cube = tg.primitive(lambda x: x**3, lambda x, g: g * 3 * x**2)
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> cube(x).sum().backward()
    >>> x.grad
    Tensor([ 3., 12.], dtype=float32)
    """
    if opaque:
        return opaque_primitive(*opaque)

    def decorate(forward: F) -> F:
        op = Primitive(forward, rules)
        call: Any = functools.update_wrapper(specialised(op), forward)
        call.op = op
        if (forward.__module__ or "").startswith("tinygrad_rnn."):
            PRIMITIVES[forward.__name__] = call
        return call  # type: ignore[no-any-return]

    return decorate


def one_each(name: str, gradients: Any, count: int) -> list[Array]:
    """What a user's backward returned, as one gradient, or None, per input."""
    found = list(gradients) if isinstance(gradients, (tuple, list)) else [gradients]
    if len(found) != count:
        raise ValueError(
            f"{name}: expected one gradient, or None, per input ({count}), got {len(found)}"
        )
    return found


class _Opaque:
    """An op with NumPy functions for both ways: its gradient has no derivative."""

    __slots__ = ("name", "vjp")

    def __init__(self, name: str, vjp: Callable[..., Any]) -> None:
        self.name, self.vjp = name, vjp

    def pull(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]:
        g = read_only(np.asarray(g))  # others may hold it
        found = one_each(self.name, self.vjp(*map(unwrap, saved), g), len(saved))
        return [None if d is None else np.array(d) for d in found]

    def pull_graph(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array]:
        end = _Opaque(f"the vjp of {self.name}", self.no_rule)
        edges = (g._node, *node.edges)
        return [
            None if a is None else wrap(a, Node(end, edges, (), a.shape, a.dtype))
            for a in self.pull(node, saved, g._data, needed)
        ]

    def no_rule(self, *arrays: Any) -> Any:
        raise NotImplementedError(
            f"backward: expected a rule for the gradient of {self.name!r}, got an opaque NumPy "
            "function, which differentiates once; write @tg.primitive(x=lambda g, ...: ...)"
        )


def opaque_primitive(fn: Callable[..., Any], vjp: Callable[..., Any]) -> Callable[..., Any]:
    """An op from `f(*arrays) -> array` and `vjp(*arrays, cotangent) -> array or tuple`."""
    op = _Opaque(getattr(fn, "__name__", "opaque"), vjp)

    @functools.wraps(fn)
    def call(*inputs: Any) -> Any:
        out, mode = fn(*map(unwrap, inputs)), MODE.get()
        if not any(isinstance(v, Value) for v in inputs):
            return out
        if isinstance(out, (tuple, list)):
            raise TypeError(f"{op.name}: expected f(*arrays) -> array, got {type(out).__name__}")
        result = placed(np.asarray(out), recorded(op, mode, inputs, inputs))
        announce(mode, op.name, inputs, result)
        return result

    return call
