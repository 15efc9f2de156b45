"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.optim.optimizer import Optimizer


class SGD(Optimizer):
    """Steps along the gradient: p ← p - lr · g.

    Args:
        params: tensors with requires_grad.
        lr: learning rate.

    Robbins & Monro (1951), A Stochastic Approximation Method, §4.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor([1.0], requires_grad=True)
    >>> optimizer = tg.optim.SGD([x], lr=0.25)
    >>> (x * x).sum().backward(); optimizer.step()
    >>> x.item()
    0.5
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3) -> None:
        super().__init__(params, lr)

    def update(self, p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray], t: int) -> None:
        p -= self.lr * g
