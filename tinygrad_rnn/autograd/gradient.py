"""`grad` and `backward`: gradients of recorded results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.errors import array_of
from tinygrad_rnn.autograd.flow import exclusive, flow
from tinygrad_rnn.autograd.graph import Array, Node, Value, switched, wrap


def cotangent_of(output: Any, g: Any, where: str) -> Value:
    """The cotangent `g` of `output` as a Tensor; None means 1 and only suits a single element."""
    if not isinstance(output, Value):
        raise TypeError(f"{where}: expected a Tensor as output, got {type(output).__name__}")
    data = output._data
    if output._node is None:
        raise RuntimeError(
            f"{where}: expected an output that was computed from a tensor with requires_grad=True, "
            "got one that has no graph (made under no_grad, detached, or from plain data)"
        )
    if g is None:
        if data.size != 1:
            raise RuntimeError(
                f"{where}: expected an output with one element, got shape {data.shape}; "
                "reduce it (.sum(), .mean()) or pass the gradient of each element"
            )
        g = np.ones_like(data)
    value: Value = g if isinstance(g, Value) else wrap(np.array(array_of(g, where)))
    if value._data.shape != data.shape:
        raise ValueError(
            f"{where}: expected a gradient of the output's shape {data.shape}, "
            f"got {value._data.shape}"
        )
    return value


def run(
    outputs: Sequence[Value],
    cotangents: Sequence[Value],
    *,
    graph: bool,
    keep: bool,
    targets: set[Node] | None,
) -> dict[Node, Array]:
    """One backward pass from checked arguments."""
    gs: list[Any] = list(cotangents) if graph else [g._data for g in cotangents]
    with switched(recording=graph), np.errstate(all="ignore"):
        return flow([v._node for v in outputs], gs, graph=graph, keep=keep, targets=targets)


def backward(output: Value, gradient: Any, retain_graph: bool) -> None:
    """Add the gradients of `output` to the `.grad` of the leaves behind it."""
    g = cotangent_of(output, gradient, "backward")
    found = run([output], [g], graph=False, keep=retain_graph, targets=None)
    for node in list(found):
        notes = node.notes
        if notes is not None and notes.keeps:
            owned = notes.grad is None and exclusive(found, node)
            d = found.pop(node) if owned else np.array(found.pop(node))
            notes.grad = wrap(d if notes.grad is None else notes.grad._data + d)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs` with respect to `inputs`, as torch.autograd.grad.

    Args:
        outputs: a Tensor or a sequence of them.
        inputs: a Tensor or a sequence of them, each with requires_grad.
        grad_outputs: the cotangent of each output; None for outputs with one element.
        create_graph: record the backward pass, so that the gradients can be differentiated.
        retain_graph: keep what the graph saved for another pass; by default as `create_graph`.
        allow_unused: give None for an input that no output depends on, instead of raising.

    Raises:
        RuntimeError: if an output is no scalar and has no cotangent, or an input was not used.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor(2.0, requires_grad=True)
    >>> (g,) = tg.grad(x**3, x, create_graph=True)
    >>> tg.grad(g, x)
    (Tensor(12., dtype=float32),)
    """
    outputs, inputs = (
        [v] if isinstance(v, Value) or not hasattr(v, "__iter__") else list(v)
        for v in (outputs, inputs)
    )
    if not isinstance(grad_outputs, (tuple, list)):
        grad_outputs = [grad_outputs] * len(outputs)
    if len(grad_outputs) != len(outputs):
        raise ValueError(
            f"grad: expected {len(outputs)} grad_outputs, one per output, got {len(grad_outputs)}"
        )
    cotangents = [cotangent_of(v, g, "grad") for v, g in zip(outputs, grad_outputs, strict=True)]
    for i, v in enumerate(inputs):
        if not isinstance(v, Value) or v._node is None:
            raise RuntimeError(
                f"grad: expected inputs that require a gradient, but input {i} does not; "
                "make it with requires_grad=True before the outputs are computed"
            )
    keep = create_graph if retain_graph is None else retain_graph
    targets = {v._node for v in inputs}
    found = run(outputs, cotangents, graph=create_graph, keep=keep, targets=targets)
    missing = [i for i, v in enumerate(inputs) if v._node not in found]
    if missing and not allow_unused:
        raise RuntimeError(
            f"grad: expected outputs that depend on every input, but input {missing[0]} was not "
            "used; pass allow_unused=True to get None for it"
        )
    gradients = (found.get(v._node) for v in inputs)
    return tuple(g if g is None or isinstance(g, Value) else wrap(g) for g in gradients)
