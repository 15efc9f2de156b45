"""What a language model is for: five tasks, each with a figure of merit on text nobody has learnt.

    python -m zoo.score runs/ngram_lm-pydoc runs/word_lm-pydoc       # folders of trained models
    python -m zoo.score runs/word_lm-pydoc --tasks spelling typing --sentences 100
    python -m zoo.score runs/word_lm-pydoc --say "recognize speech" "wreck a nice beach"
    python -m zoo.score runs/word_lm-pydoc --prompt "the value of " --correct "retrun the value"
    python -m zoo.score --tasks authors --authors hamlet.txt marlowe.txt --chunk 30

    order      P("the cat is small") > P("small the cat is"): how often the true order of words is
               likelier than a random one, and than two neighbours swapped
    typing     argmax_w P(w | what was typed): the share of keystrokes that suggestions save
    spelling   argmax_s P(s) P(observed | s), a uniform channel of one slip: how often the sentence
               that was meant is found
    retrieval  P(query | document): 1 / the rank of the document that a sentence was taken from
    authors    argmax_a P_a(chunk): small models, one for each author, trained here in a minute

The sentences are those of the test part, or else the validation part, that the training part does
not have. Beside the models stand unigrams, which know how often a word occurs and nothing else:
in spelling they are what the channel does alone. All models must have learnt the same text.

A word that a model does not know is <unk> to it, and said so; of two sentences none is called the
likelier if they differ in what is not known. A character that it does not know is refused.

Expect of Kneser-Ney 5-grams on the help topics 98 % of true orders before random ones and 48 % of
keystrokes saved; unigrams get 50 % and 41 %.

Mays, Damerau & Mercer (1991), Context based spelling correction; Ponte & Croft (1998), A language
modeling approach to information retrieval; Zhai & Lafferty (2004), A study of smoothing methods for
language models applied to information retrieval; Peng, Schuurmans, Keselj & Wang (2003), Language
independent authorship attribution using character level language models.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from threadpoolctl import threadpool_limits

from zoo.running import runs
from zoo.running.arguments import a_name, typed
from zoo.running.interrupt import Interrupt
from zoo.running.progress import progress
from zoo.running.recipes import add_options, given, once, shown
from zoo.scored import authors
from zoo.scored.answers import Row, answers, meant, said, suggested, table
from zoo.scored.held_out import Study, again, study
from zoo.scored.retrieval import passages, queries, retrieval
from zoo.scored.scoring import Task, figures, lower, misspelt, order, shuffled, spelling
from zoo.scored.suggestions import typing

NAME = "score"
TASKS = ("order", "typing", "spelling", "retrieval", "authors")
LONGEST = 30  # words of a query
LECTURE = (
    "the cat is small", "small the cat is",
    "walking home after school", "walking house after school",
    "recognize speech", "wreck a nice beach",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What decides the result, with the models."""

    tasks: Annotated[tuple[str, ...], "what is tried"] = TASKS
    sentences: Annotated[int, "cases of a task at most"] = 200
    suggestions: Annotated[int, "typing: words that are shown"] = 3
    documents: Annotated[int, "retrieval: documents at most"] = 100
    document: Annotated[int, "retrieval: words of each"] = 100
    prior: Annotated[float, "retrieval: μ, words that the model weighs"] = 1000.0
    authors: Annotated[tuple[str, ...], "modules of the standard library\nor texts"] = (
        authors.DEFAULT
    )
    chunk: Annotated[int, "authors: words by which they are known"] = 50
    seed: Annotated[int, "of what is drawn, and of the networks trained here"] = 0


# The tasks


def task(name: str, study: Study, recipe: Recipe) -> Task:
    """A task with its cases, which do not depend on the models or on other tasks."""
    rng = np.random.default_rng((recipe.seed, TASKS.index(name)))
    most, sentences = recipe.sentences, study.sentences
    mixed = [sentences[k] for k in rng.permutation(len(sentences))]
    if name == "order":
        return order([shuffled(sentence, rng) for sentence in again(mixed, most)])
    if name == "typing":
        return typing(mixed[:most], recipe.suggestions)
    if name == "spelling":
        known, lexicon = study.known, lower(study.known)
        clear = [s for s in mixed if known.issuperset(s.split()) and lexicon & set(s.split())]
        return spelling([misspelt(s, lexicon, rng) for s in again(clear, most)], known)
    documents = passages([line for line in study.lines if line], recipe.document)
    short = {sentence for sentence in sentences if len(sentence.split()) <= LONGEST}
    documents, asked = queries(documents[: recipe.documents], short, rng)
    return retrieval(documents, asked[:most], recipe.prior)


def measured(
    name: str, task: Task, models: Mapping[str, Any], folder: Path, interrupt: Interrupt
) -> list[Row]:
    """The figures of merit of every model, each logged when it is known."""
    rows = []
    with progress(total=len(models) * len(task.cases), unit="case") as bar:
        for about, model in models.items():
            bar.set_postfix_str(f"{name}, {about}", refresh=False)
            judge, sums = task.judge(model), []
            for case in task.cases:
                if interrupt.requested:
                    raise runs.Stopped
                sums.append(judge(case))
                bar.update()
            found = figures(task.figures, sums)
            rows.append({"task": name, "model": about, "cases": len(sums), "figures": found})
            runs.log(folder, **rows[-1])
    return rows


