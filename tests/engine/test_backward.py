"""The backward pass: what arrives where, what is walked, what is kept, and for how long."""

import gc
import sys
import threading
import time
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.autograd.writes import assign


def leaf(values, dtype=np.float64):
    return tg.Tensor(np.asarray(values, dtype), requires_grad=True)


def same(tensor, expected):
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-12)


@contextmanager
def no_garbage():
    """With the collector off, what runs inside leaves nothing for it."""
    gc.freeze()  # what is there before does not count, and takes no time
    gc.disable()
    try:
        yield
        found = gc.collect()
    finally:
        gc.enable()
    assert found == 0


# What arrives


def test_grad_accumulates_over_backwards():
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    (3.0 * x).sum().backward()
    same(x.grad, [5.0, 7.0])
    x.grad = None
    (x * x).sum().backward()
    same(x.grad, [2.0, 4.0])


def test_grad_returns_and_leaves_dot_grad_alone():
    x = leaf([1.0, 2.0])
    (g,) = tg.grad((x * x).sum(), x)
    same(g, [2.0, 4.0])
    assert x.grad is None and not g.requires_grad


def test_grad_of_two_leaves_owns_its_memory():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (a + b).sum().backward()
    assign(a.grad, a.grad.numpy() * 10.0)
    same(b.grad, [1.0, 1.0])
    given, c = tg.Tensor(np.array([5.0, 6.0])), leaf([1.0, 2.0])
    c.backward(given)
    assign(c.grad, [0.0, 0.0])
    same(given, [5.0, 6.0])


def test_shared_subexpressions_add_up():
    x = leaf([0.3, -0.7])
    h = tg.tanh(x)
    y = (h * h + 2.0 * h + x * h).sum()
    v = np.tanh(x.numpy())
    (g,) = tg.grad(y, x)
    same(g, (2.0 * v + 2.0 + x.numpy()) * (1.0 - v * v) + v)


def test_an_input_used_twice_in_one_op_adds_up():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    (g,) = tg.grad((x @ x).sum(), x)
    one = np.ones((2, 2))
    same(g, one @ x.numpy().T + x.numpy().T @ one)
    (g,) = tg.grad(tg.concatenate([x, x, x]).sum(), x)
    same(g, 3.0 * one)


def test_two_backwards_of_one_graph_are_bit_equal():
    x = leaf(np.linspace(-2.0, 2.0, 7))
    y = tg.logsumexp(tg.sin(x) * tg.exp(x))
    first = tg.grad(y, x, retain_graph=True)[0].numpy()
    second = tg.grad(y, x)[0].numpy()
    assert first.any() and first.tobytes() == second.tobytes()


def test_gradient_has_its_inputs_dtype():
    x, y = leaf([1.0, 2.0], np.float32), leaf([3.0, 4.0], np.float64)
    out = (x * y).sum()
    assert out.dtype == np.float64
    gx, gy = tg.grad(out, [x, y])
    assert (gx.dtype, gy.dtype) == (np.float32, np.float64)
    same(gx, [3.0, 4.0])
    out = (x * np.float64(2.0)).sum()
    assert out.dtype == np.float64 and tg.grad(out, x)[0].dtype == np.float32


# Targets


@tg.fused(lambda x, h: (x * h, (x, h)), lambda saved, g: (g * saved[1], g * saved[0]))
def product(x, h):
    return x * h


def checkpointed(fn):
    return lambda *inputs: tg.checkpoint(fn, *inputs)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("op", [tg.multiply, product, checkpointed(tg.multiply)])
def test_path_through_another_input_is_counted_once(op, create_graph):
    x = leaf([1.5, -2.0])
    h = x * x * x
    gx, gh = tg.grad(op(x, h).sum(), [x, h], create_graph=create_graph)
    v = x.numpy()
    same(gx, 4.0 * v**3)  # x · x³: by x, all ways
    same(gh, v)  # and by h alone
    if create_graph:
        same(tg.grad(gx.sum(), x, retain_graph=True)[0], 12.0 * v**2)
        same(tg.grad(gh.sum(), x)[0], [1.0, 1.0])


