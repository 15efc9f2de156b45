"""Cells drawn at random: steps of products, sums, pointwise ops, splits and several states."""

import numpy as np

import tinygrad_rnn as tg
from tests.cells.table import Row, Sizes

ONE = (
    tg.tanh,
    tg.sigmoid,
    lambda a: 0.5 * a,
    lambda a: -a,
    lambda a: tg.sin(a) + 0.25,
    lambda a: a,
)
TWO = (
    tg.add,
    tg.subtract,
    lambda a, b: a * tg.tanh(b),
    lambda a, b: tg.where(a > b, a, 0.5 * b),
    lambda a, b: a / (1.5 + b * b),
)


class Drawn:
    """A step that does what a seed says; every time the same."""

    def __init__(self, seed, length, kinds=7):
        rng = np.random.default_rng(seed)
        self.kinds = kinds  # 6 leaves out sums over units
        self.seed, self.__name__ = seed, f"drawn_{seed}"
        self.__qualname__ = self.__name__
        self.states, self.each, self.several = (int(n) for n in rng.integers((1, 0, 1), (4, 2, 3)))
        self.length = min(length, int(rng.integers(2, 13)))
        self.units = int(rng.integers(2))
        self.matrices = [tuple(map(int, s)) for s in rng.choice([1, 2, 3], (rng.integers(1, 4), 2))]
        self.paired = self.states > 1 or bool(rng.integers(2))

    def sizes(self, i, h):
        params = tuple((m * h, n * h) for m, n in self.matrices) + ((h,),) * self.units
        states = (h,) * self.states if self.paired else h
        return Sizes((h,) * self.several, states, params, each=(h,) * self.each)

    def __call__(self, xs, state, *rest):
        rng = np.random.default_rng((self.seed, 1))
        rows = [*xs, *(state if self.paired else (state,)), *rest[: self.each]]
        matrices = rest[self.each : self.each + len(self.matrices)]
        units = rest[self.each + len(matrices) :]

        def some():  # later rows more often
            return rows[-1 - min(int(rng.exponential(3.0)), len(rows) - 1)]

        def wide(n):
            return tg.concatenate([some() for _ in range(n)], axis=-1) if n > 1 else some()

        for _ in range(self.length):
            kind = rng.integers(self.kinds)
            if kind < 2:
                k = rng.integers(len(matrices))
                m, n = self.matrices[k]
                turned = rng.integers(2)
                y = wide(m) @ matrices[k] if turned else tg.linear(wide(n), matrices[k])
                parts = n if turned else m
                rows += tg.split(y, parts, axis=-1) if parts > 1 else [y]
            elif kind < 3:
                rows.append(ONE[rng.integers(len(ONE))](some()))
            elif kind < 4 and units:
                rows.append(some() * units[0] if rng.integers(2) else some() + units[0])
            elif kind < 6:
                rows.append(TWO[rng.integers(len(TWO))](some(), some()))
            else:
                a, b = some(), some()
                rows.append(a - b * tg.tanh(tg.mean(a * b, -1, keepdims=True)))
        news = [some() if rng.integers(3) else tg.tanh(some()) for _ in range(self.states)]
        output = wide(int(rng.integers(1, 3)))
        return output, tuple(news) if self.paired else news[0]


def drawn(seed, length, *kinds):
    """A row of a table; a smaller length gives the beginning of the same step."""
    step = Drawn(seed, length, *kinds)
    return Row(step, step.sizes, smooth=False)
