"""Reads an equation as a picture's nodes and arrows, by watching it run.

A function of tensors runs once, and every op says what it was given and what it made. Products with
matrices, biases and splits become parts of the gates that they lead to, so that a gate is one node;
nothing else is left out. So a picture shows what its equation does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.autograd.graph import MODE, switched

MOVES = {"reshape", "transpose", "broadcast_to", "astype"}  # the same values
ARITHMETIC = {"multiply": "×", "divide": "÷", "subtract": "−", "add": "+"}
SIGNS = {
    **ARITHMETIC,
    "matmul": "@",
    "concatenate": "[ ]",
    "sigmoid": "σ",
    "square": "x²",
    "rsqrt": "1/√",
}
MATRIX, VECTOR, PLAIN = "matrix", "vector", ""


class Arrow(NamedTuple):
    source: str
    via: str  # what multiplies on the way: a matrix, a vector, or nothing


class Node(NamedTuple):
    name: str
    sign: str  # what it does; "" for inputs, results and the joints of lines
    sources: tuple[Arrow, ...] = ()
    learned: bool = False
    piece: tuple[int, ...] = ()  # of a product that was split


class Sum(NamedTuple):
    """Products, and what is added to them: not yet a node."""

    sources: tuple[Arrow, ...]
    piece: tuple[int, ...] = ()
    sign: str = ""  # of the elementwise function of it
    biased: bool = False


class Reader:
    """An observer that makes nodes of the ops it sees, named in their order."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.nodes = iter(names), dict[str, Node]()
        self.known: dict[int, tuple[Any, Any]] = {}
        self.values: dict[str, Any] = {}  # of the nodes

    def keep(self, value: Any, meaning: Any) -> Any:
        array = value._data if isinstance(value, tg.Tensor) else value
        self.known[id(array)] = array, meaning
        if isinstance(meaning, str):
            self.values.setdefault(meaning, array)
        return meaning

    def meaning(self, value: Any) -> Any:
        """A node's name, a Sum, a number, or None for a parameter."""
        if isinstance(value, (list, tuple)):
            return [self.meaning(v) for v in value]
        array = value._data if isinstance(value, tg.Tensor) else value
        return self.known.get(id(array), (0, None))[1] if isinstance(array, np.ndarray) else value

    def node(self, sign: str, sources: Sequence[Arrow], learned: bool = False, **kept: Any) -> str:
        name = next(self.names, None) or f"?{len(self.nodes)}"
        self.nodes[name] = Node(name, sign, tuple(sources), learned, **kept)
        return name

    def place(self, value: Any) -> str:
        """The node that stands for a value; made when it is first used."""
        found = self.meaning(value)
        if isinstance(found, str):
            return found
        if not isinstance(found, Sum):
            raise ValueError(f"a picture cannot show {value!r}")
        if not (found.sign or found.biased) and [a.via for a in found.sources] == [PLAIN]:
            return found.sources[0].source
        learned = found.biased or len(found.sources) > 1 or found.sources[0].via != PLAIN
        kinds = {arrow.via for arrow in found.sources}
        sign = found.sign or ("W" if MATRIX in kinds else "w" if VECTOR in kinds else "+b")
        return self.keep(value, self.node(sign, found.sources, learned, piece=found.piece))

    def sources(self, value: Any) -> tuple[Arrow, ...]:
        """What a sum gets from one of its terms; nothing from a bias."""
        found = self.meaning(value)
        if isinstance(found, Sum) and not found.sign:
            return found.sources
        return () if found is None or found == 0.0 else (Arrow(self.place(value), PLAIN),)

    def made(self, name: str, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        meanings = [self.meaning(v) for v in inputs]
        if all(m is None or not isinstance(m, (str, Sum, list)) for m in meanings):
            return  # parts of parameters are parameters
        for k, output in enumerate(outputs):
            self.keep(output, self.result(name, inputs, meanings, k))

    def result(self, name: str, inputs: tuple[Any, ...], meanings: list[Any], k: int) -> Any:
        first = meanings[0]
        if name in MOVES or (name == "multiply" and 1.0 in meanings):
            return first
        if name == "stack":
            return [self.place(v) for v in inputs[0]]
        if name == "unstack":
            return first[k] if isinstance(first, list) else self.step(first, k)
        if name == "concatenate" and isinstance(first[0], list):
            return [
                self.node("[ ]", [Arrow(n, PLAIN) for n in at]) for at in zip(*first, strict=True)
            ]
        if name == "linear":
            return Sum((Arrow(self.place(inputs[0]), MATRIX),))
        if name == "split":
            return first._replace(piece=(*first.piece, k)) if isinstance(first, Sum) else first
        sums = [isinstance(m, Sum) and not m.sign for m in meanings]
        if name == "add" and any(sums):
            of = [m for m, s in zip(meanings, sums, strict=True) if s]
            sources = (*self.sources(inputs[0]), *self.sources(inputs[1]))
            biased = None in meanings or any(m.biased for m in of)
            return Sum(tuple(dict.fromkeys(sources)), of[0].piece, biased=biased)
        if name == "multiply" and None in meanings:
            (other,) = (v for v, m in zip(inputs, meanings, strict=True) if m is not None)
            return Sum((Arrow(self.place(other), VECTOR),))
        if sums[0] and name in ("sigmoid", "tanh", "relu", "exp"):
            return first._replace(sign=SIGNS.get(name, name))
        return self.operation(name, inputs, meanings)

    def step(self, name: str, k: int) -> str:
        """An input of its own for each step of a sequence."""
        self.nodes.pop(name, None)
        self.nodes[f"{name}{k + 1}"] = Node(f"{name}{k + 1}", "")
        return f"{name}{k + 1}"

    def operation(self, name: str, inputs: tuple[Any, ...], meanings: list[Any]) -> str:
        """A node of its own."""
        sign = SIGNS.get(name, name)
        if isinstance(meanings[0], list):
            inputs = (*inputs[0], *inputs[1:])
        numbers = [v for v in inputs if isinstance(v, (int, float)) and name in ARITHMETIC]
        tensors = [v for v in inputs if isinstance(v, tg.Tensor)]
        for number in numbers:
            written = "ε" if 0 < number < 1e-3 else f"{number:g}"
            sign = written + sign if inputs[0] is number else sign + written
        sources = dict.fromkeys(Arrow(self.place(v), PLAIN) for v in tensors)
        if len(sources) < len(tensors):
            sign = {"multiply": "x²"}[name]
        return self.node(sign, [*sources])

    def pulled(self, *_: Any) -> None:
        """There is no backward pass."""


def box(sign: str, inside: Callable[..., Any], *inputs: Any, **options: bool) -> Any:
    """`inside(*inputs)`, which a picture shows as one node.

    Args:
        options: summed, whether biases may be added to it; learned, whether it has weights.
    """
    readers = MODE.get().observers
    with switched(observers=()):
        result = inside(*inputs)
    for reader in readers:
        sources = [arrow for v in inputs for arrow in reader.sources(v)]
        name = reader.node(sign, sources, options.get("learned", True))
        reader.keep(result, Sum((Arrow(name, PLAIN),)) if options.get("summed") else name)
        reader.values[name] = result._data
    return result


class Reading(NamedTuple):
    """What a picture shows: a function, its inputs, the names of its nodes and of its results."""

    call: Callable[..., Any]
    inputs: Mapping[str, Any]
    names: Sequence[str]
    results: Sequence[str]

    def read(self) -> dict[str, Node]:
        """The nodes by name, as they come."""
        return joined(self.reader().nodes)

    def reader(self) -> Reader:
        """The reader that has watched the call.

        Raises:
            ValueError: if there are more or fewer names than nodes.
        """
        reader = Reader(self.names)
        for name, value in self.inputs.items():
            reader.nodes[name] = Node(name, "")
            reader.keep(value, name)
        with switched(recording=False, definitions=True, observers=(reader,)):
            given = self.call(*self.inputs.values())
            for name, value in zip(self.results, given, strict=True):
                reader.nodes[name] = Node(name, "", (Arrow(reader.place(value), PLAIN),))
        left = [*reader.names]
        if left or any(name.startswith("?") for name in reader.nodes):
            listing = "\n".join(map(str, reader.nodes.values()))
            raise ValueError(f"expected as many names as nodes; {left} are left over\n{listing}")
        return reader


def joined(nodes: dict[str, Node]) -> dict[str, Node]:
    """Lines that lead together to several gates are joined: one more node for each such bundle."""
    bundles: dict[tuple[Arrow, ...], list[str]] = {}
    for node in nodes.values():
        bundle = tuple(a for a in node.sources if a.via != VECTOR)
        if node.learned and len(bundle) > 1 and len({a.via for a in bundle}) == 1:
            bundles.setdefault(bundle, []).append(node.name)
    for k, (bundle, gates) in enumerate(b for b in bundles.items() if len(b[1]) > 1):
        name = "&" * (k + 1)
        nodes[name] = Node(name, "", tuple(a._replace(via=PLAIN) for a in bundle))
        via = bundle[0].via
        for gate in gates:
            others = [a for a in nodes[gate].sources if a not in bundle]
            nodes[gate] = nodes[gate]._replace(sources=(Arrow(name, via), *others))
    return nodes
