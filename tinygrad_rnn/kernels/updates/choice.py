"""Kernel or definition: what cannot be compiled runs by its definition, and says so once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any


def disabled() -> bool:
    """Whether NUMBA_DISABLE_JIT asks for definitions."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def attempted(name: str, load: Callable[[], Any]) -> Any:
    """What `load` gives, or, with a warning, None; TINYGRAD_RNN_STRICT=1 raises instead."""
    try:
        return load()
    except Exception as error:
        if os.environ.get("TINYGRAD_RNN_STRICT") == "1":
            raise
        warnings.warn(
            f"{name} runs by its definition, without a compiled kernel: "
            f"{error or type(error).__name__}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
