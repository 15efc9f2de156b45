"""Language models that count: uni- to 7-grams, five ways to smooth them, and what they cost.

    python -m zoo.ngram_lm                                # words, on Python's own help topics
    python -m zoo.ngram_lm --data ptb --curve ngrams.png  # a named set; any other text by path
    python -m zoo.ngram_lm --unit character --orders 1 3 5 --methods kneser-ney

    P(x_1 ... x_T) = Π_t P(x_t | x_{t-n+1} ... x_{t-1})     the Markov assumption
    maximum-likelihood   P(w | c) = n(cw) / n(c·)
    add-k                P(w | c) = (n(cw) + k) / (n(c·) + k V)
    stupid-back-off      S(w | c) = n(cw) / n(c·), or 0.4 S(w | c') if that is 0: scores, not P
    interpolation        P(w | c) = μ n(cw) / n(c·) + (1 - μ) P(w | c')
    kneser-ney           P(w | c) = (a(cw) - D(a)) / a(c·) + rest(c) P(w | c'), modified
    perplexity           exp(-1/T Σ_t log P(x_t | ...))

c' is c without its first token. What is counted: every word and <eos>, one for each line, <unk>
too; contexts begin with <s>, which nothing predicts, and do not reach beyond it. Words that the
training part has less than --least times are <unk> there and everywhere. A text of characters is
one sentence, line ends are characters like others.

Expect 141.2 from Kneser-Ney 5-grams on the test part of ptb, within 2 %; words by their frequency
alone get 639.3, and guessing among 10,000 gets 10,000.

Chen & Goodman (1999), An empirical study of smoothing techniques for language modeling, §2-3;
Brants et al. (2007), Large Language Models in Machine Translation, §4 (stupid back-off);
Mikolov & Zweig (2012), Context dependent recurrent neural network language model (ptb).
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from zoo.models import ngrams
from zoo.models.counts import Order, count
from zoo.running.arguments import a_name, between, png_in_folder, typed
from zoo.running.interrupt import Interrupt
from zoo.running.progress import progress
from zoo.running.recipes import add_options, given, once, shown
from zoo.running.runs import ending_well, log, made_folder, new_folder, write_result
from zoo.texts.corpora import ABOUT_DATA, load_parts
from zoo.texts.datasets import Ids
from zoo.texts.tokens import UNITS, Tokens

LONGEST = 7
RECIPES = {"ptb": {"least": 1}}  # others: as below


@dataclass(frozen=True)
class Recipe:
    """What decides the result, with the text."""

    unit: Annotated[str, "what a token is"] = "word"
    orders: Annotated[tuple[int, ...], "n"] = tuple(range(1, LONGEST + 1))
    methods: Annotated[tuple[str, ...], "smoothing"] = tuple(ngrams.METHODS)
    vocabulary: Annotated[int, "words at most, the most frequent"] = 10**6
    least: Annotated[int, "times that a word must occur"] = 2
    k: Annotated[float, "of add-k"] = 0.01
    cutoffs: Annotated[tuple[int, ...], "least counts of k-grams, k = 1, 2, ..., ∞"] = (1,)
    seed: Annotated[int, "of the text that is written"] = 0


@dataclass
class Study:
    """A text in numbers."""

    recipe: Recipe
    name: str
    digest: str
    tokens: Tokens
    ids: dict[str, Ids]  # of each part

    @property
    def held(self) -> list[str]:
        """The parts that are judged by: validation and, where the text has one, test."""
        return [part for part in self.ids if part != "train"]

    @property
    def sizes(self) -> dict[str, int]:
        """Tokens that are predicted, in each part."""
        return {part: int((ids > 0).sum()) for part, ids in self.ids.items()}

    @property
    def unknown(self) -> dict[str, float]:
        """The share of <unk> in each part."""
        if self.recipe.unit == "character":
            return {}
        sizes = self.sizes
        return {part: float((ids == 2).sum() / sizes[part]) for part, ids in self.ids.items()}


# The models


def fit(recipe: Recipe, method: str, orders: Sequence[Order]) -> ngrams.NGrams:
    """A model of n-grams, n being the number of tables."""
    options = {"add-k": (recipe.k,), "kneser-ney": (recipe.cutoffs,)}.get(method, ())
    return ngrams.METHODS[method](orders, *options)


def measured(study: Study, method: str, n: int, orders: Sequence[Order]) -> dict[str, Any]:
    """One model's row of the table."""
    start = time.monotonic()
    model = fit(study.recipe, method, orders[:n])
    found: dict[str, Any] = {"n": n, "method": method}
    for part in study.held:
        losses = model.losses(study.ids[part])
        found[part] = ngrams.perplexity(losses)
        found[f"impossible in {part}"] = float(np.isinf(losses).mean())
    found["n-grams"] = sum(len(level.keys) for level in model.levels)
    return found | {"bytes": model.bytes, "seconds": time.monotonic() - start}


def counted(study: Study) -> tuple[list[Order], int]:
    """The tables of the longest n-grams and of all shorter ones, and the bytes it took at most."""
    tracemalloc.start()
    try:
        orders = count(study.ids["train"], len(study.tokens), max(study.recipe.orders))
        return orders, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def measure(study: Study, orders: Sequence[Order], folder: Path) -> list[dict[str, Any]]:
    """Every method at every n, each logged when it is known."""
    recipe, rows = study.recipe, list[dict[str, Any]]()
    jobs = [(n, method) for n in recipe.orders for method in recipe.methods]
    with Interrupt() as interrupt, progress(jobs, unit="model") as bar:
        for n, method in bar:
            if interrupt.requested:
                break
            bar.set_postfix_str(f"{method}, n = {n}", refresh=False)
            rows.append(measured(study, method, n, orders))
            log(folder, **rows[-1])
    if len(rows) < len(jobs):
        done = f"{len(rows)} of {len(jobs)} models"
        print(f"stopped after {done}; they are in {folder / 'log.jsonl'}", file=sys.stderr)
        raise SystemExit(interrupt.exit_code)
    return rows


