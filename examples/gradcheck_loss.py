"""Check a function `fun(w, X, y) -> (loss, gradient)`, as optimisers such as SciPy's take it.

    python examples/gradcheck_loss.py

Logistic regression with a penalty on the weights but not on the intercept, w = (weights, b):

    J(w) = Σ log(1 + exp(-y (X·weights + b))) + α/2 |weights|²,   y = ±1

The loss is a number, so its gradient times the cotangent (a number too) is the pair's vjp. X and y
are not differentiated: the pair closes over them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinygrad_rnn.testing import gradcheck

Array = NDArray[np.float64]
LossAndGradient = Callable[[Array, Array, Array], tuple[float, Array]]
ALPHA = 0.5


def logistic(w: Array, X: Array, y: Array) -> tuple[float, Array]:
    margin = y * (X @ w[:-1] + w[-1])
    loss = np.logaddexp(0, -margin).sum() + ALPHA / 2 * w[:-1] @ w[:-1]
    slope = -y / (1 + np.exp(margin))  # dJ / d(X·weights + b)
    return loss, np.append(X.T @ slope + ALPHA * w[:-1], slope.sum())


def logistic_with_intercept_penalised(w: Array, X: Array, y: Array) -> tuple[float, Array]:
    """The gradient penalises the intercept, which the loss does not."""
    loss, gradient = logistic(w, X, y)
    gradient[-1] += ALPHA * w[-1]
    return loss, gradient


def pair(fun: LossAndGradient, *data: Array) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """What `gradcheck` takes, from fun(w, *data) -> (loss, gradient)."""

    def f(w: Array) -> Array:
        return np.asarray(fun(w, *data)[0])

    def vjp(w: Array, g: Array) -> Array:
        return g * fun(w, *data)[1]

    return f, vjp


def main() -> None:
    rng = np.random.default_rng(0)
    X, y, w = rng.normal(size=(20, 3)), rng.choice([-1.0, 1.0], 20), rng.normal(size=4)

    print("Right:")
    print(gradcheck(pair(logistic, X, y), w, names=["w"]))

    print("\nWrong:")
    wrong = pair(logistic_with_intercept_penalised, X, y)
    print(gradcheck(wrong, w, names=["w"], raise_exception=False))


if __name__ == "__main__":
    main()
