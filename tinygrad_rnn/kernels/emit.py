"""Writing programs for LLVM: whole numbers, memory, loops and calls.

An `Emitter` writes one function. `Word` is a 64-bit integer of the written program (a count, or an
address in bytes), with Python's operators; vectors are `lanes.Lane`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_rnn.kernels.machine import lanes_of, object_code

Count = Any  # a Word, or a Python integer


def _ir() -> Any:
    from llvmlite import ir

    return ir


class Module:
    """Functions of 64-bit integers, compiled together for one dtype."""

    def __init__(self, dtype: Any) -> None:
        ir = _ir()
        self.dtype, self.lanes = np.dtype(dtype), lanes_of(np.dtype(dtype))
        self.module = ir.Module(name="tinygrad_rnn")
        self.integer = ir.IntType(64)
        self.real = ir.FloatType() if self.dtype.itemsize == 4 else ir.DoubleType()
        self.bits = ir.IntType(8 * self.dtype.itemsize)
        self.vector = ir.VectorType(self.real, self.lanes)

    def declare(self, name: str, arguments: int) -> Any:
        """A function of this module, or one given when it is loaded."""
        ir = _ir()
        found = self.module.globals.get(name)
        kind = ir.FunctionType(ir.VoidType(), [self.integer] * arguments)
        return found or ir.Function(self.module, kind, name)

    @contextmanager
    def function(self, name: str, arguments: Sequence[str]) -> Iterator[tuple[Emitter, list[Word]]]:
        """Write a function: inside the block, with an emitter and the arguments."""
        function = self.declare(name, len(arguments))
        builder = _ir().IRBuilder(function.append_basic_block("entry"))
        emitter = Emitter(self, builder)
        for argument, label in zip(function.args, arguments, strict=True):
            argument.name = label
        yield emitter, [Word(builder, a) for a in function.args]
        builder.ret_void()

    def intrinsic(self, name: str, result: Any, *arguments: Any) -> Any:
        """An LLVM intrinsic by its full name."""
        ir = _ir()
        kind = ir.FunctionType(result, arguments)
        return self.module.globals.get(name) or ir.Function(self.module, kind, name)

    def compiled(self, quick: bool = False) -> bytes:
        """The object code; `quick` is for straight code, in whose loops little stays the same."""
        return object_code(str(self.module), quick)


class Word:
    """A 64-bit integer of the written program."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _lifted(self, other: Count) -> Any:
        return other.value if isinstance(other, Word) else self.value.type(int(other))

    def _made(self, name: str, left: Any, right: Any) -> Word:
        return Word(self.builder, getattr(self.builder, name)(left, right))

    def __add__(self, other: Count) -> Word:
        return self._made("add", self.value, self._lifted(other))

    def __sub__(self, other: Count) -> Word:
        return self._made("sub", self.value, self._lifted(other))

    def __rsub__(self, other: Count) -> Word:
        return self._made("sub", self._lifted(other), self.value)

    def __mul__(self, other: Count) -> Word:
        return self._made("mul", self.value, self._lifted(other))

    def __floordiv__(self, other: Count) -> Word:
        return self._made("udiv", self.value, self._lifted(other))

    def __mod__(self, other: Count) -> Word:
        return self._made("urem", self.value, self._lifted(other))

    __radd__, __rmul__ = __add__, __mul__

    def _compared(self, sign: str, other: Count) -> Any:
        return self.builder.icmp_signed(sign, self.value, self._lifted(other))

    def __lt__(self, other: Count) -> Any:
        return self._compared("<", other)

    def __le__(self, other: Count) -> Any:
        return self._compared("<=", other)

    def __gt__(self, other: Count) -> Any:
        return self._compared(">", other)

    def __ge__(self, other: Count) -> Any:
        return self._compared(">=", other)

    def equals(self, other: Count) -> Any:
        """A condition for `when` and `select`."""
        return self._compared("==", other)

    def differs(self, other: Count) -> Any:
        """The opposite condition."""
        return self._compared("!=", other)

    def minimum(self, other: Count) -> Word:
        """The smaller of two."""
        return Word(
            self.builder, self.builder.select(self < other, self.value, self._lifted(other))
        )

    def maximum(self, other: Count) -> Word:
        """The larger of two."""
        return Word(
            self.builder, self.builder.select(self > other, self.value, self._lifted(other))
        )


