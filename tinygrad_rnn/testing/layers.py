"""Batches of sequences, and configurations of recurrent layers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tinygrad_rnn.testing.drawing import Array, Shape, arrays

Range = int | tuple[int, int]


class Sequences(NamedTuple):
    """A batch of sequences: x (T, B, I), and lengths (B,) in 0..T, or None."""

    x: Array
    lengths: Array | None


@dataclass(frozen=True)
class RecurrentConfig:
    """A recurrent layer's options, and what it is given; drawn by `recurrent_configs`.

    Attributes:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as of
            torch.nn.LSTM; together they are `options`.
        steps, batch: T and B of the input.
        state, lengths: whether an initial state and lengths are given.
    """

    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    bidirectional: bool
    steps: int
    batch: int
    state: bool
    lengths: bool
    dropout: float = 0.0

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of the layer."""
        given = ("steps", "batch", "state", "lengths")
        return {name: value for name, value in vars(self).items() if name not in given}

    @property
    def x_shape(self) -> Shape:
        """(T, B, I), or (B, T, I) if batch_first."""
        order = -1 if self.batch_first else 1
        return (*(self.steps, self.batch)[::order], self.input_size)

    @property
    def state_shape(self) -> Shape:
        """(L·D, B, H)."""
        return (self.num_layers * (1 + self.bidirectional), self.batch, self.hidden_size)

    def inputs(self, states: int = 2, **options: Any) -> SearchStrategy[tuple[Any, Any, Any]]:
        """What to call the layer with: (x, state, lengths), the latter two maybe None.

        Args:
            states: arrays in a state: 2 for an LSTM's pair, 1 for a state that is no pair.
            options: of `arrays`.
        """
        one = arrays(self.state_shape, **options)
        state = st.tuples(*[one] * states) if states > 1 else one
        return st.tuples(
            arrays(self.x_shape, **options),
            state if self.state else st.none(),
            _lengths(self.steps, self.batch, self.lengths),
        )


def _lengths(steps: int, batch: int, given: bool) -> SearchStrategy[Array | None]:
    several = arrays((batch,), 0, steps, integers=True, dtype=np.intp, layouts=False)
    return several if given else st.none()


def sequences(
    input_size: Range = (1, 4),
    steps: Range = (1, 5),
    batch: Range = (1, 4),
    lengths: bool | None = None,
    **options: Any,
) -> SearchStrategy[Sequences]:
    """Batches of sequences as pairs (x, lengths); a property's function gets both.

    Args:
        input_size, steps, batch: I, T and B: numbers from 1, or pairs (least, most).
        lengths: whether lengths are given; None for now and then. They are integers in 0..T in any
            order, and no gradient is asked of them.
        options: of `arrays`.

    Shapes:
        x (T, B, I); lengths (B,)

    >>> from hypothesis import find
    >>> x, lengths = find(sequences(3, lengths=True), lambda drawn: drawn.lengths[0] == 2)
    >>> x.shape[1:], lengths
    ((1, 3), array([2]))
    """
    ranges = [(n, n) if isinstance(n, int) else n for n in (steps, batch, input_size)]
    given = st.booleans() if lengths is None else st.just(lengths)

    @functools.cache
    def several(drawn: tuple[int, int, int, bool]) -> SearchStrategy[Sequences]:
        T, B, I, given = drawn  # noqa: E741
        return st.builds(Sequences, arrays((T, B, I), **options), _lengths(T, B, given))

    return st.tuples(*(st.integers(*r) for r in ranges), given).flatmap(several)


def recurrent_configs(**fixed: Any) -> SearchStrategy[RecurrentConfig]:
    """Configurations of any recurrent layer: ours, torch's, yours.

    A property may draw both the configuration and what the layer is given:
    `recurrent_configs().flatmap(lambda c: st.tuples(st.just(c), c.inputs()))`.

    Args:
        fixed: attributes of `RecurrentConfig`, as values or strategies. By default sizes and T are
            1 to 4, layers and B 1 to 3, dropout is 0, and the rest is any.

    Raises:
        TypeError: if there is no such attribute.

    >>> from hypothesis import find
    >>> import tinygrad_rnn as tg
    >>> plain = recurrent_configs(bias=True, batch_first=False, bidirectional=False)
    >>> config = find(plain, lambda c: c.num_layers == 2 and c.state)
    >>> x, state, lengths = find(config.inputs(), lambda inputs: True)
    >>> layer = tg.nn.LSTM(config.input_size, config.hidden_size, 2, dtype=x.dtype)
    >>> output, (h_n, c_n) = layer(tg.Tensor(x), tuple(map(tg.Tensor, state)))
    >>> output.shape, h_n.shape == config.state_shape
    ((1, 1, 1), True)
    """
    drawn = {
        **dict.fromkeys(("input_size", "hidden_size", "steps"), st.integers(1, 4)),
        **dict.fromkeys(("num_layers", "batch"), st.integers(1, 3)),
        **{k: v if isinstance(v, SearchStrategy) else st.just(v) for k, v in fixed.items()},
    }
    return st.builds(RecurrentConfig, **drawn)  # what is bool is drawn by its type
