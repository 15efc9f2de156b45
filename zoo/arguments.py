"""Arguments on the command line that are right, or refused in one line: types for argparse."""

import argparse
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def between(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], float]:
    """Takes numbers of a kind from `low` to `high` only.

    >>> between(int, 1, 512)("8")
    8
    """

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            noun = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(
                f"expected {noun} in {low}..{high}, got {text[:40]!r}; leave it out for the default"
            )
        return value

    return convert


a_seed = between(int, 0, 2**32 - 1)


def png(text: str) -> Path:
    """Takes names of pictures."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"expected a name that ends in .png, got {text!r}")
    return Path(text)


def typed(module: str, argv: Sequence[str] | None) -> str:
    """The command as typed; of absolute paths only the last part, which means something elsewhere.

    >>> typed("zoo.hello", ["--seed", "1", "--out=/home/me/runs"])
    'python -m zoo.hello --seed 1 --out=runs'
    """
    arguments = sys.argv[1:] if argv is None else argv
    words = ("=".join(map(_portable, word.split("=", 1))) for word in arguments)
    return shlex.join(["python", "-m", module, *words])


def _portable(word: str) -> str:
    path = Path(word)
    return path.name if path.is_absolute() else word
