"""Two ways to watch a computation: for the first bad value, and for arrays changed behind it."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import MODE, PICK, Array, Node, Value, switched
from tinygrad_rnn.autograd.writes import digest

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def user_line() -> str:
    """The line outside this package that is being run: file:number: text."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith((PACKAGE, "<primitive ")):
        frame = frame.f_back
    name, number = frame.f_code.co_filename, frame.f_lineno
    return f"{name}:{number}: {linecache.getline(name, number).strip()}"


def recorded(outputs: Sequence[Value]) -> Iterator[Node]:
    """The nodes of a call's outputs, and the node of the call itself."""
    for v in outputs:
        if v._node is not None:
            yield v._node
            if v._node.op is PICK and v._node.edges[0] is not None:
                yield v._node.edges[0]


def first_bad(arrays: Any, inf: bool) -> str | None:
    """Where the first NaN (or infinity) is, in words."""
    for k, v in enumerate(arrays):
        if isinstance(v, (tuple, list)) and (found := first_bad(v, inf)):
            return found
        if not isinstance(v, (Value, np.ndarray, np.floating, float)):
            continue
        a = np.asarray(v)
        if a.dtype.kind != "f":
            continue
        bad = ~np.isfinite(a) if inf else np.isnan(a)
        if bad.any():
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            return f"{a[place]} at index {place} of array {k}, shape {a.shape}"
    return None


class _Anomaly:
    def __init__(self, inf: bool) -> None:
        self.inf = inf

    def made(self, name: str, inputs: tuple[Any, ...], outputs: tuple[Value, ...]) -> None:
        line = user_line()
        for node in recorded(outputs):
            node.annotate().line = line
        if bad := first_bad(outputs, self.inf):
            came = first_bad(inputs, self.inf)
            origin = f"it came in with an input ({came})" if came else "all its inputs were finite"
            raise FloatingPointError(f"{name}: {bad} in the result; {origin}; made at {line}")

    def pulled(self, node: Node, g: Array, gradients: Sequence[Array]) -> None:
        parts = g if isinstance(g, tuple) else (g,)
        came, bad = first_bad(parts, self.inf), first_bad(gradients, self.inf)
        if came or bad:
            line = node.notes.line if node.notes else None
            raise FloatingPointError(
                f"backward of {node.name}: "
                + (
                    f"{came} in its cotangent, which was given, or is a sum that overflowed; "
                    if came
                    else f"{bad} in its gradients; its cotangent was finite; "
                )
                + f"made at {line or 'a line outside detect_anomaly()'}"
            )


class _Mutation:
    def made(self, name: str, inputs: tuple[Any, ...], outputs: tuple[Value, ...]) -> None:
        for node in recorded(outputs):
            notes = node.annotate()
            notes.digest, notes.line = digest(node.saved), user_line()

    def pulled(self, node: Node, g: Array, gradients: Sequence[Array]) -> None:
        """What was saved is compared before this, wherever a digest was taken."""


@contextmanager
def _observing(observer: Any) -> Iterator[None]:
    watching = (*MODE.get().observers, observer)
    with switched(observers=watching), np.errstate(all="ignore"):  # our errors say more
        yield


def detect_anomaly(inf: bool = True) -> AbstractContextManager[None]:
    """Raise at the first NaN (and, with `inf`, infinity), naming the op and the user's line.

    Watches every op inside the context, and the backward passes run in it. It is slow.

    Raises:
        FloatingPointError: from the op, or the backward of the op, that made the bad value.

    >>> import tinygrad_rnn as tg
    >>> with tg.detect_anomaly():
    ...     tg.log(tg.Tensor([1.0, -1.0]) + 1.0)
    Traceback (most recent call last):
    FloatingPointError: log: -inf at index (1,) of array 0, shape (2,) in the result; ...
    """
    return _observing(_Anomaly(inf))


def detect_mutation() -> AbstractContextManager[None]:
    """Raise in the backward pass if any array it needs was changed, even through a NumPy alias.

    Writes made through this package (optimisers, weight loading) are always noticed; this also
    takes a digest of what each op saves and compares it before use. It is slow.
    """
    return _observing(_Mutation())
