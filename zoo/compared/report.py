"""What a comparison of language models has found: as rows, as a table, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.compared.trials import Row


def summarised(rows: Sequence[Row], part: str) -> list[Row]:
    """A row for each model: the mean of its seeds, and the least and the most of what varies; the
    median of the seconds, and the quickest of the processors'."""
    found = []
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == name]
        same = {key: mine[0][key] for key in ("model", "hidden", "parameters", "bytes", "lr")}
        line: Row = same | {"seeds": len(mine)}
        for key in ("nats", "perplexity", "bits per character"):
            each = [row[part][key] for row in mine]
            line |= {key: float(np.mean(each)), f"least {key}": min(each), f"most {key}": max(each)}
        quickest = min(mine, key=lambda row: float(row["CPU seconds per epoch"]))
        line |= {key: quickest[key] for key in ("CPU seconds per epoch", "tokens per CPU second")}
        line["seconds"] = float(np.median([row["seconds"] for row in mine]))
        found.append(line)
    return found


def table(lines: Sequence[Row], part: str) -> str:
    """A line for each model."""
    heads = ["units", "parameters", "MB", "perplexity", "least", "most", "bits/char.", "minutes"]
    shown = [f"{part:12}" + "".join(f"{head:>12}" for head in heads) + "  tokens/CPU s"]
    for line in lines:
        mean, least, most = (line[f"{n}perplexity"] for n in ("", "least ", "most "))
        cells = [f"{line['hidden'] or '':>12}{line['parameters']:12,}{line['bytes'] / 1e6:12.2f}"]
        cells += [f"{mean:12.2f}{least:12.2f}{most:12.2f}{line['bits per character']:12.4f}"]
        cells += [f"{line['seconds'] / 60:12.2f}{line['tokens per CPU second']:14,.0f}"]
        shown.append(f"{line['model']:12}{''.join(cells)}")
    return "\n".join(shown)


def draw(result: Row, title: str, path: Path) -> None:
    """Perplexities of all seeds, how they fell, speed and memory, as a picture."""
    from matplotlib.figure import Figure

    rows, lines, part = result["runs"], result["models"], result["judged by"]
    figure = Figure(figsize=(10, 7), layout="constrained")
    (first, falling), (speed, memory) = figure.subplots(2, 2)
    names = [line["model"] for line in lines]
    for k, line in enumerate(lines):
        mine = [row for row in rows if row["model"] == line["model"]]
        first.hlines(line["perplexity"], k - 0.3, k + 0.3, color=f"C{k}")
        first.plot([k] * len(mine), [row[part]["perplexity"] for row in mine], "o", color=f"C{k}")
        first.annotate(f"{line['perplexity']:.1f}", (k + 0.1, line["perplexity"]), va="bottom")
        for row in mine:
            seen = np.array(row["curve"])
            if len(seen):
                times = row["CPU seconds per epoch"] * row["epochs"] * seen[:, 0] / seen[-1, 0]
                falling.plot(times, np.exp(seen[:, 2]), color=f"C{k}", alpha=0.8)
            else:
                falling.axhline(row["validation"]["perplexity"], color=f"C{k}", ls="--")
        falling.plot([], [], color=f"C{k}", ls="-" if line["hidden"] else "--", label=names[k])
        speed.bar(k, line["tokens per CPU second"], color=f"C{k}")
        memory.bar(k, line["bytes"] / 1e6, color=f"C{k}")
    first.set(title=f"{part} perplexity, each seed and the mean", xlim=(-0.6, len(names) - 0.2))
    falling.set(xlabel="CPU seconds of training", title="validation perplexity", yscale="log")
    falling.yaxis.set_major_formatter("{x:.0f}")
    falling.yaxis.set_minor_formatter("{x:.0f}")
    speed.set(title="tokens per CPU second in training", yscale="log", ylim=(1e3, None))
    memory.set(title="MB that the trained model takes")
    for axes in (first, speed, memory):
        axes.set_xticks(range(len(names)), names)
    for axes in (first, falling, speed, memory):
        axes.grid(alpha=0.3, axis="both" if axes is falling else "y")
        axes.set_axisbelow(True)
    falling.set_ylim(top=1.8 * falling.get_ylim()[1])
    falling.legend(ncols=3, loc="upper right")
    figure.suptitle(title)
    figure.savefig(path, dpi=90)
