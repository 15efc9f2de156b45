"""The cache of compiled code: whatever happens to it, results are right and nobody sees errors."""

import logging
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.kernels import cache
from tinygrad_rnn.kernels.emit import Module
from tinygrad_rnn.kernels.machine import Library
from tinygrad_rnn.kernels.pointwise.lanes import Lane
from tinygrad_rnn.kernels.sequence.packing import Packing

resource = pytest.importorskip("resource")  # files have owners, modes and limits here
ROOT = Path(tg.__file__).parents[1]
SLOW = cache.SLOW


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache, kernels that nobody edits meanwhile, and patience with a busy machine."""
    monkeypatch.setenv("TINYGRAD_RNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_sources", lambda: cache.IMPORTED)
    monkeypatch.setattr(cache, "SLOW", 60)
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def silent(caplog, capfd, request):
    """What goes wrong with the cache is nothing to a user."""
    yield
    if "told" not in request.node.name:
        assert not caplog.records and not "".join(capfd.readouterr())


class Programs:
    """Compiled functions that return a number; `built` counts compilations."""

    def __init__(self):
        self.built = 0

    def build(self, number):
        self.built += 1
        module = Module(np.float64)
        with module.function("f", ["out"]) as (e, (out,)):
            e.store(out, Lane.filled(e, number).value)
        return module.compiled()

    def __call__(self, number):
        """What the function of a number returns, and whether it had to be compiled."""
        before, out = self.built, np.zeros(16)
        code = cache.object_code("a number", f"number {number}", lambda: self.build(number))
        Library(code, ["f"]).function("f", 1)(out.ctypes.data)
        return out[0], self.built > before


def files(folder):
    return sorted(folder.iterdir())


def filled(folder, number=1.5):
    """The file of a program, which has just been compiled."""
    before = set(files(folder)) if folder.exists() else set()
    assert Programs()(number) == (number, True)
    (path,) = set(files(folder)) - before
    return path


def test_code_is_kept_for_its_owner_alone(folder):
    path = filled(folder)
    assert Programs()(1.5) == (1.5, False)
    assert Programs()(2.5) == (2.5, True)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# Files that are no longer what they were


def flipped(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def replaced(path, make):
    path.unlink()
    make(path)


def linked(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def huge(path):
    with open(path, "r+b") as file:
        file.truncate(1 << 40)  # bytes that nobody has written


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(b"\0"),
    "cut in the checksum": lambda path: os.truncate(path, 20),
    "cut after the checksum": lambda path: os.truncate(path, 32),
    "cut in the code": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "a bit of the checksum": lambda path: flipped(path, 3),
    "a bit of the code": lambda path: flipped(path, 300),
    "the last bit": lambda path: flipped(path, -1),
    "garbage": lambda path: path.write_bytes(os.urandom(5000)),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "text": lambda path: path.write_text("<html>404"),
    "another program": lambda path: shutil.copy(filled(path.parent, 7.5), path),
    "more than fits": huge,
    "a link": linked,
    "a link to nothing": lambda path: replaced(path, lambda p: p.symlink_to("nothing")),
    "a link to itself": lambda path: replaced(path, lambda p: p.symlink_to(p.name)),
    "a pipe": lambda path: replaced(path, os.mkfifo),
    "a folder": lambda path: replaced(path, Path.mkdir),
    "a full folder": lambda path: replaced(path, lambda p: (p / "x").mkdir(parents=True)),
    "writable to the group": lambda path: path.chmod(0o620),
    "writable to all": lambda path: path.chmod(0o602),
    "forbidden": lambda path: path.chmod(0),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_file(folder, kind):
    path = filled(folder)
    DAMAGE[kind](path)
    readable = kind == "forbidden" and os.access(path, os.R_OK)  # root may read anything
    assert Programs()(1.5) == (1.5, not readable)
    if not path.is_dir():  # it was mended
        assert Programs()(1.5) == (1.5, False)
        assert not path.is_symlink()


@pytest.mark.parametrize("which", ["file", "folder"])
def test_what_belongs_to_another_user_is_not_run(folder, which):
    path = filled(folder)
    try:
        os.chown(path if which == "file" else folder, 12345, 12345)
    except PermissionError:
        pytest.skip("only root gives files away")
    assert Programs()(1.5) == (1.5, True)
    assert Programs()(1.5) == (1.5, which == "folder")


# Folders that cannot be used, or must not


def environment(monkeypatch, cache=None, home=None, xdg=None):
    given = {"TINYGRAD_RNN_CACHE": cache, "HOME": home, "XDG_CACHE_HOME": xdg}
    for name, value in given.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(value))


def test_default_folders(folder, tmp_path, monkeypatch):
    environment(monkeypatch, home=tmp_path)
    assert filled(tmp_path / ".cache/tinygrad_rnn/kernels")
    environment(monkeypatch, home=tmp_path, xdg=tmp_path / "xdg")
    assert filled(tmp_path / "xdg/tinygrad_rnn/kernels")
    environment(monkeypatch, home=tmp_path, xdg="relative")  # to be ignored
    assert Programs()(1.5) == (1.5, False)
    environment(monkeypatch, cache="~/mine", home=tmp_path)
    assert filled(tmp_path / "mine")


def test_relative_folder_follows_the_working_directory(folder, tmp_path, monkeypatch):
    environment(monkeypatch, cache="here")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert filled(tmp_path / name / "here")


UNUSABLE = {
    "a device": {"cache": "/dev/null"},
    "within a device": {"home": "/dev/null"},
    "a file": {"cache": __file__},
    "a name too long": {"cache": "/tmp/" + "x" * 300},
    "nobody's home": {"cache": "~nobody_at_all/x"},
    "no home": {},
    "the file system's": {"cache": "/proc"},
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_no_folder(folder, kind, monkeypatch):
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    environment(monkeypatch, **UNUSABLE[kind])
    for _ in range(2):
        assert Programs()(1.5) == (1.5, True)


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_folder_that_others_may_write_to(folder, mode):
    filled(folder)
    folder.chmod(mode)
    assert Programs()(1.5) == (1.5, True)
    assert Programs()(2.5) == (2.5, True)
    assert len(files(folder)) == 1


def test_full_disk(folder):
    folder.mkdir(mode=0o700)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        found = [Programs()(1.5) for _ in range(2)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert found == [(1.5, True)] * 2
    assert not files(folder)


@pytest.mark.parametrize("call", ["open", "replace", "fstat", "utime", "scandir"])
def test_failing_system_call(folder, call, monkeypatch):
    path = filled(folder)

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache.os, call, fail)
        found = [Programs()(1.5), Programs()(2.5)]
    assert [number for number, _ in found] == [1.5, 2.5]
    assert Programs()(1.5) == (1.5, False)
    assert all(cache.NAMES.fullmatch(p.name) and "." not in p.name[66:] for p in files(folder))
    assert path.exists()


def test_interrupted_writing_leaves_nothing(folder, monkeypatch):
    folder.mkdir(mode=0o700)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache.os, "replace", lambda *names: (_ for _ in ()).throw(KeyboardInterrupt))
        Programs()(1.5)
    assert not files(folder)


def test_errors_of_the_compiler_are_not_hidden(folder):
    with pytest.raises(ZeroDivisionError):
        cache.object_code("nothing", "key", lambda: 1 // 0)
    assert Programs()(1.5) == (1.5, True)


# Code for something else


def test_another_processor_or_version_or_width_has_code_of_its_own(folder, monkeypatch):
    filled(folder)
    for changed in ({"host": lambda: ("other", "+avx")}, {"versions": lambda: "99.9"}):
        with monkeypatch.context() as patch:
            for name, value in changed.items():
                patch.setattr(cache, name, value)
            cache._origin.cache_clear()
            assert Programs()(1.5) == (1.5, True)
        cache._origin.cache_clear()
    for width in ("4", "8", "16"):
        monkeypatch.setenv("TINYGRAD_RNN_VECTOR", width)
        assert Programs()(1.5) == (1.5, int(width) != cache.float_lanes() or width != own())
    assert len(files(folder)) == 5


def own():
    """The width of vectors that this process has by itself."""
    features = cache.host()[1].split(",")
    return "16" if "+avx512f" in features else "8" if "+avx2" in features else "4"


def scanned(scale):
    @tg.cell
    def leaky(x, h, b):
        h = tg.tanh(scale * h + x + b)
        return h, h

    outputs, _ = tg.scan(leaky, tg.ones(2, 1, 3), tg.zeros(1, 3), (tg.ones(3),))
    return outputs.numpy()


def test_edited_cell(folder):
    found = [scanned(scale) for scale in (0.5, 0.25, 0.5)]
    assert not np.array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    step = np.tanh(np.float32(2))
    np.testing.assert_allclose(found[1][1], np.tanh(0.25 * step + 2), rtol=1e-6)


# Processes


TRAIN = """
import sys, numpy as np, tinygrad_rnn as tg
exec(sys.argv[2])
layer = tg.nn.RNN(2, 3, dtype=np.dtype(sys.argv[1]).type, rng=np.random.default_rng(0))
x = tg.Tensor(np.linspace(-1, 1, 12).reshape(3, 2, 2).astype(sys.argv[1]), requires_grad=True)
output, _ = layer(x)
output.sum().backward()
print(output.numpy().tobytes().hex(), x.grad.numpy().tobytes().hex())
"""


LIGHT = """
import sys, numpy as np, tinygrad_rnn as tg
from tinygrad_rnn.kernels import cache, emit, machine
from tinygrad_rnn.kernels.pointwise.exponential import exp
from tinygrad_rnn.kernels.pointwise.lanes import Lane
exec(sys.argv[2])
def build(number):
    module = emit.Module(sys.argv[1])
    with module.function("f", ["out"]) as (e, (out,)):
        e.store(out, exp(Lane.filled(e, number)).value)
    return module.compiled()
