"""Gradient clipping: the direction stays, the step gets shorter."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor


def clip_grad_norm_(params: Tensor | Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients together so that their common norm is at most `max_norm`.

    Args:
        params: a tensor or several; those without a gradient are passed over.
        max_norm: the largest norm allowed, above 0.

    Returns:
        The norm before: not finite if any gradient is, in which case nothing is changed.

    Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural networks, §3.2.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x * 0.5).sum().backward()
    >>> tg.optim.clip_grad_norm_([x], 1.0), x.grad
    (5.0, Tensor([0.6, 0.8], dtype=float32))
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm_: expected max_norm above 0, got {max_norm}")
    several = [params] if isinstance(params, Tensor) else params
    pairs = [(p, p.grad._data) for p in several if p.grad is not None]
    norm = math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for _, g in pairs))
    if max_norm < norm < math.inf:
        for p, g in pairs:
            p.grad = Tensor(g * (max_norm / norm))
    return norm
