"""All models have the same budget and text, a stopped comparison goes on, no traceback is seen."""

import doctest
import functools
import importlib
import importlib.util
import json
import math
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tests.zoo import scripts
from tests.zoo.scripts import cats, posix
from tinygrad_rnn import saving
from zoo import compare_lm, word_lm
from zoo.compared import trials
from zoo.compared.trials import CELLS, MODELS, Recipe, fitted, size
from zoo.models import ngrams, trained
from zoo.models.counts import count
from zoo.models.window_layer import Window

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "--embedding 5 --parameters 400 --batch 4 --length 7 --epochs 2 --seeds 2 --lr 0.004".split()
)
TWO = "--models 5-gram window rnn".split()
CATS = cats(400)

pytest.importorskip("tqdm")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test in a folder of its own, with a text of 400 words."""
    monkeypatch.chdir(tmp_path)
    Path("cats.txt").write_text(CATS, encoding="utf-8")
    return tmp_path


def compare(*arguments, data="cats.txt", small=(*SMALL, *TWO)):
    return compare_lm.main(["--data", data, *small, *map(str, arguments)])


refused = functools.partial(scripts.refused, compare_lm.main, "perplexity")


def checkpoint(folder="runs/compare_lm-cats"):
    return Path(folder, "checkpoint.safetensors")


def timeless(found):
    return [{n: v for n, v in r.items() if n not in TIMES} for r in found["runs"]]


TIMES = ("seconds", "CPU seconds per epoch", "tokens per CPU second")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a comparison finds that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "cats.txt").write_text(CATS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return timeless(compare())


def study(**fields):
    Path("cats.txt").write_text(CATS, encoding="utf-8")
    return trials.study("cats.txt", Recipe(embedding=5, **fields))


# The budget and the text.


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(CELLS)), st.integers(250, 20_000))
def test_a_network_has_as_many_units_as_the_budget_allows(name, budget):
    here = study(parameters=budget)
    units = fitted(here, name)
    assert size(here, name, units) <= budget < size(here, name, units + 1)


def test_a_budget_below_one_unit_names_what_it_takes(capsys):
    least = size(study(), "lstm", 1)
    message = refused(capsys, "--data", "cats.txt", *SMALL, "--models", "lstm", "--parameters", 99)
    assert f"--parameters: expected {least:,} or more, which lstm takes with one unit" in message
    assert message.endswith("got 99; raise it, or lower --embedding") and not Path("runs").exists()
    assert size(study(parameters=least), "lstm", fitted(study(parameters=least), "lstm")) == least


def test_characters_are_those_of_the_words_with_unk_and_line_ends():
    words, letters = study(), study(unit="character")
    assert words.characters == letters.characters and words.digest == letters.digest
    for part, ids in words.ids.items():
        string = words.tokens.decode(ids)
        assert letters.tokens.decode(letters.ids[part]) == string
        assert len(string) == words.characters[part] == letters.text["tokens"][part]
    rare = trials.study("cats.txt", Recipe(least=40))
    assert "<unk>" in rare.tokens.decode(rare.ids["validation"])


def test_bits_of_words_and_of_characters_are_of_the_same_string():
    words, letters = study(), study(unit="character")
    for here, guesses in ((words, 13), (letters, 26)):
        part = here.text["tokens"]["validation"]
        found = trials.judged(here, {"validation": np.full(part, math.log(guesses))})
        bits = part * math.log2(guesses) / here.characters["validation"]
        assert found["validation"]["bits per character"] == pytest.approx(bits)
        assert found["validation"]["perplexity"] == pytest.approx(guesses)


# The models.


def test_a_window_sees_the_last_steps_and_carries_them():
    rng = np.random.default_rng(0)
    layer, x = Window(3, 5, steps=4, rng=rng), rng.standard_normal((9, 2, 3)).astype("float32")
    whole, last = layer(tg.Tensor(x))
    padded = np.concatenate([np.zeros((3, 2, 3)), x])
    w, b = layer.hidden.weight.numpy(), layer.hidden.bias.numpy()
    for t, h in enumerate(whole.numpy()):
        seen = np.concatenate(padded[t : t + 4], axis=-1)
        np.testing.assert_allclose(h, np.tanh(seen @ w.T + b), rtol=1e-5, atol=1e-6)
    assert (last.numpy() == x[-3:]).all()
    first, state = layer(tg.Tensor(x[:2]))
    second, end = layer(tg.Tensor(x[2:]), state)
    np.testing.assert_allclose(
        np.concatenate([first.numpy(), second.numpy()]), whole.numpy(), rtol=1e-6
    )
    assert (end.numpy() == x[-3:]).all()


@pytest.mark.parametrize(("between", "least", "most"), [(3, 1.0, 1.08), (4, 2**0.2, 1.3)])
def test_a_window_and_5_grams_know_four_tokens_and_no_fifth(between, least, most):
    gap = " x" * between
    Path("gap.txt").write_text(f"a{gap} b{gap} " * 160)  # a or b: the other one was last
    learning = "--models 5-gram window --dropout 0 --lr 0.05 --epochs 12 --length 20".split()
    found = compare(*learning, "--parameters", 900, "--seeds", 1, data="gap.txt")
    for line in found["models"]:
        assert least - 1e-3 <= line["perplexity"] < most, line


def test_every_model_is_judged_as_its_own_script_judges():
    found = compare("--models", *MODELS, "--parameters", 900, "--seeds", 1, "--seed", 3)
    rows = {row["model"]: row for row in found["runs"]}
    assert list(rows) == list(MODELS)
    here = study()
    model = ngrams.kneser_ney(count(here.ids["train"], len(here.tokens), 5))
    counted = ngrams.perplexity(model.losses(here.ids["validation"]))
    assert rows["5-gram"]["validation"]["perplexity"] == pytest.approx(counted)
    assert rows["5-gram"]["bytes"] == model.bytes
    same = "--embedding 5 --batch 4 --length 7 --epochs 2 --seed 3 --dropout 0.4".split()
    for name in ("lstm", "rhn"):
        sizes = ["--cell", CELLS[name], "--hidden", str(rows[name]["hidden"])]
        alone = word_lm.main(["--data", "cats.txt", *same, *sizes, "--out", name])
        assert alone["perplexities"]["validation"] == rows[name]["validation"]["perplexity"]
        assert alone["parameters"] == rows[name]["parameters"] <= 900
    for name in CELLS:
        one, thousand = rows[name]["state bytes"]
        assert one == thousand > 0 and rows[name]["bytes"] == 4 * rows[name]["parameters"]


def test_characters_are_compared_too():
    found = compare("--unit", "character", "--parameters", 900)
    assert found["text"]["tokens"] == found["text"]["characters"]
    words = study()
    string = "".join(map(words.tokens.decode, words.ids.values()))
    assert found["text"]["vocabulary"] == len(set(string)) > 10
    for line in found["models"]:
        assert line["bits per character"] == pytest.approx(line["nats"] / math.log(2))
        assert 1 < line["perplexity"] < found["text"]["vocabulary"]
    assert compare_lm.main(["--resume", "--data", "cats.txt"])["runs"] == found["runs"]


def test_summaries_are_of_all_seeds(whole):
    lines = compare_lm.summarised([r | dict.fromkeys(TIMES, 1.0) for r in whole], "validation")
    assert [(line["model"], line["seeds"]) for line in lines] == [
        ("5-gram", 1), ("window", 2), ("rnn", 2)
    ]  # fmt: skip
    values = [row["validation"]["perplexity"] for row in whole if row["model"] == "rnn"]
    assert lines[2]["perplexity"] == pytest.approx(np.mean(values))
    assert (lines[2]["least perplexity"], lines[2]["most perplexity"]) == tuple(sorted(values))
    assert values[0] != values[1]


def test_the_same_seeds_find_the_same_and_a_model_does_not_depend_on_others(whole):
    assert timeless(compare()) == whole
    alone = timeless(compare("--models", "rnn", "--seeds", 1, "--seed", 1))
    assert alone == [row for row in whole if row["model"] == "rnn" and row["seed"] == 1]


def test_a_network_keeps_the_rate_that_suits_its_first_seed_best():
    found = compare("--lr", 1e-6, 0.004, 0.01, "--models", "window", "rnn")
    tried = [(r["model"], r["lr"], r["validation"]["nats"]) for r in found["other rates"]]
    kept = {row["model"]: row for row in found["runs"] if row["seed"] == 0}
    assert len(tried) == 4 and [line["seeds"] for line in found["models"]] == [2, 2]
    for model, rate, nats in tried:
        assert rate != kept[model]["lr"] and nats > kept[model]["validation"]["nats"]
    for row in found["runs"]:
        assert row["lr"] == kept[row["model"]]["lr"] > 1e-6
    assert Path(f"runs/compare_lm-cats/rnn-1-{kept['rnn']['lr']:g}").is_dir()


def test_minutes_give_each_network_the_epochs_that_fit(monkeypatch):
    step = word_lm.train_step

    def slow(run, *arguments):
        before = run.seconds
        state = step(run, *arguments)
        run.seconds = before + (0.5 if run.recipe.cell == "rnn" else 0.25)
        return state

    monkeypatch.setattr(word_lm, "train_step", slow)
    rows = compare("--minutes", 0.5, "--seeds", 1)["runs"]  # 14 updates to an epoch
    assert [row["epochs"] for row in rows] == [1, 8, 4]
    assert [row["seconds"] for row in rows[1:]] == [pytest.approx(28)] * 2
    for row in rows:
        assert 0 < row["CPU seconds per epoch"] * row["tokens per CPU second"] == pytest.approx(392)


# Stop and go on.


@posix
@pytest.mark.parametrize(
    ("owner", "name", "nth"),
    [
        *((word_lm, "train_step", k) for k in (1, 30, 70)),
        *((trials, name, 1) for name in ("counted", "state_bytes")),
        (compare_lm, "save", 3),
        (word_lm, "end_epoch", 3),
    ],
)
def test_a_signal_at_any_point_saves_and_what_is_done_is_not_done_again(
    owner, name, nth, whole, monkeypatch, capsys
):
    calls, function, updates = [], getattr(owner, name), []
    step = word_lm.train_step

    def counting(*args):
        updates.extend([0] * (args[-1] > 1))  # not those that are only timed
        return step(*args)

    def signalling(*args, **options):
        calls.append(0)
        if len(calls) == nth:
            signal.raise_signal(signal.SIGTERM)
        return function(*args, **options)

    if function is step:
        function = counting
    else:
        monkeypatch.setattr(word_lm, "train_step", counting)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, signalling)
        with pytest.raises(SystemExit) as end:
            compare("--out", "cut in two")
    assert end.value.code == 143
    assert "go on with --resume --data cats.txt --out 'cut in two'" in capsys.readouterr().err
    monkeypatch.setattr(word_lm, "train_step", counting)
    found = compare_lm.main(["--resume", "--out", "cut in two"])
    assert timeless(found) == whole
    assert len(updates) == sum(row["updates"] for row in whole if row["seed"] is not None)


@posix
def test_a_second_ctrl_c_stops_at_once_without_a_traceback(monkeypatch, capsys):
    def twice(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(word_lm, "train_step", twice)
    message = refused(capsys, "--data", "cats.txt", *SMALL, *TWO, code=130)
    assert message == "compare_lm: stopped at once; --resume goes on from what was saved"


def test_a_finished_comparison_tells_the_same_again(capsys, monkeypatch):
    first = compare()
    shown = capsys.readouterr().out
    monkeypatch.setattr(word_lm, "train_step", None)
    again = compare_lm.main(["--resume", "--data", "cats.txt"])
    assert again["runs"] == first["runs"]
    assert capsys.readouterr().out.splitlines()[-4:] == shown.splitlines()[-4:]


def test_resume_refuses_another_text_and_another_recipe(capsys):
    compare("--out", "a")
    Path("dogs.txt").write_text("dogs and more dogs\n" * 50)
    start = "compare_lm: --resume: a/checkpoint.safetensors: expected"
    got = refused(capsys, "--resume", "--out", "a", "--data", "dogs.txt")
    assert got.startswith(f"{start} the same text as before in --data cats.txt, got something")
    got = refused(capsys, "--resume", "--out", "a", "--parameters", 500, "--models", "lstm")
    assert got.startswith(f"{start} --models 5-gram window rnn and --parameters 400, got")
    assert compare_lm.main(["--resume", "--out", "a", "--parameters", "400", "--models", *TWO[1:]])


def test_a_checkpoint_of_another_script_is_refused(capsys):
    Path("other").mkdir()
    saving.save(checkpoint("other"), {}, {"script": "word_lm"})
    message = refused(capsys, "--resume", "--out", "other")
    assert "expected a checkpoint of this version of compare_lm, got one of word_lm" in message


def test_without_a_checkpoint_path_and_remedy_are_named(capsys):
    message = refused(capsys, "--resume", "--out", "else/where")
    assert message.startswith("compare_lm: else/where: expected a folder with files checkpoint")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "cnn"], "--models: invalid choice: 'cnn'"),
        (["--parameters", "0"], "--parameters: expected a whole number in 1..1000000000, got '0'"),
        (["--minutes", "-1"], "--minutes: expected a number in 0..1000000.0, got '-1'"),
        (["--dropout", "1"], "--dropout: expected a number in 0..0.99, got '1'"),
        (["--threads", "0"], "--threads: expected a whole number in 1..1024, got '0'"),
        (["--figure", "x.jpg"], "--figure: expected a name that ends in .png, got 'x.jpg'"),
        (["--figure", "no/x.png"], "--figure: expected a name in an existing folder, got no/x.png"),
        (["--data", "none"], "pydoc, ptb, got 'none': No such"),
        (["--out", "cats.txt/below"], "cats.txt/below'; name another place"),
    ],
)
def test_bad_arguments_end_with_2_and_a_line(arguments, message, capsys):
    assert message in refused(capsys, "--data", "cats.txt", *SMALL, *TWO, *arguments)
    assert not Path("runs").exists()


def test_a_diverging_network_is_named_and_the_others_stay(capsys):
    message = refused(capsys, "--data", "cats.txt", *SMALL, *TWO, "--lr", "1e8")
    assert "expected a finite gradient and a loss below 100 nats/word, got a loss of" in message
    state = saving.load(checkpoint())[1]
    assert [row["model"] for row in state["results"]] == ["5-gram"]


def test_a_rate_with_which_a_network_diverges_is_not_its_best():
    options = ["--models", "5-gram", "gru", "--seeds", "2"]
    found = compare(*options, "--lr", "0.02", "1e8", "--out", "two")
    assert [row["lr"] for row in found["runs"]] == [None, 0.02, 0.02]
    assert found["other rates"] == [] and found["minutes"] > 0
    assert timeless(compare_lm.main(["--resume", "--out", "two"])) == timeless(found)
    assert timeless(found) == timeless(compare(*options, "--lr", "0.02", "--out", "one"))


def test_a_network_that_diverges_with_every_rate_ends_the_comparison(capsys):
    options = ["--data", "cats.txt", *SMALL, "--models", "gru", "--seeds", "1", "--lr"]
    assert "; start anew with a lower --lr" in refused(capsys, *options, "1e9", "1e8")


# What is shown and kept.


def test_result_log_figure_and_folders_are_complete_and_tell_no_paths(folder, capsys):
    pytest.importorskip("matplotlib.figure")
    threads = tg.get_num_threads()
    try:
        found = compare("--out", folder / "kept", "--figure", "all.png", "--threads", 1)
    finally:
        tg.set_num_threads(threads)
    stored = json.loads(Path("kept/result.json").read_text(encoding="utf-8"))
    log = Path("kept/log.jsonl").read_text(encoding="utf-8")
    first, *rows, last = map(json.loads, log.splitlines())
    assert stored == last == json.loads(json.dumps(found)) and stored["runs"] == rows
    assert str(folder) not in log and first["command"] == found["command"]
    assert found["command"].startswith("python -m zoo.compare_lm --data cats.txt --embedding 5")
    assert found["threads"] == 1 and Path("all.png").read_bytes()[:4] == b"\x89PNG"
    out = capsys.readouterr().out
    for line in found["models"]:
        assert re.search(rf"^{line['model']} .* {line['perplexity']:.2f} ", out, re.M)
    one = trained.load(Path("kept/window-1-0.004"))
    assert one.model.losses(study().ids["validation"]).mean() == pytest.approx(
        next(row["validation"]["nats"] for row in rows if row["seed"] == 1), rel=1e-5
    )


def test_a_figure_that_cannot_be_drawn_comes_after_the_result(monkeypatch, capsys):
    pytest.importorskip("matplotlib.figure")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit) as end:
        compare("--figure", "all.png", "--models", "5-gram")
    assert end.value.code == 2 and "perplexity" in capsys.readouterr().out
    assert Path("runs/compare_lm-cats/result.json").exists()


def test_the_page_shows_the_stored_results():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = (ROOT / "docs/zoo/compare_lm.md").read_text(encoding="utf-8")
    assert tables.rewritten(page) == page and "| pydoc, words | lstm |" in page
    assert tables.rewritten(page.replace("| lstm |", "| other |")) == page


@pytest.mark.parametrize(
    "module", [compare_lm, trials, importlib.import_module("zoo.models.window_layer")]
)
def test_the_examples_run(module):
    assert doctest.testmod(module).failed == 0
