"""Sequences of several lengths, and states that begin anew: compiled as by the definition."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.cells.runs import close, drawn_run, identical, made, widths
from tests.cells.table import CELLS
from tests.cells.test_bits import threads  # noqa: F401 (a fixture)
from tinygrad_rnn.nn import cells

ALL = pytest.mark.parametrize("name", CELLS)
REVERSE = pytest.mark.parametrize("reverse", (False, True), ids=("forward", "reverse"))
LENGTHS = [2, 0, 6, 5, 1, 6, 3]


def both(run, **options):
    """The results, and those of the definition."""
    with tg.definitions():
        expected = run.results(**options)
    return run.results(**options), expected


@ALL
@REVERSE
def test_lengths(name, reverse):
    run = made(name, steps=6, batch=7)
    close(run, *both(run, lengths=LENGTHS, reverse=reverse))


@ALL
def test_each_sequence_is_as_if_it_were_alone(name):
    """Its outputs, its states and their gradients, bit by bit."""
    run = made(name, steps=6, batch=7, h=11)
    rows = len(widths(run.sizes.xs)), len(widths(run.sizes.states)), len(run.sizes.each)
    values, split = len(run.cotangents), sum(rows)
    found = run.results(lengths=LENGTHS)
    names = [k for k, n in enumerate(run.needs) if n]
    for b, n in enumerate(LENGTHS):
        if not n:
            continue
        leaves = [a[:n, b : b + 1] for a in run.leaves[: rows[0]]]
        leaves += [a[b : b + 1] for a in run.leaves[rows[0] : split]]
        cotangents = [run.cotangents[0][:n, b : b + 1]]
        cotangents += [g[b : b + 1] for g in run.cotangents[1:]]
        alone = run._replace(
            leaves=(*leaves, *run.leaves[split:]), cotangents=tuple(cotangents)
        ).results()
        identical([found[0][:n, b : b + 1]], alone[:1])
        assert not found[0][n:, b].any()
        identical([f[b : b + 1] for f in found[1:values]], alone[1:values])
        for k, f, e in zip(names, found[values:], alone[values:], strict=True):
            if k < rows[0]:
                identical([f[:n, b : b + 1]], [e])
                assert not f[n:, b].any()
            elif k < split:
                identical([f[b : b + 1]], [e])


@ALL
def test_nothing_beyond_a_length_matters(name):
    run = made(name, steps=6, batch=7)
    beyond = np.arange(6)[:, None] >= np.array(LENGTHS)
    spoilt = [np.array(a) for a in run.leaves]
    for a in spoilt[: len(widths(run.sizes.xs))]:
        a[beyond] = np.nan
    cotangents = [np.array(g) for g in run.cotangents]
    cotangents[0][beyond] = np.nan
    other = run.with_leaves(spoilt)._replace(cotangents=tuple(cotangents))
    identical(other.results(lengths=LENGTHS), run.results(lengths=LENGTHS))


@ALL
def test_lengths_on_threads(name, threads):  # noqa: F811
    run = made(name, i=4, h=20, steps=9, batch=9, dtype="float32")
    lengths = np.random.default_rng(0).integers(0, 10, 9)
    threads(1)
    alone = run.results(lengths=lengths)
    for n in (2, 3, 8):
        threads(n)
        identical(run.results(lengths=lengths), alone)


@pytest.mark.parametrize(
    "name", ["rnn_tanh", "lstm", "gru", "lstm_normalised", "readout", "gru_reset_before"]
)
@REVERSE
def test_many_lengths(name, reverse):
    """Also over more steps than are done at once, and with inference."""
    rng = np.random.default_rng(3)
    for steps, batch in ((3, 1), (1, 4), (150, 5), (40, 40)):
        lengths = rng.integers(0, steps + 1, batch)
        lengths[0] = max(lengths[0], 1)
        run = drawn_run(CELLS[name], 3, 5, steps, batch, "float64", 0)._replace(
            cell=made(name).cell
        )
        found, expected = both(run, lengths=lengths, reverse=reverse)
        close(run, found, expected)
        with tg.no_grad():
            values = run.scan(*run.tensors(), lengths=lengths, reverse=reverse)
        identical([np.array(v) for v in values], found[: len(run.cotangents)])


def test_no_sequence_has_a_step():
    run = made("lstm", steps=4, batch=3)
    found = run.results(lengths=[0, 0, 0])
    assert not found[0].any()
    identical(found[1:3], run.leaves[1:3])
    assert not found[3].any()
    identical(found[4:6], run.cotangents[1:])


@ALL
@REVERSE
def test_states_begin_anew(name, reverse):
    run = made(name, steps=6, batch=3)
    reset = np.random.default_rng(5).random((6, 3)) < 0.3
    reset[:, 1] = False
    close(run, *both(run, reset=reset, reverse=reverse))
    close(run, *both(run, reset=reset, reverse=reverse, lengths=[4, 6, 0]))


@pytest.mark.parametrize("dtype", ("u1", "u8", "i2"))
def test_lengths_of_any_integer_dtype(dtype):
    run = made("gru", steps=6, batch=7)
    found = run.results(lengths=np.array(LENGTHS, dtype))
    identical(found, run.results(lengths=LENGTHS))


@REVERSE
@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("steps", (4, 700))
def test_inputs_that_repeat_or_have_no_width(steps, batch, reverse, rng):
    """A context that is the same at every step, and batch item, in no memory of its own."""
    h, u = (rng.standard_normal(s) for s in ((batch, 4), (4, 4)))
    context = rng.standard_normal(5)
    for x in (
        np.broadcast_to(context, (steps, batch, 5)),
        np.broadcast_to(rng.standard_normal((batch, 5)), (steps, batch, 5)),
        np.zeros((steps, batch, 0)),
    ):
        w = rng.standard_normal((4, x.shape[-1]))
        leaves = [tg.Tensor(a, requires_grad=True) for a in (h, w, u)]

        def results(x=x, leaves=leaves):
            step = cells.rnn_tanh
            y, end = tg.scan(step, tg.Tensor(x), leaves[0], leaves[1:], reverse=reverse)
            return [y, end, *tg.grad((y * y).sum() + end.sum(), leaves)]

        with tg.definitions():
            expected = results()
        for f, e in zip(results(), expected, strict=True):
            np.testing.assert_allclose(f.numpy(), e.numpy(), rtol=1e-9, atol=1e-12)


def test_a_state_that_no_step_reads_is_handed_on_by_sequences_without_steps():
    @tg.cell
    def fresh(x, h, w):
        h = tg.tanh(tg.linear(x, w))
        return h, h

    x, h, w = (tg.Tensor(np.ones(s), requires_grad=True) for s in ((3, 2, 4), (2, 4), (4, 4)))

    def gradient():
        return tg.grad(tg.scan(fresh, x, h, (w,), lengths=[0, 3])[1].sum(), h)[0].numpy()

    with tg.definitions():
        expected = gradient()
    assert expected.any()
    np.testing.assert_array_equal(gradient(), expected)


def test_plain_lists_may_begin_anew():
    h = tg.zeros(1, 2)
    xs = [[[1.0, 2.0]], [[3.0, 4.0]]]
    y, _ = tg.scan(lambda x, h: (h + x, h + x), xs, h, reset=[[False], [True]])
    np.testing.assert_array_equal(np.asarray(y)[1], [[3.0, 4.0]])
