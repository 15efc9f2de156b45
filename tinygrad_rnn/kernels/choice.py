"""Kernel or definition: what cannot be compiled runs by its definition, and says so."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any


def disabled() -> bool:
    """Whether NUMBA_DISABLE_JIT asks for definitions."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def strict() -> bool:
    """Whether what cannot be compiled is an error."""
    return os.environ.get("TINYGRAD_RNN_STRICT") == "1"


def reason(error: Exception, fn: Any = None) -> str:
    """Why something was not compiled, and the line of `fn` that is to blame."""
    return f"{error or type(error).__name__}{_line(fn, error)}"


def warn(name: str, why: str, stacklevel: int = 2) -> None:
    """Say that `name` runs by its definition; `stacklevel` counts from the caller, as 1."""
    text = f"{name} runs by its definition, without a compiled kernel: {why}"
    warnings.warn(text, RuntimeWarning, stacklevel=stacklevel + 1)


def attempted(name: str, load: Callable[[], Any], fn: Any = None, stacklevel: int = 2) -> Any:
    """What `load` gives, or, with a warning, None; TINYGRAD_RNN_STRICT=1 raises instead. A line of
    `fn` may be to blame."""
    try:
        return load()
    except Exception as error:
        if strict():
            raise
        warn(name, reason(error, fn), stacklevel)
        return None


class Doubts:
    """Why calls of a function run by its definition. This is said, once for each reason, when the
    definition has run: a call that cannot run has an error of its own."""

    def __init__(self, name: str, fn: Any) -> None:
        self.name, self.fn, self._told = name, fn, set[str]()
        self._new: dict[Any, str] = {}

    def keep(self, error: Exception, key: Any = None) -> None:
        """Of calls that `key` is remembered for; raised if it is strict."""
        if strict():
            raise error
        self._new[key] = reason(error, self.fn)

    def settled(self, definition: Callable[[], Any], known: dict[Any, Any], stacklevel: int) -> Any:
        """What the definition gives; where it raises, what was `known` is forgotten."""
        try:
            found = definition()
        except BaseException:
            lost, self._new = self._new, {}
            for key in lost:
                known.pop(key, None)
            raise
        new, self._new = set(self._new.values()) - self._told, {}
        self._told |= new
        for why in new:
            warn(self.name, why, stacklevel + 1)
        return found


def _line(fn: Any, error: Exception) -> str:
    code = getattr(fn, "__code__", None)
    file = code.co_filename if code else None
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == file and frame.lineno:
            return f" ({file}:{frame.lineno}: {frame.line})"
    return f" ({file}:{code.co_firstlineno})" if code else ""
