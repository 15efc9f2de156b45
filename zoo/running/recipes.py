"""A recipe, what decides a run's result beside the text, as options of the command line.

A recipe is a frozen dataclass with a default for each field, annotated by what it means:
`hidden: Annotated[int, "units, H"] = 128`. Fields are int, float, bool, str or a tuple of these.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from zoo.running.arguments import a_seed, between

T = TypeVar("T")
KINDS: dict[Any, Callable[[str], Any]] = {
    int: between(int, 1, 10**9),
    float: between(float, 1e-9, 1e9),
    str: str,
}


def add_options(
    parser: argparse.ArgumentParser,
    recipe: type,
    sets: Mapping[str, Any],
    kinds: Mapping[str, Callable[[str], Any]],
    choices: Mapping[str, tuple[str, ...]],
    set_option: str = "--data",
) -> None:
    """Adds a recipe's fields as options, without their defaults: see `given`.

    Args:
        parser: of the command line.
        recipe: the dataclass.
        sets: what some data sets have in place of the defaults, for the help.
        kinds: for some fields what takes them from a text, in place of any positive number.
        choices: for some fields the only values.
        set_option: that chooses among the sets.
    """
    own = (f"{set_option} {n} has {' '.join(as_option(*f) for f in v.items())}"
           for n, v in sets.items())  # fmt: skip
    lines = (
        textwrap.fill(line, 96, subsequent_indent="    ", break_on_hyphens=False) for line in own
    )
    group = parser.add_argument_group("recipe", "\n".join(lines))
    for name, hint in get_type_hints(recipe, include_extras=True).items():
        kind, about = get_args(hint)
        default, options = getattr(recipe, name), dict[str, Any]()
        if get_origin(kind) is tuple:
            every = default == choices.get(name)
            kind, options["nargs"] = get_args(kind)[0], "+"
            default = "all" if every else " ".join(map(str, default))
        if kind is bool:
            options["action"], default = argparse.BooleanOptionalAction, "yes" if default else "no"
        else:
            number = a_seed if name == "seed" else kinds.get(name, KINDS[kind])
            options |= {"type": number, "choices": choices.get(name)}
            options["metavar"] = {int: "N", float: "X"}.get(kind, name[:1].upper())
        options["help"] = f"{about} (default: {default})"
        if name in choices:
            options["help"] += f":\n{textwrap.fill(', '.join(choices[name]), 70)}"
        group.add_argument(_option(name), default=None, **options)


def given(options: argparse.Namespace, recipe: Any) -> dict[str, Any]:
    """The fields that the command line names, several values as a tuple."""
    found = {n: v for n in asdict(recipe) if (v := getattr(options, n)) is not None}
    return {n: tuple(v) if isinstance(v, list) else v for n, v in found.items()}


def once(values: Sequence[T]) -> tuple[T, ...]:
    """Each value at its first place only."""
    return tuple(dict.fromkeys(values))


def as_option(name: str, value: Any) -> str:
    """A field as it is typed.

    >>> as_option("windows", (1, 2)), as_option("direct", False)
    ('--windows 1 2', '--no-direct')
    """
    if isinstance(value, bool):
        return _option(name if value else f"no_{name}")
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(map(str, (_option(name), *values)))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def shown(recipe: Any) -> str:
    """All of a recipe as it is typed."""
    return " ".join(as_option(name, value) for name, value in asdict(recipe).items())


def refuse_change(recipe: Any, wanted: Mapping[str, Any], same_text: str, where: object) -> None:
    """Raises if a resumed run is asked for other fields than it has.

    Args:
        recipe: of the run.
        wanted: what the command line names.
        same_text: what to say of the text if it has changed, else "".
        where: the checkpoint.
    """
    has = asdict(recipe)
    wrong = [as_option(n, has[n]) for n, v in wanted.items() if has[n] != v]
    wrong = [same_text, *wrong] if same_text else wrong
    if wrong:
        raise ValueError(
            f"--resume: {where}: expected {' and '.join(wrong)}, got something else; "
            "leave that option out, or start anew with another --out"
        )
