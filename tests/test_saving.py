"""Checkpoints come back exactly, outlive kills and full disks, and never load when damaged."""

import doctest
import errno
import hashlib
import importlib
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn import saving
from tinygrad_rnn.saving import CheckpointError, load, previous_path, save

safetensors = pytest.importorskip("safetensors.numpy")

ROOT = Path(__file__).resolve().parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX system calls")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def fixed(path):
    return re.escape(repr(str(path)))


def python(script, *args):
    """Run a script in a Python of its own, where it may be killed or run out of disk."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


# What goes in comes out.


@st.composite
def arrays(draw):
    """Any bits of any type in any shape and layout."""
    dtype = np.dtype(draw(st.sampled_from(sorted(saving.DTYPES))))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    layout = draw(st.sampled_from("plain fortran strided backwards repeated big-endian".split()))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    raw = rng.integers(0, 2 if dtype.kind == "b" else 256, (*shape, dtype.itemsize), np.uint8)
    array = raw.view(dtype)[..., 0]
    if layout == "fortran":
        return np.asfortranarray(array) if shape else array
    if layout == "strided" and shape:
        return np.repeat(array, 2, axis=-1)[..., ::2]
    if layout == "backwards":
        return np.flip(array) if shape else array
    if layout == "repeated":
        return np.broadcast_to(array, (2, *shape))
    return array.astype(dtype.newbyteorder(">")) if layout == "big-endian" else array


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter("__metadata__".__ne__)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=10,
)


def bits(arrays):
    """Names in order, with type, shape and bytes of each array in the machine's byte order."""
    native = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}
    return [(n, a.dtype.name, a.shape, a.tobytes()) for n, a in native.items()]


def exact(value):
    """A form in which equal means the same type and value: -0.0 is not 0.0, True is not 1."""
    if isinstance(value, dict):
        return [(key, exact(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [exact(item) for item in value]
    return type(value), "nan" if value != value else repr(value)


@given(st.dictionaries(names, arrays(), max_size=4), st.dictionaries(st.text(), values, max_size=3))
def test_arrays_and_state_come_back_exactly(tmp_path_factory, given_arrays, state):
    path = tmp_path_factory.getbasetemp() / "round-trip.safetensors"
    save(path, given_arrays, state)
    loaded, loaded_state = load(path)
    assert bits(loaded) == bits(given_arrays)
    assert exact(loaded_state) == exact(state)
    assert all(array.flags.writeable and array.dtype.isnative for array in loaded.values())


@pytest.mark.parametrize(
    "value",
    [2**128 - 1, -(2**10_000), float("nan"), float("inf"), -0.0, 5e-324, "\ud800\0é", [[], {}]],
    ids=lambda value: str(type(value).__name__),
)
def test_unusual_state_comes_back_exactly(tmp_path, value):
    save(tmp_path / "a", {}, {"value": value})
    assert exact(load(tmp_path / "a")) == exact(({}, {"value": value}))


def test_arrays_nobody_laid_out_on_purpose_come_back(tmp_path):
    record = np.zeros(3, [("tag", "u1"), ("value", "f8")])
    record["value"] = [1.5, -2.5, np.inf]
    odd = {"unaligned": record["value"], "matrix": np.eye(2).view(np.matrix), "0-d": np.float32(2)}
    save(tmp_path / "a", {name: np.asanyarray(array) for name, array in odd.items()}, {})
    loaded, _ = load(tmp_path / "a")
    np.testing.assert_array_equal(loaded["unaligned"], [1.5, -2.5, np.inf])
    assert type(loaded["matrix"]) is np.ndarray
    assert loaded["0-d"].shape == ()


def test_other_tools_can_read_the_arrays(tmp_path):
    save(tmp_path / "a.safetensors", {"w": np.arange(6.0).reshape(2, 3).T}, {"step": 1})
    foreign = safetensors.load_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(foreign["w"], np.arange(6.0).reshape(2, 3).T)


# What would come back different is refused, and the old checkpoint stays.


def nested(depth):
    return [nested(depth - 1)] if depth else []


def circle():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((1, 2), r"state\['x'\]: expected None, bool, .* got tuple; convert it"),
        ([0, np.int64(3)], r"state\['x'\]\[1\]: .* got int64; convert it \(\.item\(\)"),
        ({"y": np.zeros(2)}, r"state\['x'\]\['y'\]: .* got ndarray; .* put it into an array"),
        ({1: "a"}, r"state\['x'\]: .* got a dict with keys that are not str"),
        (1 << 20_000, r"state\['x'\]: .* got one too large"),
        ({1, 2}, r"state\['x'\]: .* got set"),
        (nested(70), r"expected at most 64 levels, got more"),
        (circle(), r"expected at most 64 levels, got more"),
        (list(range(10**6)), r"expected at most 4194304 bytes of names and state, got \d+; move"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_state_that_would_change_is_refused(tmp_path, value, message):
    save(tmp_path / "a", {}, {"step": 1})
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path / "a", {}, {"x": value})
    assert load(tmp_path / "a")[1] == {"step": 1}
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("w", [1.0], "array 'w': expected a NumPy array, got list; use np.asarray"),
        ("w", np.ma.masked_array([1.0]), "expected a NumPy array, got MaskedArray"),
        (
            "w",
            np.zeros(2, complex),
            "array 'w': expected dtype bool, .* got complex128; use astype",
        ),
        ("w", np.array([None]), "expected dtype .* got object"),
        ("w", np.array(["a"]), "expected dtype .* got <U1"),
        (3, np.zeros(2), "expected array names of valid Unicode other than '__metadata__', got 3"),
        ("\ud800", np.zeros(2), r"expected array names .* got '\\ud800'"),
        ("__metadata__", np.zeros(2), "expected array names .* got '__metadata__'"),
    ],
)
def test_arrays_that_would_change_are_refused(tmp_path, name, array, message):
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path / "a", {name: array}, {})
    assert os.listdir(tmp_path) == []


