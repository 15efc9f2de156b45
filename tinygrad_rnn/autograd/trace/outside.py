"""The numbers that a function reads from outside, which may change between its calls."""

from __future__ import annotations

import builtins
import dis
import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

NUMBERS = (bool, int, float, np.number, np.bool_)
BUILTINS = vars(builtins)


def numbers_read(step: Any) -> list[Callable[[], Any]]:
    """How to read the numbers and flags that a function, and those that it wraps or calls, read
    from outside."""
    found: list[Callable[[], Any]] = []
    waiting, known = [step], list[Any]()
    while waiting:
        function = waiting.pop()
        if any(function is other for other in known):
            continue
        known.append(function)
        waiting.append(getattr(function, "__wrapped__", None))
        if not isinstance(function, FunctionType):
            continue
        names = {i.argval for i in dis.get_instructions(function) if i.opname == "LOAD_GLOBAL"}
        outside = function.__globals__
        reads = [functools.partial(_content, held) for held in function.__closure__ or ()]
        reads += [functools.partial(outside.get, name) for name in names if name not in BUILTINS]
        for read in reads:
            value = read()
            if value is None or isinstance(value, NUMBERS):
                found.append(functools.partial(_number, read))
            elif callable(value) and not _ours(value):
                waiting.append(value)
    return found


def check_outside(name: str, before: tuple[Any, ...], now: tuple[Any, ...]) -> None:
    """Raise if a definition that runs again for derivatives of gradients would read others."""
    if before != now:
        raise RuntimeError(
            f"{name}: expected the numbers that it reads from outside as they were in the forward "
            f"pass, for it runs again, got {now}, not {before}; make them arguments"
        )


def _ours(function: Any) -> bool:
    """Whether the library itself has it: its numbers stay."""
    return (getattr(function, "__module__", None) or "").startswith("tinygrad_rnn.")


def _number(read: Callable[[], Any]) -> Any:
    """As text: 0.0 equals -0.0, and 1 is True."""
    value = read()
    return repr(value) if isinstance(value, NUMBERS) else None


def _content(held: Any) -> Any:
    """Of a variable of an enclosing function, None while it has no value."""
    try:
        return held.cell_contents
    except ValueError:
        return None
