"""What is kept for the parameters of an optimiser: arrays, and their restoring."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]


def filled(found: Arrays, like: np.ndarray, slots: Mapping[str, float]) -> Arrays:
    """The arrays of these names, made where there are none, which lie in memory as `like` does."""
    if found.keys() == slots.keys():
        return found
    return {s: found.get(s, np.full_like(like, value)) for s, value in slots.items()}


def mismatches(given: Arrays, own: Arrays, fixed: str) -> list[str]:
    """The names of arrays that are missing, unexpected, or of another shape or kind than one's own;
    of `fixed`, if its values differ."""
    return sorted(own.keys() ^ given.keys()) or [
        n
        for n, a in own.items()
        if given[n].shape != a.shape
        or not np.can_cast(given[n].dtype, a.dtype, "same_kind")
        or (n == fixed and (given[n] != a).any())
    ]
