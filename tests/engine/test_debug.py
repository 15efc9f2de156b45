"""Bad values are named where they arise, and no change behind the graph's back goes unseen."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.autograd.writes import assign

HERE = re.escape(Path(__file__).name)


def leaf(values, dtype=np.float64):
    return tg.Tensor(np.asarray(values, dtype), requires_grad=True)


# Anomalies: op, value, index and line, in both directions


@tg.fused(lambda x: (np.log(x), x), lambda x, g: (g / x,))
def fused_log(x):
    return tg.log(x)


opaque_log = tg.primitive(np.log, lambda x, g: g / x)


@pytest.mark.parametrize(
    ("call", "where", "value"),
    [
        (lambda x: tg.log(x), "log", r"-inf at index \(1,\) of array 0, shape \(2,\)"),
        (lambda x: tg.log(x - 1.0), "log", r"-inf at index \(0,\) of array 0, shape \(2,\)"),
        (lambda x: tg.sqrt(x - 1.0), "sqrt", r"nan at index \(1,\) of array 0"),
        (lambda x: 1.0 / x, "divide", r"inf at index \(1,\) of array 0"),
        (lambda x: tg.exp(x * 1e4).sum(), "exp", r"inf at index \(0,\) of array 0"),
        (lambda x: tg.exp(tg.Tensor(1e4)), "exp", r"inf at index \(\) of array 0, shape \(\)"),
        (lambda x: x.detach() / x.detach(), "divide", r"nan at index \(1,\) of array 0"),
        (lambda x: fused_log(x), "fused_log", r"-inf at index \(1,\) of array 0"),
        (lambda x: opaque_log(x), "log", r"-inf at index \(1,\) of array 0"),
        (lambda x: tg.checkpoint(tg.log, x), "log", r"-inf at index \(1,\) of array 0"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_anomaly_in_forward_names_op_value_index_and_line(call, where, value):
    x = leaf([1.0, 0.0])
    message = rf"^{where}: {value}.*; all its inputs were finite; made at .*{HERE}:\d+: "
    with pytest.raises(FloatingPointError, match=message), tg.detect_anomaly():
        call(x)


def test_anomaly_names_the_very_line():
    with pytest.raises(FloatingPointError) as caught, tg.detect_anomaly():
        tg.log(tg.zeros(2))  # this line
    assert "tg.log(tg.zeros(2))  # this line" in str(caught.value)
    number = re.search(rf"{HERE}:(\d+):", str(caught.value))[1]
    assert Path(__file__).read_text().splitlines()[int(number) - 1].endswith("# this line")


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda bad: tg.Tensor([1.0, 2.0]) * bad, "multiply"),
        (lambda bad: tg.Tensor([1.0, 2.0]) * float("nan"), "multiply"),
        (lambda bad: tg.Tensor([1.0, 2.0]) * np.float32("nan"), "multiply"),
        (lambda bad: np.array([1.0, np.nan]) * tg.Tensor([1.0, 2.0]), "multiply"),
        (lambda bad: tg.concatenate([tg.Tensor([1.0, 2.0]), bad]), "concatenate"),
        (lambda bad: tg.einsum("i,i->", tg.Tensor([1.0, 2.0]), bad), "einsum"),
        (lambda bad: tg.split(bad, 2), "split"),
        (lambda bad: fused_log(bad), "fused_log"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_anomaly_that_came_in_with_an_input_is_said_so(call, where):
    message = (
        rf"^{where}: nan at .* in the result; it came in with an input \(nan at index .*{HERE}"
    )
    with pytest.raises(FloatingPointError, match=message), tg.detect_anomaly():
        call(tg.Tensor([1.0, np.nan]))


def test_anomaly_names_the_output_of_several():
    @tg.primitive(x=lambda g: g[0])
    def halves(x: tg.Array) -> tuple[tg.Array, tg.Array]:
        return x + 0.0, np.log(x)

    with pytest.raises(FloatingPointError, match=r"^halves: -inf at index \(1,\) of array 1"):
        with tg.detect_anomaly():
            halves(leaf([1.0, 0.0]))


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda x: tg.sqrt(x), "sqrt"),
        (lambda x: tg.log(x + 1e-320), "log"),
        (lambda x: (x * x) ** 0.25, "power"),
        (lambda x: tg.std(tg.stack([x, x]), axis=0), "sqrt"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_anomaly_in_backward_names_op_and_line(call, where, create_graph):
    x = leaf([1.0, 0.0])
    where = r"\w+" if create_graph else rf"backward of {where}"  # recorded: the rule's own op
    message = rf"^{where}: (inf|nan|-inf) at index .*{HERE}:\d+: "
    with pytest.raises(FloatingPointError, match=message), tg.detect_anomaly():
        tg.grad(call(x).sum(), x, create_graph=create_graph)


def test_anomaly_in_backward_of_several_outputs():
    @tg.primitive(x=lambda g: g[0] / 0.0)
    def halves(x: tg.Array) -> tuple[tg.Array, tg.Array]:
        return x + 0.0, x * 2.0

    with pytest.raises(FloatingPointError, match=rf"^backward of halves: inf at .*{HERE}"):
        with tg.detect_anomaly():
            halves(leaf([1.0, 2.0]))[0].sum().backward()


def test_anomaly_in_backward_of_an_earlier_forward():
    y = tg.sqrt(leaf([0.0])).sum()
    message = r"^backward of sqrt: inf .* made at a line outside detect_anomaly\(\)"
    with pytest.raises(FloatingPointError, match=message), tg.detect_anomaly():
        y.backward()


def test_anomaly_in_a_given_cotangent():
    y = tg.sin(leaf([1.0, 2.0]))
    message = r"^backward of sin: nan at index \(1,\) .* in its cotangent, which was given"
    with pytest.raises(FloatingPointError, match=message), tg.detect_anomaly():
        y.backward(np.array([1.0, np.nan]))


def test_anomaly_lets_infinity_pass_if_asked():
    mask = np.array([0.0, -np.inf])
    with tg.detect_anomaly(inf=False):
        x = leaf([1.0, 2.0])
        tg.softmax(x + mask).sum().backward()
        assert np.isfinite(x.grad.numpy()).all()
        with pytest.raises(FloatingPointError, match=r"^log: nan at index \(1,\)"):
            tg.log(x - [0.0, 3.0])
    with pytest.raises(FloatingPointError, match=r"^add: -inf at index \(1,\)"):
        with tg.detect_anomaly():
            x + mask


def healthy(x):
    a, b = tg.split(tg.tanh(x) @ x.mT, 2, axis=1)
    c = tg.checkpoint(lambda a, b: tg.concatenate([a * b, b], axis=1), a, b)
    return tg.log_softmax(c, axis=-1).sum() + fused_log(x).sum() + tg.topk(x, 1)[0].sum()


@pytest.mark.parametrize("watch", [tg.detect_anomaly, tg.detect_mutation])
def test_healthy_runs_raise_nothing_and_change_nothing(watch):
    values = np.random.default_rng(0).random((2, 3)) + 0.5
    plain, watched = leaf(values), leaf(values)
    healthy(plain).backward()
    with watch():
        healthy(watched).backward()
        tg.grad(tg.grad(healthy(watched), watched, create_graph=True)[0].sum(), watched)
    assert plain.grad.numpy().any()
    assert plain.grad.numpy().tobytes() == watched.grad.numpy().tobytes()


def test_watching_ends_with_its_context():
    with tg.detect_anomaly(), np.errstate(all="ignore"):
        pass
    with np.errstate(all="ignore"):
        assert not np.isfinite(tg.log(tg.zeros(1)).item())


# Changes behind the graph's back


def fresh(*shape):
    return np.random.default_rng(7).random(shape) + 0.5


gate = tg.fused(lambda x, y: (x * y, (x.copy(), y)), lambda saved, g: (g * saved[1], g * saved[0]))(
    lambda x, y: x * y
)
opaque = tg.primitive(np.multiply, lambda x, y, g: (g * y, g * x))

# name: (arrays, op of their tensors, numbers of the inputs whose values the backward reads)
PROGRAMS = {
    "multiply": ((fresh(3), fresh(3)), lambda x, y: x * y, {0, 1}),
    "add": ((fresh(3), fresh(3)), lambda x, y: x + y, set()),
    "divide": ((fresh(3), fresh(3)), lambda x, y: x / y, {1}),
    "power": ((fresh(3), fresh(3)), lambda x, y: x**y, {0, 1}),
    "constant power": ((fresh(3),), lambda x: x**3, {0}),
    "maximum": ((fresh(3), fresh(3)), tg.maximum, {0, 1}),
    "tanh": ((fresh(3),), tg.tanh, set()),
    "exp": ((fresh(3),), tg.exp, set()),
    "log": ((fresh(3),), tg.log, {0}),
    "sin": ((fresh(3),), tg.sin, {0}),
    "matmul": ((fresh(2, 3), fresh(3, 2)), lambda x, y: x @ y, {0, 1}),
    "linear": ((fresh(2, 3), fresh(4, 3), fresh(4)), tg.linear, {0, 1}),
    "reshape": ((fresh(4),), lambda x: x.reshape(2, 2), set()),
    "sum": ((fresh(2, 3),), lambda x: x.sum(0), set()),
    "max": ((fresh(2, 3),), lambda x: x.max(axis=1), {0}),
    "softmax": ((fresh(2, 3),), tg.softmax, set()),
    "logsumexp": ((fresh(2, 3),), lambda x: tg.logsumexp(x, axis=-1), {0}),
    "concatenate": ((fresh(2), fresh(3)), lambda x, y: tg.concatenate([x, y]), set()),
    "stack": ((fresh(2), fresh(2)), lambda x, y: tg.stack([x, y]), set()),
    "split": ((fresh(4),), lambda x: tg.split(x, 2)[0], set()),
    "einsum": ((fresh(2, 3), fresh(3, 2)), lambda x, y: tg.einsum("ij,jk->ik", x, y), {0, 1}),
    "norm": ((fresh(3),), tg.norm, {0}),
    "fused": ((fresh(3), fresh(3)), gate, {0, 1}),
    "opaque": ((fresh(3), fresh(3)), opaque, {0, 1}),
    "checkpoint": ((fresh(3), fresh(3)), lambda x, y: tg.checkpoint(tg.multiply, x, y), {0, 1}),
}


def taped(name):
    """Memory that can be written behind, the tensors that share it, and the op's result."""
    arrays, op, read = PROGRAMS[name]
    memory = [a.copy() for a in arrays]
    tensors = [tg.from_numpy(a) for a in memory]
    for t in tensors:
        t.requires_grad = True
    return memory, tensors, op(*tensors), read


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
@given(data=st.data())
def test_detect_mutation_sees_every_change_of_what_is_saved(name, create_graph, data):
    with tg.detect_mutation():
        memory, tensors, y, read = taped(name)
        k = data.draw(st.integers(0, len(memory) - 1))
        flat = memory[k].reshape(-1)
        at = data.draw(st.integers(0, flat.size - 1))
        size = data.draw(st.sampled_from([np.spacing(flat[at]), 1.0, np.nan]))
        flat[at] += size
        run = lambda: tg.grad(y.sum(), tensors, create_graph=create_graph)  # noqa: E731
        if k in read:
            message = rf"^backward: an array that '\w+' saved was changed in place .*{HERE}:\d+: "
            with pytest.raises(RuntimeError, match=message + r".*; run backward before|copy"):
                run()
        else:
            assert all(np.isfinite(g.numpy()).all() for g in run())
        flat[at] -= size


