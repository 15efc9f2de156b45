"""The training of a recurrent language model over words as it stands: recipe, weights, checkpoint.

`load_model(folder)` is for those who use a model that `python -m zoo.word_lm` has trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from tinygrad_rnn import optim, saving
from zoo.models.language_models import CELLS, EOS, ModelRecipe, State, WordLM
from zoo.models.predictors import Carrying
from zoo.running import training
from zoo.running.runs import CHECKPOINT, DIVERGED, group, reading
from zoo.texts.tokens import Tokens

NAME = "word_lm"
OPTIMIZERS = {"sgd": optim.SGD, "adam": optim.Adam}


@dataclass(frozen=True)
class Recipe(ModelRecipe):
    """What decides the result, with the text."""

    optimizer: Annotated[str, "steps along gradients, or scaled ones"] = "adam"
    lr: Annotated[float, "learning rate at its highest"] = 4e-3
    schedule: Annotated[str, "how it falls: along a cosine, by a factor, or not"] = "cosine"
    flat: Annotated[int, "step: epochs before it falls"] = 4
    decay: Annotated[float, "step and plateau: the factor"] = 0.5
    clip: Annotated[float, "largest norm of the gradient"] = 1.0
    batch: Annotated[int, "streams read side by side, B"] = 20
    length: Annotated[int, "words of each stream in an update, T"] = 35
    epochs: Annotated[int, "times that the text is read"] = 15
    vocabulary: Annotated[int, "words at most, the most frequent"] = 50_000
    least: Annotated[int, "times that a word must occur"] = 2
    seed: Annotated[int, "of the first weights and of what is dropped"] = 0


RECIPES: dict[str, dict[str, Any]] = {
    "small": {"layers": 2, "tied": False, "dropout": (0.0,), "locked": False, "optimizer": "sgd",
              "lr": 20.0, "schedule": "step", "clip": 0.25, "length": 20, "epochs": 13,
              "least": 1},
    "best": {"hidden": 600, "embedding": 300, "init": 0.05, "dropout": (0.3, 0.0, 0.4),
             "embedding_dropout": 0.05, "weight_drop": 0.3, "lr": 3e-3, "batch": 24, "epochs": 15,
             "least": 1},
}  # fmt: skip
RECIPE_OF = {"ptb": "small"}  # other texts: the defaults
CHOICES = {
    "cell": tuple(CELLS),
    "optimizer": tuple(OPTIMIZERS),
    "schedule": ("cosine", "step", "plateau", "constant"),
}


def chosen(named: str | None, data: str, fields: Mapping[str, Any]) -> Recipe:
    """The recipe of that name, or else the one of a text, with the given fields in place."""
    return Recipe(**RECIPES.get(named or RECIPE_OF.get(data, ""), {}) | dict(fields))


@dataclass
class Run(training.Begun):
    """Everything that a resumed training needs: numbers and names here, arrays below."""

    recipe: Recipe
    epoch: int = 0
    position: int = 0  # steps of each stream that are read in this epoch
    update: int = 0
    read: int = 0  # words
    seconds: float = 0.0  # spent training
    lowest: float = DIVERGED  # validation loss of all epochs, in nats per word
    worse: int = 0  # epochs that were not the best so far

    def begin(self, tokens: Tokens) -> None:
        """The first weights, for these words."""
        self.tokens, recipe = tokens, self.recipe
        self.rng = np.random.default_rng(recipe.seed)  # also of what is dropped
        self.model = WordLM(len(tokens) - 1, recipe, self.rng)
        self.optimizer = OPTIMIZERS[recipe.optimizer](self.model.parameters(), lr=recipe.lr)
        self.state: State = None  # carried to the next update
        self.best = self.model.state_dict()  # the weights of the lowest validation loss
        self.recent: list[float] = []  # losses of this epoch
        self.curve: list[list[float]] = []  # update, nats/word, validation


def save(run: Run, folder: Path) -> None:
    more = {f"best.{n}": a for n, a in run.best.items()}
    more["tokens"] = np.frombuffer("\0".join(run.tokens.names).encode(), np.uint8)
    training.save(run, folder / CHECKPOINT, NAME, more)


def restore(folder: Path) -> Run:
    """The run whose checkpoint is in that folder."""
    arrays, state = saving.load(folder / CHECKPOINT)
    with reading(folder / CHECKPOINT, NAME, state):
        recipe = Recipe(**state["recipe"] | {"dropout": tuple(state["recipe"]["dropout"])})
        fields = {n: v for n, v in state.items() if n not in ("script", "rng", "recipe")}
        run = Run(recipe, **fields)
        run.begin(Tokens("word", arrays["tokens"].tobytes().decode().split("\0")))
        run.best |= group(arrays, "best")
        training.fill(run, arrays, state["rng"], run.model(np.zeros((1, 1), int))[1])
    return run


def best_model(run: Run) -> WordLM:
    """A model with the weights of the lowest validation loss, which drops nothing."""
    model = WordLM(len(run.tokens) - 1, run.recipe, np.random.default_rng())
    model.load_state_dict(run.best)
    return model.eval()


def predictor(run: Run) -> Carrying:
    """The best model for those who ask what comes next; a text begins after <eos>."""
    return Carrying(best_model(run).predict, run.tokens, EOS)


def load_model(folder: Path) -> tuple[WordLM, Tokens, Recipe]:
    """The best model of the run in a folder, its vocabulary and its recipe.

    The model's ids are the tokens' numbers less 1, and a text begins with <eos>, which is 0:
    `model.predict(ids, state)` gives the scores (T, B, V) of what follows ids (T, B), and the state
    for the next call. `language_models.word_ids` makes them of what `Tokens.encode` gives.

    Raises:
        CheckpointError: if there is no intact checkpoint of this script and version.
    """
    run = restore(folder)
    return best_model(run), run.tokens, run.recipe
