"""Looking inside recurrent layers, compiled as they are: every scan of a layer that runs in one of
these functions does a little more. Of each layer and direction it is one scan, in the order in
which they run; a model may have several layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.gradient import grad
from tinygrad_rnn.autograd.graph import Array, switched
from tinygrad_rnn.autograd.ops.shape import concatenate
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.nn.around import around, changing, ends, probe
from tinygrad_rnn.nn.one_layer import SCAN
from tinygrad_rnn.nn.sequences import sequence_mask
from tinygrad_rnn.scan import Step, scan


def _result(call: Callable[[], Any], run: Callable[..., Any]) -> Any:
    """What a call gives whose scans are `run`."""
    before = SCAN.set(run)
    try:
        return call()
    finally:
        SCAN.reset(before)


def _leaf(array: Any) -> Tensor:
    """The same memory, as a tensor that asks for its own gradient."""
    leaf: Tensor = Tensor.detach(array) if isinstance(array, Tensor) else Tensor(array)
    leaf.requires_grad = True
    return leaf


def _gradients(loss: Array, groups: Sequence[Sequence[Tensor]]) -> list[list[np.ndarray]]:
    """∂L/∂v for each v of each group, 0 where L does not depend on it; the graph stays."""
    every = [v for group in groups for v in group]
    pairs = zip(every, grad(loss, every, retain_graph=True, allow_unused=True), strict=True)
    found = (np.zeros(v.shape, v.dtype) if d is None else d.numpy() for v, d in pairs)
    return [[next(found) for _ in group] for group in groups]


def _steps(xs: Any, *, lengths: Any, reset: Any, reverse: bool, **options: Any) -> Iterator[Any]:
    """Each step of a scan as a scan of one step: its number, xs and options."""
    times = range(len(ends(xs)[0]))
    resets, *fresh = reset if isinstance(reset, tuple) else (reset,)
    for t in reversed(times) if reverse else times:
        one, x = dict(options), tuple(a[t : t + 1] for a in ends(xs))
        if lengths is not None:
            one["lengths"] = (np.asarray(lengths) > t).astype(int)
        if resets is not None:
            one["reset"] = (resets[t : t + 1], *fresh) if fresh else resets[t : t + 1]
        yield t, x if isinstance(xs, tuple) else x[0], one


def state_gradients(loss: Callable[[], Array]) -> list[Any]:
    """∂L/∂s_t for every scan and step t, by all ways from the state after the step to the loss.

    They are the gradients of zeros that are added to the states, whose parts are apart: the way
    from c_t through h_t lies within the step.

    Args:
        loss: a function that runs the layers and returns L, one number.

    Shapes:
        (T, B, H) for each scan; of states of several parts, tuples

    Pascanu, Mikolov & Bengio (2013), On the Difficulty of Training Recurrent Neural Networks, §2.

    >>> import tinygrad_rnn as tg
    >>> rnn, x = tg.nn.RNN(3, 4), tg.ones(7, 2, 3)
    >>> (d,) = state_gradients(lambda: rnn(x)[0][-1].sum())
    >>> np.linalg.norm(d, axis=-1).shape
    (7, 2)
    """
    probes: list[list[Tensor]] = []

    def run(step: Step, xs: Any, state: Any, params: Any, **options: Any) -> Any:
        size = ends(xs)[0].shape[:2]
        probes.append([_leaf(np.zeros((*size, s.shape[1]), s.dtype)) for s in ends(state)])
        xs = (*ends(xs), *probes[-1])
        return scan(around(step, changing, probe), xs, state, params, **options)

    rows = _gradients(_result(loss, run), probes)
    return [tuple(row) if len(row) > 1 else row[0] for row in rows]


def contributions(loss: Callable[[], Array], weights: Sequence[Tensor]) -> list[np.ndarray]:
    """What each appearance of a weight adds to ∂L/∂W: their sum is the gradient, if W appears in
    recurrent layers alone.

        ∂L/∂W = Σ_t ∂L/∂W |₍ₜ₎

    Args:
        loss: a function that runs the layers and returns L, one number.
        weights: parameters of the layers.

    Shapes:
        (T, *shape) for each weight, by step; of several scans, one after another

    Raises:
        ValueError: if no scan is given a weight, as where `weight_drop` drops parts of it.

    Werbos (1990), Backpropagation Through Time: What It Does and How to Do It, §II.

    >>> import tinygrad_rnn as tg
    >>> rnn, x = tg.nn.RNN(3, 4), tg.ones(7, 2, 3)
    >>> (parts,) = contributions(lambda: rnn(x)[0].sum(), [rnn.weight_hh_l0])
    >>> parts.shape
    (7, 4, 4)
    """
    copies: dict[int, list[Tensor]] = {id(w): [] for w in weights}

    def run(step: Step, xs: Any, state: Any, params: Any, **options: Any) -> Any:
        mine = {i: id(p) for i, p in enumerate(params) if id(p) in copies}
        outputs: list[Any] = [None] * len(ends(xs)[0])
        if not (mine and outputs):
            return scan(step, xs, state, params, **options)
        given: list[Any] = [None] * len(outputs)
        for t, x, one in _steps(xs, **options):
            given[t] = [_leaf(p) if i in mine else p for i, p in enumerate(params)]
            outputs[t], state = scan(step, x, state, given[t], **one)
        for i, k in mine.items():
            copies[k] += [row[i] for row in given]
        return concatenate(outputs), state

    value = _result(loss, run)
    found = [copies[id(w)] for w in weights]
    if missing := [k for k, row in enumerate(found) if not row]:
        raise ValueError(
            f"contributions: expected weights that a scan is given, got none at {missing[0]}; "
            "name parameters of a recurrent layer, in eval() if it drops parts of them"
        )
    return [np.stack(row) for row in _gradients(value, found)]


def state_jacobians(call: Callable[[], Any], from_start: bool = True) -> list[np.ndarray]:
    """∂s_t/∂s_0 for every scan and step t, of a sequence's own state, given the scan's input; or
    ∂s_t/∂s_{t-1}.

        ∂s_t/∂s_0 = ∂s_t/∂s_{t-1} ··· ∂s_1/∂s_0

    Every step runs once more for each unit of the state. The reverse direction begins with the
    last step.

    Args:
        call: a function that runs the layers.
        from_start: whether the states are differentiated by the first, or by the one before.

    Shapes:
        (T, B, n, n) for each scan; n is H, or the sum of the widths of a state of several parts

    Pascanu, Mikolov & Bengio (2013), On the Difficulty of Training Recurrent Neural Networks, §2,
    equation 5.

    >>> import tinygrad_rnn as tg
    >>> rnn, x = tg.nn.RNN(3, 4), tg.ones(7, 2, 3)
    >>> (d,) = state_jacobians(lambda: rnn(x))
    >>> np.linalg.norm(d, 2, axis=(-2, -1)).shape
    (7, 2)
    """
    found: list[np.ndarray] = []

    def run(step: Step, xs: Any, state: Any, params: Any, **options: Any) -> Any:
        outputs: list[Any] = [None] * len(ends(xs)[0])
        sizes, total = [s.shape[1] for s in ends(state)], None
        rows = np.zeros((*ends(xs)[0].shape[:2], sum(sizes), sum(sizes)), ends(state)[0].dtype)
        for t, x, one in _steps(xs, **options):
            leaves = [_leaf(s) for s in ends(state)]
            with switched(recording=True):
                given = tuple(leaves) if isinstance(state, tuple) else leaves[0]
                outputs[t], state = scan(step, x, given, params, **one)
                whole = concatenate(ends(state), -1)
                units = [whole[:, i].sum() for i in range(whole.shape[1])]
            parts = [_gradients(u, [leaves])[0] for u in units]
            rows[t] = np.stack([np.concatenate(found, -1) for found in parts], 1)
            total = rows[t] if total is None or not from_start else rows[t] @ total
            rows[t] = total
        found.append(rows)
        return (concatenate(outputs) if outputs else scan(step, xs, state, params)[0]), state

    _result(call, run)
    return found


class GateStatistics(NamedTuple):
    """How open the units of a gate are, each (L·D, H)."""

    mean: np.ndarray
    closed: np.ndarray  # the share of steps and sequences in which a unit's gate is below 0.1
    open: np.ndarray  # and above 0.9


def gate_statistics(gate: Array, lengths: Any = None) -> GateStatistics:
    """How open a gate is that a layer returned, within the lengths.

    Shapes:
        (T, L·D, B, H)  ->  (L·D, H) each

    Karpathy, Johnson & Fei-Fei (2016), Visualizing and Understanding Recurrent Networks, §4.2.

    >>> import tinygrad_rnn as tg
    >>> *_, (r, z) = tg.nn.GRU(3, 4)(tg.ones(7, 2, 3), return_gates=True)
    >>> gate_statistics(z).mean.shape
    (1, 4)
    """
    values, inside = np.asarray(gate), np.array(True)
    if lengths is not None:
        inside = sequence_mask(lengths, len(values))[:, None, :, None]
    shares = (values, values < 0.1, values > 0.9)
    return GateStatistics(*(np.mean(v, (0, 2), where=inside) for v in shares))
