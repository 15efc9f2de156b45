"""What a recurrent layer puts around its step: each makes a step of a step, compiled as that is.

Inputs that are added follow those of the step in `xs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from tinygrad_rnn.autograd.graph import MODE, Array, Value, switched
from tinygrad_rnn.autograd.ops.shape import concatenate
from tinygrad_rnn.cell import Cell
from tinygrad_rnn.scan import Step

MASK: ContextVar[Any] = ContextVar("tinygrad_rnn_mask", default=None)


def around(step: Step, way: Callable[..., Step], *options: Any) -> Step:
    """`way(step, *options)`; of a cell, a cell."""
    return step.varied(way, *options) if isinstance(step, Cell) else way(step, *options)


def ends(state: Any) -> tuple[Array, ...]:
    """The parts of a state."""
    return state if isinstance(state, tuple) else (state,)


def seen(h: Array) -> Array:
    """h; in training m·h in a layer with `recurrent_dropout`, m of 0 and 1 / (1 - p).

    Gal & Ghahramani (2016), A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks, §4.1.
    """
    mask = MASK.get()
    return h if mask is None else h * mask


def dropping(step: Step) -> Step:
    """A step whose `seen(h)` is m·h, m (B, H) the first of its each."""

    def dropped(xs: Any, state: Any, mask: Array, *rest: Array) -> tuple[Array, Any]:
        before = MASK.set(mask)
        try:
            return step(xs, state, *rest)
        finally:
            MASK.reset(before)

    return dropped


def changing(step: Step, rule: Callable[[Array, Array, Array], Array]) -> Step:
    """A step whose new state is `rule(v, s, s')`, part by part; the v are the last of its xs."""

    def changed(xs: tuple[Array, ...], state: Any, *rest: Array) -> tuple[Array, Any]:
        before, x, given = ends(state), xs[: -len(ends(state))], xs[-len(ends(state)) :]
        output, new = step(x if len(x) > 1 else x[0], state, *rest)
        after = [rule(*each) for each in zip(given, before, ends(new), strict=True)]
        pairs = zip(ends(new), after, strict=True)
        output = next((a for s, a in pairs if s is output), output)  # where it is a part of it
        return output, tuple(after) if isinstance(new, tuple) else after[0]

    return changed


def zoneout(k: Array, s: Array, new: Array) -> Array:
    """k·s + (1 - k)·s': where k is 1 a unit keeps its value.

    Krueger et al. (2017), Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations, §3.
    """
    return k * s + (1.0 - k) * new


def probe(p: Array, s: Array, new: Array) -> Array:
    """s' + p: the gradient of p, which is 0, is that of s'."""
    return new + p


class _Gates:
    """An observer that keeps what comes out of sigmoids."""

    def __init__(self) -> None:
        self.found: list[Value] = []

    def made(self, name: str, inputs: tuple[Any, ...], outputs: tuple[Value, ...]) -> None:
        if name == "sigmoid":
            self.found += outputs

    def pulled(self, node: Any, g: Array, gradients: Sequence[Array]) -> None:
        pass


def showing(step: Step, states: bool, gates: bool) -> Step:
    """A step whose output has the parts of the new state beside it, and the gates: all that went
    through a sigmoid."""

    def shown(xs: Any, state: Any, *rest: Array) -> tuple[Array, Any]:
        watch = _Gates()
        with switched(observers=(*MODE.get().observers, watch)):
            output, new = step(xs, state, *rest)
        more = [*(ends(new) if states else ()), *(watch.found if gates else ())]
        return concatenate([output, *more], -1), new

    return shown
