"""Steps that cannot be compiled run by their definition, with one warning that names the line."""

import contextlib
import functools
import operator
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.autograd import writes
from tinygrad_rnn.autograd.trace.atoms import Untraceable

OUTSIDE = tg.Tensor(np.full((1, 4), 0.5), requires_grad=True)
SCALE = tg.Tensor(0.5, requires_grad=True)
DRAWN = np.random.default_rng(0)


def truth(x, h, w):
    if h[0, 0] > -9.0:  # here
        h = tg.tanh(x + tg.linear(h, w))
    return h, h


def number(x, h, w):
    h = tg.tanh(x + tg.linear(h, w) * float(h.shape[1] + 0.0 * h.sum()))  # here
    return h, h


def array(x, h, w):
    assert np.asarray(h).ndim == 2  # here
    h = tg.tanh(x + tg.linear(h, w))
    return h, h


def item(x, h, w):
    h = tg.tanh(x + tg.linear(h, w) * h[0, 0].item())  # here
    return h, h


def closure(x, h, w):
    h = tg.tanh(x + tg.linear(h, w) * OUTSIDE)  # here
    return h, h


def closed_number(x, h, w):
    h = tg.tanh(x + tg.linear(h, w) * SCALE)  # here
    return h, h


def batch(x, h, w):
    h = tg.tanh(x + tg.linear(h, w) / h.shape[0])  # here
    return h, h


def one_row(x, h, w):
    if 1 == x.shape[0]:  # here
        x = 2.0 * x
    h = tg.tanh(x + tg.linear(h, w))
    return h, h


def items(x, h, w):
    h = tg.tanh(x + tg.linear(h, w) * len(h))  # here
    return h, h


def elements(x, h, w):
    h = tg.tanh(x + tg.linear(h, w) / h.size)  # here
    return h, h


def wanted(x, h, w):
    h = tg.tanh(x + tg.linear(h, w) * (2.0 if x.requires_grad else 1.0))  # here
    return h, h


def booleans(x, h, w):
    h = tg.tanh(x + tg.linear(h, w)) * (h > 0.0)  # here
    return h, h


def op(x, h, w):
    h = tg.tanh(x + tg.cumsum(tg.linear(h, w), axis=-1))  # here
    return h, h


def sum_over_batch(x, h, w):
    h = tg.tanh(x + tg.linear(h, w) + tg.sum(h, axis=0))  # here
    return h, h


def randomness(x, h, w):
    h = tg.tanh(x + tg.linear(h, w) * DRAWN.random(h.shape).round(0))  # here
    return h, h


def random_number(x, h, w):
    h = tg.tanh(x + tg.linear(h, w) * DRAWN.random())
    return h, h


def scaled_matrix(x, h, w):
    h = tg.tanh(x + tg.linear(h, 2.0 * w))  # here
    return h, h


def no_pair(x, h, w):
    return tg.tanh(x + tg.linear(h, w)), (h, h)


def tuple_of_one(x, h, w):
    h = tg.tanh(x + tg.linear(h, w))
    return h, (h,)


def power(x, h, w):
    h = tg.sigmoid(x + tg.linear(h, w)) ** 0.3  # here
    return h, h


STEPS = [
    truth,
    number,
    array,
    item,
    closure,
    closed_number,
    batch,
    one_row,
    items,
    elements,
    wanted,
    booleans,
    op,
    sum_over_batch,
    randomness,
    random_number,
    scaled_matrix,
    power,
]
ALL = pytest.mark.parametrize("step", STEPS, ids=lambda f: f.__name__)


def inputs():
    rng = np.random.default_rng(1)
    shapes = ((3, 2, 4), (2, 4), (4, 4))
    return [tg.Tensor(rng.standard_normal(s), requires_grad=True) for s in shapes]


def results(step):
    DRAWN.bit_generator.state = np.random.default_rng(0).bit_generator.state
    x, h, w = leaves = inputs()
    outputs, last = tg.scan(step, x, h, (w,))
    return [outputs, last, *tg.grad(outputs.sum() + last.sum(), leaves)]


