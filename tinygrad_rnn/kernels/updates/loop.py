"""One pass over many arrays by one equation, which NumPy and the vector lanes both read.

An equation is a function of arrays and named numbers that returns as many new values as are to be
written. It may use operators and `arithmetic`, and it may ask `if number:`. A number that is a bool
or zero is known when code is written; others are read when it runs, so that a new learning rate
needs no new code. Nothing is reordered or contracted: kernel and definition give the same bits.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.kernels import cache, threads
from tinygrad_rnn.kernels.choice import attempted, disabled
from tinygrad_rnn.kernels.emit import Emitter, Module, Word
from tinygrad_rnn.kernels.gemm.tile import prefetch
from tinygrad_rnn.kernels.machine import Library, float_lanes
from tinygrad_rnn.kernels.memory import address
from tinygrad_rnn.kernels.pointwise.lanes import Lane

Equation = Callable[..., tuple[Any, ...]]
Numbers = Mapping[str, float | bool]
Item = Sequence[np.ndarray]

AHEAD = 2048  # bytes that are fetched meanwhile
WORTH = 1 << 16  # elements below which one thread does all


class Use(NamedTuple):
    """What is done with the arrays of an item: the first ones are read, some are written."""

    arrays: int
    read: int
    written: tuple[int, ...]


def update(
    equation: Equation, items: Sequence[Item], use: Use, numbers: Numbers, defined: bool
) -> None:
    """Write what `equation(*read, **numbers)` returns, for each of the items.

    The arrays of an item have one shape and all items one dtype, float32 or float64. `defined` asks
    for NumPy's reading.
    """
    numbers = {n: v if isinstance(v, bool) else float(v) for n, v in numbers.items()}
    dtype, call = items[0][0].dtype, None
    if not (defined or disabled()):
        known = tuple([(n, None if _runs(v) else v) for n, v in numbers.items()])
        call = _loaded(equation, known, use, dtype, float_lanes())
    rows: list[int] = []
    total = 0
    for arrays in items:
        if call and _alike(arrays):
            rows += (total, arrays[0].size, *map(address, arrays))
            total += arrays[0].size
        else:
            _define(equation, arrays, use, numbers)
    if call and total:
        with np.errstate(all="ignore"):
            given = np.array([v for v in numbers.values() if _runs(v)], dtype).tobytes()
        table, count = struct.pack(f"{len(rows)}q", *rows), len(rows) // (2 + use.arrays)
        shares = threads.shares(total, threads.get_num_threads() if total > WORTH else 1)
        threads.run([functools.partial(call, table, count, given, *s) for s in shares])


def _alike(arrays: Item) -> bool:
    """Whether the arrays lie in memory in one order, without gaps."""
    flags = [a.flags for a in arrays]
    return all([f.c_contiguous for f in flags]) or all([f.f_contiguous for f in flags])


def _runs(number: float | bool) -> bool:
    """Whether a number is read when the code runs."""
    return not isinstance(number, bool) and number != 0


def _define(equation: Equation, arrays: Item, use: Use, numbers: Numbers) -> None:
    with np.errstate(all="ignore"):
        values = equation(*arrays[: use.read], **numbers)
        for k, value in zip(use.written, values, strict=True):
            np.copyto(arrays[k], value, casting="same_kind")


@functools.cache
def _loaded(
    equation: Equation, known: tuple[tuple[str, Any], ...], use: Use, dtype: Any, lanes: int
) -> Any:
    def load() -> Any:
        module = update_module(equation, known, use, dtype)
        code = cache.object_code(equation.__name__, str(module.module), module.compiled)
        return Library(code, ["run"]).function("run", 5)

    return attempted(equation.__name__, load)


def update_module(
    equation: Equation, known: Sequence[tuple[str, Any]], use: Use, dtype: Any
) -> Module:
    """`run(rows, count, numbers, start, stop)`: the elements start:stop of all rows together.

    A row is how many elements come before it, how many it has, and the addresses of the arrays.
    `known` names the numbers; None: to be read.
    """
    module = Module(dtype)
    arguments = "rows count numbers start stop".split()
    with module.function("run", arguments) as (e, (rows, count, numbers, start, stop)):
        given: dict[str, Any] = dict(known)
        for k, name in enumerate([n for n, v in known if v is None]):
            given[name] = Lane(e, e.splat(numbers + k * e.size))
        columns = 2 + use.arrays
        with e.loop(0, count) as row:
            words = [e.read(rows + (row * columns + k) * 8) for k in range(columns)]
            before, size, *places = words
            low = e.select(start < before, 0, start - before)
            high = (stop - before).minimum(size)
            with e.when(low < high):
                for offset, mask in e.vectors(low, high):
                    _vector(e, equation, given, use, [p + offset for p in places], mask)
    return module


def _vector(
    e: Emitter,
    equation: Equation,
    given: Mapping[str, Any],
    use: Use,
    at: Sequence[Word],
    mask: Any,
) -> None:
    for place in at:
        prefetch(e, place + AHEAD)
    values = equation(*(Lane(e, e.load(place, mask)) for place in at[: use.read]), **given)
    for k, value in zip(use.written, values, strict=True):
        e.store(at[k], value.value, mask)