def test_arrays_and_state_must_be_dicts(tmp_path):
    with pytest.raises(CheckpointError, match="expected arrays to be a dict, got list"):
        save(tmp_path / "a", [np.zeros(2)], {})
    with pytest.raises(CheckpointError, match="expected state to be a dict, got list; name its"):
        save(tmp_path / "a", {}, [1])


def test_missing_safetensors_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    remedy = r"expected the package safetensors, .* pip install 'tinygrad-rnn\[zoo\]'"
    with pytest.raises(ImportError, match=remedy):
        save(tmp_path / "a", {}, {})
    for read in (load, saving.load_arrays):
        with pytest.raises(ImportError, match=remedy):
            read(tmp_path / "a")


# Files of other tools.


def test_arrays_of_other_tools_are_read(tmp_path):
    given_arrays = {"b": np.arange(6.0).reshape(2, 3), "a": np.ones((0, 2), np.float32)}
    given_arrays |= {"é": np.array(True), "half": np.float16([1, np.inf])}
    safetensors.save_file(given_arrays, tmp_path / "a", {"format": "pt"})
    found = saving.load_arrays(tmp_path / "a")
    assert sorted(bits(found)) == sorted(bits(given_arrays))
    assert all(array.flags.writeable for array in found.values())


def test_arrays_of_a_checkpoint_are_read_without_its_state(tmp_path):
    save(tmp_path / "a", {"w": np.arange(3)}, {"step": 1})
    assert bits(saving.load_arrays(tmp_path / "a")) == bits({"w": np.arange(3)})


@pytest.mark.parametrize(
    ("blob", "got"),
    [
        (b"", "0 bytes that claim a header of 0 bytes"),
        (b"PK\3\4" * 9, "36 bytes that claim a header of 289157608118635344 bytes"),
        ((4).to_bytes(8, "little") + b"null", "SafetensorError Error while deserializing"),
        (None, "'No such file or directory' from the system"),
    ],
)
def test_what_is_no_file_of_arrays_is_an_error(tmp_path, blob, got):
    path = tmp_path / "a"
    if blob is not None:
        path.write_bytes(blob)
    message = (
        f"^load_arrays: {fixed(path)}: expected a safetensors file of NumPy's types, got {got}"
    )
    with pytest.raises(CheckpointError, match=f"{message}.*; write it anew, bfloat16 as float32$"):
        saving.load_arrays(path)


