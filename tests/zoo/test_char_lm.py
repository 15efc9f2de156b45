"""The result is what it says, a stopped run resumes to the bit, and nothing ends in a traceback."""

import collections
import dataclasses
import errno
import functools
import importlib.util
import itertools
import json
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.zoo import scripts
from tests.zoo.scripts import cats, posix, same_bits
from tinygrad_rnn import nn, optim, saving
from tinygrad_rnn.nn import regularisation
from zoo import char_lm
from zoo.models.recurrent_stack import CELLS, CONNECTIONS
from zoo.running import training
from zoo.texts import datasets

ROOT = Path(__file__).resolve().parents[2]
DATA = os.environ.get("TINYGRAD_RNN_DATA")
SMALL = "--hidden 8 --embedding 6 --updates 30 --batch 4 --length 8".split()
LONG = [*SMALL, "--updates", "600"]
CATS = cats(600)[:2000]

pytest.importorskip("tqdm")
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test in a folder of its own, with a text of 2,000 characters."""
    monkeypatch.chdir(tmp_path)
    Path("cats.txt").write_text(CATS, encoding="utf-8")
    return tmp_path


def train(*arguments, data="cats.txt", small=SMALL):
    return char_lm.main(["--data", data, *small, *arguments])


refused = functools.partial(scripts.refused, char_lm.main, "validation")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The checkpoint of a small run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "cats.txt").write_text(CATS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train()
    return folder / checkpoint()


def checkpoint(folder="runs/char_lm-cats"):
    return Path(folder, "checkpoint.safetensors")


def same_end(a, b):
    """Whether two checkpoints hold the same training to the bit."""
    (arrays, state), (others, other) = saving.load(a), saving.load(b)
    for each in (state, other):
        del each["seconds"], each["command"]
    assert {n.partition(".")[0] for n in arrays} >= {"model", "optimizer", "carried", "curve"}
    assert arrays["recent"].size == 0 and arrays["curve"].shape[1] == 3
    assert any(np.abs(a).max() > 0 for n, a in arrays.items() if n.startswith("carried."))
    assert state == other
    return same_bits(arrays, others)


# The result.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_layer(arrays):
    """The weights in float64, by the names of an embedding, an nn.LSTM and an nn.Linear."""
    found = {}
    for name, array in arrays.items():
        part, _, rest = name.removeprefix("model.").partition(".")
        layer, last = rest.partition(".")[0], rest.rpartition(".")[2]
        named = {"0": "embedding.weight", "3": f"output.{rest}"}
        if name.startswith("model."):
            lstm = f"lstm.{last.replace('_l0', f'_l{layer}')}"
            found[named.get(part, lstm)] = array.astype("float64")
    return found


def slow_losses(arrays, ids, count):
    """Character after character, stream after stream, in float64: nats of each."""
    w = by_layer(arrays)
    layers = sum("weight_hh" in n for n in w)
    steps, losses = math.ceil((len(ids) - 1) / count), []
    for start in range(0, len(ids) - 1, steps):
        h, c = np.zeros((2, layers, w["lstm.weight_hh_l0"].shape[1]))
        for t in range(start, min(start + steps, len(ids) - 1)):
            x = w["embedding.weight"][ids[t]]
            for k in range(layers):
                u = w[f"lstm.weight_ih_l{k}"] @ x + w[f"lstm.bias_ih_l{k}"]
                u = u + w[f"lstm.weight_hh_l{k}"] @ h[k] + w[f"lstm.bias_hh_l{k}"]
                i, f, g, o = np.split(u, 4)
                c[k] = sigmoid(f) * c[k] + sigmoid(i) * np.tanh(g)
                x = h[k] = sigmoid(o) * np.tanh(c[k])
            logits = w["output.weight"] @ x + w["output.bias"]
            losses.append(np.log(np.exp(logits).sum()) - logits[ids[t + 1]])
    return np.array(losses)


def slow_loss(arrays, ids, count):
    return slow_losses(arrays, ids, count).mean()


def validation_ids():
    text = Path("cats.txt").read_text(encoding="utf-8")
    return np.array([sorted(set(text)).index(c) for c in text])[int(0.9 * len(text)) :]


@pytest.mark.parametrize("options", [["--lr", "0.02"], ["--layers", "2", "--seed", "5"]])
def test_the_last_line_is_the_loss_over_the_whole_validation_split(options, capsys):
    found = train(*options)
    lines = capsys.readouterr().out.splitlines()
    ids = validation_ids()
    assert len(ids) == 200 and (len(ids) - 1) % 8 != 0
    slow = slow_loss(saving.load(checkpoint())[0], ids, 8)
    assert found["nats per character"]["validation"] == pytest.approx(slow, rel=1e-5)
    assert lines[-1] == f"validation {slow:.4f} nats/char, {slow / math.log(2):.4f} bits"


def test_validation_carries_the_state_over_its_chunks():
    """400 steps in each stream, evaluated 128 at a time."""
    rng = np.random.default_rng(1)
    recipe = char_lm.Recipe(hidden=5, embedding=3, layers=2)
    run = char_lm.Run(recipe, "", "", "", "abcdef")
    ids = rng.integers(6, size=1200)
    arrays = {f"model.{n}": 4 * a for n, a in run.model.state_dict().items()}
    run.model.load_state_dict({n.removeprefix("model."): a for n, a in arrays.items()})
    fast = char_lm.evaluate(run.model, ids, char_lm.Interrupt(), count=3)
    assert fast == pytest.approx(slow_loss(arrays, ids, 3), rel=1e-5)
    assert abs(fast - slow_loss(arrays, ids, 9)) > 1e-4  # the state does matter


def members_of(arrays, count):
    names = [f"model.members.{k}." for k in range(count)]
    return [{n.replace(m, "model."): a for n, a in arrays.items() if m in n} for m in names]


def test_an_ensemble_is_judged_by_the_mean_of_its_members_probabilities():
    found = train("--ensemble", "3", "--lr", "0.02")
    members = members_of(saving.load(checkpoint())[0], 3)
    losses = np.array([slow_losses(m, validation_ids(), 8) for m in members])
    slow = -np.log(np.exp(-losses).mean(axis=0)).mean()
    assert found["nats per character"]["validation"] == pytest.approx(slow, rel=1e-5)
    assert slow < losses.mean() - 1e-3  # by Jensen's inequality, as the members differ


@pytest.mark.parametrize("clip", [0.01, 1e9])
def test_each_member_of_an_ensemble_learns_by_itself(clip):
    recipe = char_lm.Recipe(hidden=5, embedding=3, ensemble=2, clip=clip)
    run, other = (char_lm.Run(recipe, "", "", "", "abcdef") for _ in range(2))
    inputs, targets = np.random.default_rng(1).integers(6, size=(2, 7, 4))
    loss, losses = char_lm.train_step(run, inputs, targets), []
    for ours, alone in zip(run.model.members, other.model.members, strict=True):
        losses.append(nn.cross_entropy(alone(inputs)[0], targets))
        losses[-1].backward()
        assert optim.clip_grad_norm_(alone.parameters(), clip) > 0.02
        for p, q in zip(ours.parameters(), alone.parameters(), strict=True):
            assert p.grad.numpy() == pytest.approx(q.grad.numpy(), rel=1e-5, abs=1e-8)
    assert loss == pytest.approx(np.mean([part.item() for part in losses]), rel=1e-6)


def test_a_text_that_is_called_as_a_recipe_gets_the_usual_one():
    Path("ensemble").write_text(CATS, encoding="utf-8")
    assert train("--updates", "1", data="ensemble")["recipe"]["ensemble"] == 1


def test_baselines_a_sample_and_the_checkpoint_come_before_it(capsys):
    train("--updates", "2")
    text = Path("cats.txt").read_text(encoding="utf-8")
    seen, asked, size = text[:1800], text[1800:], len(set(text))
    ones, twos = collections.Counter(seen), collections.Counter(itertools.pairwise(seen))
    firsts = collections.Counter(seen[:-1])
    unigrams = [-math.log((ones[b] + 0.1) / (1800 + 0.1 * size)) for b in asked]
    bigrams = [
        -math.log((twos[a, b] + 0.1) / (firsts[a] + 0.1 * size))
        for a, b in itertools.pairwise(asked)
    ]
    out = capsys.readouterr().out
    text_line, recipe_line, *sample, blank, where, one, two, _ = out.splitlines()
    assert text_line == f"text: cats.txt; 1,800 + 200 characters, {size} distinct"
    start = "recipe: --cell lstm --hidden 8 --layers 1 --connection none --embedding 6 --batch 4"
    assert recipe_line.startswith(start)
    assert set("".join(sample)) <= set(text) and blank == "" and len("\n".join(sample)) == 600
    assert where.startswith(f"checkpoint {checkpoint()}; 0.0 minutes")
    for name, line, losses in [("unigrams  ", one, unigrams), ("bigrams   ", two, bigrams)]:
        nats = np.mean(losses)
        assert line == f"{name} {nats:.4f} nats/char, {nats / math.log(2):.4f} bits"


def test_it_learns_what_bigrams_cannot():
    Path("abc.txt").write_text("aabb" * 500)
    losses = train(
        "--updates", "150", "--lr", "0.03", "--hidden", "16", data="abc.txt"
    )["nats per character"]  # fmt: skip
    assert losses["bigrams"] == pytest.approx(math.log(2), abs=0.01)
    assert losses["validation"] < 0.35


def test_every_character_is_read_once_in_each_pass(monkeypatch):
    Path("long.txt").write_text("".join(chr(0x4E00 + k) for k in range(1000)), encoding="utf-8")
    read, step = [], char_lm.train_step

    def reading(run, inputs, targets):
        assert len(inputs) <= 8
        read.extend(targets[targets >= 0])
        return step(run, inputs, targets)

    monkeypatch.setattr(char_lm, "train_step", reading)
    train("--updates", "29", data="long.txt")  # 899 pairs in 4 streams of 225, 29 pieces
    assert sorted(read) == list(range(1, 900))


def test_same_seed_same_numbers_other_seed_other_numbers(capsys):
    lines = []
    for seed in "0", "0", "1":
        train("--seed", seed)
        lines.append(capsys.readouterr().out.splitlines()[-1])
    assert lines[0] == lines[1] != lines[2]
    assert same_end(checkpoint(), checkpoint("runs/char_lm-cats-2"))


def test_one_blas_thread_trains_and_the_setting_comes_back(monkeypatch):
    threads = pytest.importorskip("threadpoolctl").threadpool_info
    before, seen, step = threads(), [], char_lm.train_step

    def looking(*arguments):
        seen.extend(pool["num_threads"] for pool in threads() if pool["user_api"] == "blas")
        return step(*arguments)

    monkeypatch.setattr(char_lm, "train_step", looking)
    train()
    assert set(seen) <= {1}
    assert threads() == before


@pytest.mark.parametrize("connection", CONNECTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_learns_with_every_connection(cell, connection):
    options = ["--cell", cell, "--connection", connection, "--layers", "2", "--dropout", "0.1"]
    nats = train(*options, "--updates", "80", "--lr", "0.05")["nats per character"]
    assert nats["validation"] < nats["unigrams"]
    state = saving.load(checkpoint())[1]["recipe"]
    assert (state["cell"], state["connection"]) == (cell, connection)


# Stop and go on.

DRIVER = """
import os, sys, threading
from zoo import char_lm
from zoo.running import training
name, nth, delay, number = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
training.SAVE_SECONDS = 0.02
calls, function = [], getattr(char_lm, name)
def timed(*args):
    calls.append(0)
    if len(calls) == nth:
        kill = threading.Timer(delay, os.kill, (os.getpid(), number))
        kill.daemon = True
        kill.start()
    return function(*args)