def test_intermediate_target_ends_nothing_that_leads_further():
    x = leaf([0.5, 1.0])
    h = tg.exp(x)
    y = (h * h).sum()
    gh, gx, again = tg.grad(y, [h, x, h])
    same(gh, 2.0 * np.exp(x.numpy()))
    same(gx, 2.0 * np.exp(2.0 * x.numpy()))
    same(again, gh.numpy())


PROGRAM = st.lists(
    st.tuples(st.sampled_from("+*sfc"), st.integers(0, 30), st.integers(0, 30)),
    min_size=1,
    max_size=12,
)


STEPS = {
    "+": tg.add,
    "*": tg.multiply,
    "s": lambda a, b: tg.sin(a),
    "f": product,
    "c": checkpointed(tg.multiply),
}


def played(program, values):
    """All values of a straight-line program."""
    for op, i, j in program:
        values.append(STEPS[op](values[i % len(values)], values[j % len(values)]))
    return values


@given(program=PROGRAM, data=st.data(), create_graph=st.booleans())
def test_gradients_of_any_program_at_any_of_its_values(program, data, create_graph):
    values = played(program, [leaf([0.7, -0.2]), leaf([-1.3, 1.1])])
    picked = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=3))
    targets, one = [values[k] for k in picked], np.ones(2)
    got = tg.grad(values[-1], targets, one, create_graph, retain_graph=True, allow_unused=True)
    assert one.tolist() == [1.0, 1.0]
    for k, g in zip(picked, got, strict=True):
        # forward: values and derivatives by values[k], one line of the program after another
        pairs = [(v.numpy(), one * (m == k)) for m, v in enumerate(values[: max(k + 1, 2)])]
        for op, i, j in program[len(pairs) - 2 :]:
            (a, da), (b, db) = (pairs[n % len(pairs)] for n in (i, j))
            if op == "s":
                pairs.append((np.sin(a), np.cos(a) * da))
            elif op == "+":
                pairs.append((a + b, da + db))
            else:
                pairs.append((a * b, da * b + a * db))
        np.testing.assert_allclose(values[-1].numpy(), pairs[-1][0], rtol=1e-9)
        slope = np.zeros(2) if g is None else g.numpy()
        np.testing.assert_allclose(slope, pairs[-1][1], rtol=1e-9, atol=1e-9)


@given(program=PROGRAM, create_graph=st.booleans())
def test_what_others_hold_is_never_changed(program, create_graph):
    start, seen = [leaf([0.7, -0.2]), leaf([-1.3, 1.1])], []
    values = played(program, start)
    for v in values:
        v.register_hook(lambda g: seen.append((g, g.numpy().copy())))
    given = tg.Tensor(np.array([2.0, 3.0]))
    tg.grad(values[-1], values, given, create_graph, retain_graph=True, allow_unused=True)
    values[-1].backward(given)
    assert seen and given.tolist() == [2.0, 3.0]
    for g, before in seen:
        assert g.numpy().tobytes() == before.tobytes()
    for g in {id(v): v.grad for v in start if v.grad is not None}.values():
        assert not any(np.shares_memory(g.numpy(), other.numpy()) for other in (given, *values))


def forbidden(name):
    def rule(g):
        raise AssertionError(f"the rule of {name} was called")

    return rule


