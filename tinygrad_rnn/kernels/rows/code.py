"""Compiling kernels on rows, and dealing rows to threads.

A kernel is a function of a table of 64-bit integers, whose fields have names, and of the first and
the last row (or block of rows) that it is to do.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np

from tinygrad_rnn.kernels import cache, choice, threads
from tinygrad_rnn.kernels.emit import Emitter, Module, Word
from tinygrad_rnn.kernels.gemm import product as gemm
from tinygrad_rnn.kernels.machine import Library, lanes_of
from tinygrad_rnn.kernels.pointwise.lanes import Lane

WORTH = 1 << 16  # elements below which one thread does all


class Kernels:
    """Functions that are written and compiled together.

    Args:
        what: what they do, for messages and for the cache.
        fields: of the table of each function.
        write: writes them into a module.
        products: whether they call `gemm.product`.
    """

    def __init__(
        self,
        what: str,
        fields: Mapping[str, str],
        write: Callable[[Module], None],
        products: bool = False,
    ) -> None:
        self.what, self.write, self.products = what, write, products
        self.fields = {name: names.split() for name, names in fields.items()}
        self._compiled = functools.cache(self._compile)

    def ready(self, dtype: np.dtype) -> bool:
        """Whether they can run here; if not, that is said once, or raised in strict mode."""
        if choice.disabled() or dtype.char not in "fd":
            return False
        return self._compiled(dtype, lanes_of(dtype)) is not None

    def _compile(self, dtype: np.dtype, lanes: int) -> dict[str, Callable[..., None]] | None:
        def code() -> bytes:
            module = Module(dtype)
            self.write(module)
            return module.compiled()

        def load() -> dict[str, Callable[..., None]]:
            symbols = gemm.library(dtype).addresses if self.products else None
            made = cache.object_code(self.what, f"{self.what} {dtype}", code)
            library = Library(made, list(self.fields), symbols)
            return {name: library.function(name, 3) for name in self.fields}

        return choice.attempted(f"{self.what}:", load, stacklevel=5)  # type: ignore[no-any-return]

    def call(self, name: str, dtype: np.dtype, **fields: int) -> Callable[[int, int], None]:
        """One of them with its table: it takes the first and the last row."""
        compiled = self._compiled(dtype, lanes_of(dtype))
        assert compiled is not None
        words = [fields[field] for field in self.fields[name]]
        return functools.partial(compiled[name], struct.pack(f"{len(words)}q", *words))

    @contextmanager
    def written(
        self, module: Module, name: str
    ) -> Iterator[tuple[Emitter, SimpleNamespace, Word, Word]]:
        """Write one of them: with an emitter, the table's fields, the first and the last row."""
        with module.function(name, ["table", "start", "stop"]) as (e, (table, start, stop)):
            words = [e.read(table + 8 * k) for k in range(len(self.fields[name]))]
            fields = dict(zip(self.fields[name], words, strict=True))
            yield e, SimpleNamespace(**fields), start, stop


def dealt(call: Callable[[int, int], None], count: int, work: int) -> None:
    """Call a kernel for 0..count, dealt to threads if the work, in elements, is worth it."""
    ways = threads.get_num_threads() if work > WORTH else 1
    shares = threads.shares(count, ways)
    threads.run([functools.partial(call, *share) for share in shares])


def spread(e: Emitter, number: Word) -> Lane:
    """A whole number in every lane, as integers as wide as the module's numbers."""
    from llvmlite import ir

    kind = ir.VectorType(e.module.bits, e.lanes)
    whole = number.value
    if e.size < 8:
        whole = e.builder.trunc(whole, e.module.bits)
    wide = e.builder.insert_element(ir.Constant(kind, ir.Undefined), whole, ir.IntType(32)(0))
    return Lane(e, e.shuffled(wide, kind))


def lines(array: np.ndarray) -> np.ndarray:
    """A matrix whose rows are contiguous."""
    return array if array.strides[1] == array.itemsize else np.ascontiguousarray(array)