setattr(char_lm, name, timed)
char_lm.main(sys.argv[5:])
"""


def process(name, nth, delay, number, *arguments):
    """A run that is sent a signal some seconds after the nth call of one of its functions."""
    words = map(str, (name, nth, delay, int(number), *arguments))
    return subprocess.run(
        [sys.executable, "-c", DRIVER, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
    )


KILLS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}


def killed_trial(rng, capsys, folder, kills=5):
    """Whether a run that is killed and resumed, again and again, ends as an undisturbed one."""
    happened, ways = [], ["train", "train", "evaluate", "save"]
    while len(happened) < kills:
        number, name = rng.choice(list(KILLS)), rng.choice(ways)
        nth = 1 if name == "train" else rng.randrange(2, 5)
        resume = ["--resume"] if happened else ["--data", "cats.txt", *LONG]
        delay = rng.uniform(0, 0.15)
        done = process(name, nth, delay, number, *resume, "--out", folder)
        happened.append((number.name, name, nth, delay, done.returncode))
        assert done.returncode == KILLS[number], (happened, done.stderr)
        assert "Traceback" not in done.stderr
        if done.returncode > 0:
            assert f"--resume --data cats.txt --out {folder}" in done.stderr
    capsys.readouterr()
    char_lm.main(["--resume", "--out", folder])
    last = capsys.readouterr().out.splitlines()[-1]
    return same_end(checkpoint(), checkpoint(folder)), last, happened


@posix
def test_a_run_killed_five_times_ends_as_one_that_was_not(capsys):
    train(small=LONG)
    undisturbed = capsys.readouterr().out.splitlines()[-1]
    same, last, happened = killed_trial(random.Random(3), capsys, "killed")
    assert same and last == undisturbed, happened


@posix
@pytest.mark.parametrize(("layers", "networks"), [(1, 1), (2, 1), (1, 2)])
def test_what_is_dropped_is_the_same_in_a_resumed_run(layers, networks, monkeypatch):
    options = ["--dropout", "0.3", "--layers", str(layers), "--ensemble", str(networks)]
    draws = layers * networks
    train(*options)
    masks, dropout, step = [], regularisation.dropout, char_lm.train_step

    def signalling(*args):
        if len(masks) == 5 * draws:
            signal.raise_signal(signal.SIGINT)
        return step(*args)

    def drawing(*args, **kwargs):
        masks.append(dropout(*args, **kwargs))
        return masks[-1]

    monkeypatch.setattr(regularisation, "dropout", drawing)
    monkeypatch.setattr(char_lm, "train_step", signalling)
    with pytest.raises(SystemExit):
        train(*options, "--out", "cut")
    char_lm.main(["--resume", "--out", "cut"])
    assert same_end(checkpoint(), checkpoint("cut"))
    masks = [m for m in masks if m.shape[1] > 1]  # without that of the trial after a restart
    assert len(masks) == 30 * draws and {m.shape for m in masks} == {(1, 4, 8)}
    assert len({m.tobytes() for m in masks}) == len(masks)  # others in every update
    values, counts = np.unique(np.concatenate(masks), return_counts=True)
    assert values == pytest.approx([0, 1 / 0.7])
    assert counts[0] / counts.sum() == pytest.approx(0.3, abs=0.05)


@posix
@pytest.mark.slow
@pytest.mark.parametrize("trial", range(10))
def test_ten_runs_killed_five_times_end_as_one_that_was_not(trial, capsys):
    train(small=LONG)
    undisturbed = capsys.readouterr().out.splitlines()[-1]
    same, last, happened = killed_trial(random.Random(100 + trial), capsys, "killed")
    assert same and last == undisturbed, happened


@posix
@pytest.mark.parametrize(
    ("name", "nth"),
    [
        *(("train_step", 1), ("train_step", 30), ("save", 2), ("log", 3)),
        *(("evaluate", 1), ("evaluate", 30), ("evaluate", 31)),
    ],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_at_any_point_saves_and_leaves(
    name, nth, number, code, whole, monkeypatch, capsys
):  # fmt: skip
    """Evaluations 1 to 30 are points of the curve, 31 is that of the whole split."""
    calls, function = [], getattr(char_lm, name)

    def signalling(*args, **options):
        calls.append(0)
        if len(calls) == nth:
            signal.raise_signal(number)
        return function(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(char_lm, name, signalling)
        with pytest.raises(SystemExit) as end:
            train("--out", "cut in two")
    assert end.value.code == code
    err = capsys.readouterr().err
    assert "go on with --resume --data cats.txt --out 'cut in two'" in err
    saved = saving.load(checkpoint("cut in two"))[1]["update"]
    assert f"saved after update {saved};" in err
    char_lm.main(["--resume", "--out", "cut in two"])
    assert same_end(whole, checkpoint("cut in two"))


@posix
@pytest.mark.parametrize(
    ("name", "nth", "updates"), [("train_step", 2, 2000), ("evaluate", 2, 2)]
)  # the 2nd evaluation, of the whole split, takes seconds
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_answered_within_two_seconds(name, nth, updates, number, code):
    Path("big.txt").write_text("to be or not to be " * (150_000 if name == "evaluate" else 1000))
    timed = DRIVER.replace("os.kill, (os.getpid(), number))", "kill_and_tell)").replace(
        "def timed", "def kill_and_tell():\n"
        "    print('at', time.time(), flush=True)\n    os.kill(os.getpid(), number)\ndef timed"
    ).replace("import os,", "import time, os,")  # fmt: skip
    words = f"--data big.txt --updates {updates} --batch 8 --length 16 --out stopped"
    done = subprocess.run(
        [sys.executable, "-c", timed, name, str(nth), "0.3", str(int(number)), *words.split()],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    end = time.time()
    assert done.returncode == code, done.stderr
    (start,) = re.findall(r"^at (.*)$", done.stdout, re.M)
    assert end - float(start) < 2.5  # which counts Python's own end
    assert saving.load(checkpoint("stopped"))[1]["update"] <= updates
    assert "validation" not in done.stdout


@posix
def test_a_second_ctrl_c_stops_at_once_without_a_traceback(monkeypatch, capsys):
    def twice(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(char_lm, "train_step", twice)
    message = refused(capsys, "--data", "cats.txt", *SMALL, code=130)
    assert message == "char_lm: stopped at once; --resume goes on from what was saved"
    assert saving.load(checkpoint())[1]["update"] == 0


def test_a_finished_run_can_be_resumed_and_tells_the_same(capsys):
    train()
    first = capsys.readouterr().out
    char_lm.main(["--resume", "--data", "cats.txt"])
    assert capsys.readouterr().out.splitlines()[-4:] == first.splitlines()[-4:]


# Checkpoints that cannot be used.

RECIPE = dataclasses.asdict(char_lm.Recipe())
NEWER = ("cell", "connection", "decay")
OLD = {"script": "char_lm", "recipe": {n: v for n, v in RECIPE.items() if n not in NEWER}}


def test_a_damaged_checkpoint_is_named_with_the_one_before(capsys):
    train()
    blob = bytearray(checkpoint().read_bytes())
    blob[len(blob) // 2] ^= 1
    checkpoint().write_bytes(blob)
    previous = checkpoint().with_name("checkpoint.previous.safetensors")
    for way in (["--resume"], ["--sample", 5]):
        message = refused(capsys, "--data", "cats.txt", *way)
        assert message.startswith(f"char_lm: load: '{checkpoint()}': expected an intact checkpoint")
        remedy = f"rename the previous checkpoint, '{previous.resolve()}', to go on from it"
        assert message.endswith(remedy)
    assert checkpoint().read_bytes() == blob
    os.replace(previous, checkpoint())
    assert char_lm.main(["--resume", "--data", "cats.txt"])["recipe"]["hidden"] == 8


@pytest.mark.parametrize("way", [["--resume"], ["--sample", "9"]])
def test_without_a_checkpoint_path_and_remedy_are_named(way, capsys):
    remedy = "expected a folder with files checkpoint*.safetensors, it has none; train one first"
    for place, options in [("runs/char_lm-cats", []), ("else/where", ["--out", "else/where"])]:
        message = refused(capsys, "--data", "cats.txt", *options, *way)
        assert message == f"char_lm: {place}: {remedy}, or name its folder with --out"
        assert not Path(place).exists()


def test_resume_refuses_another_text_and_another_recipe(capsys):
    train("--out", "a")
    before = checkpoint("a").read_bytes()
    Path("dogs.txt").write_text("dogs and more dogs " * 50)
    resume = ("--resume", "--out", "a")
    start = "char_lm: --resume: a/checkpoint.safetensors: expected"
    end = "got something else; leave that option out, or start anew with another --out"
    text = "the same text as before in --data cats.txt"
    assert refused(capsys, *resume, "--data", "dogs.txt") == f"{start} {text}, {end}"
    hidden = refused(capsys, *resume, "--hidden", 9, "--layers", 1, "--lr", 1)
    assert hidden == f"{start} --hidden 8 and --lr 0.004, {end}"
    Path("cats.txt").write_text("changed" * 99)
    assert refused(capsys, *resume) == f"{start} {text}, {end}"
    assert checkpoint("a").read_bytes() == before


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"script": "hello"}, "got one of hello; name another folder with --out"),
        ({}, "got one of None; name another"),
        (OLD, "got one whose recipe lacks cell, connection, decay; name another folder"),
        ({**OLD, "recipe": {**RECIPE, "depth": 3}}, "unexpected keyword argument 'depth'"),
        ({**OLD, "recipe": RECIPE}, "missing 4 required positional arguments"),
        ({"script": "char_lm"}, "got 'recipe'; name another"),
    ],
)
def test_a_checkpoint_of_another_script_or_version_is_refused(state, message, capsys):
    Path("other").mkdir()
    saving.save(checkpoint("other"), {}, state)
    for way in (["--resume"], ["--sample", 5]):
        got = refused(capsys, "--out", "other", *way)
        assert message in got
        assert got.startswith(f"char_lm: {checkpoint('other')}: expected a checkpoint of this ver")


# Arguments and texts that cannot be used.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "0"], "--hidden: expected a whole number in 1..1000000000, got '0'"),
        (["--hidden", "-3"], "--hidden: expected a whole number in 1..1000000000, got '-3'"),
        (["--hidden", "x"], "--hidden: expected a whole number in 1..1000000000, got 'x'"),
        (["--updates", "2.5"], "--updates: expected a whole number in 1..1000000000, got '2.5'"),
        (["--seed", "-1"], "--seed: expected a whole number in 0..4294967295, got '-1'"),
        (
            ["--ensemble", "0"],
            "--ensemble: expected a whole number in 1..100, got '0'; leave it out for",
        ),
        (
            ["--ensemble", "101"],
            "--ensemble: expected a whole number in 1..100, got '101'; leave it",
        ),
        (["--lr", "nan"], "--lr: expected a number in 1e-09..1000000000.0, got 'nan'"),
        (["--dropout", "1"], "--dropout: expected a number in 0..0.99, got '1'; leave it out for"),
        (["--clip", "0"], "--clip: expected a number in 1e-09..1000000000.0, got '0'"),
        (["--temperature", "0"], "--temperature: expected a number in 1e-09..1000000000.0, got"),
        (["--sample", "0"], "--sample: expected a whole number in 1..1000000000, got '0'"),
        (["--sample", "5", "--resume"], "--resume: not allowed with argument --sample"),
        (["--curve", "x.jpg"], "--curve: expected a name that ends in .png, got 'x.jpg'"),
        (["--curve", "no/x.png"], "--curve: expected a name in an existing folder, got no/x.png"),
        (["--cell", "lsd"], "argument --cell: invalid choice: 'lsd' (choose from"),
        (["--connection", "both"], "argument --connection: invalid choice: 'both' (choose from"),
        (["--recipe", "tiny"], "argument --recipe: invalid choice: 'tiny' (choose from"),
        (["--data", "none.txt"], "got 'none.txt': No such file or directory"),
        (["--data", "."], "stdlib, tiny-shakespeare, pydoc, ptb, got '.': a folder"),
        (["--out", "cats.txt"], "cats.txt'; name another place"),
        (["--out", "cats.txt/below"], "cats.txt/below'; name another place"),
        (["--prompt", "cat é"], "--prompt: expected characters of the text, got ['é']; drop them"),
        (["--hidden", "300000"], "Unable to allocate"),
    ],
)
def test_bad_arguments_end_with_2_and_a_line(arguments, message, capsys):
    assert message in refused(capsys, "--data", "cats.txt", *SMALL, *arguments)
    assert not Path("runs").exists()
    assert len(Path("cats.txt").read_text()) == 2000


@pytest.mark.skipif(os.name != "posix" or not os.geteuid(), reason="root may write anywhere")
def test_a_folder_without_permission_is_named(capsys):
    Path("locked").mkdir(mode=0o500)
    message = refused(capsys, "--data", "cats.txt", *SMALL, "--out", "locked")
    assert "Permission denied" in message and "locked" in message


@pytest.mark.parametrize("length", [0, 1, 2, 3, 10])
def test_a_text_that_is_too_short_is_refused(length, capsys):
    Path("short.txt").write_text("abcdefghij"[:length])
    message = refused(capsys, "--data", "short.txt", *SMALL)
    assert "got an empty file" in message or "longer" in message
    assert not Path("runs").exists()


@pytest.mark.parametrize("length", [11, 12, 20, 33, 40, 45, 300])
def test_a_text_shorter_than_a_batch_trains_all_the_same(length, capsys):
    """From the shortest of which a tenth holds a pair of characters."""
    Path("short.txt").write_text(("abcdefghij" * 30)[:length])
    losses = train(data="short.txt")["nats per character"]
    assert all(0 < loss < 5 for loss in losses.values())
    ids = np.array(["abcdefghij".index(c) for c in Path("short.txt").read_text()])
    ids = ids[int(0.9 * length) :]
    slow = slow_loss(saving.load(checkpoint("runs/char_lm-short"))[0], ids, min(8, len(ids) - 1))
    assert f"\nvalidation {slow:.4f} nats/char, " in capsys.readouterr().out


def test_one_distinct_character_costs_nothing(capsys):
    Path("a.txt").write_text("a" * 500)
    train(data="a.txt")
    out = capsys.readouterr().out
    assert "a" * 600 in out  # no new line to go on from
    assert out.endswith("\nvalidation 0.0000 nats/char, 0.0000 bits\n")


def test_any_characters_reach_a_terminal_without_them():
    Path("a.txt").write_text("λόγος 日本 🙂 " * 40, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "zoo.char_lm", "--data", "a.txt", *SMALL],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        encoding="ascii",
    )
    assert done.returncode == 0 and "Error" not in done.stderr
    assert re.match(r"validation \d\.\d{4} nats/char, ", done.stdout.splitlines()[-1])


def test_samples_follow_prompt_seed_and_temperature(capsys):
    train("--updates", "200", "--lr", "0.03")
    capsys.readouterr()

    def sampled(*options):
        char_lm.main(["--data", "cats.txt", "--sample", "50", *options])
        out, err = capsys.readouterr()
        assert err == f"from {checkpoint()}, update 200 of 200\n"
        return out

    assert sampled() == sampled("--seed", "0") != sampled("--seed", "1")
    assert sampled("--prompt", "the c").startswith("the c") and len(sampled("--prompt", "t")) == 52
    cold = sampled("--temperature", "0.001")
    assert cold == sampled("--temperature", "0.001", "--seed", "9")  # the likeliest, always
    assert len(set(sampled("--temperature", "1000"))) > 8
    assert "--prompt: expected characters" in refused(
        capsys, "--data", "cats.txt", "--sample", 5, "--prompt", "dog!"
    )


# Disks and divergence.


@pytest.mark.parametrize("nth", [1, 3, 31])
def test_a_full_disk_loses_nothing_that_was_saved(nth, whole, monkeypatch, capsys):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    calls, write = [], saving._write_synced

    def full(path, blob):
        calls.append(0)
        if len(calls) >= nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, blob)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "_write_synced", full)
        message = refused(capsys, "--data", "cats.txt", *SMALL, "--out", "full")
    assert "'No space left on device' from the system; free space there" in message
    if nth == 1:  # noticed before the first step
        assert not checkpoint("full").exists()
        return
    assert saving.load(checkpoint("full"))[1]["update"] == nth - 2
    char_lm.main(["--resume", "--out", "full"])
    assert same_end(whole, checkpoint("full"))


def test_a_diverging_loss_stops_and_leaves_the_checkpoint(monkeypatch, capsys):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    message = refused(capsys, "--data", "cats.txt", *SMALL, "--lr", "1e6", "--updates", "100")
    assert re.fullmatch(
        r"char_lm: update \d: expected a finite gradient and a loss below 100 nats/char, got a "
        r"loss of \S+; start anew with a lower --lr and another --out \(what was saved stays\)",
        message,
    )
    arrays, state = saving.load(checkpoint())
    assert state["update"] < 5 and all(np.isfinite(a).all() for a in arrays.values())


@pytest.mark.parametrize("name", ["loss", "gradient", "validation"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_inf_stop_at_their_update(name, value, monkeypatch, capsys):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    owner, function = {
        "loss": (char_lm.nn, "cross_entropy"),
        "gradient": (char_lm.optim, "clip_grad_norm_"),
        "validation": (char_lm, "evaluate"),
    }[name]
    calls, right = [], getattr(owner, function)

    def wrong(*args, **options):
        found = right(*args, **options)
        calls.append(options)
        broken = sum("reduction" not in o for o in calls) == 7 and "reduction" not in options
        return found * value if broken else found

    monkeypatch.setattr(owner, function, wrong)
    message = refused(capsys, "--data", "cats.txt", *SMALL)
    what = "a gradient of norm" if name == "gradient" else "a loss of"
    assert message.startswith("char_lm: update 7: expected a finite gradient and a loss below")
    assert f"got {what} {value}; start anew with a lower --lr" in message
    arrays, state = saving.load(checkpoint())
    assert state["update"] == (7 if name == "validation" else 6)
    assert all(np.isfinite(a).all() for a in arrays.values())


# Folders.


def test_a_new_run_never_takes_the_folder_of_another(capsys):
    for k in ("", "-2", "-3"):
        train("--updates", "1")
        assert f"checkpoint runs/char_lm-cats{k}/checkpoint" in capsys.readouterr().out
    before = checkpoint().read_bytes()
    message = refused(capsys, "--data", "cats.txt", *SMALL, "--out", "runs/char_lm-cats")
    assert message == (
        "char_lm: runs/char_lm-cats: expected a folder without files checkpoint*.safetensors, "
        "it has some; name another folder with --out"
    )
    os.replace(checkpoint(), checkpoint().with_name("checkpoint.previous.safetensors"))
    assert "it has some" in refused(capsys, "--data", "cats.txt", "--out", "runs/char_lm-cats")
    assert checkpoint().with_name("checkpoint.previous.safetensors").read_bytes() == before


def test_resume_and_sample_take_the_newest(capsys):
    for k in range(3):
        train("--updates", str(k + 1))
    runs = [checkpoint(f"runs/char_lm-cats{k}") for k in ("", "-2", "-3")]
    now = time.time()
    for k, path in enumerate(runs):
        for each in path.parent.glob("*.safetensors"):
            os.utime(each, (now + k - 9, now + k - 9))
    assert char_lm.main(["--resume", "--data", "cats.txt"])["recipe"]["updates"] == 3
    os.utime(runs[0])
    capsys.readouterr()
    char_lm.main(["--sample", "5", "--data", "cats.txt"])
    assert capsys.readouterr().err == f"from {runs[0]}, update 1 of 1\n"
    for path in runs[0].parent.iterdir():
        path.unlink()
    train("--updates", "7")  # takes the gap
    assert char_lm.main(["--resume", "--data", "cats.txt"])["recipe"]["updates"] == 7


# What is shown and kept.


def test_help_is_readable_and_lists_the_recipe(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        char_lm.main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert char_lm.__doc__ in out
    for f in dataclasses.fields(char_lm.Recipe):
        option = f.name.replace("_", "-")
        assert re.search(rf"--{option} [NXCL] +\w.* \(default: {f.default}\)", out)
    assert all(cell in out for cell in CELLS)
    assert max(map(len, out.splitlines())) <= 100


@posix
def test_a_terminal_sees_loss_rate_and_time_left():
    termios = pytest.importorskip("termios")
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 120))
    command = [sys.executable, "-m", "zoo.char_lm", "--data", "cats.txt", *LONG]
    done = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 4096):
            shown += chunk
    except OSError:  # the other side has closed
        pass
    os.close(master)
    assert done.wait() == 0
    assert re.search(
        r"\d+/600 \[\d\d:\d\d<\d\d:\d\d, .*loss \d\.\d{3}, \d\.\d{3} nats/char, [\d,]+ chars/s\]",
        shown.decode(),
    )


def test_a_file_sees_little_progress(capsys):
    train(small=LONG)
    err = capsys.readouterr().err
    assert err.count("\r") <= 3 and "Error" not in err


def test_the_curve_is_a_picture_with_names(monkeypatch, capsys):
    figure = pytest.importorskip("matplotlib.figure")
    from matplotlib.image import imread

    drawn, save = [], figure.Figure.savefig
    monkeypatch.setattr(
        figure.Figure, "savefig", lambda f, *a, **k: (drawn.append(f), save(f, *a, **k))
    )
    found = train("--curve", "loss.PNG")
    assert capsys.readouterr().out.splitlines()[-1].startswith("validation ")
    pixels = imread("loss.PNG", format="png")
    assert pixels.shape[:2] == (480, 840) and len(np.unique(pixels.reshape(-1, 4), axis=0)) > 20
    (axes,) = drawn[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("update", "nats per character")
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [name.split()[0] for name in names] == ["training", "validation", "bigrams"]
    lines = [line.get_ydata() for line in axes.lines]
    curve = saving.load(checkpoint())[0]["curve"]
    assert np.array_equal(lines[0], curve[:, 1]) and np.array_equal(lines[1], curve[:, 2])
    assert set(lines[2]) == {found["nats per character"]["bigrams"]}


def test_a_curve_that_cannot_be_drawn_comes_after_the_result(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit) as end:
        train("--curve", "loss.png")
    out, err = capsys.readouterr()
    assert end.value.code == 2 and err.splitlines()[-1].startswith("char_lm: ")
    assert out.splitlines()[-1].startswith("validation ") and Path("runs/char_lm-cats").exists()


def test_result_and_log_are_complete_and_tell_no_paths(folder, capsys):
    found = train("--lr", "0.01", "--seed", "3", "--out", str(folder / "kept"))
    text = Path("kept/result.json").read_text(encoding="utf-8")
    assert json.loads(text) == found
    log = Path("kept/log.jsonl").read_text(encoding="utf-8")
    first, *points, last = map(json.loads, log.splitlines())
    assert str(folder) not in text + log and str(Path.home()) not in text + log
    assert first["command"] == found["command"] == (
        "python -m zoo.char_lm --data cats.txt --hidden 8 --embedding 6 --updates 30 --batch 4 "
        "--length 8 --lr 0.01 --seed 3 --out kept"
    )  # fmt: skip
    assert first["recipe"] == found["recipe"] and found["recipe"]["seed"] == 3
    assert first["update"] == 0 and last == found
    assert set(found["versions"]) == {"python", "numpy", "tinygrad_rnn"}
    assert found["text"]["name"] == "cats.txt" and found["minutes of training"] > 0
    assert [p["update"] for p in points] == list(range(1, 31))
    curve = saving.load(checkpoint("kept"))[0]["curve"]
    assert [[p["update"], p["training"], p["validation"]] for p in points] == curve.tolist()
    shown = capsys.readouterr().out.splitlines()[-1]
    nats = found["nats per character"]["validation"]
    assert shown == f"validation {nats:.4f} nats/char, {nats / math.log(2):.4f} bits"
    char_lm.main(["--resume", "--out", "kept"])
    lines = Path("kept/log.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[:32] == log.splitlines() and len(lines) == 34
    assert json.loads(lines[32])["command"] == "python -m zoo.char_lm --resume --out kept"
    assert json.loads(Path("kept/result.json").read_text(encoding="utf-8")) == found


# Tiny Shakespeare.


@pytest.mark.skipif(not DATA, reason="TINYGRAD_RNN_DATA names no folder of data sets")
def test_tiny_shakespeare_by_name(capsys):
    found = train("--updates", "2", data="tiny-shakespeare")
    assert found["text"]["sha256"] == datasets.KNOWN["tiny-shakespeare"].sha256
    assert {n: round(v, 3) for n, v in found["nats per character"].items()} == {
        "unigrams": 3.347, "bigrams": 2.484, "validation": pytest.approx(4.2, abs=0.2)
    }  # fmt: skip
    assert "checkpoint runs/char_lm-tiny-shakespeare/" in capsys.readouterr().out


def test_without_data_and_network_address_and_place_are_named(monkeypatch, folder, capsys):
    pooch = pytest.importorskip("pooch")
    monkeypatch.delenv("TINYGRAD_RNN_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: folder / "cache" / project)
    monkeypatch.setattr(datasets, "RETRIES", 0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/input.txt"
        known = dataclasses.replace(datasets.KNOWN["tiny-shakespeare"], url=url)
        monkeypatch.setitem(datasets.KNOWN, "tiny-shakespeare", known)
        message = refused(capsys, "--data", "tiny-shakespeare")
    assert message.startswith(f"char_lm: tiny-shakespeare: expected to download {url} (1115394")
    place = folder / "cache" / "tinygrad_rnn" / "tiny-shakespeare" / "input.txt"
    assert f"put it at '{place}'" in message and "TINYGRAD_RNN_DATA" in message
    assert not Path("runs").exists()


# The page.


@pytest.mark.parametrize(
    ("stored", "recipe", "most", "minutes"),
    [
        ("tiny-shakespeare", "tiny-shakespeare", 1.47, 6),
        ("tiny-shakespeare-ensemble", "ensemble", 1.43, 40),
    ],
)
def test_the_stored_runs_reach_what_they_are_for(stored, recipe, most, minutes):
    path = ROOT / f"zoo/results/char_lm-{stored}.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    assert run["text"]["sha256"] == datasets.KNOWN["tiny-shakespeare"].sha256
    assert char_lm.Recipe(**run["recipe"]) == char_lm.Recipe(**char_lm.RECIPES[recipe])
    assert run["nats per character"]["validation"] <= most and run["minutes of training"] <= minutes


def test_the_page_shows_the_stored_results():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = (ROOT / "docs/zoo/char_lm.md").read_text(encoding="utf-8")
    assert tables.rewritten(page) == page
    assert "| stdlib |" in page
    assert tables.rewritten(page.replace("| stdlib |", "| other |")) == page
