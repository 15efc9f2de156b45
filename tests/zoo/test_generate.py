"""All models answer alike, what they write is what they expect, and what is new is counted."""

import dataclasses
import doctest
import functools
import importlib
import importlib.util
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zoo import scripts
from tinygrad_rnn import saving
from zoo import char_lm, fixed_window_lm, generate, ngram_lm, word_lm
from zoo.generate import new_share, novelty
from zoo.models import trained
from zoo.models.predictors import Carrying, Counting, Windowed, drawn, opening

ROOT = Path(__file__).resolve().parents[2]
WORDS = "the cat sat on a mat and then it ran".split(" ")
PEOPLE = random.Random(0)
CATS = "\n".join(" ".join(PEOPLE.choices(WORDS, k=8)) for _ in range(120)) + "\n"
SMALL = "--hidden 8 --embedding 6 --updates 40 --batch 4 --length 16 --lr 0.01"
DEEP = "--cell gru --layers 2 --connection residual --dropout 0.1 --ensemble 3"
TRAININGS = {
    "char_lm": (char_lm, SMALL),
    "char_lm, several": (char_lm, f"{SMALL} {DEEP}"),
    "word_lm": (word_lm, "--hidden 8 --embedding 6 --epochs 2 --batch 4 --length 8"),
    "fixed_window_lm": (fixed_window_lm, "--embedding 5 --hidden 6 --epochs 1 --windows 2 3"),
    "ngram_lm": (ngram_lm, "--orders 1 3 --methods kneser-ney"),
    "ngram_lm of characters": (ngram_lm, "--orders 1 4 --methods kneser-ney --unit character"),
}

pytest.importorskip("tqdm")
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model of every script, all of one text."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "cats.txt").write_text(CATS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, (script, options) in TRAININGS.items():
            out = ["--data", "cats.txt", "--out", name, *options.split()]
            script.main([*out, "--sample", "1"] if script is ngram_lm else out)
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture
def refused(capsys):
    return functools.partial(scripts.refused, generate.main, "new of them", capsys)


# One face for all models.


@pytest.mark.parametrize("name", TRAININGS)
def test_what_a_model_expects_is_a_distribution_however_the_text_is_cut(name):
    model = trained.load(Path(name)).model
    ids = model.tokens.encode("the cat sat\non a mat and\n")
    whole, _ = model.read(ids)
    assert whole.shape == (len(ids), len(model.tokens)) and (whole[:, 0] == -np.inf).all()
    assert np.exp(whole).sum(axis=1) == pytest.approx(np.ones(len(ids)))
    state, parts = None, []
    for part in np.split(ids, [1, 4, 5, 6, 9]):
        rows, state = model.read(part, state)
        parts.append(rows)
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-6)
    assert not np.allclose(whole[-1, 1:], whole[0, 1:], atol=1e-3)  # what was read matters


@pytest.mark.parametrize("name", TRAININGS)
def test_losses_are_those_of_the_tokens_one_by_one(name):
    model = trained.load(Path(name)).model
    ids = model.tokens.encode(CATS[:800])
    rows, _ = model.read(ids)
    slow = [-rows[k - 1, ids[k]] for k in range(1, len(ids)) if ids[k]]
    assert len(slow) > 150 or model.tokens.unit == "word"
    np.testing.assert_allclose(model.losses(ids), slow, rtol=1e-4)


@pytest.mark.parametrize("name", ["char_lm", "char_lm, several", "word_lm", "fixed_window_lm"])
def test_a_model_is_as_good_here_as_in_its_own_script(name):
    found = trained.load(Path(name))
    text = trained.learnt(found)
    result = json.loads(Path(name, "result.json").read_text(encoding="utf-8"))
    mean = float(found.model.losses(found.model.tokens.encode(text.valid)).mean())
    if name.startswith("char_lm"):
        own = result["nats per character"]["validation"]  # of several streams
        assert mean == pytest.approx(own, abs=0.1)
    else:
        ppl = result["perplexities"]
        ppl = ppl[-1] if isinstance(ppl, list) else ppl
        assert math.exp(mean) == pytest.approx(ppl["validation"], rel=1e-3)


