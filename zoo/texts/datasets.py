"""Texts for language models: by name or path, split, turned into numbers, and easily predicted.

Two names need no file: `stdlib` is the source of Python's own standard library, on every machine
that runs Python; `tiny-shakespeare` is Karpathy's 1.1 MB of plays, downloaded once.
"""

import gzip
import hashlib
import importlib
import os
import re
import sys
import sysconfig
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FOLDER_VARIABLE = "TINYGRAD_RNN_DATA"
RETRIES = 2  # further attempts after a failed download, one and two seconds later
STDLIB_LENGTH = 4_000_000  # characters
# Test suites, installed packages, generated tables and the build's own settings are no prose.
STDLIB_WITHOUT = re.compile(
    r"(site-packages|dist-packages|tests?|idle_test|__pycache__|lib2to3|encodings|pydoc_data"
    r"|config-.*|_sysconfigdata.*)"
)
SMOOTHING = 0.1

Ids = NDArray[np.int64]


class DataError(ValueError):
    """A text that cannot be had, with what to do about it."""


@dataclass(frozen=True)
class Text:
    """A text, the name it was asked for by, and where it came from."""

    name: str
    text: str = field(repr=False)
    source: str


@dataclass(frozen=True)
class Known:
    """A data set with a name: where it is published, what it must be, where it is kept."""

    url: str
    sha256: str
    size: int  # bytes
    file: str  # relative to a folder of data sets


KNOWN = {
    "tiny-shakespeare": Known(
        url="https://raw.githubusercontent.com/karpathy/char-rnn/"
        "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        size=1_115_394,
        file="tiny-shakespeare/input.txt",
    )
}


def load_text(name_or_path: str | os.PathLike[str], others: Sequence[str] = ()) -> Text:
    """The text of that name, or in the file at that path.

    Args:
        name_or_path: `"stdlib"`; `"tiny-shakespeare"`, looked for in the folder that
            TINYGRAD_RNN_DATA names, then in the user's cache, else downloaded into that cache;
            or the path of a UTF-8 file (`./stdlib` is a path). A byte order mark is dropped and
            every kind of line end becomes a newline.
        others: names that the caller answers to besides, for the message.

    Raises:
        DataError: if there is no such text, or it is empty, damaged or not UTF-8.
        ImportError: if a download is needed and pooch is not installed.

    >>> len(load_text("stdlib").text)
    4000000
    """
    name = os.fspath(name_or_path)
    if name == "stdlib":
        return stdlib()
    if name in KNOWN:
        return Text(name, published(name, KNOWN[name]), KNOWN[name].url)
    return Text(name, _decode(_read(name, others), name), name)


def published(name: str, known: Known) -> str:
    """The text of a published file, from the folder of data sets (there perhaps with .gz behind its
    name), the user's cache or the network; DataError if it cannot be had or is another one."""
    path = _find(name, known)
    return _decode(_verified(path, known), path)


def stdlib(length: int = STDLIB_LENGTH) -> Text:
    """The first `length` characters of the running Python's standard library.

    Its modules' files one after the other, ordered by relative path, without test suites and
    generated tables. Characters other than tab, newline and printable ASCII are dropped.
    Every run on one Python gives the same text; another version of Python gives another.
    """
    root = sysconfig.get_path("stdlib")
    parts, total = [], 0
    for file in sorted(_modules(root)):
        part = re.sub(r"[^\t\n -~]", "", _read(os.path.join(root, file)).decode("ascii", "ignore"))
        parts.append(part)
        total += len(part)
        if total >= length:
            break
    if not total:
        raise DataError(
            f"stdlib: expected Python's own source files under {root!r}, got none; "
            "give the path of a text instead"
        )
    return Text("stdlib", "".join(parts)[:length], f"Python {sys.version.split()[0]}: {root}")


