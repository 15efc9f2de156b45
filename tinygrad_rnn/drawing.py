"""The recorded graph as Graphviz DOT text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinygrad_rnn.autograd.flow import ancestors
from tinygrad_rnn.autograd.graph import PICK, Node, Value


def _label(node: Node, name: str | None) -> str:
    shape = "" if node.shape is None else f"\\n{tuple(node.shape)}"
    if node.op is PICK:
        return f"[{node.saved[0] if node.saved else '·'}]{shape}"
    return f"{name or (node.op.name if node.op else 'leaf')}{shape}"


def to_dot(outputs: Value | Sequence[Value], names: Mapping[str, Value] | None = None) -> str:
    """The graph behind `outputs` as Graphviz DOT: leaves are boxes, ops ellipses, data flows down.

    Args:
        outputs: a Tensor or several.
        names: labels for tensors, e.g. `dict(model.named_parameters())`.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor(2.0, requires_grad=True)
    >>> print(tg.to_dot(tg.exp(x), {"x": x}))
    digraph {
      rankdir=TB; node [fontname="Helvetica"];
      n0 [shape=box, label="x\\n()"];
      n1 [label="exp\\n()"];
      n0 -> n1;
    }
    """
    values = [outputs] if isinstance(outputs, Value) else list(outputs)
    named = {v._node: name.replace('"', "'") for name, v in (names or {}).items() if v._node}
    nodes = ancestors([v._node for v in values])
    places = {node: k for k, node in enumerate(nodes)}
    lines = []
    for node, k in places.items():
        box = "" if node.op else "shape=box, "
        lines.append(f'  n{k} [{box}label="{_label(node, named.get(node))}"];')
        lines += [f"  n{places[edge]} -> n{k};" for edge in node.edges if edge is not None]
    return "\n".join(["digraph {", '  rankdir=TB; node [fontname="Helvetica"];', *lines, "}"])
