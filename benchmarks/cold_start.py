"""From import to the end of the first training step: python -m benchmarks.cold_start

Every start is a process of its own: it imports the library, makes an LSTM, and runs it forward and
backward once. Three of them take turns: tinygrad_rnn with an empty folder for compiled code
(TINYGRAD_RNN_CACHE, and Numba's), with the folder that the start before it filled, and torch. The
clock starts before the import, when Python itself is up; the step is what comes after the imports.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOALS = {"cold": 3.0, "warm": 0.8}  # seconds, of the median
NAMES = {
    "cold": "tinygrad_rnn, empty cache",
    "warm": "tinygrad_rnn, filled cache",
    "torch": "torch",
}


def child(library: str, cell: str, size: list[int]) -> None:
    """Print the seconds of the import, and of all."""
    start = time.perf_counter()
    if library == "torch":
        import torch

        imported = time.perf_counter()
        T, B, *sizes = size
        x = torch.randn(T, B, sizes[0], requires_grad=True)
        output, _ = getattr(torch.nn, cell)(*sizes)(x)
        output.backward(torch.randn(T, B, sizes[1]))
    else:
        import tinygrad_rnn as tg

        imported = time.perf_counter()
        T, B, *sizes = size
        leaf = tg.Tensor(tg.randn(T, B, sizes[0]), requires_grad=True)
        ours, _ = getattr(tg.nn, cell)(*sizes)(leaf)
        ours.backward(tg.randn(T, B, sizes[1]))
    print(imported - start, time.perf_counter() - start)


def measure(library: str, cell: str, size: str, folder: str) -> tuple[float, float]:
    """Seconds of the import, and of all, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.cold_start", "--child", library]
    env = os.environ | {"TINYGRAD_RNN_CACHE": folder, "NUMBA_CACHE_DIR": f"{folder}/numba"}
    done = subprocess.run([*command, "--cell", cell, "--size", size], env=env, check=True,
                          stdout=subprocess.PIPE, text=True)  # fmt: skip
    imported, whole = map(float, done.stdout.split())
    return imported, whole


def contents(folder: str) -> str:
    """What a start left in its folder."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1000:.0f} kB"


def rounds(count: int, cell: str, size: str) -> tuple[dict[str, list[tuple[float, float]]], str]:
    """The three starts in turn; and what the cold ones left behind."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    left = ""
    for k in range(count + 1):
        with tempfile.TemporaryDirectory() as folder:
            for name in found:
                library = "torch" if name == "torch" else "tinygrad_rnn"
                times = measure(library, cell, size, folder)
                if k:  # the first round reads the files from the disk
                    found[name].append(times)
                if name == "cold":
                    left = contents(folder)
    return found, left


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rounds", type=int, default=11, help="interleaved rounds, from 2 (default: 11)")
    add("--cell", default="LSTM", choices=("RNN", "GRU", "LSTM"), help="default: LSTM")
    add("--size", default="35,20,200,200", metavar="T,B,I,H", help="default: 35,20,200,200")
    add("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.cell, [int(n) for n in options.size.split(",")])
        return
    found, left = rounds(max(2, options.rounds), options.cell, options.size)
    print(f"import and first training step of {options.cell} {options.size}, seconds, median")
    print(f"{'':28}{'import':>8}{'step':>8}{'all':>8}{'quartiles':>16}{'goal':>7}")
    for name, times in found.items():
        imported = statistics.median(i for i, _ in times)
        step = statistics.median(whole - i for i, whole in times)
        low, middle, high = statistics.quantiles((w for _, w in times), n=4, method="inclusive")
        goal = f"{GOALS[name]:7.1f}{'*' if low > GOALS[name] else ''}" if name in GOALS else ""
        medians = f"{imported:8.2f}{step:8.2f}{middle:8.2f}"
        print(f"{NAMES[name]:28}{medians}{low:9.2f} -{high:5.2f}{goal}")
    print(f"* beyond its goal even at the lower quartile. A cold start leaves {left}")


if __name__ == "__main__":
    main()
