"""Gradient clipping, in one pass to measure and one to change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.flow import exclusive
from tinygrad_rnn.autograd.graph import MODE, wrap
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.kernels.updates.equations import clamped, scaled
from tinygrad_rnn.kernels.updates.loop import Use, update
from tinygrad_rnn.kernels.updates.norm import norm

Tensors = Tensor | Iterable[Tensor]


def clip_grad_norm_(parameters: Tensors, max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> float:  # fmt: skip
    """Scale all gradients together so that their common norm is at most `max_norm`.

    Args:
        parameters: a tensor or several; those without a gradient are passed over.
        max_norm: the largest norm allowed, above 0.
        norm_type: 2, the Euclidean norm, summed in float64; or inf, the largest element.
        error_if_nonfinite: raise if the norm is not finite.

    Returns:
        The norm before: not finite if any gradient is, in which case nothing is changed.

    Raises:
        ValueError: for another norm_type, or a max_norm that is not above 0.
        RuntimeError: with error_if_nonfinite, saying which gradients are to blame.

    Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural networks, §3.2.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x * 0.5).sum().backward()
    >>> tg.optim.clip_grad_norm_([x], 1.0), x.grad
    (5.0, Tensor([0.6, 0.8], dtype=float32))
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm_: expected max_norm above 0, got {max_norm}")
    if float(norm_type) not in (2.0, math.inf):
        raise ValueError(f"clip_grad_norm_: expected norm_type 2 or inf, got {norm_type}")
    params = _with_gradient(parameters)
    found = norm([p.grad._data for p in params], norm_type == math.inf, MODE.get().definitions)
    if error_if_nonfinite and not math.isfinite(found):
        bad = [k for k, p in enumerate(params) if not np.isfinite(p.grad._data).all()]
        got = f"a norm of {found}, from gradients {bad} of {len(params)}; see detect_anomaly"
        raise RuntimeError(f"clip_grad_norm_: expected finite gradients, got {got}")
    if max_norm < found < math.inf:
        _change(params, scaled, factor=max_norm / found)
    return found


def clip_grad_value_(parameters: Tensors, clip_value: float) -> None:
    """Move every element of the gradients into [-clip_value, clip_value]; NaN stays.

    Args:
        parameters: a tensor or several; those without a gradient are passed over.
        clip_value: the largest size allowed, at least 0.

    Raises:
        ValueError: if clip_value is below 0.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor([3.0, -0.5], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> tg.optim.clip_grad_value_([x], 2.0)
    >>> x.grad
    Tensor([ 2., -1.], dtype=float32)
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value_: expected clip_value of at least 0, got {clip_value}")
    _change(_with_gradient(parameters), clamped, limit=clip_value)


def _with_gradient(parameters: Tensors) -> list[Any]:
    """Each of them once, if it has a gradient."""
    several = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p for p in dict.fromkeys(several) if p.grad is not None]


def _change(params: list[Any], equation: Callable[..., Any], **numbers: float) -> None:
    """Give new gradients; an array that nobody else refers to is written in place."""
    alike: dict[Any, Any] = {}
    for p in params:
        held = [p.grad._data]
        p.grad = None
        new = held[0] if exclusive(held, 0) else np.empty_like(held[0])
        p.grad = wrap(held[0])
        alike.setdefault(new.dtype, []).append((p, held[0], new))
    for several in alike.values():
        items = [arrays for _, *arrays in several]
        update(equation, items, Use(2, 1, (1,)), numbers, MODE.get().definitions)
        for p, _, new in several:
            p.grad = wrap(new)
