"""Tracing functions of single elements: to plain programs, forward and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.gradient import grad
from tinygrad_rnn.autograd.graph import MODE, Value, switched
from tinygrad_rnn.autograd.trace.atoms import Atom, Atoms, Untraceable, reversed_order
from tinygrad_rnn.autograd.trace.meaning import COMPARISONS, Row
from tinygrad_rnn.autograd.trace.unused import without
from tinygrad_rnn.autograd.trace.watch import Symbol, Watcher
from tinygrad_rnn.kernels.elementwise.program import Program
from tinygrad_rnn.kernels.pointwise.table import POINTWISE

Leaf = tuple[str, int]  # ("x", k), or ("g", k): a cotangent
Shape = tuple[int, ...]


class Elements(Watcher):
    """Watches values of one shape."""

    def __init__(self, shape: Shape, dtype: np.dtype) -> None:
        super().__init__(POINTWISE.__contains__)
        self.shape, self.dtype = shape, dtype

    def symbol(self, kind: str, k: int, dtype: Any, grad: bool) -> Any:
        """An input, or a cotangent."""
        row = Row((self.meanings.atoms.leaf(kind, k, 1),))
        return self.given(row, self.shape, np.dtype(dtype), grad)

    def atom(self, value: Any) -> Atom:
        """What a result stands for."""
        return self.meaning(value).pieces[0]  # type: ignore[no-any-return]

    def made(self, name: str, inputs: tuple[Any, ...], outputs: tuple[Value, ...]) -> None:
        if name not in POINTWISE:
            raise Untraceable(f"{name} is not among the elementwise ops that can be compiled")
        super().made(name, inputs, outputs)

    def shown(self, name: str, value: Any) -> Any:
        """Nothing: there are values of any shape."""
        raise Untraceable(f"it looks at the {name.strip('_')} of a tensor")

    def _number(self, array: np.ndarray) -> Row:
        if not self.backward:
            raise Untraceable(
                "it uses an array or tensor that it is not given: make it an argument"
            )
        return super()._number(array)

    def _fits(self, name: str, array: np.ndarray, meaning: Any) -> None:
        dtype = bool if name in COMPARISONS else self.dtype
        if array.shape not in (self.shape, ()) or array.dtype != dtype:
            raise Untraceable(f"{name} with a result of shape {array.shape}, {array.dtype}")


class Traced(NamedTuple):
    """What a function computes, and its gradients by the primitives' own rules."""

    outputs: tuple[Atom, ...]
    several: Any  # what it returns: a tuple, a list or, if None, a tensor
    gradients: dict[int, Atom]  # of its inputs; none where it is zero
    atoms: Atoms

    def written(self) -> str:
        """All of it, as text."""
        return repr(written([*self.outputs, *self.gradients.values()]))

    def reached(self, given: Sequence[bool]) -> dict[int, Atom]:
        """The gradients where only some outputs have a cotangent."""
        roots = list(self.gradients.values())
        left = without(self.atoms, roots, lambda a: a.extra[0] == "g" and not given[a.extra[1]])
        return {k: d for k, a in self.gradients.items() if (d := left[a]) is not None}


def written(roots: Sequence[Atom]) -> tuple[Program, list[Leaf]]:
    """The program that computes some atoms, and what it reads."""
    code: list[tuple[Any, ...]] = []
    at: dict[Atom, int] = {}
    leaves: dict[Leaf, int] = {}
    numbers: dict[str, int] = {}
    for atom in reversed_order(roots):
        if atom.op == "leaf":
            line: tuple[Any, ...] = "load", leaves.setdefault(atom.extra[:2], len(leaves))
        elif atom.op == "number":
            line = "number", numbers.setdefault(atom.extra[0], len(numbers))
        elif atom.op == "power":
            line = "power", at[atom.args[0]], atom.args[1].extra[0]
        else:
            line = atom.op, *(at[a] for a in atom.args)
        at[atom] = len(code)
        code.append(line)
    values = tuple(at[r] for r in roots)
    return Program(tuple(code), values, tuple(map(float.fromhex, numbers))), list(leaves)


def traced(fn: Callable[..., Any], given: Sequence[str], dtype: np.dtype) -> Traced:
    """Watch `fn` and its backward pass on inputs of these dtypes.

    Raises:
        Untraceable: saying why it cannot be compiled.
    """
    first, second = (_traced(fn, given, dtype, shape) for shape in ((1, 1), (2, 3)))
    if first.written() != second.written():
        raise Untraceable("what it computes depends on the shape of its inputs")
    return first


def _traced(fn: Callable[..., Any], given: Sequence[str], dtype: np.dtype, shape: Shape) -> Traced:
    watcher = Elements(shape, dtype)
    inputs = [watcher.symbol("x", k, d, d != "?") for k, d in enumerate(given)]
    with (
        switched(recording=True, definitions=True, observers=(*MODE.get().observers, watcher)),
        np.errstate(all="ignore"),
    ):
        result = fn(*inputs)
        several = type(result) if type(result) in (tuple, list) else None
        outputs = list(result) if several else [result]
        for v in outputs:
            if not isinstance(v, Symbol) or v.shape != shape or v.dtype != dtype:
                raise Untraceable("it does not return floating-point tensors that it computed")
        watcher.backward = True
        live = {k: v for k, v in enumerate(outputs) if v.requires_grad}
        places = [k for k, v in enumerate(inputs) if v.requires_grad and live]
        found = grad(
            list(live.values()),
            [inputs[k] for k in places],
            [watcher.symbol("g", k, dtype, False) for k in live],
            create_graph=True,
            allow_unused=True,
        )
    gradients = {k: watcher.atom(d) for k, d in zip(places, found, strict=True) if d is not None}
    atoms = watcher.meanings.atoms
    return Traced(tuple(map(watcher.atom, outputs)), several, gradients, atoms)