def test_only_the_ways_to_the_targets_are_walked():
    @tg.primitive(a=forbidden("a"), b=lambda g: g)
    def choosy(a: tg.Array, b: tg.Array) -> tg.Array:
        return a + b

    @tg.primitive(a=forbidden("side"))
    def side(a: tg.Array) -> tg.Array:
        return a + 0.0

    x, w = leaf([1.0]), leaf([2.0])
    h = x * x
    y = choosy(side(w), h).sum()
    same(tg.grad(y, h, retain_graph=True)[0], [1.0])  # w's side and what is behind h: not walked
    same(tg.grad(y, x, retain_graph=True)[0], [2.0])
    below = side(x) * 3.0
    same(tg.grad(below.sum(), below)[0], [1.0])
    with pytest.raises(AssertionError, match="the rule of a was called"):
        tg.grad(y, w)


def test_unused_inputs_raise_or_give_none():
    x, w = leaf([1.0]), leaf([2.0])
    with pytest.raises(RuntimeError, match=r"^grad: expected .* input 1 was not used; .*unused"):
        tg.grad((x * x).sum(), [x, w])
    gx, gw = tg.grad((x * x).sum(), [x, w], allow_unused=True)
    same(gx, [2.0])
    assert gw is None
    with pytest.raises(RuntimeError, match="input 0 was not used"):
        tg.grad((w * w).sum(), x)


def test_inputs_off_the_graph_raise():
    with pytest.raises(RuntimeError, match=r"^grad: expected inputs .* but input 0 does not; make"):
        tg.grad(leaf([1.0]).sum(), tg.ones(1))


def test_grad_outputs_forms():
    x = leaf([1.0, 2.0])
    for weights in (tg.Tensor([3.0, 4.0]), np.array([3.0, 4.0]), [tg.Tensor([3.0, 4.0])]):
        same(tg.grad(x * x, x, weights)[0], [6.0, 16.0])
    same(tg.grad([x * x, x.sum()], x, [np.array([3.0, 4.0]), None])[0], [7.0, 17.0])
    same(tg.grad(((x * x).sum(), x.sum()), x)[0], [3.0, 5.0])
    with pytest.raises(ValueError, match=r"^grad: expected 2 grad_outputs.*got 1"):
        tg.grad([x.sum(), x.sum()], x, [None])
    with pytest.raises(ValueError, match=r"^grad: expected .*shape \(2,\), got \(3,\)"):
        tg.grad(x * x, x, np.ones(3))


def test_outputs_may_repeat_and_depend_on_each_other():
    x = leaf([1.0, 2.0])
    h = x * x
    same(tg.grad([h, h, h * x], [x], [np.ones(2)] * 3)[0], 4.0 * x.numpy() + 3.0 * x.numpy() ** 2)
    same(tg.grad(h, h, np.array([3.0, 4.0]))[0], [3.0, 4.0])
    h = x * x
    gh, gx = tg.grad([h, h * x], [h, x], np.ones(2))
    same(gh, 1.0 + x.numpy())
    same(gx, 2.0 * x.numpy() + 3.0 * x.numpy() ** 2)


def test_grad_outputs_are_differentiated_through():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (g,) = tg.grad(x * x, x, w, create_graph=True)
    same(tg.grad(g.sum(), w)[0], [2.0, 4.0])


def test_zero_sized_and_0d_tensors_backpropagate():
    x = leaf(np.zeros((0, 3)))
    (x * 2.0).sum().backward()
    assert x.grad.shape == (0, 3)
    s = leaf(3.0)
    (s * s + s).backward()
    assert s.grad.shape == () and s.grad.item() == 7.0
    assert leaf([2.0]).sum().shape == ()


# Ops with several results


def test_some_outputs_of_an_op_with_several():
    x = leaf(np.arange(6.0).reshape(2, 3))
    _, middle, _ = tg.split(x, 3, axis=1)
    same(tg.grad((middle * 5.0).sum(), x)[0], [[0.0, 5.0, 0.0]] * 2)
    first, second = tg.unstack(x)
    same(
        tg.grad((first * first + first).sum(), x, retain_graph=True)[0],
        [2.0 * x.numpy()[0] + 1.0, [0.0] * 3],
    )
    same(tg.grad((first * second).sum(), x)[0], x.numpy()[::-1])
    values, indices = tg.topk(x, 1)
    assert not indices.requires_grad
    same(tg.grad(values.sum(), x)[0], [[0.0, 0.0, 1.0]] * 2)


