"""Primitives on large arrays: where NumPy is slow, vector code of the same ops and rules."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.graph import MODE, Array, Needed, Node, switched, unwrap, wanted
from tinygrad_rnn.autograd.op import PRIMITIVES, Primitive
from tinygrad_rnn.autograd.trace.atoms import Untraceable
from tinygrad_rnn.autograd.wrapper import Plan
from tinygrad_rnn.elements import Elements, Leaf, written
from tinygrad_rnn.kernels.elementwise.kernel import Kernel
from tinygrad_rnn.kernels.elementwise.program import Program
from tinygrad_rnn.kernels.elementwise.slow import AHEAD, BACK
from tinygrad_rnn.kernels.pointwise.table import takes_power

REMEMBERED = 64  # kernels of one op
FLOATS = np.dtype("f"), np.dtype("d")


class Back(NamedTuple):
    """The vector code of some of an op's rules."""

    kernel: Kernel
    leaves: list[Leaf]
    results: tuple[int | None, ...]  # of each ruled input


class Large:
    """A primitive on arrays of at least `LARGE` elements; what has no vector code is NumPy's."""

    def __init__(self, op: Primitive) -> None:
        self.op = op
        self._kernels: dict[Any, Any] = {}

    @functools.cached_property
    def _plan(self) -> Plan:
        return Plan(self.op)

    def _remembered(self, key: Any, make: Callable[..., Any], *arguments: Any) -> Any:
        """What `make` gives, made once; None where it cannot be made."""
        if key not in self._kernels:
            if len(self._kernels) >= REMEMBERED:
                self._kernels.clear()
            try:
                self._kernels[key] = make(*arguments)
            except Untraceable:
                self._kernels[key] = None
            except Exception as error:
                warnings.warn(
                    f"{self.op.name} of large arrays runs without vector code: "
                    f"{error or type(error).__name__}",
                    RuntimeWarning,
                    stacklevel=5,
                )
                self._kernels[key] = None
        return self._kernels[key]

    def forward(self, x: np.ndarray, *rest: Any) -> np.ndarray:
        """The op itself."""
        kernel = None
        if type(x) is np.ndarray and x.dtype in FLOATS and not MODE.get().definitions:
            kernel = self._remembered((x.dtype, *rest), self._ahead, x.dtype, *rest)
        if kernel is None:
            return self.op.forward(x, *rest)  # type: ignore[no-any-return]
        return kernel((x,), x.shape, (x.shape,))[0]  # type: ignore[no-any-return]

    def _ahead(self, dtype: np.dtype, *exponent: float) -> Kernel:
        if exponent and not takes_power(exponent[0]):
            raise Untraceable("an exponent without vector code")
        line = (self.op.name, 0, *(float(y).hex() for y in exponent))
        return self._tried(Program((("load", 0), line), (1,), ()), dtype, 1)

    def _tried(self, program: Program, dtype: np.dtype, operands: int) -> Kernel:
        """A program's kernel, which works."""
        kernel = Kernel(program, self.op.name, dtype)
        kernel([np.ones(1, dtype)] * operands, (1,), ((1,),) * len(program.results))
        return kernel

    def pull(self, node: Node, saved: Any, g: Array, needed: Needed) -> Sequence[Array] | None:
        """The gradients, as the rules say; None if they have no vector code."""
        if MODE.get().definitions:
            return None
        needs, dtype = wanted(node.edges, needed), g.dtype
        arrays: list[np.ndarray] = []
        rest = []
        for name, value in zip(self._plan.keep, saved, strict=True):
            value = unwrap(value)
            if name != "out" and name not in self._plan.inputs:
                rest.append(value)
                continue
            if value is None or type(value) is float:  # nobody reads it; or it is of any dtype
                value = np.array(value or 0.0, dtype)
            if type(value) is not np.ndarray or value.dtype != dtype:
                return None
            arrays.append(value)
        back = self._remembered((dtype, needs, *rest), self._back, dtype, needs, rest)
        if back is None:
            return None
        kernel, leaves, results = back
        given = [g if kind == "g" else arrays[k] for kind, k in leaves]
        targets = tuple(n.shape for n, need in zip(node.edges, needs, strict=True) if n and need)
        found = kernel(given, g.shape, targets)
        return [None if k is None else found[k] for k in results]

    def _back(self, dtype: np.dtype, needs: tuple[bool, ...], rest: Sequence[Any]) -> Back:
        """Watch the rules of the inputs that want a gradient."""
        watcher, plan, others = Elements((2, 3), dtype), self._plan, iter(rest)
        watcher.backward = True
        known: dict[str, Any] = {"g": watcher.symbol("g", 0, dtype, False)}
        arrays = 0
        for name in plan.keep:
            if name == "out" or name in plan.inputs:
                known[name] = watcher.symbol("x", arrays, dtype, False)
                arrays += 1
            else:
                known[name] = next(others)
        with switched(recording=False, observers=(watcher,)), np.errstate(all="ignore"):
            found = [
                self.op.rules[x](*(known[n] for n in plan.wants[x]))
                for x, need in zip(plan.ruled, needs, strict=True)
                if need
            ]
        program, leaves = written(list(map(watcher.atom, found)))
        places = iter(range(len(found)))
        results = tuple(next(places) if need else None for need in needs)
        return Back(self._tried(program, dtype, len(leaves)), leaves, results)


def install() -> None:
    """Give the ops that NumPy is slow at their vector code."""
    for call in PRIMITIVES.values():
        op = call.op  # type: ignore[attr-defined]
        if op.name in AHEAD | BACK:
            op.large = Large(op)
