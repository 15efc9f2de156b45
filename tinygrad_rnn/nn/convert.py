"""The weights of Keras' and ONNX's recurrent layers, under the names and in the order used here.

PyTorch's need no conversion: `load_state_dict` takes them as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

State = dict[str, np.ndarray]
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
KERAS = {1: [0], 3: [1, 0, 2], 4: [0, 1, 2, 3]}  # where our r z n and i f g o stand: z r n, i f g o
ONNX = {1: [0], 3: [1, 0, 2], 4: [0, 2, 3, 1]}  # z r n, i o f g


def _reordered(orders: dict[int, list[int]], w_ih: Any, w_hh: Any, *biases: Any) -> State:
    """W_ih (G·H, I), W_hh (G·H, H) and biases (G·H,), by their names."""
    rows, units = w_hh.shape
    order, arrays = orders[rows // units], (w_ih, w_hh, *biases)
    gates = [a.reshape(len(order), units, *a.shape[1:])[order] for a in arrays]
    named = zip(NAMES, gates, arrays, strict=False)
    return {name: g.reshape(a.shape) for name, g, a in named}


def _keras(arrays: Sequence[Any]) -> Iterator[State]:
    """Each direction of a layer."""
    size = {2: 2, 3: 3, 4: 2, 6: 3}[len(arrays)]
    for k in range(0, len(arrays), size):
        kernel, recurrent, *bias = arrays[k : k + size]
        both = [row for b in bias for row in (b if b.ndim == 2 else (b, np.zeros_like(b)))]
        yield _reordered(KERAS, kernel.T, recurrent.T, *both)


def _onnx(arrays: Sequence[Any]) -> Iterator[State]:
    """Each direction of a layer."""
    given: list[Any] = [*arrays, *[None] * (4 - len(arrays))]
    w, r, b, p = given
    for d, matrices in enumerate(zip(w, r, strict=True)):
        both = [] if b is None else [*b[d].reshape(2, -1)]
        if p is None:
            yield _reordered(ONNX, *matrices, *both)
            continue
        p_i, p_o, p_f = p[d].reshape(3, matrices[1].shape[1])
        state = _reordered(ONNX, *matrices, *([sum(both)] if both else []))
        if both:
            state["bias"] = state.pop("bias_ih")
        yield state | {"weight_ci": p_i, "weight_cf": p_f, "weight_co": p_o}


def _layers(
    where: str, wanted: str, layers: Iterable[Any], read: Callable[[Sequence[Any]], Iterator[State]]
) -> State:
    """The states of layers under the names of one."""
    state: State = {}
    for k, given in enumerate(layers):
        arrays = [None if a is None else np.asarray(a) for a in given]
        try:
            for d, found in enumerate(read(arrays)):
                suffix = (f"_l{k}", f"_l{k}_reverse")[d]
                state |= {name + suffix: array for name, array in found.items()}
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            got = [None if a is None else a.shape for a in arrays]
            raise ValueError(f"{where}: expected {wanted}, got {got} as layer {k}") from None
    return state


def from_keras(*layers: Sequence[Any]) -> State:
    """The state of an RNN, LSTM or GRU that computes what Keras' SimpleRNN, LSTM or GRU does.

    Keras orders the gates of a GRU z, r, n and has one bias, or two in one array.

    Args:
        layers: what `get_weights()` returns of each layer, the lowest first; of a Bidirectional
            layer both directions. A bias (2, 3H) is that of a GRU(reset_after=True), one of (3H,)
            that of a GRU(reset_after=False).

    Shapes:
        kernel (I, G·H), recurrent kernel (H, G·H), bias (G·H,) or (2, G·H) or left out; G gates
        ->  weight_ih_l{k} (G·H, I), weight_hh_l{k} (G·H, H), biases (G·H,)

    Raises:
        ValueError: if the arrays are those of no such layer.

    >>> import tinygrad_rnn as tg
    >>> weights = np.ones((3, 20)), np.ones((5, 20)), np.zeros(20)
    >>> tg.nn.LSTM(3, 5).load_state_dict(from_keras(weights))
    """
    wanted = (
        "get_weights() of each layer as one argument: kernel (I, G·H), recurrent kernel (H, G·H) "
        "and bias, with G of 1, 3 or 4, of one direction or both"
    )
    return _layers("from_keras", wanted, layers, _keras)


def from_onnx(*layers: Sequence[Any]) -> State:
    """The state of an RNN, LSTM or GRU that computes what ONNX's operator of that name does.

    ONNX orders the gates of a GRU z, r, n, those of an LSTM i, o, f, g, and its peepholes i, o, f.

    Args:
        layers: the inputs W, R, B and P of each operator, the lowest first; None for one left out.
            With peepholes the state is that of `nn.Recurrent(cells.lstm_peephole, I, H)`. A GRU
            with linear_before_reset = 1 is GRU(reset_after=True), one with 0 is reset_after=False.

    Shapes:
        W (D, G·H, I), R (D, G·H, H), B (D, 2·G·H), P (D, 3H); G gates, D directions
        ->  weight_ih_l{k} (G·H, I), weight_hh_l{k} (G·H, H), biases (G·H,); peepholes (H,)

    Raises:
        ValueError: if the arrays are those of no such operator.

    ONNX Operator Schemas: RNN, GRU and LSTM.

    >>> import tinygrad_rnn as tg
    >>> layer = tg.nn.GRU(3, 5, bidirectional=True, bias=False)
    >>> layer.load_state_dict(from_onnx((np.ones((2, 15, 3)), np.ones((2, 15, 5)))))
    """
    wanted = (
        "W (D, G·H, I), R (D, G·H, H), B (D, 2·G·H) and P (D, 3H) of each operator as one "
        "argument, with G of 1, 3 or 4 and D of 1 or 2, None for what is left out"
    )
    return _layers("from_onnx", wanted, layers, _onnx)