class Emitter:
    """Writes one function: loops, memory, calls. Addresses are Words, in bytes."""

    def __init__(self, module: Module, builder: Any) -> None:
        self.module, self.builder = module, builder
        self.lanes, self.size = module.lanes, module.dtype.itemsize

    def word(self, n: int) -> Word:
        """A constant."""
        return Word(self.builder, self.module.integer(n))

    @contextmanager
    def loop(self, start: Count, stop: Count, step: Count = 1) -> Iterator[Word]:
        """Repeat what the block writes for start, start + step, ... below stop."""
        b = self.builder
        first, last = self.word(0) + start, self.word(0) + stop
        head, body, end = (b.append_basic_block(n) for n in ("loop", "body", "end"))
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(self.module.integer)
        index.add_incoming(first.value, before)
        b.cbranch(Word(b, index) < last, body, end)
        b.position_at_end(body)
        yield Word(b, index)
        index.add_incoming((Word(b, index) + step).value, b.block)
        b.branch(head)
        b.position_at_end(end)

    def vectors(self, start: Count, stop: Count) -> Iterator[tuple[Word, Any]]:
        """Write the block's code for the vectors of elements start:stop, and for what is left of
        one: it gets where that begins, in bytes, and a mask, None for all lanes."""
        begin, end = self.word(0) + start, self.word(0) + stop
        whole = (end - begin) // self.lanes * self.lanes + begin
        with self.loop(begin, whole, self.lanes) as index:
            yield index * self.size, None
        with self.when(whole < end):
            yield whole * self.size, self.mask(end - whole)

    @contextmanager
    def when(self, condition: Any) -> Iterator[None]:
        """Do what the block writes if the condition holds."""
        with self.builder.if_then(condition):
            yield

    def select(self, condition: Any, yes: Count, no: Count) -> Word:
        """One of two numbers."""
        values = (self.word(0) + yes).value, (self.word(0) + no).value
        return Word(self.builder, self.builder.select(condition, *values))

    def call(self, name: str, *arguments: Count) -> None:
        """Call a function of 64-bit integers, of this module or a loaded one."""
        function = self.module.declare(name, len(arguments))
        self.builder.call(function, [(self.word(0) + a).value for a in arguments])

    def pointer(self, address: Word) -> Any:
        return self.builder.inttoptr(address.value, _ir().PointerType())

    def read(self, address: Word) -> Word:
        """The 64-bit integer at an address."""
        return Word(self.builder, self.builder.load(self.pointer(address), typ=self.module.integer))

    def write(self, address: Word, number: Word) -> None:
        """Put a 64-bit integer at an address."""
        self.builder.store(number.value, self.pointer(address))

    def words(self, count: int) -> Word:
        """The address of memory for so many 64-bit integers."""
        b, integer = self.builder, self.module.integer
        with b.goto_entry_block():
            return Word(b, b.ptrtoint(b.alloca(integer, count), integer))

    def mask(self, count: Count) -> Any:
        """The first `count` lanes, for `load` and `store`."""
        ir, n = _ir(), self.lanes
        number = self.builder.trunc((self.word(0) + count).value, ir.IntType(32))
        kind = ir.VectorType(number.type, n)
        wide = self.builder.insert_element(
            ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0)
        )
        spread = self.shuffled(wide, kind)
        return self.builder.icmp_signed("<", ir.Constant(kind, list(range(n))), spread)

    def shuffled(self, vector: Any, kind: Any) -> Any:
        """Lane 0 in every lane."""
        ir = _ir()
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None)
        return self.builder.shuffle_vector(vector, ir.Constant(kind, ir.Undefined), zeros)

    def load(self, address: Word, mask: Any = None) -> Any:
        """A vector (an LLVM value) from memory; zero in the lanes outside the mask."""
        ir, m = _ir(), self.module
        if mask is None:
            return self.builder.load(self.pointer(address), align=self.size, typ=m.vector)
        zeros = ir.Constant(m.vector, None)
        name = f"llvm.masked.load.{self.suffix}.p0"
        kinds = ir.PointerType(), ir.IntType(32), mask.type, m.vector
        function = m.intrinsic(name, m.vector, *kinds)
        size = ir.IntType(32)(self.size)
        return self.builder.call(function, [self.pointer(address), size, mask, zeros])

    def store(self, address: Word, vector: Any, mask: Any = None) -> None:
        """A vector to memory, within the mask."""
        ir, m = _ir(), self.module
        if mask is None:
            self.builder.store(vector, self.pointer(address), align=self.size)
            return
        name = f"llvm.masked.store.{self.suffix}.p0"
        kinds = m.vector, ir.PointerType(), ir.IntType(32), mask.type
        function = m.intrinsic(name, ir.VoidType(), *kinds)
        size = ir.IntType(32)(self.size)
        self.builder.call(function, [vector, self.pointer(address), size, mask])

    @property
    def suffix(self) -> str:
        """How intrinsics on vectors are called."""
        return f"v{self.lanes}f{8 * self.size}"

    def splat(self, address: Word) -> Any:
        """One element from memory, in every lane."""
        ir, m = _ir(), self.module
        element = self.builder.load(self.pointer(address), align=self.size, typ=m.real)
        wide = self.builder.insert_element(
            ir.Constant(m.vector, ir.Undefined), element, ir.IntType(32)(0)
        )
        return self.shuffled(wide, m.vector)