@pytest.mark.parametrize("name", ["tanh", "exp", "softmax", "power", "logsumexp", "divide"])
def test_detect_mutation_sees_changes_of_results(name):
    with tg.detect_mutation():
        _, tensors, y, _ = taped(name)
        writable = y.numpy().base
        writable[...] = 0.25
        with pytest.raises(RuntimeError, match=r"^backward: an array that '\w+' saved was changed"):
            tg.grad(y.sum(), tensors)


def indexed(kind):
    rows, mask = np.array([0, 2, 0]), np.array([True, False, True])
    return {
        "getitem": (rows, lambda x: x[rows]),
        "getitem tuple": (rows, lambda x: x[rows, 0]),
        "getitem mask": (mask, lambda x: x[mask]),
        "take": (rows, lambda x: tg.take(x, rows, 0)),
        "embedding": (rows, lambda x: tg.embedding(rows, x)),
        "where": (mask, lambda x: tg.where(mask[:, None], x, 0.0)),
    }[kind]


@pytest.mark.parametrize("kind", ["getitem", "getitem tuple", "getitem mask", "take", "embedding"])
def test_indices_may_change_after_the_forward_pass(kind):
    x = leaf(fresh(3, 2))
    key, op = indexed(kind)
    (expected,) = tg.grad(op(x).sum(), x)
    y = op(x)
    key[...] = key[::-1].copy() if key.dtype == bool else 1
    key[0] = 0
    (found,) = tg.grad(y.sum(), x)
    np.testing.assert_array_equal(found, expected)
    assert expected.numpy().any()


