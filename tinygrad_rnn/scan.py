"""`scan`: a step function over time, by its definition or, if it is a cell, compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import MODE, Array, no_grad, shape_of, switched
from tinygrad_rnn.autograd.ops.elementwise import where
from tinygrad_rnn.autograd.ops.shape import stack, unstack
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.autograd.trace.atoms import Untraceable
from tinygrad_rnn.cell import Call, Cell, Roles, inspected, resetting

Step = Callable[..., tuple[Array, Any]]


def _chosen(keep: np.ndarray, new: Any, old: Any) -> Any:
    """`new` in the rows (B, 1) that `keep` marks, `old` in the others; states may be tuples."""
    if isinstance(new, tuple):
        return tuple(_chosen(keep, n, o) for n, o in zip(new, old, strict=True))
    return where(keep, new, old)


def _parts(state: Any) -> tuple[Array, ...]:
    return state if isinstance(state, tuple) else () if state is None else (state,)


def _cleared(state: Any) -> Any:
    return tuple(map(_cleared, state)) if isinstance(state, tuple) else 0


def stepped(step: Step, *inputs: Any) -> tuple[Array, Any]:
    """One step, or raise."""
    result: Any = step(*inputs)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"scan: expected a step that returns (output, new state), got {type(result).__name__}; "
            "a state of several parts is one tuple"
        )
    return result


def _checked_lengths(lengths: Any, steps: int, batch: int) -> np.ndarray:
    array = np.asarray(lengths)
    if array.shape != (batch,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"scan: expected lengths as {batch} integers, one per sequence, "
            f"got {array.dtype} of shape {array.shape}; convert with .astype(int)"
        )
    for b in np.flatnonzero((array < 0) | (array > steps))[:1]:
        raise ValueError(
            f"scan: expected lengths in 0..T={steps}, got {array[b]} at batch item {b}"
        )
    return array.astype(np.int64)


def _checked_resets(reset: Any, steps: int, batch: int) -> np.ndarray:
    array = np.asarray(reset)
    if array.dtype.kind not in "biu":
        raise TypeError(
            f"scan: expected reset as bool, true where a sequence begins, got {array.dtype}; "
            "convert with .astype(bool)"
        )
    if array.shape != (steps, batch):
        raise ValueError(f"scan: expected reset of shape {(steps, batch)}, got {array.shape}")
    return array.astype(bool)


def _checked_inputs(xs: Any) -> tuple[Array, ...]:
    arrays = xs if isinstance(xs, tuple) else (xs,)
    arrays = tuple(x if hasattr(x, "dtype") else np.asarray(x) for x in arrays)
    if not arrays or any(
        len(shape_of(x)) != 3 or shape_of(x)[:2] != shape_of(arrays[0])[:2] for x in arrays
    ):
        raise ValueError(
            f"scan: expected xs of shape (T, B, n), all with one T and B, "
            f"got {[shape_of(x) for x in arrays]}"
        )
    return arrays


def scan(
    step: Step,
    xs: Any,
    state: Any,
    params: Sequence[Array] = (),
    *,
    each: Sequence[Array] = (),
    lengths: Any = None,
    reset: Any = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Run `step(x, state, *each, *params) -> (output, new state)` over the steps of a sequence.

    Args:
        step: a function of tensors; `x` is one step of `xs`, a tuple if `xs` is one.
        xs: an array (T, B, n), or a tuple of them (masks (T, B, 1) too).
        state: what the first step gets: a tensor (B, n) or a tuple of them.
        params: matrices and per-unit vectors, the same at every step.
        each: rows (B, n) given to every step.
        lengths: (B,) integers in 0..T: beyond its length a sequence's output is 0 and its state
            stays; a reversed scan starts at the last valid step.
        reset: (T, B) bool: where true, the state is 0 before that step; or a pair of this and the
            state that it then is.
        reverse: run from the last step to the first.

    Shapes:
        xs (T, B, n)  ->  outputs (T, B, m); state as given

    Raises:
        ValueError: if the shapes, lengths or resets do not fit.

    >>> import tinygrad_rnn as tg
    >>> total, last = tg.scan(lambda x, s: (s + x, s + x), tg.ones(4, 1, 1), tg.zeros(1, 1))
    >>> total.ravel(), last.item()
    (Tensor([1., 2., 3., 4.], dtype=float32), 4.0)
    """
    arrays, several = _checked_inputs(xs), isinstance(xs, tuple)
    steps, batch = shape_of(arrays[0])[:2]
    valid = None if lengths is None else _checked_lengths(lengths, steps, batch)
    if valid is not None and (valid == steps).all():
        valid = None
    reset, fresh = reset if isinstance(reset, tuple) else (reset, None)
    resets = None if reset is None else _checked_resets(reset, steps, batch)
    cell: Cell | None = None
    if isinstance(step, Cell) and steps and batch:
        cell, given, tupled, rows = step, arrays, several, each
        if resets is not None:
            begins = resets[:, :, None].astype(arrays[0].dtype)
            cell, tupled = step.varied(resetting, several, fresh is not None), True
            given, rows = (*arrays, begins), (*_parts(fresh), *each)
        result = _compiled(cell, given, tupled, state, rows, params, reverse, valid)
        if result is not None:
            return result
    if not steps:
        return _no_steps(step, arrays, several, state, (*each, *params)), state
    rest = *each, *params
    loop = functools.partial(
        _looped, step, arrays, several, state, rest, valid, (resets, fresh), reverse
    )
    return cell.definition(loop) if cell else loop()


