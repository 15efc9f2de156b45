"""Writes in place: made through one function, noticed by the backward pass.

A node and a write are numbered by the same clock. What a node saved is stale exactly when its
memory was written after the node was made, so the forward pass keeps no versions at all.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Node, Value, tick

_written: dict[int, int] = {}  # memory owner -> number of its last write
latest = 0  # the number of the last write of all


def _owner(array: np.ndarray) -> int:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return id(array)


def touch(value: Value) -> None:
    """Say that the memory of `value` was written."""
    global latest
    latest = _written[_owner(value._data)] = tick()


def assign(value: Value, array: Any) -> None:
    """Write `array` into `value` in place: the only door for optimisers and weight loading."""
    source = np.asarray(array._data if isinstance(array, Value) else array)
    if source.shape != value._data.shape:
        raise ValueError(
            f"assign: expected an array of shape {value._data.shape}, got {source.shape}; "
            "reshape it"
        )
    np.copyto(value._data, source, casting="same_kind")
    touch(value)


def arrays_in(saved: Any, weak: bool = False) -> Iterator[np.ndarray]:
    """Every array that a node saved, in order; with `weak`, those it only refers to as well."""
    if isinstance(saved, Value):
        yield saved._data
    elif isinstance(saved, np.ndarray):
        yield saved
    elif isinstance(saved, (tuple, list, dict)):
        for part in saved.values() if isinstance(saved, dict) else saved:
            yield from arrays_in(part, weak)
    elif weak and isinstance(saved, weakref.ref):
        yield from arrays_in(saved())


def digest(saved: Any) -> int:
    return hash(tuple(a.tobytes() for a in arrays_in(saved)))


def check(node: Node) -> None:
    """Raise unless what `node` saved is still there and still what it was."""
    name = node.name
    if node.saved is None:
        raise RuntimeError(
            f"backward: expected the arrays that {name!r} saved, but an earlier backward pass "
            "freed them; pass retain_graph=True to the earlier call, or compute the result again"
        )
    stale = latest > node.number and any(
        _written.get(_owner(a), 0) > node.number for a in arrays_in(node.saved, weak=True)
    )
    notes = node.notes
    if stale or (notes and notes.digest is not None and notes.digest != digest(node.saved)):
        raise RuntimeError(
            f"backward: an array that {name!r} saved was changed in place after the forward pass"
            f"{f' (made at {notes.line})' if notes and notes.line else ''}; "
            "run backward before the change, or change a copy"
        )


def version(value: Value) -> int:
    """A number that changes when the memory of `value` is written; -1 where that may go unseen."""
    flags = value._data.flags
    return _written.get(_owner(value._data), 0) if flags.owndata and flags.writeable else -1