def test_a_list_of_indices_may_change_after_the_forward_pass():
    x, rows = leaf(fresh(3)), [0, 1, 1]
    y = x[rows]
    rows[0] = 2
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 2.0, 0.0]


def test_detect_mutation_sees_changes_of_conditions():
    x = leaf(fresh(3, 2))
    with tg.detect_mutation():
        key, op = indexed("where")
        y = op(x)
        key[...] = ~key
        with pytest.raises(
            RuntimeError, match=r"^backward: an array that 'where' saved was changed"
        ):
            y.sum().backward()


def test_detect_mutation_sees_changes_of_closures():
    memory = fresh(3)
    w = tg.from_numpy(memory)
    w.requires_grad = True
    with tg.detect_mutation():
        y = tg.checkpoint(lambda x: tg.exp(x + w), leaf(fresh(3)))
        memory[0] += 1.0
        with pytest.raises(RuntimeError, match=r"^backward: an array that 'checkpoint' saved was"):
            y.sum().backward()


def test_detect_mutation_does_not_mind_changes_undone_or_late():
    memory, tensors, y, _ = taped("multiply")
    with tg.detect_mutation():
        memory, tensors, y, _ = taped("multiply")
        memory[0] += 1.0
        memory[0][...] = PROGRAMS["multiply"][0][0]
        tg.grad(y.sum(), tensors)
        memory[0] += 1.0


