"""Code for the softmax cross-entropy of x Wᵀ + b, of a chunk of rows of x and a slab of classes.

The logits stand the other way round, (V, rows), in panels: the lanes of a vector are rows of x. So
W is read as it is, sums over classes are lane by lane, and the gradient of W needs no packing of
that of the logits. Each block of logits is looked at while it is in the cache.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tinygrad_rnn.kernels.emit import Emitter, Module, Word
from tinygrad_rnn.kernels.gemm.pack import padded
from tinygrad_rnn.kernels.gemm.tile import PANEL, carried
from tinygrad_rnn.kernels.pointwise.exponential import exp
from tinygrad_rnn.kernels.pointwise.lanes import Lane
from tinygrad_rnn.kernels.pointwise.running import first_lane, folded
from tinygrad_rnn.kernels.rows.code import Kernels, spread
from tinygrad_rnn.kernels.rows.entropy import RATES, STATE, finite, larger

BLOCK = 96  # classes whose logits are looked at while they are in the cache
_COMMON = "w w_row classes h columns logits targets zeros"
FIELDS = {
    "scores": f"{_COMMON} turned bias bias_step states",
    "slopes": f"{_COMMON} rates rows packed first d_w d_b d_x d_x_row packed_w",
}


def write(module: Module) -> None:
    """Both functions take a range of classes, which is one slab."""
    with KERNELS.written(module, "scores") as (e, f, start, stop):
        with e.loop(start, stop, BLOCK) as v:
            count = (stop - v).minimum(BLOCK)
            with e.loop(0, f.columns, PANEL * e.lanes) as column:
                width, logits = panel(e, f, v, column)
                given = f.w + v * f.w_row, f.w_row, e.size, f.turned + column * f.h * e.size
                row = width * e.size
                e.call("product", count, width, f.h, *given, f.zeros, 0, logits, row)
                with e.loop(0, width, e.lanes) as lane:
                    survey(e, f, v, v - start, count, column + lane, logits + lane * e.size, row)
    with KERNELS.written(module, "slopes") as (e, f, start, stop):
        with e.loop(start, stop, BLOCK) as v:
            count = (stop - v).minimum(BLOCK)
            with e.when(f.d_x.differs(0)):
                e.call("pack", f.w + v * f.w_row, e.size, f.w_row, f.h, count, f.packed_w)
            with e.loop(0, f.columns, PANEL * e.lanes) as column:
                width, logits = panel(e, f, v, column)
                with e.loop(0, width, e.lanes) as lane:
                    place = logits + lane * e.size
                    differentiate(e, f, v, count, column + lane, place, width * e.size)
                spend(e, f, v, v.equals(start), count, column, width, logits)


def panel(e: Emitter, f: SimpleNamespace, v: Word, column: Word) -> tuple[Word, Word]:
    """The width of the panel of logits at a column, and where its row of class v is."""
    width = (f.columns - column).minimum(PANEL * e.lanes)
    return width, f.logits + (column * f.classes + v * width) * e.size


def survey(
    e: Emitter,
    f: SimpleNamespace,
    v: Word,
    seen: Word,
    count: Word,
    column: Word,
    logits: Word,
    step: Word,
) -> None:
    """Add the bias to a block's logits, and the block to the state of its rows: the largest logit,
    Σ exp(logit - largest), Σ (logit - largest), and the target's logit."""
    places = [f.states + (f.columns * k + column) * e.size for k in range(len(STATE))]
    top, total, depth, hit = (Lane(e, e.load(p)) for p in places)
    target = Lane(e, e.load(f.targets + column * e.size)).bits() - spread(e, v)
    low, zero = Lane.filled(e, -np.inf), Lane.filled(e, 0.0)
    begin = [low.value, hit.value, target.number().value]
    with carried(e, count, begin) as (i, (most, found, left), after):
        place = logits + i * step
        x = Lane(e, e.load(place)) + Lane(e, e.splat(f.bias + (v + i) * f.bias_step))
        e.store(place, x.value)
        rest = Lane(e, left).bits()
        after += [
            larger(x, Lane(e, most)).value,
            (rest == 0).select(x, Lane(e, found)).value,
            (rest - 1).number().value,
        ]
    hit = Lane(e, found)
    new = larger(Lane(e, most), top)
    shift, before = finite(new), finite(top)
    with carried(e, count, [zero.value, zero.value]) as (i, (near, far), after):
        x = Lane(e, e.load(logits + i * step)) - shift
        after += [(Lane(e, near) + exp(x)).value, (Lane(e, far) + x).value]
    total = total * exp(top - shift) + Lane(e, near)
    passed = Lane(e, e.builder.sitofp(spread(e, seen).value, e.module.vector))
    depth = depth + passed * (before - shift) + Lane(e, far)
    for p, lane in zip(places, (new, total, depth, hit), strict=True):
        e.store(p, lane.value)


def differentiate(
    e: Emitter, f: SimpleNamespace, v: Word, count: Word, column: Word, logits: Word, step: Word
) -> None:
    """Replace logits by their gradient: slope · softmax - base, less at the target; 0 in a row
    that does not count."""
    places = [f.rates + (f.columns * k + column) * e.size for k in range(len(RATES))]
    shift, log_total, slope, base, target_slope = (Lane(e, e.load(p)) for p in places)
    target = Lane(e, e.load(f.targets + column * e.size)).bits()
    out = target < 0
    with carried(e, count, [(target - spread(e, v)).number().value]) as (i, (left,), after):
        place, rest = logits + i * step, Lane(e, left).bits()
        d = exp((Lane(e, e.load(place)) - shift) - log_total) * slope - base
        d = (rest == 0).select(d - target_slope, d)
        e.store(place, out.select(0.0, d).value)
        after.append((rest - 1).number().value)


def spend(
    e: Emitter,
    f: SimpleNamespace,
    v: Word,
    begins: Any,
    count: Word,
    column: Word,
    width: Word,
    d: Word,
) -> None:
    """What a block's gradients give: rows of those of W and b, and a summand of that of x."""
    step, rows = width * e.size, (f.rows - column).minimum(width)
    again = e.builder.or_(f.first.equals(0), column > 0)
    with e.when(f.d_w.differs(0)):
        c, c_row = f.d_w + v * (f.h * e.size), f.h * e.size
        start = e.select(again, c, f.zeros), e.select(again, c_row, 0)
        packed = f.packed + column * padded(e, f.h)
        e.call("product", count, f.h, rows, d, step, e.size, packed, *start, c, c_row)
    with e.when(f.d_b.differs(0)), e.loop(0, count) as i:
        with carried(e, width // e.lanes, [Lane.filled(e, 0.0).value]) as (j, (sum_,), after):
            x = Lane(e, e.load(d + i * step + j * (e.lanes * e.size)))
            after.append((Lane(e, sum_) + x).value)
        place = f.d_b + (v + i) * e.size
        old = Lane(e, e.splat(e.select(again, place, f.zeros)))
        first_lane(e, place, old + folded(Lane(e, sum_), Lane.__add__))
    with e.when(f.d_x.differs(0)):
        c = f.d_x + column * f.d_x_row
        start = e.select(begins, f.zeros, c), e.select(begins, 0, f.d_x_row)
        e.call("product", rows, f.h, count, d, e.size, step, f.packed_w, *start, c, f.d_x_row)


KERNELS = Kernels("linear_cross_entropy", FIELDS, write, products=True)