out = np.zeros(16, sys.argv[1])
for number in range(10):
    key = f"{sys.argv[1]} {number}"
    code = cache.object_code("a number", key, lambda: build(float(number)))
    machine.Library(code, ["f"]).function("f", 1)(out.ctypes.data)
    print(out.tobytes().hex())
"""


def start(folder, dtype="float32", first="", root=ROOT, script=LIGHT, **variables):
    """A process that prints what compiled code gives."""
    environ = {k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME"}
    environ |= {"TINYGRAD_RNN_CACHE": str(folder), "PYTHONPATH": str(root), **variables}
    environ["PYTHONDONTWRITEBYTECODE"] = "1"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, dtype, first],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder.parent,
    )


def result(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and not err, err
    return out


@pytest.fixture
def tree(tmp_path):
    """A copy of the package, which nobody else edits."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tinygrad_rnn", tmp_path / "tree/tinygrad_rnn", ignore=ignored)
    return tmp_path / "tree"


QUIET = "from tinygrad_rnn.kernels import cache; cache.SLOW = 60"  # the machine may be busy


@pytest.mark.parametrize("script", [LIGHT, pytest.param(TRAIN, marks=pytest.mark.slow)])
def test_eight_processes_start_cold_at_once(folder, tree, script):
    dtypes = ["float32", "float64"] * 4
    processes = [start(folder, dtype, QUIET, tree, script) for dtype in dtypes]
    found = [result(p) for p in processes]
    assert len(set(zip(dtypes, found, strict=True))) == 2
    before = {p: p.stat().st_ino for p in files(folder)}
    assert len(before) == (20 if script is LIGHT else 6) and {p.suffix for p in before} == {".o"}
    assert result(start(folder, "float64", QUIET, tree, script)) == found[1]
    assert {p: p.stat().st_ino for p in files(folder)} == before


