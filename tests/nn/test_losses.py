"""cross_entropy: its values, its gradient, the places it leaves out, and its errors."""

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.nn import cross_entropy
from tinygrad_rnn.testing import gradcheck
from tinygrad_rnn.testing import strategies as ts


@st.composite
def problems(draw, dtypes=("float32", "float64")):
    """Logits (..., V) and targets (...), some of them left out."""
    lead, classes = draw(ts.shapes(min_side=1, max_side=4)), draw(st.integers(1, 6))
    dtype = draw(st.sampled_from(dtypes))
    logits = draw(ts.reals((*lead, classes), scales=(1.0, 3.0), dtype=dtype))
    targets = draw(ts.small_integers(lead, -1, classes - 1, dtype=np.intp))
    return logits, np.where(targets < 0, -100, targets)


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(logits, targets):
    """-log softmax(logits)[target] of each place, 0 where it is left out, and one-hot rows."""
    wide = logits.astype(np.float64)
    losses, hot = np.zeros(targets.shape), np.zeros(wide.shape)
    for k in np.ndindex(*targets.shape):
        if targets[k] != -100:
            losses[k] = -math.log(softmax(wide[k])[targets[k]])
            hot[(*k, targets[k])] = 1
    return losses, hot


def near(found, expected, **tolerance):
    found = np.asarray(found)
    tolerance = tolerance or (
        {"rtol": 1e-5, "atol": 1e-6}
        if found.dtype == np.float32
        else {"rtol": 1e-12, "atol": 1e-13}
    )
    np.testing.assert_allclose(found, expected, **tolerance)


@given(problems())
def test_cross_entropy_is_the_negative_log_probability_of_the_target(problem):
    logits, targets = problem
    losses, _ = by_hand(logits, targets)
    count = (targets != -100).sum()
    each = cross_entropy(tg.Tensor(logits), targets, reduction="none")
    total = cross_entropy(tg.Tensor(logits), targets, reduction="sum")
    assert each.shape == targets.shape and total.shape == ()
    assert each.dtype == total.dtype == logits.dtype
    near(each, losses)
    near(total, losses.sum())
    if count:
        mean = cross_entropy(tg.Tensor(logits), targets)
        assert mean.shape == () and mean.dtype == logits.dtype
        near(mean, losses.sum() / count)


@given(problems())
def test_cross_entropy_gradient_is_softmax_minus_one_hot(problem):
    logits, targets = problem
    _, hot = by_hand(logits, targets)
    counts = (targets != -100)[..., None]
    expected = np.where(counts, softmax(logits.astype(np.float64)) - hot, 0)
    x = tg.Tensor(logits, requires_grad=True)
    (d,) = tg.grad(cross_entropy(x, targets, reduction="sum"), x)
    assert d.dtype == logits.dtype
    near(d, expected, rtol=1e-5, atol=1e-6 if logits.dtype == np.float32 else 1e-14)
    assert not d.numpy()[~np.broadcast_to(counts, d.shape)].any()
    if counts.any():
        (mean,) = tg.grad(cross_entropy(x, targets), x)
        near(mean, expected / counts.sum(), rtol=1e-5, atol=1e-6)