def _modules(root: str) -> Iterator[str]:
    """Relative paths with forward slashes, so that their order is the same everywhere."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not STDLIB_WITHOUT.fullmatch(name)]
        for file in files:
            if file.endswith(".py") and not STDLIB_WITHOUT.fullmatch(file):
                yield Path(folder, file).relative_to(root).as_posix()


def _find(name: str, known: Known) -> str:
    """Path of a known set, which is downloaded if it is nowhere on this machine."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return _fetch(name, known)
    if not os.path.isdir(folder):
        raise DataError(
            f"{FOLDER_VARIABLE}: expected a folder of data sets, got {folder!r}; "
            "correct or unset the variable"
        )
    path = os.path.join(folder, *known.file.split("/"))
    found = next((p for p in (path, f"{path}.gz") if os.path.exists(p)), None)
    return found or _fetch(name, known)


def _fetch(name: str, known: Known) -> str:
    pooch = _pooch()
    cache = os.fspath(pooch.os_cache("tinygrad_rnn"))
    store = pooch.create(
        path=cache,
        base_url="",
        registry={known.file: f"sha256:{known.sha256}"},
        urls={known.file: known.url},
        retry_if_failed=RETRIES,
    )
    bar = sys.stderr is not None and sys.stderr.isatty() and find_spec("tqdm") is not None
    try:
        return str(store.fetch(known.file, progressbar=bar))
    except Exception as error:  # network, proxy, disk, checksum: one message answers them all
        raise DataError(
            f"{name}: expected to download {known.url} ({known.size} bytes, sha256 "
            f"{known.sha256}), got {type(error).__name__}: {str(error)[:200]}; "
            f"download it elsewhere and put it at {os.path.join(cache, known.file)!r}, or at "
            f"{known.file} in a folder that {FOLDER_VARIABLE} names"
        ) from None


def _pooch() -> Any:
    try:
        return importlib.import_module("pooch")
    except ImportError:
        raise ImportError(
            "datasets: expected the package pooch for downloads, got no such package; "
            f"pip install 'tinygrad-rnn[zoo]', or set {FOLDER_VARIABLE} to a folder of data sets"
        ) from None


def _verified(path: str, known: Known) -> bytes:
    data = _read(path)
    if path.endswith(".gz"):
        with suppress(OSError, EOFError, zlib.error):  # what is damaged has another checksum
            data = gzip.decompress(data)
    digest = hashlib.sha256(data).hexdigest()
    if digest != known.sha256:
        raise DataError(
            f"{path!r}: expected {known.size} bytes with sha256 {known.sha256}, "
            f"got {len(data)} with {digest}; replace it by {known.url}"
        )
    return data


def _read(path: str, others: Sequence[str] = ()) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        got = "a folder" if os.path.isdir(path) else getattr(error, "strerror", None) or error
        names = ", ".join(["stdlib", *KNOWN, *others])
        raise DataError(
            f"load_text: expected the path of a text file or one of {names}, got {path!r}: {got}"
        ) from None


def _decode(data: bytes, path: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path!r}: expected UTF-8, got byte 0x{data[error.start]:02x} at offset "
            f"{error.start}; convert it, for example with iconv -t utf-8"
        ) from None
    if "\0" in text:
        raise DataError(
            f"{path!r}: expected a text, got a zero byte at offset {data.index(0)}; "
            "is this a binary file, or UTF-16?"
        )
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text:
        raise DataError(f"{path!r}: expected a text, got an empty file; choose another")
    return text


def split(text: str, fraction: float = 0.9) -> tuple[str, str]:
    """The first int(fraction · length) characters to train on, the rest for validation.

    >>> split("abcdefghij")
    ('abcdefghi', 'j')
    """
    count = int(fraction * len(text)) if 0 < fraction < 1 else 0
    if not 0 < count < len(text):
        raise DataError(
            f"split: expected a fraction in (0, 1) that leaves both parts characters, "
            f"got {fraction} of {len(text)}; use a longer text"
        )
    return text[:count], text[count:]


