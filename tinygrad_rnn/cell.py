"""`cell`: step functions that are compiled for whole sequences when they are scanned.

A cell is traced once for each combination of widths, compiled once for each form of program, and
remembered. What cannot be traced runs by its definition, with one warning that says why.
"""

from __future__ import annotations

import functools
import math
import os
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.fused import fused
from tinygrad_rnn.autograd.trace.lowering import lowered
from tinygrad_rnn.autograd.trace.watch import Shapes, traced
from tinygrad_rnn.kernels.recurrence import Given, Recurrence, Saved


class Cell:
    """A step function, and what it was compiled to."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self.step, self.__name__, self.__qualname__ = step, step.__name__, step.__qualname__
        self._compiled: dict[Any, Recurrence | None] = {}
        functools.update_wrapper(self, step)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.step(*args, **kwargs)

    def __reduce__(self) -> str:
        """Copied and pickled by name, as functions are."""
        return self.__qualname__

    def __repr__(self) -> str:
        return f"cell({self.step!r})"

    def compiled(
        self,
        arrays: Sequence[np.ndarray],
        counts: tuple[int, int, int],
        several: bool,
        paired: bool,
        fixed: tuple[int, ...] = (),
    ) -> Recurrence | None:
        """Its compiled form for (*xs, *states, *each, *params), of which those at `fixed` get no
        gradient, or None if it can only run by its definition."""
        rest = sum(counts)
        key = (
            *[(a.dtype.char, a.ndim, a.shape[-1]) for a in arrays[:rest]],
            *[(a.dtype.char, a.shape) for a in arrays[rest:]],
            counts,
            several,
            paired,
            fixed,
        )
        if key not in self._compiled:
            xs, states, each, params = parts(arrays, counts)
            shapes = Shapes(
                *(tuple(a.shape[-1] for a in group) for group in (xs, states, each)),
                tuple(a.shape for a in params),
                several,
                paired,
                fixed,
            )
            self._compiled[key] = self._attempt(shapes, arrays) if suits(arrays, rest) else None
        return self._compiled[key]

    def _attempt(self, shapes: Shapes, arrays: Sequence[np.ndarray]) -> Recurrence | None:
        if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
            return None
        dtype = arrays[0].dtype
        try:
            sizes = [math.prod(s) for s in shapes.params]
            cell = lowered(traced(self.step, shapes, dtype), sizes)
            return Recurrence(cell, self.__name__, dtype)
        except Exception as error:
            if os.environ.get("TINYGRAD_RNN_STRICT") == "1":
                raise
            warnings.warn(
                f"{self.__name__} runs by its definition, without a compiled kernel: "
                f"{error or type(error).__name__}{self._line(error)}",
                RuntimeWarning,
                stacklevel=2,
            )
            return None

    def _line(self, error: Exception) -> str:
        """The line of the step that is to blame."""
        code = getattr(self.step, "__code__", None)
        frames = traceback.extract_tb(error.__traceback__)
        for frame in reversed(frames) if code else ():
            if frame.filename == code.co_filename and frame.lineno:
                return f" ({frame.filename}:{frame.lineno}: {frame.line})"
        return ""


def cell(step: Callable[..., Any]) -> Cell:
    """Let `scan` compile a step function: `step(x, state, *params) -> (output, new state)`.

    Matrices (m, n) and per-unit vectors (n,) are given as `params`. A step may use linear with or
    without a bias, products of rows with matrices, split and concatenate on the last axis, split
    of a matrix on axis 0, and pointwise ops. Any other step works too, by its definition, and a
    warning says why. The same lines give the step itself, and its derivatives of any order.

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


def suits(arrays: Sequence[np.ndarray], rows: int) -> bool:
    """Whether kernels can work on arrays: one floating-point dtype, and after `rows` of them
    matrices and vectors."""
    first = arrays[0].dtype
    known = all(a.ndim in (1, 2) for a in arrays[rows:])
    return known and first.kind == "f" and all(a.dtype == first for a in arrays)


class Call(NamedTuple):
    """One scan of a compiled cell."""

    recurrence: Recurrence
    definition: Callable[..., Any]  # of the same inputs
    counts: tuple[int, int, int]  # of xs, states and each
    versions: tuple[int, ...]  # of the parameters' memory
    keep: bool  # whether a backward pass may follow
    reverse: bool


def parts(values: Sequence[Any], counts: tuple[int, int, int]) -> list[Sequence[Any]]:
    """The values of a call, by their role: xs, states, each and parameters."""
    found = []
    for n in counts:
        found.append(values[:n])
        values = values[n:]
    return [*found, values]


def _forward(*arrays: np.ndarray, call: Call) -> tuple[Any, tuple[Call, Saved]]:
    given = Given(*parts(arrays, call.counts), call.versions)
    outputs, saved = call.recurrence.forward(given, call.keep, call.reverse)
    return outputs, (call, saved)


def _backward(
    saved: tuple[Call, Saved], *gs: np.ndarray, needs: tuple[bool, ...], freeing: bool
) -> list[np.ndarray | None]:
    call, kept = saved
    return call.recurrence.backward(kept, gs[0], gs[1:], needs, freeing)


@fused(_forward, _backward)
def scanned(*inputs: Any, call: Call) -> Any:
    """A whole sequence: (outputs, *last states) of (*xs, *states, *each, *params)."""
    return call.definition(*inputs)
