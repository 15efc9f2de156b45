"""Compiled cells in use: weights that change, processes and threads, copies, direct calls."""

import copy
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.cells.runs import arrays, close, identical, made, widths
from tests.cells.table import CELLS
from tinygrad_rnn.kernels.sequence import runner
from tinygrad_rnn.nn import cells

ALL = pytest.mark.parametrize("name", CELLS)
LAYERS = pytest.mark.parametrize("kind", (tg.nn.RNN, tg.nn.LSTM, tg.nn.GRU))


def layer_of(kind, **options):
    return kind(3, 5, dtype="float64", rng=np.random.default_rng(0), **options)


X = np.random.default_rng(1).standard_normal((4, 2, 3))


def passes(layer, x=X):
    """The output, and all gradients."""
    x = tg.Tensor(x, requires_grad=True)
    output, _ = layer(x)
    return arrays([output, *tg.grad((output * output).sum(), [x, *layer.parameters()])])


def checked(layer):
    """What it gives now is what its definition gives now."""
    found = passes(layer)
    with tg.definitions():
        expected = passes(layer)
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-10, atol=1e-13)
    return found


@LAYERS
def test_steps_of_an_optimiser_are_noticed(kind):
    layer = layer_of(kind)
    optimiser = tg.optim.SGD(layer.parameters(), 0.1)
    last = checked(layer)
    for _ in range(3):
        layer.zero_grad()
        output, _ = layer(tg.Tensor(X))
        (output * output).sum().backward()
        optimiser.step()
        now = checked(layer)
        assert np.abs(now[0] - last[0]).max() > 1e-6
        last = now
    with tg.no_grad():
        identical([layer(tg.Tensor(X))[0].numpy()], last[:1])


@LAYERS
def test_loaded_weights_are_noticed(kind):
    layer, other = layer_of(kind), kind(3, 5, dtype="float64", rng=np.random.default_rng(9))
    before, wanted = checked(layer), checked(other)
    layer.load_state_dict(other.state_dict())
    identical(checked(layer), wanted)
    assert (before[0] != wanted[0]).any()


def test_weights_changed_before_the_backward_pass_raise():
    layer = layer_of(tg.nn.LSTM)
    output, _ = layer(tg.Tensor(X, requires_grad=True))
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        output.sum().backward()


@ALL
def test_arrays_of_the_user_are_read_anew(name):
    run = made(name)
    first = len(run.leaves) - len(run.sizes.params)
    memory = [a.copy() for a in run.leaves]
    leaves = list(map(tg.from_numpy, memory))
    identical(arrays(run.scan(*leaves)), run.results()[: len(run.cotangents)])
    for a in memory[first:]:
        a *= 0.5
    halved = run.with_leaves(memory)
    expected = halved.results()
    identical(arrays(run.scan(*leaves)), expected[: len(run.cotangents)])
    live = tg.Tensor(run.leaves[0], requires_grad=True)
    values = run.scan(live, *leaves[1:])
    memory = [m.copy() for m in memory]
    identical(arrays(run.gradients(values, [live])), expected[len(values) : len(values) + 1])


def test_weights_made_anew_at_every_call():
    """Memory that is freed and given to the next array is not taken for the old one."""
    run = made("lstm")
    for k in range(20):
        leaves = list(run.leaves)
        leaves[-4:] = [a * (k + 1) for a in leaves[-4:]]
        again = run.with_leaves(leaves)
        found = again.results()
        with tg.definitions():
            close(again, found, again.results())


FORKING = """
import os, numpy as np, tinygrad_rnn as tg
from tinygrad_rnn.kernels.sequence import runner
runner.WORTH = 0
tg.set_num_threads(2)
layer = tg.nn.LSTM(3, 20, rng=np.random.default_rng(0))
x = tg.Tensor(np.random.default_rng(1).standard_normal((9, 6, 3)), dtype="float32")

def passes():
    for p in layer.parameters():
        p.grad = None
    output, _ = layer(x)
    output.sum().backward()
    return [a.numpy().tobytes() for a in (output, *(p.grad for p in layer.parameters()))]

expected = passes()
child = os.fork()
if child == 0:
    os._exit(0 if passes() == expected and passes() == expected else 1)
assert os.waitpid(child, 0)[1] == 0
assert passes() == expected
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_threads_of_its_own():
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, timeout=60)
    assert not done.returncode, done.stderr.decode()


@pytest.mark.parametrize("kind", (tg.nn.LSTM, tg.nn.GRU))
@pytest.mark.parametrize("many", (False, True), ids=("one each", "several each"))
def test_python_threads_share_a_layer(kind, many, monkeypatch):
    if many:
        monkeypatch.setattr(runner, "WORTH", 0)
    before = tg.get_num_threads()
    tg.set_num_threads(2)
    try:
        layer = kind(3, 20, num_layers=2, rng=np.random.default_rng(0))
        rng = np.random.default_rng(1)
        xs = [rng.standard_normal((n + 3, n + 2, 3)).astype(np.float32) for n in range(4)]
        expected = [passes(layer, x) for x in xs]
        found, start = [[] for _ in xs], threading.Barrier(4)

        def work(k):
            start.wait()
            for _ in range(10):
                found[k].append(passes(layer, xs[k]))

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        tg.set_num_threads(before)
    for results, e in zip(found, expected, strict=True):
        assert len(results) == 10
        for f in results:
            identical(f, e)


def test_python_threads_compile_one_cell_at_once():
    step, results = tg.cell(CELLS["nested"].step), [None] * 4
    run, start = made("nested", i=2, h=6), threading.Barrier(4)
    expected = run.results()

    def work(k):
        start.wait()
        results[k] = run._replace(cell=step).results()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for found in results:
        identical(found, expected)


@LAYERS
def test_copies_of_layers(kind):
    layer = layer_of(kind)
    expected = passes(layer)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        identical(passes(other), expected)
        other.load_state_dict({k: 2.0 * a for k, a in layer.state_dict().items()})
        assert (passes(other)[0] != expected[0]).any()
        identical(passes(layer), expected)


def test_cells_are_pickled_by_name():
    for value in (cells.lstm, cells.gru):
        assert pickle.loads(pickle.dumps(value)) is value
        assert copy.deepcopy(value) is copy.copy(value) is value


@ALL
def test_a_cell_is_its_step(name):
    """Called directly, on tensors and on arrays."""
    run = made(name)
    n = len(widths(run.sizes.xs))
    m = n + len(widths(run.sizes.states))

    def step(leaves):
        xs, states = tuple(v[0] for v in leaves[:n]), tuple(leaves[n:m])
        xs = xs if isinstance(run.sizes.xs, tuple) else xs[0]
        states = states if isinstance(run.sizes.states, tuple) else states[0]
        return run.cell(xs, states, *leaves[m:])

    output, state = step(run.leaves)
    again, after = step(run.tensors())
    assert isinstance(output, np.ndarray) and isinstance(again, tg.Tensor)
    identical(arrays([again]), [output])
    for s, a in zip(widths(state), widths(after), strict=True):
        identical(arrays([a]), [s])
    outputs, *last = run.with_leaves([*(a[:1] for a in run.leaves[:n]), *run.leaves[n:]]).scan(
        *(tg.Tensor(a[:1] if k < n else a) for k, a in enumerate(run.leaves))
    )
    close(run, arrays([outputs[0], *last]), [output, *widths(state)])


def test_a_cell_keeps_its_name_and_text():
    assert cells.lstm.__name__ == "lstm" and "Hochreiter" in cells.lstm.__doc__
    assert tg.cell(cells.lstm) is cells.lstm
