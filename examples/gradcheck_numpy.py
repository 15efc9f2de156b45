"""Check a gradient written by hand in NumPy.

    python examples/gradcheck_numpy.py

Layer normalisation of rows x, with a gain per column:

    m = mean(x);  r = 1 / √(var(x) + ε);  n = (x - m) r;  out = γ n

A pair (f, vjp) of plain functions is all that `gradcheck` wants: `f(*arrays) -> array` and
`vjp(*arrays, cotangent) -> one array per input`. Nothing here uses the engine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinygrad_rnn.testing import gradcheck

Array = NDArray[np.float64]
EPSILON = 1e-5


def normalised(x: Array) -> tuple[Array, Array]:
    r = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + EPSILON)  # (B, 1)
    return (x - x.mean(axis=-1, keepdims=True)) * r, r


def layer_norm(x: Array, gamma: Array) -> Array:
    return gamma * normalised(x)[0]


def vjp(x: Array, gamma: Array, g: Array) -> tuple[Array, Array]:
    """∂x = r (h - mean(h) - n mean(h n)) with h = γ g;  ∂γ = Σ g n over the rows."""
    n, r = normalised(x)
    h = gamma * g
    mean, slope = (v.mean(axis=-1, keepdims=True) for v in (h, h * n))
    return r * (h - mean - n * slope), (g * n).sum(axis=0)


def variance_forgotten(x: Array, gamma: Array, g: Array) -> tuple[Array, Array]:
    """As if r did not depend on x: a common slip, and near enough to train with."""
    n, r = normalised(x)
    h = gamma * g
    return r * (h - h.mean(axis=-1, keepdims=True)), (g * n).sum(axis=0)


def sum_forgotten(x: Array, gamma: Array, g: Array) -> tuple[Array, Array]:
    """γ is added up over no rows."""
    return vjp(x, gamma, g)[0], g * normalised(x)[0]


def main() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(3, 4)), rng.normal(size=4)
    names = ["x", "gamma"]

    print("Right:")
    print(gradcheck((layer_norm, vjp), inputs, names=names))

    for wrong in (variance_forgotten, sum_forgotten):
        print(f"\n{wrong.__name__}:")
        print(gradcheck((layer_norm, wrong), inputs, names=names, raise_exception=False))


if __name__ == "__main__":
    main()
