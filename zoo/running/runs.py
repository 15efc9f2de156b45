"""What every run leaves behind: a folder of its own, a log, its circumstances."""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.saving import CheckpointError

T = TypeVar("T")
CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
DIVERGED = 100.0  # nats per token; guessing costs log V, about 10


class Stopped(Exception):
    """Somebody asked to stop."""


class Diverged(ValueError):
    """A training whose loss or gradient is beyond all bounds."""


def ending_well(name: str, action: Callable[[], T], resumes: bool = True) -> T:
    """What `action` returns; what a user can mend ends with one line and 2, Ctrl-C with 130, and
    output that nobody reads (`| head`) with 141.

    Args:
        resumes: whether the script can go on after that.
    """
    on = "; --resume goes on from what was saved" if resumes else ""
    if threading.current_thread() is threading.main_thread():
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see zoo/__init__.py
            signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return action()
    except KeyboardInterrupt:
        print(f"{name}: stopped at once{on}", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # or Python tries to write the rest when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"{name}: stopped, for nobody reads what it prints{on}", file=sys.stderr)
        raise SystemExit(141) from None
    except (ValueError, OSError, ImportError, MemoryError) as error:
        remedy = "; name another place" if isinstance(error, OSError) else ""
        if isinstance(error, MemoryError):
            remedy = "; ask for fewer units, a smaller batch or shorter pieces"
        print(f"{name}: {error}{remedy}", file=sys.stderr)
        raise SystemExit(2) from None


def new_folder(wanted: Path | None, name: str, mark: str) -> Path:
    """A folder that no run has used: `wanted`, or else runs/NAME, runs/NAME-2, ...

    Args:
        wanted: a folder of the user's choice.
        name: of the run, if the user chose none.
        mark: pattern of the files by which a used folder is known.
    """
    folder = next((f for f in _folders(wanted, name) if not any(f.glob(mark))), None)
    if folder is None:
        raise ValueError(
            f"{wanted or Path('runs') / name}: expected a folder without files {mark}, it has "
            "some; name another folder with --out"
        )
    return folder


def made_folder(wanted: Path | None, name: str, mark: str) -> Path:
    """As `new_folder`, made and with an empty log.jsonl: of runs that begin at the same time, each
    gets a folder of its own, unless all of them asked for the same one."""
    for folder in _folders(wanted, name):
        if not any(folder.glob(mark)):
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                (folder / LOG).touch(exist_ok=wanted is not None)
                return folder
    return new_folder(wanted, name, mark)


def last_folder(wanted: Path | None, name: str, mark: str) -> Path:
    """The folder that was last used: as `new_folder`, with a file of that pattern in it."""
    found = {f: [p.stat().st_mtime for p in f.glob(mark)] for f in _folders(wanted, name)}
    folder = max((f for f in found if found[f]), key=lambda f: max(found[f]), default=None)
    if folder is None:
        raise ValueError(
            f"{wanted or Path('runs') / name}: expected a folder with files {mark}, it has none; "
            "train one first, or name its folder with --out"
        )
    return folder


def _folders(wanted: Path | None, name: str) -> list[Path]:
    first = Path("runs") / name
    return [wanted] if wanted else [first, *(Path(f"{first}-{k}") for k in range(2, 1000))]


def refuse_divergence(where: str, unit: str, loss: float, norm: float = 0.0) -> None:
    """Raises Diverged if the loss, in nats per unit, is not below DIVERGED, or the gradient not
    finite."""
    if not (loss < DIVERGED and math.isfinite(norm)):
        got = f"a gradient of norm {norm}" if loss < DIVERGED else f"a loss of {loss:g}"
        raise Diverged(
            f"{where}: expected a finite gradient and a loss below {DIVERGED:g} nats/{unit}, got "
            f"{got}; start anew with a lower --lr and another --out (what was saved stays)"
        )


@contextmanager
def reading(
    path: Path, script: str, state: Mapping[str, Any], option: str = " with --out"
) -> Iterator[None]:
    """Around what makes a run of a loaded checkpoint: says so if it is another script's, or of
    another version. `option` is how another folder is named."""
    try:
        if state.get("script") != script:
            raise ValueError(f"one of {state.get('script')}")
        yield
    except (LookupError, TypeError, ValueError) as error:
        what = "checkpoint" if path.name == CHECKPOINT else "result"
        raise CheckpointError(
            f"{path}: expected a {what} of this version of {script}, got {error}; "
            f"name another folder{option}"
        ) from None


def group(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `name` and a dot, by the rest of their names.

    >>> group({"model.bias": np.zeros(1), "curve": np.zeros(1)}, "model")
    {'bias': array([0.])}
    """
    return {n.removeprefix(f"{name}."): a for n, a in arrays.items() if n.startswith(f"{name}.")}


def log(folder: Path, **line: Any) -> None:
    """Adds a line to the folder's log.jsonl; what is not finite becomes null."""
    with open(folder / LOG, "a", encoding="utf-8") as file:
        file.write(json.dumps(plain(line), allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """The same in JSON's own types."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_result(folder: Path, **found: Any) -> dict[str, Any]:
    """Writes result.json, which is what a table of results needs to know, and the log's last line;
    returns it with versions and machine."""
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    found |= {
        "versions": versions | {"tinygrad_rnn": tg.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    log(folder, **found)
    text = json.dumps(plain(found), indent=1, allow_nan=False)
    (folder / "result.json").write_text(text + "\n", encoding="utf-8")
    return found
