"""The laboratory's norms, rates and reaches are what the definition and simple cases say."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from zoo.lab import vanishing_gradients as lab
from zoo.lab.vanishing_gradients import NETWORKS, QUICK, Recipe

pytest.importorskip("tqdm")
SMALL = "--quick --seeds 1".split()
FIVE = ("tanh RNN", "ReLU RNN", "identity ReLU RNN", "LSTM", "GRU")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The result of the command that the page names for a glance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("quick"))
        return lab.main(["--quick"])


# What is measured


@pytest.mark.parametrize("name", NETWORKS)
def test_norms_are_those_of_a_loop_over_the_cell(name):
    recipe = Recipe(hidden=6, inputs=3, steps=9, batch=2)
    layer = lab.network(name, recipe, np.random.default_rng(1))
    found = lab.seen(layer, recipe, np.random.default_rng(2))
    rng = np.random.default_rng(2)
    x = rng.standard_normal((9, 2, 3))
    readout = tg.nn.Linear(6, lab.CLASSES, dtype="float64", rng=rng)
    targets = rng.integers(lab.CLASSES, size=2)
    parts = len(layer.state_sizes)
    states, state = [], tuple(tg.zeros(2, 6, dtype="float64") for _ in range(parts))
    for row in x:
        _, after = layer.step(tg.Tensor(row), state if parts > 1 else state[0], *layer.weights(0))
        state = tuple(1.0 * s for s in (after if parts > 1 else (after,)))
        states.append(state)
    loss = tg.nn.cross_entropy(readout(state[0]), targets)
    flat = tg.grad(loss, [s for row in states for s in row], allow_unused=True)
    squares = [0.0 if d is None else (d.numpy() ** 2).sum() for d in flat]
    norms = np.sqrt(np.reshape(squares, (9, parts)).sum(1))[::-1]
    np.testing.assert_allclose(found["norms"], norms, rtol=1e-9)
    assert found["apart"] < 1e-13 and len(found["contributions"]) == 9 and norms[0] > 0


def test_rate_of_a_geometric_curve_is_its_factor():
    for factor in (0.5, 1.0, 1.3):
        assert lab.rate(list(3.0 * factor ** np.arange(40))) == pytest.approx(factor)
    assert np.isnan(lab.rate([1.0] * 5 + [0.0] * 5))


def test_reach_and_last_steps_of_simple_curves():
    assert lab.reach([1.0, 0.5, 0.009, 0.002]) == 2
    assert lab.reach([1.0, 0.001, 0.02, 0.001]) == 3
    assert lab.reach([1.0, 0.5]) is None
    assert lab.last_steps([99.5, 0.3, 0.2]) == 1
    assert lab.last_steps([1.0] * 100) == 99


def test_prediction_for_a_plain_network_is_the_spectral_radius_of_its_weights():
    recipe = Recipe(hidden=8, inputs=2)
    layer = lab.network("tanh RNN", recipe, np.random.default_rng(0))
    weights = layer.state_dict() | {"bias_ih_l0": np.zeros(8), "bias_hh_l0": np.zeros(8)}
    layer.load_state_dict(weights)  # at rest h = 0, where tanh' = 1
    radius = np.abs(np.linalg.eigvals(weights["weight_hh_l0"])).max()
    assert lab.predicted(layer) == pytest.approx(radius, rel=1e-6)
    identity = lab.network("identity ReLU RNN", recipe, np.random.default_rng(0))
    assert lab.predicted(identity) == 1.0


def test_forget_gate_without_a_recurrent_matrix_predicts_itself():
    recipe = Recipe(hidden=5, inputs=2, forget=2.0, gain=0.01)
    layer = lab.network("LSTM, open forget gate", recipe, np.random.default_rng(0))
    weights = layer.state_dict()
    weights = {n: w * 0 for n, w in weights.items()} | {"bias_ih_l0": np.repeat([0, 2.0, 0, 0], 5)}
    layer.load_state_dict(weights)
    assert lab.predicted(layer) == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_predictions_hold_and_the_order_is_that_of_the_page(quick):
    rows = {row["network"]: row for row in quick["networks"]}
    assert tuple(rows)[:5] == FIVE and len(rows) == 6
    for row in rows.values():
        assert 1 / lab.NEAR <= row["measured"] / row["predicted"] <= lab.NEAR
        assert row["least"] <= row["measured"] <= row["most"]
    for name in ("tanh RNN", "ReLU RNN", "LSTM", "GRU"):
        assert rows[name]["reach"] < 12 and rows[name]["last steps"] < 14
    for name in ("identity ReLU RNN", "LSTM, open forget gate"):
        assert rows[name]["reach"] is None and rows[name]["last steps"] > 30
    assert rows["ReLU RNN"]["measured"] < rows["tanh RNN"]["measured"]


def test_large_weights_make_gradients_explode():
    recipe = Recipe(hidden=40, steps=60, gain=4.0)
    layer = lab.network("ReLU RNN", recipe, np.random.default_rng(0))
    found = lab.seen(layer, recipe, np.random.default_rng(0))
    assert lab.rate(found["norms"]) > 1.2


# The command


def test_result_has_all_that_a_table_needs(folder):
    result = lab.main([*SMALL, "--out", str(folder / "run")])
    stored = json.loads((folder / "run/result.json").read_text(encoding="utf-8"))
    assert stored["recipe"]["hidden"] == 24 and stored["recipe"]["seeds"] == 1
    assert stored["command"].startswith("python -m zoo.lab.vanishing_gradients --quick")
    assert [row["network"] for row in stored["networks"]] == list(NETWORKS)
    assert len(stored["seeds"]) == 6
    for row, seed in zip(stored["networks"], stored["seeds"], strict=True):
        assert len(row["log10 by T - t"]) == 40 and row["measured"] == seed["measured"]
    assert stored["networks"] == result["networks"]
    assert lab.main([*SMALL])["networks"] == result["networks"]  # the same draws again


def test_picture_is_a_png(folder):
    pytest.importorskip("matplotlib")
    path = folder / "reach.png"
    lab.main([*SMALL, "--picture", str(path)])
    assert path.read_bytes().startswith(b"\x89PNG")


def test_picture_without_matplotlib_ends_with_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit) as end:
        lab.main([*SMALL, "--picture", "x.png"])
    assert end.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_a_used_folder_is_not_used_again(folder, capsys):
    lab.main([*SMALL, "--out", "run"])
    with pytest.raises(SystemExit) as end:
        lab.main([*SMALL, "--out", "run"])
    assert end.value.code == 2
    assert "expected a folder without files result.json" in capsys.readouterr().err
    lab.main(SMALL)
    lab.main(SMALL)
    assert Path("runs/vanishing_gradients-2/result.json").exists()


@pytest.mark.parametrize(
    ("rows", "found", "message"),
    [
        ([{"network": "GRU", "seed": 3, "apart": 1e-6}], [], "GRU, seed 3: expected contributions"),
        ([{"network": "GRU", "seed": 3, "apart": float("nan")}], [], "difference of nan"),
        (
            [],
            [{"network": "GRU", "predicted": 0.5, "measured": 0.9}],
            "GRU: expected a factor within 25% of the predicted 0.500, got 0.900; with few units",
        ),
        ([], [{"network": "GRU", "predicted": 0.5, "measured": float("nan")}], "got nan"),
    ],
)
def test_what_does_not_hold_ends_the_program(rows, found, message):
    with pytest.raises(SystemExit, match=re.escape(message)):
        lab.check(rows, found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "1"], "--hidden: expected a whole number in 2..1024, got '1'"),
        (["--steps", "3"], "--steps: expected a whole number in 20..1000, got '3'"),
        (["--gain", "0"], "--gain: expected a number in 0.01..100, got '0'"),
        (["--picture", "x.gif"], "--picture: expected a name that ends in .png"),
        (["--picture", "missing/x.png"], "--picture: expected a name in an existing folder"),
    ],
)
def test_bad_arguments_end_with_2_and_the_remedy(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        lab.main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_help_tells_the_equation_and_the_options(capsys):
    with pytest.raises(SystemExit) as end:
        lab.main(["--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    for part in ("∂L_T/∂h_t = ∂L_T/∂h_T", "--picture PNG", "--quick", "Pascanu", "--forget"):
        assert part in out
    assert QUICK["seeds"] == 2
