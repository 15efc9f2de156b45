"""The recurrent network tells the two l's of "hell" apart; without recurrence none can."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo import hello

ROOT = Path(__file__).resolve().parents[2]
H, E, L, O = range(4)  # noqa: E741 (the columns of the tables)
OUTPUT = re.compile(r"<!-- output of: python (.*) -->\n```text\n(.*?)```\n<!-- end", re.DOTALL)


@pytest.fixture(scope="module")
def metrics():
    return hello.main([])


# What it learns.


@pytest.mark.parametrize("seed", range(5))
def test_each_letter_gets_its_own_successor(seed):
    y = hello.main(["--seed", str(seed)]).recurrent.after
    assert min(y[0, E], y[1, L], y[2, L], y[3, O]) > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_without_recurrence_both_ls_get_the_same_confidences_to_the_bit(seed):
    cut = hello.main(["--seed", str(seed)]).cut
    assert np.array_equal(cut.after[2], cut.after[3])
    assert np.array_equal(cut.before[2], cut.before[3])
    assert not np.array_equal(cut.after[1], cut.after[2])  # other letters it does tell apart
    assert cut.after[3, O] == pytest.approx(0.5, abs=0.01)
    assert cut.after[2, L] == pytest.approx(0.5, abs=0.01)
    assert math.log(2) / 2 < cut.losses[-1] < math.log(2) / 2 + 0.01


def test_what_needs_no_memory_is_learnt_without_recurrence(metrics):
    y = metrics.cut.after
    assert min(y[0, E], y[1, L]) > 0.9


def test_before_training_the_targets_are_guesses(metrics):
    for result in metrics:
        targets = result.before[range(4), [E, L, L, O]]
        assert targets.max() < 0.5
        assert result.losses[0] == pytest.approx(math.log(4), abs=0.2)


def test_confidences_are_distributions_and_losses_fall(metrics):
    for result in metrics:
        for y in (result.before, result.after):
            assert y.shape == (4, 4)
            assert np.allclose(y.sum(axis=1), 1.0) and (y > 0).all()
        assert len(result.losses) == 301
        assert result.losses[-1] < result.losses[150] < result.losses[0]
        targets = result.after[range(4), [E, L, L, O]]
        assert result.losses[-1] == pytest.approx(-np.log(targets).mean(), abs=1e-12)


def test_descent_follows_the_gradient():
    """One step changes each entry by -lr times its slope, and leaves the cut entries at 0."""
    rng = np.random.default_rng(0)
    xs, zs = np.eye(4)[hello.numbers("hell")], hello.numbers("ello")
    theta = hello.initial(3, rng)
    loss = hello.mean_loss(theta, xs, zs)
    loss.backward()
    moved = hello.Theta(*(hello.moved(p, 0.1) for p in theta))
    for name, p, q in zip(hello.Theta._fields, theta, moved, strict=True):
        slopes = np.empty(p.shape)
        for place in np.ndindex(p.shape):
            sides = []
            for shift in (1e-6, -1e-6):
                shifted = np.array(p)
                shifted[place] += shift
                near = theta._replace(**{name: hello.tg.Tensor(shifted)})
                sides.append(hello.mean_loss(near, xs, zs).item())
            slopes[place] = (sides[0] - sides[1]) / 2e-6
        assert np.abs(slopes).max() > 1e-4
        assert np.allclose(q.numpy(), p.numpy() - 0.1 * slopes, rtol=0, atol=1e-9)
    cut = hello.without_recurrence(theta)
    assert not cut.W_hh.numpy().any() and not cut.h_0.numpy().any()
    assert hello.moved(cut.W_hh, 0.1) is cut.W_hh


# What it prints.


def test_tables_mark_the_target_and_verdicts_give_its_confidence(capsys):
    metrics = hello.main([])
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if re.match(r"(h|e|l \(1st\)|l \(2nd\)) ", line)]
    assert len(rows) == 8  # before and after
    for k, line in enumerate(rows):
        left, right = (result[k // 4][k % 4] for result in metrics)
        target = [E, L, L, O][k % 4]
        assert re.findall(r"\[(.*?)\]", line) == [f"{left[target]:.3f}", f"{right[target]:.3f}"]
        assert re.findall(r"\d\.\d{3}", line) == [f"{c:.3f}" for c in (*left, *right)]
    assert f"second l -> o {metrics.recurrent.after[3, O]:.3f}" in out
    assert f"second l -> o {metrics.cut.after[3, O]:.3f}" in out
    assert "its two rows for l differ by 0\n" in out
    assert max(map(len, out.splitlines())) <= 92


def test_same_seed_same_output_other_seed_other_output(capsys):
    outs = []
    for seed in ("3", "3", "4"):
        hello.main(["--seed", seed, "--steps", "5"])
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1] != outs[2].replace("seed 4", "seed 3")


@pytest.mark.parametrize("arguments", [["--hidden", "1"], ["--steps", "1"], ["--lr", "10"]])
def test_extreme_arguments_give_finite_numbers(arguments):
    for result in hello.main(arguments):
        assert np.isfinite(result.losses).all() and np.isfinite(result.after).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "0"], "--hidden: expected a whole number in 1..512, got '0'; leave it out"),
        (["--hidden", "2.5"], "--hidden: expected a whole number in 1..512, got '2.5'"),
        (["--hidden", "10000"], "--hidden: expected a whole number in 1..512, got '10000'"),
        (["--steps", "-1"], "--steps: expected a whole number in 1..10000, got '-1'"),
        (["--steps", "many"], "--steps: expected a whole number in 1..10000, got 'many'"),
        (["--lr", "0"], "--lr: expected a number in 1e-06..10, got '0'"),
        (["--lr", "nan"], "--lr: expected a number in 1e-06..10, got 'nan'"),
        (["--lr", "inf"], "--lr: expected a number in 1e-06..10, got 'inf'"),
        (["--seed", "-1"], "--seed: expected a whole number in 0..4294967295, got '-1'"),
        (["--what"], "unrecognized arguments: --what"),
    ],
)
def test_bad_arguments_end_with_2_and_the_remedy(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        hello.main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_help_tells_the_equations_and_the_options(capsys):
    with pytest.raises(SystemExit) as end:
        hello.main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    for part in ("h_t = tanh(u_t)", "python -m zoo.hello", "--lr LR", "learning rate (0.5)"):
        assert part in out


def test_the_page_shows_what_the_command_prints():
    page = (ROOT / "docs/zoo/hello.md").read_text(encoding="utf-8")
    ((command, shown),) = OUTPUT.findall(page)
    run = [sys.executable, "-W", "error", *command.split()]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert shown == done.stdout