EDIT = """
from pathlib import Path
path = Path(tg.__file__).parent / "kernels/pointwise/exponential.py"
path.write_text(path.read_text().replace("math.log2(math.e)", "math.log2(2.5)"))
"""


def test_edited_kernel_even_while_a_process_runs(folder, tree):
    path = tree / "tinygrad_rnn/kernels/pointwise/exponential.py"
    source = path.read_text()
    right = result(start(folder, first=QUIET + EDIT, root=tree))  # imports, edits, compiles
    assert path.read_text() != source and not files(folder)
    edited = result(start(folder, first=QUIET, root=tree))
    path.write_text(source)
    assert edited != right == result(start(folder, first=QUIET, root=tree))


def test_read_only_install_without_a_home(folder, tree):
    for path in (*tree.rglob("*"), tree):
        path.chmod(0o555 if path.is_dir() else 0o444)
    nowhere = {"TINYGRAD_RNN_CACHE": "", "HOME": "/dev/null"}
    try:
        found = result(start(folder, "float32", QUIET, tree, TRAIN, **nowhere))
    finally:
        for path in (tree, *tree.rglob("*")):
            path.chmod(0o755)
    assert len(found.split()) == 2


# Size


@pytest.fixture
def small(folder, monkeypatch):
    """A cache with room for ten programs, which is looked through after every new one."""
    size = filled(folder).stat().st_size
    monkeypatch.setattr(cache, "PRUNING", "")
    monkeypatch.setattr(cache, "LIMIT", 10 * size)
    return folder


def test_what_was_used_longest_ago_is_removed(small):
    mine = small / "notes.txt"
    mine.write_text("not a program")
    for k in range(30):
        Programs()(k + 0.25)
        assert Programs()(1.5) == (1.5, False)
        for path in files(small):  # time passes
            about = path.stat()
            os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns - 10**9))
    assert len(files(small)) <= 12
    assert Programs()(29.25) == (29.25, False)
    assert Programs()(0.25) == (0.25, True)
    assert mine.exists()