def test_some_outputs_twice_differentiated():
    x = leaf([1.0, 2.0, 3.0])
    a, _, c = tg.unstack(x)
    (g,) = tg.grad(a * a * c, x, create_graph=True)
    same(g, [6.0, 0.0, 1.0])
    same(tg.grad(g.sum(), x)[0], [8.0, 0.0, 2.0])


def test_one_output_is_a_target():
    x = leaf([1.0, 2.0])
    a, b = tg.unstack(x)
    ga, gx = tg.grad(a * a * b, [a, x])
    assert ga.item() == 4.0
    same(gx, [4.0, 1.0])


# A graph serves once, unless it is retained


def test_second_backward_raises_with_the_ops_name():
    x = leaf([1.0, 2.0])
    y = tg.tanh(x)
    y.backward(np.ones(2))
    with pytest.raises(RuntimeError, match=r"^backward: expected .*'tanh' saved.*retain_graph"):
        y.backward(np.ones(2))
    with pytest.raises(RuntimeError, match=r"'tanh' saved.*retain_graph=True"):
        tg.grad(y.sum(), x)
    a, b = tg.split(x, 2)
    a.sum().backward()
    with pytest.raises(RuntimeError, match=r"'split' saved.*retain_graph=True"):
        b.sum().backward()
    with pytest.raises(RuntimeError, match=r"'split' saved.*retain_graph=True"):
        a.sum().backward()


def test_retained_graph_serves_again():
    x = leaf([1.0, 2.0])
    y = tg.tanh(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    same(x.grad, 2.0 * (1.0 - np.tanh(x.numpy()) ** 2))


def test_create_graph_retains():
    x = leaf([1.0, 2.0])
    y = (x**3).sum()
    (g,) = tg.grad(y, x, create_graph=True)
    assert g.requires_grad
    same(tg.grad(g.sum(), x)[0], 6.0 * x.numpy())
    (g,) = tg.grad(y, x, create_graph=True, retain_graph=False)
    with pytest.raises(RuntimeError, match="freed"):
        tg.grad(y, x)


def test_backward_of_a_vector_raises():
    for where, call in (
        ("backward", lambda x, y: y.backward()),
        ("grad", lambda x, y: tg.grad(y, x)),
    ):
        x = leaf([1.0, 2.0])
        expected = rf"^{where}: expected an output with one element, got shape \(2,\); reduce"
        with pytest.raises(RuntimeError, match=expected):
            call(x, x * x)
    x = leaf([[3.0]])
    (x * x).backward()
    same(x.grad, [[6.0]])


def test_backward_of_what_has_no_graph_raises():
    x = leaf([1.0])
    with tg.no_grad():
        silent = x * x
    for y in (silent, (x * x).detach(), tg.ones(1), tg.argmax(x), x > 0.0):
        assert not y.requires_grad
        with pytest.raises(RuntimeError, match=r"^backward: expected .*requires_grad=True, got"):
            y.backward()


def test_backward_checks_its_gradient():
    x = leaf([1.0, 2.0])
    with pytest.raises(ValueError, match=r"^backward: expected .*shape \(2,\), got \(3,\)"):
        (x * x).backward(np.ones(3))
    (x * x).backward([1.0, 10.0])
    same(x.grad, [2.0, 40.0])


# Hooks and kept gradients


def test_retain_grad_keeps_a_results_gradient():
    x = leaf([1.0, 2.0])
    h = x * x
    h.retain_grad()
    (3.0 * h).sum().backward()
    same(h.grad, [3.0, 3.0])
    same(x.grad, [6.0, 12.0])
    assert (x * x).grad is None
    with pytest.raises(RuntimeError, match=r"^retain_grad: expected .*requires_grad=True"):
        tg.ones(2).retain_grad()


def test_hooks_see_and_replace_in_order():
    x, seen = leaf([1.0, 2.0]), []
    h = x * x
    h.register_hook(lambda g: seen.append(("first", g.numpy().copy())))
    h.register_hook(lambda g: g * 10.0)
    h.register_hook(lambda g: seen.append(("last", g.numpy().copy())))
    h.sum().backward()
    assert [name for name, _ in seen] == ["first", "last"]
    np.testing.assert_array_equal(seen[0][1], [1.0, 1.0])
    np.testing.assert_array_equal(seen[1][1], [10.0, 10.0])
    same(x.grad, [20.0, 40.0])


def test_hooks_see_the_whole_gradient_once():
    x, seen = leaf([1.0, 2.0]), []
    x.register_hook(lambda g: seen.append(g.numpy().copy()))
    (x * x + 3.0 * x).sum().backward()
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], [5.0, 7.0])