@given(problems(dtypes=("float64",)), st.floats(-1e4, 1e4))
def test_cross_entropy_does_not_see_a_common_shift(problem, shift):
    logits, targets = problem
    each, moved = (
        cross_entropy(tg.Tensor(a), targets, reduction="none") for a in (logits, logits + shift)
    )
    near(moved, each.numpy(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("size", (1e4, 1e30))
def test_cross_entropy_of_huge_logits_is_exact(dtype, size):
    rows = np.array([[size, -size], [-size, size], [size, size], [-size, -size]], dtype)
    x = tg.Tensor(rows, requires_grad=True)
    each = cross_entropy(x, [0, 0, 1, 0], reduction="none")
    expected = np.array([0, 2 * float(rows[0, 0]), math.log(2), math.log(2)])
    near(each, expected, rtol=1e-7, atol=0)
    (d,) = tg.grad(each.sum(), x)
    near(d, [[0, 0], [-1, 1], [0.5, -0.5], [-0.5, 0.5]], rtol=1e-7, atol=0)


def test_cross_entropy_keeps_small_losses_exact():
    logits = tg.Tensor(np.array([[0.0, -30.0, -31.0]]))
    expected = math.log1p(math.exp(-30) + math.exp(-31))
    assert cross_entropy(logits, [0]).item() == pytest.approx(expected, rel=1e-3, abs=1e-16)


def test_cross_entropy_of_an_impossible_class_is_infinite_only_if_it_is_the_target():
    logits = tg.Tensor([[-math.inf, 0.0, 0.0]])
    assert cross_entropy(logits, [0]).item() == math.inf
    assert cross_entropy(logits, [1]).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
def test_cross_entropy_agrees_with_differences_twice(reduction, rng):
    targets = np.array([[2, -100, 0], [1, 1, 3]])
    logits = rng.standard_normal((2, 3, 4))
    report = gradcheck(lambda x: cross_entropy(x, targets, reduction=reduction), logits, order=2)
    assert report and report.analytic != 0


# Places left out


@pytest.mark.parametrize("lead", [(3,), (2, 2), ()])
def test_all_places_left_out_give_nan_and_no_gradient(lead):
    x = tg.Tensor(np.ones((*lead, 4)), requires_grad=True)
    targets = np.full(lead, -100)
    with np.errstate(invalid="ignore"):
        loss = cross_entropy(x, targets)
    assert math.isnan(loss.item())
    np.testing.assert_array_equal(tg.grad(loss, x)[0].numpy(), np.zeros((*lead, 4)))
    assert cross_entropy(x, targets, reduction="sum").item() == 0
    assert not cross_entropy(x, targets, reduction="none").numpy().any()


def test_no_places_sum_to_nothing():
    x = tg.zeros(0, 4, requires_grad=True)
    assert cross_entropy(x, np.zeros(0, int), reduction="sum").item() == 0
    assert cross_entropy(x, [], reduction="none").shape == (0,)


def test_any_class_may_be_left_out():
    logits = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0], [0.0, 0.0, 1.0]])
    x = tg.Tensor(logits, requires_grad=True)
    found = cross_entropy(x, [0, 2, 1], ignore_index=2)
    kept = cross_entropy(tg.Tensor(logits[[0, 2]]), [0, 1])
    assert found.item() == kept.item()
    assert not tg.grad(found, x)[0].numpy()[1].any()


@pytest.mark.parametrize("bad", (math.nan, math.inf))
def test_scores_at_a_place_left_out_do_not_matter(bad):
    logits = np.array([[1.0, 2.0], [bad, bad], [0.5, 0.0]])
    targets = [0, -100, 1]
    with np.errstate(invalid="ignore"):
        found, each = (
            [cross_entropy(tg.Tensor(logits), targets, reduction=r) for r in reductions]
            for reductions in (("mean", "sum"), ("none",))
        )
    kept = tg.Tensor(logits[[0, 2]])
    expected = [cross_entropy(kept, [0, 1], reduction=r) for r in ("mean", "sum")]
    assert [v.item() for v in found] == [v.item() for v in expected]
    assert each[0].numpy()[1] == 0


def test_targets_may_be_tensors_lists_or_small_integers_and_are_unchanged():
    logits, targets = tg.Tensor([[1.0, 2.0], [0.5, 0.0]]), np.array([0, -100], np.int8)
    forms = (targets, tg.Tensor(targets), targets.tolist())
    values = {cross_entropy(logits, form).item() for form in forms}
    assert len(values) == 1
    np.testing.assert_array_equal(targets, [0, -100])


def test_a_place_left_out_gets_no_gradient_whatever_its_scores():
    x = tg.Tensor([[1.0, 2.0], [math.nan, math.inf]], requires_grad=True)
    for mode in (contextlib.nullcontext(), tg.definitions()):
        with mode, np.errstate(invalid="ignore"):
            loss = cross_entropy(x, [0, -100], label_smoothing=0.1)
            (d,) = tg.grad(loss, x)
        assert math.isfinite(loss.item()) and d.numpy()[0].any() and not d.numpy()[1].any()


