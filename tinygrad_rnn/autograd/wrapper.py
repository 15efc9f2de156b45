"""The wrapper of a primitive, written out once at decoration: nothing is looked up per call.

From an op's signature and its rules come three small functions: the call (compute, then record
what the rules of the inputs that want a gradient name), and the two ways back (on arrays, and on
Tensors). `call.source` holds the text.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.errors import explain, operand
from tinygrad_rnn.autograd.graph import (
    MODE,
    Array,
    Arrays,
    Needed,
    Node,
    Parts,
    Value,
    spread,
    tick,
    wrap,
)

TEMPLATE = """
def call{signature}:
    {unpack}
    try:
        _out = _forward({arguments})
    except Exception as _error:
        raise _explain(_op.name, _forward, _error, ({arrays},)) from _error.__cause__
    _live = {live}
    if not _live and not ({tensors}):
        return _out
    _several = type(_out) is tuple
    if not _several and type(_out) is not _ndarray:
        _out = _asarray(_out)
    _node, _mode = None, _MODE.get()
    if _live and _mode.recording:
        _node = _new(_Node)  # what Node(...) does, without the call
        _node.number, _node.op, _node.edges, _node.saved = _tick(), _op, {edges}, ({saved})
        _node.shape = _node.dtype = _node.notes = None
    if _several:
        _result = _spread(_out, _node)
    else:
        if _node is not None:
            _node.shape, _node.dtype = _out.shape, _out.dtype
        _result = _new(_Value.kind)  # what wrap(...) does, without the call
        _result._data, _result._node = _out, _node
    if _mode.observers:
        for _observer in _mode.observers:
            _observer.made(_op.name, ({parameters},), _result if _several else (_result,))
    return _result

def pull(_node, _saved, _g, _needed):
    ({kept}) = _saved
    {unedge} = _node.edges
    if type(_g) is _Parts:
        _g = _g.filled()
    return {pull}

def pull_graph(_node, _saved, _g, _needed):
    ({kept}) = _saved
    {unedge} = _node.edges
    if type(_g) is _Parts:
        _g = _g.filled()
    return {pull_graph}
"""
ONE = """
    if isinstance({x}, _Value):
        _{x}, _{x}_node = {x}._data, {x}._node
    else:
        {x} = _{x} = {x} if type({x}) is _ndarray else _operand({x}, _op.name)
        _{x}_node = None"""
MANY = """
    {x} = tuple({x})
    _{x} = [v._data if isinstance(v, _Value) else _operand(v, _op.name) for v in {x}]
    _{x}_node = tuple([v._node if isinstance(v, _Value) else None for v in {x}])"""


def masked(gradients: Sequence[Array], nodes: Sequence[Node | None], needed: Needed) -> list[Array]:
    """The gradients of a sequence of inputs that somebody asked for."""
    wanted = [n is not None and (needed is None or n in needed) for n in nodes]
    return [d if w else None for d, w in zip(gradients, wanted, strict=True)]


class _Named:
    """A default value that prints as a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


NAMES = {
    "_MODE": MODE,
    "_Node": Node,
    "_Parts": Parts,
    "_Value": Value,
    "_asarray": np.asarray,
    "_explain": explain,
    "_masked": masked,
    "_ndarray": np.ndarray,
    "_new": object.__new__,
    "_operand": operand,
    "_spread": spread,
    "_tick": tick,
    "_wrap": wrap,
}


def listed(names: Sequence[str]) -> str:
    return "".join(f"{n}, " for n in names)


def input_kind(annotation: Any) -> str | None:
    """Whether a parameter is annotated as an input, or a sequence of them."""
    name = {id(Array): "Array", id(Arrays): "Arrays"}.get(id(annotation), str(annotation))
    name = name.rsplit(".")[-1]
    return name if name in ("Array", "Arrays") else None


