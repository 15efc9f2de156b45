"""Every compiled cell beside the LSTM, and lengths beside padding: python -m benchmarks.cells

Training (forward and gradients of x and all weights, which count as changed before each call),
float32; what is compared takes turns within each round.

    cells      GFLOP/s of the matrix products, and their share of the LSTM's at the same size; of
               recurrences without a product, GB/s, and their share of a copy's
    eager      peephole and LayerNorm LSTM as a loop over torch's ops, the input's product hoisted
    lengths    uniform in 1..T beside all T; torch's packed sequences beside its padded ones
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from benchmarks.peers import report
from benchmarks.peers.machine import machine, versions
from tinygrad_rnn.autograd.writes import touch
from tinygrad_rnn.nn import cells

Size = tuple[int, int, int, int]  # T, B, I, H
SIZES: list[Size] = [(35, 20, 200, 200), (100, 50, 128, 512), (64, 1, 64, 64)]
NAMES = [name for name, v in vars(cells).items() if getattr(v, "shapes", None)]
EAGER = ("lstm_peephole", "lstm_normalised")
RAGGED: list[Size] = [(100, 50, 128, 512), (35, 20, 200, 200)]


def drawn(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """x, and the cotangent of the outputs."""
    (T, B, inputs, H), rng = size, np.random.default_rng(0)
    x, g = rng.standard_normal((T, B, inputs)), rng.standard_normal((T, B, H))
    return x.astype("f"), g.astype("f")


def training(layer: Any, size: Size, lengths: Any = None) -> Callable[[], Any]:
    """One step of a layer of ours."""
    x, g = drawn(size)
    leaf, cotangent, weights = tg.Tensor(x, requires_grad=True), tg.Tensor(g), [*layer.parameters()]

    def run() -> Any:
        for w in weights:
            touch(w)
        output, _ = layer(leaf, lengths=lengths)
        return tg.grad(output, [leaf, *weights], cotangent)

    return run


def eager(name: str, layer: Any, size: Size) -> Callable[[], Any]:
    """The same step as a loop over torch's ops."""
    import torch

    x, g = (torch.tensor(a) for a in drawn(size))
    x.requires_grad_()
    weights = [torch.tensor(np.array(w), requires_grad=True) for w in layer.parameters()]
    T, B, _, H = size

    def norm(a: Any, gain: Any) -> Any:
        return torch.nn.functional.layer_norm(a, a.shape[-1:], gain)

    def run() -> Any:
        w_ih, w_hh, *vectors, b = weights
        h = c = torch.zeros(B, H)
        outputs, hoisted = [], x @ w_ih.T
        if name == "lstm_normalised":
            hoisted = norm(hoisted, vectors[0])
        hoisted = hoisted + b
        for t in range(T):
            a = h @ w_hh.T
            if name == "lstm_normalised":
                i, f, z, o = (hoisted[t] + norm(a, vectors[1])).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * z.tanh()
                h = o.sigmoid() * (norm(c, vectors[2]) + vectors[3]).tanh()
            else:
                i, f, z, o = (hoisted[t] + a).chunk(4, 1)
                c_new = (f + vectors[1] * c).sigmoid() * c + (
                    i + vectors[0] * c
                ).sigmoid() * z.tanh()
                c = c_new
                h = (o + vectors[2] * c).sigmoid() * c.tanh()
            outputs.append(h)
        return torch.autograd.grad(torch.stack(outputs), [x, *weights], g)

    return run


def rounds(runs: Sequence[Callable[[], Any]], count: int) -> list[list[float]]:
    """Seconds of each, in turns; calls of less than 20 ms are repeated to that length."""
    repeats = []
    for run in runs:
        run()
        start = time.perf_counter()
        run()
        repeats.append(max(1, math.ceil(0.02 / (time.perf_counter() - start))))
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(count):
        for k in range(len(runs)):
            which = (k + turn) % len(runs)
            start = time.perf_counter()
            for _ in range(repeats[which]):
                runs[which]()
            times[which].append((time.perf_counter() - start) / repeats[which])
    return times


def ratios(above: Sequence[float], below: Sequence[float]) -> str:
    """The median of a / b, and its quartiles."""
    found = [a / b for a, b in zip(above, below, strict=True)]
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{middle:6.2f} [{low:.2f}-{high:.2f}]"


def work(layer: Any, size: Size) -> float:
    """Floating-point operations of the matrix products: there, and twice back."""
    T, B, *_ = size
    return 6.0 * T * B * sum(math.prod(w.shape) for w in layer.parameters() if w.ndim == 2)


def of_cells(size: Size, names: Sequence[str], count: int, say: report.Log) -> None:
    """The table of cells at one size."""
    lstm = tg.nn.LSTM(size[2], size[3])
    say(f"\n{','.join(map(str, size))}, {tg.get_num_threads()} threads")
    for name in names:
        layer = tg.nn.Recurrent(getattr(cells, name), size[2], size[3])
        own, other = rounds([training(layer, size), training(lstm, size)], count)
        rate, best = [work(layer, size) / t for t in own], [work(lstm, size) / t for t in other]
        ms, speed = statistics.median(own) * 1e3, statistics.median(rate) / 1e9
        say(f"{name:24}{ms:10.3f} ms{speed:9.1f} GFLOP/s{ratios(rate, best)} of the LSTM's")


