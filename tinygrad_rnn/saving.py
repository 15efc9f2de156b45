"""Checkpoints: named arrays and a JSON state in one file that outlives kills, power cuts, damage.

The file is a safetensors file, readable by any tool for that format. Its metadata hold
a JSON document {format, version, arrays: {name: checksum}, state} and a checksum of that document;
an array's checksum covers its name, dtype, shape and bytes. All checksums are SHA-256.
Nothing is ever unpickled, and nothing is returned before everything has been checked.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import importlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "tinygrad_rnn.checkpoint"
VERSION = 1
HEADER_LIMIT = 4 * 2**20  # bytes of names, checksums and state
DEPTH_LIMIT = 64  # lists and dicts inside each other in a state
INTEGER_LIMIT = 14_000  # bits; Python reads at most 4,300 decimal digits back
STALE_SECONDS = 600  # age at which a killed save's temporary file is litter
DTYPES = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
)
NO_FOLDER_SYNC = {errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOTSUP}

Array = np.ndarray[Any, np.dtype[Any]]
PathLike = str | os.PathLike[str]


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, or a file that is not an intact checkpoint."""


def previous_path(path: PathLike) -> Path:
    """Where `save` keeps the checkpoint it replaces.

    >>> previous_path("runs/lstm.safetensors").name
    'lstm.previous.safetensors'
    """
    target = Path(os.path.realpath(path))  # a link to a checkpoint is followed, not replaced
    return target.with_name(f"{target.stem}.previous{target.suffix}")


def save(path: PathLike, arrays: Mapping[str, Array], state: Mapping[str, Any]) -> None:
    """Write a checkpoint so that a complete one is on the disk at every moment.

    The new file is written beside the old one and forced to the disk; the old one gets the name
    `previous_path(path)`; only then does the new one take over `path`, in one step.
    If writing fails, `path` still holds the old checkpoint and no temporary file stays behind.
    (If only the last step fails, forcing the folder to the disk, the new one is already in place.)
    A temporary file of a killed save is removed by a later one, ten minutes on.

    Args:
        path: file to write; its folder must exist. Not to be written by two processes at once.
        arrays: any shape and memory layout, of type bool, (u)int8..64 or float16..64. Strides are
            not kept, and other byte orders become the machine's own; values are kept to the bit.
        state: None, bool, int, float, str, and lists and dicts of them, dict keys str. NaN and the
            infinities are kept (though not which of the NaNs it was). At most 4 MiB as JSON,
            together with the arrays' names: long lists belong into arrays.

    Raises:
        CheckpointError: if something would not come back exactly, or cannot be written.
        ImportError: without safetensors.
    """
    blob = _serialize(arrays, state)
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            raise ValueError("a folder or a device")
        _write(target, blob)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"save: {str(path)!r}: expected a writable file in an existing folder, "
            f"got {_reason(error)}; free space there or choose another path"
        ) from error