def _looped(
    step: Step,
    arrays: tuple[Array, ...],
    several: bool,
    state: Any,
    rest: Sequence[Array],
    lengths: np.ndarray | None,
    reset: tuple[np.ndarray | None, Any],
    reverse: bool,
) -> tuple[Any, Any]:
    """The definition: one step after another."""
    resets, fresh = reset
    rows = list(zip(*(unstack(x) for x in arrays), strict=True))
    outputs: list[Array] = [None] * len(rows)
    for t in reversed(range(len(rows))) if reverse else range(len(rows)):
        before = state
        if resets is not None and resets[t].any():
            anew = _cleared(state) if fresh is None else fresh
            before = _chosen(~resets[t][:, None], state, anew)
        keep = None if lengths is None or (t < lengths).all() else (t < lengths)[:, None]
        x = rows[t]
        if keep is not None:
            x = _chosen(keep, x, (False,) * len(x))  # a zero of any dtype: padding may be NaN
        outputs[t], after = stepped(step, x if several else x[0], before, *rest)
        if keep is not None:
            outputs[t], after = _chosen(keep, outputs[t], 0), _chosen(keep, after, state)
        state = after
    return stack(outputs), state


def _compiled(
    step: Cell,
    arrays: tuple[Array, ...],
    several: bool,
    state: Any,
    each: Sequence[Array],
    params: Sequence[Array],
    reverse: bool,
    lengths: np.ndarray | None,
) -> tuple[Any, Any] | None:
    """The scan of a cell by its kernels, or None where they do not apply."""
    mode = MODE.get()
    if mode.definitions or (lengths is not None and not lengths.any()):
        return None
    paired = isinstance(state, tuple)
    states = state if paired else (state,)
    values = (*arrays, *states, *each, *params)
    roles = Roles(len(arrays), len(states), len(each), several, paired)
    try:
        inputs = inspected(values, roles, shape_of(arrays[0])[1])
    except Untraceable as error:
        step.doubts.keep(error)
        return None
    recurrence = step.compiled(inputs, roles) if inputs else None
    if inputs is None or recurrence is None:
        return None
    definition = functools.partial(_definition, step, roles, reverse, lengths)
    keep = mode.recording and inputs.live
    outside = step.outside()
    call = Call(
        step, recurrence, definition, roles, inputs.versions, keep, reverse, lengths, outside
    )
    outputs, *last = step.scanned(*values, call=call)
    return outputs, tuple(last) if paired else last[0]


def _definition(
    step: Cell, roles: Roles, reverse: bool, lengths: np.ndarray | None, *inputs: Any
) -> tuple[Any, ...]:
    """The same scan, as a loop."""
    xs, states, each, params = roles.parts(inputs)
    x = tuple(xs) if roles.several else xs[0]
    state = tuple(states) if roles.paired else states[0]
    with switched(definitions=True):
        outputs, last = scan(step, x, state, params, each=each, lengths=lengths, reverse=reverse)
    return outputs, *(last if roles.paired else (last,))


@no_grad
def _no_steps(step: Step, arrays: Sequence[Array], several: bool, state: Any, rest: Any) -> Tensor:
    """The outputs (0, B, m) of a scan without steps, by the shape of one step on zeros."""
    zeros = tuple(Tensor(np.zeros(shape_of(x)[1:], x.dtype)) for x in arrays)
    output, _ = stepped(step, zeros if several else zeros[0], state, *rest)
    return Tensor(np.zeros((0, *output.shape), output.dtype))
