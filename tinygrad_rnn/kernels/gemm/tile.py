"""Register tiles: a few rows of C by a few vectors, held in registers while k runs.

A tile has few arguments, for a fast call; what stays the same from tile to tile is in a frame, an
array of integers in memory.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tinygrad_rnn.kernels.emit import Count, Emitter, Module, Word
from tinygrad_rnn.kernels.machine import host

PANEL = 4  # vectors of a full panel
ARGUMENTS = "frame a b start c ahead".split()  # `ahead`: fetched meanwhile, a vector for each k
FRAME = "k a_row a_col start_row c_row b_row count".split()


def many_registers() -> bool:
    """Whether the host has 32 vector registers, not 16."""
    wide = "+avx512f" in host()[1].split(",")
    return wide or platform.machine().lower() in ("aarch64", "arm64")


def tallest() -> int:
    """Rows of the largest tile of a full panel."""
    return 6 if many_registers() else 3


def widest() -> int:
    """Rows up to which a tile spans two panels: a fused multiply-add takes 4 or 5 cycles."""
    return 2 if many_registers() else 1


def tail_rows(vectors: int) -> tuple[int, ...]:
    """Rows of the tiles for a part of the last panel, the largest first."""
    sizes = (8, 4, 2, 1) if vectors == 2 else (16, 8, 4, 2, 1)
    return sizes if many_registers() else sizes[1:]


def emit_tiles(module: Module) -> None:
    """`tile`s of a full panel, `wide` ones of two panels, and `tail`s, whose end is masked."""
    for rows in range(1, tallest() + 1):
        emit_tile(module, f"tile{rows}", rows, PANEL)
    for rows in range(1, widest() + 1):
        emit_tile(module, f"wide{rows}", rows, 2 * PANEL)
    for vectors in (1, 2):
        for rows in tail_rows(vectors):
            emit_tile(module, f"tail{vectors}x{rows}", rows, vectors)


def emit_tile(module: Module, name: str, rows: int, vectors: int) -> None:
    """C = start + A B for `rows` rows and `vectors` vectors, less than PANEL: the last one masked.

    Each element of C is one chain of fused multiply-adds, k ascending.
    """
    with routine(module, name, ARGUMENTS) as (e, (frame, a, b, start, c, ahead)):
        k, a_row, a_col, start_row, c_row, b_row, count = read_frame(e, frame)
        step, masks = e.lanes * e.size, [None] * vectors
        if vectors < PANEL:
            masks[-1] = e.mask(count)
        else:
            b_row = e.word(PANEL * step)
        places = [j // PANEL * k * (PANEL * step) + j % PANEL * step for j in range(vectors)]
        cells = [(i, j) for i in range(rows) for j in range(vectors)]
        first = [e.load(start + start_row * i + j * step, masks[j]) for i, j in cells]
        for i, j in cells if rows == tallest() else []:  # C may be large: the next tile's place
            prefetch(e, c + c_row * (rows + i) + j * step)
        lines = [a_row * i for i in range(rows)]
        with carried(e, k, first) as (index, totals, after):
            from_a, from_b = a + index * a_col, b + index * b_row
            if vectors == PANEL:
                prefetch(e, ahead + index * step)
            after += products(
                e, [from_a + line for line in lines], [from_b + p for p in places], totals
            )
        for (i, j), total in zip(cells, totals, strict=True):
            e.store(c + c_row * i + j * step, total, masks[j])


def products(e: Emitter, a: list[Word], b: list[Word], totals: list[Any]) -> list[Any]:
    """Each total plus an element of A times a vector of B; the shorter side stays in registers."""
    n, new = len(b), list(totals)
    if len(a) < n:
        held = [e.splat(place) for place in a]
        for j, place in enumerate(b):
            column = e.load(place)
            for i, x in enumerate(held):
                new[i * n + j] = fma(e, x, column, totals[i * n + j])
    else:
        held = [e.load(place) for place in b]
        for i, place in enumerate(a):
            x = e.splat(place)
            for j, column in enumerate(held):
                new[i * n + j] = fma(e, x, column, totals[i * n + j])
    return new


def new_frame(e: Emitter, values: Sequence[Count]) -> Word:
    """A frame on the stack."""
    memory = e.builder.alloca(e.module.integer, size=len(FRAME))
    frame = Word(e.builder, e.builder.ptrtoint(memory, e.module.integer))
    for name, value in zip(FRAME, values, strict=True):
        set_frame(e, frame, name, value)
    return frame


def set_frame(e: Emitter, frame: Word, name: str, value: Count) -> None:
    """Change one number of a frame."""
    place = e.pointer(frame + 8 * FRAME.index(name))
    e.builder.store((e.word(0) + value).value, place, align=8)


def read_frame(e: Emitter, frame: Word) -> list[Word]:
    """All numbers of a frame."""
    return [e.read(frame + 8 * i) for i in range(len(FRAME))]


@contextmanager
def routine(
    module: Module, name: str, arguments: Sequence[str]
) -> Iterator[tuple[Emitter, list[Word]]]:
    """Write a function that is called, not copied into its callers: half the time to compile."""
    module.declare(name, len(arguments)).attributes.add("noinline")
    with module.function(name, arguments) as written:
        yield written


@contextmanager
def carried(
    e: Emitter, count: Word, first: list[Any]
) -> Iterator[tuple[Word, list[Any], list[Any]]]:
    """A loop with vectors in registers: yields its index, the vectors, a list for the next ones."""
    b, after = e.builder, list[Any]()
    head, body, end = (b.append_basic_block(n) for n in ("k", "k.body", "k.end"))
    before = b.block
    b.branch(head)
    b.position_at_end(head)
    index = b.phi(e.module.integer)
    totals = [b.phi(e.module.vector) for _ in first]
    b.cbranch(Word(b, index) < count, body, end)
    b.position_at_end(body)
    yield Word(b, index), totals, after
    old, new = [e.word(0).value, *first], [(Word(b, index) + 1).value, *after]
    for phi, entering, going_on in zip([index, *totals], old, new, strict=True):
        phi.add_incoming(entering, before)
        phi.add_incoming(going_on, b.block)
    b.branch(head)
    b.position_at_end(end)


def call_one(e: Emitter, which: Word, names: dict[int, str], arguments: Sequence[Count]) -> None:
    """Call the function `names[which]`."""
    functions = [(n, e.module.declare(name, len(arguments))) for n, name in names.items()]
    chosen = functions[0][1]
    for n, function in functions[1:]:
        chosen = e.builder.select(which.equals(n), function, chosen)
    e.builder.call(chosen, [(e.word(0) + a).value for a in arguments])


def prefetch(e: Emitter, address: Word) -> None:
    """Ask for a line of memory, into the second cache."""
    from llvmlite import ir

    number = ir.IntType(32)
    kinds = ir.PointerType(), number, number, number
    function = e.module.intrinsic("llvm.prefetch.p0", ir.VoidType(), *kinds)
    e.builder.call(function, [e.pointer(address), number(0), number(2), number(1)])


def fma(e: Emitter, x: Any, y: Any, z: Any) -> Any:
    """x y + z, rounded once."""
    kind = e.module.vector
    function = e.module.intrinsic(f"llvm.fma.{e.suffix}", kind, kind, kind, kind)
    return e.builder.call(function, [x, y, z])


def shuffled_pair(e: Emitter, x: Any, y: Any, lanes: list[int]) -> Any:
    """Chosen lanes of two vectors, those of y counted after those of x."""
    from llvmlite import ir

    kind = ir.VectorType(ir.IntType(32), e.lanes)
    return e.builder.shuffle_vector(x, y, ir.Constant(kind, lanes))
