"""The table's lines, and what follows it."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from benchmarks.peers.contest import Result, quartiles
from benchmarks.peers.goals import MEANS, OURS, SHARE, goal
from benchmarks.peers.rows import MODES


class Log:
    """Prints lines, and writes them to a file if one is given."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("w", encoding="utf-8") if path else None

    def __call__(self, line: str = "") -> None:
        for file in (sys.stdout, self._file):
            if file:
                print(line, file=file, flush=True)


def heading(peers: list[str]) -> list[str]:
    """What the columns are, and their names."""
    names = f"{'thr':>3} {'mode':5} {'cell':4} {'T,B,I,H':15}{'ours ms':>9}{'GFLOP/s':>9}"
    columns = "".join(f"{f'{peer} ms':>15}{'ratio':>22} " for peer in peers)
    about = (
        "ms: medians. GFLOP/s: of the matrix products. peak: share of the machine's peak, which is "
        "measured in\nturn with the row. ratio: peer / ours, median [quartiles]; * below its goal "
        "even at the upper quartile."
    )
    return [about, "", f"{names}{'peak':>15}  {columns}"]


def _ratio(result: Result, beside: str, percent: bool = False) -> str:
    """Median [lower-upper], with a star where it falls short."""
    if not (ratios := result.ratios(beside)):
        return ""
    low, middle, high = quartiles(ratios)
    star = "*" if result.short(beside) else " "
    if percent:
        return f"{middle:.0%} [{100 * low:.0f}-{100 * high:.0f}]{star}"
    return f"{middle:.2f} [{low:.2f}-{high:.2f}]{star}"


def line(result: Result, peers: list[str]) -> str:
    """A row of the table."""
    row = result.row
    text = f"{result.threads:>3} {row.mode:5} {row.cell:4} {row.label:15}"
    if OURS in result.times:
        seconds = result.median(OURS)
        text += f"{1e3 * seconds:9.3f}{row.flops / seconds / 1e9:9.1f}"
        text += f"{_ratio(result, SHARE, percent=True):>15}  "
    else:
        text += f"{'-':>9}{'-':>9}{'-':>15}  "
    for peer in peers:
        time = f"{1e3 * result.median(peer):.3f}" if peer in result.times else "-"
        text += f"{time:>15}{_ratio(result, peer):>22} "
    return (text + " ".join(f"{k}: {v}" for k, v in result.notes.items() if k in peers)).rstrip()


def _mean(results: list[Result], mode: str, beside: str) -> float | None:
    """The geometric mean of the rows' median ratios."""
    ratios = [r.ratios(beside) for r in results if r.row.mode == mode]
    medians = [statistics.median(pairs) for pairs in ratios if pairs]
    return statistics.geometric_mean(medians) if medians else None


def means(results: list[Result], peers: list[str]) -> list[str]:
    """Geometric means, by threads and over all."""
    counts = sorted({r.threads for r in results})
    titles = "".join(f"{f'{n} thr':>8}" for n in counts)
    lines = [f"{'geometric means of ratio':34}{titles}{'all':>8}{'goal':>8}"]
    for mode, word in MODES.items():
        for peer in peers:
            if (overall := _mean(results, mode, peer)) is None:
                continue
            parts = [_mean([r for r in results if r.threads == n], mode, peer) for n in counts]
            cells = "".join(f"{p:8.2f}" if p else f"{'-':>8}" for p in parts)
            least = MEANS.get((mode, peer))
            mark = "" if least is None else f"{least:8.2f}{'*' if overall < least else ''}"
            lines.append(f"{f'{word} beside {peer}':34}{cells}{overall:8.2f}{mark}")
    return lines


def _shortfall(r: Result, beside: str) -> str:
    """How far a row is below its goal."""
    least, share = goal(r.row, r.threads, beside) or 0.0, beside == SHARE
    threads = f"{r.threads} thread{'s' if r.threads > 1 else ''}"
    what = f"share of the {beside}" if share else f"beside {beside}"
    aim = f"{least:.0%}" if share else f"{least:.2f}"
    where = f"{MODES[r.row.mode]}, {threads}, {r.row.cell} {r.row.label}"
    return f"{where}, {what}: {_ratio(r, beside, share).rstrip('* ')}, goal {aim}"


def shortfalls(results: list[Result], peers: list[str]) -> list[str]:
    """Everything that is below its goal."""
    found = [_shortfall(r, beside) for r in results for beside in (SHARE, *peers)
             if r.short(beside)]  # fmt: skip
    for (mode, peer), least in MEANS.items():
        mean = _mean(results, mode, peer) if peer in peers else None
        if mean is not None and mean < least:
            word = MODES[mode]
            found.append(f"{word}, geometric mean beside {peer}: {mean:.2f}, goal {least:.2f}")
    return found


def judged(results: list[Result], peers: list[str]) -> int:
    """How many goals there were measurements for."""
    rows = sum(bool(goal(r.row, r.threads, b) and r.ratios(b))
               for r in results for b in (SHARE, *peers))  # fmt: skip
    return rows + sum(p in peers and _mean(results, m, p) is not None for m, p in MEANS)


def unmeasured(results: list[Result]) -> list[str]:
    """What was missing or wrong, each message once, with how many rows it is about."""
    found: dict[str, int] = {}
    for r in results:
        for library, message in r.missing.items():
            if library != "onnxruntime" or r.row.mode == "infer":
                found[message] = found.get(message, 0) + 1
        for library, note in r.notes.items():
            if library == OURS:
                found[f"{library}: {note}"] = found.get(f"{library}: {note}", 0) + 1
        for message in r.wrong.values():
            text = f"{r.threads} thr {r.row.mode} {r.row.cell} {r.row.label}: {message}"
            found[text] = 1
    return [f"{message} ({n} row{'s' if n > 1 else ''})" for message, n in found.items()]
