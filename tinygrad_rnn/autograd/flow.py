"""The backward pass: how cotangents flow back along the graph. Nothing here recurses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from sys import getrefcount
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import writes
from tinygrad_rnn.autograd.graph import (
    MODE,
    Array,
    Needed,
    Node,
    Notes,
    Value,
    shape_of,
    unwrap,
    wrap,
)


def unbroadcast(g: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Undo broadcasting and promotion: the one place where a cotangent is fitted to its input."""
    if g.shape != shape:
        lead = g.ndim - len(shape)
        axes = list(range(lead))
        for axis, n in enumerate(shape, lead):
            if axis < 0 or n not in (1, g.shape[axis]):
                raise ValueError("no broadcast of the input's shape")
            if n != g.shape[axis]:
                axes.append(axis)
        reduce = np.add.reduce if type(g) is np.ndarray else type(g).sum
        g = reduce(g, tuple(axes)).reshape(shape)
    return g if g.dtype == dtype else g.astype(dtype)


def misfit(node: Node, gradients: Sequence[Array], error: Exception) -> Exception:
    """What to raise when a gradient does not fit the input it is for."""
    for parent, d in zip(node.edges, gradients, strict=True):
        if parent is None or d is None:
            continue
        try:
            unbroadcast(d, parent.shape, parent.dtype)
        except (AttributeError, ValueError):
            got = f"shape {d.shape}" if hasattr(d, "shape") else type(d).__name__
            return ValueError(
                f"backward of {node.name!r}: expected a gradient of shape {parent.shape}, "
                f"got {got}; mend its rule"
            )
    return error


def ancestors(nodes: Iterable[Node | None], floor: int = 0) -> list[Node]:
    """All nodes that `nodes` came from, themselves included, oldest first; older than `floor` are
    not entered."""
    seen = {n for n in nodes if n is not None}
    stack = [n for n in seen if n.number >= floor]
    while stack:
        for n in stack.pop().edges:
            if n is not None and n not in seen:
                seen.add(n)
                if n.number >= floor:
                    stack.append(n)
    return sorted(seen, key=attrgetter("number"))


def frontier(nodes: Iterable[Node | None], floor: int) -> list[Node]:
    """The nodes older than `floor` that `nodes` were computed from."""
    return [n for n in ancestors(nodes, floor) if n.number < floor]


def leading_to(order: Iterable[Node], targets: Collection[Node]) -> dict[Node, bool]:
    """Of the nodes in creation order, those on the way to `targets`: node -> whether any target
    lies further back."""
    needed = {}
    for node in order:
        for n in node.edges:
            if n in needed:
                needed[node] = True
                break
        else:
            if node in targets:
                needed[node] = False
    return needed


def flow(
    nodes: Sequence[Node | None],
    cotangents: Sequence[Array],
    *,
    graph: bool = False,
    keep: bool = False,
    targets: Collection[Node] | None = None,
    floor: int = 0,
) -> dict[Node, Array]:
    """Send cotangents back from `nodes`; return what arrives at the nodes where the pass ends.

    It ends at leaves and at nodes older than `floor`; with `targets` only the ways to them are
    walked. With `graph` the cotangents are Tensors and the pass is recorded; without `keep` what
    the nodes saved is freed on the way.
    """
    order = ancestors(nodes, min((n.number for n in targets), default=0) if targets else floor)
    needed: Needed = None if targets is None else leading_to(order, targets)
    pending: dict[Node, Array] = {}
    deliver(nodes, cotangents, pending, graph)
    found: dict[Node, Array] = {}
    observers = MODE.get().observers
    while order:
        node = order.pop()
        if node not in pending or (needed is not None and node not in needed):
            continue
        g, op, notes = pending.pop(node), node.op, node.notes
        if node.shape is None:
            g = g.filled(graph)
        if notes is not None and notes.hooks and node.number >= floor:
            g = hooked(node, notes, g, graph)
        ends = op is None or node.number < floor or (needed is not None and not needed[node])
        if ends or (notes is not None and notes.keeps) or (targets is not None and node in targets):
            found[node] = g
        if ends or op is None:
            continue
        saved = node.saved
        if saved is None or notes is not None or writes.latest > node.number:
            writes.check(node)
        if not keep:
            node.saved = None
        gradients = (op.pull_graph if graph else op.pull)(node, saved, g, needed)
        for observer in observers:
            observer.pulled(node, g, gradients)
        deliver(node.edges, gradients, pending, graph, node)
    return found


def deliver(
    nodes: Sequence[Node | None],
    cotangents: Sequence[Array],
    pending: dict[Node, Array],
    graph: bool,
    source: Node | None = None,
) -> None:
    """Add cotangents, which `source` sends, to what waits at `nodes`."""
    try:
        for node, d in zip(nodes, cotangents):  # noqa: B905 (one each by construction; this is hot)
            if d is None or node is None:
                continue
            if d.shape != node.shape or d.dtype is not node.dtype:
                d = unbroadcast(d, node.shape, node.dtype)
            if node not in pending:
                pending[node] = d
            elif not graph and exclusive(pending, node):
                pending[node] += d
            else:
                pending[node] = pending[node] + d
    except (AttributeError, ValueError) as error:
        raise (misfit(source, cotangents, error) if source else error) from None


def exclusive(held: Any, key: Any) -> bool:
    """Whether nothing but `held` refers to an array and its memory, which may then change."""
    if held[key].base is not None or not held[key].flags.writeable:
        return False
    return references(held, key) == ALONE


def references(held: Any, key: Any) -> int:
    array = held[key]
    return getrefcount(array)


ALONE = references({0: np.empty(1)}, 0)  # it depends on the interpreter


def hooked(node: Node, notes: Notes, g: Array, graph: bool) -> Array:
    """The cotangent of a node after its hooks."""
    for hook in tuple(notes.hooks.values()):
        replaced = hook(g if graph else wrap(g))
        if replaced is None:
            continue
        if shape_of(replaced) != node.shape:
            raise ValueError(
                f"register_hook: expected a hook that returns None or a gradient of shape "
                f"{node.shape}, got shape {shape_of(replaced)}"
            )
        if not graph:
            g = np.asarray(unwrap(replaced))
        else:
            g = replaced if isinstance(replaced, Value) else wrap(replaced)
        g = g if g.dtype == node.dtype else g.astype(node.dtype)
    return g
