"""Object code on disk: files in a private folder, which may be damaged or vanish at any time.

The folder is TINYGRAD_RNN_CACHE, or `tinygrad_rnn/kernels` in the user's cache folder. A file is
named by a hash of all that its code depends on, and begins with a checksum of its name and code.
Code is run only if it is whole and this user alone can have written it; else it is made again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tinygrad_rnn.kernels.machine import LOCK, float_lanes, host, versions

SLOW = 1.0  # seconds of compiling after which a line says so
LIMIT = 128 << 20  # bytes in the folder, about
PRUNING = "0"  # what names begin with after which the folder is looked through: one in 16
NAMES = re.compile(r"[0-9a-f]{64}\.o(\.[0-9a-f]{16})?")  # of files, and of those being written
SAFELY = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


def _sources() -> bytes | None:
    """A digest of the kernels' sources, if they can be read."""
    digest = None
    with contextlib.suppress(OSError):
        for path in sorted(Path(__file__).parent.rglob("*.py")):
            digest = hashlib.sha256((digest or b"") + path.read_bytes()).digest()
    return digest


IMPORTED = _sources()  # what runs: files may be edited under a running process


@functools.cache
def _origin() -> str:
    """What all code depends on."""
    return f"{IMPORTED!r} {versions()} {host()}"


def object_code(what: str, key: str, build: Callable[[], bytes]) -> bytes:
    """The object code that `build` makes, from the cache if it is there and whole."""
    name = hashlib.sha256(f"{_origin()} {float_lanes()}\n{key}".encode()).hexdigest()
    with LOCK:
        path, problem = None, "the sources of tinygrad_rnn cannot be read"
        if IMPORTED:
            path, problem = _place(f"{name}.o")
        code = _read(path) if path else None
        if code is None:
            with _told(what, f"it is kept in {path.parent}" if path else f"not kept: {problem}"):
                code = build()
            if path and _sources() == IMPORTED:
                _write(path, code)
                if name.startswith(PRUNING):
                    _prune(path)
        return code


@contextlib.contextmanager
def _told(what: str, kept: str) -> Iterator[None]:
    """Log one line if this takes long, while it does."""
    text = "tinygrad_rnn: compiling %s, which may take some seconds (%s)"
    log = logging.getLogger("tinygrad_rnn")
    timer = threading.Timer(SLOW, log.warning, (text, what, kept))
    timer.daemon = True
    try:
        with contextlib.suppress(RuntimeError):  # no more threads can be started
            timer.start()
        yield
    finally:
        timer.cancel()


def _place(name: str) -> tuple[Path | None, str]:
    """A file in the cache folder, which is made if need be; or why there is none."""
    setting, root = (os.environ.get(v, "") for v in ("TINYGRAD_RNN_CACHE", "XDG_CACHE_HOME"))
    try:
        if setting:
            folder = Path(setting).expanduser()
        else:
            cache = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
            folder = cache / "tinygrad_rnn" / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _private(folder.stat()):
            return None, f"others may write to {folder}; set TINYGRAD_RNN_CACHE to a private folder"
        return folder / name, ""
    except (OSError, RuntimeError) as error:  # the latter: no home
        return None, f"{error}; set TINYGRAD_RNN_CACHE to a private folder"


def _private(about: os.stat_result) -> bool:
    """Whether this user alone can write; elsewhere than on POSIX, a user's folders are."""
    return os.name != "posix" or (about.st_uid == os.geteuid() and not about.st_mode & 0o022)


def _opened(path: str, flags: int) -> int:
    """No links are followed, no pipe is waited for, and new files are this user's alone."""
    return os.open(path, flags | SAFELY, 0o600)


def _checked(name: str, code: bytes) -> bytes:
    return hashlib.sha256(name.encode() + code).digest()


def _read(path: Path) -> bytes | None:
    """A file's code, if it may be run."""
    try:
        with open(path, "rb", opener=_opened) as file:
            about = os.fstat(file.fileno())
            if not (stat.S_ISREG(about.st_mode) and _private(about) and about.st_size <= LIMIT):
                return None
            data = file.read()
    except OSError:
        return None
    digest, code = data[:32], data[32:]
    if digest != _checked(path.name, code):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # it is in use
    return code


def _write(path: Path, code: bytes) -> None:
    """A whole file or none: other processes may be writing it too."""
    temporary = f"{path}.{os.urandom(8).hex()}"
    with contextlib.suppress(OSError):
        try:
            with open(temporary, "xb", opener=_opened) as file:
                file.write(_checked(path.name, code) + code)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _prune(new: Path) -> None:
    """Remove what was used longest ago if the folder is too large; the newest file stays."""
    files = []
    with contextlib.suppress(OSError), os.scandir(new.parent) as entries:
        for entry in entries:
            if NAMES.fullmatch(entry.name) and entry.name != new.name:
                with contextlib.suppress(OSError):  # another process has removed it
                    about = entry.stat(follow_symlinks=False)
                    files.append((about.st_mtime_ns, about.st_size, entry.path))
    total = sum(size for _, size, _ in files)
    target = LIMIT * 3 // 4 if total > LIMIT else total
    for _, size, path in sorted(files):
        if total <= target:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size