@ALL
def test_one_warning_that_names_the_line(step, monkeypatch):
    monkeypatch.delenv("TINYGRAD_RNN_STRICT", raising=False)
    cell, expected = tg.cell(step), results(step)
    with pytest.warns(RuntimeWarning, match=f"^{step.__name__} runs by its definition") as seen:
        results(cell)
        found = results(cell)
    assert len(seen) == 1
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(f.numpy(), e.numpy())
    source = Path(__file__).read_text().splitlines()
    first = step.__code__.co_firstlineno
    end = next(k for k in range(first, len(source)) if source[k].startswith("    return"))
    marked = [k + 1 for k in range(first, end) if source[k].endswith("# here")]
    message = str(seen[0].message)
    assert all(f"{__file__}:{line}: " in message for line in marked), message


@ALL
def test_strictly_it_raises(step):
    assert os.environ["TINYGRAD_RNN_STRICT"] == "1"
    for _ in range(2):
        with pytest.raises((Untraceable, RuntimeError)):
            results(tg.cell(step))


METHODS = ("item", "numpy", "tolist", "retain_grad", "backward")
LOOKS = (bool, float, int, np.asarray, *map(operator.methodcaller, METHODS))


@pytest.mark.parametrize("look", LOOKS)
def test_values_are_not_looked_at(look):
    def step(x, h, w):
        look(h)
        return x, h

    with pytest.raises(Untraceable, match="looks at the values"):
        results(tg.cell(step))


@pytest.mark.parametrize("step", (no_pair, tuple_of_one), ids=lambda f: f.__name__)
def test_new_state_of_another_form(step):
    with pytest.raises(Untraceable, match="state"):
        results(tg.cell(step))


