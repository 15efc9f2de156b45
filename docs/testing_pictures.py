"""Draws the pictures of docs/testing.md.

    python docs/testing_pictures.py          # into docs/testing/
    python docs/testing_pictures.py DIR      # elsewhere

The curves of the checker are made by the checker's own `testing.differences`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tinygrad_rnn.testing.differences import STEPS, Line, Table, central

FOLDER = Path(__file__).resolve().parent / "testing"
GRAY = "0.55"
EPS, EPS32 = (float(np.finfo(d).eps) for d in (np.float64, np.float32))
ONE = np.ones(1)
Curve = Callable[[Any], Any]


def panels(count: int, width: float = 4.6, height: float = 3.6) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width * count, height), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def along(f: Curve, x: float, scale: float = 1.0) -> Line:
    """f along scale, from x."""
    base = np.atleast_1d(f(x))
    return Line(lambda t: np.atleast_1d(f(x + t * scale)), base, EPS * np.abs(base), EPS)


# How differences lie


def wave(x: Any) -> Any:
    return np.exp(x) * np.sin(3 * x)


def wave_slope(x: float) -> float:
    return float(np.exp(x) * (np.sin(3 * x) + 3 * np.cos(3 * x)))


def wave_third(x: float) -> float:
    return float(np.exp(x) * (-26 * np.sin(3 * x) - 18 * np.cos(3 * x)))


def v_curve() -> Figure:
    """The error of a central difference against its step, and what the checker makes of it."""
    figure, (left, right) = panels(2)
    x, steps = 1.0, np.logspace(-12.5, -0.3, 160)
    slope = wave_slope(x)
    for dtype, eps, colour in ((np.float32, EPS32, "C1"), (np.float64, EPS, "C0")):
        ends = [(dtype(x + h), dtype(x - h)) for h in steps]
        apart = [
            (wave(a) - wave(b)) / (2 * dtype(h)) for h, (a, b) in zip(steps, ends, strict=True)
        ]
        error = np.abs(np.array(apart, float) / slope - 1)
        left.loglog(steps, error, ".", ms=3, color=colour, label=f"measured, {dtype.__name__}")
        rounding = eps * abs(wave(x) / slope) / steps
        left.loglog(steps, rounding, color=colour, lw=0.8, label="rounding, ε|f| / h")
    truncation = steps**2 * abs(wave_third(x) / slope) / 6
    left.loglog(steps, truncation, color=GRAY, lw=0.8, label="truncation, h²|f‴| / 6")
    left.set(
        title="A central difference",
        xlabel="step h",
        ylabel="relative error of the slope",
        ylim=(1e-14, 1e4),
    )
    left.legend(fontsize=7, loc="upper right", ncols=2)

    line = along(wave, x)
    noise = line.rounding(ONE)
    table, rows = Table(16.0, noise, line.near), []
    for h in STEPS[:11]:
        plain = (line.slope(h, ONE) + line.slope(-h, ONE)) / 2
        table.add(h, plain)
        table.settle()
        rows.append((h, plain, table.value, table.error))
    h, plain, best, error = np.array(rows).T
    right.loglog(h, np.abs(plain / slope - 1), "o-", ms=3, color=GRAY, label="central difference")
    known = np.isfinite(error)
    off = np.maximum(np.abs(best / slope - 1), 1e-16)[known]
    estimate = (error / abs(slope))[known]
    right.fill_between(h[known], estimate, 1e-16, color="C0", alpha=0.15, lw=0)
    right.loglog(h[known], estimate, "C0--", lw=1, label="its error as estimated")
    right.loglog(h[known], off, "o-", ms=3, color="C0", label="best extrapolated value so far")
    stop = central(along(wave, x), ONE, noise, 0.0)
    right.axvline(stop.step, color="C3", lw=0.8, ls=":", label="the step that is reported")
    right.set(
        title="The checker's table", xlabel="step h, each a quarter of the last", ylim=(1e-16, 10)
    )
    right.invert_xaxis()
    right.legend(fontsize=7)
    return figure


# Why one tolerance fails


def fixed_step() -> Figure:
    """sin(x / s) at x = s by differences with step 1e-6, and by the checker's."""
    figure, (axes,) = panels(1, 6.8, 3.8)
    scales = np.logspace(-8, 9, 400)
    true = np.cos(1.0) / scales
    numeric = (np.sin((scales + 1e-6) / scales) - np.sin((scales - 1e-6) / scales)) / 2e-6
    off = np.abs(numeric / true - 1)
    ours, estimate = [], []
    for s in scales:
        line = along(lambda x, s=s: np.sin(x / s), s, s)
        table = central(line, ONE, line.rounding(ONE), 0.0)
        ours.append(max(abs(table.value / np.cos(1.0) - 1), 1e-16))
        estimate.append(table.error / np.cos(1.0))
    refused = scales[np.abs(numeric - true) > 1e-5 + 1e-3 * np.abs(numeric)].max()
    blind = scales[np.abs(numeric) <= 1e-5].min()
    axes.axvspan(scales[0], refused, color="C3", alpha=0.12, lw=0)
    axes.axvspan(blind, scales[-1], color="C1", alpha=0.15, lw=0)
    axes.text(3.5e-7, 1e-10, "the right gradient\nis refused", ha="center", fontsize=8, color="0.3")
    axes.text(7e6, 1e-10, "a gradient of zero\nis accepted", ha="center", fontsize=8, color="0.3")
    axes.loglog(scales, off, color=GRAY, label="central difference, step 1e-6")
    axes.loglog(scales, estimate, "C0--", lw=1, label="the checker's estimate of its error")
    axes.loglog(scales, ours, ".", ms=2, color="C0", label="the checker's error")
    axes.set(
        title="f(x) = sin(x / s) at x = s; tolerance 1e-5 + 1e-3 |numeric|",
        xlabel="unit s that x is measured in",
        ylabel="relative error of the slope",
        xlim=(scales[0], scales[-1]),
        ylim=(1e-19, 1e2),
    )
    axes.legend(fontsize=7, loc="lower center")
    return figure