def test_every_block_of_the_page_does_what_it_shows():
    text = (ROOT / "docs" / "saving.md").read_text("utf-8")
    blocks = re.split(r"^(?:```python|```)$", text, flags=re.MULTILINE)[1::2]
    page = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "saving.md", None, 0)
    assert len(page.examples) == text.count(">>> ") > 30
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(page, out=report.append).failed == 0, "".join(report)


# Paths.


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "folder").mkdir()
    for place, got in [
        (tmp_path / "missing" / "a", "'No such file or directory' from the system"),
        (tmp_path / "folder", "a folder or a device"),
        (tmp_path / "zero\0byte", "embedded null byte"),
    ]:
        message = f"save: .*: expected a writable file in an existing folder, got {got}; free"
        with pytest.raises(CheckpointError, match=message):
            save(place, {}, {})
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(tmp_path / "folder") == []


@posix
def test_read_only_folder_is_named(tmp_path):
    save(tmp_path / "a", {}, {"step": 1})
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(CheckpointError, match="got 'Permission denied' from the system"):
            save(tmp_path / "a", {}, {"step": 2})
        assert load(tmp_path / "a")[1] == {"step": 1}
    finally:
        tmp_path.chmod(0o700)


def test_the_replaced_checkpoint_is_kept_under_its_own_name(tmp_path):
    path = tmp_path / "lstm.best.safetensors"
    for step in range(3):
        save(path, {}, {"step": step})
    assert load(path)[1] == {"step": 2}
    assert load(tmp_path / "lstm.best.previous.safetensors")[1] == {"step": 1}
    assert len(os.listdir(tmp_path)) == 2


@posix
def test_a_linked_checkpoint_is_written_through_the_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "disk" / "a")
    for step in range(2):
        save(tmp_path / "latest", {}, {"step": step})
    assert (tmp_path / "latest").is_symlink()
    assert load(tmp_path / "disk" / "a")[1] == {"step": 1}
    assert load(previous_path(tmp_path / "latest"))[1] == {"step": 0}


@posix
def test_file_mode_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        save(tmp_path / "a", {}, {})
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_litter_of_killed_saves_is_removed_and_nothing_else(tmp_path):
    old, young, foreign = (
        tmp_path / name for name in (f".a.{'0' * 16}.tmp", f".a.{'1' * 16}.tmp", ".a.notes.tmp")
    )
    for path in (old, young, foreign):
        path.write_bytes(b"half a checkpoint")
    for path in (old, foreign):
        os.utime(path, (time.time() - 3600,) * 2)
    save(tmp_path / "a", {}, {})
    assert sorted(os.listdir(tmp_path)) == sorted(["a", young.name, foreign.name])


# Kills, full disks, power cuts.


def failing(call, at, code):
    """The system call, failing the at-th time it is made."""
    made = 0

    def wrapped(*args, **kwargs):
        nonlocal made
        made += 1
        if made == at:
            raise OSError(code, os.strerror(code))
        return call(*args, **kwargs)

    return wrapped


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(("call", "at"), [("fsync", 1), ("replace", 1), ("replace", 2)])
def test_a_failing_step_leaves_the_old_checkpoint_and_no_litter(
    tmp_path, monkeypatch, call, at, code
):
    save(tmp_path / "a", {"w": np.arange(5)}, {"step": 1})
    monkeypatch.setattr(os, call, failing(getattr(os, call), at, code))
    with pytest.raises(CheckpointError, match=f"{fixed(tmp_path / 'a')}: expected .* got '"):
        save(tmp_path / "a", {"w": np.arange(6)}, {"step": 2})
    assert load(tmp_path / "a")[1] == {"step": 1}
    assert set(os.listdir(tmp_path)) <= {"a", "a.previous"}


