"""What every run leaves behind: a folder of its own, a log, its circumstances."""

from __future__ import annotations

import json
import math
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_rnn as tg


class Stopped(Exception):
    """Somebody asked to stop."""


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


def log(folder: Path, **line: Any) -> None:
    """Adds a line to the folder's log.jsonl; what is not finite becomes null."""
    with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
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
