"""Check gradients that torch computes.

    python examples/gradcheck_torch.py

`pair(fn)` makes what `gradcheck` takes of a function of torch tensors: it works for modules and for
your own `torch.autograd.Function`, in float64 and float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.testing import gradcheck

try:
    import torch
except ImportError:
    raise SystemExit(print("This example needs torch: pip install torch")) from None


def pair(fn: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What `gradcheck` takes, from a function of torch tensors."""

    def tensors(arrays: Any) -> Any:
        return [torch.tensor(a.copy()) for a in arrays]  # torch knows no negative strides

    def f(*arrays: Any) -> Any:
        with torch.no_grad():
            return fn(*tensors(arrays)).numpy()

    def vjp(*arrays: Any) -> Any:
        *xs, g = tensors(arrays)
        for x in xs:
            x.requires_grad_()
        return [d.numpy() for d in torch.autograd.grad(fn(*xs), xs, g)]

    return f, vjp


class Swish(torch.autograd.Function):
    """x σ(b x)"""

    @staticmethod
    def forward(context: Any, x: Any, b: Any) -> Any:
        context.save_for_backward(x, b)
        return x * torch.sigmoid(b * x)

    @staticmethod
    def backward(context: Any, g: Any) -> Any:
        x, b = context.saved_tensors
        s = torch.sigmoid(b * x)
        return g * (s + b * x * s * (1 - s)), (g * x**2 * s * (1 - s)).sum()


class SlopeForgotten(Swish):
    """The backward pass takes σ for a constant."""

    @staticmethod
    def backward(context: Any, g: Any) -> Any:
        x, b = context.saved_tensors
        return g * torch.sigmoid(b * x), Swish.backward(context, g)[1]


def main() -> None:
    x, b = np.random.default_rng(0).normal(size=(2, 3)), np.array(1.5)

    print("A module of torch:")
    layer = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh()).double()
    print(gradcheck(pair(layer), x))

    print("\nRight:")
    print(gradcheck(pair(Swish.apply), (x, b), names=["x", "b"]))

    print("\nRight in float32:")
    inputs = x.astype(np.float32), b.astype(np.float32)
    print(gradcheck(pair(Swish.apply), inputs, names=["x", "b"]))

    print("\nWrong:")
    wrong = pair(SlopeForgotten.apply)
    print(gradcheck(wrong, (x, b), names=["x", "b"], raise_exception=False))


if __name__ == "__main__":
    main()