def test_other_widths_are_tried_again(monkeypatch):
    monkeypatch.delenv("TINYGRAD_RNN_STRICT", raising=False)

    @tg.cell
    def sometimes(x, h, w):
        h = tg.tanh(x + (tg.cumsum(h, axis=-1) if h.shape[-1] == 4 else tg.linear(h, w)))
        return h, h

    with pytest.warns(RuntimeWarning, match="cumsum"):
        tg.scan(sometimes, tg.ones(3, 2, 4), tg.ones(2, 4), (tg.ones(4, 4),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tg.scan(sometimes, tg.ones(3, 2, 5), tg.ones(2, 5), (tg.ones(5, 5),))


def alike(cell, leaves):
    """What a compiled cell gives is what its definition gives."""
    found = []
    for switch in (contextlib.nullcontext(), tg.definitions()):
        with switch:
            outputs, last = tg.scan(cell, leaves[0], leaves[1], leaves[2:])
            total = (outputs * outputs).sum() + last.sum()
            found.append([outputs, last, *tg.grad(total, leaves, allow_unused=True)])
    assert all(v is not None for v in cell._compiled.values())
    for f, e in zip(*found, strict=True):
        np.testing.assert_allclose(f.numpy(), e.numpy(), rtol=1e-12, atol=1e-14)
        assert e.numpy().any()


def test_what_is_detached_gets_no_gradient():
    @tg.cell
    def step(x, h, w, u):
        top, _, end = tg.split(u, 3, axis=0)
        h = tg.tanh(tg.linear(x, w) + tg.linear(h.detach(), top)) + 0.5 * h
        h = h + tg.linear(x, end).detach()
        return h, h * tg.sigmoid(h).detach()

    alike(step, tensors((4, 2, 3), (2, 3), (3, 3), (9, 3)))


def test_shapes_may_be_handed_on():
    @tg.cell
    def step(x, h, w):
        rows, width = h.shape
        h = tg.tanh(tg.linear(h, w) / width + x).reshape(rows, width)
        return h, h - tg.mean(h, -1).reshape((rows, 1))

    alike(step, tensors((4, 2, 3), (2, 3), (3, 3)))
    alike(step, tensors((4, 1, 3), (1, 3), (3, 3)))
    assert len(step._compiled) == 1


def test_a_mistake_has_its_own_error_and_no_warning(monkeypatch):
    monkeypatch.delenv("TINYGRAD_RNN_STRICT", raising=False)

    @tg.cell
    def step(x, h, w):
        h = later(x + tg.linear(h, w))  # noqa: F821
        return h, h

    x, h, w = tensors((4, 2, 3), (2, 3), (3, 3))
    monkeypatch.setitem(globals(), "later", tg.tanh)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'w'"):
            tg.scan(step, x, h, ())
        with pytest.raises(ValueError, match="linear: expected x"):
            tg.scan(step, x, tg.ones(2, 4, dtype="float64"), (w,))
        with pytest.raises(ValueError, match="broadcast"):
            tg.scan(step, x, tg.ones(3, 3, dtype="float64"), (w,))
        monkeypatch.delitem(globals(), "later")
        with pytest.raises(NameError, match="later"):
            tg.scan(step, x, h, (w,))
        monkeypatch.setitem(globals(), "later", tg.tanh)
        alike(step, [x, h, w])


def test_errors_name_the_cell():
    x, h, w = tensors((4, 2, 3), (2, 3), (3, 3))

    @tg.cell
    def leaky(x, h, w):
        h = 0.9 * h + tg.tanh(tg.linear(h, w) + x)
        return h, h

    outputs, _ = tg.scan(leaky, x, h, (w,))
    writes.assign(w, np.zeros((3, 3)))
    with pytest.raises(RuntimeError, match="'leaky' saved was changed in place"):
        outputs.sum().backward()


def test_definitions_compile_nothing():
    cell = tg.cell(op)  # would raise
    with tg.definitions():
        results(cell)
    assert not cell._compiled


PLAIN = """
import numpy as np, sys, tinygrad_rnn as tg
layer = tg.nn.LSTM(3, 4, rng=np.random.default_rng(0))
x = tg.Tensor(np.ones((5, 2, 3), np.float32), requires_grad=True)
y, _ = layer(x)
y.sum().backward()
assert x.grad.numpy().any()
print("llvmlite" in sys.modules, np.float64(y.numpy()).sum())
"""


def test_without_jit_everything_runs_by_definition():
    printed = []
    for off in ("1", "0"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": off}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PLAIN], env=environment, capture_output=True
        )
        assert not done.returncode, done.stderr
        printed.append(done.stdout.split())
    assert [p[0] for p in printed] == [b"False", b"True"]
    np.testing.assert_allclose(float(printed[0][1]), float(printed[1][1]), rtol=1e-5)


def tensors(*shapes, dtype=np.float64):
    rng = np.random.default_rng(2)
    return [tg.Tensor(rng.standard_normal(s).astype(dtype), requires_grad=True) for s in shapes]


def test_first_call_under_detect_anomaly():
    """What watches the user's code does not look into the tracing of a step."""

    @tg.cell
    def step(x, h, w):
        h = tg.tanh(tg.linear(h, w) + x)
        return h, h

    x, h, w = tensors((4, 2, 3), (2, 3), (3, 3))
    with tg.detect_anomaly():
        tg.grad(tg.scan(step, x, h, (w,))[0].sum(), [x, h, w])
    assert all(v is not None for v in step._compiled.values())


def test_numbers_from_outside_may_change(monkeypatch):
    factor = 1.0

    @tg.cell
    def step(x, h, w):
        h = tg.tanh(factor * tg.linear(h, w) + FACTOR * x)
        return h, h

    leaves = tensors((4, 2, 3), (2, 3), (3, 3))

    def both():
        found = tg.scan(step, *leaves[:2], leaves[2:])[0].numpy().copy()
        with tg.definitions():
            expected = tg.scan(step, *leaves[:2], leaves[2:])[0].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        return found

    seen = [both()]
    factor = 2.0
    seen.append(both())
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    seen.append(both())
    assert len({a.tobytes() for a in seen}) == 3


def test_numbers_that_changed_before_the_definition_runs_again():
    factor = 1.0

    @tg.cell
    def step(x, h, w):
        h = tg.tanh(factor * tg.linear(h, w) + x)
        return h, h

    leaves = tensors((4, 2, 3), (2, 3), (3, 3))
    before = tg.grad(tg.scan(step, *leaves[:2], leaves[2:])[0].sum(), leaves)
    outputs, _ = tg.scan(step, *leaves[:2], leaves[2:])
    factor = 2.0
    for d, e in zip(tg.grad(outputs.sum(), leaves, retain_graph=True), before, strict=True):
        np.testing.assert_array_equal(d.numpy(), e.numpy())
    with pytest.raises(RuntimeError, match=r"step: expected the numbers .* got \('2.0',\)"):
        tg.grad(outputs.sum(), leaves, create_graph=True)


FACTOR = 1.5


def wrapped(step):
    @functools.wraps(step)
    def inner(*args):
        return step(*args)

    return inner


def halved(x):
    return SHARE * x


def test_numbers_behind_decorators_and_in_helpers_may_change(monkeypatch):
    """Also NumPy's, and those that there are only after the step."""

    @tg.cell
    @wrapped
    def step(x, h, w):
        h = tg.tanh(tg.linear(h, w) + LATER * halved(x))  # noqa: F821
        return h, h

    leaves = tensors((4, 2, 3), (2, 3), (3, 3))
    seen = set()
    for later, share in ((0.5, 0.25), (2.0, 0.25), (2.0, np.float32(0.75))):
        monkeypatch.setitem(globals(), "LATER", later)
        monkeypatch.setitem(globals(), "SHARE", share)
        found = tg.scan(step, *leaves[:2], leaves[2:])[0].numpy()
        with tg.definitions():
            expected = tg.scan(step, *leaves[:2], leaves[2:])[0].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        seen.add(found.tobytes())
    assert len(seen) == 3


SHARE = 0.5


def test_steps_that_are_no_plain_functions():
    def step(x, h, w, scale=1.0):
        h = tg.tanh(tg.linear(h, w) * scale + x)
        return h, h

    class Step:
        def __init__(self):
            self.step = "an attribute of its own"

        def __call__(self, x, h, w):
            return step(x, h, w, 2.0)

    leaves = tensors((4, 2, 3), (2, 3), (3, 3))
    expected = tg.scan(lambda *a: step(*a, 2.0), *leaves[:2], leaves[2:])[0].numpy()
    for other in (functools.partial(step, scale=2.0), Step()):
        made = tg.cell(other)
        found = tg.scan(made, *leaves[:2], leaves[2:])[0].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert all(v is not None for v in made._compiled.values())
    with pytest.raises(TypeError, match="cell: expected a step function, got int"):
        tg.cell(3)


def test_what_a_step_does_not_use_has_no_gradient():
    @tg.cell
    def step(x, state, w, unused):
        h, _ = state
        h = tg.tanh(tg.linear(h, w) + x)
        return h, (h, h * 0.5)

    x, h, other, w, unused = leaves = tensors((4, 2, 3), (2, 3), (2, 3), (3, 3), (3, 3))

    def gradients():
        outputs, _ = tg.scan(step, x, (h, other), (w, unused))
        return tg.grad(outputs.sum(), leaves, allow_unused=True)

    found = gradients()
    with tg.definitions():
        expected = gradients()
    assert [d is None for d in found] == [d is None for d in expected] == [0, 0, 1, 0, 1]


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda x, h, w: (x, h, (w, None)), "is given a NoneType"),
        (lambda x, h, w: (x, h, (w, 0.5)), "is given a float"),
        (lambda x, h, w: (x, tg.astype(h, np.float32), (w,)), "of one floating-point dtype"),
        (lambda x, h, w: (x, h, (tg.reshape(w, (1, 3, 3)),)), r"has shape \(1, 3, 3\)"),
    ],
)
def test_inputs_that_kernels_do_not_take(change, reason, monkeypatch):
    monkeypatch.delenv("TINYGRAD_RNN_STRICT", raising=False)

    @tg.cell
    def step(x, h, w, more=None):
        w = w[0] if w.ndim == 3 else w
        h = tg.tanh(tg.linear(h, w) + x * (1.0 if more is None else more))
        return h, h

    given = change(*tensors((4, 2, 3), (2, 3), (3, 3)))
    with pytest.warns(RuntimeWarning, match=reason) as seen:
        found = [tg.scan(step, *given)[0] for _ in range(2)]
    assert len(seen) == 1
    with tg.definitions():
        np.testing.assert_array_equal(found[0].numpy(), tg.scan(step, *given)[0].numpy())
