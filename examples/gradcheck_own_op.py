"""Check an op of your own: `tg.primitive` with its rule, `tg.fused` with its two kernels.

    python examples/gradcheck_own_op.py

Derivatives of any order are there, so second derivatives are checked too. The property test at the
end draws its inputs, and a failure is shrunk to an example that can be pasted and run; it needs
hypothesis (pip install 'tinygrad-rnn[test]').
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.testing import GradientError, gradcheck, gradgradcheck


@tg.primitive(x=lambda g, x: g * tg.sigmoid(x))
def softplus(x: tg.Array) -> tg.Array:
    """log(1 + exp x)"""
    return np.logaddexp(0, x)


@tg.primitive(x=lambda g, x, out: g * out)  # g * out * (1 - out) would be right
def wrong_sigmoid(x: tg.Array) -> tg.Array:
    return 1 / (1 + np.exp(-x))


@tg.primitive(x=lambda g, x: g * wrong_sigmoid(x))
def softplus_by_wrong_sigmoid(x: tg.Array) -> tg.Array:
    """Right at first order: only the value of `wrong_sigmoid` counts, and that is right."""
    return np.logaddexp(0, x)


def forward(x: Any, y: Any) -> Any:
    s = 1 / (1 + np.exp(-x))
    return s * y, (s, y)


def backward(saved: Any, g: Any) -> Any:
    s, y = saved
    return g * y * s * (1 - s), g * s


def wrong_backward(saved: Any, g: Any) -> Any:
    s, y = saved
    return g * y * s, g * s  # (1 - s) is missing


@tg.fused(forward, backward)
def gated(x: Any, y: Any) -> Any:
    return tg.sigmoid(x) * y


@tg.fused(forward, wrong_backward)
def wrong_gated(x: Any, y: Any) -> Any:
    return tg.sigmoid(x) * y


def main() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))

    print("A primitive, to second order:")
    print(gradgradcheck(softplus, x, names=["x"]))

    print("\nA primitive that is right at first order and wrong at second:")
    wrong = softplus_by_wrong_sigmoid
    print(gradcheck(wrong, x, names=["x"]))
    print(gradgradcheck(wrong, x, names=["x"], raise_exception=False))

    print("\nA fused op:")
    print(gradcheck(gated, (x, y), order=2, names=["x", "y"]))

    print("\nA fused op whose backward kernel is wrong:")
    print(gradcheck(wrong_gated, (x, y), names=["x", "y"], raise_exception=False))

    print("\nThe same as property tests:")
    try:
        from tinygrad_rnn.testing import assert_gradients
        from tinygrad_rnn.testing.strategies import reals
    except ImportError as error:
        print(error)
        return
    assert_gradients(gated, reals("a b", scales=(1.0,)), reals("b", scales=(1.0,)), order=2)
    try:
        assert_gradients(wrong_gated, reals("a b", scales=(1.0,)), reals("b", scales=(1.0,)))
    except GradientError as error:
        print(error)


if __name__ == "__main__":
    main()
