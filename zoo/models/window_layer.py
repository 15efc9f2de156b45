"""A fixed window as a layer, in the place of a recurrent one."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn

WINDOW = 4  # steps that are seen, the present one among them: as many as 5-grams condition on


class Window(nn.Module):
    """A hidden layer that sees the last m steps.

        h_t = tanh(W [x_{t-m+1}; ...; x_t] + b)

    What it carries is no memory of its own making: the last m - 1 steps as they were, zeros before
    the first. W grows with m, and each place in the window has weights of its own.

    Args:
        inputs, units: features of a step and of h, I and H.
        steps: m.
        rng: draws the weights.

    Shapes:
        x (T, B, I), state (m - 1, B, I)  ->  h (T, B, H) and the new state

    Bengio, Ducharme, Vincent & Janvin (2003), A Neural Probabilistic Language Model, §2.

    >>> h, state = Window(3, 5)(tg.zeros(7, 2, 3))
    >>> h.shape, state.shape
    ((7, 2, 5), (3, 2, 3))
    """

    def __init__(
        self, inputs: int, units: int, steps: int = WINDOW, rng: np.random.Generator | None = None
    ) -> None:
        self.hidden = nn.Linear(steps * inputs, units, rng=rng)
        self.steps, self.output_size = steps, units

    def __call__(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[tg.Tensor, Any]:
        count, batch, inputs = x.shape
        if state is None:
            state = tg.zeros(self.steps - 1, batch, inputs)
        whole = tg.concatenate([state, x])  # (m - 1 + T, B, I)
        seen = tg.concatenate([whole[k : k + count] for k in range(self.steps)], axis=-1)
        h: tg.Tensor = tg.tanh(self.hidden(seen))
        return h, whole[count:]