@posix
def test_a_folder_that_cannot_be_synced_is_reported_with_both_checkpoints_there(
    tmp_path, monkeypatch
):
    save(tmp_path / "a", {}, {"step": 1})
    monkeypatch.setattr(os, "fsync", failing(os.fsync, 2, errno.EIO))
    with pytest.raises(CheckpointError, match="got 'Input/output error' from the system"):
        save(tmp_path / "a", {}, {"step": 2})
    assert load(tmp_path / "a")[1] == {"step": 2}
    assert load(tmp_path / "a.previous")[1] == {"step": 1}


@posix
def test_a_file_system_that_never_syncs_folders_is_accepted(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(os.fsync, 2, errno.EINVAL))
    save(tmp_path / "a", {}, {"step": 1})
    assert load(tmp_path / "a")[1] == {"step": 1}


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_links_keeps_a_copy(tmp_path, monkeypatch, code):
    monkeypatch.setattr(os, "link", lambda *_: failing(None, 1, code)())
    for step in range(3):
        save(tmp_path / "a", {}, {"step": step})
    assert load(tmp_path / "a.previous")[1] == {"step": 1}
    assert len(os.listdir(tmp_path)) == 2


def test_an_interrupted_save_leaves_the_old_checkpoint_and_no_litter(tmp_path, monkeypatch):
    save(tmp_path / "a", {}, {"step": 1})

    def interrupted(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "a", {}, {"step": 2})
    assert load(tmp_path / "a")[1] == {"step": 1}
    assert os.listdir(tmp_path) == ["a"]


@posix
def test_a_full_disk_leaves_the_old_checkpoint_and_no_litter(tmp_path):
    save(tmp_path / "a", {}, {"step": 1})
    script = """
        import resource, sys
        import numpy as np
        from tinygrad_rnn import saving
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        saving.save(sys.argv[1], {"w": np.zeros(100_000)}, {"step": 2})
    """
    result = python(script, tmp_path / "a")
    assert re.search("CheckpointError: save: .* got 'File too large' from the sy", result.stderr)
    assert load(tmp_path / "a")[1] == {"step": 1}
    assert os.listdir(tmp_path) == ["a"]


@posix
def test_nothing_is_renamed_before_it_is_on_the_disk(tmp_path, monkeypatch):
    """A power cut may undo what was not synced; this order leaves nothing broken to undo to."""
    events = []

    def recorded(call, describe):
        def wrapped(*args):
            events.append(describe(*args))
            return call(*args)

        return wrapped

    def synced(handle):
        return "sync folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "sync file"

    save(tmp_path / "a", {}, {"step": 1})
    monkeypatch.setattr(os, "fsync", recorded(os.fsync, synced))
    monkeypatch.setattr(os, "link", recorded(os.link, lambda *_: "link"))
    monkeypatch.setattr(os, "replace", recorded(os.replace, lambda _, to: f"name {Path(to).name}"))
    save(tmp_path / "a", {}, {"step": 2})
    if not os.path.isdir("/proc/self/fd"):
        events = [event.replace("sync folder", "sync file") for event in events]
    assert events == ["sync file", "link", "name a.previous", "name a", "sync folder"]


KILL_AT_EVERY_LINE = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np
    from tinygrad_rnn.saving import _write, load, previous_path, save

    path, links = Path(sys.argv[1]) / "a.safetensors", sys.argv[2] == "links"
    if not links:
        os.link = lambda *_: os.stat("")

    def put(step):
        save(path, {"w": np.full(1000, step)}, {"step": step})

    def step(path):
        arrays, state = load(path)
        assert (arrays["w"] == np.full(1000, state["step"])).all()
        return state["step"]

    def put_and_die(count):
        def trace(frame, event, arg):
            nonlocal count
            if "saving.py" not in frame.f_code.co_filename:
                return None
            if frame.f_code.co_name in ("_plain", "_normal", "_is_utf8", "_checksum"):
                return None
            count -= event == "line"
            if count < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace
        sys.settrace(trace)
        put(2)
        os._exit(0)

    lines, seen = 0, set()
    while True:
        for file in path.parent.iterdir():
            file.unlink()
        put(0)
        put(1)
        child = os.fork() or put_and_die(lines)
        _, status = os.waitpid(child, 0)
        seen.add((step(path), step(previous_path(path))))
        assert step(path) in (1, 2), "neither the old nor the new checkpoint"
        put(3)  # whatever the kill left, the next save works
        assert step(path) == 3 and step(previous_path(path)) in (1, 2)
        if os.WIFEXITED(status):
            break
        lines += 1
    print(lines, sorted(seen))