def test_every_script_has_its_kind_of_model():
    kinds = {name: type(trained.load(Path(name)).model) for name in TRAININGS}
    assert kinds == {
        "char_lm": Carrying, "char_lm, several": Carrying, "word_lm": Carrying,
        "fixed_window_lm": Windowed,
        "ngram_lm": Counting, "ngram_lm of characters": Counting,
    }  # fmt: skip
    assert "kneser-ney, n = 3" in trained.load(Path("ngram_lm")).about
    assert "3 networks of gru" in trained.load(Path("char_lm, several")).about
    assert "m = 3" in trained.load(Path("fixed_window_lm")).about


# What is written.


@pytest.mark.parametrize("name", TRAININGS)
def test_the_likeliest_token_is_written_at_temperature_0(name):
    model = trained.load(Path(name)).model
    text = opening(model.tokens, "the cat")
    rng = np.random.default_rng(0)
    for token in drawn(model, text, 12, rng, temperature=0.0):
        rows, _ = model.read(text)
        assert rows[-1, token] == pytest.approx(rows[-1].max(), abs=1e-5)
        ended = model.tokens.unit == "word" and token == 1
        text = np.append(text, [token, 0][: 1 + ended])


@pytest.mark.parametrize("name", TRAININGS)
def test_tokens_come_as_often_as_the_model_says(name):
    model = trained.load(Path(name)).model
    start, rng = opening(model.tokens, "the"), np.random.default_rng(1)
    expected = np.exp(model.read(start)[0][-1])
    firsts = [next(drawn(model, start, 1, rng)) for _ in range(400)]
    shares = np.bincount(firsts, minlength=len(expected)) / 400
    assert np.abs(shares - expected).max() < 4 * math.sqrt(0.25 / 400)
    top = {int(k) for k in np.argsort(-expected)[:2]}
    assert {next(drawn(model, start, 1, rng, top_k=2)) for _ in range(60)} <= top
    assert next(drawn(model, start, 1, rng, top_p=1e-6)) == int(np.argmax(expected))


def shown(capsys, *arguments):
    capsys.readouterr()
    result = generate.main(list(map(str, arguments)))
    text, _, table = capsys.readouterr().out.rpartition("\n\n")
    return text, table, result


@pytest.mark.parametrize("name", TRAININGS)
def test_prompt_seed_length_and_table(name, capsys):
    options = (name, "--length", 60, "--prompt", "the cat")
    text, table, result = shown(capsys, *options)
    assert text.startswith("the cat") and result["seed"] == 0
    assert shown(capsys, *options)[0] == text
    assert shown(capsys, *options, "--seed", 1)[0] != text
    tokens = trained.load(Path(name)).model.tokens
    more = text.removeprefix("the cat")
    length = len(more) if tokens.unit == "character" else len(re.findall(r"\S+|\n", more))
    assert abs(length - 60) <= 1  # a line end at the end is not seen
    head, columns, *rows = table.splitlines()
    assert head == f"{result['model']}; cats.txt" and "new of them" in columns
    assert [int(row.split()[0]) for row in rows] == list(range(1, 9))
    shares = [row["written"] for row in result["new"]]
    assert all(0 <= share <= 1 for share in shares if share is not None)


def test_a_7_gram_model_at_temperature_0_writes_by_heart(capsys):
    """The likeliest after three tokens is always what was counted."""
    *_, result = shown(capsys, "ngram_lm", "--temperature", 0, "--length", 30)
    assert [row["written"] for row in result["new"][:3]] == [0, 0, 0]


