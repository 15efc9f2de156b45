"""The wrapper of a primitive, written out once at decoration: nothing is looked up per call.

From an op's signature and its rules come three small functions: the call (compute, then record
what the rules of the inputs that want a gradient name), and the two ways back (on arrays, and on
Tensors; compiled when first wanted). Tracebacks show their text.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.errors import explain, operand
from tinygrad_rnn.autograd.graph import (
    MODE,
    Array,
    Arrays,
    Needed,
    Node,
    Value,
    announce,
    placed,
    tick,
    unwrap,
    wanted,
)
from tinygrad_rnn.kernels.elementwise.slow import AHEAD, BACK, LARGE

CALL = """
def call{signature}:
    {unpack}
    try:
        _out = {forward}({arguments})
    except Exception as _error:
        raise _explain(_op.name, _forward, _error, ({arrays})) from _error.__cause__
    _live = {live}
    if not _live and not ({tensors}):
        return _out
    _node, _mode = None, _MODE.get()
    if _live and _mode.recording:
        _node = _new(_Node)  # what Node(...) does, without the call
        _node.number, _node.op, _node.edges, _node.saved = _tick(), _op, {edges}, ({saved})
        _node.shape = _node.dtype = _node.notes = None
    if type(_out) is not _ndarray and isinstance(_out, _generic):
        _out = _asarray(_out)
    if type(_out) is not _ndarray or (_dtype := _out.dtype) not in _floats:
        _result = _placed(_out, _node)
    else:
        _result = _new(_Value.kind)  # what placed(...) does, without the call
        _result._data, _result._node = _out, _node
        if _node is not None:
            _node.shape, _node.dtype = _out.shape, _dtype
    if _mode.observers:
        _announce(_mode, _op.name, ({parameters}), _result)
    return _result
"""
PULL = """
def {name}(_node, _saved, _g, _needed):{shortcut}
    ({kept}) = _saved
    {edges} = _node.edges
    return {gradients}