"""


@posix
@pytest.mark.parametrize("kind", ["links", "copies"])
def test_a_kill_at_any_line_leaves_the_old_or_the_new_checkpoint(tmp_path, kind):
    result = python(KILL_AT_EVERY_LINE, tmp_path, kind)
    assert result.returncode == 0, result.stderr
    lines, seen = result.stdout.split(maxsplit=1)
    assert int(lines) > 40
    assert json.loads(seen.replace("(", "[").replace(")", "]")) == [[1, 0], [1, 1], [2, 1]]


SAVE_FOREVER = """
    import sys
    import numpy as np
    from tinygrad_rnn.saving import save
    step = 0
    while True:
        save(sys.argv[1], {"w": np.full(300_000, step)}, {"step": step})
        print(step, flush=True)
        step += 1
"""


@posix
@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_loses_nothing_that_was_saved(tmp_path, kills):
    rng = np.random.default_rng(0)
    for trial in range(kills):
        path = tmp_path / f"{trial}.safetensors"
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SAVE_FOREVER), str(path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        with process:
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.2))
            process.kill()
            done = int((b"0\n" + process.stdout.read()).split(b"\n")[-2])
        loaded, state = load(path)
        assert state["step"] >= done
        np.testing.assert_array_equal(loaded["w"], np.full(300_000, state["step"]))


# Damage.


def example(path):
    """A checkpoint with arrays of several types and sizes; returns what it must load as."""
    rng = np.random.default_rng(1)
    contents = {
        "cell.weight_hh": rng.standard_normal((12, 5)).astype(np.float32),
        "cell.bias": rng.standard_normal(12),
        "mask": rng.random(9) < 0.5,
        "ids": rng.integers(0, 99, (3, 4)),
        "empty": np.zeros((0, 3)),
        "scalar": np.array(2.5),
        "é": np.arange(7, dtype=np.uint8),
    }
    save(path, contents, {"step": 3, "rng": saving.generator_state(rng), "best": float("inf")})
    loaded, state = load(path)
    return bits(loaded), exact(state)


def damage(blob, rng):
    """The bytes after one random accident; now and then nothing has changed."""
    cut, end = sorted(int(i) for i in rng.integers(0, len(blob) + 1, 2))
    at = int(rng.integers(len(blob)))
    kind = rng.integers(10)
    if kind == 0:
        return blob[:cut]
    if kind == 1:
        return blob[:at] + bytes([blob[at] ^ 1 << int(rng.integers(8))]) + blob[at + 1 :]
    if kind == 2:
        return blob[:at] + rng.bytes(1) + blob[at + 1 :]
    if kind == 3:
        return blob[:cut] + blob[end:]
    if kind == 4:
        return blob[:cut] + bytes(end - cut) + blob[end:]
    if kind == 5:
        return blob[:cut] + rng.bytes(end - cut) + blob[end:]
    if kind == 6:
        return blob[:cut] + blob[cut:end] * 2 + blob[end:]
    if kind == 7:
        return blob[at:] + blob[:at]
    if kind == 8:
        return int(2.0 ** rng.uniform(0, 63)).to_bytes(8, "little") + blob[8:]
    digits = [i for i, byte in enumerate(blob) if chr(byte).isdigit()]
    where = int(rng.choice(digits))
    return blob[:where] + b"%d" % rng.integers(10) + blob[where + 1 :]


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_checkpoint_is_an_error_or_loads_unchanged(tmp_path, count):
    path, rng = tmp_path / "a.safetensors", np.random.default_rng(count)
    expected, blob, refused, unchanged = example(path), path.read_bytes(), 0, 0
    message = f"load: {fixed(path)}: expected an intact checkpoint, got .*; there is no previous"
    for _ in range(count):
        damaged = damage(blob, rng)
        unchanged += damaged == blob
        path.write_bytes(damaged)
        try:
            loaded, state = load(path)
        except CheckpointError as error:
            refused += 1
            assert re.match(message, str(error), re.DOTALL)
        else:
            assert (bits(loaded), exact(state)) == expected
    assert refused > 0.98 * (count - unchanged)


def test_every_single_byte_counts(tmp_path):
    path = tmp_path / "a.safetensors"
    expected, blob = example(path), path.read_bytes()
    header = 8 + int.from_bytes(blob[:8], "little")
    for at in range(len(blob)):
        path.write_bytes(blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :])
        try:
            loaded, state = load(path)
        except CheckpointError:
            continue
        assert at < header  # a changed blank between names, say
        assert (bits(loaded), exact(state)) == expected


def container(header, data=b""):
    """A safetensors file with this header, be it as bytes or as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def signed(document, tensors=None, data=b""):
    """A file whose document has a right checksum, whatever it says."""
    text = document if isinstance(document, str) else json.dumps(document)
    metadata = {saving.FORMAT: text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return container({"__metadata__": metadata, **(tensors or {})}, data)


def entry(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


VALID = {"format": saving.FORMAT, "version": 1, "arrays": {}, "state": {}}
HOSTILE = {
    "empty": b"",
    "short": b"1234567",
    "zeros": bytes(1000),
    "header longer than the file": (1000).to_bytes(8, "little") + b"{}",
    "header of 2**63 bytes": (2**63).to_bytes(8, "little") + b"{}" * 50,
    "header over the limit": container(b"{" + b" " * saving.HEADER_LIMIT + b"}"),
    "no JSON": container(b"{]"),
    "not an object": container([1, 2]),
    "deep JSON": container(b"[" * 100_000),
    "deep JSON beside the arrays": container(
        b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":' + b"[" * 99_999 + b"}}"
    ),
    "pickle": pickle.dumps({"w": [1, 2, 3]}),
    "foreign": safetensors.save({"w": np.zeros(3)}),
    "foreign with metadata": safetensors.save({"w": np.zeros(3)}, {"format": "np"}),
    "huge shape": container({"a": entry("F64", [2**62, 2**62], 0, 8)}, bytes(8)),
    "negative shape": container({"a": entry("F64", [-1], 0, 8)}, bytes(8)),
    "shape of words": container({"a": entry("F64", ["1"], 0, 8)}, bytes(8)),
    "offsets beyond the end": container({"a": entry("F64", [9], 0, 72)}, bytes(8)),
    "overlapping": container({"a": entry("U8", [8], 0, 8), "b": entry("U8", [8], 0, 8)}, bytes(8)),
    "trailing bytes": container({"a": entry("U8", [8], 0, 8)}, bytes(9)),
    "unknown type": container({"a": entry("PY", [1], 0, 8)}, bytes(8)),
    "type without NumPy": signed(VALID, {"a": entry("BF16", [1], 0, 2)}, bytes(2)),
    "metadata of numbers": container({"__metadata__": {saving.FORMAT: 3}}),
    "metadata null": container({"__metadata__": None}),
    "no checksum": container({"__metadata__": {saving.FORMAT: json.dumps(VALID)}}),
    "document no JSON": signed("{"),
    "document deep": signed("[" * 100_000),
    "document a list": signed([]),
    "document empty": signed({}),
    "document of a huge number": signed("9" * 10_000),
    "newer version": signed({**VALID, "version": 2}),
    "arrays a list": signed({**VALID, "arrays": []}),
    "state a list": signed({**VALID, "state": []}),
    "unlisted array": signed(VALID, {"a": entry("U8", [8], 0, 8)}, bytes(8)),
    "missing array": signed({**VALID, "arrays": {"a": "0" * 64}}),
    "checksum a number": signed(
        {**VALID, "arrays": {"a": 7}}, {"a": entry("U8", [8], 0, 8)}, bytes(8)
    ),
}


@pytest.mark.parametrize("blob", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_an_error(tmp_path, blob):
    (tmp_path / "a").write_bytes(blob)
    with pytest.raises(CheckpointError, match="expected an intact checkpoint, got ") as caught:
        load(tmp_path / "a")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "got 0 bytes that claim a header of 0 bytes"),
        ("header of 2**63 bytes", "got 108 bytes that claim a header of 9223372036854775808 bytes"),
        ("header over the limit", "got 4194314 bytes that claim a header of 4194306 bytes"),
        ("foreign", r"got a safetensors file that tinygrad_rnn\.saving did not write"),
        ("no checksum", "got a state that does not match its checksum"),
        ("newer version", "got format version 2, not 1"),
        ("state a list", "got a document without arrays or state"),
        ("unlisted array", "got other arrays than its document lists"),
        ("checksum a number", "got an array 'a' that does not match its checksum"),
    ],
)
def test_damage_is_described(tmp_path, kind, message):
    (tmp_path / "a").write_bytes(HOSTILE[kind])
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "a")