def test_removed_hooks_stay_removed_and_remove_no_other():
    x, seen = leaf([1.0]), []
    remove = x.register_hook(lambda g: seen.append("first"))
    remove()
    x.register_hook(lambda g: seen.append("second"))
    remove()
    x.sum().backward()
    assert seen == ["second"]


def test_hooks_are_differentiated_through():
    x = leaf([2.0])
    h = x * x
    h.register_hook(lambda g: g * x)
    (g,) = tg.grad(h.sum(), x, create_graph=True)  # x · 2x
    same(g, [8.0])
    same(tg.grad(g.sum(), x)[0], [8.0])


@pytest.mark.parametrize("create_graph", [False, True])
def test_hooks_replacement_is_fitted_or_refused(create_graph):
    x = leaf([1.0, 2.0], np.float32)
    x.register_hook(lambda g: np.array([5.0, 6.0]))
    (g,) = tg.grad((x * x).sum(), x, create_graph=create_graph)
    assert g.dtype == np.float32
    same(g, [5.0, 6.0])
    x.register_hook(lambda g: np.ones((2, 2)))
    with pytest.raises(
        ValueError, match=r"^register_hook: expected .*shape \(2,\), got shape \(2, 2\)"
    ):
        tg.grad((x * x).sum(), x, create_graph=create_graph)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("through", [lambda x: tg.checkpoint(tg.tanh, x), lambda x: product(x, x)])
def test_hooks_fire_once_through_a_replay(through, create_graph):
    x, seen = leaf([0.5, 0.25]), []
    h = x * 2.0
    for v in (x, h):
        v.register_hook(lambda g: seen.append(g))
    tg.grad(through(h).sum(), x, create_graph=create_graph)
    assert len(seen) == 2


def test_hooks_inside_a_checkpoint_fire_once():
    seen = []

    def fn(x):
        h = x * x
        h.register_hook(lambda g: seen.append(g.numpy().copy()))
        return tg.exp(h)

    tg.checkpoint(fn, leaf([0.5])).sum().backward()
    assert len(seen) == 1


def test_register_hook_needs_a_graph():
    with pytest.raises(RuntimeError, match=r"^register_hook: expected .*requires_grad=True"):
        tg.ones(2).register_hook(print)


# Depth, time and memory


def chain(x, n):
    y = x
    for _ in range(n):
        y = y * 1.0
    return y


def test_long_chains_need_no_recursion():
    limit, depth = sys.getrecursionlimit(), 0
    frame = sys._getframe()
    while frame:
        depth, frame = depth + 1, frame.f_back
    x = leaf([1.0, 2.0])
    try:
        sys.setrecursionlimit(depth + 60)
        y = chain(x, 100_000)
        y.sum().backward()
        same(x.grad, [1.0, 1.0])
        gc.disable()
        first = x * 1.0
        y = chain(first * first, 100_000)  # not walked: all of it goes at once
        owner = weakref.ref(first.numpy().base)
        del first
        assert owner() is not None
        del y
        assert owner() is None
    finally:
        sys.setrecursionlimit(limit)
        gc.enable()


