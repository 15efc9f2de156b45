"""The three layers in JAX: lax.scan under jit, the input's products hoisted out of the loop.

The value and all gradients are one jitted function. The loop is compiled as it is and unrolled by 5
steps, and the faster of the two is timed: the note says which.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.peers.process import Missing, Task
from benchmarks.peers.rows import Arrays, Row

UNROLLS = (1, 5)
Weights = dict[str, Any]


def _zeros(w: Weights, x: Any) -> Any:
    return jnp.zeros((x.shape[1], w["weight_hh_l0"].shape[1]), x.dtype)  # (B, H)


def rnn(w: Weights, x: Any, unroll: int) -> Any:
    """tanh."""
    w_hh = w["weight_hh_l0"].T
    ahead = x @ w["weight_ih_l0"].T + (w["bias_ih_l0"] + w["bias_hh_l0"])  # (T, B, H)

    def step(h: Any, a: Any) -> Any:
        h = jnp.tanh(a + h @ w_hh)
        return h, h

    return lax.scan(step, _zeros(w, x), ahead, unroll=unroll)[1]


def gru(w: Weights, x: Any, unroll: int) -> Any:
    """Reset after the product."""
    w_hh, b_hh = w["weight_hh_l0"].T, w["bias_hh_l0"]
    ahead = x @ w["weight_ih_l0"].T + w["bias_ih_l0"]  # (T, B, 3H)

    def step(h: Any, a: Any) -> Any:
        a_r, a_z, a_n = jnp.split(a, 3, axis=-1)
        b_r, b_z, b_n = jnp.split(h @ w_hh + b_hh, 3, axis=-1)
        z = jax.nn.sigmoid(a_z + b_z)
        n = jnp.tanh(a_n + jax.nn.sigmoid(a_r + b_r) * b_n)
        h = n + z * (h - n)
        return h, h

    return lax.scan(step, _zeros(w, x), ahead, unroll=unroll)[1]


def lstm(w: Weights, x: Any, unroll: int) -> Any:
    """Gates i, f, g, o."""
    w_hh = w["weight_hh_l0"].T
    ahead = x @ w["weight_ih_l0"].T + (w["bias_ih_l0"] + w["bias_hh_l0"])  # (T, B, 4H)

    def step(state: Any, a: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(a + h @ w_hh, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return lax.scan(step, (_zeros(w, x), _zeros(w, x)), ahead, unroll=unroll)[1]


LAYERS = {"RNN": rnn, "GRU": gru, "LSTM": lstm}


def _train(layer: Callable[..., Any], w: Weights, x: Any, dy: Any) -> Any:
    output, pull = jax.vjp(layer, w, x)
    return output, pull(dy)


def _runs(row: Row, unroll: int) -> Callable[[], Any]:
    """One compiled function of arrays that are on JAX's side already."""
    layer = partial(LAYERS[row.cell], unroll=unroll)
    w = {name: jnp.asarray(a) for name, a in row.weights().items()}
    x, dy = map(jnp.asarray, row.inputs())
    wait: Callable[..., Any] = jax.block_until_ready
    if row.mode == "infer":
        infer = jax.jit(layer)
        return lambda: wait(infer(w, x))
    train = jax.jit(partial(_train, layer))
    return lambda: wait(train(w, x, dy))


def _seconds(run: Callable[[], Any]) -> float:
    """The best of a few calls, at most half a second or so of them."""
    run()
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < 0.3:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def prepare(library: str, row: Row, threads: int) -> Task:
    """A row by JAX; its threads are fixed by the environment."""
    if row.layers > 1:
        raise Missing("one layer only")
    seconds = {unroll: _seconds(_runs(row, unroll)) for unroll in UNROLLS}
    unroll = min(seconds, key=lambda u: seconds[u])
    run = _runs(row, unroll)

    def results() -> Arrays:
        if row.mode == "infer":
            return {"output": np.asarray(run())}
        output, (weights, x) = run()
        named = {name: np.asarray(a) for name, a in weights.items()}
        return {"output": np.asarray(output), "x": np.asarray(x)} | named

    return Task(run, results, row.flops, f"unroll {unroll}")
