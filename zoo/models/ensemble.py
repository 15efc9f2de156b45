"""Several networks as one."""

from __future__ import annotations

import math
from typing import Any

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from zoo.texts.datasets import Ids


class Ensemble(nn.Module):
    """The mean of what several networks predict, each of which learns by itself.

        P(x_{t+1} | x_1 ... x_t) = (1/K) Σ_k softmax(l_k)

    Hansen & Salamon (1990), Neural Network Ensembles; of recurrent language models: Zaremba,
    Sutskever & Vinyals (2014), Recurrent Neural Network Regularization, §4.1.

    Args:
        members: of the same shapes, each called with ids (T, B) and its state.

    Shapes:
        ids (T, B), a state of each member  ->  (T, B, V) log P, and the new states

    >>> import numpy as np
    >>> one, two = (nn.Sequential(nn.Embedding(5, 3), nn.LSTM(3, 5)) for _ in range(2))
    >>> both = Ensemble(one, two)
    >>> scores, states = both(np.zeros((7, 2), np.int64))
    >>> scores.shape, len(states), bool(np.allclose(tg.exp(scores).sum(-1).numpy(), 1))
    ((7, 2, 5), 2, True)
    """

    def __init__(self, *members: nn.Sequential) -> None:
        super().__init__()
        self.members: Any = nn.ModuleList(members)

    def __call__(self, ids: Ids, state: Any = None) -> tuple[tg.Tensor, Any]:
        known = state or (None,) * len(self.members)
        answers = [member(ids, s) for member, s in zip(self.members, known, strict=True)]
        logits, states = zip(*answers, strict=True)
        logs = tg.log_softmax(tg.stack(logits), -1)
        return tg.logsumexp(logs, 0) - math.log(len(logits)), states
