"""Pictures of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def draw_losses(
    curve: Sequence[Sequence[float]],
    levels: Mapping[str, float],
    title: str,
    unit: str,
    path: Path,
) -> None:
    """Losses against the updates.

    Args:
        curve: for each point the update, the training and the validation loss, in nats.
        levels: losses that do not change, by name: those of other models.
        title: above the picture.
        unit: what a loss is of, "character" or "word".
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    update, training, validation = np.array(curve).T
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(update, training, ".-", label="training (mean since the last point)")
    axes.plot(update, validation, ".-", label="validation (or its beginning)")
    for name, level in levels.items():
        axes.axhline(level, color="gray", ls="--", label=name)
    axes.set(xlabel="update", ylabel=f"nats per {unit}", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