def load(path: PathLike) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read a checkpoint: the arrays, in the order they were saved in, and the state.

    All or nothing: every checksum is verified first. Memory: at most twice the file's size, plus
    what a header of at most 4 MiB takes when parsed. The arrays are writable and own their memory.

    Raises:
        CheckpointError: if there is no intact checkpoint at `path`, whatever the reason;
            the message tells whether a previous one is there.
        ImportError: without safetensors.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a.safetensors", {"w": np.arange(3)}, {"step": 7})
    ...     load(f"{folder}/a.safetensors")
    ({'w': array([0, 1, 2])}, {'step': 7})
    """
    library = _safetensors()
    try:
        return _parse(_read(Path(os.path.realpath(path))), library)
    except Exception as error:  # whatever a damaged file provokes is the same fact to the caller
        raise CheckpointError(
            f"load: {str(path)!r}: expected an intact checkpoint, got {_reason(error)[:300]}; "
            f"{_remedy(path)}"
        ) from error


def load_arrays(path: PathLike) -> dict[str, Array]:
    """Read the arrays of any safetensors file, such as PyTorch's weights. Other tools write no
    checksums: of damage, only a broken structure is noticed.

    Raises:
        CheckpointError: if it is no such file, or has arrays of types that NumPy lacks.
        ImportError: without safetensors.
    """
    library = _safetensors()
    try:
        return dict(library.load(_read(Path(path))))
    except Exception as error:
        wanted = f"load_arrays: {str(path)!r}: expected a safetensors file of NumPy's types"
        remedy = "write it anew, bfloat16 as float32"
        raise CheckpointError(f"{wanted}, got {_reason(error)[:300]}; {remedy}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror!r} from the system"
    return str(error) if type(error) is ValueError else f"{type(error).__name__} {error}"


def _remedy(path: PathLike) -> str:
    with suppress(OSError, ValueError):
        if (previous := previous_path(path)).is_file():
            return f"rename the previous checkpoint, {str(previous)!r}, to go on from it"
    return "there is no previous checkpoint: restore a copy or start anew"


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.numpy")
    except ImportError as error:
        raise ImportError(
            "saving: expected the package safetensors, got no such package; "
            "pip install 'tinygrad-rnn[zoo]'"
        ) from error


def _serialize(arrays: Mapping[str, Array], state: Mapping[str, Any]) -> bytes:
    for what, value in (("arrays", arrays), ("state", state)):
        if not isinstance(value, Mapping):
            got = type(value).__name__
            raise CheckpointError(f"save: expected {what} to be a dict, got {got}; name its parts")
    ready = {name: _normal(name, array) for name, array in arrays.items()}
    document = {
        "format": FORMAT,
        "version": VERSION,
        "arrays": {name: _checksum(name, array) for name, array in ready.items()},
        "state": _plain(dict(state), "state"),
    }
    text = json.dumps(document, separators=(",", ":"))
    metadata = {FORMAT: text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    blob: bytes = _safetensors().save(ready, metadata)
    if (size := int.from_bytes(blob[:8], "little")) > HEADER_LIMIT:
        raise CheckpointError(
            f"save: expected at most {HEADER_LIMIT} bytes of names and state, got {size}; "
            "move long lists from the state into arrays"
        )
    return blob


def _normal(name: str, array: Array) -> Array:
    """The array C-contiguous and little-endian, as the format has it."""
    valid = isinstance(name, str) and name == name.encode(errors="ignore").decode()
    if not valid or name == "__metadata__":
        raise CheckpointError(
            f"save: expected array names of valid Unicode other than '__metadata__', got {name!r}"
        )
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise CheckpointError(
            f"save: array {name!r}: expected a NumPy array, got {type(array).__name__}; "
            "use np.asarray"
        )
    if array.dtype.name not in DTYPES:
        raise CheckpointError(
            f"save: array {name!r}: expected dtype bool, int, uint or float of at most 64 bits, "
            f"got {array.dtype}; use astype"
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _checksum(name: str, array: Array) -> str:
    digest = hashlib.sha256(json.dumps([name, array.dtype.name, array.shape]).encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """The value itself, once it is sure that JSON gives it back unchanged."""
    if depth > DEPTH_LIMIT:
        raise CheckpointError(f"save: {where}: expected at most {DEPTH_LIMIT} levels, got more")
    if value is None or isinstance(value, (str, bool, float)):
        return value
    if isinstance(value, int) and value.bit_length() <= INTEGER_LIMIT:
        return value
    if isinstance(value, list):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}[{key!r}]", depth + 1) for key, item in value.items()}
    got = type(value).__name__
    if isinstance(value, (int, dict)):
        got = "one too large" if isinstance(value, int) else "a dict with keys that are not str"
    raise CheckpointError(
        f"save: {where}: expected None, bool, int, float, str, list or dict of str, got {got}; "
        "convert it (.item(), .tolist(), list(...)) or put it into an array"
    )


def _write(target: Path, blob: bytes) -> None:
    """Every step but the last leaves `target` as it was; the last is atomic."""
    fresh, spare = _temporary(target), _temporary(target)
    try:
        _write_synced(fresh, blob)
        if target.exists():
            _keep(target, spare)
        os.replace(fresh, target)
    finally:  # spare outlives its renaming if the previous name was already this very file
        for path in (fresh, spare):
            with suppress(OSError):
                path.unlink()
    _sync_folder(target.parent)
    _sweep(target)


def _keep(target: Path, spare: Path) -> None:
    """Give the current checkpoint a second name, without ever taking the first from it."""
    try:
        os.link(target, spare)
    except OSError:  # a file system without hard links
        _write_synced(spare, target.read_bytes())
    os.replace(spare, previous_path(target))


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")


def _write_synced(path: Path, blob: bytes) -> None:
    with open(path, "xb") as file:
        file.write(blob)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Force renamings to the disk, where the system can (Windows and some network disks cannot)."""
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def _sweep(target: Path) -> None:
    """Remove what killed saves of this checkpoint left behind; a save under way is younger."""
    with suppress(OSError):
        now = target.stat().st_mtime  # the file system's clock, not this machine's
        for path in target.parent.glob(f".{glob.escape(target.name)}.{'[0-9a-f]' * 16}.tmp"):
            if now - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def _read(path: Path) -> bytes:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    size = status.st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise ValueError(f"{size} bytes that claim a header of {length} bytes")
        file.seek(0)
        return file.read(size)


def _parse(blob: bytes, library: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    arrays = library.load(blob)
    metadata = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")]).get("__metadata__", {})
    if (text := metadata.get(FORMAT)) is None:
        raise ValueError("a safetensors file that tinygrad_rnn.saving did not write")
    if hashlib.sha256(text.encode()).hexdigest() != metadata.get("sha256"):
        raise ValueError("a state that does not match its checksum")
    document = json.loads(text)
    if document["version"] != VERSION:
        raise ValueError(f"format version {document['version']!r}, not {VERSION}")
    checksums, state = document["arrays"], document["state"]
    if not isinstance(checksums, dict) or not isinstance(state, dict):
        raise ValueError("a document without arrays or state")
    if checksums.keys() != arrays.keys():
        raise ValueError("other arrays than its document lists")
    for name, array in arrays.items():
        if _checksum(name, array) != checksums[name]:
            raise ValueError(f"an array {name!r} that does not match its checksum")
    return {name: arrays[name] for name in checksums}, state


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """A generator's whole state in plain JSON values, the stored half word included.

    How often `rng.spawn` was called is not part of it.

    >>> rng = np.random.default_rng(1)
    >>> state = generator_state(rng)
    >>> first = rng.random()
    >>> set_generator_state(rng, state)
    >>> rng.random() == first
    True
    """
    plain: dict[str, Any] = _lists(rng.bit_generator.state)
    return plain


def set_generator_state(rng: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Put a generator back into a state from `generator_state`.

    Raises:
        ValueError: if the state is not one of this kind of generator; rng is then unchanged.
    """
    trial = type(rng.bit_generator)()  # a state that is only half right must not reach rng
    try:
        trial.state = dict(state)
        matches = _lists(trial.state) == _lists(dict(state))
        matches &= 0 <= state["state"].get("pos", 0) <= 624  # MT19937 reads there unchecked
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        matches = False
    if not matches:
        raise ValueError(
            f"set_generator_state: expected a state of {type(trial).__name__}, got "
            f"{str(state)[:200]}; use one that generator_state returned for this kind of generator"
        )
    rng.bit_generator.state = trial.state


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
