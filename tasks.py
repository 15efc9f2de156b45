"""The project's commands, for a machine with nothing but Python: python3 tasks.py --help."""

import argparse
import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OLDEST = (3, 11)


PYTEST = ["-m", "pytest", "-n", "auto", "--dist", "loadfile"]  # a process for each core

# Each task returns the extras it needs and the commands it runs, as arguments of the venv's Python.


def main(args):
    """train a character-level language model and let it write"""
    return "zoo", [["-m", "zoo.char_lm", *args]]


def test(args):
    """run the test suite; ARGS go to pytest (-x, -k NAME, a file, -n 0 for one process)"""
    return "test", [[*PYTEST, *args]]


def slow(args):
    """run the long tests, which `test` leaves out"""
    return "test", [["-m", "pytest", "-m", "slow", *args]]


def parity(args):
    """run the comparisons with torch and ONNX, which are installed for them"""
    return "test,parity", [[*PYTEST, "-m", "parity", *args]]


def check(args):
    """lint, formatting and types"""
    ruff = ["-m", "ruff"]
    return "dev", [[*ruff, "check", "."], [*ruff, "format", "--check", "."], ["-m", "mypy", *args]]


def bench(args):
    """run benchmarks/NAME.py beside torch: bench NAME [ARGS]"""
    names = sorted(path.stem for path in ROOT.glob("benchmarks/[!_]*.py"))
    if not args or args[0] not in names:
        fail(f"bench: expected one of: {', '.join(names) or '(there are no benchmarks yet)'}", 2)
    return "bench", [["-m", f"benchmarks.{args[0]}", *args[1:]]]


def docs(args):
    """bring the pictures and pages of docs/ up to date, write the API's pages into site/"""
    scripts = [[f"docs/{name}.py"] for name in ("layer_pictures", "layer_pages", "tables")]
    pdoc = ["-m", "pdoc", "--docformat", "google", "--math", "-o", "site"]
    return "docs,test", [*scripts, [*pdoc, "tinygrad_rnn", *args]]


TASKS = {task.__name__: task for task in (main, test, slow, parity, check, bench, docs)}


def fail(message, status=1):
    print(f"tasks.py: {message}", file=sys.stderr)
    raise SystemExit(status)


def run(*command, graceful=False):
    """Run a command to its end and return its status as a shell does: 128 + n for signal n.

    Ctrl-C goes on to the command, then ends this program with 130; one that is `graceful` and
    finishes well in spite of it (to save its work, say) has simply finished.
    """
    child = subprocess.Popen(command, cwd=ROOT)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    interrupted = False
    while child.returncode is None:
        try:
            child.wait()
        except KeyboardInterrupt:
            interrupted = True
            if os.name == "posix" and not os.isatty(0):  # a terminal has told the child already
                child.send_signal(signal.SIGINT)
    if interrupted and not (graceful and child.returncode == 0):
        raise KeyboardInterrupt
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def environment(folder, extras):
    """Return the Python of the virtual environment, made and filled unless its stamp is current."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / f".installed-{extras}"
    if not python.exists():
        make(folder)
    state = f"{ROOT} {python.resolve()}\n".encode() + (ROOT / "pyproject.toml").read_bytes()
    digest = hashlib.sha256(state).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    print(f"tasks.py: installing tinygrad-rnn[{extras}] into {folder} (once)", flush=True)
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode:
        run(python, "-m", "ensurepip")
    install = ["install", "--quiet", "--disable-pip-version-check", "--require-virtualenv"]
    if status := run(python, "-m", "pip", *install, "--editable", f"{ROOT}[{extras}]"):
        fail("pip failed, as told above; check network and disk space, then try again", status)
    stamp.write_text(digest)
    return python


def make(folder):
    """Make an empty virtual environment; never clear a folder that is something else."""
    if folder.exists() and not (folder / "pyvenv.cfg").exists() and any(folder.iterdir()):
        fail(f"{folder} is no virtual environment; name a new folder with --venv DIR", 2)
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        fail("this Python lacks its venv module; install it (Debian: apt install python3-venv)")
    if status := run(sys.executable, "-m", "venv", "--clear", folder):
        fail(f"cannot make {folder}, as told above; name another with --venv DIR", status)


def start(argv):
    if sys.version_info < OLDEST:
        fail("needs Python {}.{} or newer, got {}.{}".format(*OLDEST, *sys.version_info[:2]))
    parser = argparse.ArgumentParser(
        description="Make a virtual environment with what TASK needs, then run TASK in it.",
        epilog="tasks:\n" + "".join(f"  {name:8}{TASKS[name].__doc__}\n" for name in TASKS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    venv_help = "the environment's folder (default: .venv); it keeps the Python that made it"
    parser.add_argument("--venv", metavar="DIR", type=Path, default=ROOT / ".venv", help=venv_help)
    parser.add_argument("task", metavar="TASK", nargs="?", help="one of the tasks below")
    parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER, help="passed to the task")
    options = parser.parse_args(argv)
    if options.task not in TASKS:
        fail(f"expected a task, one of: {', '.join(TASKS)}; got {options.task or 'none'}", 2)
    extras, commands = TASKS[options.task](options.args)
    python = environment(options.venv.absolute(), extras)
    for command in commands:
        if status := run(python, *command, graceful=True):
            return status
    return 0


if __name__ == "__main__":
    try:
        sys.exit(start(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        fail(f"{error}; name another folder with --venv DIR")
