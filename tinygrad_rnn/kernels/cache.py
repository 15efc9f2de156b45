"""Object code on disk: a private folder of files with checksums, which may vanish at any time.

The folder is TINYGRAD_RNN_CACHE, or `tinygrad_rnn` in the user's cache folder. A file's name is a
hash of everything its code depends on; whatever goes wrong, the code is made again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tinygrad_rnn.kernels.machine import float_lanes, host

SLOW = 1.0  # seconds of compiling after which a line says so


@functools.cache
def _origin() -> bytes:
    """What all code depends on: the kernels' sources, llvmlite and the processor."""
    import llvmlite

    digest = hashlib.sha256(repr((llvmlite.__version__, host(), sys.version_info[:2])).encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


@functools.cache
def _folder(setting: str) -> Path | None:
    """The cache folder, if there is one that nobody else can write to."""
    try:
        if setting:
            path = Path(setting)
        else:
            root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            path = Path(root) / "tinygrad_rnn"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = path.stat()
        owned = not hasattr(os, "getuid") or about.st_uid == os.getuid()
        if not owned or (os.name == "posix" and about.st_mode & 0o022):
            return None
        return path
    except (OSError, RuntimeError):
        return None


def object_code(what: str, key: str, build: Callable[[], bytes]) -> bytes:
    """The object code that `build` makes, from the cache if it is there and whole."""
    name = hashlib.sha256(_origin() + f"{float_lanes()}\n{key}".encode()).hexdigest()
    folder = _folder(os.environ.get("TINYGRAD_RNN_CACHE", ""))
    path = folder / f"{name}.o" if folder else None
    code = _read(path) if path else None
    if code is None:
        begin = time.perf_counter()
        code = build()
        if (seconds := time.perf_counter() - begin) > SLOW:
            print(f"tinygrad_rnn: compiled {what} in {seconds:.1f} s", file=sys.stderr)
        if path:
            _write(path, code)
    return code


def _read(path: Path) -> bytes | None:
    """A file's code, if its checksum is right."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, code = data[:32], data[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    """A whole file or none: others may be writing it too."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        temporary.write_bytes(hashlib.sha256(code).digest() + code)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
