"""`cell`: step functions that are compiled for whole sequences when they are scanned.

A cell is traced once for each combination of widths, compiled once for each form of program, and
remembered. What cannot be traced runs by its definition, with one warning that says why.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd import writes
from tinygrad_rnn.autograd.fused import fused
from tinygrad_rnn.autograd.graph import Value
from tinygrad_rnn.autograd.ops.elementwise import not_equal, where
from tinygrad_rnn.autograd.trace.atoms import Untraceable
from tinygrad_rnn.autograd.trace.lowering import lowered
from tinygrad_rnn.autograd.trace.outside import check_outside, numbers_read
from tinygrad_rnn.autograd.trace.unused import narrowed
from tinygrad_rnn.autograd.trace.watch import Shapes, traced
from tinygrad_rnn.kernels import choice
from tinygrad_rnn.kernels.sequence.recurrence import Given, Recurrence, Saved

REMEMBERED = 64  # compiled forms of a cell
Flags = tuple[bool, ...]


class Cell:
    """A step function, and what it was compiled to.

    `shapes`, the parameters' by name, for I and H, and `states`, how many there are, are for those
    who make layers of it.
    """

    shapes: Callable[[int, int], dict[str, tuple[int, ...]]] | None = None
    states = 1

    def __init__(self, step: Callable[..., Any]) -> None:
        name = type(step).__name__
        if not callable(step):
            raise TypeError(f"cell: expected a step function, got {name}")
        self.step, self.__name__ = step, getattr(step, "__name__", name)
        self.__qualname__ = getattr(step, "__qualname__", name)
        self._compiled: dict[Any, Recurrence | None] = {}
        self._ways: Any = weakref.WeakKeyDictionary()  # of a form: what it was made of, others
        self._varied: dict[Any, Cell] = {}
        self.doubts = choice.Doubts(self.__name__, step)
        functools.update_wrapper(self, step, updated=["__dict__"] * isinstance(step, FunctionType))

    @functools.cached_property
    def scanned(self) -> Callable[..., Any]:
        """A whole sequence: (outputs, *last states) of (*xs, *states, *each, *params)."""

        def definition(*inputs: Any, call: Call) -> Any:
            check_outside(self.__name__, call.outside, self.outside())
            return call.definition(*inputs)

        definition.__name__ = self.__name__
        made: Callable[..., Any] = fused(_forward, _backward)(definition)
        return made

    @functools.cached_property
    def _outside(self) -> list[Callable[[], Any]]:
        return numbers_read(self.step)

    def outside(self) -> tuple[Any, ...]:
        """The numbers that the step reads from outside, as they are now."""
        return tuple(read() for read in self._outside)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.step(*args, **kwargs)

    def __reduce__(self) -> str:
        """Copied and pickled by name, as functions are."""
        return self.__qualname__

    def __repr__(self) -> str:
        return f"cell({self.step!r})"

    def varied(self, way: Callable[..., Any], *options: Any) -> Cell:
        """The cell of `way(step, *options)`, a step made of this one, remembered."""
        key = way, options
        if key not in self._varied:
            made = self._varied[key] = Cell(functools.wraps(self.step)(way(self.step, *options)))
            made._outside += self._outside
        return self._varied[key]

    def compiled(self, inputs: Inputs, roles: Roles) -> Recurrence | None:
        """Its compiled form for such inputs, or None if it can only run by its definition."""
        arrays, rest = inputs.arrays, roles.xs + roles.states + roles.each
        sizes = [a.shape[-1] for a in arrays[:rest]] + [a.shape for a in arrays[rest:]]
        key = arrays[0].dtype, roles, inputs.fixed, *sizes, *self.outside()
        if key not in self._compiled:
            xs, states, each = (
                tuple(a.shape[-1] for a in group) for group in roles.parts(arrays)[:3]
            )
            params = tuple(a.shape for a in arrays[rest:])
            shapes = Shapes(xs, states, each, params, roles.several, roles.paired, inputs.fixed)
            if len(self._compiled) >= REMEMBERED:
                self._compiled.clear()
            self._compiled[key] = self._attempt(shapes, arrays, key)
        return self._compiled[key]

    def back(self, recurrence: Recurrence, given: Flags) -> Recurrence:
        """The same, whose way back reads the cotangents of those results only that have one."""
        if all(given):
            return recurrence
        found, sizes, ways = self._ways[recurrence]
        if given not in ways:
            less, whole, ways[given] = narrowed(found, given), recurrence.cell, recurrence
            if less.gradients != found.gradients:
                cell = lowered(less, sizes)
                if cell.forward == whole.forward and cell.kept <= whole.kept:
                    ways[given] = Recurrence(cell, self.__name__, recurrence.dtype)
        return ways[given]  # type: ignore[no-any-return]

    def definition(self, call: Callable[[], Any]) -> Any:
        """What a call by the definition gives; if there is a reason, it is said then."""
        return self.doubts.settled(call, self._compiled, stacklevel=3)

    def _attempt(self, shapes: Shapes, arrays: Sequence[Any], key: Any) -> Recurrence | None:
        if choice.disabled():
            return None
        dtype = arrays[0].dtype
        try:
            for s in shapes.params:
                if len(s) not in (1, 2):
                    raise Untraceable(f"a parameter has shape {s}, not (m, n) or (n,)")
            found, sizes = traced(self.step, shapes, dtype), [math.prod(s) for s in shapes.params]
            made = Recurrence(lowered(found, sizes), self.__name__, dtype)
            self._ways[made] = found, sizes, {}
            return made
        except Exception as error:
            self.doubts.keep(error, key)
            return None


def cell(step: Callable[..., Any]) -> Cell:
    """Let `scan` compile a step function: `step(x, state, *params) -> (output, new state)`.

    Matrices (m, n) and per-unit vectors (n,) are given as `params`. A step may use linear with or
    without a bias, products of rows with matrices, split and concatenate on the last axis, split
    of a matrix on axis 0, sum and mean over the last axis, and pointwise ops. Any other step works
    too, by its definition, and a warning says why. The same lines give the step itself, and its
    derivatives of any order.

    A step is watched once for all calls of the same widths: what Python decides in it, by an `if`
    on an attribute or a count of its calls, stays as it was. Numbers and flags that it reads from
    the enclosing functions or its module may change.

    >>> import tinygrad_rnn as tg
    >>> @tg.cell
    ... def leaky(x, h, w, u):
    ...     h = 0.9 * h + 0.1 * tg.tanh(tg.linear(x, w) + tg.linear(h, u))
    ...     return h, h
    >>> xs, h = tg.ones(5, 2, 3), tg.zeros(2, 4)
    >>> outputs, last = tg.scan(leaky, xs, h, (tg.ones(4, 3), tg.zeros(4, 4)))
    >>> outputs.shape
    (5, 2, 4)
    """
    return step if isinstance(step, Cell) else Cell(step)


def resetting(step: Callable[..., Any], several: bool, given: bool) -> Callable[..., Any]:
    """The step with one more input, (B, 1), which says where the state begins anew before it: as 0,
    or as the first of each.

    Args:
        several: whether the step itself gets a tuple of inputs.
        given: whether each has it.
    """

    def reset(xs: tuple[Any, ...], state: Any, *rest: Any) -> Any:
        *x, begins = xs
        parts, begun = state if isinstance(state, tuple) else (state,), not_equal(begins, 0.0)
        fresh = rest[: len(parts) * given] or [0.0] * len(parts)
        parts = tuple(where(begun, f, s) for f, s in zip(fresh, parts, strict=True))
        state = parts if isinstance(state, tuple) else parts[0]
        return step(tuple(x) if several else x[0], state, *rest[len(parts) * given :])

    return reset


class Roles(NamedTuple):
    """What the inputs of a scan are: so many xs, states and each, then parameters; whether the
    step gets a tuple of xs, and of states."""

    xs: int
    states: int
    each: int
    several: bool
    paired: bool

    def parts(self, values: Sequence[Any]) -> list[Sequence[Any]]:
        """The xs, states, each and parameters among the values of a call."""
        found = []
        for n in self[:3]:
            found.append(values[:n])
            values = values[n:]
        return [*found, values]


class Inputs(NamedTuple):
    """The arrays of a call, and what else compiled code must know of its inputs."""

    arrays: list[np.ndarray]
    versions: tuple[int, ...]  # of the parameters' memory
    fixed: tuple[int, ...]  # masks: inputs of width 1 that want no gradient
    live: bool  # whether any wants one


def inspected(values: Sequence[Any], roles: Roles, batch: int) -> Inputs | None:
    """The inputs of a call, or None if there is no tensor among them.

    Raises:
        Untraceable: if kernels do not apply: they take arrays of one floating-point dtype, and
            states and each of the batch's size.
    """
    if not any(isinstance(v, Value) for v in values):
        return None
    rows = roles.xs + roles.states + roles.each
    live = False
    arrays: list[np.ndarray] = []
    versions: list[int] = []
    fixed: list[int] = []
    for k, value in enumerate(values):
        wants, array = False, value
        if isinstance(value, Value):
            array, wants = value._data, value._node is not None
            live = live or wants
        if type(array) is not np.ndarray:
            raise Untraceable(f"it is given a {type(array).__name__} where arrays are expected")
        if array.dtype != (arrays or [array])[0].dtype or array.dtype.kind != "f":
            raise Untraceable(
                f"its inputs are of {array.dtype} and {arrays[0].dtype if arrays else 'no other'}, "
                "not of one floating-point dtype"
            )
        if k >= rows:
            versions.append(writes.version(value) if isinstance(value, Value) else -1)
        elif k >= roles.xs and (array.ndim != 2 or array.shape[0] != batch):
            raise Untraceable(f"a state or each has shape {array.shape}, not ({batch}, n)")
        elif array.shape[-1] == 1 and not wants and not roles.xs <= k < roles.xs + roles.states:
            fixed.append(k)
        arrays.append(array)
    return Inputs(arrays, tuple(versions), tuple(fixed), live)


class Call(NamedTuple):
    """One scan of a compiled cell."""

    cell: Cell
    recurrence: Recurrence
    definition: Callable[..., Any]  # of the same inputs
    roles: Roles
    versions: tuple[int, ...]
    keep: bool  # whether a backward pass may follow
    reverse: bool
    lengths: np.ndarray | None
    outside: tuple[Any, ...]  # the numbers that the step read from there


def _forward(*arrays: np.ndarray, call: Call) -> tuple[Any, tuple[Call, Saved]]:
    xs, states, each, params = call.roles.parts(arrays)
    given = Given(xs, states, each, params, call.versions, call.lengths)
    outputs, saved = call.recurrence.forward(given, call.keep, call.reverse)
    return outputs, (call, saved)


def _backward(
    saved: tuple[Call, Saved], *gs: np.ndarray, needs: Flags, given: Flags, freeing: bool
) -> list[np.ndarray | None]:
    call, kept = saved
    recurrence = call.cell.back(call.recurrence, given)
    return recurrence.backward(kept, gs[0], gs[1:], needs, freeing)