def test_swapped_arrays_are_noticed(tmp_path):
    """Two arrays of one type and size, exchanged in the header: a right file, but for checksums."""
    path = tmp_path / "a"
    save(path, {"h": np.arange(8), "c": np.arange(8) + 1}, {})
    blob = path.read_bytes()
    path.write_bytes(blob.replace(b'"h":{"d', b'"?":{"d').replace(b'"c":{"d', b'"h":{"d'))
    path.write_bytes(path.read_bytes().replace(b'"?":{"d', b'"c":{"d'))
    assert path.read_bytes() != blob
    with pytest.raises(CheckpointError, match=r"got an array '[hc]' that does not match its check"):
        load(path)


def test_a_changed_type_is_noticed(tmp_path):
    save(tmp_path / "a", {"w": np.ones(3)}, {})
    blob = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(blob.replace(b'"F64"', b'"I64"'))
    with pytest.raises(CheckpointError, match="got an array 'w' that does not match its checksum"):
        load(tmp_path / "a")


def test_what_is_no_file_is_an_error(tmp_path):
    (tmp_path / "folder").mkdir()
    for place, got in [
        (tmp_path / "folder", "a folder"),
        (tmp_path / "missing", "'No such file or directory' from the system"),
        (tmp_path / "zero\0byte", "embedded null byte"),
    ]:
        with pytest.raises(CheckpointError, match=f"expected an intact checkpoint, got {got}; th"):
            load(place)


