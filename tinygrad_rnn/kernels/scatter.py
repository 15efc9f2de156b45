"""Scatter-add of rows."""

from __future__ import annotations

import numpy as np


def scatter_rows(rows: np.ndarray, indices: np.ndarray, count: int) -> np.ndarray:
    """Zeros (count, n) with each of the rows (m, n) added at its index (m,); deterministic."""
    out = np.zeros((count, rows.shape[1]), rows.dtype)
    if indices.size:
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
        out[ordered[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return out
