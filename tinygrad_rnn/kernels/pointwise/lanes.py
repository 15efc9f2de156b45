"""Vectors of the written program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tinygrad_rnn.kernels.emit import Emitter
from tinygrad_rnn.kernels.machine import host

Number = Any  # a Lane, or a Python number, which becomes a constant of the other's type
T = TypeVar("T")


def _ir() -> Any:
    from llvmlite import ir

    return ir


def _operator(floating: str = "", whole: str = "", swap: bool = False) -> Callable[..., Lane]:
    """A method that writes the instruction for floating-point, or for whole, numbers."""

    def method(self: Lane, other: Number) -> Lane:
        pair = self.value, self.lifted(other).value
        return self._made(floating if self.floating else whole, *(pair[::-1] if swap else pair))

    return method


def _comparison(sign: str) -> Callable[..., Lane]:
    """A method that compares; NaN differs from every number, and from NaN."""

    def method(self: Lane, other: Number) -> Lane:
        name = "fcmp_unordered" if sign == "!=" else "fcmp_ordered"
        name = name if self.floating else "icmp_signed"
        return self._made(name, sign, self.value, self.lifted(other).value)

    return method


class Lane:
    """One vector: of the module's floating-point numbers, of integers as wide, or of booleans.

    The operators are Python's. Comparisons give booleans, for `select`, & | ~; `bits` gives
    integers, for + - & | and shifts. Numbers are never reordered or contracted: `fma` is written.
    """

    __slots__ = ("emitter", "value")
    __hash__ = None  # type: ignore[assignment]  # == writes a comparison

    def __init__(self, emitter: Emitter, value: Any) -> None:
        self.emitter, self.value = emitter, value

    @property
    def floating(self) -> bool:
        """Whether these are floating-point numbers."""
        return bool(self.value.type == self.emitter.module.vector)

    @staticmethod
    def filled(emitter: Emitter, number: float) -> Lane:
        """A floating-point number in every lane."""
        return Lane(emitter, _ir().Constant(emitter.module.vector, float(number)))

    def constant(self, number: float) -> Lane:
        """A number in every lane, of this vector's type."""
        if self.floating:
            return Lane.filled(self.emitter, number)
        return Lane(self.emitter, _ir().Constant(self.value.type, int(number)))

    def lifted(self, other: Number) -> Lane:
        """A lane as it is, a number as a constant."""
        return other if isinstance(other, Lane) else self.constant(other)

    def pick(self, by_size: Mapping[int, T]) -> T:
        """The entry for the module's dtype: 4 or 8 bytes."""
        return by_size[self.emitter.size]

    def _made(self, name: str, *operands: Any) -> Lane:
        return Lane(self.emitter, getattr(self.emitter.builder, name)(*operands))

    def __neg__(self) -> Lane:
        return self._made("fneg", self.value)

    def __invert__(self) -> Lane:
        return self._made("not_", self.value)

    __add__ = __radd__ = _operator("fadd", "add")
    __sub__, __rsub__ = _operator("fsub", "sub"), _operator("fsub", "sub", swap=True)
    __mul__ = __rmul__ = _operator("fmul", "mul")
    __truediv__, __rtruediv__ = _operator("fdiv"), _operator("fdiv", swap=True)
    __and__, __or__ = _operator(whole="and_"), _operator(whole="or_")
    __lshift__, __rshift__ = _operator(whole="shl"), _operator(whole="lshr")  # zeros come in
    __lt__, __le__, __gt__, __ge__ = (_comparison(sign) for sign in ("<", "<=", ">", ">="))
    __eq__ = _comparison("==")  # type: ignore[assignment]
    __ne__ = _comparison("!=")  # type: ignore[assignment]

    def select(self, yes: Number, no: Number) -> Lane:
        """yes where these booleans hold, else no."""
        pair = (v if isinstance(v, Lane) else Lane.filled(self.emitter, v) for v in (yes, no))
        return self._made("select", self.value, *(lane.value for lane in pair))

    def intrinsic(self, name: str, *others: Number) -> Lane:
        """LLVM's function of that name, of this vector and others of its type."""
        operands = [self.value, *(self.lifted(o).value for o in others)]
        kind, e = self.value.type, self.emitter
        function = e.module.intrinsic(f"llvm.{name}.{e.suffix}", kind, *[kind] * len(operands))
        return self._made("call", function, operands)

    def fma(self, factor: Number, addend: Number) -> Lane:
        """self · factor + addend, rounded once."""
        return self.intrinsic("fma", factor, addend)

    def polynomial(self, *coefficients: float) -> Lane:
        """c₀ + c₁ x + c₂ x² + ..."""
        *rest, last = coefficients
        total = self.constant(last)
        for c in reversed(rest):
            total = total.fma(self, c)
        return total

    def at_least(self, bound: float) -> Lane:
        """The larger of x and a number; NaN stays."""
        return (self < bound).select(bound, self)

    def at_most(self, bound: float) -> Lane:
        """The smaller of x and a number; NaN stays."""
        return (self > bound).select(bound, self)

    def abs(self) -> Lane:
        """|x|."""
        return self.intrinsic("fabs")

    def with_sign(self, of: Lane) -> Lane:
        """|self| with the sign of another, also of its zeros."""
        return self.intrinsic("copysign", of)

    def bits(self) -> Lane:
        """The numbers' representation, as integers."""
        return self._cast(self.emitter.module.bits)

    def number(self) -> Lane:
        """The numbers that these integers represent."""
        return self._cast(self.emitter.module.real)

    def _cast(self, element: Any) -> Lane:
        return self._made("bitcast", self.value, _ir().VectorType(element, self.emitter.lanes))

    def scaled(self, n: Lane) -> Lane:
        """self · 2ⁿ for whole n in [-1200, 1024] (float32: [-180, 128]), rounded once."""
        e = self.emitter
        if e.lanes * e.size == 64 and "+avx512f" in host()[1].split(","):
            return self._scalef(n)
        fraction, whole = self.pick({4: (23, 1.5 * 2**23 + 254), 8: (52, 1.5 * 2**52 + 2046)})
        twice = (n + whole).bits()  # its last bits are n and two biases; the others are shifted out
        half = twice >> 1
        first, second = ((part << fraction).number() for part in (half, twice - half))
        return self * first * second

    def _scalef(self, n: Lane) -> Lane:
        """`scaled` as one operation of AVX-512."""
        ir, kind = _ir(), self.value.type
        letter, mask = self.pick({4: ("s", 16), 8: ("d", 8)})
        every, rounding = ir.IntType(mask)(-1), ir.IntType(32)(4)  # 4: as usual
        operands = [self.value, n.value, self.value, every, rounding]
        name, kinds = f"llvm.x86.avx512.mask.scalef.p{letter}.512", [o.type for o in operands]
        function = self.emitter.module.intrinsic(name, kind, *kinds)
        return self._made("call", function, operands)
