"""The cache of compiled code: cold starts together, damaged files, edited sources, no home."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.reliable.outcome import Outcome
from tests.kernels.test_cache import DAMAGE, EDIT, LIGHT, QUIET, ROOT, TRAIN, Programs, start

DTYPES = ("float32", "float64")
DAMAGED = 300  # files a round
CUTS = ("bit", "cut", "splice")
ELSEWHERE = [*CUTS, *(kind for kind in DAMAGE if kind != "another program")]
_right: dict[str, str] = {}  # what a process prints


def ended(process: object, expected: str | None = None) -> tuple[str, str | None]:
    """What a process printed, and what was wrong with it."""
    out, err = process.communicate(timeout=300)  # type: ignore[attr-defined]
    status = process.returncode  # type: ignore[attr-defined]
    if status or err:
        return out, f"status {status}, said {err.strip()[-300:]!r}"
    return out, None if expected in (None, out) else "another result"


def right(folder: Path) -> dict[str, str]:
    """What a process prints that starts alone."""
    for dtype in DTYPES:
        if dtype not in _right:
            _right[dtype], wrong = ended(start(folder / dtype, dtype, QUIET, script=TRAIN))
            assert not wrong, wrong
    return _right


def cold_starts(folder: Path, expected: dict[str, str]) -> Outcome:
    found = Outcome("processes that start cold, 8 at once, two dtypes")
    processes = [(d, start(folder / "cold", d, QUIET, script=TRAIN)) for d in DTYPES * 4]
    for dtype, process in processes:
        found.trial(ended(process, expected[dtype])[1])
    return found


def at_random(path: Path, kind: str, rng: np.random.Generator) -> None:
    """A bit flipped, an end cut off, or a stretch written over, anywhere."""
    data = bytearray(path.read_bytes())
    at = int(rng.integers(len(data)))
    if kind == "bit":
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del data[at:]
    else:
        data[at : at + 64] = rng.bytes(len(data[at : at + 64]))
    path.write_bytes(data)


def damage(path: Path, kind: str, rng: np.random.Generator) -> None:
    if kind in CUTS:
        at_random(path, kind, rng)
    else:
        DAMAGE[kind](path)


def programs(path: Path) -> list[Path]:
    return [p for p in path.iterdir() if p.suffix == ".o"]


def damaged_files(folder: Path, rng: np.random.Generator) -> Outcome:
    """Code is asked for while its file is damaged: it must be the right code."""
    found = Outcome("damaged files: the code that is asked for")
    os.environ["TINYGRAD_RNN_CACHE"] = str(folder / "damaged")
    for k in range(DAMAGED):
        number, kind = float(k), str(rng.choice([*DAMAGE, *CUTS]))
        Programs()(number)
        (path,) = programs(folder / "damaged")
        try:
            damage(path, kind, rng)
            got, _ = Programs()(number)
            found.trial(None if got == number else f"{kind}: {got}, not {number}")
        except Exception as error:
            found.trial(f"{kind}: {error!r}")
        shutil.rmtree(folder / "damaged")
    return found


def damaged_starts(folder: Path, expected: dict[str, str], rng: np.random.Generator) -> Outcome:
    found = Outcome("processes that start with damaged files")
    for dtype in DTYPES:
        shutil.copytree(folder / "cold", folder / f"bad {dtype}")
        kinds = [str(k) for k in rng.choice(ELSEWHERE, 6)]
        for path, kind in zip(programs(folder / f"bad {dtype}"), kinds, strict=True):
            damage(path, kind, rng)
        process = start(folder / f"bad {dtype}", dtype, QUIET, script=TRAIN)
        wrong = ended(process, expected[dtype])[1]
        found.trial(f"{kinds}: {wrong}" if wrong else None)
    return found


def edited(folder: Path, tree: Path) -> Outcome:
    """A kernel edited under a process that runs, used, and restored: never stale."""
    found = Outcome("processes that start after an edit of a kernel, or during it")
    path = tree / "tinygrad_rnn/kernels/pointwise/exponential.py"
    source, place = path.read_text("utf-8"), folder / "edited"

    def results(first: str, check: Callable[[str], bool] = lambda out: True) -> str:
        out, wrong = ended(start(place, "float32", first, tree, LIGHT))
        found.trial(wrong or (None if check(out) else "stale"))
        return out

    before = results(QUIET + EDIT)
    after = results(QUIET, lambda out: out != before)
    results(QUIET, lambda out: out == after)
    path.write_text(source, "utf-8")
    results(QUIET, lambda out: out == before)
    return found


def read_only(folder: Path, tree: Path, expected: dict[str, str]) -> Outcome:
    found = Outcome("processes of a read-only install, without a home")
    for path in (*tree.rglob("*"), tree):
        path.chmod(0o555 if path.is_dir() else 0o444)
    nowhere = {"TINYGRAD_RNN_CACHE": "", "HOME": "/dev/null"}
    for dtype in DTYPES:
        process = start(folder / "none", dtype, QUIET, tree, TRAIN, **nowhere)
        found.trial(ended(process, expected[dtype])[1])
    for path in (tree, *tree.rglob("*")):
        path.chmod(0o755)
    return found


def round(rng: np.random.Generator) -> Iterator[Outcome]:
    before = os.environ.get("TINYGRAD_RNN_CACHE")
    try:
        with tempfile.TemporaryDirectory() as name:
            folder, tree = Path(name), Path(name) / "tree"
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / "tinygrad_rnn", tree / "tinygrad_rnn", ignore=ignored)
            expected = right(folder)
            yield cold_starts(folder, expected)
            yield damaged_files(folder, rng)
            yield damaged_starts(folder, expected, rng)
            yield edited(folder, tree)
            yield read_only(folder, tree, expected)
    finally:
        os.environ.pop("TINYGRAD_RNN_CACHE", None)
        if before is not None:
            os.environ["TINYGRAD_RNN_CACHE"] = before
