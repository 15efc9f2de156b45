"""Fills in the parts of docs/layers/*.md that are in the code or in stored measurements.

    python docs/layer_pages.py

Between the markers of an entry come a public name's signature and docstring; of a cell, its
picture, equations and parameters; of speed, rows of benchmarks/results/cells.txt; of the index, all
names.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinygrad_rnn.nn import cells

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs/layers"
PART = re.compile(
    r"(<!-- (entry|cell|speed|index) of: ([\w., ]+?) -->\n).*?(<!-- end of \2 -->)", re.DOTALL
)


def public(name: str) -> Any:
    """What a name such as nn.init.uniform stands for."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"tinygrad_rnn.{module}"), attribute)


# Docstrings


def paragraphs(text: str) -> list[str]:
    return [p for p in re.split(r"\n\s*\n", text) if p.strip()]


def block(text: str, kind: str = "text") -> str:
    return f"```{kind}\n{textwrap.dedent(text).strip()}\n```"


def table(rows: list[tuple[str, ...]]) -> str:
    head, *others = rows
    lines = [head, ("---",) * len(head), *others]
    return "\n".join(f"| {' | '.join(c.replace('|', '&#124;') for c in row)} |" for row in lines)


def arguments(text: str) -> str:
    """The lines below Args as a table."""
    found: list[tuple[str, ...]] = [("argument", "meaning")]
    for item in re.split(r"\n(?=\S)", textwrap.dedent(text)):
        name, _, meaning = item.partition(": ")
        found.append((f"`{name}`", " ".join(meaning.split())))
    return table(found)


def imports(example: str, module: str) -> str:
    """What an example needs beside its own imports and the page's."""
    lines = "\n".join(m for m in re.findall(r"^(?:>>>|\.\.\.) ?(.*)$", example, re.MULTILINE))
    names = [node for node in ast.walk(ast.parse(lines)) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    home = vars(importlib.import_module(f"tinygrad_rnn.{module}"))
    known = {*made, *vars(builtins), "tg", "np", "nn", "optim"}
    needed = sorted({n.id for n in names if n.id in home} - known)
    return f">>> from tinygrad_rnn.{module} import {', '.join(needed)}\n" if needed else ""


def described(doc: str, module: str) -> Iterator[str]:
    """The parts of a docstring as Markdown."""
    for text in paragraphs(doc):
        head, _, rest = text.partition("\n")
        if text.startswith(">>> "):
            text = text.replace(">>> import tinygrad_rnn as tg\n", "")
            yield block(imports(text, module) + text, "python")
        elif head == "Args:":
            yield arguments(rest)
        elif head == "Shapes:":
            yield block(rest)
        elif head == "Raises:":
            continue
        elif text.startswith("    "):
            yield block(text)
        else:
            yield re.sub(r":\n {4}", ": ", text)


def entry(name: str) -> str:
    """The signature and docstring of a public name."""
    found = public(name)
    values = inspect.signature(found).parameters.values()
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in values]
    shown = re.sub(r"<class '(?:numpy\.)?(\w+)'>", r"\1", str(inspect.Signature(bare)))
    parts = [f"### {name}", f"`{name.rpartition('.')[2]}{shown}`"]
    return "\n\n".join([*parts, *described(inspect.getdoc(found) or "", name.rpartition(".")[0])])


# Cells


LETTERS = {"I": 7, "H": 1009, "P": 503}  # sizes by which a shape shows what it is made of


def size(n: int) -> str:
    """A size in letters: 4H."""
    (letter,) = (name for name, unit in LETTERS.items() if n % unit == 0)
    return f"{n // LETTERS[letter]}{letter}".removeprefix("1")


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Those of a cell's parameters."""
    cell, given = getattr(cells, name), (LETTERS["I"], LETTERS["H"])
    if name == "lstm_projected":
        return cells.projected_shapes(LETTERS["P"])(*given)
    found: dict[str, tuple[int, ...]] = (cell.shapes or cells.lstm.shapes)(*given)
    return found


def cell(name: str) -> str:
    """A cell's picture, equations and parameters."""
    equations, *others = paragraphs(inspect.getdoc(getattr(cells, name)) or "")
    plain = " ".join(equations.rstrip(".").split())
    first = {"gain": "1", "shift": "0"}
    rows = [("parameter", "shape", "at first")]
    for parameter, shape in shapes(name).items():
        start = first.get(parameter.partition("_")[0], "within ±1/√H")
        sizes = ", ".join(map(size, shape)) + "," * (len(shape) == 1)
        rows.append((f"`{parameter}`", f"({sizes})", start))
    source = "\n\n".join(p for p in others if not p.startswith("Shapes:"))
    lines = plain if "`" in plain else block("\n".join(re.split(r"[;:] (?=.* = )", plain)))
    picture = f"![{name}]({name}.png)"
    return "\n\n".join([f"### nn.cells.{name}", picture, lines, source, table(rows)])


# Speed


def measured() -> tuple[str, dict[str, dict[str, float]]]:
    """The machine, and milliseconds of each cell, by sizes, on one thread."""
    head, machine, *lines = (ROOT / "benchmarks/results/cells.txt").read_text("utf-8").splitlines()
    found: dict[str, dict[str, float]] = {}
    sizes = ""
    for line in lines:
        if line and line[0].isdigit():
            sizes = line.removesuffix(", 1 threads") if line.endswith(", 1 threads") else ""
        elif sizes and (row := re.match(r"(\w+) +([\d.]+) ms .* GFLOP/s", line)):
            found.setdefault(sizes, {}).setdefault(row[1], float(row[2]))
    return f"{head}; {machine}", found


def speed(names: str) -> str:
    """Times of a training step, and their ratios to the LSTM's."""
    machine, found = measured()
    rows = [("cell", *(f"{sizes}: ms" for sizes in found))]
    for name in names.split():
        cells_of = (f"{at[name]:.2f} ({at[name] / at['lstm']:.2f})" for at in found.values())
        rows.append((f"`{name}`", *cells_of))
    note = (
        "Milliseconds of a training step (forward, all gradients) at T,B,I,H, float32, one thread, "
        f"and in brackets how many times the LSTM's; `python3 tasks.py bench cells`, {machine}."
    )
    return f"{table(rows)}\n\n{note}"


def index(_: str) -> str:
    """All names, with links to where they are."""
    rows = [("name", "page")]
    for path in PAGES.glob("*.md"):
        text = path.read_text(encoding="utf-8")
        for _, kind, name, _ in PART.findall(text):
            if kind in ("entry", "cell"):
                full = f"nn.cells.{name}" if kind == "cell" else name
                anchor = full.lower().replace(".", "")
                rows.append((f"[`{full}`]({path.name}#{anchor})", text.split("\n", 1)[0][2:]))
    return table([rows[0], *sorted(rows[1:], key=lambda row: row[0].lower())])


WRITERS = {"entry": entry, "cell": cell, "speed": speed, "index": index}


def rewritten(page: str) -> str:
    """The page with its parts as the code has them."""
    return PART.sub(lambda m: f"{m[1]}\n{WRITERS[m[2]](m[3])}\n\n{m[4]}", page)


if __name__ == "__main__":
    for path in sorted(PAGES.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if rewritten(text) != text:
            path.write_text(rewritten(text), encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