@tg.cell
def independent(x: Any, h: Any, u: Any) -> Any:
    """`cells.independent` of what the product has given."""
    h = tg.relu(x + u * h)
    return h, h


@tg.cell
def simple_recurrent_unit(x: Any, c: Any, v: Any) -> Any:
    """`cells.simple_recurrent_unit` of what the product has given."""
    new, f, r, skip = tg.split(x, 4, axis=-1)
    v_f, v_r = tg.split(v, 2)
    f, r = tg.sigmoid(f + v_f * c), tg.sigmoid(r + v_r * c)
    c = f * c + (1.0 - f) * new
    return r * c + (1.0 - r) * skip, c


def of_memory(size: Size, count: int, say: report.Log) -> None:
    """Recurrences without a product: bytes that have to be read or written each way, x, outputs and
    their gradients, per second, and their share of a copy's."""
    T, B, _, H = size
    source, rng = np.ones(1 << 24, "f"), np.random.default_rng(0)
    target = np.empty_like(source)
    for step, gates in ((independent, 1), (simple_recurrent_unit, 4)):
        x = tg.Tensor(rng.standard_normal((T, B, gates * H)).astype("f"), requires_grad=True)
        v = tg.Tensor(rng.uniform(0, 1, max(1, gates // 2) * H).astype("f"), requires_grad=True)
        g, start = tg.Tensor(rng.standard_normal((T, B, H)).astype("f")), tg.zeros(B, H)

        def run(step: Any = step, x: Any = x, v: Any = v, g: Any = g, start: Any = start) -> Any:
            return tg.grad(tg.scan(step, x, start, (v,))[0], [x, v], g)

        own, copy = rounds([run, lambda: np.copyto(target, source)], count)
        moved = 4.0 * T * B * H * (3 * gates + 2)  # x twice, dx; outputs, their cotangents
        rate, best = [moved / t for t in own], [2.0 * source.nbytes / t for t in copy]
        speed = statistics.median(rate) / 1e9
        say(
            f"{step.__name__:24}{statistics.median(own) * 1e3:10.3f} ms{speed:9.1f} GB/s   "
            f"{ratios(rate, best)} of a copy's"
        )


def beside_eager(size: Size, count: int, say: report.Log) -> None:
    """Torch's loop over ours."""
    import torch

    torch.set_num_threads(tg.get_num_threads())
    for name in EAGER:
        layer = tg.nn.Recurrent(getattr(cells, name), size[2], size[3])
        mine, theirs = training(layer, size), eager(name, layer, size)
        for a, b in zip(mine(), theirs(), strict=True):
            scale = np.abs(b.numpy()).max()
            assert np.abs(a.numpy() - b.numpy()).max() <= 1e-3 * scale, name
        own, other = rounds([mine, theirs], count)
        times = "{:10.3f} ms, torch {:8.3f} ms".format(
            *(statistics.median(t) * 1e3 for t in (own, other))
        )
        say(f"{name:24}{','.join(map(str, size)):>18}{times} {ratios(other, own)}")


def ragged(size: Size, count: int, say: report.Log) -> None:
    """Lengths beside padding, ours and torch's."""
    import torch

    torch.set_num_threads(tg.get_num_threads())
    T, B, inputs, H = size
    lengths = np.random.default_rng(1).permutation(np.linspace(1, T, B).round().astype(int))
    layer, other = tg.nn.LSTM(inputs, H), torch.nn.LSTM(inputs, H)
    x, g = (torch.tensor(a) for a in drawn(size))
    x.requires_grad_()
    beyond = torch.arange(T)[:, None] >= torch.tensor(lengths)

    def theirs(packed: bool) -> Callable[[], Any]:
        rnn = torch.nn.utils.rnn

        def run() -> Any:
            if not packed:
                return torch.autograd.grad(other(x)[0], [x, *other.parameters()], g)
            given = rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
            output, _ = rnn.pad_packed_sequence(other(given)[0], total_length=T)
            return torch.autograd.grad(output, [x, *other.parameters()], g)

        return run

    assert not np.array(layer(tg.Tensor(x.detach().numpy()), lengths=lengths)[0])[beyond].any()
    runs = [training(layer, size, lengths), training(layer, size), theirs(True), theirs(False)]
    ours, padded, packed, whole = rounds(runs, count)
    say(
        f"{','.join(map(str, size)):>18}, {lengths.mean() / T:.2f} of all steps: "
        f"{ratios(ours, padded)} of the padded time; torch {ratios(packed, whole)}; "
        f"torch's packed / ours {ratios(packed, ours)}"
    )


def main() -> None:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--cells", nargs="+", choices=NAMES, default=NAMES, metavar="CELL")
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    parser.add_argument("--log", type=Path, metavar="FILE", help="also write to this file")
    options = parser.parse_args()
    say = report.Log(options.log)
    say(f"{versions(['torch'])}\n{machine()}; {options.rounds} rounds, medians [quartiles]")
    for threads in options.threads:
        tg.set_num_threads(threads)
        for size in SIZES:
            of_cells(size, options.cells, options.rounds, say)
            of_memory(size, options.rounds, say)
        say(f"\neager loops in torch, {threads} threads")
        for size in (SIZES[0], SIZES[2]):
            beside_eager(size, options.rounds, say)
        say(f"\nlengths, LSTM, {threads} threads")
        for size in RAGGED:
            ragged(size, options.rounds, say)


if __name__ == "__main__":
    main()
