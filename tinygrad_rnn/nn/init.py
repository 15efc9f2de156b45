"""Initial weights: arrays from an explicit generator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.generator import default_rng
from tinygrad_rnn.nn.module import Parameter


def uniform(
    *shape: int, fan: int, rng: np.random.Generator | None, dtype: Any = np.float32
) -> Parameter:
    """Draws from [-1/√fan, 1/√fan], as torch initialises its linear and recurrent layers."""
    bound = 1.0 / math.sqrt(fan) if fan else 0.0
    return Parameter(default_rng(rng).uniform(-bound, bound, shape), dtype=dtype)


def normal(
    *shape: int, rng: np.random.Generator | None, dtype: Any = np.float32, std: float = 1.0
) -> Parameter:
    """Draws from the normal distribution around 0."""
    return Parameter(std * default_rng(rng).standard_normal(shape), dtype=dtype)