def test_out_gets_the_text_and_a_result_without_paths(folder, capsys):
    text, _, result = shown(capsys, "char_lm", "--length", 100, "--out", folder / "kept")
    assert Path("kept/text.txt").read_text(encoding="utf-8") == text
    saved = json.loads(Path("kept/result.json").read_text(encoding="utf-8"))
    assert saved == result and str(folder) not in json.dumps(saved)
    assert saved["command"] == "python -m zoo.generate char_lm --length 100 --out kept"
    assert set(saved["versions"]) == {"python", "numpy", "tinygrad_rnn"}


# What is new.

words = st.lists(st.sampled_from("abc"), max_size=12)


@given(words, words, st.integers(1, 8))
def test_new_is_what_is_nowhere_in_the_other_text(written, known, n):
    def grams(text):
        return [text[k : k + n] for k in range(len(text) - n + 1)]

    new = [gram not in grams(known) for gram in grams(written)]
    assert new_share(written, known, n) == (np.mean(new) if new else None)


@given(words, words)
def test_longer_n_grams_are_newer_and_a_copy_is_not_new(written, known):
    shares = [row["written"] for row in novelty(written, [], known) if row["written"] is not None]
    assert {new_share(known, written + known, n) for n in range(1, 9)} <= {0, None}
    if shares and shares[0] == 1:
        assert set(shares) == {1}


# What cannot be used.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: expected a folder with checkpoint.safetensors or, of ngram_lm, "
                      "result.json, got neither; train a model first"),
        (["char_lm", "--prompt", "cat é"], "--prompt: expected characters of the text, got ['é']"),
        (["word_lm", "--prompt", "a dog"], "--prompt: expected words of the text, got ['dog']"),
        (["ngram_lm", "--prompt", "dog"], "--prompt: expected words of the text, got ['dog']"),
        (["char_lm", "--data", "stdlib"], "--data stdlib: expected the text that the model has"),
        (["ngram_lm", "--data", "stdlib"], "--data stdlib: expected the text that the model has"),
        (["char_lm", "--data", "gone.txt"], "got 'gone.txt': No such file or directory; name the "
                                            "text's file with --data"),
        (["char_lm", "--data", ""], "--data: expected a name or a path, got ''; leave it out"),
        (["char_lm", "--length", "0"], "--length: expected a whole number in 1..10000000, got '0'"),
        (["char_lm", "--top-k", "0"], "--top-k: expected a whole number in 1..10000000, got '0'"),
        (["char_lm", "--top-p", "1.5"], "--top-p: expected a number in 1e-09..1, got '1.5'"),
        (["char_lm", "--temperature", "-1"], "--temperature: expected a number in 0..1000000000.0"),
        (["char_lm", "--seed", "x"], "--seed: expected a whole number in 0..4294967295, got 'x'"),
        (["char_lm", "--out", "char_lm"], "char_lm: expected a folder without files *.json*"),
        ([], "the following arguments are required: FOLDER"),
    ],
)  # fmt: skip
def test_bad_arguments_end_with_2_and_a_line(arguments, message, refused):
    assert message in refused(*arguments)


def test_a_checkpoint_of_another_script_is_named(tmp_path, refused):
    for state, got, remedy in [
        ({"script": "hello"}, "hello", "another folder"),
        ({}, "None", "another folder"),
        ({"script": "compare_lm"}, "compare_lm", "one of the folders in it"),
    ]:
        saving.save(tmp_path / "checkpoint.safetensors", {}, state)
        message = refused(tmp_path)
        expected = "expected a checkpoint of char_lm, word_lm, fixed_window_lm, "
        assert f"{expected}got one of {got}; name {remedy}" in message
        assert message.startswith(f"generate: {tmp_path / 'checkpoint.safetensors'}: expected a")