class Plan:
    """What is known of an op at decoration: its parameters, its inputs and what its rules keep."""

    def __init__(self, op: Any) -> None:
        self.op = op
        self.parameters = dict(inspect.signature(op.forward).parameters)
        kinds = {p: input_kind(v.annotation) for p, v in self.parameters.items()}
        self.inputs = [p for p, kind in kinds.items() if kind or p in op.rules]
        self.sequence = "Arrays" in kinds.values()
        self.ruled = [p for p in self.inputs if p in op.rules]
        self.wants = {x: tuple(inspect.signature(op.rules[x]).parameters) for x in self.ruled}
        self.keep: dict[str, list[str]] = {}  # name -> the inputs whose rules need it
        for x, names in self.wants.items():
            for name in names:
                if name not in ("g", "shape"):
                    self.keep.setdefault(name, []).append(x)
        self.check()

    def check(self) -> None:
        where = f"primitive {self.op.name}"
        for x in self.op.rules:
            if x not in self.inputs:
                raise TypeError(
                    f"{where}: expected rules for its parameters {list(self.parameters)}, "
                    f"got one for {x!r}"
                )
        for name in self.keep:
            if name != "out" and name not in self.parameters:
                raise TypeError(
                    f"{where}: expected rules that name g, out, shape or one of its parameters "
                    f"{list(self.parameters)}, got {name!r}"
                )
        if self.sequence and len(self.inputs) > 1:
            raise TypeError(f"{where}: expected one Arrays parameter and no Array beside it")

    def signature(self) -> str:
        empty = inspect.Parameter.empty
        bare = [
            p.replace(
                annotation=empty, default=empty if p.default is empty else _Named(f"_{n}_default")
            )
            for n, p in self.parameters.items()
        ]
        return str(inspect.Signature(bare))

    def kept(self, name: str) -> str:
        """What is saved under `name`: nothing where no rule that needs it will run."""
        value = "_out" if name == "out" else name
        if len(self.keep[name]) == len(self.ruled):
            return value
        return (
            f"{value} if {' or '.join(f'_{x}_node is not None' for x in self.keep[name])} else None"
        )

    def gradient(self, x: str, graph: bool) -> str:
        """The expression of one input's gradient."""
        rule = f"_rule_{x}({', '.join(self.read(x, name, graph) for name in self.wants[x])})"
        if self.sequence:
            return f"_masked({rule}, _{x}_node, _needed)"
        wanted = f"_{x}_node is not None and (_needed is None or _{x}_node in _needed)"
        return f"{rule} if {wanted} else None"

    def read(self, x: str, name: str, graph: bool) -> str:
        """How a rule's parameter is read on the way back."""
        special = {"g": "_g", "shape": f"_{x}_node.shape", "out": "_saved_out"}
        if name == "out" and graph:
            return "_wrap(_saved_out, _node)"
        if name in special or graph or name not in self.inputs:
            return special.get(name, name)
        if self.sequence:
            return f"[v._data if isinstance(v, _Value) else v for v in {name}]"
        return f"{name}._data if isinstance({name}, _Value) else {name}"

    def gradients(self, graph: bool) -> str:
        each = [self.gradient(x, graph) for x in self.ruled]
        return each[0] if self.sequence else f"({listed(each)})"

    def fill(self) -> str:
        """The text of the three functions."""
        seq, ruled = self.sequence, self.ruled
        arguments = {
            p: f"{p}={'_' * (p in self.inputs)}{p}" if v.kind is v.KEYWORD_ONLY
            else f"{'_' * (p in self.inputs)}{p}"
            for p, v in self.parameters.items()
        }  # fmt: skip
        nodes = (
            f"_{ruled[0]}_node" if seq and ruled else f"({listed([f'_{x}_node' for x in ruled])})"
        )
        live = [f"any(_{x}_node)" if seq else f"_{x}_node is not None" for x in ruled]
        holds = "any(isinstance(v, _Value) for v in {0})" if seq else "isinstance({0}, _Value)"
        return TEMPLATE.format(
            signature=self.signature(),
            unpack="".join((MANY if seq else ONE).format(x=x) for x in self.inputs).strip(),
            arguments=", ".join(arguments.values()),
            arrays=", ".join(f"_{x}" for x in self.inputs),
            live=" or ".join(live) or "False",
            tensors=" or ".join(holds.format(x) for x in self.inputs),
            edges=nodes,
            unedge=nodes if ruled else "_",
            saved=listed([self.kept(n) for n in self.keep]),
            kept=listed(["_saved_out" if n == "out" else n for n in self.keep]),
            parameters=", ".join(self.parameters),
            pull=self.gradients(graph=False),
            pull_graph=self.gradients(graph=True),
        )


def specialised(op: Any) -> Callable[..., Any]:
    """Write out and compile the wrapper of `op`, and give `op` its two ways back."""
    plan = Plan(op)
    source = plan.fill()
    filename = f"<primitive {op.name}>"
    space = {
        **NAMES,
        "_op": op,
        "_forward": op.forward,
        **{f"_rule_{x}": rule for x, rule in op.rules.items()},
        **{f"_{n}_default": p.default for n, p in plan.parameters.items()},
    }
    exec(compile(source, filename, "exec"), space)
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    op.pull, op.pull_graph = space["pull"], space["pull_graph"]
    call: Callable[..., Any] = space["call"]
    call.source = source  # type: ignore[attr-defined]
    return call