def authors_known(found: Task, recipe: Recipe, folder: Path, interrupt: Interrupt) -> list[Row]:
    """Trains the models of all authors, and sees whom they know."""
    parts = authors.parts_of(recipe.authors)

    def tick() -> None:
        bar.update()
        if interrupt.requested:
            raise runs.Stopped

    with progress(total=len(parts) * authors.RECIPE.epochs, unit="epoch") as bar:
        models = authors.models(parts, recipe.seed, tick)
    return measured("authors", found, models, folder, interrupt)


# Command line


def a_sentence(text: str) -> str:
    """Takes a sentence with words, and leaves one blank between them."""
    if not text.split():
        raise argparse.ArgumentTypeError(f"expected a sentence with words, got {text!r}")
    return " ".join(text.split())


def a_beginning(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        f"python -m zoo.{NAME}", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    about = "of trained models, for example runs/char_lm-x"
    add("models", type=Path, nargs="*", metavar="FOLDER", help=about)
    about = "tell the probability of sentences, and of two the likelier"
    add("--say", type=a_sentence, nargs="+", metavar="S", default=[], help=about)
    about = "suggest words to who has typed this"
    add("--prompt", type=a_beginning, nargs="+", metavar="S", default=[], help=about)
    about = "undo a slip in these"
    add("--correct", type=a_sentence, nargs="+", metavar="S", default=[], help=about)
    moved = "where their text is, if it was a file and has moved"
    add("--data", type=a_name, metavar="NAME", help=moved)
    add("--out", type=Path, metavar="DIR", help=f"its folder (default: runs/{NAME}-NAME, -2, ...)")
    add_options(parser, Recipe, {}, {}, {"tasks": TASKS})
    options = parser.parse_args(argv)
    fields = given(options, Recipe())
    asked = options.say or options.prompt or options.correct
    fields["tasks"] = once(fields.get("tasks", () if asked else TASKS))
    options.recipe = Recipe(**fields)
    if not options.models and (asked or options.recipe.tasks != ("authors",)):
        parser.error(
            "expected folders of trained models, got none; only --tasks authors needs none"
        )
    if "order" in options.recipe.tasks and not options.say:
        options.say = list(LECTURE)
    options.command = typed(f"zoo.{NAME}", argv)
    return options


def answered(options: argparse.Namespace, study: Study) -> dict[str, list[Row]]:
    """What was asked for, printed."""
    found = {
        "said": said(study.models, options.say),
        "suggested": suggested(study.models, options.prompt, options.recipe.suggestions),
        "meant": meant(study, options.correct),
    }
    for rows in filter(None, found.values()):
        print(answers(rows), end="\n\n", flush=True)
    return found


def prepared(recipe: Recipe, found: Study | None) -> dict[str, Task]:
    """Every task with its cases; ValueError, before the first is tried, if one has none."""
    tasks = {n: task(n, found, recipe) for n in recipe.tasks if found and n != "authors"}
    if "authors" in recipe.tasks:
        parts = authors.parts_of(recipe.authors)
        tasks["authors"] = authors.authorship(parts, recipe.chunk)
    for name, each in tasks.items():
        if not each.cases:
            raise ValueError(
                f"{name}: expected held-out text to try it on, got too little; use a longer one, "
                "or leave it out of --tasks"
            )
    return tasks


def all_tasks(
    recipe: Recipe, tasks: Mapping[str, Task], found: Study | None, folder: Path
) -> list[Row]:
    """Every task, each printed when it is done."""
    rows: list[Row] = []
    with Interrupt() as interrupt, threadpool_limits(1, "blas"):
        try:
            for name in recipe.tasks:
                if name == "authors":
                    new = authors_known(tasks[name], recipe, folder, interrupt)
                elif found:
                    new = measured(name, tasks[name], found.models, folder, interrupt)
                print(table(new), end="\n\n", flush=True)
                rows += new
        except runs.Stopped:
            print(f"stopped; what is known is in {folder / 'log.jsonl'}", file=sys.stderr)
            raise SystemExit(interrupt.exit_code) from None
    return rows


def run_script(options: argparse.Namespace) -> dict[str, Any]:
    start, recipe = time.monotonic(), options.recipe
    found = study(once(options.models), options.data) if options.models else None
    name = Path(found.name if found else "authors").name
    sizes = {"lines": 0, "sentences": 0}
    if found:
        sizes = {"lines": len(found.lines), "sentences": len(found.sentences)}
        print(f"{name}: {sizes['lines']:,} lines held out, {sizes['sentences']:,} to try")
    text = {"name": name, "sha256": found and found.digest, "held out": sizes}
    result = {"command": options.command, "recipe": asdict(recipe), "text": text, "said": []}
    if found:
        result |= answered(options, found)
    if recipe.tasks:
        tasks = prepared(recipe, found)
        folder = runs.made_folder(options.out, f"{NAME}-{Path(name).stem}", "*.json*")
        runs.log(folder, command=options.command, recipe=asdict(recipe))
        print("recipe:", shown(recipe), flush=True)
        result["figures"] = all_tasks(recipe, tasks, found, folder)
        result = runs.write_result(folder, **result, minutes=(time.monotonic() - start) / 60)
        print(f"{folder / 'result.json'}; {result['minutes']:.1f} minutes", flush=True)
    return result


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(argv)
    return runs.ending_well(NAME, lambda: run_script(options), resumes=False)


if __name__ == "__main__":
    main()