# Smoothing and weights


@given(problems(), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_smoothing_spreads_a_share_of_the_target_by_weight(problem, smoothing, seed):
    logits, targets = problem
    weight = np.random.default_rng(seed).uniform(0.5, 2, logits.shape[-1]).astype(logits.dtype)
    scores = np.log(softmax(logits.astype(np.float64)))
    _, hot = by_hand(logits, targets)
    counts = (targets != -100)[..., None]
    goal = ((1 - smoothing) * hot + smoothing / logits.shape[-1] * counts) * weight
    options = {"weight": weight, "label_smoothing": smoothing}
    each = cross_entropy(tg.Tensor(logits), targets, reduction="none", **options)
    near(each, -(goal * scores).sum(-1), rtol=1e-5, atol=1e-5)
    if counts.any():
        mean = cross_entropy(tg.Tensor(logits), targets, **options)
        near(mean, -(goal * scores).sum() / (hot * weight).sum(), rtol=1e-5, atol=1e-5)


def test_all_of_a_target_may_be_spread():
    x = tg.Tensor([[3.0, 1.0, 0.0, 0.0]], requires_grad=True)
    losses = [cross_entropy(x, [k], label_smoothing=1.0).item() for k in range(4)]
    assert len(set(losses)) == 1
    uniform = cross_entropy(tg.zeros(1, 4), [0], label_smoothing=1.0)
    assert uniform.item() == pytest.approx(math.log(4)) and losses[0] > uniform.item()


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_threads_change_no_bit(dtype, rng):
    logits = rng.standard_normal((200, 1000)).astype(dtype)
    targets, before, found = rng.integers(0, 1000, 200), tg.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            tg.set_num_threads(threads)
            x = tg.Tensor(logits, requires_grad=True)
            loss = cross_entropy(x, targets, label_smoothing=0.1)
            found.append((loss.item(), tg.grad(loss, x)[0].numpy().tobytes()))
    finally:
        tg.set_num_threads(before)
    assert found[0] == found[1] == found[2]


# What a user reads after a mistake

X = tg.Tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]])
BAD = {
    "class too large": ((X, [0, 3]), {}, IndexError, r"targets in 0\.\.2 or -100, got 3"),
    "negative class": ((X, [-1, 0]), {}, IndexError, r"targets in 0\.\.2 or -100, got -1"),
    "no longer left out": (
        (X, [0, -100]),
        {"ignore_index": 0},
        IndexError,
        r"targets in 0\.\.2 or 0, got -100",
    ),
    "real targets": ((X, [0.0, 1.0]), {}, TypeError, r"integer indices, got float64; convert"),
    "one target too few": (
        (X, [0]),
        {},
        ValueError,
        r"targets of shape \(2,\) for logits of shape \(2, 3\), got \(1,\); the classes are",
    ),
    "one-hot targets": (
        (X, np.eye(2, 3, dtype=int)),
        {},
        ValueError,
        r"shape \(2,\) .* got \(2, 3\)",
    ),
    "reduction": (
        (X, [0, 1]),
        {"reduction": "average"},
        ValueError,
        r"reduction 'mean', 'sum' or 'none', got 'average'",
    ),
    "smoothing": ((X, [0, 1]), {"label_smoothing": -0.1}, ValueError, r"\[0, 1\], got -0.1"),
    "weight": ((X, [0, 1]), {"weight": [1.0, 2.0]}, ValueError, r"each of 3 classes, .* \(2,\)"),
    "list of logits": (([[1.0, 2.0]], [0]), {}, TypeError, r"a floating-point Tensor .*; convert"),
    "integer logits": ((tg.Tensor([[1, 2]]), [0]), {}, TypeError, r"a floating-point Tensor"),
    "one logit": ((tg.Tensor(1.0), 0), {}, TypeError, r"a floating-point Tensor \(\.\.\., V\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_arguments_are_refused(case):
    arguments, options, error, message = BAD[case]
    with pytest.raises(error, match=f"^cross_entropy: expected .*{message}"):
        cross_entropy(*arguments, **options)
