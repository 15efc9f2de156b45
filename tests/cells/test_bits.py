"""What must not change a single bit: threads, time cut in two, the batch, memory layout, passes."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.cells.runs import arrays, close, identical, informative, made, widths
from tests.cells.table import CELLS
from tinygrad_rnn.kernels.sequence import recurrence, runner

ALL = pytest.mark.parametrize("name", CELLS)
DTYPES = pytest.mark.parametrize("dtype", ("float64", "float32"))
WIDTHS = pytest.mark.parametrize("lanes", ("4", "8", "16"))


@pytest.fixture
def threads(monkeypatch):
    """Set the number of threads, for works of any size."""
    monkeypatch.setattr(runner, "WORTH", 0)
    before = tg.get_num_threads()
    yield tg.set_num_threads
    tg.set_num_threads(before)


@ALL
@DTYPES
def test_number_of_threads(name, dtype, threads):
    run = made(name, i=4, h=20, batch=9, dtype=dtype)
    threads(1)
    alone = run.results()
    for n in (2, 4, 8):
        threads(n)
        identical(run.results(), alone)
    if run.smooth:
        informative(alone)


@pytest.mark.slow
@ALL
def test_number_of_threads_at_work_for_several(name, threads, monkeypatch):
    monkeypatch.undo()  # as large as it takes
    run = made(name, i=64, h=96, steps=30, batch=33, dtype="float32")
    threads(1)
    alone = run.results()
    for n in (2, 3, 8):
        threads(n)
        identical(run.results(), alone)


@ALL
@WIDTHS
def test_widths_of_vectors(name, lanes, monkeypatch):
    monkeypatch.setenv("TINYGRAD_RNN_VECTOR", lanes)
    run = made(name, h=11, dtype="float32")
    found = run.results()
    with tg.definitions():
        close(run, found, run.results())


@ALL
def test_two_backward_passes(name):
    run = made(name)
    leaves = run.tensors()
    values = run.scan(*leaves)
    first = arrays(run.gradients(values, leaves, retain_graph=True))
    before = arrays(values)
    second = arrays(run.gradients(values, leaves, retain_graph=True))
    third = arrays(run.gradients(values, leaves))
    identical(second, first)
    identical(third, first)
    identical(arrays(values), before)
    if run.smooth:
        informative(first)
    with pytest.raises(RuntimeError, match="freed"):
        run.gradients(values, leaves)


@ALL
def test_inference_is_training(name):
    for steps, batch in ((4, 3), (300, 2)):
        run = made(name, steps=steps, batch=batch)
        training = arrays(run.scan(*run.tensors()))
        with tg.no_grad():
            identical(arrays(run.scan(*run.tensors())), training)
        identical(arrays(run.scan(*map(tg.Tensor, run.leaves))), training)


def split_values(run, results):
    n = len(run.cotangents)
    return results[:n], results[n:]


@ALL
def test_reversed_time(name):
    """Running from the last step is running the flipped input, and flipping the outputs."""
    run = made(name)
    n, values = len(widths(run.sizes.xs)), len(run.cotangents)
    flipped = run.with_leaves([*(a[::-1] for a in run.leaves[:n]), *run.leaves[n:]])
    flipped = flipped._replace(cotangents=(run.cotangents[0][::-1], *run.cotangents[1:]))
    found, expected = run.results(reverse=True), flipped.results()
    expected[0] = expected[0][::-1]
    for k in range(sum(run.needs[:n])):
        expected[values + k] = expected[values + k][::-1]
    identical(found, expected)


@ALL
def test_time_cut_in_two(name):
    run = made(name, steps=7)
    n = len(widths(run.sizes.xs))
    m = n + len(widths(run.sizes.states))
    leaves = list(map(tg.Tensor, run.leaves))
    outputs, *last = run.scan(*leaves)
    first, *between = run.scan(*(v[:3] for v in leaves[:n]), *leaves[n:])
    second, *end = run.scan(*(v[3:] for v in leaves[:n]), *between, *leaves[m:])
    identical(arrays([tg.concatenate([first, second], axis=0), *end]), arrays([outputs, *last]))


def batch_axes(run):
    """The axis of the batch in each leaf, None where it has none."""
    n, params = len(widths(run.sizes.xs)), len(run.leaves) - len(run.sizes.params)
    return [1 if k < n else 0 if k < params else None for k in range(len(run.leaves))]


@ALL
def test_items_of_a_batch(name):
    """Each item alone, and the others when one is NaN, give the same bits."""
    run = made(name, batch=7)
    axes, n = batch_axes(run), len(run.cotangents)
    rows = [1, *(0 for _ in range(n - 1))]
    rows += [a for a, need in zip(axes, run.needs, strict=True) if need]
    whole = run.results()
    taken = [(w, a) for w, a in zip(whole, rows, strict=True) if a is not None]
    for items in ([2], [0, 1, 2, 3, 4], [6, 3]):

        def some(array, axis):
            return array if axis is None else np.take(array, items, axis)  # noqa: B023

        part = run.with_leaves(some(a, x) for a, x in zip(run.leaves, axes, strict=True))
        part = part._replace(
            cotangents=tuple(some(c, int(k == 0)) for k, c in enumerate(run.cotangents))
        )
        found = [f for f, a in zip(part.results(), rows, strict=True) if a is not None]
        identical(found, [some(w, a) for w, a in taken])


@ALL
@DTYPES
def test_inputs_of_any_layout(name, dtype):
    """Batch-major and other views of inputs, in place of arrays of their own."""
    run = made(name, dtype=dtype)
    n = len(widths(run.sizes.xs))
    expected = run.results()
    layouts = [
        lambda x: x.swapaxes(0, 1).copy().swapaxes(0, 1),
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: np.repeat(x, 2, axis=2)[..., ::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: np.pad(x, ((1, 1), (2, 0), (0, 3)))[1:-1, 2:, : x.shape[2]],
        np.asfortranarray,
    ]
    for layout in layouts:
        views = [tg.from_numpy(layout(a)) for a in run.leaves[:n]]
        leaves = [*views, *run.tensors()[n:]]
        values = run.scan(*leaves)
        found = arrays([*values, *run.gradients(values, leaves)])
        count = len(values) + sum(run.needs[:n])
        identical(found, expected[: len(values)] + expected[count:])


@ALL
def test_cotangents_of_any_layout(name):
    run = made(name)
    ones = tuple(np.ones_like(c) for c in run.cotangents)
    leaves = run.tensors()
    values = run.scan(*leaves)
    expected = arrays(run._replace(cotangents=ones).gradients(values, leaves, retain_graph=True))
    spread = tuple(np.broadcast_to(np.ones((), c.dtype), c.shape) for c in ones)
    spread = run._replace(cotangents=spread)
    identical(arrays(spread.gradients(values, leaves, retain_graph=True)), expected)
    wanted = [v for v in leaves if v.requires_grad]
    identical(arrays(tg.grad(sum(v.sum() for v in values), wanted)), expected)


class Zoned:
    """NumPy, whose `empty` gives arrays of NaN between zones of NaN."""

    def __init__(self):
        self.whole = []

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype=float):
        dtype, zone = np.dtype(dtype), 4096
        size = int(np.prod(shape)) * dtype.itemsize
        memory = np.full(size + 2 * zone, 0xFF, np.uint8)
        start = zone + dtype.itemsize * (len(self.whole) % 8)
        self.whole.append((memory, start, start + size))
        return memory[start : start + size].view(dtype).reshape(shape)

    def check(self):
        assert self.whole
        for memory, start, stop in self.whole:
            assert (memory[:start] == 0xFF).all() and (memory[stop:] == 0xFF).all()


@ALL
@DTYPES
def test_red_zones(name, dtype, monkeypatch, threads):
    """Kernels write nothing beside their arrays, and read nothing that nobody wrote."""
    for h, i in ((5, 3), (16, 1), (19, 8)):
        run = made(name, i=i, h=h, dtype=dtype)
        expected = run.results()
        for n in (1, 3):
            threads(n)
            with monkeypatch.context() as patch:
                patch.setattr(recurrence, "np", zoned := Zoned())
                found = run.results()
                leaves = run.tensors()
                values = run.scan(*leaves)
                run.gradients(values, leaves, retain_graph=True)
                with tg.no_grad():
                    silent = arrays(run.scan(*run.tensors()))
            zoned.check()
            identical(found, expected)
            identical(silent, expected[: len(values)])
