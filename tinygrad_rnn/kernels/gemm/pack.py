"""Packing a matrix into column panels, the layout that `gemm.product` reads.

Panel p holds PANEL vectors of columns, row after row, from byte p * K * PANEL * lanes * size; the
last panel has its own width, in whole vectors, filled with zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.kernels.emit import Emitter, Module, Word
from tinygrad_rnn.kernels.gemm.tile import PANEL, call_one, routine, shuffled_pair
from tinygrad_rnn.kernels.machine import lanes_of

ARGUMENTS = "source stride_n stride_k n k packed panel skip".split()


def packed_size(n: int, k: int, dtype: Any) -> int:
    """Bytes of a packed (k, n) matrix."""
    kind = np.dtype(dtype)
    return -(-n // lanes_of(kind)) * lanes_of(kind) * k * int(kind.itemsize)


def emit_pack(module: Module) -> None:
    """`pack`, and `pack_rows`: `panel` bytes from panel to panel, past `skip` rows of each."""
    emit_runs(module)
    emit_transposed(module)
    emit_elements(module)
    with routine(module, "pack_rows", ARGUMENTS) as (e, arguments):
        source, stride_n, stride_k, n, k, packed, panel, skip = arguments
        columns = e.lanes * PANEL
        turned = e.builder.and_(stride_k.equals(e.size), k >= e.lanes)
        which = e.select(stride_n.equals(e.size), 2, e.select(turned, 1, 0))
        with e.loop(0, n, columns) as first:
            left = (n - first).minimum(columns)
            given = (
                source + first * stride_n, stride_n, stride_k, left, k,
                packed + first // columns * panel + skip * padded(e, left),
            )  # fmt: skip
            call_one(e, which, {0: "pack_elements", 1: "pack_transposed", 2: "pack_runs"}, given)
    with routine(module, "pack", ARGUMENTS[:-2]) as (e, arguments):
        e.call("pack_rows", *arguments, arguments[4] * (PANEL * e.lanes * e.size), 0)


def padded(e: Emitter, n: Word) -> Word:
    """Bytes of n elements, in whole vectors."""
    vectors: Word = (n + (e.lanes - 1)) // e.lanes
    return vectors * int(e.lanes * e.size)


def emit_runs(module: Module) -> None:
    """One panel whose rows lie together in the source."""
    with routine(module, "pack_runs", ARGUMENTS[:-2]) as (e, arguments):
        source, _, stride_k, n, k, packed = arguments
        whole, width = n // e.lanes, padded(e, n)
        step, last = e.lanes * e.size, n // e.lanes * (e.lanes * e.size)
        mask = e.mask(n % e.lanes)
        full = n.equals(PANEL * e.lanes)
        with e.builder.if_else(full) as (yes, no):
            with yes, e.loop(0, k) as row:
                values = [e.load(source + row * stride_k + j * step) for j in range(PANEL)]
                for j, value in enumerate(values):
                    e.store(packed + row * (PANEL * step) + j * step, value)
            with no, e.loop(0, k) as row:
                with e.loop(0, whole * step, step) as at:
                    e.store(packed + row * width + at, e.load(source + row * stride_k + at))
                with e.when(last < width):
                    value = e.load(source + row * stride_k + last, mask)
                    e.store(packed + row * width + last, value)


def emit_transposed(module: Module) -> None:
    """One panel whose columns lie together in the source, lanes by lanes; k >= lanes."""
    with routine(module, "pack_transposed", ARGUMENTS[:-2]) as (e, arguments):
        source, stride_n, _, n, k, packed = arguments
        width = padded(e, n)
        with e.loop(0, n, e.lanes) as first, e.loop(0, k, e.lanes) as block:
            row = block.minimum(k - e.lanes)  # the last block overlaps the one before
            left, mask = n - first, e.mask(n - first)
            corner = source + first * stride_n + row * e.size
            lines = [e.load(corner + (left - 1).minimum(i) * stride_n) for i in range(e.lanes)]
            zero = module.vector([0.0] * e.lanes)
            for i, line in enumerate(transposed(e, lines)):
                value = e.builder.select(mask, line, zero)
                e.store(packed + (row + i) * width + first * e.size, value)


def transposed(e: Emitter, lines: list[Any]) -> list[Any]:
    """A square of vectors, transposed by halves: log2(lanes) rounds of shuffles."""
    half = e.lanes // 2
    while half:
        low = [i // half % 2 * (e.lanes - half) + i for i in range(e.lanes)]
        new = list(lines)
        for i in range(e.lanes):
            if i // half % 2 == 0:
                x, y = lines[i], lines[i + half]
                new[i] = shuffled_pair(e, x, y, low)
                new[i + half] = shuffled_pair(e, x, y, [n + half for n in low])
        lines, half = new, half // 2
    return lines


def emit_elements(module: Module) -> None:
    """One panel with any strides, element by element."""
    with routine(module, "pack_elements", ARGUMENTS[:-2]) as (e, arguments):
        source, stride_n, stride_k, n, k, packed = arguments
        width = padded(e, n) // e.size
        zero = module.real(0.0)
        with e.loop(0, k) as row, e.loop(0, width) as column:
            inside = (n - 1).minimum(column)
            place = e.pointer(source + row * stride_k + inside * stride_n)
            value = e.builder.load(place, typ=module.real, align=e.size)
            value = e.builder.select(column < n, value, zero)
            target = e.pointer(packed + (row * width + column) * e.size)
            e.builder.store(value, target, align=e.size)
