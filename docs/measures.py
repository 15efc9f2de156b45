"""Numbers that stored runs have for docs/claims.py: functions of the result.json of several runs.

"part" as a key stands for the part of the text that a run is judged by.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

Runs = Sequence[Any]  # result.json of each
Values = Callable[[Runs], list[float]]

# compare_lm


def each(run: Any, model: str, *keys: str) -> list[float]:
    """A number of a model for each of its seeds; that of n-grams, which have none, for all."""
    found = [row for row in run["runs"] if row["model"] == model]
    for key in keys:
        found = [row[run["judged by"] if key == "part" else key] for row in found]
    return found * (run["recipe"]["seeds"] if model == "5-gram" else 1)


def ratio(one: str, other: str, *keys: str) -> Values:
    """A number of one model over that of another, seed by seed."""

    def values(runs: Runs) -> list[float]:
        pairs = (zip(each(run, one, *keys), each(run, other, *keys), strict=True) for run in runs)
        return [a / b for pair in pairs for a, b in pair]

    return values


def best(one: str, other: str) -> Values:
    """Tokens per CPU second of one model over those of another, of each its quickest seed."""

    def values(runs: Runs) -> list[float]:
        lines = [
            {line["model"]: line["tokens per CPU second"] for line in r["models"]} for r in runs
        ]
        return [line[one] / line[other] for line in lines]

    return values


def spelled(*keys: str) -> Values:
    """A number of the LSTM of characters over that of the LSTM of words, seed by seed."""

    def values(runs: Runs) -> list[float]:
        units = {run["recipe"]["unit"]: each(run, "lstm", *keys) for run in runs}
        pairs = zip(units.get("character", ()), units.get("word", ()), strict=False)
        return [a / b for a, b in pairs]

    return values


def lengths(runs: Runs) -> list[float]:
    """Characters over words, in each part of the text."""
    units = {run["recipe"]["unit"]: run["text"]["tokens"] for run in runs}
    if len(units) < 2:
        return []
    return [units["character"][part] / words for part, words in units["word"].items()]


def carried(runs: Runs) -> list[float]:
    """Bytes of a state after 1,000 tokens over those after one."""
    known = ("5-gram", "window")
    rows = [row["state bytes"] for run in runs for row in run["runs"] if row["model"] not in known]
    return [after / first for first, after in rows]


def exponents(runs: Runs) -> list[float]:
    """How far each perplexity is from 2 to the power of bits per token, had from characters."""
    found = []
    for run in runs:
        part, text = run["judged by"], run["text"]
        share = text["characters"][part] / text["tokens"][part]
        rows = [row[part] for row in run["runs"]]
        found += [abs(r["perplexity"] / 2 ** (r["bits per character"] * share) - 1) for r in rows]
    return found


# Other scripts


def counting(key: str, method: str, *orders: int) -> Values:
    """Of ngram_lm: a number of a method at each n; "part" is the part that is judged by."""

    def values(runs: Runs) -> list[float]:
        found = []
        for run in runs:
            name = key.replace("part", list(run["text"]["tokens"])[-1])
            rows = {row["n"]: row[name] for row in run["perplexities"] if row["method"] == method}
            found += [rows[n] for n in orders]
        return found

    return values


def ordered(key: str) -> Values:
    """Of score: the share of sentences that a model puts first; unigrams, blind to order, do not
    count."""

    def values(runs: Runs) -> list[float]:
        rows = [row for run in runs for row in run["figures"] if row["task"] == "order"]
        return [row["figures"][key][0] for row in rows if row["model"] != "unigrams"]

    return values


def larger(runs: Runs) -> list[float]:
    """Test perplexity of the 5-grams of ngram_lm over that of each word_lm."""
    (counts,) = counting("test", "kneser-ney", 5)(runs[:1])
    return [counts / run["perplexities"]["test"] for run in runs[1:]]


def over(one: Values, other: Values) -> Values:
    """The values of one over those of the other."""
    return lambda runs: [a / b for a, b in zip(one(runs), other(runs), strict=True)]


def windows(key: str, falling: bool = False) -> Values:
    """Of fixed_window_lm: a number with each window over that with the one before, or under it."""

    def values(runs: Runs) -> list[float]:
        rows = [[row[key] for row in run["perplexities"]] for run in runs]
        pairs = [pair for row in rows for pair in pairwise(row)]
        return [before / after if falling else after / before for before, after in pairs]

    return values


def network(name: str, key: str) -> Values:
    """Of vanishing_gradients; a reach of None is beyond all steps."""

    def values(runs: Runs) -> list[float]:
        rows = [(run, row) for run in runs for row in run["networks"] if row["network"] == name]
        return [run["recipe"]["steps"] if row[key] is None else row[key] for run, row in rows]

    return values


def predictions(runs: Runs) -> list[float]:
    """How far measured factors are from the predicted ones."""
    rows = [row for run in runs for row in run["networks"]]
    return [abs(row["measured"] / row["predicted"] - 1) for row in rows]


def decayed(runs: Runs) -> list[float]:
    """The norm of the tanh RNN's gradient 50 steps back over that at the last step."""
    rows = [row for run in runs for row in run["networks"] if row["network"] == "tanh RNN"]
    return [10 ** row["log10 by T - t"][50] for row in rows]


def differences(name: str) -> Values:
    """Of chain_rule: the largest."""
    return lambda runs: [max(run["differences"][name].values()) for run in runs]


def new(n: int) -> Values:
    """Of generate: the share of n-grams that the training part does not have."""
    return lambda runs: [row["written"] for run in runs for row in run["new"] if row["n"] == n]


def context(runs: Runs) -> list[float]:
    """Of char_lm: nats by the last character alone over those by all before it."""
    rows = [run["nats per character"] for run in runs]
    return [row["bigrams"] / row["validation"] for row in rows]