@posix
def test_a_pipe_is_an_error_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="got not a regular file"):
        load(tmp_path / "pipe")


@pytest.mark.parametrize("current", [b"torn", None], ids=["damaged", "missing"])
def test_the_error_points_to_the_previous_checkpoint(tmp_path, current):
    path = tmp_path / "a.safetensors"
    for step in range(2):
        save(path, {}, {"step": step})
    path.unlink() if current is None else path.write_bytes(current)
    previous = tmp_path / "a.previous.safetensors"
    remedy = f"; rename the previous checkpoint, {fixed(previous)}, to go on from it"
    with pytest.raises(CheckpointError, match=remedy):
        load(path)
    assert load(previous)[1] == {"step": 0}


def test_a_pickle_is_never_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "a").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="expected an intact checkpoint"):
        load(tmp_path / "a")
    assert os.listdir(tmp_path) == ["a"]


LOAD_AND_MEASURE = """
    import re, sys
    from pathlib import Path
    from tinygrad_rnn.saving import CheckpointError, load

    def peak():
        return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

    try:
        load(sys.argv[1])  # a small one first: libraries are not what is measured
        before = peak()
        load(sys.argv[2])
    except CheckpointError:
        pass
    print(peak() - before)
"""


@linux
@pytest.mark.parametrize("layout", ["one large array", "many arrays", "truncated"])
def test_loading_takes_at_most_twice_the_file_in_memory(tmp_path, layout):
    save(tmp_path / "small", {}, {})
    count = 1000 if layout == "many arrays" else 1
    parts = np.zeros((count, 8 * 2**20 // count))
    save(tmp_path / "large", {f"{i}": part for i, part in enumerate(parts)}, {})
    size = (tmp_path / "large").stat().st_size
    if layout == "truncated":
        os.truncate(tmp_path / "large", size - 1)
    used = int(python(LOAD_AND_MEASURE, tmp_path / "small", tmp_path / "large").stdout)
    assert used < 2 * size + 8 * 2**20


@linux
@pytest.mark.parametrize("item", ["[]", "{}"])
def test_a_hostile_header_takes_bounded_memory(tmp_path, item):
    save(tmp_path / "small", {}, {})
    items = ",".join([item] * 1_300_000)
    (tmp_path / "large").write_bytes(signed(f'{json.dumps(VALID)[:-1]}, "x": [{items}]}}'))
    used = int(python(LOAD_AND_MEASURE, tmp_path / "small", tmp_path / "large").stdout)
    assert used < 200 * 2**20


# Random generators.

KINDS = [
    np.random.PCG64,
    np.random.PCG64DXSM,
    np.random.MT19937,
    np.random.Philox,
    np.random.SFC64,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("half", [0, 1], ids=["whole words", "half a word"])
def test_a_generator_goes_on_where_it_was(tmp_path, kind, half):
    rng = np.random.Generator(kind(3))
    rng.integers(0, 9, 5 - half, dtype=np.int32)  # an odd count leaves half a word behind
    save(tmp_path / "a", {}, {"rng": saving.generator_state(rng)})
    other = np.random.Generator(kind(4))
    saving.set_generator_state(other, load(tmp_path / "a")[1]["rng"])
    for draw in (
        lambda rng: rng.integers(0, 9, 7, dtype=np.int32),
        lambda rng: rng.random(5),
        lambda rng: rng.permutation(20),
    ):
        np.testing.assert_array_equal(draw(other), draw(rng))


def test_the_stored_half_word_matters():
    rng = np.random.default_rng(0)
    rng.integers(0, 9, dtype=np.int32)
    state = saving.generator_state(rng)
    assert state["has_uint32"] == 1
    assert state["uinteger"] > 0


def changed(**parts):
    return {**saving.generator_state(np.random.default_rng(0)), **parts}


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"bit_generator": "PCG64"},
        changed(bit_generator="MT19937"),
        changed(state={"state": 1}),
        changed(state={"state": 2**200, "inc": 1}),
        changed(state={"state": "1", "inc": 1}),
        changed(state=None),
        changed(uinteger=-1),
        changed(uinteger=2**40),
        changed(extra=1),
        {key: value for key, value in changed().items() if key != "uinteger"},
    ],
    ids=str,
)
def test_a_bad_generator_state_changes_nothing(state):
    rng = np.random.default_rng(5)
    before = saving.generator_state(rng)
    with pytest.raises(ValueError, match=r"expected a state of PCG64, got .*; use one that"):
        saving.set_generator_state(rng, state)
    assert saving.generator_state(rng) == before


@pytest.mark.parametrize("position", [-1, 625, 10**6])
def test_a_twister_never_reads_beyond_its_words(position):
    rng = np.random.Generator(np.random.MT19937(0))
    state = saving.generator_state(rng)
    state["state"]["pos"] = position
    with pytest.raises(ValueError, match="expected a state of MT19937"):
        saving.set_generator_state(rng, state)


def test_importing_the_module_needs_no_safetensors():
    script = "import sys; sys.modules['safetensors'] = None; import tinygrad_rnn.saving"
    assert python(script).returncode == 0
    assert importlib.import_module("tinygrad_rnn.saving") is saving


def test_floats_keep_their_bits(tmp_path):
    value = struct.unpack("<d", b"\1\2\3\4\5\6\7\x40")[0]
    save(tmp_path / "a", {}, {"x": value, "y": np.float64(value)})
    assert load(tmp_path / "a")[1] == {"x": value, "y": value}
