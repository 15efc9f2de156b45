"""Fused ops equal their definitions, and `checkpoint` equals its function, to any order."""

import gc
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tg

CALLS = []  # which of the two ways ran


def leaf(values, dtype=np.float64):
    return tg.Tensor(np.asarray(values, dtype), requires_grad=True)


def draws(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def same(tensor, expected):
    np.testing.assert_allclose(tensor.numpy(), np.asarray(expected), rtol=1e-12, atol=1e-12)


def sigma(x):
    return 1.0 / (1.0 + np.exp(-x))


# Three fused ops: one result, several, and one with metadata and an optional input


def gated_forward(x, y):
    CALLS.append("kernel")
    s = sigma(x)
    return s * y, (s, y)


def gated_backward(saved, g):
    s, y = saved
    return g * y * s * (1.0 - s), g * s


@tg.fused(gated_forward, gated_backward)
def gated(x, y):
    CALLS.append("definition")
    return tg.sigmoid(x) * y


def polar_forward(x, y):
    CALLS.append("kernel")
    r = np.hypot(x, y)
    return (r, x * y), (x, y, r)


def polar_backward(saved, g_r, g_p):
    x, y, r = saved
    return g_r * x / r + g_p * y, g_r * y / r + g_p * x


@tg.fused(polar_forward, polar_backward)
def polar(x, y):
    CALLS.append("definition")
    return tg.sqrt(x * x + y * y), x * y


def affine_forward(x, w, b, *, scale):
    CALLS.append("kernel")
    out = scale * (x * w)
    return (out if b is None else out + b), (x, w, b, scale)


def affine_backward(saved, g):
    x, w, b, scale = saved
    return g * scale * w, g * scale * x, None if b is None else g


@tg.fused(affine_forward, affine_backward)
def affine(x, w, b, *, scale):
    CALLS.append("definition")
    out = scale * (x * w)
    return out if b is None else out + b


ROWS = {
    "gated": (gated, 2, {}),
    "polar": (polar, 2, {}),
    "affine": (affine, 3, {"scale": 3.0}),
}


def total(outputs):
    """One number that all outputs enter, each in its own way."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return sum(((k + 1.0) * v * v).sum() for k, v in enumerate(outputs))


def derivatives(fn, inputs, wanted):
    """The outputs, the gradients, and the gradients of gradients."""
    outputs = fn(*inputs)
    first = tg.grad(total(outputs), wanted, create_graph=True, retain_graph=True)
    again = tg.grad(sum((d * d).sum() for d in first), wanted, allow_unused=True)
    plain = tg.grad(total(fn(*inputs)), wanted)
    return [*(outputs if isinstance(outputs, tuple) else (outputs,)), *first, *plain, *again]


SUBSETS = [(name, s) for name, (_, count, _) in ROWS.items() for s in range(1, 2**count)]


@pytest.mark.parametrize(("name", "subset"), SUBSETS)
def test_fused_equals_its_definition_for_any_inputs(name, subset):
    op, count, meta = ROWS[name]
    inputs = [leaf(draws(2, 3) + k) for k in range(count)]
    wanted = [v for k, v in enumerate(inputs) if subset >> k & 1]
    inputs = [v if subset >> k & 1 else v.detach() for k, v in enumerate(inputs)]
    CALLS.clear()
    fused = derivatives(lambda *v: op(*v, **meta), inputs, wanted)
    assert CALLS == ["kernel", "definition", "kernel"]
    CALLS.clear()
    with tg.definitions():
        defined = derivatives(lambda *v: op(*v, **meta), inputs, wanted)
    assert CALLS == ["definition"] * 2
    plain = derivatives(lambda *v: op.definition(*v, **meta), inputs, wanted)
    for a, b, c in zip(fused, defined, plain, strict=True):
        if b is not None:
            assert b.numpy().any()
            same(a, b)
            assert b.numpy().tobytes() == c.numpy().tobytes()


def test_fused_on_arrays_is_its_definition():
    CALLS.clear()
    x, y = draws(3), draws(2, 3)
    out = gated(x, y)
    assert not isinstance(out, tg.Tensor) or not out.requires_grad
    np.testing.assert_allclose(np.asarray(out), sigma(x) * y)
    assert CALLS == ["definition"]


def test_fused_broadcasts_promotes_and_gives_the_inputs_dtype():
    x, y = leaf(draws(3), np.float32), leaf(draws(2, 3))
    out = gated(x, y)
    assert out.dtype == np.float64
    gx, gy = tg.grad(out.sum(), [x, y])
    dx, dy = tg.grad(gated.definition(x, y).sum(), [x, y])
    assert gx.dtype == np.float32 and gx.shape == (3,)
    np.testing.assert_allclose(gx.numpy(), dx.numpy(), rtol=1e-5)
    same(gy, dy)


def test_fused_takes_none_and_metadata():
    x, w = leaf(draws(3)), leaf(draws(3) + 1.0)
    for b in (None, tg.Tensor(draws(3)), draws(3), leaf(draws(3))):
        for create_graph in (False, True):
            gx, gw = tg.grad(affine(x, w, b, scale=3.0).sum(), [x, w], create_graph=create_graph)
            same(gx, 3.0 * w.numpy())
            same(gw, 3.0 * x.numpy())


def test_fused_same_tensor_twice():
    x = leaf(draws(3))
    for create_graph in (False, True):
        (g,) = tg.grad(gated(x, x).sum(), x, create_graph=create_graph)
        s = sigma(x.numpy())
        same(g, s + x.numpy() * s * (1.0 - s))


@pytest.mark.parametrize("used", [0, 1])
def test_fused_with_only_one_output_used(used):
    x, y = leaf(draws(3)), leaf(draws(3) + 2.0)
    for create_graph in (False, True):
        got = tg.grad(polar(x, y)[used].sum(), [x, y], create_graph=create_graph)
        expected = tg.grad(polar.definition(x, y)[used].sum(), [x, y])
        for a, b in zip(got, expected, strict=True):
            same(a, b)


def test_fused_backward_is_told_what_is_needed_and_whether_it_frees():
    told = []

    def backward(saved, g, *, needs, freeing):
        told.append((needs, freeing))
        return tuple(g if need else None for need in needs)

    op = tg.fused(lambda x, y: (x + y, ()), backward)(lambda x, y: x + y)
    x, y = leaf([1.0]), leaf([2.0])
    out = op(x, y)
    out.backward(retain_graph=True)
    tg.grad(out, x, retain_graph=True)
    out.backward()
    op(x.detach(), y).backward()
    tg.grad(op(x, y), y)
    both, one = (True, True), (False, True)
    assert told == [(both, False), ((True, False), False), (both, True), (one, True), (one, True)]


def test_fused_backward_need_not_be_told():
    told = []

    def backward(saved, g, freeing):
        told.append(freeing)
        return (g,)

    op = tg.fused(lambda x: (x + 0.0, ()), backward)(lambda x: x + 0.0)
    op(leaf([1.0])).backward()
    assert told == [True]


def test_two_backwards_of_one_fused_forward_are_bit_equal():
    def backward(saved, g, freeing):
        (x,) = saved
        grown = x if freeing else x.copy()  # may reuse what is being freed
        grown *= 2.0 * g
        return (grown,)

    op = tg.fused(lambda x: (x * x, (x.copy(),)), backward)(lambda x: x * x)
    x = leaf(draws(5))
    y = op(x).sum()
    first, second = tg.grad(y, x, retain_graph=True)[0], tg.grad(y, x)[0]
    assert first.numpy().any() and first.numpy().tobytes() == second.numpy().tobytes()


def test_kernel_or_definition_is_decided_at_the_forward():
    x, y = leaf(draws(3)), leaf(draws(3))
    CALLS.clear()
    with tg.definitions():
        out = gated(x, y).sum()
    tg.grad(out, [x, y], retain_graph=True)
    tg.grad(out, [x, y], create_graph=True)
    assert CALLS == ["definition"]
    CALLS.clear()
    out = gated(x, y).sum()
    with tg.definitions():
        tg.grad(out, [x, y])
    assert CALLS == ["kernel"]


def test_definitions_nest_and_end():
    CALLS.clear()
    x, y = leaf(draws(3)), leaf(draws(3))
    with tg.definitions():
        with tg.no_grad(), tg.definitions():
            assert not gated(x, y).requires_grad
        assert gated(x, y).requires_grad
    gated(x, y)
    assert CALLS == ["definition", "definition", "kernel"]


def test_fused_under_no_grad_keeps_nothing():
    x = leaf(draws(3))
    with tg.no_grad():
        assert not gated(x, x).requires_grad
        assert not any(v.requires_grad for v in polar(x, x))


def test_fused_third_derivative():
    cube = tg.fused(lambda x: (x**3, x), lambda x, g: (3.0 * x * x * g,))(lambda x: x**3)
    x = leaf(2.0)
    (g,) = tg.grad(cube(x), x, create_graph=True)
    (g,) = tg.grad(g, x, create_graph=True)
    assert g.item() == 12.0
    assert tg.grad(g, x)[0].item() == 6.0


# checkpoint


def block(x, w):
    return tg.tanh(tg.sin(x @ w) @ w)


def test_checkpoint_equals_its_function():
    x, w = leaf(draws(2, 3)), leaf(draws(3, 3))
    recomputed = derivatives(lambda x, w: tg.checkpoint(block, x, w), [x, w], [x, w])
    for a, b in zip(recomputed, derivatives(block, [x, w], [x, w]), strict=True):
        assert b.numpy().any()
        same(a, b)


def test_checkpoint_keeps_no_inner_result():
    inner = []

    def fn(x):
        h = tg.exp(x)
        inner.append(weakref.ref(h.numpy().base))
        return tg.sin(h)

    gc.disable()
    try:
        x = leaf(draws(3))
        y = tg.checkpoint(fn, x)
        assert inner[0]() is None
        y.sum().backward()
        assert len(inner) == 2 and inner[1]() is None
    finally:
        gc.enable()
    v = x.numpy()
    same(x.grad, np.cos(np.exp(v)) * np.exp(v))


@pytest.mark.parametrize("create_graph", [False, True])
def test_checkpoint_reaches_what_it_closes_over(create_graph):
    x, w, b = leaf(draws(3)), leaf(draws(3)), leaf(draws(3))
    h = b * b  # not a leaf
    y = tg.checkpoint(lambda x: tg.exp(x * w) + h * w, x)
    got = tg.grad(y.sum(), [x, w, b, h], create_graph=create_graph, retain_graph=True)
    expected = tg.grad((tg.exp(x * w) + h * w).sum(), [x, w, b, h])
    for a, e in zip(got, expected, strict=True):
        assert e.numpy().any()
        same(a, e)


def test_checkpoint_needs_no_recorded_input():
    w = leaf(draws(3))
    y = tg.checkpoint(lambda x: x * w, tg.Tensor(draws(3)))
    y.sum().backward()
    same(w.grad, draws(3))
    assert not tg.checkpoint(tg.exp, tg.Tensor(draws(3))).requires_grad
    with tg.no_grad():
        assert not tg.checkpoint(lambda x: x * w, w).requires_grad


@pytest.mark.parametrize("create_graph", [False, True])
def test_checkpoint_repeats_draws_of_the_default_generator(create_graph):
    drawn = []

    def noisy(x):
        mask = tg.rand(1000, dtype=np.float64)
        drawn.append(mask.numpy())
        return x * mask

    tg.manual_seed(5)
    x = leaf(np.ones(1000))
    y = tg.checkpoint(noisy, x)
    between = tg.rand(3).numpy()
    (g,) = tg.grad(y.sum(), x, create_graph=create_graph)
    after = tg.rand(3).numpy()
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(g.numpy(), y.numpy())
    tg.manual_seed(5)
    tg.rand(1000, dtype=np.float64)  # the backward pass draws nothing that others would have got
    np.testing.assert_array_equal(between, tg.rand(3).numpy())
    np.testing.assert_array_equal(after, tg.rand(3).numpy())


def test_generator_survives_a_failing_replay():
    calls = []

    def fails_later(x):
        calls.append(tg.rand(1))
        if len(calls) > 1:
            raise KeyError("later")
        return x * 2.0

    y = tg.checkpoint(fails_later, leaf([1.0]))
    before = tg.get_rng_state()
    with pytest.raises(KeyError, match="later"):
        y.backward()
    assert tg.get_rng_state() == before


def test_checkpoints_nest():
    x, w = leaf(draws(2, 3)), leaf(draws(3, 3))
    counts = {"outer": 0, "inner": 0}

    def inner(h):
        counts["inner"] += 1
        return tg.sin(h @ w)

    def outer(x, w):
        counts["outer"] += 1
        return tg.tanh(tg.checkpoint(inner, x) @ w)

    got = derivatives(lambda x, w: tg.checkpoint(outer, x, w), [x, w], [x, w])
    for a, b in zip(got, derivatives(lambda x, w: tg.tanh(inner(x) @ w), [x, w], [x, w])):  # noqa: B905
        same(a, b)
    counts.update(outer=0, inner=0)
    tg.checkpoint(outer, x, w).sum().backward()
    assert counts == {"outer": 2, "inner": 3}


def test_checkpoint_of_several_outputs():
    x = leaf(draws(2, 4))
    got = derivatives(lambda x: tg.checkpoint(lambda x: tg.split(tg.exp(x), 2), x), [x], [x])
    for a, b in zip(got, derivatives(lambda x: tg.split(tg.exp(x), 2), [x], [x]), strict=True):
        same(a, b)
    first, indices = tg.checkpoint(lambda x: tg.topk(x, 2), x)
    assert first.requires_grad and not indices.requires_grad
    assert tg.grad(first.sum(), x)[0].numpy().sum() == 4.0


def test_checkpoint_that_gives_back_its_input():
    x = leaf(draws(3))
    a, b = tg.checkpoint(lambda x: (x, x * 2.0), x)
    same(tg.grad((a * b).sum(), x)[0], 4.0 * x.numpy())


def test_checkpoint_holds_fused_ops():
    x, y = leaf(draws(3)), leaf(draws(3))
    got = derivatives(lambda x, y: tg.checkpoint(gated, x, y), [x, y], [x, y])
    for a, b in zip(got, derivatives(gated, [x, y], [x, y]), strict=True):
        same(a, b)


# Primitives of the user's own


def test_opaque_primitive_differentiates_once():
    calls = []

    def pull(x, y, g):
        calls.append((type(x), type(y), type(g)))
        return g * y, g * x

    times = tg.primitive(lambda x, y: x * y, pull)
    x, y = leaf(draws(3)), leaf(draws(2, 3))
    gx, gy = tg.grad(times(x, y).sum(), [x, y])
    same(gx, y.numpy().sum(0))
    same(gy, np.broadcast_to(x.numpy(), (2, 3)))
    assert calls == [(np.ndarray,) * 3]
    same(tg.grad(times(x.numpy(), y).sum(), y)[0], np.broadcast_to(x.numpy(), (2, 3)))
    assert type(times(x.numpy(), 2.0)) is np.ndarray


@pytest.mark.parametrize("create_graph", [False, True])
def test_opaque_primitive_may_give_none(create_graph):
    scaled = tg.primitive(lambda x, n: x * n, lambda x, n, g: (g * n, None))
    x, n = leaf(draws(3)), leaf(2.0)
    gx, gn = tg.grad(scaled(x, n).sum(), [x, n], create_graph=create_graph, allow_unused=True)
    same(gx, [2.0] * 3)
    assert gn is None


@tg.primitive(
    x=lambda g, y, scale: scale * (g * y),
    y=lambda g, out, y: g * out / y,
)
def scaled_product(x: tg.Array, y: tg.Array, scale: float = 1.0) -> tg.Array:
    """scale x y."""
    return scale * x * y


def test_own_primitive_differentiates_to_any_order():
    x, y = leaf(draws(3) + 3.0), leaf(draws(3) - 3.0)
    got = derivatives(lambda x, y: scaled_product(x, y, scale=2.0), [x, y], [x, y])
    for a, b in zip(got, derivatives(lambda x, y: 2.0 * x * y, [x, y], [x, y]), strict=True):
        assert b.numpy().any()
        same(a, b)
    assert scaled_product.__doc__ == "scale x y." and scaled_product.__name__ == "scaled_product"
    third = tg.func.grad(tg.func.grad(tg.func.grad(lambda x: scaled_product(x * x, x, 0.5))))
    assert third(leaf(2.0).detach()).item() == 3.0


def test_own_primitive_takes_metadata_by_keyword():
    @tg.primitive(x=lambda g, scale: g * scale)
    def scaled(x: tg.Array, *, scale: float, shift: float = 1.0) -> tg.Array:
        return x * scale + shift

    x = leaf(draws(3))
    y = scaled(x, scale=4.0)
    same(y, 4.0 * x.numpy() + 1.0)
    same(tg.grad(y.sum(), x)[0], [4.0] * 3)
    with pytest.raises(TypeError, match=r"scaled\(\) takes 1 positional"):
        scaled(x, 4.0)
    with pytest.raises(TypeError, match=r"scaled\(\) missing 1 required keyword-only argument"):
        scaled(x)


def test_own_primitive_without_rules_has_no_gradient():
    @tg.primitive()
    def rounded(x: tg.Array) -> tg.Array:
        return np.round(x)

    assert not rounded(leaf([1.4])).requires_grad and rounded(leaf([1.4])).item() == 1.0


def test_integer_results_stand_on_no_graph():
    ranks = tg.primitive(np.argsort, lambda x, g: None)
    ruled = tg.primitive(x=lambda g: g)(lambda x: np.argsort(x))
    fused = tg.fused(lambda x: (np.argsort(x), ()), lambda saved, g: (g,))(tg.argsort)
    for op in (ranks, ruled, fused, lambda x: tg.checkpoint(tg.argsort, x)):
        assert not op(leaf(draws(3))).requires_grad


def test_wrong_gradients_name_their_op():
    @tg.primitive(x=lambda g: g[:2])
    def shortened(x: tg.Array) -> tg.Array:
        return x + 1.0

    short = tg.fused(lambda x: (x + 1.0, ()), lambda saved, g: (g[:2],))(shortened)
    for op in (shortened, short):
        with pytest.raises(ValueError, match=r"shortened.*expected .*\(3,\), got .*\(2,\)"):
            op(leaf(draws(3))).sum().backward()


def test_own_primitive_over_a_sequence():
    @tg.primitive(parts=lambda g, parts, weight: [weight * g for _ in parts])
    def total_of(parts: tg.Arrays, weight: float) -> tg.Array:
        return weight * sum(parts)

    xs = [leaf(draws(3)), draws(3), leaf(draws(2, 3))]
    y = total_of(xs, 2.0)
    same(y, 2.0 * (xs[0].numpy() + xs[1] + xs[2].numpy()))
    ga, gb = tg.grad(y.sum(), [xs[0], xs[2]], create_graph=True)
    same(ga, [4.0] * 3)
    same(gb, np.full((2, 3), 2.0))


def test_own_primitive_with_several_results():
    @tg.primitive(x=lambda g: g[0] + 2.0 * g[1])
    def twins(x: tg.Array) -> tuple[tg.Array, tg.Array]:
        return x + 0.0, 2.0 * x

    x = leaf(draws(3))
    a, b = twins(x)
    same(tg.grad((a * b).sum(), x, create_graph=True)[0], 4.0 * x.numpy())
    same(tg.grad(twins(x)[1].sum(), x)[0], [2.0] * 3)


# The graph as text


def test_to_dot_reads_well():
    x, w = leaf([[1.0, 2.0]]), leaf([[3.0], [4.0]])
    first, _ = tg.split(tg.tanh(x @ w + 1.0), [1])
    loss = (first * x).sum()
    assert (
        tg.to_dot(loss, {"x": x, 'the "w"': w})
        == """digraph {
  rankdir=TB; node [fontname="Helvetica"];
  n0 [shape=box, label="x\\n(1, 2)"];
  n1 [shape=box, label="the 'w'\\n(2, 1)"];
  n2 [label="matmul\\n(1, 1)"];
  n0 -> n2;
  n1 -> n2;
  n3 [label="add\\n(1, 1)"];
  n2 -> n3;
  n4 [label="tanh\\n(1, 1)"];
  n3 -> n4;
  n5 [label="split"];
  n4 -> n5;
  n6 [label="[0]\\n(1, 1)"];
  n5 -> n6;
  n7 [label="multiply\\n(1, 2)"];
  n6 -> n7;
  n0 -> n7;
  n8 [label="sum\\n()"];
  n7 -> n8;
}"""
    )


def test_to_dot_names_fused_ops_and_outlives_a_backward():
    x = leaf([1.0])
    y = tg.checkpoint(tg.exp, gated(x, x))
    a, b = tg.unstack(tg.stack([y, y]))
    text = tg.to_dot([a, b], {})
    for name in ("gated", "checkpoint", "stack", "unstack", "[0]", "[1]"):
        assert f'label="{name}' in text
    (a + b).sum().backward()
    assert 'label="gated' in tg.to_dot(a)
    assert tg.to_dot(tg.ones(1)).count("\n") == 2


NAMES = (
    "op new forward node mode out_ result live error wrap unwrap placed needed saved tick".split()
)


@pytest.mark.parametrize("name", NAMES)
def test_own_primitive_may_name_its_inputs_as_it_likes(name):
    space = {"tg": tg, "__name__": __name__}
    exec(f"def thrice({name}: tg.Array, y: tg.Array):\n    return 3.0 * {name} * y", space)
    rules = {name: lambda g, y: 3.0 * g * y, "y": eval(f"lambda g, {name}: 3.0 * g * {name}")}
    thrice = tg.primitive(**rules)(space["thrice"])
    x, y = leaf(draws(3)), leaf(draws(3))
    for got, expected in zip(
        derivatives(thrice, [x, y], [x, y]),
        derivatives(lambda x, y: 3.0 * x * y, [x, y], [x, y]),
        strict=True,
    ):
        same(got, expected)
