"""What a row is to reach, and the geometric means over rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.peers.rows import Row

OURS, SHARE = "tinygrad_rnn", "peak"


@dataclass(frozen=True)
class Goal:
    """The least ratio beside a library, or share of the peak, of the rows that it fits."""

    least: float
    beside: str
    mode: str
    cell: str | None = None
    threads: int | None = None
    fits: Callable[[int, int], bool] = lambda B, H: True


def tiny(B: int, H: int) -> bool:
    return B == 1 or H <= 10


# The last one that fits a row holds.
GOALS = [
    Goal(1.0, "torch", "train", "LSTM"),
    Goal(0.97, "torch", "train", "LSTM", 1, lambda B, H: H == 650),
    Goal(1.5, "torch", "train", "LSTM", fits=lambda B, H: H == 1500),
    Goal(1.3, "torch", "train", "GRU"),
    Goal(1.3, "torch", "train", "RNN"),
    Goal(1.15, "torch", "train", "RNN", 1, lambda B, H: H == 512),
    Goal(2.0, "torch", "train", fits=tiny),
    Goal(1.0, "jax", "train", "LSTM"),
    Goal(0.97, "jax", "train", "LSTM", 1, lambda B, H: H == 650),
    Goal(1.5, "jax", "train", "LSTM", fits=lambda B, H: H == 1500),
    Goal(1.0, "jax", "train", fits=tiny),
    Goal(0.85, SHARE, "train", threads=1, fits=lambda B, H: B > 1 and H >= 512),
    Goal(0.80, SHARE, "train", threads=1, fits=lambda B, H: B > 1 and H == 200),
    Goal(0.75, SHARE, "train", threads=2, fits=lambda B, H: B > 1 and H >= 512),
    Goal(0.65, SHARE, "train", threads=2, fits=lambda B, H: B > 1 and H == 200),
    Goal(1.0, "torch", "infer"),
]

# Of geometric means, over all rows of a mode.
MEANS = {("train", "torch"): 1.6, ("infer", "torch"): 1.4, ("infer", "onnxruntime"): 1.0}


def goal(row: Row, threads: int, beside: str) -> float | None:
    """What holds for a row, if anything does."""
    _, B, _, H = row.size
    found = [
        g.least
        for g in GOALS
        if (g.beside, g.mode) == (beside, row.mode)
        and g.cell in (None, row.cell)
        and g.threads in (None, threads)
        and g.fits(B, H)
    ]
    return found[-1] if found else None