def test_long_chains_differentiate_twice():
    x = leaf(2.0)
    (g,) = tg.grad(chain(x, 2_000) * x, x, create_graph=True)
    assert g.item() == 4.0
    assert tg.grad(g, x)[0].item() == 2.0


def scan_seconds(steps):
    """Time of this thread alone; a copy of all of xs at each step would take most of it."""
    xs = leaf(np.ones((steps, 16, 64)))
    start = time.thread_time()
    outputs, _ = tg.scan(lambda x, h: (x * h, h), xs, tg.Tensor(np.ones((16, 64))))
    outputs.sum().backward()
    return time.thread_time() - start


def test_scan_costs_linear_time():
    best = {100: np.inf, 200: np.inf, 400: np.inf}
    for _ in range(20):
        best = {n: min(least, scan_seconds(n)) for n, least in best.items()}
        if best[200] < 3.0 * best[100] and best[400] < 6.0 * best[100]:  # quadratic: 4 and 16
            return
    pytest.fail(f"seconds by number of steps: {best}")


def programs():
    """Computations whose graphs must go without the collector."""

    def rnn(x):
        step = lambda x, h: (tg.tanh(x + h),) * 2  # noqa: E731
        return tg.scan(step, tg.stack([x] * 3), tg.Tensor(np.zeros((2, 3))))[0]

    yield "ops", lambda x: tg.softmax(tg.tanh(x) @ x.mT, axis=-1)
    yield "several", lambda x: tg.split(x, 3, axis=1)[1] * tg.unstack(x, axis=1)[0][:, None]
    yield "sequences", lambda x: tg.concatenate([x, tg.einsum("ij,kj->ik", x, x)], axis=1)
    yield "fused", lambda x: product(x, x * x)
    yield "checkpoint", lambda x: tg.checkpoint(lambda v: tg.exp(v) * x, x)
    yield "scan", rnn


@pytest.mark.parametrize("program", [p for _, p in programs()], ids=[n for n, _ in programs()])
@pytest.mark.parametrize("way", ["forward", "backward", "kept", "twice", "hooked"])
def test_no_reference_cycles(program, way):
    program(leaf(np.ones((2, 3))))  # first calls fill caches
    with no_garbage():
        x = leaf(np.arange(6.0).reshape(2, 3) / 6.0)
        y = program(x)
        if way == "backward":
            y.sum().backward()
        elif way == "kept":
            y.sum().backward(retain_graph=True)
        elif way == "twice":
            (g,) = tg.grad(y.sum(), x, create_graph=True)
            (g * g).sum().backward()
            del g
        elif way == "hooked":
            y.retain_grad()
            y.register_hook(lambda g: g * 2.0)
            y.sum().backward()
        owners = [weakref.ref(v) for v in (x, y)]
        del x, y
        assert [r() for r in owners] == [None, None]


def test_functional_transforms_leave_no_cycles():
    def run(x):
        tg.func.hessian(lambda v: (v**3).sum())(x)
        tg.func.jvp(tg.sin, (x,), (x,))
        tg.func.hvp(lambda v: (v**3).sum(), (x,), (x,))

    run(np.ones(2))
    with no_garbage():
        run(np.ones(2))


@pytest.mark.parametrize("op", [tg.exp, lambda h: product(h, h), checkpointed(tg.exp)])
def test_saved_arrays_are_freed_as_backward_passes(op):
    x = leaf(np.ones(4))
    h = x * 2.0
    owner = weakref.ref(h.numpy().base)
    alive = []
    x.register_hook(lambda g: alive.append(owner() is not None))
    y = op(h).sum()
    del h
    if op is not tg.exp:  # exp keeps its result, not h
        assert owner() is not None
    y.backward()
    assert alive == [False] and y.requires_grad