# Noise


NINTH = np.poly(np.full(9, 2.0))  # the coefficients of (x - 2)⁹


def noise() -> Figure:
    """Seven points a few ulps apart, and what the noise they show does to differences."""
    figure, (left, right) = panels(2)
    x = 2.3
    line = along(lambda x: np.polyval(NINTH, x), x, x)
    apart = 16 * np.arange(7)
    changes = np.array([line.change(k * EPS)[0] for k in apart]) * 1e11
    measured, assumed = line.noise(ONE), line.rounding(ONE)
    left.plot(apart, changes, "o-", color="C0", ms=4, lw=0.8, label="computed")
    left.plot(apart, apart * EPS * x * 9 * (x - 2) ** 8 * 1e11, color=GRAY, lw=1, label="exact")
    band = measured * 1e11
    left.axhspan(-band, band, color="C0", alpha=0.12, lw=0, label="± measured noise")
    left.set(
        title="(x - 2)⁹, multiplied out, at x = 2.3",
        xlabel="distance from x, in units of ε x",
        ylabel="change of f, in units of 10⁻¹¹",
    )
    left.legend(fontsize=7)

    slope = x * 9 * (x - 2) ** 8
    steps = np.array(STEPS)
    plain = np.array([(line.slope(h, ONE) + line.slope(-h, ONE)) / 2 for h in STEPS])
    table = central(line, ONE, measured)
    right.loglog(
        steps, np.abs(plain / slope - 1), "o-", ms=3, color=GRAY, label="central difference"
    )
    right.loglog(steps, measured / steps / slope, "C0--", lw=1, label="measured noise / h")
    right.loglog(steps, assumed / steps / slope, "C3:", lw=1, label="ε|f| / h")
    off, bar = abs(table.value / slope - 1), table.error / slope
    right.loglog([table.step], [off], "D", color="C0", ms=5, label="the checker's value")
    right.loglog([table.step], [bar], "_", color="C0", ms=14, mew=2, label="its error as estimated")
    right.set(
        title="Its slope by differences",
        xlabel="relative step h",
        ylabel="relative error of the slope",
        ylim=(1e-14, 1e2),
    )
    right.invert_xaxis()
    right.legend(fontsize=7, loc="lower left")
    return figure


# Kinks


def kinks() -> Figure:
    """Slopes from both sides as the step shrinks: at a kink, beside one, at a sharp bend."""
    figure, axes = panels(3, 3.2, 3.0)
    cases: list[tuple[str, Curve, float]] = [
        ("relu at the kink, x = 0", lambda x: np.maximum(x, 0), 0.0),
        ("relu beside it, x = 0.001", lambda x: np.maximum(x, 0), 1e-3),
        ("a sharp bend, √(x² + 10⁻⁶) at 0", lambda x: np.sqrt(x**2 + 1e-6), 0.0),
    ]
    steps = np.logspace(-6, 0, 61)
    for one, (title, f, x) in zip(axes, cases, strict=True):
        line = along(f, x)
        right, left = ([line.slope(side * h, ONE) for h in steps] for side in (1, -1))
        one.fill_between(steps, left, right, color="C0", alpha=0.12, lw=0)
        one.semilogx(steps, right, color="C0", label="from the right")
        one.semilogx(steps, left, color="C1", label="from the left")
        one.invert_xaxis()
        one.set_title(title, fontsize=9)
        one.set_xlabel("step h, shrinking →")
    axes[0].text(1e-3, 0.3, "any value between\nmay be a sub-gradient", fontsize=8, ha="center")
    axes[0].set_ylabel("slope of f")
    axes[0].legend(fontsize=7, loc=(0.45, 0.6))
    return figure


PICTURES = (v_curve, fixed_step, noise, kinks)


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        path = folder / f"{picture.__name__}.png"
        picture().savefig(path, dpi=96)
        print(f"wrote {path}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
