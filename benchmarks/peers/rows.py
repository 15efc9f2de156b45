"""Rows of the table: a layer, a size, and what is done with it. The arrays are the same for all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]
Size = tuple[int, int, int, int]  # T, B, I, H

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
MODES = {"train": "training", "infer": "inference"}
SIZES: list[Size] = [
    (35, 20, 200, 200),
    (50, 32, 128, 128),
    (100, 50, 128, 512),
    (35, 20, 650, 650),
    (64, 1, 64, 64),
    (20, 20, 1500, 1500),
    (500, 16, 64, 64),
    (35, 20, 10, 10),
]
QUICK = [SIZES[0], SIZES[4], SIZES[7]]


@dataclass(frozen=True)
class Row:
    """A layer on a sequence: training is forward and backward, inference forward alone."""

    mode: str
    cell: str
    size: Size
    layers: int = 1

    @property
    def label(self) -> str:
        """The size as it is written on the command line."""
        return ",".join(map(str, self.size))

    @property
    def flops(self) -> float:
        """Of the matrix products only; backward has twice those of forward (dx, dh and dW)."""
        T, B, inputs, H = self.size
        columns = inputs + H + (self.layers - 1) * 2 * H
        return (6 if self.mode == "train" else 2) * T * B * GATES[self.cell] * H * columns

    def weights(self) -> Arrays:
        """float32 parameters by their names in a state dict of torch."""
        _, _, inputs, H = self.size
        G, rng = GATES[self.cell], np.random.default_rng(1)
        found = {}
        for k in range(self.layers):
            shapes = {"weight_ih": (G * H, H if k else inputs), "weight_hh": (G * H, H)}
            for name, shape in (shapes | {"bias_ih": (G * H,), "bias_hh": (G * H,)}).items():
                found[f"{name}_l{k}"] = (rng.uniform(-1, 1, shape) / H**0.5).astype(np.float32)
        return found

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """x, and the gradient of the outputs of all steps."""
        T, B, inputs, H = self.size
        rng = np.random.default_rng(2)
        x = rng.standard_normal((T, B, inputs), dtype=np.float32)  # (T, B, I)
        return x, rng.standard_normal((T, B, H), dtype=np.float32)  # (T, B, H)
