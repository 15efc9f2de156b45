"""Schedules of the learning rate: their curves, how they chain, and their state."""

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.optim import lr_scheduler as lrs


def optimizer(*rates):
    groups = [{"params": [tg.ones(1, requires_grad=True)], "lr": r} for r in rates or (0.5,)]
    return tg.optim.SGD(groups)


def rates(made, steps):
    """The first group's rate at once and after each of the steps."""
    found = [made.get_last_lr()[0]]
    for _ in range(steps):
        made.step()
        found.append(made.get_last_lr()[0])
    return found


def cosine(t, base, T=8, least=0.1):
    return least + (base - least) * (1 + math.cos(math.pi * t / T)) / 2


# Name: how it is made, and its rate as a function of t and the base
SCHEDULES = {
    "LambdaLR": (lambda o: lrs.LambdaLR(o, lambda t: 1 / (1 + t)), lambda t, b: b / (1 + t)),
    "StepLR": (lambda o: lrs.StepLR(o, 3, 0.5), lambda t, b: b * 0.5 ** (t // 3)),
    "MultiStepLR": (
        lambda o: lrs.MultiStepLR(o, [5, 2, 5], 0.5),
        lambda t, b: b * (1 if t < 2 else 0.5 if t < 5 else 0.125),
    ),
    "ExponentialLR": (lambda o: lrs.ExponentialLR(o, 0.9), lambda t, b: b * 0.9**t),
    "LinearLR": (
        lambda o: lrs.LinearLR(o, 0.2, 0.8, total_iters=4),
        lambda t, b: b * (0.2 + 0.6 * min(t, 4) / 4),
    ),
    "CosineAnnealingLR": (lambda o: lrs.CosineAnnealingLR(o, 8, 0.1), cosine),
    "InverseSqrtLR": (
        lambda o: lrs.InverseSqrtLR(o, 4),
        lambda t, b: b * (t + 1) / 4 if t < 4 else b * math.sqrt(4 / (t + 1)),
    ),
    "SequentialLR": (
        lambda o: lrs.SequentialLR(
            o, [lrs.LinearLR(o, 0.25, total_iters=3), lrs.CosineAnnealingLR(o, 8, 0.1)], [3]
        ),
        lambda t, b: b * (0.25 + 0.75 * t / 3) if t < 3 else cosine(t - 3, b),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("base", (0.5, 1e-3, 0.0))
def test_rates_follow_the_curve_in_every_group(name, base):
    make, curve = SCHEDULES[name]
    o = optimizer(base, 0.25)
    schedule = make(o)
    for t in range(20):
        expected = [curve(t, base), curve(t, 0.25)]
        np.testing.assert_allclose(schedule.get_last_lr(), expected, rtol=1e-14)
        assert schedule.get_last_lr() == [g["lr"] for g in o.param_groups]
        schedule.step()
    assert len({g["lr"] for g in o.param_groups}) == 2 or base == 0.25


def test_transformers_rate_is_the_papers():
    width, warm = 512, 4000
    o = optimizer(1 / math.sqrt(width * warm))
    found = rates(lrs.InverseSqrtLR(o, warm), 9000)
    paper = [width**-0.5 * min(s**-0.5, s * warm**-1.5) for s in range(1, 9002)]
    np.testing.assert_allclose(found, paper, rtol=1e-12)


def test_steps_use_the_rate_of_the_moment():
    o = optimizer(1.0)
    schedule = lrs.ExponentialLR(o, 0.5)
    (x,) = o.params
    for _ in range(4):
        x.grad = tg.ones(1)
        o.step()
        schedule.step()
    assert x.item() == 1 - (1 + 0.5 + 0.25 + 0.125)


@given(st.lists(st.sampled_from(sorted(SCHEDULES)), min_size=2, max_size=3), st.integers(0, 15))
def test_schedules_of_one_optimiser_are_chained(names, steps):
    o = optimizer(0.5)
    made = [SCHEDULES[n][0](o) for n in names]
    for t in range(steps + 1):
        expected = 0.5
        for n in names:
            expected = SCHEDULES[n][1](t, expected)
        assert o.lr == pytest.approx(expected, rel=1e-14)
        for schedule in made:
            schedule.step()


def test_rate_set_by_hand_lasts_until_the_next_step():
    o = optimizer(0.5)
    schedule = lrs.ExponentialLR(o, 0.5)
    o.lr = 9.0
    schedule.step()
    assert o.lr == 0.25
    o.param_groups[0]["initial_lr"] = 4.0
    schedule.step()
    assert o.lr == 1.0


def test_a_group_added_later_joins_at_the_next_step():
    o = optimizer(0.5)
    schedule = lrs.ExponentialLR(o, 0.5)
    schedule.step()
    o.add_param_group({"params": [tg.ones(1, requires_grad=True)], "lr": 8.0})
    schedule.step()
    assert schedule.get_last_lr() == [0.125, 2.0]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("before", range(0, 13, 3))
def test_resumed_schedule_is_bit_equal(name, before):
    make, _ = SCHEDULES[name]
    first, second = optimizer(0.3, 0.7), optimizer(9.0, 8.0)
    schedule = make(first)
    rates(schedule, before)
    resumed = make(second)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    for _ in range(8):
        assert schedule.get_last_lr() == resumed.get_last_lr()
        schedule.step(), resumed.step()
    assert schedule.state_dict() == resumed.state_dict()


def test_state_is_a_copy_both_ways():
    schedule = lrs.ExponentialLR(optimizer(0.5), 0.5)
    state = schedule.state_dict()
    schedule.step()
    assert state["last_epoch"] == 0
    schedule.load_state_dict(state)
    state["base_lrs"][0] = 77.0
    schedule.step()
    assert schedule.get_last_lr() == [0.25] and schedule.state_dict()["last_epoch"] == 1


WRONG = {
    "missing": lambda s: s.pop("last_epoch"),
    "unexpected": lambda s: s.update(best=1.0),
    "groups": lambda s: s.update(base_lrs=[0.5, 0.5]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_state_is_refused_and_nothing_is_changed(case):
    schedule = lrs.StepLR(optimizer(0.5), 2)
    rates(schedule, 3)
    before, state = schedule.state_dict(), schedule.state_dict()
    WRONG[case](state)
    with pytest.raises(ValueError, match=r"^load_state_dict: expected the state of this StepLR, s"):
        schedule.load_state_dict(state)
    assert schedule.state_dict() == before


NUMBERS = st.integers(-3, 3) | st.sampled_from((2**62, 10**400, -0.5, 1.5, math.nan, -math.inf))
VALUES = NUMBERS | st.sampled_from((None, True, "x", "", [], [0.5], [[0.5]], {}, np.ones(2)))
PLATEAU = {"ReduceLROnPlateau": (lambda o: lrs.ReduceLROnPlateau(o, patience=1), None)}


@pytest.mark.parametrize("name", SCHEDULES | PLATEAU)
@given(data=st.data())
def test_a_damaged_state_is_refused_whole_or_is_one_to_go_on_from(name, data):
    """Nothing is changed, or the rates are some, now and later."""
    schedule = (SCHEDULES | PLATEAU)[name][0](o := optimizer(0.5, 0.25))
    metrics = (1.0,) * (name in PLATEAU)
    schedule.step(*metrics)
    before = copy.deepcopy(schedule.state_dict()), schedule.get_last_lr()
    state = copy.deepcopy(before[0])
    for key in data.draw(st.lists(st.sampled_from(sorted(state)), min_size=1, unique=True)):
        rates = st.lists(VALUES, min_size=2, max_size=2)
        state[key] = data.draw(VALUES | rates if key == "base_lrs" else VALUES)
    try:
        schedule.load_state_dict(state)
    except ValueError as error:
        assert "expected" in str(error)
        assert (schedule.state_dict(), schedule.get_last_lr()) == before
    schedule.step(*metrics)
    assert all(0 <= g["lr"] < math.inf for g in o.param_groups)


@pytest.mark.parametrize("state", (None, [], "x", 3))
def test_what_is_no_state_is_refused(state):
    schedule = lrs.StepLR(optimizer(0.5), 2)
    with pytest.raises(ValueError, match=r"^load_state_dict: expected the state of this StepLR, s"):
        schedule.load_state_dict(state)


BROKEN = {
    "StepLR": lambda o: lrs.StepLR(o, 0),
    "LinearLR": lambda o: lrs.LinearLR(o, total_iters=0),
    "CosineAnnealingLR": lambda o: lrs.CosineAnnealingLR(o, 0),
    "InverseSqrtLR": lambda o: lrs.InverseSqrtLR(o, 0),
    "LambdaLR": lambda o: lrs.LambdaLR(o, lambda t: -1.0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_schedule_without_rates_is_refused_and_not_kept(name):
    o = optimizer(0.5)
    first = lrs.ExponentialLR(o, 0.5)
    with pytest.raises(ValueError, match=rf"^{name}: expected finite rates of at least 0, got"):
        BROKEN[name](o)
    first.step()
    assert o.lr == 0.25 and o.schedules == [first]


def test_a_step_to_no_rate_is_refused_and_not_taken():
    o = optimizer(0.5)
    schedule = lrs.LambdaLR(o, lambda t: 1.0 if t < 2 else math.nan)
    schedule.step()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^LambdaLR: expected finite rates .*'last_epoch': 2"):
            schedule.step()
        assert o.lr == 0.5 and schedule.state_dict()["last_epoch"] == 1


def test_a_group_added_later_is_part_of_the_state():
    o = optimizer(0.5)
    schedule = lrs.ExponentialLR(o, 0.5)
    schedule.step()
    o.add_param_group({"params": [tg.ones(1, requires_grad=True)], "lr": 8.0})
    assert schedule.state_dict() == {"last_epoch": 1, "base_lrs": [0.5, 8.0]}


@pytest.mark.parametrize("name", SCHEDULES | PLATEAU)
def test_copies_are_schedules_of_their_own(name):
    make, metrics = (SCHEDULES | PLATEAU)[name][0], (1.0,) * (name in PLATEAU)
    o = optimizer(0.5)
    first, twin = make(o), make(other := optimizer(0.5))
    copied, schedule = copy.deepcopy((o, first))
    for _ in range(9):
        schedule.step(*metrics), twin.step(*metrics)
        assert copied.lr == other.lr
    assert first.state_dict()["last_epoch"] == 0 and copied.lr != o.lr


@pytest.mark.parametrize(("count", "milestones"), [(2, []), (2, [3, 4]), (3, [5, 2]), (2, [-1])])
def test_wrong_milestones_are_refused(count, milestones):
    o = optimizer(0.5)
    parts = [lrs.ExponentialLR(o, 0.5) for _ in range(count)]
    with pytest.raises(ValueError, match=r"^SequentialLR: expected rising milestones, one fewer"):
        lrs.SequentialLR(o, parts, milestones)


STRANGERS = {
    "another optimiser's": lambda o: lrs.ExponentialLR(optimizer(0.5), 0.5),
    "a plateau": lrs.ReduceLROnPlateau,
    "one twice": lambda o: o.schedules[0],
}


@pytest.mark.parametrize("case", STRANGERS)
def test_schedules_that_cannot_be_one_after_another_are_refused(case):
    o = optimizer(0.5)
    first = lrs.ExponentialLR(o, 0.5)
    second, kept = STRANGERS[case](o), [*o.schedules]
    with pytest.raises(ValueError, match=r"^SequentialLR: expected .* schedules of t of this opt"):
        lrs.SequentialLR(o, [first, second], [3])
    assert o.schedules == kept


# A metric that no longer improves


def plateau(metrics, base=1.0, **options):
    """The rate after each metric."""
    o = optimizer(base)
    schedule = lrs.ReduceLROnPlateau(o, **{"factor": 0.5, "patience": 1} | options)
    found = []
    for metric in metrics:
        schedule.step(metric)
        found.append(o.lr)
    return found


@pytest.mark.parametrize(
    ("metrics", "options", "expected"),
    [
        ([3, 2, 1, 0.5], {}, [1, 1, 1, 1]),
        ([1, 1, 1, 1, 1], {}, [1, 1, 0.5, 0.5, 0.25]),
        ([1, 2, 0.9, 2, 2], {}, [1, 1, 1, 1, 0.5]),
        ([1, 1, 1], {"patience": 0}, [1, 0.5, 0.25]),
        ([1, 2, 3, 3, 3], {"mode": "max"}, [1, 1, 1, 1, 0.5]),
        ([1, 0.95, 0.95], {"threshold": 0.1}, [1, 1, 0.5]),
        ([1, 0.85, 0.8], {"threshold": 0.1}, [1, 1, 1]),
        ([9, 8, 7], {"threshold": 2, "threshold_mode": "abs"}, [1, 1, 0.5]),
        ([9, 6, 3], {"threshold": 2, "threshold_mode": "abs"}, [1, 1, 1]),
        ([1] * 9, {"cooldown": 2}, [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]),
        ([1] * 8, {"min_lr": 0.3}, [1, 1, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3]),
        ([1] * 3, {"min_lr": 5.0}, [1, 1, 1]),
        ([math.nan] * 3, {}, [1, 0.5, 0.5]),
        ([-1] * 5, {}, [1, 1, 0.5, 0.5, 0.25]),
        ([-1] * 5, {"mode": "max"}, [1, 1, 0.5, 0.5, 0.25]),
        ([-1, -1.05, -1.05], {"threshold": 0.1}, [1, 1, 0.5]),
        ([-1, -1.15, -1.3], {"threshold": 0.1}, [1, 1, 1]),
        ([-3, -2, -1, -0.5], {"mode": "max"}, [1, 1, 1, 1]),
        ([0, 0, 0], {"threshold": 0.1}, [1, 1, 0.5]),
    ],
)
def test_plateau_reduces_the_rate_when_patience_ends(metrics, options, expected):
    assert plateau(metrics, **options) == expected


def test_plateau_resumes_exactly_and_takes_tensors():
    metrics = [3.0, 2.0, 2.0, 2.5, 1.0, 1.5, 1.5, 1.5, 1.0, 1.0, 1.0]
    for before in range(len(metrics)):
        first, second = optimizer(0.3), optimizer(9.0)
        schedule, resumed = (lrs.ReduceLROnPlateau(o, "min", 0.7, 1) for o in (first, second))
        for m in metrics[:before]:
            schedule.step(tg.Tensor(m))
        resumed.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
        for m in metrics[before:]:
            schedule.step(m), resumed.step(m)
            assert first.lr == second.lr
        assert first.lr < 0.3


@pytest.mark.parametrize("options", [{"mode": "least"}, {"threshold_mode": "x"}, {"factor": 1.0}])
def test_plateau_refuses_unknown_modes_and_growth(options):
    with pytest.raises(
        ValueError, match=r"^ReduceLROnPlateau: expected min/max, rel/abs, \[0, 1\)"
    ):
        lrs.ReduceLROnPlateau(optimizer(), **options)