@pytest.mark.parametrize("script", ["char_lm", "word_lm", "fixed_window_lm"])
def test_a_checkpoint_of_another_version_is_named(script, tmp_path, refused):
    recipe = dataclasses.asdict(char_lm.Recipe()) | {"cell": "lsd"}
    saving.save(tmp_path / "checkpoint.safetensors", {}, {"script": script, "recipe": recipe})
    assert f"expected a checkpoint of this version of {script}, got" in refused(tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path, refused):
    blob = bytearray(Path("char_lm/checkpoint.safetensors").read_bytes())
    blob[len(blob) // 2] ^= 1
    (tmp_path / "checkpoint.safetensors").write_bytes(blob)
    assert "expected an intact checkpoint" in refused(tmp_path)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ('{"command": "python -m zoo.hello", "recipe": {}}', "got one of zoo.hello; "),
        ('{"command": "python -m zoo.ngram_lm", "recipe": {"k": 3}, "text": {}}', "'name'"),
        ('{"command": "python -m zoo.ngram_lm", "recipe": {"depth": 3}}', "argument 'depth'"),
        *[("{}", "'command'"), ("", "Expecting value"), ("{", "Expecting"), ("[1]", "list ind")],
    ],
)
def test_a_result_of_another_script_is_named(text, got, tmp_path, refused):
    (tmp_path / "result.json").write_text(text)
    message = refused(tmp_path)
    assert "result.json: expected a result of this version of ngram_lm, got" in message
    assert got in message and message.endswith("; name another folder")


@pytest.mark.parametrize(
    ("methods", "got"), [(["magic"], "one with the method 'magic'"), ([], "index out of range")]
)
def test_a_result_with_other_methods_is_named(methods, got, tmp_path, refused):
    result = json.loads(Path("ngram_lm/result.json").read_text(encoding="utf-8"))
    result["recipe"]["methods"] = methods
    (tmp_path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    message = refused(tmp_path)
    assert "expected a result of this version of ngram_lm, got" in message and got in message


def test_the_checkpoint_before_is_named_where_the_last_is_gone(tmp_path, refused):
    last = Path("char_lm/checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint.previous.safetensors").write_bytes(last)
    (tmp_path / "result.json").write_bytes(Path("char_lm/result.json").read_bytes())
    message = refused(tmp_path)
    assert "expected an intact checkpoint, got 'No such file" in message
    assert "rename the previous checkpoint, '" in message and "checkpoint.previous" in message


def test_a_text_that_has_changed_is_named(tmp_path, monkeypatch, folder, refused):
    monkeypatch.chdir(tmp_path)
    Path("cats.txt").write_text("another " * 99)
    for name in ("char_lm", "ngram_lm"):
        message = refused(folder / name)
        assert "--data cats.txt: expected the text that the model has learnt, cats.txt" in message
    for name in ("char_lm", "ngram_lm"):
        assert generate.main([str(folder / name), "--data", str(folder / "cats.txt")])["new"]


def test_ctrl_c_ends_with_one_line_and_promises_nothing(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "drawn", interrupted)
    with pytest.raises(SystemExit) as end:
        generate.main(["char_lm"])
    assert end.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "generate: stopped at once"


# What is shown.


def test_help_is_readable(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        generate.main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert generate.__doc__ in out and max(map(len, out.splitlines())) <= 100


def test_it_runs_as_a_command_in_any_locale(folder):
    done = subprocess.run(
        [sys.executable, "-m", "zoo.generate", "char_lm", "--length", "30"],
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, cwd=folder, encoding="ascii",
    )  # fmt: skip
    assert done.returncode == 0 and "new of them" in done.stdout


@pytest.mark.parametrize(
    "module", ["generate", "models.predictors", "models.trained", "running.training"]
)
def test_the_examples_run(module):
    found = doctest.testmod(importlib.import_module(f"zoo.{module}"))
    assert found.failed == 0


def test_the_page_shows_the_stored_results():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = (ROOT / "docs/zoo/generate.md").read_text(encoding="utf-8")
    assert tables.rewritten(page) == page
    assert "| pydoc |" in page
    assert tables.rewritten(page.replace("| pydoc |", "| other |")) == page
