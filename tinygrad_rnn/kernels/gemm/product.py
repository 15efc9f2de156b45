"""Matrix products: C = start + A B with B packed, and the gradient of a weight over time and batch.

Every element of C is one chain of fused multiply-adds, k ascending from `start`, whatever the tile:
splitting rows over threads, or another vector width, gives the same bits.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tinygrad_rnn.kernels import cache
from tinygrad_rnn.kernels.emit import Module
from tinygrad_rnn.kernels.gemm.pack import emit_pack, packed_size, padded
from tinygrad_rnn.kernels.gemm.tile import (
    PANEL,
    call_one,
    emit_tiles,
    new_frame,
    read_frame,
    routine,
    set_frame,
    tail_rows,
    tallest,
    widest,
)
from tinygrad_rnn.kernels.machine import Library, lanes_of

EXPORTS = {"pack": 6, "product": 11, "gradient": 14}  # names, and how many arguments
PART = 768  # rows of a panel that meet all of A before the next ones do: they stay in the cache
BLOCK = 384  # rows of D and X packed at once, or up to half as many more
PRODUCT = "m n k a a_row a_col packed start start_row c c_row".split()
GRADIENT = "d d_t d_b x x_t x_b steps batch c c_row m0 m1 n workspace".split()


def library(dtype: Any) -> Library:
    """The loaded functions `EXPORTS` for a dtype, at the present vector width."""
    return _library(np.dtype(dtype), lanes_of(np.dtype(dtype)))


@functools.cache
def _library(dtype: np.dtype, lanes: int) -> Library:
    code = cache.object_code(f"products of {dtype}", f"gemm {dtype}", lambda: gemm_code(dtype))
    return Library(code, list(EXPORTS))


def gemm_code(dtype: Any) -> bytes:
    """Object code of the functions `EXPORTS`."""
    return gemm_module(dtype).compiled()


def gemm_module(dtype: Any) -> Module:
    """The functions `EXPORTS`, written."""
    module = Module(dtype)
    emit_tiles(module)
    emit_pack(module)
    emit_product(module)
    emit_gradient(module)
    return module


def workspace_size(k: int, rows: int, n: int, dtype: Any) -> int:
    """Bytes that `gradient` needs for `rows` rows of C, `n` columns and k = steps * batch."""
    block = min(k, BLOCK * 3 // 2)
    columns = PANEL * lanes_of(np.dtype(dtype))
    return packed_size(n, block + 1, dtype) + packed_size(min(rows, columns), block, dtype)


def emit_product(module: Module) -> None:
    """`product`: panels outer, tiles of rows inner, so that a panel is read from the cache."""
    emit_rows(module)
    emit_tail(module)
    with routine(module, "product", PRODUCT) as (e, arguments):
        m, n, k, a, a_row, a_col, packed, start, start_row, c, c_row = arguments
        columns = PANEL * e.lanes
        step = columns * e.size  # bytes of a panel's row
        whole, left = n // columns, n % columns
        b_row = padded(e, left)
        frame = new_frame(e, [k, a_row, a_col, start_row, c_row, b_row, 0])
        pairs = e.select(m <= widest(), e.select(m > 0, whole // 2, 0), 0)
        with e.loop(0, pairs) as p:
            at = p * (2 * step)
            names = {rows: f"wide{rows}" for rows in range(1, widest() + 1)}
            call_one(e, m, names, (frame, a, packed + k * at, start + at, c + at, 0))
        once = e.select(k > 0, k, 1)
        parts = (once + (PART - 1)) // PART
        part = (once + parts - 1) // parts
        with e.loop(pairs * 2, whole) as p, e.loop(0, once, part) as low:
            at, again = p * step, low > 0
            set_frame(e, frame, "k", (k - low).minimum(part))
            set_frame(e, frame, "start_row", e.select(again, c_row, start_row))
            begin = e.select(again, c, start) + at
            e.call("rows", frame, m, a + low * a_col, packed + k * at + low * step, begin, c + at)
        with e.when(left > 0):
            at = whole * step
            set_frame(e, frame, "k", k)
            set_frame(e, frame, "start_row", start_row)
            e.call("tail", frame, m, left, a, packed + k * at, start + at, c + at)


def emit_rows(module: Module) -> None:
    """One full panel: tiles of nearly equal height, and meanwhile the next panel is fetched."""
    with routine(module, "rows", "frame m a b start c".split()) as (e, arguments):
        frame, m, a, b, start, c = arguments
        k, a_row, _, start_row, c_row, _, _ = read_frame(e, frame)
        tiles = (m + (tallest() - 1)) // tallest()
        height = m // e.select(tiles > 0, tiles, 1)
        taller, share = m - tiles * height, k * (e.lanes * e.size)
        with e.loop(0, tiles) as tile:
            i = tile * height + tile.minimum(taller)
            rows = e.select(tile < taller, height + 1, height)
            ahead = b + share * (tile.minimum(PANEL - 1) + PANEL)
            names = {r: f"tile{r}" for r in range(1, tallest() + 1)}
            places = a + i * a_row, b, start + i * start_row, c + i * c_row
            call_one(e, rows, names, (frame, *places, ahead))


def emit_tail(module: Module) -> None:
    """The last panel, of `n` columns: by two vectors, then one; the last one masked."""
    with routine(module, "tail", "frame m n a b start c".split()) as (e, arguments):
        frame, m, n, a, b, start, c = arguments
        _, a_row, _, start_row, c_row, b_row, _ = read_frame(e, frame)
        step = e.lanes * e.size
        for vectors in (2, 1):
            first = 0 if vectors == 2 else b_row // (2 * step) * (2 * step)
            with e.loop(first, b_row - (vectors - 1) * step, vectors * step) as at:
                count = n - at // e.size - (vectors - 1) * e.lanes
                set_frame(e, frame, "count", count.minimum(e.lanes))
                done = e.word(0)
                for rows in tail_rows(vectors):
                    stop = (m - done) // rows * rows + done
                    with e.loop(done, stop, rows) as i:
                        places = start + i * start_row + at, c + i * c_row + at, 0
                        name = f"tail{vectors}x{rows}"
                        e.call(name, frame, a + i * a_row, b + at, *places)
                    done = stop


def emit_gradient(module: Module) -> None:
    """`gradient`: C[m, n] = sum over k = (t, b) of D[k, m] X[k, n], by blocks of k."""
    emit_span(module)
    with routine(module, "gradient", GRADIENT) as (e, arguments):
        d, d_t, d_b, x, x_t, x_b, steps, batch, c, c_row, m0, m1, n, workspace = arguments
        columns = PANEL * e.lanes
        k = steps * batch
        blocks = e.select(k > BLOCK, (k + BLOCK // 2) // BLOCK, 1)
        size = (k + blocks - 1) // blocks
        zeros, packed_x = workspace, workspace + padded(e, n)
        packed_d = packed_x + padded(e, n) * size
        with e.loop(0, padded(e, n), e.lanes * e.size) as at:
            e.store(zeros + at, module.vector([0.0] * e.lanes))
        with e.loop(0, blocks) as block:
            low = (block * size).minimum(k)
            rows = (k - low).minimum(size)
            again = block > 0
            start_row = e.select(again, c_row, 0)
            e.call("span", x, x_t, x_b, batch, low, rows, n, packed_x)
            with e.loop(m0, m1, columns) as m:
                width = (m1 - m).minimum(columns)
                e.call("span", d + m * e.size, d_t, d_b, batch, low, rows, width, packed_d)
                out = c + m * c_row
                e.call(
                    "product", width, n, rows, packed_d, e.size, padded(e, width),
                    packed_x, e.select(again, out, zeros), start_row, out, c_row,
                )  # fmt: skip


def emit_span(module: Module) -> None:
    """Pack rows low <= t * batch + b < low + rows of a (steps, batch, n) array."""
    names = "source by_t by_b batch low rows n packed".split()
    with routine(module, "span", names) as (e, arguments):
        source, by_t, by_b, batch, low, rows, n, packed = arguments
        panel = rows * (PANEL * e.lanes * e.size)
        single, merged = batch.equals(1), by_t.equals(batch * by_b)
        stride = e.select(single, by_t, by_b)
        run = e.select(e.builder.or_(single, merged), low + rows, batch)
        with e.when(rows > 0), e.loop(low // run, (low + rows + run - 1) // run) as t:
            first = e.select(t * run < low, low, t * run)
            count = (low + rows).minimum(t * run + run) - first
            given = source + t * by_t + (first - t * run) * stride, e.size, stride
            e.call("pack_rows", *given, n, count, packed, panel, first - low)