@pytest.mark.parametrize("seconds", [0, 2**32])
def test_wrong_clock(small, seconds):
    for k in range(30):
        assert Programs()(k + 0.25) == (k + 0.25, True)
        assert Programs()(k + 0.25) == (k + 0.25, False)
        for path in files(small):
            os.utime(path, (seconds, seconds))
    assert len(files(small)) <= 12


def test_size_is_looked_after_now_and_then(folder, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 10 * filled(folder).stat().st_size)
    for k in range(1000):
        before = len(files(folder))
        Programs()(k + 0.25)
        if len(files(folder)) < before:
            return
    pytest.fail("nothing was removed")


def test_leftovers_of_killed_processes_are_removed(small):
    path = files(small)[0]
    for k in range(20):
        path.with_name(f"{path.name}.{k:016x}").write_bytes(path.read_bytes())
    Programs()(2.5)
    assert len(files(small)) <= 12


def test_many_prune_write_and_read_at_once(small, monkeypatch):
    monkeypatch.setattr(cache, "LOCK", threading.Semaphore(99))  # as many processes would
    wrong = []

    def work(seed):
        for k in np.random.default_rng(seed).integers(30, size=25):
            try:
                if Programs()(k + 0.25)[0] != k + 0.25:
                    wrong.append(k)
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Time


def slowly(seconds):
    """A compilation on a slow machine."""
    time.sleep(seconds)
    return Programs().build(1.5)


def lines(caplog):
    assert {r.name for r in caplog.records} <= {"tinygrad_rnn"}
    return [r.getMessage() for r in caplog.records]


def test_user_is_told_of_slow_compiling(folder, caplog, monkeypatch):
    monkeypatch.setattr(cache, "SLOW", SLOW)
    for _ in range(2):
        cache.object_code("my cell", "key", lambda: slowly(1.5))
    text = "tinygrad_rnn: compiling my cell, which may take some seconds"
    assert lines(caplog) == [f"{text} (it is kept in {folder})"]
    caplog.clear()
    monkeypatch.setattr(cache, "SLOW", 0.05)
    monkeypatch.setenv("TINYGRAD_RNN_CACHE", "/dev/null")
    cache.object_code("my cell", "key", lambda: slowly(0.5))
    (line,) = lines(caplog)
    assert line.startswith(f"{text} (not kept: ") and "set TINYGRAD_RNN_CACHE to a private" in line
    caplog.clear()
    with caplog.at_level(logging.ERROR, "tinygrad_rnn"):
        cache.object_code("my cell", "another", lambda: slowly(0.5))
    assert not caplog.records


def test_user_is_told_on_the_error_stream(folder, tree):
    slow = "from tinygrad_rnn.kernels import cache; cache.SLOW = 0.001"
    process = start(folder, first=slow, root=tree, script=TRAIN)
    out, err = process.communicate(timeout=60)
    names = ["products of float32", "rnn_tanh, forward", "rnn_tanh, backward"]
    told = [line.split("compiling ")[1].split(", which")[0] for line in err.splitlines()]
    assert process.returncode == 0 and sorted(told) == sorted(names)
    assert out == result(start(folder, first=slow, root=tree, script=TRAIN))  # reading is silent


# Threads and forks


def test_two_threads_compile_once(folder):
    programs, found = Programs(), []
    threads = [threading.Thread(target=lambda: found.append(programs(1.5))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [number for number, _ in found] == [1.5] * 4 and programs.built == 1


def child_ends_well(work):
    """Whether a forked process does this work in time."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(sys.exc_info()[0] is not None)
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    return ended == (child, 0)


def compiled():
    assert Programs()(1.5) == (1.5, True)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_a_thread_compiles(folder):
    begun = threading.Event()

    def build():
        begun.set()
        return b"".join(Programs().build(k) for k in range(20))

    thread = threading.Thread(target=lambda: cache.object_code("many", "key", build))
    thread.start()
    begun.wait()
    assert child_ends_well(compiled)
    thread.join()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_a_thread_packs_weights(folder, monkeypatch):
    layer, x, begun = tg.nn.RNN(2, 3), tg.ones(2, 1, 2), threading.Event()
    pack = Packing._pack

    def slowly_packed(*args):
        begun.set()
        time.sleep(0.1)
        pack(*args)

    monkeypatch.setattr(Packing, "_pack", slowly_packed)
    thread = threading.Thread(target=lambda: layer(x))
    thread.start()
    begun.wait()
    assert child_ends_well(lambda: layer(x))
    thread.join()