def sample(model: ngrams.NGrams, tokens: Tokens, length: int, seed: int) -> str:
    """`length` tokens, each drawn from its distribution after those before it in its sentence."""
    rng, history, text = np.random.default_rng(seed), [0], []
    for _ in range(length):
        p = model.distribution(np.array(history[-len(model.levels) :]))
        history.append(int(rng.choice(len(p), p=p / p.sum())))
        text.append(history[-1])
        if tokens.unit == "word" and history[-1] == 1:
            history = [0]
    return tokens.decode(text)


# The report


def table(rows: Sequence[dict[str, Any]], part: str) -> str:
    """Perplexities, a line for each method, and the memory of the last one's arrays."""
    orders, methods = (list(dict.fromkeys(row[key] for row in rows)) for key in ("n", "method"))
    by = {(row["method"], row["n"]): row for row in rows}
    lines = [f"{part} perplexity".ljust(22) + "".join(f"{f'n = {n}':>10}" for n in orders)]
    for method in methods:
        lines.append(method.ljust(22) + "".join(f"{by[method, n][part]:10.2f}" for n in orders))
    memory = (f"{by[methods[-1], n]['bytes'] / 1e6:10.2f}" for n in orders)
    return "\n".join([*lines, "MB of the last".ljust(22) + "".join(memory)])


def draw(rows: Sequence[dict[str, Any]], part: str, title: str, path: Path) -> None:
    """Perplexity of every method against n, and memory of the last, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        n = [row["n"] for row in mine]
        left.plot(n, [row[part] for row in mine], ".-", label=method)
    left.set(xlabel="n", ylabel=f"{part} perplexity", yscale="log", title=title)
    right.plot(n, [row["bytes"] / 1e6 for row in mine], "o-", label=method)
    right.set(xlabel="n", ylabel="MB", title="what is stored")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(title="infinite where a line ends")
    right.legend()
    figure.savefig(path, dpi=120)


# Command line


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m zoo.ngram_lm", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=a_name, metavar="NAME", default="pydoc", help=ABOUT_DATA)
    add("--out", type=Path, metavar="DIR", help="its folder (default: runs/ngram_lm-NAME, -2, ...)")
    add("--curve", type=png_in_folder, metavar="PNG", help="draw perplexity and memory against n")
    about = "tokens that the last model writes at the end (default: 60)"
    add("--sample", type=between(int, 0, 10**6), metavar="N", default=60, help=about)
    kinds = {"orders": between(int, 1, LONGEST)}
    choices = {"unit": UNITS, "methods": tuple(ngrams.METHODS)}
    add_options(parser, Recipe, RECIPES, kinds, choices)
    options = parser.parse_args(argv)
    recipe = Recipe(**RECIPES.get(options.data, {}) | given(options, Recipe()))
    orders, methods = once(sorted(recipe.orders)), once(recipe.methods)
    options.recipe = replace(recipe, orders=orders, methods=methods)
    options.command = typed("zoo.ngram_lm", argv)
    return options


def prepare(options: argparse.Namespace) -> Study:
    recipe: Recipe = options.recipe
    text = load_parts(options.data, recipe.unit)
    tokens = Tokens.of(text, recipe.unit, recipe.vocabulary, recipe.least)
    ids = {part: tokens.encode(words) for part, words in text.parts.items()}
    study = Study(recipe, text.name, text.digest, tokens, ids)
    counts = " + ".join(f"{n:,}" for n in study.sizes.values())
    print(f"text: {text.source}; {counts} {recipe.unit}s, {len(tokens) - 1:,} to predict")
    print("recipe:", shown(recipe), flush=True)
    return study


def run(options: argparse.Namespace) -> dict[str, Any]:
    start, recipe = time.monotonic(), options.recipe
    name = f"ngram_lm-{Path(options.data).stem}"
    new_folder(options.out, name, "*.json*")  # or it is told now
    study = prepare(options)
    folder = made_folder(options.out, name, "*.json*")
    log(folder, command=options.command, recipe=asdict(recipe))
    orders, peak = counted(study)
    rows = measure(study, orders, folder)
    part, name = study.held[-1], Path(study.name).name
    text: dict[str, Any] = {"name": name, "sha256": study.digest, "tokens": study.sizes}
    text |= {"vocabulary": len(study.tokens) - 1, "unknown": study.unknown}
    whole = {"command": options.command, "recipe": asdict(recipe), "text": text}
    whole |= {"perplexities": rows, "bytes_while_counting": peak}
    found = write_result(folder, **whole, minutes=(time.monotonic() - start) / 60)
    n, method = recipe.orders[-1], recipe.methods[-1]
    if options.sample:
        print(f"\n{method}, n = {n}, writes:", end="\n\n")
        model = fit(recipe, method, orders[:n])
        print(sample(model, study.tokens, options.sample, recipe.seed))
    print(f"\n{folder / 'result.json'}; {found['minutes']:.1f} minutes")
    print(table(rows, part), flush=True)
    if options.curve:
        draw(rows, part, f"n-grams of {recipe.unit}s on {name}", options.curve)
    return found


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(argv)
    return ending_well("ngram_lm", lambda: run(options), resumes=False)


if __name__ == "__main__":
    main()
