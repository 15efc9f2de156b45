"""Draws from a model's distribution: temperature, top-k and nucleus."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.generator import default_rng


def _checked(logits: Any, temperature: float, top_k: int | None, top_p: float | None) -> np.ndarray:
    """The logits in float64, or raise."""
    scores = np.array(logits, dtype=np.float64)
    numbers = top_k is None or top_k >= 1, top_p is None or 0 < top_p <= 1
    if not (0 <= temperature < np.inf and all(numbers)):
        raise ValueError(
            "sample: expected a finite temperature of at least 0, top_k of at least 1 and top_p in "
            f"(0, 1], got {temperature}, {top_k} and {top_p}; 0 takes the likeliest, None leaves "
            "out"
        )
    top = scores.max(-1, initial=-np.inf) if scores.ndim else scores
    if not scores.ndim or not np.isfinite(top).all():
        raise ValueError(
            f"sample: expected logits (..., V), finite or -inf and not all -inf, got shape "
            f"{scores.shape} with maximum {top.max(initial=-np.inf)}; a NaN comes from the model"
        )
    return scores


def probabilities(
    logits: Any, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """What `sample` draws from, in float64: softmax(logits / temperature), cut to the k likeliest,
    then to the nucleus, and scaled to a sum of 1.

    Args, Raises:
        as of `sample`.

    Shapes:
        logits (..., V)  ->  (..., V)

    >>> probabilities([0.0, 0.0, 5.0, 5.0], top_k=2).tolist()
    [0.0, 0.0, 0.5, 0.5]
    """
    scores = _checked(logits, temperature, top_k, top_p)
    order = np.argsort(-scores, axis=-1, kind="stable")  # from the likeliest down
    scores = np.take_along_axis(scores, order, -1)
    with np.errstate(over="ignore"):
        p: np.ndarray = np.exp((scores - scores[..., :1]) / (temperature or 1.0))
    if top_k is not None or not temperature:
        p[..., top_k if temperature else 1 :] = 0.0
    p /= p.sum(-1, keepdims=True)
    if top_p is not None and top_p < 1:
        sums = np.cumsum(p, -1)
        p[..., 1:][sums[..., :-1] >= top_p] = 0.0
        p /= p.sum(-1, keepdims=True)
    found = np.empty_like(p)
    np.put_along_axis(found, order, p, -1)
    return found


def sample(
    logits: Any,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    *,
    rng: np.random.Generator | None = None,
) -> Any:
    """Draws a class from each row of logits.

    Args:
        temperature: the logits are divided by it; 0 takes the likeliest.
        top_k: only the k likeliest are drawn.
        top_p: only the nucleus is drawn: the smallest number of likeliest classes that together
            have at least this probability. After top_k.
        rng: draws; None for the default generator.

    Among equal logits the first count as likelier.

    Shapes:
        logits (..., V), -inf for what must not be drawn  ->  (...) integers in 0..V-1

    Raises:
        ValueError: if a row has a NaN, inf or nothing but -inf, or an argument is out of range.

    Holtzman, Buys, Du, Forbes & Choi (2020), The Curious Case of Neural Text Degeneration, §3.1
    and §4.

    >>> sample([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0]], top_p=0.9).tolist()
    [1, 2]
    """
    sums = np.cumsum(probabilities(logits, temperature, top_k, top_p), -1)
    draws = default_rng(rng).random(sums.shape[:-1])[..., None]
    return np.argmax(sums / sums[..., -1:] > draws, -1)  # where sums rise, so p is not 0
