"""Writes the tables of the pages from stored runs.

    python docs/tables.py

Between the markers of docs/zoo/NAME.md comes a row for every zoo/results/NAME-*.json, each the
result.json of a run; between those of docs/performance.md, what the benchmark NAME last printed
into benchmarks/results/NAME.txt.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"(<!-- table of: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
OUTPUT = re.compile(r"(<!-- output of: (\w+) -->\n).*?(<!-- end of output -->)", re.DOTALL)
HEADS = ("text", "seed", "unigrams", "bigrams", "validation", "minutes", "characters/s", "command")


def row(path: Path) -> list[str]:
    run = json.loads(path.read_text(encoding="utf-8"))
    losses = (f"{run['nats per character'][name]:.4f}" for name in HEADS[2:5])
    minutes, rate = f"{run['minutes of training']:.1f}", f"{run['characters per second']:,.0f}"
    command = f"`{run['command']}`"
    return [run["text"]["name"], str(run["recipe"]["seed"]), *losses, minutes, rate, command]


def table(name: str) -> str:
    rows = [row(path) for path in sorted((ROOT / "zoo/results").glob(f"{name}-*.json"))]
    lines = [HEADS, ["---"] * len(HEADS), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def output(name: str) -> str:
    text = (ROOT / f"benchmarks/results/{name}.txt").read_text(encoding="utf-8")
    return f"```\n{text.rstrip()}\n```\n"


def rewritten(page: str) -> str:
    """The page with its tables as the stored runs have them."""
    page = TABLE.sub(lambda found: f"{found[1]}{table(found[2])}{found[3]}", page)
    return OUTPUT.sub(lambda found: f"{found[1]}{output(found[2])}{found[3]}", page)


if __name__ == "__main__":
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if rewritten(text) != text:
            path.write_text(rewritten(text), encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
