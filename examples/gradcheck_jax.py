"""Check gradients that JAX computes.

    python examples/gradcheck_jax.py

`pair(fn)` makes what `gradcheck` takes of a function of JAX arrays, such as one with a `custom_vjp`
of your own. Without `jax_enable_x64` JAX computes in float32 whatever it is given; then pass
float32 inputs, and expect a coarser check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.testing import gradcheck

try:
    import jax
    import jax.numpy as jnp
except ImportError:
    raise SystemExit(print("This example needs JAX: pip install jax")) from None

jax.config.update("jax_enable_x64", True)


def pair(fn: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What `gradcheck` takes, from a function of JAX arrays; each way is compiled once."""
    forward = jax.jit(fn)
    backward = jax.jit(lambda g, *xs: jax.vjp(fn, *xs)[1](g))

    def f(*arrays: Any) -> Any:
        return np.asarray(forward(*arrays))

    def vjp(*arrays: Any) -> Any:
        *xs, g = arrays
        return [np.asarray(d) for d in backward(g, *xs)]

    return f, vjp


def distance(x: Any, y: Any) -> Any:
    """The Euclidean distance of each row of x from y."""
    return jnp.sqrt(((x - y) ** 2).sum(-1))


def with_rule(backward: Callable[..., Any]) -> Callable[..., Any]:
    """`distance` with a rule of our own."""
    ruled = jax.custom_vjp(distance)
    ruled.defvjp(lambda x, y: (distance(x, y), (x, y)), backward)
    return ruled


def right(saved: Any, g: Any) -> Any:
    x, y = saved
    d = (g / distance(x, y))[:, None] * (x - y)
    return d, -d.sum(0)


def sign_forgotten(saved: Any, g: Any) -> Any:
    dx, dy = right(saved, g)
    return dx, -dy


def main() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(4, 3)), rng.normal(size=3)
    names = ["x", "y"]

    print("JAX's own gradient:")
    print(gradcheck(pair(distance), inputs, names=names))

    print("\nRight:")
    print(gradcheck(pair(with_rule(right)), inputs, names=names))

    print("\nWrong:")
    wrong = pair(with_rule(sign_forgotten))
    print(gradcheck(wrong, inputs, names=names, raise_exception=False))


if __name__ == "__main__":
    main()
