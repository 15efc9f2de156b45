"""Check gradients that HIPS autograd computes.

    python examples/gradcheck_autograd.py

`pair(fn)` makes what `gradcheck` takes of a function of `autograd.numpy`, with primitives of your
own or without. The wrong rule here is the classic one: an operand that was broadcast gets a
gradient that was not summed back to its shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.testing import gradcheck

try:
    import autograd.numpy as anp
    from autograd import make_vjp
    from autograd.extend import defvjp, primitive
except ImportError:
    raise SystemExit(print("This example needs autograd: pip install autograd")) from None


def pair(fn: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What `gradcheck` takes, from a function of autograd.numpy."""

    def vjp(*arrays: Any) -> Any:
        *xs, g = arrays
        return make_vjp(lambda inputs: fn(*inputs))(tuple(xs))[0](g)

    return fn, vjp


def scaled(x: Any, w: Any) -> Any:
    """Each row of x times w."""
    return x * w


right, wrong = primitive(scaled), primitive(scaled)
defvjp(right, lambda out, x, w: lambda g: g * w, lambda out, x, w: lambda g: (g * x).sum(0))
defvjp(wrong, lambda out, x, w: lambda g: g * w, lambda out, x, w: lambda g: (g * x)[0])


def main() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(4, 3)), rng.normal(size=3)
    names = ["x", "w"]

    print("autograd's own gradient:")
    print(gradcheck(pair(lambda x, w: anp.tanh(x * w).sum(1)), inputs, names=names))

    print("\nRight:")
    print(gradcheck(pair(right), inputs, names=names))

    print("\nWrong:")
    print(gradcheck(pair(wrong), inputs, names=names, raise_exception=False))


if __name__ == "__main__":
    main()