class Vocabulary:
    """The distinct characters of a text, numbered in the order of their code points.

    >>> vocabulary = Vocabulary("hello")
    >>> vocabulary.characters, vocabulary.encode("hole")
    ('ehlo', array([1, 3, 2, 0]))
    >>> vocabulary.decode([1, 3, 2, 0])
    'hole'
    """

    def __init__(self, text: str) -> None:
        self.characters = "".join(sorted(set(text)))
        if not text:
            raise DataError("Vocabulary: expected a text, got ''; give one with characters")
        self._points = _code_points(self.characters)
        self._table = np.full(int(self._points[-1]) + 2, -1)  # the last entry: anything beyond
        self._table[self._points] = np.arange(len(self))

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Ids:
        """(N,) int64 numbers of N characters; DataError names the first that has none."""
        ids: Ids = self._table[np.minimum(_code_points(text), len(self._table) - 1)]
        if ids.size and ids.min() < 0:
            at = int(np.argmin(ids))
            raise DataError(
                f"Vocabulary.encode: expected only the {len(self)} characters of the vocabulary, "
                f"got {text[at]!r} at position {at}; build it from the whole text"
            )
        return ids

    def decode(self, ids: ArrayLike) -> str:
        """The text of (N,) integers from 0 to len(self) - 1."""
        numbers = np.asarray(ids)
        if numbers.size == 0:
            return ""
        points = self._points[_checked("Vocabulary.decode", numbers, len(self), 1)]
        return points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def _code_points(text: str) -> Ids:
    data = text.encode("utf-32-le", "surrogatepass")
    return np.frombuffer(data, dtype="<u4").astype(np.int64)


def _checked(where: str, ids: ArrayLike, size: int, least: int) -> Ids:
    numbers = np.asarray(ids)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or len(numbers) < least:
        raise DataError(
            f"{where}: expected at least {least} integers in one dimension, "
            f"got shape {numbers.shape} of {numbers.dtype}; encode a text"
        )
    if numbers.min() < 0 or numbers.max() >= size:
        raise DataError(
            f"{where}: expected numbers from 0 to {size - 1}, got {numbers.min()} to "
            f"{numbers.max()}; use one vocabulary throughout"
        )
    return numbers.astype(np.int64)


def unigram_loss(train: ArrayLike, valid: ArrayLike, size: int) -> float:
    """What a model that knows only each character's frequency scores, in nats per character.

        -mean over valid of log((n(b) + 0.1) / (N + 0.1·size)),  n counted on train

    Args:
        train, valid: (N,) and (M,) numbers of characters, below size.
        size: characters in the vocabulary.

    >>> round(unigram_loss([0, 1, 0, 1], [1, 0], 2), 3)
    0.693
    """
    ids = _checked("unigram_loss: train", train, size, 1)
    counts = np.bincount(ids, minlength=size) + SMOOTHING
    losses = np.log(counts.sum()) - np.log(counts)
    return float(losses[_checked("unigram_loss: valid", valid, size, 1)].mean())


def bigram_loss(train: ArrayLike, valid: ArrayLike, size: int) -> float:
    """What a model that knows only the character before scores, in nats per character.

        -mean over pairs ab of valid of log((n(ab) + 0.1) / (n(a·) + 0.1·size))

    Args as for `unigram_loss`. A text of M characters has M - 1 pairs. Memory is that of the
    texts, however large the vocabulary.

    >>> round(bigram_loss([0, 1, 0, 1, 0], [1, 0, 1], 2), 3)
    0.047
    """
    before = _checked("bigram_loss: train", train, size, 2)
    asked = _checked("bigram_loss: valid", valid, size, 2)
    pairs, counts = np.unique(before[:-1] * size + before[1:], return_counts=True)
    wanted = asked[:-1] * size + asked[1:]
    at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    joint = np.where(pairs[at] == wanted, counts[at], 0)
    starts = np.bincount(before[:-1], minlength=size)[asked[:-1]]
    return float(np.log((starts + SMOOTHING * size) / (joint + SMOOTHING)).mean())
