"""tg.nn and torch.nn: the same lines, as their users write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.process import Missing, Task
from benchmarks.peers.rows import Arrays, Row


def _trainer(layer: Any, x: Any, dy: Any, written: Callable[[Any], None]) -> Callable[[], Any]:
    """Fresh gradients of x and all weights; `written` says that an optimiser changed a weight."""
    weights = list(layer.parameters())

    def run() -> Any:
        x.grad = None
        for weight in weights:
            weight.grad = None
            written(weight)
        output, _ = layer(x)
        output.backward(dy)
        return output

    return run


def _task(row: Row, layer: Any, x: Any, run: Callable[[], Any], note: str) -> Task:
    def results() -> Arrays:
        output = run()
        if row.mode == "infer":
            return {"output": output.numpy()}
        gradients = {name: p.grad.numpy() for name, p in layer.named_parameters()}
        return {"output": output.detach().numpy(), "x": x.grad.numpy()} | gradients

    return Task(run, results, row.flops, note)


def _ours(row: Row, threads: int) -> Task:
    import tinygrad_rnn as tg
    from tinygrad_rnn.autograd.writes import touch

    kind: Any = getattr(tg.nn, row.cell, None)
    if kind is None:
        raise Missing(f"there is no tg.nn.{row.cell} yet")
    note = ""
    if set_threads := getattr(tg, "set_num_threads", None):
        set_threads(threads)
    else:
        note = "there is no tg.set_num_threads yet: threads as they come"
    _, _, *sizes = row.size  # I, H
    layer = kind(*sizes, row.layers)
    layer.load_state_dict(row.weights())
    x, dy = row.inputs()
    leaf = tg.Tensor(x, requires_grad=row.mode == "train")

    def infer() -> Any:
        with tg.no_grad():
            return layer(leaf)[0]

    training = _trainer(layer, leaf, tg.Tensor(dy), touch)
    return _task(row, layer, leaf, training if row.mode == "train" else infer, note)


def _torch(row: Row, threads: int) -> Task:
    import torch

    torch.set_num_threads(threads)
    _, _, *sizes = row.size  # I, H
    layer = getattr(torch.nn, row.cell)(*sizes, row.layers)
    layer.load_state_dict({name: torch.from_numpy(a) for name, a in row.weights().items()})
    x, dy = map(torch.from_numpy, row.inputs())
    leaf = x.requires_grad_(row.mode == "train")

    def infer() -> Any:
        with torch.inference_mode():
            return layer(leaf)[0]

    training = _trainer(layer, leaf, dy, lambda weight: None)
    return _task(row, layer, leaf, training if row.mode == "train" else infer, "")


def prepare(library: str, row: Row, threads: int) -> Task:
    """A row by tinygrad_rnn or torch."""
    return (_ours if library == "tinygrad_rnn" else _torch)(row, threads)
