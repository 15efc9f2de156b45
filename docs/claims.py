"""Writes docs/claims.md: the claims of the lecture, and what stored runs say of them.

    python docs/claims.py          # python docs/tables.py does it too

CLAIMS are the lecture's, in its order and in our words. TESTS are records: a claim's number, the
stored runs zoo/results/NAME.json that tell (patterns), a quantity, how it is had from the runs,
and the least or the most that it may be if the claim is to stand. Several values, for example one
for each seed, must all be within. To test one more claim, add a record.
"""

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from measures import (
    Runs,
    Values,
    best,
    carried,
    context,
    counting,
    decayed,
    differences,
    exponents,
    larger,
    lengths,
    network,
    new,
    ordered,
    over,
    predictions,
    ratio,
    spelled,
    windows,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/claims.md"
PART = re.compile(r"(<!-- claims: (\w+) -->\n).*?(<!-- end of claims -->)", re.DOTALL)

CLAIMS = {
    "1.1": "A model tells likely sequences of words from unlikely ones",
    "1.2": "Ratios of counts call impossible what was not seen, so counts need smoothing",
    "1.3": "What n-grams store grows with n",
    "1.4": "Trigrams are the practical limit: longer ones take too much memory",
    "1.5": "The weights of a fixed window grow with the window",
    "1.6": "A fixed window is too small: with a longer one it predicts better",
    "1.7": "Perplexity falls from 5-grams to a fixed window, an RNN, a GRU and an LSTM "
    "(a common expectation, not the lecture's words)",
    "2.1": "A recurrent network takes no more memory the more it has read",
    "2.2": "A recurrent network is slow",
    "2.3": "It is not as slow as n-grams (said in one place)",
    "2.4": "Perplexity is exp J, so to minimise one is to minimise the other",
    "2.5": "Along two roads gradients add up: d/dt f(x(t), y(t)) = ∂f/∂x dx/dt + ∂f/∂y dy/dt",
    "2.6": "The gradient of a repeated weight is the sum over its appearances",
    "2.7": "Backpropagation through time, line by line, gives the gradient (with g_h'(u_t))",
    "2.8": "Gradients of the sum of the losses are T times those of their mean",
    "2.9": "Pieces of a text (truncated backpropagation) are cheaper to learn from than all of it",
    "2.10": "What comes next depends on the context, not on the last input alone",
    "2.11": "Characters make longer sequences than words",
    "2.12": "Characters take more computation than words",
    "3.1": "What a model writes is new, also what n-grams write",
    "3.2": "What it writes is fluent from word to word, and forgets what it has said",
    "4.1": "Gradients are multiplied by nearly the same matrix at every step",
    "4.2": "So the gradient of what was long ago is nearly 0",
    "4.3": "A plain RNN reaches back about 7 steps",
    "4.4": "An LSTM reaches back about 100 steps",
    "4.5": "RNNs propagate relations between distant words well (said in one place)",
    "4.6": "The first weights can keep gradients from vanishing",
    "4.7": "ReLU keeps gradients from vanishing",
    "4.8": "Clipping keeps the direction of an exploding gradient and shortens the step",
    "4.9": "RNNs learn what is near in sequence better than what is near in syntax",
    "4.10": "With one matrix at all steps an RNN is worse off than an equally deep untied network",
    "5.1": "An LSTM is no guarantee against vanishing, but can easily keep information",
    "5.2": "A GRU has fewer parameters than an LSTM",
    "5.3": "A GRU is quicker than an LSTM",
    "5.4": "An LSTM is the good default, though neither always wins",
    "5.5": "Residual, dense and highway connections help deep networks",
    "5.6": "Reading in both directions helps where the whole input is there",
    "5.7": "Three recurrent layers are already many",
}


class Test(NamedTuple):
    """One row: the claim stands if every value is at least `least`, or at most `most`."""

    claim: str  # its number
    runs: str  # patterns of names in zoo/results, parted by blanks
    quantity: str
    values: Values
    least: float = -math.inf
    most: float = math.inf


class Verdict(NamedTuple):
    """What the stored runs say of one test."""

    words: str
    values: list[float]
    share: float | None  # of the threshold: the value that fits least over it


def judged(test: Test, runs: Runs) -> Verdict:
    """Supported if every value is within."""
    values = test.values(runs) if runs else []
    if not values:
        return Verdict("not tested: no run is stored", [], None)
    within = sum(test.least <= value <= test.most for value in values)
    words = "**supported**" if within == len(values) else "**not supported**"
    if 0 < within < len(values):
        words += f": {within} of {len(values)} values are within"
    rising = test.least > -math.inf
    return Verdict(words, values, min(values) / test.least if rising else max(values) / test.most)


PPL = "part", "perplexity"
PYDOC, REACH = "compare_lm-pydoc", "vanishing_gradients-default"
BOTH = f"{PYDOC} {PYDOC}-characters"
ROUNDING = 1e-12
TESTS = [
    Test("1.1", "score-*", "share of sentences likelier than their words in random order",
         ordered("true before random order"), least=0.75),
    Test("1.1", "score-*", "share of sentences likelier than with two neighbours swapped",
         ordered("true before swapped words"), least=0.75),
    Test("1.2", "ngram_lm-*", "share of tokens that trigrams by ratios of counts call impossible",
         counting("impossible in part", "maximum-likelihood", 3), least=0.01),
    Test("1.3", "ngram_lm-*", "bytes of n-grams over those of (n - 1)-grams, n = 2 ... 7",
         over(counting("bytes", "kneser-ney", *range(2, 8)),
              counting("bytes", "kneser-ney", *range(1, 7))), least=1.01),
    Test("1.4", "ngram_lm-ptb", "bytes of 5-grams of 0.9 million words",
         counting("bytes", "kneser-ney", 5), least=1e9),
    Test("1.4", "ngram_lm-ptb", "perplexity of trigrams over that of 5-grams",
         over(counting("part", "kneser-ney", 3), counting("part", "kneser-ney", 5)), most=1.01),
    Test("1.5", "fixed_window_lm-pydoc", "parameters with m over those with m - 1, m = 2 ... 5",
         windows("parameters"), least=1.001),
    Test("1.6", "fixed_window_lm-pydoc", "perplexity with m - 1 over that with m, m = 2 ... 5",
         windows("validation", falling=True), least=1.0),
    Test("1.7", PYDOC, "perplexity: 5-gram over window", ratio("5-gram", "window", *PPL), least=1),
    Test("1.7", PYDOC, "perplexity: window over RNN", ratio("window", "rnn", *PPL), least=1),
    Test("1.7", PYDOC, "perplexity: RNN over GRU", ratio("rnn", "gru", *PPL), least=1),
    Test("1.7", PYDOC, "perplexity: RNN over LSTM", ratio("rnn", "lstm", *PPL), least=1),
    Test("1.7", PYDOC, "perplexity: 5-gram over LSTM", ratio("5-gram", "lstm", *PPL), least=1),
    Test("1.7", "ngram_lm-ptb word_lm-ptb-*", "perplexity: 5-gram over LSTM, of its own size",
         larger, least=1),
    Test("2.1", BOTH, "bytes of the state after 1,000 tokens over those after one",
         carried, most=1),
    Test("2.2", PYDOC, "tokens learnt from in a CPU second: 5-grams over RNN",
         best("5-gram", "rnn"), least=1.1),
    Test("2.2", PYDOC, "the same: window over RNN", best("window", "rnn"), least=1.1),
    Test("2.2", PYDOC, "the same: window over LSTM", best("window", "lstm"), least=1.1),
    Test("2.3", PYDOC, "the same: RNN over 5-grams", best("rnn", "5-gram"), least=1),
    Test("2.4", BOTH, "|perplexity / 2^(bits per token) - 1|", exponents, most=ROUNDING),
    Test("2.5", "chain_rule-*", "|engine - both roads by hand|", differences("roads"),
         most=ROUNDING),
    Test("2.6", "chain_rule-*", "|∂J/∂W_hh - Σ over appearances|", differences("appearances"),
         most=ROUNDING),
    Test("2.7", "chain_rule-*", "|engine - by hand|, of all parameters", differences("sum"),
         most=ROUNDING),
    Test("2.8", "chain_rule-*", "|∂L - T ∂J|, of all parameters", differences("T"),
         most=ROUNDING),
    Test("2.10", "char_lm-*", "nats by the last character alone over those by all before it",
         context, least=1),
    Test("2.11", BOTH, "characters over words of the same text, in each part", lengths, least=1),
    Test("2.12", BOTH, "CPU seconds to learn from the text once: characters over words",
         spelled("CPU seconds per epoch"), least=1),
    Test("3.1", "generate-*", "share of the 8-grams written that the training part does not have",
         new(8), least=0.5),
    Test("4.1", REACH, "|factor per step / factor predicted from the weights - 1|, 6 networks",
         predictions, most=0.25),
    Test("4.2", REACH, "tanh RNN: norm of the gradient 50 steps back over that of the last",
         decayed, most=1e-6),
    Test("4.3", REACH, "steps within which a tanh RNN's gradient falls to 1 %, untrained",
         network("tanh RNN", "reach"), most=10),
    Test("4.4", REACH, "the same of an LSTM, untrained", network("LSTM", "reach"), least=70),
    Test("4.5", REACH, "the same of a tanh RNN", network("tanh RNN", "reach"), least=70),
    Test("4.6", REACH, "the same of a ReLU RNN that begins with W_hh = I",
         network("identity ReLU RNN", "reach"), least=70),
    Test("4.7", REACH, "factor per step: ReLU RNN over tanh RNN, both uniform at first",
         over(network("ReLU RNN", "measured"), network("tanh RNN", "measured")), least=1),
    Test("5.1", REACH, "steps within which an LSTM's gradient falls to 1 %, untrained",
         network("LSTM", "reach"), most=10),
    Test("5.1", REACH, "the same with 4 added to the forget gate's bias",
         network("LSTM, open forget gate", "reach"), least=70),
    Test("5.2", PYDOC, "units for the same parameters: GRU over LSTM",
         ratio("gru", "lstm", "hidden"), least=1),
    Test("5.3", PYDOC, "tokens learnt from in a CPU second, with as many parameters: GRU over LSTM",
         best("gru", "lstm"), least=1.1),
    Test("5.4", PYDOC, "perplexity: GRU over LSTM", ratio("gru", "lstm", *PPL), least=1),
]  # fmt: skip


# The page


def number(value: float) -> str:
    """Three digits.

    >>> number(1.0012), number(34123456), number(2.2e-16)
    ('1.001', '3.41e+07', '2.2e-16')
    """
    return f"{value:.3f}" if 0.5 < value < 2 else f"{value:.3g}"


def row(test: Test, runs: Runs) -> list[str]:
    """The cells of a test's line."""
    found = judged(test, runs)
    runs = runs if found.values else []
    shown = ", ".join(map(number, found.values))
    if len(found.values) > 3:
        ends = dict.fromkeys([number(min(found.values)), number(max(found.values))])
        shown = f"{' to '.join(ends)}, {len(found.values)} values"
    wanted = f"≥ {test.least:g}" if test.least > -math.inf else f"≤ {test.most:g}"
    share = "" if found.share is None else number(found.share)
    scripts = dict.fromkeys(run["command"].split()[2] for run in runs)
    commands = dict.fromkeys(f"`{run['command']}`" for run in runs)
    quantity = test.quantity.replace("|", "\\|")
    cells = [test.claim, CLAIMS[test.claim], ", ".join(scripts), quantity, wanted, shown]
    seeds = ", ".join(dict.fromkeys(map(seeds_of, runs)))
    return [*cells, share, found.words, "<br>".join(commands), seeds]


def seeds_of(run: Any) -> str:
    recipe = run.get("recipe", run)
    last = recipe["seed"] + recipe.get("seeds", 1) - 1
    return f"{recipe['seed']}" if last == recipe["seed"] else f"{recipe['seed']} to {last}"


def stored(patterns: str) -> Runs:
    folder = ROOT / "zoo/results"
    paths = (path for name in patterns.split() for path in sorted(folder.glob(f"{name}.json")))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def tested() -> str:
    """A line for each test."""
    heads = ["", "claim", "script", "quantity", "threshold", "measured", "over threshold"]
    lines = [[*heads, "verdict", "command", "seed"], ["---"] * 10]
    lines += [row(test, stored(test.runs)) for test in TESTS]
    for before, cells in reversed([*pairwise(lines)]):
        cells[1] *= before[0] != cells[0]  # a claim's words stand in its first line
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def untested() -> str:
    """The claims without a test."""
    known = {test.claim for test in TESTS}
    return "".join(f"* {n}: {claim}\n" for n, claim in CLAIMS.items() if n not in known)


PARTS = {"tested": tested, "untested": untested}


def rewritten(page: str) -> str:
    """The page as the stored runs have it."""
    return PART.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}{found[3]}", page)


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    if rewritten(text) != text:
        PAGE.write_text(rewritten(text), encoding="utf-8")
        print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
