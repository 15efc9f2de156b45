"""Writes the tables of the pages from stored runs.

    python docs/tables.py

Between the markers of docs/zoo/NAME.md come rows for every zoo/results/NAME-*.json, each the
result.json of a run; between those of docs/performance.md, what the benchmark NAME last printed
into benchmarks/results/NAME.txt. docs/claims.md is written by claims.py.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"(<!-- table of: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
OUTPUT = re.compile(r"(<!-- output of: (\w+) -->\n).*?(<!-- end of output -->)", re.DOTALL)
Rows = list[list[str]]


def char_lm(runs: list[Any]) -> Rows:
    losses = ["unigrams", "bigrams", "validation"]
    heads = ["text", "seed", "cell", "parameters", *losses, "bits/char", "minutes", "characters/s"]
    rows = [[*heads, *MADE]]
    for run in runs:
        recipe, nats = run["recipe"], run["nats per character"]
        count = recipe.get("ensemble", 1)
        shape = f"{recipe['layers']} × {recipe['hidden']} {recipe['cell']}"
        shape = shape if count == 1 else f"{count} networks of {shape}"
        found = [f"{nats[name]:.4f}" for name in losses]
        found += [f"{nats['validation'] / math.log(2):.4f}", f"{run['minutes of training']:.1f}"]
        found += [f"{run['characters per second']:,.0f}", *made(run)]
        rows.append([*name_and_seed(run), shape, f"{run['parameters']:,}", *found])
    return rows


MADE = ["machine", "command"]


def made(run: Any) -> list[str]:
    return [run["machine"], f"`{run['command']}`"]


def name_and_seed(run: Any) -> list[str]:
    return [run["text"]["name"], str(run["recipe"]["seed"])]


def last_part(run: Any) -> str:
    """What a run is judged by: the test part, or the validation part of a text that has none."""
    return str(list(run["text"]["tokens"])[-1])


def ngram_lm(runs: list[Any]) -> Rows:
    """Perplexity on the last part of each text, a column for each n, and the memory."""
    orders = sorted({n for run in runs for n in run["recipe"]["orders"]})
    rows = [["text", "method", *(f"n = {n}" for n in orders)]]
    for run in runs:
        name, part = f"{run['text']['name']}, {run['recipe']['unit']}s", last_part(run)
        found = {(row["method"], row["n"]): row for row in run["perplexities"]}
        for method in run["recipe"]["methods"]:
            lines = [found.get((method, n)) for n in orders]
            values = (line and (math.inf if line[part] is None else line[part]) for line in lines)
            rows.append(
                [name, method, *(f"{v:.2f}".replace("inf", "∞") if v else "" for v in values)]
            )
        lines = [found.get(("kneser-ney", n)) for n in orders]
        memory = (f"{line['bytes'] / 1e6:.2f} MB" if line else "" for line in lines)
        rows.append([name, "memory of kneser-ney", *memory])
    return rows


def ngram_lm_runs(runs: list[Any]) -> Rows:
    heads = ["text", "judged by", "tokens", "to predict", "unknown", "MB while counting"]
    rows = [[*heads, "minutes", "seed", *MADE]]
    for run in runs:
        text, part = run["text"], last_part(run)
        unknown = f"{100 * text['unknown'].get(part, 0):.1f} %"
        cells = [part, f"{text['tokens'][part]:,}", f"{text['vocabulary']:,}", unknown]
        cells += [f"{run['bytes_while_counting'] / 1e6:.0f}", f"{run['minutes']:.1f}"]
        rows.append([text["name"], *cells, str(run["recipe"]["seed"]), *made(run)])
    return rows


def fixed_window_lm(runs: list[Any]) -> Rows:
    """Perplexities of each window, and of the Kneser-Ney model that sees as many tokens."""
    heads = ["text", "seed", "m", "parameters", "training", "validation", "test"]
    rows = [[*heads, "Kneser-Ney, n = m + 1", "minutes", *MADE]]
    for run in runs:
        for row in run["perplexities"]:
            part = last_part(run)
            cells = [f"{row['window']}", f"{row['parameters']:,}"]
            found = [row["training"], row["validation"], row.get("test"), row[f"kneser-ney {part}"]]
            cells += ["" if p is None else f"{p:.2f}" for p in found]
            rows.append([*name_and_seed(run), *cells, f"{row['minutes']:.1f}", *made(run)])
    return rows


def word_lm(runs: list[Any]) -> Rows:
    """Perplexities of each run, also of those that learn while they are judged."""
    parts = ["training", "validation", "test"]
    heads = ["text", "seed", "parameters", *parts, "with a cache", "dynamic", "minutes", "words/s"]
    rows = [[*heads, *MADE]]
    for run in runs:
        found, part = run["perplexities"], last_part(run)
        cells = [found.get(name) for name in (*parts, f"cache {part}", f"dynamic {part}")]
        numbers = ["" if p is None else f"{p:.2f}" for p in cells]
        spent = [f"{run['minutes']:.1f}", f"{run['words_per_second']:,.0f}"]
        size = f"{run['parameters']:,}"
        rows.append([*name_and_seed(run), size, *numbers, *spent, *made(run)])
    return rows


def compare_lm(runs: list[Any]) -> Rows:
    """A model to a line: means of the seeds, and the least and the most perplexity."""
    heads = ["text", "model", "units", "parameters", "MB", "rate", "perplexity", "of the seeds"]
    rows = [[*heads, "at other rates", "bits/character", "tokens per CPU second", "minutes"]]
    for run in runs:
        for line in run["models"]:
            cells = [f"{line['hidden'] or ''}", f"{line['parameters']:,}"]
            cells += [f"{line['bytes'] / 1e6:.2f}", f"{line['lr'] or ''}"]
            cells += [f"{line['perplexity']:.2f}"]
            ends = (f"{line[f'{n} perplexity']:.2f}" for n in ("least", "most"))
            cells += [" to ".join(ends) if line["hidden"] else ""]
            others = [row for row in run["other rates"] if row["model"] == line["model"]]
            tried = (f"{row['lr']}: {row[run['judged by']]['perplexity']:.2f}" for row in others)
            cells += [", ".join(tried), f"{line['bits per character']:.3f}"]
            cells += [f"{line['tokens per CPU second']:,.0f}", f"{line['seconds'] / 60:.2f}"]
            name = f"{run['text']['name']}, {run['recipe']['unit']}s"
            rows.append([name, line["model"], *cells])
    return rows


def compare_lm_rates(runs: list[Any]) -> Rows:
    """Every rate that a network has tried, one seed each."""
    rows = [["text", "network", "rate", "perplexity", "seed", *MADE]]
    for run in runs:
        tried = sorted(run["runs"] + run["other rates"], key=lambda row: row["lr"])
        for row in sorted(tried, key=lambda row: str(row["model"])):
            cells = [row["model"], f"{row['lr']}", f"{row[run['judged by']]['perplexity']:.2f}"]
            name, seed = name_and_seed(run)
            rows.append([name, *cells, seed, *made(run)])
    return rows


def compare_lm_runs(runs: list[Any]) -> Rows:
    """What the lines of `compare_lm` come from."""
    heads = ["text", "judged by", "tokens", "of", "characters", "to predict", "T", "epochs"]
    rows = [[*heads, "threads", "minutes", "seeds", *MADE]]
    for run in runs:
        text, recipe, part = run["text"], run["recipe"], run["judged by"]
        sizes = [text["tokens"][part], text["tokens"]["train"], text["characters"]["train"]]
        sizes += [text["vocabulary"], recipe["length"], recipe["epochs"], run["threads"]]
        seeds = f"{recipe['seed']} to {recipe['seed'] + recipe['seeds'] - 1}"
        cells = [*(f"{n:,}" for n in sizes), f"{run['minutes']:.1f}", seeds]
        name = f"{text['name']}, {recipe['unit']}s"
        rows.append([name, part, *cells, *made(run)])
    return rows


def generate(runs: list[Any]) -> Rows:
    """How much is new of what each model wrote and, under each text, of what people wrote."""
    orders = sorted({row["n"] for run in runs for row in run["new"]})
    heads = ["text", "who writes", "words", *(f"n = {n}" for n in orders)]
    rows = [[*heads, "seed", "minutes", *MADE]]
    for run, after in zip(runs, [*runs[1:], None], strict=True):
        name, words = run["text"]["name"], f"{run['new'][0]['n-grams']:,}"
        found = {row["n"]: row for row in run["new"]}

        def shares(who: str, found: dict[int, Any] = found) -> list[str]:
            return [f"{100 * found[n][who]:.1f} %" if n in found else "" for n in orders]

        rest = [str(run["seed"]), f"{run['minutes']:.1f}", *made(run)]
        rows.append([name, run["model"], words, *shares("written"), *rest])
        if after is None or after["text"] != run["text"]:
            rows.append([name, "people (validation part)", "", *shares("held"), *[""] * 4])
    return rows


def score(runs: list[Any]) -> Rows:
    """The lecture's sentences and every figure of merit, the models side by side."""
    models = list(dict.fromkeys(kind(row) for run in runs for row in run["figures"]))
    rows = [["text", "task", "sentence or figure of merit", "cases", *models]]
    for run in runs:
        found: dict[tuple[str, ...], dict[str, str]] = {}
        for row in run["said"]:
            cell = f"{row['log P']:.2f}" if "log P" in row else "refused"
            cell += f" (not known: {', '.join(row['unknown'])})" if row["unknown"] else ""
            found.setdefault(("log P", row["said"], ""), {})[kind(row)] = cell
        for row in run["figures"]:
            for name, (value, error) in row["figures"].items():
                line = found.setdefault((row["task"], name, str(row["cases"])), {})
                line[kind(row)] = f"{value:.3f} ± {error:.3f}"
        for key, line in found.items():
            rows.append([run["text"]["name"], *key, *(line.get(model, "") for model in models)])
    return rows


