"""Language models of one size on one text: what they predict, what they take, how fast they are.

    python -m zoo.compare_lm                                # words, on Python's own help topics
    python -m zoo.compare_lm --data ptb --parameters 2000000
    python -m zoo.compare_lm --unit character --models lstm # the same text, spelled
    python -m zoo.compare_lm --resume                       # go on where Ctrl-C stopped it

    5-gram   counts, Kneser-Ney: as many numbers as the text asks for
    window   h_t = tanh(W [e_{t-3}; ...; e_t] + b)         4 tokens, as many as a 5-gram sees
    rnn      h_t = tanh(W_e e_t + W_h h_{t-1} + b)         all tokens before, as in those below
    gru, lstm, rhn (recurrent highway, 3 layers to a step)

Each network has as many units as --parameters allow, and all else is alike: the same embeddings E,
tied to the output (ŷ_t = softmax(E P h_t + b)), the same text in the same order, the same number of
steps, the same optimiser and dropout; each has the best of a few learning rates. The weights of the
epoch with the lowest validation loss are judged, on all of a part, read once in order, the state
carried throughout. Each network is trained as python -m zoo.word_lm trains, in a folder of its own,
which zoo.generate takes.

The text of --unit character is that of words, <unk> and all, spelled: so both predict the same
string, and bits per character = -Σ log₂ p / characters can be compared.

Expect, of words of the help topics, a perplexity of 74 from 5-grams, 77 from the GRU, and about 91
from LSTM and window; RNN and highway stay above 130. By their frequency alone words get 327.

Chen & Goodman (1999), An empirical study of smoothing techniques for language modeling, §3; Bengio,
Ducharme, Vincent & Janvin (2003), A Neural Probabilistic Language Model, §2; Mikolov, Karafiát,
Burget, Černocký & Khudanpur (2010), Recurrent neural network based language model, §2; Zilly,
Srivastava, Koutník & Schmidhuber (2017), Recurrent Highway Networks, §4.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tinygrad_rnn as tg
from tinygrad_rnn import saving
from zoo.compared import trials
from zoo.compared.report import draw, summarised, table
from zoo.compared.trials import COUNTING, MODELS, Recipe, Row, Study
from zoo.models import word_runs
from zoo.models.word_runs import Run
from zoo.running import runs, training
from zoo.running.arguments import a_name, between, png_in_folder, typed
from zoo.running.interrupt import Interrupt
from zoo.running.recipes import add_options, given, once, refuse_change, shown
from zoo.running.runs import CHECKPOINT
from zoo.texts.corpora import ABOUT_DATA
from zoo.texts.tokens import UNITS

NAME = "compare_lm"
RECIPES: dict[str, Row] = {
    "ptb": {"least": 1, "parameters": 2_000_000, "embedding": 128, "dropout": 0.2}
}  # others: as in Recipe
OF_UNIT: dict[str, Row] = {"character": {"length": 90, "dropout": 0.1}}


@dataclass
class Comparison(training.Begun):
    """What is done, and the network at hand."""

    recipe: Recipe
    results: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.present: tuple[Run, Path] | None = None

    @property
    def update(self) -> int:
        return self.present[0].update if self.present else 0


def save(found: Comparison, folder: Path) -> None:
    """What is done, and the network at hand in its own folder."""
    state = runs.plain({"script": NAME, **asdict(found)})
    saving.save(folder / CHECKPOINT, {}, state)
    if found.present:
        word_runs.save(*found.present)


def restore(folder: Path) -> Comparison:
    _, state = saving.load(folder / CHECKPOINT)
    with runs.reading(folder / CHECKPOINT, NAME, state):
        same = state["recipe"]
        recipe = Recipe(**same | {name: tuple(same[name]) for name in ("models", "lr")})
        fields = {name: value for name, value in state.items() if name != "script"}
        return Comparison(**fields | {"recipe": recipe})


def compare(found: Comparison, study: Study, folder: Path, interrupt: Interrupt) -> None:
    """The row of every model that has none yet."""
    jobs = study.recipe.jobs()
    for k, (name, seed, rate) in list(enumerate(jobs, 1))[len(found.results) :]:
        print(f"{k} of {len(jobs)}: {name}", end="\n" if seed is None else ", ", flush=True)
        if seed is None:
            row = trials.counted(study)
        else:
            trial, rate = rate, rate or trials.best_rate(found.results, name) or 0.0
            place = folder / f"{name}-{seed}-{rate:g}"
            run = trials.network(study, name, seed, rate, found.command, place)
            found.present = run, place
            sizes = f"{run.recipe.hidden} units, {run.model.size:,} parameters"
            print(f"seed {seed}, rate {rate:g}: {sizes}, {run.recipe.epochs} epochs", flush=True)
            try:
                row = trials.trained(study, name, run, place, interrupt)
            except runs.Diverged as error:
                if trial is None or trials.last_hope(found.results, name, trial, study.recipe):
                    raise
                print(f"{name} at rate {rate:g}: {str(error).split(';')[0]}", flush=True)
                row = {"model": name, "seed": seed, "lr": rate, "seconds": run.seconds}
        runs.log(folder, **row)
        found.results.append(row)
        found.present = None
        save(found, folder)


# Command line


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        f"python -m zoo.{NAME}",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=a_name, metavar="NAME", help=ABOUT_DATA)
    add("--out", type=Path, metavar="DIR", help=f"its folder (default: runs/{NAME}-NAME, -2, ...)")
    add("--resume", action="store_true", help="go on: what is done is not done again")
    add("--figure", type=png_in_folder, metavar="PNG", help="draw the comparison")
    add("--threads", type=between(int, 1, 1024), metavar="N", help="of the layers (default: all)")
    kinds = {"dropout": between(float, 0, 0.99), "minutes": between(float, 0, 1e6)}
    add_options(parser, Recipe, RECIPES, kinds, {"unit": UNITS, "models": MODELS})
    parser.set_defaults(sample=None)  # it writes no text
    options = parser.parse_args(argv)
    options.command = typed(f"zoo.{NAME}", argv)
    options.models = options.models and once([name for name in MODELS if name in options.models])
    options.recipe = given(options, Recipe())
    return options


def prepare(options: argparse.Namespace, folder: Path) -> tuple[Comparison, Study]:
    """A new comparison, or the one in the checkpoint, and its text."""
    found = restore(folder) if options.resume else None
    name = options.data or (found.data if found else "pydoc")
    unit = OF_UNIT.get(options.unit, {})
    recipe = found.recipe if found else Recipe(**RECIPES.get(name, {}) | unit | options.recipe)
    study = trials.study(name, recipe)
    if found is None:
        found = Comparison(recipe, options.command, study.name, study.digest)
    same = "" if found.digest == study.digest else f"the same text as before in --data {found.data}"
    refuse_change(recipe, options.recipe, same, folder / CHECKPOINT)
    sizes = " + ".join(f"{n:,}" for n in study.text["tokens"].values())
    print(f"text: {study.source}; {sizes} {recipe.unit}s, {len(study.tokens) - 1:,} to predict")
    print("recipe:", shown(recipe), flush=True)
    return found, study


def report(found: Comparison, study: Study, folder: Path) -> Row:
    """Writes down what a table of results needs to know, with the best rate's rows."""
    part, rows, best = list(study.ids)[-1], found.results, dict[str, float | None]()
    for name in found.recipe.models:
        best[name] = trials.best_rate(rows, name)
    kept = [row for row in rows if row["lr"] == best[row["model"]]]
    others = [row for row in rows if row["lr"] != best[row["model"]] and part in row]
    whole: Row = {"command": found.command, "recipe": asdict(found.recipe), "text": study.text}
    whole |= {"threads": tg.get_num_threads(), "judged by": part}
    whole |= {"models": summarised(kept, part), "runs": kept}
    whole["other rates"] = [{n: row[n] for n in ("model", "lr", "validation")} for row in others]
    minutes = sum(row["seconds"] for row in rows) / 60  # of training
    return runs.write_result(folder, **whole, minutes=minutes)


def run_script(options: argparse.Namespace) -> Row:
    folder = training.folder_of(options, NAME, "pydoc")
    found, study = prepare(options, folder)
    recipe = found.recipe
    for name in recipe.models:
        if name != COUNTING:
            trials.fitted(study, name)  # or it is told now
    if options.threads:
        tg.set_num_threads(options.threads)
    if not options.resume:
        folder = training.folder_of(options, NAME, "pydoc", make=True)
    runs.log(folder, command=options.command, recipe=asdict(recipe), text=study.text)
    save(found, folder)
    with training.stopping(found, folder, lambda: save(found, folder)) as interrupt:
        compare(found, study, folder, interrupt)
    result = report(found, study, folder)
    print(f"\n{folder / 'result.json'}; {recipe.parameters:,} parameters for each network")
    print(table(result["models"], result["judged by"]), flush=True)
    if options.figure:
        title = f"{Path(study.name).name}, {recipe.unit}s, {recipe.parameters:,} parameters at most"
        draw(result, title, options.figure)
    return result


def main(argv: Sequence[str] | None = None) -> Any:
    options = parse(argv)
    return runs.ending_well(NAME, lambda: run_script(options))


if __name__ == "__main__":
    main()
