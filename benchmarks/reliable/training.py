"""A hundred steps of training: the same bits in every run, and for every number of threads."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np

import tinygrad_rnn as tg
from benchmarks.reliable.outcome import Outcome

STEPS, RUNS, THREADS = 100, 5, (1, 2, 4, 8)
LAYERS = ("LSTM", "GRU", "RNN")


class Model(tg.nn.Module):
    """A language model of 30 symbols; its products are large enough for several threads."""

    def __init__(self, layer: str, dtype: str, rng: np.random.Generator) -> None:
        kind = np.dtype(dtype).type
        self.table = tg.nn.Embedding(30, 40, dtype=kind, rng=rng)
        self.layer = getattr(tg.nn, layer)(40, 96, dtype=kind, rng=rng)
        self.out = tg.nn.Linear(96, 30, dtype=kind, rng=rng)

    def loss(self, ids: np.ndarray) -> tg.Tensor:
        output, _ = self.layer(self.table(ids[:-1]))
        return tg.nn.cross_entropy(self.out(output), ids[1:])


def trained(layer: str, dtype: str, seed: int) -> str:
    """A digest of all losses and of the parameters in the end."""
    rng, digest = np.random.default_rng(seed), hashlib.sha256()
    model = Model(layer, dtype, rng)
    optimizer = tg.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        model.zero_grad()
        loss = model.loss(rng.integers(30, size=(20, 17)))
        loss.backward()
        tg.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        digest.update(loss.numpy().tobytes())
    for value in model.state_dict().values():
        digest.update(value.tobytes())
    return digest.hexdigest()


def round(rng: np.random.Generator) -> Iterator[Outcome]:
    layer, dtype = str(rng.choice(LAYERS)), str(rng.choice(["float32", "float64"]))
    seed, before = int(rng.integers(2**32)), tg.get_num_threads()
    found, first = Outcome(f"trainings of {STEPS} steps, 1 to 8 threads"), ""
    for k in range(RUNS):
        for n in THREADS:
            tg.set_num_threads(n)
            digest = trained(layer, dtype, seed)
            first = first or digest
            found.trial(None if digest == first else f"{layer} {dtype} seed {seed}: run {k}, {n}")
    tg.set_num_threads(before)
    yield found
    fresh = Outcome("trainings in a process of their own")
    command = [sys.executable, "-m", "benchmarks.reliable.training", layer, dtype, str(seed)]
    digest = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    fresh.trial(None if digest == first else f"{layer} {dtype} seed {seed}: {digest!r}")
    yield fresh


if __name__ == "__main__":
    print(trained(sys.argv[1], sys.argv[2], int(sys.argv[3])))
