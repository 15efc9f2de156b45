"""Draws the pictures of docs/layers.

    python docs/layer_pictures.py          # into docs/layers/
    python docs/layer_pictures.py DIR      # elsewhere

Cells, connections and attention are drawn from their equations, which run for it; the plots from
what layers return. A file keeps a digest of what it shows, and is written when that has changed.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.spines import Spine
from matplotlib.text import Text
from pictures import cells, plots_of_layers, plots_of_training, wirings

FOLDER = Path(__file__).resolve().parent / "layers"
PICTURES: dict[str, Callable[[], Figure]] = {
    **cells.PICTURES,
    **wirings.PICTURES,
    **plots_of_layers.PICTURES,
    **plots_of_training.PICTURES,
}


def shown(artist: Artist) -> Iterator[str]:
    """What is drawn: words, and numbers to four digits; without ticks and frames."""
    numbers: list[Any] = []
    if isinstance(artist, Text):
        yield artist.get_text()
    elif isinstance(artist, Line2D):
        numbers = [artist.get_xydata()]
    elif isinstance(artist, Patch):
        numbers = [artist.get_path().vertices, artist.get_patch_transform().get_matrix()]
    elif isinstance(artist, Collection):
        numbers = [path.vertices for path in artist.get_paths()]
    elif isinstance(artist, AxesImage):
        numbers = [np.ma.filled(artist.get_array().astype(float), -1.0)]
    for array in numbers:
        flat = np.ravel(array)
        yield " ".join(f"{v:.4g}" for v in np.where(np.abs(flat) < 1e-6, 0.0, flat))
    inside = artist.get_children()
    if isinstance(artist, Axis | Legend):
        inside = [artist.label] if isinstance(artist, Axis) else artist.get_texts()
    for child in inside:
        if not isinstance(child, Spine):
            yield from shown(child)


def digest(figure: Figure) -> str:
    return hashlib.sha256("\n".join(shown(figure)).encode()).hexdigest()


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in PICTURES.items():
        path, figure = folder / f"{name}.png", picture()
        found = digest(figure)
        if not path.exists() or found.encode() not in path.read_bytes():
            figure.savefig(path, dpi=100, metadata={"Description": found, "Software": None})
            print(f"wrote {path}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
