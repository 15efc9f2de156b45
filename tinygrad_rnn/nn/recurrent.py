"""`Recurrent`: everything of a recurrent layer that is not the recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.autograd.graph import Array, shape_of
from tinygrad_rnn.autograd.ops.shape import (
    concatenate,
    expand_dims,
    reshape,
    squeeze,
    stack,
    transpose,
    unstack,
)
from tinygrad_rnn.nn.around import ends
from tinygrad_rnn.nn.layers import Dropout
from tinygrad_rnn.nn.module import check_dtype
from tinygrad_rnn.nn.one_layer import OneLayer, name_of
from tinygrad_rnn.nn.recurrent_parts import checked_resets, checked_state
from tinygrad_rnn.nn.regularisation import LockedDropout

USUAL: dict[str, Any] = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
USUAL |= {"bidirectional": False, "locked_dropout": False, "recurrent_dropout": 0.0, "zoneout": 0.0}
USUAL |= {"weight_drop": 0.0, "learned_state": False}


def beside(rows: Sequence[Any], axis: int) -> Any:
    """`stack`, which does not copy one alone."""
    return stack(rows, axis) if len(rows) > 1 else expand_dims(rows[0], axis)


class Recurrent(OneLayer):
    """A layer from any cell: its step over the sequence, stacked and in one or both directions.

        output_t, s_t = step(x_t, s_{t-1}, *params)

    Args:
        step: the cell, `step(x, state, *params) -> (output, new state)`; see `nn.cells`. The width
            of a layer's output is that of the step's.
        input_size: features per step, I.
        hidden_size: units, H.
        shapes: a function of I and H: the parameters' names and shapes, in the order in which the
            step takes them. Cells of `nn.cells` bring theirs.
        states: how many parts the state has, each H wide; or their widths; by default those of the
            cell, or 1. A state of one part is a tensor, of several a tuple.
        num_layers: layers, L; each reads the outputs of the one below.
        bias: if false, parameters whose names begin with "bias" are left out; those whose names
            begin with "gain" are 1 at first, with "shift" 0.
        batch_first: whether x, reset and the output are (B, T, ...); states stay as they are.
        dropout: the share of every layer's outputs, but the last one's, that is dropped in
            training; with `locked_dropout`, the same features at every step.
        bidirectional: whether a second set of parameters reads each layer's input from its end,
            D = 2; the outputs of both directions are side by side.
        recurrent_dropout: the share of h_{t-1} that products do not see in training, the same
            units at all steps of a sequence. A cell of your own asks for it: `cells.seen(h)`.
        zoneout: the share of the state's units that keep their value at a step in training, or one
            share for each part of the state; otherwise s_t = p·s_{t-1} + (1 - p)·s'.
        weight_drop: the share of the recurrent matrices that is dropped in training, anew in each
            call; their names begin with weight_hh, weight_mh or weight_mg.
        learned_state: whether the first state is learned, parameters h_0, c_0, ... (L·D, H), 0 at
            first, where none is given.
        rng: draws the parameters, each from [-1/√H, 1/√H], and what is dropped; by default the
            default generator, which `tg.checkpoint` needs to drop the same again.

    Called with x, a state (None for zeros) and lengths (B,) in 0..T (None for T): beyond a length
    the output is 0, the state is that of the last valid step, and the reverse direction starts
    there. Further options of a call:
        reset: (T, B) bool, true at first steps of sequences, which begin with a new state in
            either direction.
        return_states: also return the states of all steps, s_t after x_t was read.
        return_gates: also return the gates, all that goes through a sigmoid, as a tuple in the
            order in which the step computes them: f, i, o of an LSTM, r, z of a GRU.

    Shapes:
        x (T, B, I); h_0 (L·D, B, H), by layer, then direction
        ->  output (T, B, D·O), O the width of the step's output; h_n (L·D, B, H);
            states and gates (T, L·D, B, H), 0 beyond a length
        or, for one sequence, all without B; reset (T,)
        parameters `{name}_l{k}` and `{name}_l{k}_reverse`; for k > 0, I is D·O

    Raises:
        ValueError: if a size, x, the state, the lengths or resets do not fit, or an option would
            do nothing.
        TypeError: if x or a state has another dtype than the weights, or the state other parts.

    Gal & Ghahramani (2016), A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks, §4.1; Krueger et al. (2017), Zoneout, §3; Merity, Keskar & Socher (2018), Regularizing
    and Optimizing LSTM Language Models, §2.

    >>> import tinygrad_rnn as tg
    >>> def leaky(x, h, weight, bias=None):
    ...     h = 0.9 * h + 0.1 * tg.tanh(tg.linear(tg.concatenate([x, h], -1), weight, bias))
    ...     return h, h
    >>> layer = tg.nn.Recurrent(leaky, 3, 5, lambda i, h: {"weight": (h, i + h), "bias": (h,)})
    >>> output, h_n, states = layer(tg.zeros(7, 2, 3), return_states=True)
    >>> output.shape, h_n.shape, states.shape
    ((7, 2, 5), (1, 2, 5), (7, 1, 2, 5))
    """

    def __call__(
        self,
        x: Array,
        state: Any = None,
        lengths: Any = None,
        *,
        reset: Any = None,
        return_states: bool = False,
        return_gates: bool = False,
    ) -> Any:
        parts = self._checked(x, state)
        alone = x.ndim == 2
        if reset is not None:
            reset = checked_resets(self._where(), reset, x.shape[:-1], self.batch_first, lengths)
        if alone:
            x = reshape(x, (len(x), 1, self.input_size))
        elif self.batch_first:
            x = transpose(x, (1, 0, 2))
        starts, shown = self._starts(parts, x.shape[1]), (return_states, return_gates)
        output, *groups = self._stacked(x, starts, lengths, reset, shown)
        if alone:
            output, *groups = squeeze(output, -2), *([squeeze(s, -2) for s in g] for g in groups)
        elif self.batch_first:
            output = transpose(output, (1, 0, 2))
        last, states, gates = groups
        more = ([self._state(states)] if return_states else []) + [tuple(gates)] * return_gates
        return output, self._state(last), *more

    def _stacked(
        self, x: Any, starts: Sequence[Any], lengths: Any, reset: Any, shown: tuple[bool, bool]
    ) -> tuple[Any, list[Any], list[Any], list[Any]]:
        """Layer after layer, the directions of each side by side: x (T, B, I) to the output, the
        last states (L·D, B, H), and the states and gates (T, L·D, B, H) that are shown."""
        last, rows, p = list[Any](), list[Any](), self.training and self.dropout
        for k in range(self.num_layers):
            if k and p:
                x = (LockedDropout if self.locked_dropout else Dropout)(p, rng=self.rng)(x)
            outputs = []
            for reverse in (False, True)[: 1 + self.bidirectional]:
                given = x, starts[len(last)], len(last), shown, reset and reset[reverse]
                (y, *more), end = self._scanned(*given, lengths=lengths, reverse=reverse)
                outputs.append(y)
                last.append(ends(end))
                rows.append(more)
            x = concatenate(outputs, -1) if len(outputs) > 1 else outputs[0]
        found = [beside(s, 1) for s in zip(*rows, strict=True)]
        count = shown[0] * len(self.state_sizes)
        return x, [beside(s, 0) for s in zip(*last, strict=True)], found[:count], found[count:]

    def _starts(self, parts: list[Array] | None, batch: int) -> list[Any]:
        """The first state of every layer and direction."""
        count = len(self._names)
        if parts is None:
            return [self._state(self._first(k, batch)) for k in range(count)]
        if count == 1:
            return [self._state([reshape(s, (batch, s.shape[-1])) for s in parts])]
        rows = [unstack(reshape(s, (count, batch, s.shape[-1]))) for s in parts]
        return [self._state(row) for row in zip(*rows, strict=True)]

    def _checked(self, x: Array, state: Any) -> list[Array] | None:
        """The parts of the state, or None; raise unless x and they fit."""
        where, shape, dtype = self._where(), shape_of(x), self._dtype()
        if len(shape) not in (2, 3) or shape[-1] != self.input_size:
            axes, other = ("B, T", "time") if self.batch_first else ("T, B", "batch")
            raise ValueError(
                f"{where}: expected x of shape ({axes}, {self.input_size}), got {shape}; "
                f"for {other}-major input pass batch_first={not self.batch_first}"
            )
        check_dtype(where, "x", x, dtype)
        if state is None:
            return None
        batch = (shape[0 if self.batch_first else 1],) if len(shape) == 3 else ()
        shapes = [(len(self._names), *batch, n) for n in self.state_sizes]
        layout = "a state is (L·D, B, H), or (L·D, H) beside x (T, I), also with batch_first"
        return checked_state(where, state, shapes, dtype, layout)

    def extra_repr(self) -> str:
        others = [f"{n}={v}" for n, u in USUAL.items() if (v := getattr(self, n)) != u]
        cell = [name_of(self.step)] if type(self) is Recurrent else []
        return ", ".join([*cell, str(self.input_size), str(self.hidden_size), *others])