def kind(row: Any) -> str:
    """A model's name without how long it was trained."""
    return re.sub(r", (epoch|update) \d+( of \d+)?", "", row["model"])


def score_runs(runs: list[Any]) -> Rows:
    """What the lines of `score` come from."""
    heads = ["text", "seed", "lines held out", "of them tried", "models", "minutes"]
    rows = [[*heads, *MADE]]
    for run in runs:
        cells = [f"{count:,}" for count in run["text"]["held out"].values()]
        cells += ["; ".join(dict.fromkeys(row["model"] for row in run["figures"]))]
        cells += [f"{run['minutes']:.1f}", *made(run)]
        rows.append([*name_and_seed(run), *cells])
    return rows


def vanishing_gradients(runs: list[Any]) -> Rows:
    """What each network's gradient is multiplied by in a step, and how far it reaches."""
    heads = ["network", "predicted", "measured", "of the seeds", "reach", "learns from"]
    rows = [[*heads, "minutes", *MADE]]
    for run in runs:
        for row in run["networks"]:
            cells = [f"{row['predicted']:.3f}", f"{row['measured']:.3f}"]
            cells += [f"{row['least']:.3f} to {row['most']:.3f}"]
            far = f"> {run['recipe']['steps'] - 1}" if row["reach"] is None else f"{row['reach']}"
            cells += [far, f"{row['last steps']}", f"{run['minutes']:.1f}", *made(run)]
            rows.append([row["network"], *cells])
    return rows


