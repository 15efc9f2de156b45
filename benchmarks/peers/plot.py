"""A picture from one run: the time of a training step against T, B, H and layers."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.contest import Quartiles, Result, contest, players, quartiles
from benchmarks.peers.goals import OURS
from benchmarks.peers.machine import Others
from benchmarks.peers.rows import Row

T, B, H = 100, 20, 128  # where they are not what varies; I = H
SWEEPS: dict[str, tuple[list[int], Callable[[int], tuple[int, int, int, int]]]] = {
    "T": ([25, 50, 100, 200, 400, 800], lambda n: (n, B, H, 1)),
    "B": ([8, 16, 32, 64, 128, 256], lambda n: (T, n, H, 1)),
    "H": ([32, 64, 128, 256, 512, 1024], lambda n: (T, B, n, 1)),
    "layers": ([1, 2, 3, 4], lambda n: (T, B, H, n)),
}
NAMES = {"T": "steps T", "B": "batch B", "H": "units H (= inputs I)", "layers": "layers"}
Sweep = list[tuple[int, Result]]


def measure(
    cell: str, threads: int, pairs: int, quick: bool, say: Callable[[str], None]
) -> dict[str, Sweep]:
    """Interleaved times of ours and torch at every point of the four panels."""
    found: dict[str, Sweep] = {}
    with players([OURS, "torch"], threads) as playing:
        others = Others([p.pid for p in playing.values()])
        for axis, (values, shape) in SWEEPS.items():
            found[axis] = []
            for n in values[:3] if quick else values:
                t, b, h, layers = shape(n)
                result = contest(Row("train", cell, (t, b, h, h), layers), threads, playing, pairs)
                for message in (*result.missing.values(), *result.wrong.values()):
                    say(message)
                found[axis].append((n, result))
                times = [f"{k} {1e3 * result.median(k):9.2f} ms" for k in result.times]
                say(f"{axis:6} = {n:4}   {'   '.join(times)}")
        say(others.told(threads))
    return found


def line(sweep: Sweep, library: str) -> tuple[np.ndarray, float]:
    """The straight line of the medians with the least relative errors, and its largest one."""
    points = [(n, r.median(library)) for n, r in sweep if library in r.times]
    n, seconds = np.array(points).T
    design = np.stack([n, np.ones_like(n)], 1) / seconds[:, None]
    fit = np.linalg.lstsq(design, np.ones_like(n), rcond=None)[0]
    return fit, float(np.abs(design @ fit - 1).max())


def draw(found: dict[str, Sweep], cell: str, threads: int, path: Path) -> list[str]:
    """Four panels with medians and quartiles; returns how straight the lines in T and B are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    words, panels = [], figure.subplots(2, 2).flat
    for axes, (axis, sweep) in zip(panels, found.items(), strict=True):
        for library, style in ((OURS, "o-"), ("torch", "s--")):
            rows = [(n, quartiles(r.times[library])) for n, r in sweep if library in r.times]
            if len(rows) < 2:
                continue
            _curve(axes, rows, style, library)
            if axis in "TB":
                (slope, start), worst = line(sweep, library)
                words.append(
                    f"{library}: {1e3 * slope:.4f} ms per unit of {axis} and {1e3 * start:.3f} ms;"
                    f" no point is off that line by more than {worst:.0%}"
                )
        axes.set(xlabel=NAMES[axis], ylabel="ms", ylim=(0, None), xlim=(0, None))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    many = f"{threads} thread{'s' if threads > 1 else ''}"
    here = f"T = {T}, B = {B}, I = H = {H}, one layer where not varied"
    figure.suptitle(f"A training step of {cell}, float32, {many}; {here}")
    figure.savefig(path, dpi=120)
    return words


def _curve(axes: Any, rows: list[tuple[int, Quartiles]], style: str, name: str) -> None:
    n = [value for value, _ in rows]
    low, middle, high = (np.array([1e3 * q[k] for _, q in rows]) for k in range(3))
    axes.errorbar(n, middle, yerr=[middle - low, high - middle], fmt=style, capsize=3, label=name)


def speedup(found: dict[str, Sweep]) -> float | None:
    """The geometric mean of torch's time over ours, over all points."""
    results = [result for sweep in found.values() for _, result in sweep]
    ratios = [statistics.median(q) for r in results if (q := r.ratios("torch"))]
    return statistics.geometric_mean(ratios) if ratios else None
