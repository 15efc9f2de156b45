"""Scatter-add of rows."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.kernels.emit import Module
from tinygrad_rnn.kernels.machine import lanes_of
from tinygrad_rnn.kernels.memory import address
from tinygrad_rnn.kernels.pointwise.lanes import Lane
from tinygrad_rnn.kernels.rows.code import Kernels, dealt, lines

WORTH = 1 << 13  # elements from which on the kernel is used
OFTEN = 1 << 12  # rows at one index that are added in order
STRIP = 4  # vectors of a row that a thread takes at once


def write(module: Module) -> None:
    """Strips of columns are dealt to threads, so that each sum is one chain over the rows."""
    with KERNELS.written(module, "scatter") as (e, f, start, stop), e.loop(0, f.count) as i:
        first, wide = start * (STRIP * e.lanes), STRIP * e.lanes
        row, out = f.rows + i * f.row, f.out + e.read(f.indices + i * 8) * (f.width * e.size)
        with e.loop(first, (stop * wide).minimum(f.width), e.lanes) as column:
            mask = e.mask(f.width - column)
            places = (p + column * e.size for p in (out, row))
            sums = [Lane(e, e.load(p, mask)) for p in places]
            e.store(out + column * e.size, (sums[0] + sums[1]).value, mask)


KERNELS = Kernels("scatter-add", {"scatter": "rows row indices count out width"}, write)


def scatter_rows(rows: np.ndarray, indices: np.ndarray, count: int) -> np.ndarray:
    """Zeros (count, n) with each of the rows (m, n) added at its index (m,), in order; where an
    index comes very often, pairwise, which loses no precision."""
    out = np.zeros((count, rows.shape[1]), rows.dtype)
    if len(indices) > OFTEN and np.bincount(indices, minlength=count).max() > OFTEN:
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
        out[ordered[starts]] = np.add.reduceat(rows[order], starts, axis=0)
        return out
    if rows.size < WORTH or not KERNELS.ready(rows.dtype):
        np.add.at(out, indices, rows)
        return out
    rows, numbers = lines(rows), np.ascontiguousarray(indices, np.int64)
    strips = -(-rows.shape[1] // (STRIP * lanes_of(rows.dtype)))
    call = KERNELS.call(
        "scatter", rows.dtype, rows=address(rows), row=rows.strides[0], indices=address(numbers),
        count=len(rows), out=address(out), width=rows.shape[1],
    )  # fmt: skip
    dealt(call, strips, rows.size)
    return out