TABLES: dict[str, Callable[[list[Any]], Rows]] = {
    "char_lm": char_lm,
    "compare_lm": compare_lm,
    "compare_lm_rates": compare_lm_rates,
    "compare_lm_runs": compare_lm_runs,
    "generate": generate,
    "ngram_lm": ngram_lm,
    "ngram_lm_runs": ngram_lm_runs,
    "fixed_window_lm": fixed_window_lm,
    "score": score,
    "score_runs": score_runs,
    "vanishing_gradients": vanishing_gradients,
    "word_lm": word_lm,
}


def table(name: str) -> str:
    paths = sorted((ROOT / "zoo/results").glob(f"{name.removesuffix('_runs')}-*.json"))
    head, *rows = TABLES[name]([json.loads(path.read_text(encoding="utf-8")) for path in paths])
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def output(name: str) -> str:
    text = (ROOT / f"benchmarks/results/{name}.txt").read_text(encoding="utf-8")
    return f"```\n{text.rstrip()}\n```\n"


def rewritten(page: str) -> str:
    """The page with its tables as the stored runs have them."""
    page = TABLE.sub(lambda found: f"{found[1]}{table(found[2])}{found[3]}", page)
    return OUTPUT.sub(lambda found: f"{found[1]}{output(found[2])}{found[3]}", page)


if __name__ == "__main__":
    from claims import main  # beside this file

    main()
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if rewritten(text) != text:
            path.write_text(rewritten(text), encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
