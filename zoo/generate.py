"""Text from a trained language model, and how much of it is new.

    python -m zoo.generate runs/char_lm-stdlib                       # the folder of a trained model
    python -m zoo.generate runs/word_lm-ptb --prompt "the company" --temperature 0.8
    python -m zoo.generate runs/ngram_lm-ptb --top-p 0.9 --length 2000 --out runs/generate-5-grams

    x_{t+1} ~ P(x | x_1 ... x_t):  what was drawn is the next input

The same for all models: char_lm, word_lm, fixed_window_lm, and the longest n-grams of an ngram_lm.
Three ways to cut the distribution: temperature (P^(1/temperature), scaled to a sum of 1), the
--top-k likeliest tokens alone, the nucleus (the likeliest that have --top-p together).

Is it new, or learnt by heart? For n = 1 to 8, the share of the n-grams of words in what was
written that the training part does not have. The same for the validation part, which people wrote.
A character model's words are what white space parts; a word model's <unk> is a word.

Expect, on the help topics, 98 % of the 8-grams of Kneser-Ney 5-grams to be new, and 92 % of those
that people wrote.

Karpathy (2015), The Unreasonable Effectiveness of Recurrent Neural Networks; Holtzman, Buys, Du,
Forbes & Choi (2020), The Curious Case of Neural Text Degeneration, §3.1 (the nucleus).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.models import trained
from zoo.models.predictors import drawn, opening
from zoo.running import runs
from zoo.running.arguments import a_name, a_seed, between, typed
from zoo.running.progress import progress
from zoo.texts.tokens import Tokens

NAME = "generate"
LONGEST = 8  # n of the n-grams that are looked for
LENGTHS = {"word": 400, "character": 2000}  # tokens that are written if nobody says

Row = dict[str, float | None]


def new_share(words: Sequence[str], known: Sequence[str], n: int) -> float | None:
    """The share of the n-grams of words that are not among the known ones, each as often as it
    occurs; None if there is none.

    >>> new_share("a b c a b".split(), "a b d".split(), 2)
    0.5
    """
    grams = list(zip(*(words[k:] for k in range(n)), strict=False))
    new = set(grams)
    new.difference_update(zip(*(known[k:] for k in range(n)), strict=False))
    return sum(gram in new for gram in grams) / len(grams) if grams else None


def novelty(written: Sequence[str], held: Sequence[str], known: Sequence[str]) -> list[Row]:
    """For each n, how much is new of what a model wrote, and of what people wrote."""
    found = []
    for n in range(1, LONGEST + 1):
        shares = {"written": new_share(written, known, n), "held": new_share(held, known, n)}
        found.append({"n": n, "n-grams": max(0, len(written) - n + 1), **shares})
    return found


def words_of(tokens: Tokens, text: str, whole: bool = False) -> list[str]:
    """The words of a text as a model sees it; of characters without the first and last, which may
    have been cut."""
    words = tokens.decode(tokens.encode(text)).split()
    return words if whole or tokens.unit == "word" else words[1:-1]


def table(rows: Sequence[Row]) -> str:
    lines = ["    n     n-grams   new of them   new in the validation part"]
    for row in rows:
        shares = (row["written"], row["held"])
        new, held = ("-" if s is None else f"{100 * s:.1f} %" for s in shares)
        lines.append(f"{row['n']:5}{row['n-grams']:12,}{new:>14}{held:>29}")
    return "\n".join(lines)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        f"python -m zoo.{NAME}",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add, whole = parser.add_argument, between(int, 1, 10**7)
    add("model", type=Path, metavar="FOLDER", help="of a trained model, for example runs/char_lm-x")
    moved = "where its text is, if it was a file and has moved"
    add("--data", type=a_name, metavar="NAME", help=moved)
    about = f"tokens (default: {LENGTHS['word']} words or {LENGTHS['character']} characters)"
    add("--length", type=whole, metavar="N", help=about)
    add("--prompt", metavar="TEXT", default="", help="what the text goes on from")
    heat = "0 takes the likeliest (default: 1)"
    add("--temperature", type=between(float, 0, 1e9), metavar="X", default=1.0, help=heat)
    add("--top-k", type=whole, metavar="N", help="draw among so many only (default: all)")
    add("--top-p", type=between(float, 1e-9, 1), metavar="X", help="or among the nucleus of this P")
    add("--seed", type=a_seed, metavar="N", default=0, help="of what is drawn (default: 0)")
    add("--out", type=Path, metavar="DIR", help="also write text.txt and result.json there")
    options = parser.parse_args(argv)
    options.command = typed(f"zoo.{NAME}", argv)
    return options


def write(options: argparse.Namespace, found: trained.Trained) -> str:
    """What the model writes after the prompt."""
    model, rng = found.model, np.random.default_rng(options.seed)
    length = options.length or LENGTHS[model.tokens.unit]
    cut = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p")}
    tokens = drawn(model, opening(model.tokens, options.prompt), length, rng, **cut)
    return model.tokens.decode([*progress(tokens, total=length, unit="token", logged=False)])


def run_script(options: argparse.Namespace) -> dict[str, Any]:
    start, out = time.monotonic(), options.out and runs.new_folder(options.out, NAME, "*.json*")
    found = trained.load(options.model, options.data)
    parts, tokens = trained.learnt(found, options.data), found.model.tokens
    text = write(options, found)
    print(f"{options.prompt}{' ' * (tokens.unit == 'word' and bool(options.prompt))}{text}\n")
    known, held = (words_of(tokens, part, True) for part in (parts.train, parts.valid))
    rows = novelty(words_of(tokens, text), held, known)
    print(f"{found.about}; {Path(found.data).name}\n{table(rows)}", flush=True)
    result = {"command": options.command, "model": found.about, "seed": options.seed}
    result |= {"text": {"name": Path(found.data).name, "sha256": found.digest}, "new": rows}
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "text.txt").write_text(text, encoding="utf-8")
        result = runs.write_result(out, **result, minutes=(time.monotonic() - start) / 60)
    return result


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(argv)
    return runs.ending_well(NAME, lambda: run_script(options), resumes=False)


if __name__ == "__main__":
    main()
