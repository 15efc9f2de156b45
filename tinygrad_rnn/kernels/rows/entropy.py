"""Softmax cross-entropy of rows of logits, and what is common to all ways of computing it.

    loss = (1 - s) w_t (log Σ eˡ - l_t) + s / V Σ_v w_v (log Σ eˡ - l_v)
    d l_v = slope · softmax_v - base · w_v, less `target_slope` at v = t

with smoothing s, weights w of classes, and the target t. Everything is computed from l - shift, the
shift being the row's largest logit, so that no common shift of a row is seen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinygrad_rnn.kernels.emit import Module
from tinygrad_rnn.kernels.memory import address
from tinygrad_rnn.kernels.pointwise.exponential import exp
from tinygrad_rnn.kernels.pointwise.lanes import Lane
from tinygrad_rnn.kernels.pointwise.running import Running, first_lane, folded, splat
from tinygrad_rnn.kernels.rows.code import Kernels, dealt, lines, spread

STATE = ("shift", "total", "depth", "hit")  # total Σ e^(l - shift), depth Σ w (l - shift), hit l_t
RATES = ("shift", "log_total", "slope", "base", "target_slope")
_COMMON = "logits row count classes targets weight"
FIELDS = {"survey": f"{_COMMON} states", "differentiate": f"{_COMMON} rates d d_row"}


class States(NamedTuple):
    """What is known of each row's logits, (N,) each."""

    shift: np.ndarray
    log_total: np.ndarray
    depth: np.ndarray
    hit: np.ndarray


class Recipe(NamedTuple):
    """Which loss it is: the smoothing, the number of classes, and their weights or None."""

    smoothing: float
    classes: int
    weight: np.ndarray | None = None

    def of_targets(self, targets: np.ndarray) -> np.ndarray | float:
        """The weights of the rows' own classes."""
        return 1.0 if self.weight is None else self.weight[np.maximum(targets, 0)]

    @property
    def total(self) -> float:
        """Of all weights."""
        return self.classes if self.weight is None else np.sum(self.weight)

    def losses(self, states: States, targets: np.ndarray) -> np.ndarray:
        """The rows' losses; 0 where the target is negative."""
        s, (shift, log_total, depth, hit) = self.smoothing, states
        with np.errstate(all="ignore"):
            loss = self.of_targets(targets) * ((shift - hit) + log_total)
            if s:
                everywhere = (self.total * log_total - depth) * (s / self.classes)
                loss = (1 - s) * loss + everywhere
        return np.where(targets < 0, 0, loss).astype(shift.dtype, copy=False)

    def rates(self, states: States, targets: np.ndarray, worth: np.ndarray) -> np.ndarray:
        """`RATES` of the rows, (5, N), for the cotangents of their losses."""
        s, own = self.smoothing, self.of_targets(targets)
        slope = (1 - s) * own + s / self.classes * self.total if self.weight is not None else 1.0
        with np.errstate(invalid="ignore"):
            base, target_slope = worth * (s / self.classes), worth * ((1 - s) * own)
            rates = (states.shift, states.log_total, worth * slope, base, target_slope)
        return np.stack(rates).astype(worth.dtype, copy=False)


def write(module: Module) -> None:
    with KERNELS.written(module, "survey") as (e, f, start, stop), e.loop(start, stop) as i:
        row, top = f.logits + i * f.row, Running(e, -np.inf)
        for column, mask in e.vectors(0, f.classes):
            x = Lane(e, e.load(row + column, mask))
            x = x if mask is None else Lane(e, mask).select(x, -np.inf)
            top.set(larger(x, top.get()))
        shift = finite(folded(top.get(), larger))
        total, depth = Running(e, 0.0), Running(e, 0.0)
        for column, mask in e.vectors(0, f.classes):
            x = Lane(e, e.load(row + column, mask)) - shift
            total.add(exp(x), mask)
            depth.add(x * Lane(e, e.load(f.weight + column, mask)), mask)
        target = e.read(f.targets + i * 8)
        hit = splat(e, row + e.select(target < 0, 0, target) * e.size)
        sums = (r.total() for r in (total, depth))
        for k, lane in enumerate((shift, *sums, hit)):
            first_lane(e, f.states + (f.count * k + i) * e.size, lane)
    with KERNELS.written(module, "differentiate") as (e, f, start, stop), e.loop(start, stop) as i:
        places = [f.rates + (f.count * k + i) * e.size for k in range(len(RATES))]
        shift, log_total, slope, base, target_slope = (splat(e, p) for p in places)
        target, out = e.read(f.targets + i * 8), f.d + i * f.d_row
        left_out = spread(e, target) < 0
        for column, mask in e.vectors(0, f.classes):
            x = Lane(e, e.load(f.logits + i * f.row + column, mask))
            w = Lane(e, e.load(f.weight + column, mask))
            d = exp((x - shift) - log_total) * slope - base * w
            e.store(out + column, left_out.select(0.0, d).value, mask)
        with e.when(target >= 0):
            place = out + target * e.size
            first_lane(e, place, splat(e, place) - target_slope)


def larger(x: Lane, top: Lane) -> Lane:
    """The larger of two: `top` where x is NaN, which the sums then show."""
    return (x > top).select(x, top)


def finite(top: Lane) -> Lane:
    """What is taken off the logits of a row; of logits that are all -inf, nothing."""
    return (top == -np.inf).select(0.0, top)


KERNELS = Kernels("cross_entropy", FIELDS, write)


def _table(logits: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> dict[str, int]:
    count, classes = logits.shape
    arrays = {"logits": address(logits), "targets": address(targets), "weight": address(weight)}
    return arrays | {"row": logits.strides[0], "count": count, "classes": classes}


def _weight(recipe: Recipe, dtype: np.dtype) -> np.ndarray:
    return np.ones(recipe.classes, dtype) if recipe.weight is None else recipe.weight


def survey(logits: np.ndarray, targets: np.ndarray, recipe: Recipe) -> States:
    """The states of the rows (N, V); targets (N,) of 64 bits, negative where one is left out."""
    logits, weight = lines(logits), _weight(recipe, logits.dtype)
    states = np.empty((len(STATE), len(logits)), logits.dtype)
    table = _table(logits, targets, weight)
    call = KERNELS.call("survey", logits.dtype, **table, states=address(states))
    dealt(call, len(logits), logits.size)
    shift, total, depth, hit = states
    with np.errstate(all="ignore"):
        return States(shift, np.log(total), depth, hit)


def differentiate(
    logits: np.ndarray, targets: np.ndarray, recipe: Recipe, rates: np.ndarray
) -> np.ndarray:
    """The gradient of the rows' logits."""
    logits, weight = lines(logits), _weight(recipe, logits.dtype)
    d = np.empty(logits.shape, logits.dtype)
    more = {"rates": address(rates), "d": address(d), "d_row": d.strides[0]}
    call = KERNELS.call("differentiate", d.dtype, **_table(logits, targets, weight), **more)
    dealt(call, len(logits), logits.size)
    return d
