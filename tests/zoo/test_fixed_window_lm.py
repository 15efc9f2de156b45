"""The loss is that of the equations, a stopped sweep resumes to the bit, no traceback is seen."""

import dataclasses
import doctest
import errno
import functools
import importlib.util
import json
import math
import os
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zoo import scripts
from tests.zoo.scripts import cats, posix, same_bits
from tinygrad_rnn import saving
from zoo import fixed_window_lm
from zoo.fixed_window_lm import Recipe, Run
from zoo.models import ngrams
from zoo.models.counts import count
from zoo.models.window_lm import WindowLM, windows
from zoo.running.interrupt import Interrupt
from zoo.texts.tokens import Tokens

ROOT = Path(__file__).resolve().parents[2]
SMALL = "--embedding 5 --hidden 6 --batch 64 --epochs 3 --windows 2 1".split()
CATS = cats(400)

pytest.importorskip("tqdm")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test in a folder of its own, with a text of 400 words."""
    monkeypatch.chdir(tmp_path)
    Path("cats.txt").write_text(CATS, encoding="utf-8")
    return tmp_path


def train(*arguments, data="cats.txt", small=SMALL):
    return fixed_window_lm.main(["--data", data, *small, *map(str, arguments)])


refused = functools.partial(scripts.refused, fixed_window_lm.main, "perplexities")


def checkpoint(folder="runs/fixed_window_lm-cats"):
    return Path(folder, "checkpoint.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The checkpoint of a small run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "cats.txt").write_text(CATS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train()
    return folder / checkpoint()


def timeless(results):
    return [
        {n: v for n, v in r.items() if n not in ("minutes", "tokens per second")} for r in results
    ]


def same_end(a, b):
    """Whether two checkpoints hold the same training to the bit."""
    (arrays, state), (others, other) = saving.load(a), saving.load(b)
    for each in (state, other):
        del each["seconds"], each["command"]
        each["results"] = timeless(each["results"])
    assert {n.partition(".")[0] for n in arrays} == {
        "model",
        "optimizer",
        "curve",
        "recent",
        "tokens",
    }
    assert len(state["results"]) == 2 and arrays["recent"].size == 0
    assert state == other
    return same_bits(arrays, others)


# The model.


sentences = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=6)


@given(sentences, st.integers(1, 8))
def test_a_window_holds_the_tokens_before_and_never_those_of_another_sentence(several, m):
    ids = np.array([token for sentence in several for token in (0, *sentence)])
    seen, targets = windows(ids, m)
    slow = [
        (([0] * m + sentence[:t])[-m:], token - 1)
        for sentence in several
        for t, token in enumerate(sentence)
    ]
    assert list(zip(seen.tolist(), targets.tolist(), strict=True)) == slow


def slow_loss(arrays, ids, m):
    """Token after token in float64: mean nats."""
    w = {n.removeprefix("model."): a.astype("float64") for n, a in arrays.items()}
    losses = []
    for seen, target in zip(*windows(ids, m), strict=True):
        e = np.concatenate([w["embedding.weight"][token] for token in seen])
        scores = w["output.weight"] @ np.tanh(w["hidden.weight"] @ e + w["hidden.bias"])
        scores += w["output.bias"]
        if "direct.weight" in w:
            scores += w["direct.weight"] @ e
        losses.append(np.log(np.exp(scores).sum()) - scores[target])
    return np.mean(losses)


@pytest.mark.parametrize("options", [[], ["--direct"], ["--seed", 5, "--dropout", 0]])
def test_perplexities_are_those_of_the_equations(options, capsys):
    found = train(*options, "--lr", 0.05)
    arrays, _ = saving.load(checkpoint())
    assert ("model.direct.weight" in arrays) == ("--direct" in options)
    text = fixed_window_lm.load_parts("cats.txt")
    tokens = Tokens.words(text.train, least=2)
    ids = tokens.encode(text.valid)
    last = found["perplexities"][-1]
    assert last["window"] == 1 and len(ids) > 20
    assert last["validation"] == pytest.approx(math.exp(slow_loss(arrays, ids, 1)), rel=1e-5)
    bigrams = ngrams.kneser_ney(count(tokens.encode(text.train), len(tokens), 2))
    assert last["kneser-ney validation"] == ngrams.perplexity(bigrams.losses(ids))
    shown = capsys.readouterr().out.splitlines()[-2].split()
    assert shown[0] == "1" and shown[3] == f"{last['validation']:.2f}"
    sizes = sum(a.size for n, a in arrays.items() if n.startswith("model."))
    assert last["parameters"] == sizes == int(shown[1].replace(",", ""))


def test_evaluation_adds_its_batches_up():
    rng = np.random.default_rng(0)
    model = WindowLM(7, 2, 3, 4, False, rng)
    ids = np.insert(rng.integers(1, 7, 2500), range(0, 2500, 10), 0)
    arrays = {f"model.{n}": a for n, a in model.state_dict().items()}
    fast = fixed_window_lm.evaluate(model, windows(ids, 2), Interrupt())
    assert fast == pytest.approx(slow_loss(arrays, ids, 2), rel=1e-5)


def test_a_window_of_two_learns_what_a_window_of_one_cannot():
    Path("abc.txt").write_text("a a b b " * 400)
    rows = train(
        "--epochs", 25, "--lr", 0.03, "--hidden", 16, "--dropout", 0, data="abc.txt"
    )["perplexities"]  # fmt: skip
    two, one = rows
    assert two["validation"] < 1.1 and one["validation"] == pytest.approx(2, abs=0.1)
    assert two["kneser-ney validation"] < 1.1 and one["kneser-ney validation"] > 1.9


def test_every_example_is_read_once_in_each_epoch(monkeypatch):
    read, step = [], fixed_window_lm.train_step

    def reading(run, seen, targets, updates):
        read.append((run.window, seen[:, -1], targets))
        return step(run, seen, targets, updates)

    monkeypatch.setattr(fixed_window_lm, "train_step", reading)
    sizes = train()["text"]["tokens"]
    text = fixed_window_lm.load_parts("cats.txt")
    ids = Tokens.words(text.train, least=2).encode(text.train)
    last, target = windows(ids, 1)
    expected = sorted(zip(last[:, 0].tolist(), target.tolist(), strict=True))
    assert len(expected) == sizes["train"]
    pieces = math.ceil(sizes["train"] / 64)
    orders = []
    for k in range(6):  # epochs, of two windows
        part = read[k * pieces : (k + 1) * pieces]
        pairs = [p for _, a, b in part for p in zip(a.tolist(), b.tolist(), strict=True)]
        assert sorted(pairs) == expected and {m for m, *_ in part} == {2 if k < 3 else 1}
        orders.append(pairs)
    assert orders[0] == orders[3] != orders[1] == orders[4]


def test_same_seed_same_numbers_other_seed_other_numbers():
    found = [timeless(train("--seed", seed)["perplexities"]) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert same_end(checkpoint(), checkpoint("runs/fixed_window_lm-cats-2"))


def test_a_model_does_not_depend_on_those_before_it():
    both = timeless(train()["perplexities"])
    alone = timeless(train("--windows", 1)["perplexities"])
    assert both[1:] == alone


# Stop and go on.


@posix
@pytest.mark.parametrize(
    ("name", "nth"),
    [
        *(("train_step", k) for k in (1, 10, 30, 40)),
        *(("evaluate", k) for k in (1, 5, 12)),
        *(("save", 2), ("log", 4)),
    ],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_at_any_point_saves_and_a_resumed_sweep_ends_the_same(
    name, nth, number, code, whole, monkeypatch, capsys
):
    calls, function = [], getattr(fixed_window_lm, name)

    def signalling(*args, **options):
        calls.append(0)
        if len(calls) == nth:
            signal.raise_signal(number)
        return function(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fixed_window_lm, name, signalling)
        with pytest.raises(SystemExit) as end:
            train("--out", "cut in two")
    assert end.value.code == code
    err = capsys.readouterr().err
    state = saving.load(checkpoint("cut in two"))[1]
    window = state["recipe"]["windows"][len(state["results"])]
    assert f"saved after update {state['update']} of window {window}; go on with" in err
    assert "--resume --data cats.txt --out 'cut in two'" in err
    fixed_window_lm.main(["--resume", "--out", "cut in two"])
    assert same_end(whole, checkpoint("cut in two"))


@posix
def test_a_second_ctrl_c_stops_at_once_without_a_traceback(monkeypatch, capsys):
    def twice(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(fixed_window_lm, "train_step", twice)
    message = refused(capsys, "--data", "cats.txt", *SMALL, code=130)
    assert message == "fixed_window_lm: stopped at once; --resume goes on from what was saved"
    assert saving.load(checkpoint())[1]["update"] == 0


def test_a_finished_run_can_be_resumed_and_tells_the_same(capsys):
    first = train()
    shown = capsys.readouterr().out
    again = fixed_window_lm.main(["--resume", "--data", "cats.txt"])
    assert again["perplexities"] == first["perplexities"]
    assert capsys.readouterr().out.splitlines()[-4:] == shown.splitlines()[-4:]


# Checkpoints that cannot be used.


def test_resume_refuses_another_text_and_another_recipe(capsys):
    train("--out", "a")
    before = checkpoint("a").read_bytes()
    Path("dogs.txt").write_text("dogs and more dogs\n" * 50)
    resume = ("--resume", "--out", "a")
    start = "fixed_window_lm: --resume: a/checkpoint.safetensors: expected"
    end = "got something else; leave that option out, or start anew with another --out"
    text = "the same text as before in --data cats.txt"
    assert refused(capsys, *resume, "--data", "dogs.txt") == f"{start} {text}, {end}"
    got = refused(capsys, *resume, "--hidden", 9, "--direct", "--windows", 2, 3)
    assert got == f"{start} --windows 2 1 and --hidden 6 and --no-direct, {end}"
    assert fixed_window_lm.main([*resume, "--hidden", "6", "--windows", "2", "1"])
    Path("cats.txt").write_text("changed " * 99)
    assert refused(capsys, *resume) == f"{start} {text}, {end}"
    assert before[:100] == checkpoint("a").read_bytes()[:100]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"script": "char_lm"}, "got one of char_lm; name another folder with --out"),
        ({}, "got one of None; name another"),
        ({"script": "fixed_window_lm"}, "got 'recipe'; name another"),
        ({"script": "fixed_window_lm", "recipe": {"windows": [1], "depth": 3}}, "argument 'depth'"),
    ],
)
def test_a_checkpoint_of_another_script_or_version_is_refused(state, message, capsys):
    Path("other").mkdir()
    saving.save(checkpoint("other"), {}, state)
    for way in (["--resume"], ["--sample", 5]):
        got = refused(capsys, "--out", "other", *way)
        assert message in got
        assert got.startswith(f"fixed_window_lm: {checkpoint('other')}: expected a checkpoint of")


def test_a_damaged_checkpoint_is_named_with_the_one_before(capsys):
    train()
    blob = bytearray(checkpoint().read_bytes())
    blob[len(blob) // 2] ^= 1
    checkpoint().write_bytes(blob)
    message = refused(capsys, "--data", "cats.txt", "--resume")
    assert "expected an intact checkpoint" in message and "; rename the previous" in message
    assert checkpoint().read_bytes() == blob


@pytest.mark.parametrize("way", [["--resume"], ["--sample", "9"]])
def test_without_a_checkpoint_path_and_remedy_are_named(way, capsys):
    message = refused(capsys, "--out", "else/where", *way)
    assert message.startswith(
        "fixed_window_lm: else/where: expected a folder with files checkpoint"
    )
    assert message.endswith("train one first, or name its folder with --out")
    assert not Path("else").exists()


def test_a_new_run_never_takes_the_folder_of_another(capsys):
    for k in ("", "-2"):
        train("--epochs", 1)
        assert f"runs/fixed_window_lm-cats{k}/checkpoint" in capsys.readouterr().out
    before = checkpoint().read_bytes()
    message = refused(capsys, "--data", "cats.txt", *SMALL, "--out", "runs/fixed_window_lm-cats")
    assert "expected a folder without files checkpoint*.safetensors, it has some" in message
    assert checkpoint().read_bytes() == before


# Arguments and texts that cannot be used.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--windows", "0"], "--windows: expected a whole number in 1..64, got '0'"),
        (["--windows", "65"], "--windows: expected a whole number in 1..64, got '65'"),
        (["--hidden", "x"], "--hidden: expected a whole number in 1..1000000000, got 'x'"),
        (["--lr", "nan"], "--lr: expected a number in 1e-09..1000000000.0, got 'nan'"),
        (["--dropout", "1"], "--dropout: expected a number in 0..0.99, got '1'; leave it out for"),
        (["--seed", "-1"], "--seed: expected a whole number in 0..4294967295, got '-1'"),
        (["--unit", "byte"], "--unit: invalid choice: 'byte'"),
        (["--sample", "5", "--resume"], "--resume: not allowed with argument --sample"),
        (["--curve", "x.jpg"], "--curve: expected a name that ends in .png, got 'x.jpg'"),
        (["--curve", "no/x.png"], "--curve: expected a name in an existing folder, got no/x.png"),
        (["--data", "none"], "one of stdlib, tiny-shakespeare, pydoc, ptb, got 'none': No such"),
        (["--prompt", "the dog"], "--prompt: expected words of the text, got ['dog']; drop them"),
        (["--out", "cats.txt/below"], "cats.txt/below'; name another place"),
        (["--hidden", "900000000"], "Unable to allocate"),
    ],
)
def test_bad_arguments_end_with_2_and_a_line(arguments, message, capsys):
    assert message in refused(capsys, "--data", "cats.txt", *SMALL, *arguments)
    assert not Path("runs").exists() and Path("cats.txt").read_text() == CATS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "'bad.txt': expected a text, got an empty file; choose another"),
        (b"one", "bad.txt: expected a text of two words or more, got 'one'; choose a longer one"),
        (b"caf\xe9 noir", "'bad.txt': expected UTF-8, got byte 0xe9 at offset 3; convert it"),
    ],
)
def test_texts_that_cannot_be_used_are_named(data, message, capsys):
    Path("bad.txt").write_bytes(data)
    assert message in refused(capsys, "--data", "bad.txt", *SMALL)
    assert not Path("runs").exists()


def test_one_character_is_too_few(capsys):
    Path("a.txt").write_text("a")
    message = refused(capsys, "--data", "a.txt", "--unit", "character")
    assert "a.txt: expected a text of two characters or more, got 'a'" in message


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a b", []),
        ("a b c\nd\n", ["--windows", "9", "--vocabulary", "1000000000"]),
        ("ab", ["--unit", "character"]),
        ("a", ["--unit", "character", "--batch", "1"]),
    ],
)
def test_texts_shorter_than_a_batch_or_a_window_train_all_the_same(text, options):
    Path("short.txt").write_text(text + " " * (text == "a"))
    for row in train(*options, data="short.txt")["perplexities"]:
        assert 0 < row["validation"] < 1000 and row["kneser-ney validation"] > 0


# Disks and divergence.


@pytest.mark.skipif(os.name != "posix" or not os.geteuid(), reason="root may write anywhere")
def test_a_folder_without_permission_is_named(capsys):
    Path("locked").mkdir(mode=0o500)
    message = refused(capsys, "--data", "cats.txt", *SMALL, "--out", "locked")
    assert "Permission denied" in message and "locked" in message


@pytest.mark.parametrize("nth", [1, 3, 20])
def test_a_full_disk_loses_nothing_that_was_saved(nth, whole, monkeypatch, capsys):
    monkeypatch.setattr(fixed_window_lm.training, "SAVE_SECONDS", 0.0)
    calls, write = [], saving._write_synced

    def full(path, blob):
        calls.append(0)
        if len(calls) >= nth:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        write(path, blob)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "_write_synced", full)
        message = refused(capsys, "--data", "cats.txt", *SMALL, "--out", "full")
    assert "Read-only file system" in message
    if nth == 1:  # noticed before the first step
        assert not checkpoint("full").exists()
        return
    fixed_window_lm.main(["--resume", "--out", "full"])
    assert same_end(whole, checkpoint("full"))


@pytest.mark.parametrize("name", ["loss", "gradient", "validation"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_inf_stop_at_their_update_and_leave_the_checkpoint(
    name, value, whole, monkeypatch, capsys
):
    monkeypatch.setattr(fixed_window_lm.training, "SAVE_SECONDS", 0.0)
    owner, function = {
        "loss": (fixed_window_lm.nn, "cross_entropy"),
        "gradient": (fixed_window_lm.optim, "clip_grad_norm_"),
        "validation": (fixed_window_lm, "evaluate"),
    }[name]
    calls, right = [], getattr(owner, function)

    def wrong(*args, **options):
        found = right(*args, **options)
        calls.append(options)
        broken = sum("reduction" not in o for o in calls) == 4 and "reduction" not in options
        return found * value if broken else found

    with monkeypatch.context() as patch:
        patch.setattr(owner, function, wrong)
        message = refused(capsys, "--data", "cats.txt", *SMALL)
    what = "a gradient of norm" if name == "gradient" else "a loss of"
    assert re.match(
        r"fixed_window_lm: window 2, update \d+: expected a finite gradient and a loss below 100 "
        rf"nats/token, got {what} {value}; start anew with a lower --lr and another --out",
        message,
    )
    arrays, state = saving.load(checkpoint())
    assert state["update"] >= 3 and all(np.isfinite(a).all() for a in arrays.values())
    fixed_window_lm.main(["--resume", "--data", "cats.txt"])
    assert same_end(whole, checkpoint())


def test_a_diverging_loss_stops_and_leaves_the_checkpoint(capsys):
    message = refused(capsys, "--data", "cats.txt", *SMALL, "--lr", "1e8")
    assert "expected a finite gradient and a loss below 100 nats/token, got a loss of" in message
    assert all(np.isfinite(a).all() for a in saving.load(checkpoint())[0].values())


# What is shown and kept.


def test_result_log_and_curve_are_complete_and_tell_no_paths(folder, capsys):
    found = train("--seed", 3, "--out", folder / "kept")
    stored = json.loads(Path("kept/result.json").read_text(encoding="utf-8"))
    log = Path("kept/log.jsonl").read_text(encoding="utf-8")
    first, *rest = map(json.loads, log.splitlines())
    assert stored == rest[-1] == json.loads(json.dumps(found))
    assert str(folder) not in log and first["command"] == found["command"] == (
        "python -m zoo.fixed_window_lm --data cats.txt --embedding 5 --hidden 6 --batch 64 "
        "--epochs 3 --windows 2 1 --seed 3 --out kept"
    )
    points = [
        [p["window"], p["update"], p["training"], p["validation"]] for p in rest if "update" in p
    ]
    assert saving.load(checkpoint("kept"))[0]["curve"].tolist() == points
    assert [row for row in rest if "parameters" in row] == stored["perplexities"]
    assert {p[0] for p in points} == {1, 2}
    assert found["minutes"] == pytest.approx(sum(r["minutes"] for r in found["perplexities"]))


def test_the_curve_is_a_picture_with_names(monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    drawn, save = [], figure.Figure.savefig
    monkeypatch.setattr(
        figure.Figure, "savefig", lambda f, *a, **k: (drawn.append(f), save(f, *a, **k))
    )
    rows = train("--curve", "loss.PNG")["perplexities"]
    assert Path("loss.PNG").read_bytes()[:4] == b"\x89PNG"
    left, right = drawn[0].axes
    assert {line.get_label() for line in left.lines if line.get_linestyle() == "-"} == {
        "m = 1", "m = 2"
    }  # fmt: skip
    assert list(right.lines[0].get_xdata()) == [1, 2]
    assert list(right.lines[0].get_ydata()) == [r["validation"] for r in reversed(rows)]
    assert list(right.lines[1].get_ydata()) == [r["kneser-ney validation"] for r in reversed(rows)]


def test_a_curve_that_cannot_be_drawn_comes_after_the_result(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit) as end:
        train("--curve", "loss.png")
    assert end.value.code == 2
    assert "kneser-ney" in capsys.readouterr().out
    assert Path("runs/fixed_window_lm-cats/result.json").exists()


def test_samples_follow_prompt_seed_and_temperature(capsys):
    train("--windows", 2, "--epochs", 15, "--lr", 0.02, "--least", 1)
    capsys.readouterr()

    def sampled(*options):
        text = fixed_window_lm.main(["--data", "cats.txt", "--sample", "30", *options])
        out, err = capsys.readouterr()
        assert err == f"from {checkpoint()}, window 2\n" and out == text + "\n"
        return text

    assert sampled() == sampled("--seed", "0") != sampled("--seed", "1")
    assert sampled("--prompt", "the cat").startswith("the cat ")
    assert set(sampled().split()) <= {*CATS.split(), "<unk>"}
    cold = sampled("--temperature", "0.001")
    assert cold == sampled("--temperature", "0.001", "--seed", "9")  # the likeliest, always


def test_help_is_readable_and_lists_the_recipe(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        fixed_window_lm.main(["--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0 and fixed_window_lm.__doc__ in out
    for f in dataclasses.fields(Recipe):
        assert re.search(rf"--{f.name}\b", out)
    assert max(map(len, out.splitlines())) <= 100


def test_a_file_sees_little_progress(capsys):
    train()
    err = capsys.readouterr().err
    assert err.count("\r") <= 6 and "Error" not in err


def test_a_run_knows_its_window():
    run = Run(Recipe(windows=(3, 1)), "", "", "")
    assert run.window == 3 and not run.done
    run.results = [{}]
    assert run.window == 1 and not run.done
    run.results = [{}, {}]
    assert run.window == 1 and run.done


def test_the_examples_run():
    assert doctest.testmod(fixed_window_lm).failed == 0


def test_the_page_shows_the_stored_results():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = (ROOT / "docs/zoo/fixed_window_lm.md").read_text(encoding="utf-8")
    assert tables.rewritten(page) == page and "| pydoc |" in page
    assert tables.rewritten(page.replace("| pydoc |", "| other |")) == page