"""
ONE = """
    if isinstance({x}, _Value):
        {x}__array, {x}__node = {x}._data, {x}._node
    else:
        if {weak}(type({x}) is not _ndarray or {x}.dtype not in _floats):
            {x} = {read}(_operand({x}, _op.name))
        {x}__array = {x}
        {x}__node = None"""
CHOICE = "(_op.large.forward if {x}__array.size >= _LARGE else _forward)"
SHORTCUT = """
    if _g.size >= _LARGE and (_found := _op.large.pull(_node, _saved, _g, _needed)):
        return _found"""
MANY = """
    {x} = [v if isinstance(v, _Value) else _operand(v, _op.name) for v in {x}]
    {x}__array = [_unwrap(v) for v in {x}]
    {x}__node = [v._node if isinstance(v, _Value) else None for v in {x}]"""


def masked(gradients: Sequence[Array], nodes: Sequence[Node | None], needed: Needed) -> list[Array]:
    """The gradients of a sequence of inputs that somebody asked for."""
    if len(gradients) != len(nodes):
        raise ValueError(
            f"backward: expected one gradient for each of {len(nodes)} inputs, "
            f"got {len(gradients)}; mend the rule"
        )
    return [d if w else None for d, w in zip(gradients, wanted(nodes, needed), strict=True)]


FIXED = {
    f"_{value.__name__}": value
    for value in (Node, Value, announce, explain, masked, operand, placed, unwrap)
} | {
    "_MODE": MODE,
    "_tick": tick,
    "_LARGE": LARGE,
    "_asarray": np.asarray,
    "_generic": np.generic,
    "_ndarray": np.ndarray,
    "_new": object.__new__,
    "_floats": (np.dtype("f"), np.dtype("d")),
}


def listed(names: Iterable[str]) -> str:
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
        self.wants = {x: tuple(inspect.signature(r).parameters) for x, r in op.rules.items()}
        self.keep: dict[str, list[str]] = {}  # name -> the inputs whose rules need it
        for x, names in self.wants.items():
            for name in names:
                if name not in ("g", "shape"):
                    self.keep.setdefault(name, []).append(x)
        ours = (op.forward.__module__ or "").startswith("tinygrad_rnn.")
        self.slow_ahead = ours and op.name in AHEAD and len(self.inputs) == 1
        self.slow_back = ours and op.name in BACK
        self.check()

    def check(self) -> None:
        for expected, names in (
            ("rules for parameters", self.op.rules),
            ("rules that name g, out, shape or parameters", [n for n in self.keep if n != "out"]),
        ):
            if wrong := [n for n in names if n not in self.parameters or n in ("g", "out")]:
                raise TypeError(
                    f"primitive {self.op.name}: expected {expected}, of {list(self.parameters)}, "
                    f"got {wrong[0]!r}"
                )
        plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if odd := [
            n for n, p in self.parameters.items() if n[0] == "_" or "__" in n or p.kind not in plain
        ]:
            raise TypeError(
                f"primitive {self.op.name}: expected named parameters without a leading _ or __, "
                f"got {odd[0]!r}"
            )
        if self.sequence and len(self.inputs) > 1:
            raise TypeError(f"primitive {self.op.name}: expected no Array beside an Arrays")

    def kept(self, name: str) -> str:
        """What is saved under `name`: nothing where no rule that needs it will run."""
        value = "_out" if name == "out" else name
        if len(self.keep[name]) == len(self.ruled):
            return value
        return (
            f"{value} if {' or '.join(f'{x}__node is not None' for x in self.keep[name])} else None"
        )

    def gradient(self, x: str, graph: bool) -> str:
        """The expression of one input's gradient."""
        rule = f"_rule_{x}({', '.join(self.read(x, name, graph) for name in self.wants[x])})"
        if self.sequence:
            return f"_masked({rule}, {x}__node, _needed)"
        if len(self.ruled) == 1:  # no other would bring a backward pass here
            return f"{rule}, "
        wanted = f"{x}__node is not None and (_needed is None or {x}__node in _needed)"
        return f"{rule} if {wanted} else None, "

    def read(self, x: str, name: str, graph: bool) -> str:
        """How a rule's parameter is read on the way back."""
        if name in ("g", "shape"):
            return "_g" if name == "g" else f"{x}__node.shape"
        if name == "out":
            return "_placed(out, _node)" if graph else "out"
        if graph or name not in self.inputs:
            return name
        if self.sequence:
            return f"[_unwrap(v) for v in {name}]"
        return f"{name}._data if isinstance({name}, _Value) else {name}"

    def edges(self) -> str:
        """The nodes of the ruled inputs, as an expression."""
        nodes = [f"{x}__node" for x in self.ruled]
        return nodes[0] if self.sequence else f"({listed(nodes)})"

    def unpack(self, x: str) -> str:
        """How an input is taken apart; where its size is asked for, a number is an array too."""
        if self.sequence:
            return MANY.format(x=x)
        if self.slow_ahead:
            return ONE.format(x=x, weak="", read="_asarray")
        return ONE.format(x=x, weak=f"type({x}) is not float and ", read="")

    def call(self) -> str:
        """The text of the call."""
        bare = [p.replace(annotation=p.empty, default=p.empty) for p in self.parameters.values()]
        given = {p: f"{p}__array" if p in self.inputs else p for p in self.parameters}
        live = "any({}__node)" if self.sequence else "{}__node is not None"
        holds = (
            "any(isinstance(v, _Value) for v in {})" if self.sequence else "isinstance({}, _Value)"
        )
        return CALL.format(
            signature=inspect.Signature(bare),
            unpack="".join(map(self.unpack, self.inputs)).strip(),
            forward=CHOICE.format(x=self.inputs[0]) if self.slow_ahead else "_forward",
            arguments=", ".join(
                f"{p}={v}" if self.parameters[p].kind is inspect.Parameter.KEYWORD_ONLY else v
                for p, v in given.items()
            ),
            arrays=listed(f"{x}__array" for x in self.inputs),
            live=" or ".join(map(live.format, self.ruled)) or "False",
            tensors=" or ".join(map(holds.format, self.inputs)),
            edges=self.edges(),
            saved=listed(map(self.kept, self.keep)),
            parameters=listed(self.parameters),
        )

    def pulls(self) -> str:
        """The text of the two ways back."""
        text = ""
        for name, slow in (("pull", self.slow_back), ("pull_graph", False)):
            gradients = "".join(self.gradient(x, graph=name == "pull_graph") for x in self.ruled)
            text += PULL.format(
                name=name,
                shortcut=SHORTCUT if slow else "",
                kept=listed(self.keep),
                edges=self.edges() if self.ruled else "_",
                gradients=gradients if self.sequence else f"({gradients})",
            )
        return text


def compiled(op: Any, text: str, kind: str) -> dict[str, Any]:
    """The functions of `text`, which tracebacks can show."""
    filename = f"<primitive {op.forward.__qualname__}{kind}>"
    rules = {f"_rule_{x}": rule for x, rule in op.rules.items()}
    space: dict[str, Any] = {**FIXED, **rules, "_op": op, "_forward": op.forward}
    exec(compile(text, filename, "exec"), space)
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    return space


def specialised(op: Any) -> Callable[..., Any]:
    """The wrapper of `op`."""
    call: Callable[..., Any] = compiled(op, Plan(op).call(), "")["call"]
    call.__defaults__, call.__kwdefaults__ = op.forward.__defaults__, op.forward.__kwdefaults__
    return call


def ways_back(op: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Its `pull` and `pull_graph`."""
    space = compiled(op, Plan(op).pulls(), ", back")
    return space["pull"], space["pull_graph"]
