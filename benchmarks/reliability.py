"""Long searches for failures: python -m benchmarks.reliability --minutes 25

Measures for as long as it is told, with the laws and drawings of the tests where these serve:

    G6   elementary functions: at most 4 units in the last place, every special value right
    G8   damaged, forged and wrong files: a declared error or the same data, and nothing changed
    G9   a training of 50,000 steps, stopped and killed anywhere and resumed: the same losses
    G10  the cache of compiled code: cold starts together, damage, edits, no home
    G11  a hundred training steps: the same bits in every run and for every number of threads
    G12  NaN and infinity: passed on by ops and cells, noticed by clipping, named by anomaly mode
    G13  writes to saved arrays between forward and backward: all noticed in debug mode
    G14  two Python threads in every op, and forks meanwhile: no crash, no hang, the right bits
    G16  red zones around the arrays of kernels; ids out of range raise

Figures take turns, each in rounds with random numbers of its own, so that any time is well spent,
and another --seed goes on. No failure in N trials: with 95 % confidence, fewer than 3 / N of all.
Run it alone, at a low priority (nice -n 10); --log appends what it prints to a file.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zlib
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ["TINYGRAD_RNN_STRICT"] = "1"

import numpy as np

from benchmarks.peers.machine import machine, versions
from benchmarks.reliable import accuracy, bounds, caches, files, honesty, resume, sharing, training
from benchmarks.reliable.outcome import Outcome, Round

FIGURES: dict[str, tuple[Round, float]] = {  # and their shares of the time
    "G6": (accuracy.round, 0.2),
    "G8": (files.round, 0.06),
    "G9": (resume.round, 0.1),
    "G10": (caches.round, 0.3),
    "G11": (training.round, 0.12),
    "G12": (honesty.numbers, 0.1),
    "G13": (honesty.mutations, 0.08),
    "G14": (sharing.round, 0.12),
    "G16": (bounds.round, 0.08),
}


def measured(names: list[str], seed: int, minutes: float) -> dict[str, dict[str, Outcome]]:
    """Rounds of all figures in turn, those first that are furthest behind their share."""
    found: dict[str, dict[str, Outcome]] = {name: {} for name in names}
    spent, rounds = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end or not all(rounds.values()):
        name = min(names, key=lambda n: spent[n] / FIGURES[n][1])
        begin = time.monotonic()
        rng = np.random.default_rng((seed, zlib.crc32(name.encode()), rounds[name]))
        for outcome in FIGURES[name][0](rng):
            found[name].setdefault(outcome.what, Outcome(outcome.what)).join(outcome)
            for text in outcome.shown:
                print(f"{name} round {rounds[name]} FAILED: {text}", file=sys.stderr, flush=True)
        spent[name] += time.monotonic() - begin
        rounds[name] += 1
    return found


def line(outcome: Outcome) -> str:
    share = f"< {3 / outcome.trials:.1g}" if not outcome.failures and outcome.trials > 3 else ""
    worst = "" if outcome.worst is None else f"{outcome.worst:.3g}"
    return f"  {outcome.what:58}{outcome.trials:13,}{outcome.failures:10,}{share:>9}{worst:>8}"


def report(found: dict[str, dict[str, Outcome]]) -> str:
    lines = [f"{'':60}{'trials':>13}{'failures':>10}{'rate':>9}{'worst':>8}"]
    for name, outcomes in found.items():
        total = Outcome("all")
        for outcome in outcomes.values():
            total.join(outcome)
        lines += [
            name,
            *map(line, outcomes.values()),
            *([line(total)] if len(outcomes) > 3 else []),
        ]
        lines += [f"    FAILED: {text}" for text in total.shown]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=25.0, help="default: 25; every figure has one round")
    add("--seed", type=int, default=0, help="of all random numbers (default: 0)")
    add("--figures", nargs="*", default=list(FIGURES), choices=FIGURES, help="default: all")
    add("--log", type=Path, help="a file to append to, such as benchmarks/results/reliability.txt")
    options = parser.parse_args()
    begin = time.monotonic()
    found = measured(options.figures, options.seed, options.minutes)
    minutes = (time.monotonic() - begin) / 60
    words = ["python -m benchmarks.reliability", f"--minutes {options.minutes:g}"]
    words += [f"--seed {options.seed}", f"--figures {' '.join(options.figures)}"]
    head = [" ".join(words), f"{time.strftime('%Y-%m-%d')}, {minutes:.1f} minutes"]
    head += [machine(), versions(["hypothesis"])]
    text = "\n".join([*head, "", report(found), ""])
    print(text)
    if options.log:
        with options.log.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    sys.exit(any(o.failures for outcomes in found.values() for o in outcomes.values()))


if __name__ == "__main__":
    main()
