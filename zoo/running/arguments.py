"""Arguments on the command line that are right, or refused in one line: types for argparse."""

import argparse
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
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
ABOUT_RESUME = "go on from the newest checkpoint of --data, or that in --out"


def a_name(text: str) -> str:
    """Takes names and paths, but not the "" that an unset variable of a shell leaves."""
    if not text:
        raise argparse.ArgumentTypeError("expected a name or a path, got ''; leave it out")
    return text


def png(text: str) -> Path:
    """Takes names of pictures."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"expected a name that ends in .png, got {text!r}")
    return Path(text)


def png_in_folder(text: str) -> Path:
    """Takes names of pictures in folders that exist, if there is what draws them."""
    path = png(text)
    if find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError(
            "expected the package matplotlib, got no such package; pip install it, or leave this "
            "option out"
        )
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a name in an existing folder, got {path}")
    return path


def training_parser(
    name: str, about: str | None, data: str, unit: str, temperature: float
) -> argparse.ArgumentParser:
    """The options that all scripts have that train a language model.

    Args:
        name: of the script.
        about: what the help begins with.
        data: the help of --data.
        unit: what is written, for example "characters".
        temperature: the default.
    """
    parser = argparse.ArgumentParser(
        f"python -m zoo.{name}",
        description=about,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add, mode = parser.add_argument, parser.add_mutually_exclusive_group()
    whole, real = between(int, 1, 10**9), between(float, 1e-9, 1e9)
    add("--data", type=a_name, metavar="NAME", help=data)
    add("--out", type=Path, metavar="DIR", help=f"its folder (default: runs/{name}-NAME, -2, ...)")
    mode.add_argument("--resume", action="store_true", help=ABOUT_RESUME)
    mode.add_argument("--sample", type=whole, metavar="N", help=f"only write N {unit} from it")
    heat = f"of the text (default: {temperature})"
    add("--temperature", type=real, metavar="X", default=temperature, help=heat)
    add("--prompt", metavar="TEXT", default="", help="what the text goes on from")
    add("--curve", type=png_in_folder, metavar="PNG", help="draw the loss against the updates")
    return parser


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