def test_saved_arrays_are_freed_one_by_one():
    x, alive = leaf(np.ones(4)), []
    chain = [x]
    for _ in range(4):
        chain.append(tg.sin(chain[-1]))
    owners = [weakref.ref(v.numpy().base) for v in chain]
    chain[1].register_hook(lambda g: alive.extend(r() is not None for r in owners))
    y = chain[-1].sum()
    del chain
    assert [r() is not None for r in owners] == [True] * 4 + [False]
    y.backward()
    assert alive[:2] == [True, True] and alive[3:] == [False, False]


def test_retained_arrays_stay():
    x = leaf(np.ones(4))
    h = tg.exp(x)
    owner = weakref.ref(h.numpy().base)
    y = h.sum()
    del h
    y.backward(retain_graph=True)
    assert owner() is not None
    del y
    assert owner() is None


# no_grad


def test_no_grad_records_nothing_and_restores():
    x = leaf([1.0])
    with tg.no_grad():
        assert not (x * x).requires_grad
        with tg.no_grad():
            assert not (x * x).requires_grad
        assert not (x * x).requires_grad
        assert leaf([1.0]).requires_grad
    assert (x * x).requires_grad
    with pytest.raises(KeyError), tg.no_grad():
        raise KeyError
    assert (x * x).requires_grad


def test_no_grad_is_entered_again():
    x, quiet = leaf([1.0]), tg.no_grad()
    for _ in range(2):
        with quiet:
            assert not (x * x).requires_grad
    assert (x * x).requires_grad


@pytest.mark.parametrize("decorate", [tg.no_grad, tg.no_grad()], ids=["bare", "called"])
def test_no_grad_decorates(decorate):
    @decorate
    def power(x, n):
        """A power."""
        return x * power(x, n - 1) if n > 1 else x * 1.0

    x = leaf([3.0])
    for _ in range(2):
        y = power(x, 3)
        assert not y.requires_grad and y.item() == 27.0
        assert (x * x).requires_grad
    assert power.__doc__ == "A power." and power.__name__ == "power"


def in_threads(count, work):
    """Run work(k) in `count` threads at once; raise what any of them raised."""
    errors = []

    def guarded(k):
        try:
            work(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20.0)
        assert not t.is_alive()
    if errors:
        raise errors[0]


def test_decorated_function_runs_in_threads():
    x = leaf([3.0])
    barrier = threading.Barrier(4, timeout=10.0)

    @tg.no_grad
    def quiet():
        barrier.wait()
        y = x * x
        barrier.wait()
        return y

    def work(k):
        for _ in range(20):
            assert not quiet().requires_grad
            assert (x * x).requires_grad

    in_threads(4, work)


@pytest.mark.parametrize("switch", ["no_grad", "definitions"])
def test_switches_are_of_one_thread(switch):
    calls = threading.local()

    @tg.fused(lambda x: (x * 2.0, ()), lambda saved, g: (g * 2.0,))
    def doubled(x):
        calls.definition = True
        return x * 2.0

    x = leaf([1.0])
    barrier = threading.Barrier(2, timeout=10.0)

    def work(k):
        calls.definition = False
        barrier.wait()
        if k == 0:
            with getattr(tg, switch)():
                barrier.wait()
                y = doubled(x)
                barrier.wait()
        else:
            barrier.wait()
            y = doubled(x)
            barrier.wait()
        assert y.requires_grad == (k == 1 or switch == "definitions")
        assert calls.definition == (k == 0 and switch == "definitions")

    in_threads(2, work)
    assert doubled(x).requires_grad


def test_backward_in_many_threads():
    w = leaf(np.linspace(0.1, 0.5, 5))
    expected = 3.0 * w.numpy() ** 2

    def work(k):
        for _ in range(30):
            same(tg.grad((w**3).sum(), w)[0], expected)

    in_threads(4, work)
