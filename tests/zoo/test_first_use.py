"""Who runs a script for the first time sees one line when it cannot start, or is not to."""

import importlib
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import zoo
from zoo import char_lm
from zoo.running import runs

ROOT = Path(__file__).resolve().parents[2]
CLOSED = "import os, sys; os.close(2); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
SCRIPTS = ["char_lm", "word_lm", "fixed_window_lm", "ngram_lm", "compare_lm"]

pytest.importorskip("tqdm")


def started(script, folder, tqdm):
    """The script in a process of its own, where the package tqdm is this source."""
    (folder / "tqdm.py").write_text(tqdm, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", f"zoo.{script}", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("script", [*SCRIPTS, "generate", "score"])
def test_a_missing_package_is_named_with_what_to_do(script, tmp_path):
    missing = "raise ModuleNotFoundError('no', name='tqdm')"
    process = started(script, tmp_path, missing)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "") and err.count("\n") == 1
    assert "expected the package tqdm, got no such package; pip install -e '.[zoo]'" in err


def test_the_packages_that_are_named_are_those_of_the_extra():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (extra,) = re.findall(r"^zoo = \[(.*)\]$", project, re.MULTILINE)
    assert sorted(zoo.EXTRA) == sorted(re.findall(r'"(\w+)', extra))


def test_other_errors_of_an_import_keep_their_traceback(tmp_path):
    process = started("char_lm", tmp_path, "import a_module_that_nobody_has")
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "Traceback" in err and "a_module_that_nobody_has" in err


SMALL = ["--hidden", "4", "--updates", "4", "--batch", "2", "--length", "8", "--data", "cats.txt"]


@pytest.mark.skipif(os.name != "posix", reason="closes a file by its POSIX number")
@pytest.mark.parametrize("arguments", [["char_lm", *SMALL], ["ngram_lm", "--data", "cats.txt"]])
def test_a_script_runs_without_standard_error(arguments, tmp_path):
    (tmp_path / "cats.txt").write_text("the cat sat on the mat\n" * 40, encoding="utf-8")
    words = [sys.executable, "-c", CLOSED, "-m", f"zoo.{arguments[0]}", *arguments[1:]]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*words, "--out", "out"], cwd=tmp_path, env=env, stdout=subprocess.PIPE)
    assert done.returncode == 0 and (tmp_path / "out" / "result.json").exists()
    again = subprocess.run([*words, "--out", "out"], cwd=tmp_path, env=env, stdout=subprocess.PIPE)
    assert (again.returncode, again.stdout) == (2, b"")  # told nowhere, and not among the results


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
@pytest.mark.parametrize("script", ["ngram_lm", "char_lm"])
def test_ctrl_c_while_a_script_is_read_ends_without_a_traceback(script, tmp_path):
    reading = "import time\nprint('reading', flush=True)\ntime.sleep(60)"
    process = started(script, tmp_path, reading)
    assert process.stdout.readline() == "reading\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == "" and process.returncode == -signal.SIGINT


@pytest.mark.skipif(os.name != "posix", reason="raises a POSIX signal")
def test_ctrl_c_is_answered_as_soon_as_a_script_has_begun(capsys):
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the package leaves it
    try:
        with pytest.raises(SystemExit) as end:
            runs.ending_well("cat", lambda: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert end.value.code == 130
    expected = "cat: stopped at once; --resume goes on from what was saved\n"
    assert capsys.readouterr().err == expected


@pytest.mark.skipif(os.name != "posix", reason="closes a POSIX pipe")
def test_output_that_nobody_reads_ends_a_script_without_a_riddle(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as end:
            runs.ending_well("cat", lambda: print("miaow", flush=True), resumes=False)
        monkeypatch.undo()
    assert end.value.code == 141  # and what is left does not disturb the end
    assert capsys.readouterr().err == "cat: stopped, for nobody reads what it prints\n"


def test_too_little_memory_says_what_to_ask_for(capsys):
    with pytest.raises(SystemExit) as end:
        char_lm.main(["--data", "pydoc", "--hidden", "100000000"])  # 10^17 bytes
    err = capsys.readouterr().err
    assert end.value.code == 2 and "Unable to allocate" in err
    assert err.endswith("; ask for fewer units, a smaller batch or shorter pieces\n")


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_empty_name_is_not_the_default(script, capsys):
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"zoo.{script}").main(["--data", ""])
    assert end.value.code == 2
    expected = "argument --data: expected a name or a path, got ''; leave it out\n"
    assert capsys.readouterr().err.endswith(expected)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_picture_without_matplotlib_is_refused_before_anything_is_done(
    script, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    option = "--figure" if script == "compare_lm" else "--curve"
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"zoo.{script}").main([option, "x.png"])
    assert end.value.code == 2 and not list(tmp_path.iterdir())
    assert "expected the package matplotlib, got no such package" in capsys.readouterr().err


def test_runs_that_begin_together_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: runs.made_folder(None, "cat", "*.png"), range(40)))
    assert sorted(map(str, found)) == sorted(["runs/cat", *(f"runs/cat-{k}" for k in range(2, 41))])
    assert {runs.made_folder(Path("mine"), "cat", "*.png") for _ in range(3)} == {Path("mine")}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_run_that_has_just_begun_keeps_its_folder(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cats.txt").write_text("the cat sat on a mat\n" * 40, encoding="utf-8")
    module, small = importlib.import_module(f"zoo.{script}"), ["--data", "cats.txt", "--least", "1"]
    options = {
        "char_lm": ["--data", "cats.txt", "--hidden", "4", "--updates", "1"],
        "word_lm": [*small, "--hidden", "4", "--epochs", "1"],
        "fixed_window_lm": [*small, "--hidden", "4", "--epochs", "1", "--windows", "1"],
        "ngram_lm": [*small, "--orders", "1", "--methods", "add-k"],
        "compare_lm": [*small, "--models", "5-gram"],
    }[script]
    place = module.trials if script == "compare_lm" else module
    true, other = place.load_parts, Path(f"runs/{script}-cats")

    def slowly(*arguments):  # while this one reads its text, another one begins
        other.mkdir(parents=True)
        (other / "log.jsonl").write_text("another's\n", encoding="utf-8")
        return true(*arguments)

    monkeypatch.setattr(place, "load_parts", slowly)
    module.main(options)
    assert (other / "log.jsonl").read_text(encoding="utf-8") == "another's\n"
    assert [path.name for path in other.iterdir()] == ["log.jsonl"]
    assert (Path(f"runs/{script}-cats-2") / "result.json").exists()
