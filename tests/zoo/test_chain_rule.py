"""The gradient of a repeated weight is the sum over its appearances, and hand = engine."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from zoo.lab import chain_rule

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = re.compile(r"<!-- output of: python (.*) -->\n```text\n(.*?)```\n<!-- end", re.DOTALL)
STEPS, SEEDS = (1, 2, 3, 7, 100), range(4)
TOLERANCE = 1e-12


def drawn(steps, seed):
    return chain_rule.draw(steps, np.random.default_rng(seed))


def main(steps, seed):
    return chain_rule.main(["--steps", str(steps), "--seed", str(seed)])


# (a)


def test_two_roads_add_up_to_the_derivative():
    roads = main(3, 0).roads
    assert roads == (24, 6, 4, 4, 3, 36)
    assert roads.df_dx * roads.dx_dt + roads.df_dy * roads.dy_dt == roads.df_dt


@pytest.mark.parametrize("t", [-1.5, 0.0, 0.3, 4.0])
def test_the_engine_follows_both_roads_at_any_t(t):
    engine, _ = chain_rule.roads_by_engine(t)
    assert engine == pytest.approx(chain_rule.roads_by_hand(t), abs=1e-14)
    assert engine.df_dt == pytest.approx(9 * t**2, abs=1e-13)


def test_the_small_graph_is_printed_with_its_names(capsys):
    main(3, 0)
    out = capsys.readouterr().out
    nodes, edges = chain_rule.read_dot(out)
    labels = {name: label.partition("\n")[0] for name, label in nodes.items()}
    assert [(labels[a], labels[b]) for a, b in edges] == [
        ("t", "x = t²"),
        ("t", "y = 3 t"),
        ("x = t²", "f = x y"),
        ("y = 3 t", "f = x y"),
    ]


# (b)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("steps", STEPS)
def test_contributions_sum_to_the_shared_gradient(steps, seed):
    metrics = main(steps, seed)
    assert metrics.contributions.shape == (steps, 2, 2)
    total = metrics.contributions.sum(axis=0)
    assert np.abs(total - metrics.shared).max() <= TOLERANCE
    assert np.abs(metrics.shared).max() > 1e-3


def test_each_contribution_is_the_slope_of_its_own_appearance():
    theta, example = drawn(4, 1)
    parts = chain_rule.contributions(theta, example)

    def last_loss(step, place, shift):
        copies = [theta.W_hh.copy() for _ in range(4)]
        copies[step][place] += shift
        tensors = [tg.Tensor(c) for c in copies]
        return chain_rule.unrolled(theta, tensors, example)[1][-1].item()

    for step, j, k in np.ndindex(parts.shape):
        sides = [last_loss(step, (j, k), shift) for shift in (1e-6, -1e-6)]
        assert parts[step, j, k] == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=1e-8)
    assert all(np.abs(part).max() > 1e-4 for part in parts)


def test_the_printed_contributions_add_up(capsys):
    metrics = main(3, 0)
    out = capsys.readouterr().out
    rows = {
        name: np.array(values.split(), float)
        for name, values in re.findall(
            r"^    (i = \d|sum|shared W_hh)((?: +-?\d\.\d+){4})$", out, re.M
        )
    }
    assert list(rows) == ["i = 1", "i = 2", "i = 3", "sum", "shared W_hh"]
    assert np.allclose(rows["i = 1"] + rows["i = 2"] + rows["i = 3"], rows["sum"], atol=2e-6)
    assert np.allclose(rows["shared W_hh"], metrics.shared.ravel(), atol=1e-6)


# (c)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("steps", STEPS)
def test_hand_and_engine_agree_for_sum_and_mean(steps, seed):
    apart = main(steps, seed).apart
    for loss in ("sum", "mean", "T"):
        assert list(apart[loss]) == ["W_hv", "W_hh", "W_oh", "b_h", "b_o", "h_0"]
        assert max(apart[loss].values()) <= TOLERANCE


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_the_hand_written_pass_is_the_slope_of_the_loss(share):
    theta, example = drawn(4, 2)
    hand = chain_rule.by_hand(theta, example, share)

    def loss(name, place, shift):
        arrays = {n: p.copy() for n, p in theta._asdict().items()}
        arrays[name][place] += shift
        near = chain_rule.asking(chain_rule.Theta(**arrays))
        losses = chain_rule.unrolled(near, [near.W_hh] * 4, example)[1]
        return share * sum(x.item() for x in losses)

    for name, d in hand._asdict().items():
        assert np.abs(d).max() > 1e-3
        for place in np.ndindex(d.shape):
            slope = (loss(name, place, 1e-6) - loss(name, place, -1e-6)) / 2e-6
            assert d[place] == pytest.approx(slope, abs=1e-8)


def test_the_hand_written_pass_leaves_its_inputs_alone():
    theta, example = drawn(5, 0)
    before = [p.copy() for p in (*theta, *example)]
    chain_rule.by_hand(theta, example, 1.0)
    assert all(map(np.array_equal, before, (*theta, *example)))


def test_a_wrong_hand_fails_with_a_message_and_not_silently(monkeypatch, capsys):
    right = chain_rule.by_hand

    def wrong(theta, example, share):
        hand = right(theta, example, share)
        return hand._replace(W_hh=hand.W_hh * (1 + 1e-9))

    monkeypatch.setattr(chain_rule, "by_hand", wrong)
    with pytest.raises(SystemExit, match=r"sum: expected \|hand - engine\| of W_hh at most 1e-12"):
        chain_rule.main([])
    assert "(c) Backpropagation" in capsys.readouterr().out  # the numbers are shown all the same


def test_nan_is_no_agreement():
    with pytest.raises(SystemExit, match="W_hh at most 1e-12, got nan"):
        chain_rule.check({"sum": {"W_hh": float("nan")}})


# Files.


def test_dot_shows_one_w_hh_with_an_arrow_for_every_step(tmp_path, capsys):
    path = tmp_path / "network.dot"
    chain_rule.main(["--steps", "5", "--dot", str(path)])
    assert capsys.readouterr().out.endswith(f"wrote {path}\n")
    nodes, edges = chain_rule.read_dot(path.read_text(encoding="utf-8"))
    names = [label.partition("\n")[0] for label in nodes.values()]
    for name in ("W_hv", "W_hh", "W_oh", "b_h", "b_o", "h_0", "h_5", "L_5", "J"):
        assert names.count(name) == 1
    (w_hh,) = (n for n, label in nodes.items() if label.startswith("W_hh"))
    assert sum(a == w_hh for a, _ in edges) == 5


def test_picture_is_a_png_with_every_node_at_a_place_of_its_own(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "network.PNG"
    chain_rule.main(["--picture", str(path)])
    assert path.read_bytes().startswith(b"\x89PNG")
    nodes, edges = chain_rule.read_dot(chain_rule.network_dot(*drawn(3, 0)))
    places = chain_rule.layout(list(nodes), edges)
    assert set(places) == set(nodes)
    assert len(set(places.values())) == len(nodes) > 30
    assert all(places[a][0] < places[b][0] for a, b in edges)  # data flows to the right


def test_picture_without_matplotlib_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit) as end:
        chain_rule.main(["--picture", str(tmp_path / "x.png")])
    assert end.value.code == 2
    assert "expected matplotlib, which is not installed; pip install" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--dot", "--picture"])
def test_a_file_that_cannot_be_written_is_named(option, tmp_path, capsys):
    if option == "--picture":
        pytest.importorskip("matplotlib")
    path = tmp_path / "missing" / "x.png"
    with pytest.raises(SystemExit) as end:
        chain_rule.main([option, str(path)])
    assert end.value.code == 2
    assert (
        f"cannot write {path}: No such file or directory; name another" in capsys.readouterr().err
    )


# The command.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps: expected a whole number in 1..100, got '0'; leave it out"),
        (["--steps", "101"], "--steps: expected a whole number in 1..100, got '101'"),
        (["--steps", "3.0"], "--steps: expected a whole number in 1..100, got '3.0'"),
        (["--seed", "-2"], "--seed: expected a whole number in 0..4294967295, got '-2'"),
        (["--seed", "1" * 5000], "--seed: expected a whole number in 0..4294967295, got"),
        (["--picture", "x.gif"], "--picture: expected a name that ends in .png, got 'x.gif'"),
    ],
)
def test_bad_arguments_end_with_2_and_the_remedy(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        chain_rule.main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_help_tells_the_rule_and_the_options(capsys):
    with pytest.raises(SystemExit) as end:
        chain_rule.main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    for part in ("∂f/∂x dx/dt", "python -m zoo.lab.chain_rule", "--picture FILE.png", "Werbos"):
        assert part in out


def test_all_differences_are_kept_where_they_are_wanted(tmp_path, capsys):
    found = chain_rule.main(["--steps", "5", "--out", str(tmp_path / "kept")])
    stored = json.loads((tmp_path / "kept/result.json").read_text(encoding="utf-8"))
    assert stored["differences"] == found.apart and stored["recipe"] == {"steps": 5, "seed": 0}
    assert stored["command"] == "python -m zoo.lab.chain_rule --steps 5 --out kept"
    with pytest.raises(SystemExit) as end:
        chain_rule.main(["--out", str(tmp_path / "kept")])
    assert end.value.code == 2
    assert "kept: expected a folder without files *.json*, it has some" in capsys.readouterr().err


def run(command, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", *command.split()],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
    )


def test_a_terminal_without_mathematics_gets_question_marks():
    for options in ("", " --help"):
        done = run("-m zoo.lab.chain_rule" + options, PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, "")
        assert "?f/?x dx/dt" in done.stdout


def test_the_page_shows_what_the_command_prints():
    def without_rounding_errors(text):
        return re.sub(r"\d\.\de[-+]\d\d", "_", text)

    page = (ROOT / "docs/zoo/chain_rule.md").read_text(encoding="utf-8")
    ((command, shown),) = OUTPUT.findall(page)
    done = run(command, PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert without_rounding_errors(shown) == without_rounding_errors(done.stdout)
    errors = [float(e) for e in re.findall(r"\d\.\de[-+]\d\d", shown)]
    assert len(errors) == 14 and max(errors) <= TOLERANCE
