"""The default random generator: everything random takes `rng`, and this one when none is given."""

from __future__ import annotations

import copy
import functools
from contextvars import ContextVar
from typing import Any

import numpy as np

REPLAYED: ContextVar[np.random.Generator | None] = ContextVar("tinygrad_rnn_rng", default=None)


@functools.cache  # made at the first draw: importing numpy.random takes a while
def _default() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64())


def default_rng(rng: np.random.Generator | None = None) -> np.random.Generator:
    """`rng` itself, or the default generator."""
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng: expected a numpy.random.Generator, got {type(rng).__name__}; "
            "make one with numpy.random.default_rng(seed)"
        )
    return (REPLAYED.get() or _default()) if rng is None else rng


def replaying(state: dict[str, Any]) -> np.random.Generator:
    """A generator that repeats the default one's draws from `state` on."""
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = state
    return rng


def manual_seed(seed: int) -> None:
    """Seed the default generator.

    >>> import tinygrad_rnn as tg
    >>> tg.manual_seed(0); a = tg.randn(3)
    >>> tg.manual_seed(0); bool((tg.randn(3) == a).numpy().all())
    True
    """
    _default().bit_generator.state = np.random.PCG64(seed).state


def get_rng_state() -> dict[str, Any]:
    """The whole state of the default generator, as plain JSON values."""
    state: dict[str, Any] = copy.deepcopy(dict(default_rng().bit_generator.state))
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Set what `get_rng_state` returned."""
    try:
        _default().bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(
            f"set_rng_state: expected what get_rng_state returned, got a bad state ({error})"
        ) from None
