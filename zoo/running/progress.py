"""How far a long run is."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(items: Iterable[Any] | None = None, logged: bool = True, **options: Any) -> Any:
    """tqdm's bar on standard error, ten times a second on a terminal.

    Args:
        items: to go through; without them the bar is moved by its `update`.
        logged: whether a file or pipe in place of a terminal gets it too, every ten seconds.
        options: of tqdm, as total, unit and initial.
    """
    seen = sys.stderr.isatty()
    often, quiet = 0.1 if seen else 10.0, not (seen or logged)
    return tqdm(items, disable=quiet, dynamic_ncols=True, mininterval=often, **options)