# Writes through the door are always seen


WRITES = {n: p for n, p in PROGRAMS.items() if n not in ("fused",)}


@pytest.mark.parametrize("name", WRITES)
def test_writes_are_seen_exactly_where_values_are_read(name):
    arrays, op, read = WRITES[name]
    for k in range(len(arrays)):
        tensors = [leaf(a) for a in arrays]
        y = op(*tensors).sum()
        assign(tensors[k], arrays[k] + 1.0)
        if k in read:
            message = r"^backward: an array that '\w+' saved was changed in place after the forward"
            with pytest.raises(RuntimeError, match=message + r".*; run backward before.*copy"):
                y.backward()
        else:
            y.backward()


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.reshape(2, 2),
        lambda x: x[1:],
        lambda x: x.detach(),
        lambda x: tg.split(x, 2)[1],
        lambda x: x.reshape(2, 2).T[0],
        lambda x: tg.broadcast_to(x, (3, 4)),
    ],
)
def test_writes_are_seen_through_views(view):
    x = leaf(fresh(4))
    v = view(x)
    assert np.shares_memory(v.numpy(), x.numpy())
    other = leaf(fresh(*v.shape))
    y = (v * other).sum()
    assign(x, fresh(4) + 1.0)
    with pytest.raises(RuntimeError, match="'multiply' saved was changed in place"):
        tg.grad(y, other)


@pytest.mark.parametrize("create_graph", [False, True])
def test_writes_under_a_fused_op_are_seen(create_graph):
    x, y = leaf(fresh(3)), leaf(fresh(3))
    z = gate(x, y).sum()
    assign(y, fresh(3) + 1.0)
    with pytest.raises(RuntimeError, match="saved was changed in place"):
        tg.grad(z, [x, y], create_graph=create_graph)


CLOSURES = [
    lambda x, w: x * w,
    lambda x, w: tg.exp(x + w),
    lambda x, w: tg.exp(tg.concatenate([x, w])),
    lambda x, w: tg.checkpoint(lambda x: tg.exp(x * w), x),
]


@pytest.mark.parametrize("fn", CLOSURES)
def test_writes_to_what_a_checkpoint_closes_over_are_seen(fn):
    x, w = leaf(fresh(3)), leaf(fresh(3))
    y = tg.checkpoint(lambda x: fn(x, w), x).sum()
    assign(w, fresh(3) + 1.0)
    with pytest.raises(RuntimeError, match="'checkpoint' saved was changed in place"):
        y.backward()


def test_writes_before_the_forward_or_after_the_backward_are_fine():
    w = leaf(fresh(3))
    for k in range(3):  # as an optimiser does
        assign(w, fresh(3) + k)
        y = (w * w).sum()
        y.backward()
        np.testing.assert_array_equal(w.grad.numpy(), 2.0 * (fresh(3) + k))
        w.grad = None
    assign(w, fresh(3))
    other = leaf(fresh(3))
    y = (w * w).sum()
    assign(other, fresh(3) + 1.0)  # other memory
    y.backward()


def test_writes_after_a_retained_backward_are_seen():
    w = leaf(fresh(3))
    y = (w * w).sum()
    y.backward(retain_graph=True)
    assign(w, fresh(3) + 1.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_writes_spoil_only_what_came_before_them():
    w = leaf(fresh(3))
    old = (w * w).sum()
    assign(w, fresh(3) + 1.0)
    new = (w * w).sum()
    new.backward()
    with pytest.raises(RuntimeError, match="changed in place"):
        old.backward()
