"""Axes of one style for all plots."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS = ("#4a5568", "#d97706", "#0f8b8d", "#7c5cbf", "#c2410c", "#9aa5b5", "#2f6f3e")


def panels(count: int, width: float = 3.0, height: float = 2.6) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width * count, height), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.set_prop_cycle(color=COLOURS)
        one.tick_params(labelsize=8)
    return figure, axes


def titled(axes: Any, title: str, x: str = "", y: str = "") -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)


def image(axes: Any, values: Any, top: float | None = None) -> None:
    axes.imshow(np.asarray(values), cmap="YlGnBu", vmin=0, vmax=top, aspect="auto", origin="lower")
    axes.spines[:].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
