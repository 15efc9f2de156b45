"""Trained models of the zoo by their folders: what they expect next, and what they learnt from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygrad_rnn import saving
from zoo import char_lm, fixed_window_lm, ngram_lm
from zoo.models import ngrams, word_runs
from zoo.models.counts import count
from zoo.models.predictors import Counting, Predictor, Windowed
from zoo.running.runs import CHECKPOINT, reading
from zoo.texts.corpora import Parts, load_parts
from zoo.texts.datasets import DataError
from zoo.texts.tokens import Tokens


@dataclass(frozen=True)
class Trained:
    """A model, and the text that it has learnt."""

    model: Predictor
    about: str  # which it is
    data: str  # the text's name
    digest: str  # and its SHA-256


def load(folder: Path, data: str | None = None) -> Trained:
    """The model in a folder of char_lm, word_lm, fixed_window_lm or ngram_lm.

    Args:
        folder: where the script left its checkpoint, or ngram_lm its result.json: a model of
            n-grams is counted anew, in seconds.
        data: where the text is now, if it is a file of another place.

    Raises:
        ValueError, OSError: if there is no such model, or no longer the text that is counted.
    """
    if any(folder.glob("checkpoint*.safetensors")):
        script = saving.load(folder / CHECKPOINT)[1].get("script")
        if script in SCRIPTS:
            return SCRIPTS[script](folder)
        remedy = "one of the folders in it" if script == "compare_lm" else "another folder"
        raise ValueError(
            f"{folder / CHECKPOINT}: expected a checkpoint of {', '.join(SCRIPTS)}, got one of "
            f"{script}; name {remedy}"
        )
    if (folder / "result.json").exists():
        return counted(folder, data)
    raise ValueError(
        f"{folder}: expected a folder with {CHECKPOINT} or, of ngram_lm, result.json, got neither; "
        "train a model first, for example with python -m zoo.char_lm"
    )


def learnt(found: Trained, data: str | None = None) -> Parts:
    """The text that a model has learnt, in its parts; ValueError if it is another now."""
    text = text_of(data or found.data, found.model.tokens.unit)
    if text.digest != found.digest:
        raise ValueError(
            f"--data {text.name}: expected the text that the model has learnt, {found.data} with "
            f"sha256 {found.digest[:12]}..., got {text.digest[:12]}...; name its file with --data"
        )
    return text


def text_of(name: str, unit: str) -> Parts:
    """`load_parts`, with what to do if a file has moved."""
    try:
        return load_parts(name, unit)
    except DataError as error:
        raise DataError(f"{error}; name the text's file with --data") from None


# One for each script


def of_char_lm(folder: Path) -> Trained:
    run = char_lm.restore(folder)
    recipe, several = run.recipe, run.recipe.ensemble > 1
    what = f"{recipe.ensemble} networks of {recipe.cell}" if several else recipe.cell
    about = f"char_lm, {what}, update {run.update} of {recipe.updates}"
    return Trained(char_lm.predictor(run), about, run.data, run.digest)


def of_fixed_window_lm(folder: Path) -> Trained:
    run = fixed_window_lm.restore(folder)
    about = f"fixed_window_lm, m = {run.window}, update {run.update}"
    return Trained(Windowed(run.model, run.tokens, run.window), about, run.data, run.digest)


def of_word_lm(folder: Path) -> Trained:
    run = word_runs.restore(folder)
    about = f"word_lm, {run.recipe.cell}, epoch {run.epoch} of {run.recipe.epochs}"
    return Trained(word_runs.predictor(run), about, run.data, run.digest)


def counted(folder: Path, data: str | None) -> Trained:
    """The last method of a run of ngram_lm with its longest n-grams, counted anew."""
    path = folder / "result.json"
    with reading(path, "ngram_lm", {"script": "ngram_lm"}, option=""):
        result = json.loads(path.read_text(encoding="utf-8"))
        if "zoo.ngram_lm" not in result["command"]:
            raise ValueError(f"one of {result['command'].split()[2]}")
        fields: dict[str, Any] = {
            n: tuple(v) if isinstance(v, list) else v for n, v in result["recipe"].items()
        }
        recipe = ngram_lm.Recipe(**fields)
        name, digest = result["text"]["name"], result["text"]["sha256"]
        n, method = max(recipe.orders), recipe.methods[-1]
        if method not in ngrams.METHODS:
            raise ValueError(f"one with the method {method!r}")
    learnt = text_of(data or name, recipe.unit)
    tokens = Tokens.of(learnt, recipe.unit, recipe.vocabulary, recipe.least)
    model = ngram_lm.fit(recipe, method, count(tokens.encode(learnt.train), len(tokens), n))
    about = f"ngram_lm, {method}, n = {n}"
    return Trained(Counting(model, tokens), about, name, digest)


SCRIPTS: dict[str, Callable[[Path], Trained]] = {
    "char_lm": of_char_lm,
    "word_lm": of_word_lm,
    "fixed_window_lm": of_fixed_window_lm,
}
