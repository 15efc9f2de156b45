"""What a user reads after a mistake: one exception that says where, expected, got and remedy."""

import re

import numpy as np
import pytest

import tinygrad_rnn as tg


def leaf(shape):
    return tg.Tensor(np.ones(shape), requires_grad=True)


M, V = leaf((2, 3)), leaf(3)  # a matrix and a vector
EMPTY = leaf((0, 3))
SQUARE = tg.primitive(lambda x: x * x, lambda x, g: 2.0 * x * g)
SHORT = tg.primitive(lambda x, y: x * y, lambda x, y, g: (g * y,))
STATE = tg.get_rng_state()


def bad_rules(**rules):
    def named(x: tg.Array, n):
        return x

    return tg.primitive(**rules)(named)


def fused(forward, backward):
    return tg.fused(forward, backward)(lambda x, y: x * y)


def step(x, h, *rest):
    return h, h


def scan(shape=(4, 2, 3), state=(2, 3), **options):
    return tg.scan(step, tg.Tensor(np.ones(shape)), tg.Tensor(np.ones(state)), **options)


# call, the exception's type, the message: where, expected, got, remedy
BAD = {
    # operands
    "broadcast": (
        lambda: M + leaf(4),
        ValueError,
        r"add: expected shapes that broadcast, got shapes \(2, 3\) and \(4,\); equal sizes, or 1",
    ),
    "power shapes": (
        lambda: V ** np.ones(2),
        ValueError,
        r"power: expected shapes that broadcast, got shapes \(3,\) and \(2,\); equal sizes",
    ),
    "clip shapes": (
        lambda: tg.clip(V, np.zeros(2), 1.0),
        ValueError,
        r"\w+: expected shapes that broadcast, got shapes \(3,\) and \(2,\); equal sizes",
    ),
    "broadcast_to": (
        lambda: tg.broadcast_to(M, (5, 3)),
        ValueError,
        r"broadcast_to: expected shapes that broadcast, got shapes \(2, 3\); equal sizes",
    ),
    "matmul": (
        lambda: M @ M,
        ValueError,
        r"matmul: expected the last axis of the first to match the second, "
        r"got shapes \(2, 3\) and \(2, 3\); transpose one",
    ),
    "matmul 0-d": (lambda: M @ 2.0, ValueError, r"matmul: expected .*got shapes \(2, 3\).*; \w+"),
    "str": (
        lambda: V + "text",
        TypeError,
        "add: expected a Tensor, an array, a number or a list, got str; convert",
    ),
    "str array": (
        lambda: V + np.array(["a"] * 3),
        TypeError,
        r"add: expected .*got (<U1|shapes).*; (convert|check)",
    ),
    "None": (
        lambda: V * None,
        TypeError,
        r"multiply: expected a Tensor, an array, .* got NoneType; convert",
    ),
    "None left": (lambda: tg.exp(None), TypeError, r"exp: expected a Tensor.* got NoneType; conv"),
    "dict": (lambda: V - {}, TypeError, r"subtract: expected a Tensor.* got dict; convert"),
    "complex": (lambda: V * 1j, TypeError, r"multiply: expected a Tensor.* got complex; convert"),
    "np complex": (
        lambda: V * np.complex64(1j),
        TypeError,
        r"multiply: expected float32.* got complex64; convert with \.astype",
    ),
    "set": (lambda: tg.stack([V, {1}]), TypeError, r"stack: expected a Tensor.* got set; convert"),
    "ragged": (
        lambda: tg.add(V, [[1.0, 2.0], [3.0]]),
        ValueError,
        r"add: expected rows of equal length, got ragged \[\[1\.0, 2\.0\], \[3\.0\]\]",
    ),
    "list of tensors": (
        lambda: tg.add(V, [V[0], V[1], V[2]]),
        TypeError,
        r"add: expected numbers, got Tensors in a list .*; use tg\.stack",
    ),
    # axes
    "axis": (
        lambda: M.sum(5),
        ValueError,
        r"sum: expected axis in -2\.\.1, got 5 for shapes \(2, 3\); count axes from 0",
    ),
    "axis below": (
        lambda: M.max(-3),
        ValueError,
        r"max: expected axis in -2\.\.1, got -3 for shapes \(2, 3\); count axes",
    ),
    "axis of 0-d": (
        lambda: tg.Tensor(1.0).sum(1),
        ValueError,
        r"sum: expected axis to be None \(a 0-d input has no axis\), got 1 for shapes \(\); count",
    ),
    "axis twice": (
        lambda: M.sum((0, 0)),
        ValueError,
        r"sum: expected .*duplicate value.* got shapes \(2, 3\); check .*axes",
    ),
    "transpose twice": (
        lambda: M.transpose(0, 0),
        ValueError,
        r"transpose: expected .*repeated axis.* got shapes \(2, 3\); check .*axes",
    ),
    "transpose too many": (
        lambda: M.transpose(0, 1, 2),
        ValueError,
        r"transpose: expected .*axes don't match.* got shapes \(2, 3\); check .*axes",
    ),
    # shapes
    "reshape": (
        lambda: M.reshape(4),
        ValueError,
        r"reshape: expected a new shape with as many elements, got \(4,\) for shapes \(2, 3\); at "
        r"most one size may be -1",
    ),
    "reshape twice -1": (
        lambda: M.reshape(-1, -1),
        ValueError,
        r"reshape: expected .*one unknown dimension.* got shapes \(2, 3\); check shapes",
    ),
    "squeeze": (
        lambda: M.squeeze(0),
        ValueError,
        r"squeeze: expected axes of size 1, got axis 0 of \(2, 3\); use reshape",
    ),
    "split": (
        lambda: tg.split(M, 2, axis=1),
        ValueError,
        r"split: expected .*equal division.* got shapes \(2, 3\); check shapes",
    ),
    "stack": (
        lambda: tg.stack([M, V]),
        ValueError,
        r"stack: expected .*same shape.* got shapes \(2, 3\) and \(3,\); check shapes",
    ),
    "stack nothing": (
        lambda: tg.stack([]),
        ValueError,
        "stack: expected .*at least one array.* got no array; check",
    ),
    "concatenate": (
        lambda: tg.concatenate([M, V]),
        ValueError,
        r"concatenate: expected .*same number of dimensions.* got shapes \(2, 3\) and \(3,\); "
        "check",
    ),
    "concatenate sizes": (
        lambda: tg.concatenate([M, leaf((2, 4))]),
        ValueError,
        r"concatenate: expected .*must match exactly.* got shapes \(2, 3\) and \(2, 4\); check",
    ),
    "moveaxis": (
        lambda: tg.moveaxis(M, (0, 1), 0),
        ValueError,
        r"moveaxis: expected a destination for each source, got \(0, 1\) to 0; give two lists",
    ),
    "pad count": (
        lambda: tg.pad(M, [1, 2, 3]),
        ValueError,
        r"pad: expected pad_width n, \(before, after\) or 2 such pairs, got \[1, 2, 3\]",
    ),
    "pad below 0": (
        lambda: tg.pad(M, -1),
        ValueError,
        r"pad: expected .*negative.* got .*; \w+",
    ),
    "pad mode": (
        lambda: tg.pad(M, 1, mode="edge"),
        ValueError,
        "pad: expected mode 'constant', got 'edge'; for others, index",
    ),
    # indices
    "index": (
        lambda: M[7],
        IndexError,
        r"getitem: expected indices within the axis \(index 7 is out of bounds for axis 0 with "
        r"size 2\), got shapes \(2, 3\); check the ids or the slice",
    ),
    "index array": (
        lambda: M[[0, 5]],
        IndexError,
        r"getitem: expected indices within the axis \(index 5 .* got shapes \(2, 3\); check",
    ),
    "too many indices": (
        lambda: V[0, 0],
        IndexError,
        r"getitem: expected .*too many indices.* got shapes \(3,\); check",
    ),
    "float index": (
        lambda: M[1.5],
        IndexError,
        r"getitem: expected .*only integers, slices.* got shapes \(2, 3\); check",
    ),
    "mask shape": (
        lambda: V[np.ones(2, bool)],
        IndexError,
        r"getitem: expected .*boolean index did not match.* got shapes \(3,\); check",
    ),
    "take": (
        lambda: tg.take(M, 9, axis=0),
        IndexError,
        r"take: expected indices within .*index 9 .* got shapes \(2, 3\); check the ids",
    ),
    "take float": (
        lambda: tg.take(M, [0.5]),
        TypeError,
        "take: expected integer indices, got float64",
    ),
    "take_along_axis": (
        lambda: tg.take_along_axis(M, [[9]], axis=1),
        IndexError,
        r"take_along_axis: expected indices within .*index 9 .* got shapes \(2, 3\); check the ids",
    ),
    "embedding high": (
        lambda: tg.embedding([0, 2], M),
        IndexError,
        r"embedding: expected ids in 0\.\.1, got 2; check the vocabulary",
    ),
    "embedding low": (
        lambda: tg.embedding([-1], M),
        IndexError,
        r"embedding: expected ids in 0\.\.1, got -1; check the vocabulary",
    ),
    "embedding float": (
        lambda: tg.embedding([0.5], M),
        TypeError,
        "embedding: expected integer indices, got float64",
    ),
    "topk": (lambda: tg.topk(V, 4), ValueError, r"topk: expected k in 0\.\.3, got 4"),
    # reductions of nothing
    "max of nothing": (
        lambda: EMPTY.max(),
        ValueError,
        r"max: expected .*zero-size.* got shapes \(0, 3\); check shapes",
    ),
    "argmax of nothing": (
        lambda: EMPTY.argmax(),
        ValueError,
        r"argmax: expected .*empty.* got shapes \(0, 3\); check shapes",
    ),
    "norm": (
        lambda: tg.norm(V, 0),
        ValueError,
        r"norm: expected ord None, 'fro', or a number but 0 and one axis, got 0 over 1 axes; \w+",
    ),
    "gelu": (
        lambda: tg.gelu(V, "other"),
        ValueError,
        "gelu: expected approximate 'none' or 'tanh', got 'other'",
    ),
    # products
    "linear": (
        lambda: tg.linear(M, leaf((3, 2))),
        ValueError,
        r"linear: expected x \(\.\.\., I\) and a weight \(O, I\), got \(2, 3\) and \(3, 2\); the "
        r"last axis of both is I",
    ),
    "linear bias": (
        lambda: tg.linear(M, leaf((4, 3)), V),
        ValueError,
        r"\w+: expected .*got .*\(2, 4\) and \(3,\); equal sizes|linear: expected .*bias.*\(3,\)",
    ),
    "tensordot": (
        lambda: tg.tensordot(M, M, 1),
        ValueError,
        r"tensordot: expected equal sizes .* got shapes \(2, 3\) and \(2, 3\).*; \w+",
    ),
    "einsum operands": (
        lambda: tg.einsum("ij,jk->ik", M),
        ValueError,
        "einsum: expected 2 operands for 'ij,jk->ik', got 1",
    ),
    "einsum axes": (
        lambda: tg.einsum("ijk->i", M),
        ValueError,
        r"einsum: expected an operand with the axes 'ijk', got shape \(2, 3\)",
    ),
    "einsum sizes": (
        lambda: tg.einsum("ij,jk->ik", M, M),
        ValueError,
        r"einsum: expected .*label 'j'.* got shapes \(2, 3\) and \(2, 3\); check shapes",
    ),
    "einsum unknown": (
        lambda: tg.einsum("ij->iz", M),
        ValueError,
        r"einsum: expected .*'z'.* got shapes \(2, 3\); check",
    ),
    # dtypes
    "astype": (
        lambda: M.astype("float16"),
        TypeError,
        "astype: expected float32, float64, an integer type or bool, got float16",
    ),
    "astype unknown": (
        lambda: M.astype("foo"),
        TypeError,
        "astype: expected float32, float64, an integer type or bool, got .?foo",
    ),
    # randomness
    "rng": (
        lambda: tg.randn(2, rng=0),
        TypeError,
        r"rng: expected a numpy\.random\.Generator, got int; make one with numpy\.random\.default_",
    ),
    "rng module": (
        lambda: tg.rand(2, rng=np.random),
        TypeError,
        "rng: expected .*got module; make",
    ),
    "rng state": (
        lambda: tg.set_rng_state("text"),
        ValueError,
        "set_rng_state: expected what get_rng_state returned, got a bad state",
    ),
    "rng state empty": (lambda: tg.set_rng_state({}), ValueError, "set_rng_state: expected .*got"),
    "rng state part": (
        lambda: tg.set_rng_state({"bit_generator": "PCG64"}),
        ValueError,
        "set_rng_state: expected .*got a bad state",
    ),
    "rng state other": (
        lambda: tg.set_rng_state({**STATE, "bit_generator": "MT19937"}),
        ValueError,
        "set_rng_state: expected .*got a bad state",
    ),
    "rng state range": (
        lambda: tg.set_rng_state({**STATE, "state": {"state": -1, "inc": 1}}),
        ValueError,
        "set_rng_state: expected .*got a bad state",
    ),
    # scan
    "scan xs": (
        lambda: scan((2, 3)),
        ValueError,
        r"scan: expected xs of shape \(T, B, n\), all with one T and B, got \[\(2, 3\)\]",
    ),
    "scan two xs": (
        lambda: tg.scan(step, (np.ones((4, 2, 3)), np.ones((4, 3, 3))), np.ones((2, 3))),
        ValueError,
        r"scan: expected xs .*one T and B, got \[\(4, 2, 3\), \(4, 3, 3\)\]",
    ),
    "scan no xs": (lambda: tg.scan(step, (), V), ValueError, r"scan: expected xs .* got \[\]"),
    "scan lengths shape": (
        lambda: scan(lengths=[1, 2, 3]),
        ValueError,
        r"scan: expected lengths as 2 integers, one per sequence, got int64 of shape \(3,\)",
    ),
    "scan lengths dtype": (
        lambda: scan(lengths=[1.0, 2.0]),
        ValueError,
        r"scan: expected lengths as 2 integers, one per sequence, got float64 of shape \(2,\); "
        r"convert with \.astype\(int\)",
    ),
    "scan lengths high": (
        lambda: scan(lengths=[1, 5]),
        ValueError,
        r"scan: expected lengths in 0\.\.T=4, got 5 at batch item 1",
    ),
    "scan lengths low": (
        lambda: scan(lengths=[-1, 2]),
        ValueError,
        r"scan: expected lengths in 0\.\.T=4, got -1 at batch item 0",
    ),
    "scan reset": (
        lambda: scan(reset=np.ones((4, 3), bool)),
        ValueError,
        r"scan: expected reset of shape \(4, 2\), got \(4, 3\)",
    ),
    "scan reset dtype": (
        lambda: scan(reset=np.full((4, 2), np.nan)),
        TypeError,
        r"scan: expected reset as bool, true where a sequence begins, got float64; convert with "
        r"\.astype\(bool\)",
    ),
    # gradients
    "grad outputs": (
        lambda: tg.grad("text", V),
        TypeError,
        "grad: expected .*Tensor.* got str",
    ),
    "grad of a number": (lambda: tg.grad(3, V), TypeError, "grad: expected .*Tensor.* got int"),
    "grad_outputs count": (
        lambda: tg.grad([V.sum(), V.sum()], V, [None]),
        ValueError,
        "grad: expected 2 grad_outputs, one per output, got 1",
    ),
    "grad_outputs shape": (
        lambda: tg.grad(V * 2.0, V, np.ones(2)),
        ValueError,
        r"grad: expected a gradient of the output's shape \(3,\), got \(2,\)",
    ),
    "backward shape": (
        lambda: (V * 2.0).backward(np.ones((3, 1))),
        ValueError,
        r"backward: expected a gradient of the output's shape \(3,\), got \(3, 1\)",
    ),
    "backward text": (
        lambda: (V * 2.0).backward("text"),
        TypeError,
        "backward: expected float32.* got <U4; convert",
    ),
    "opaque twice": (
        lambda: tg.grad(tg.grad(SQUARE(V).sum(), V, create_graph=True)[0].sum(), V),
        NotImplementedError,
        r"backward: expected a rule for the gradient of '<lambda>', got an opaque NumPy function, "
        r"which differentiates once; write @tg\.primitive",
    ),
    "opaque count": (
        lambda: tg.grad(SHORT(V, V * 2.0).sum(), V),
        ValueError,
        r"<lambda>: expected .*gradient.* per input \(2\), got 1",
    ),
    "fused count": (
        lambda: tg.grad(fused(lambda x, y: (x * y, y), lambda y, g: (g * y,))(V, V).sum(), V),
        ValueError,
        r"<lambda>: expected .*gradient.* per input \(2\), got 1",
    ),
    # primitives
    "rule for nothing": (
        lambda: bad_rules(y=lambda g: g),
        TypeError,
        r"primitive named: expected rules for parameters, of \['x', 'n'\], got 'y'",
    ),
    "rule that names nothing": (
        lambda: bad_rules(x=lambda g, z: g * z),
        TypeError,
        r"primitive named: expected rules that name g, out, shape or parameters, of "
        r"\['x', 'n'\], got 'z'",
    ),
    # tg.func
    "argnums": (
        lambda: tg.func.grad(tg.sum, 3)(V),
        ValueError,
        "func: expected argnums within the 1 arguments, got 3",
    ),
    "argnums below": (
        lambda: tg.func.grad(tg.sum, (0, -2))(V),
        ValueError,
        r"func: expected argnums within the 1 arguments, got \(0, -2\)",
    ),
    "integers": (
        lambda: tg.func.grad(lambda x: x * x)(2),
        TypeError,
        r"requires_grad: expected a floating-point tensor, got int64; convert with \.astype",
    ),
    "no Tensor": (
        lambda: tg.func.grad(lambda x: 1.0)(V),
        TypeError,
        "grad: expected a function that returns Tensors, got float",
    ),
    "two results": (
        lambda: tg.func.grad(lambda x: (x.sum(), x.sum()))(V),
        TypeError,
        r"grad: expected a function that returns one Tensor, got 2; use tg\.func\.vjp",
    ),
    "vector": (
        lambda: tg.func.grad(lambda x: x * x)(V),
        RuntimeError,
        r"grad: expected an output with one element, got shape \(3,\); reduce it",
    ),
    "jacobian of two": (
        lambda: tg.func.jacobian(lambda x: (x, x))(V),
        TypeError,
        r"jacobian: expected a function that returns one Tensor, got 2; use tg\.func\.vjp",
    ),
    "no aux": (
        lambda: tg.func.grad(tg.sum, has_aux=True)(V),
        TypeError,
        r"grad: expected a function that returns \(value, auxiliary result\), got Tensor; or leave",
    ),
    "tangents": (
        lambda: tg.func.jvp(tg.multiply, (V, V), (V,)),
        ValueError,
        r"jvp: expected one tangent for each of 2 values, of shapes \[\(3,\), \(3,\)\], "
        r"got \[\(3,\)\]; give zeros",
    ),
    "tangent shape": (
        lambda: tg.func.jvp(tg.exp, (V,), (1.0,)),
        ValueError,
        r"jvp: expected one tangent .*\[\(3,\)\], got \[\(\)\]; give zeros",
    ),
    "hvp tangent shape": (
        lambda: tg.func.hvp(tg.sum, (V,), (1.0,)),
        ValueError,
        r"hvp: expected one tangent .*\[\(3,\)\], got \[\(\)\]; give zeros",
    ),
    "cotangents": (
        lambda: tg.func.vjp(tg.exp, V)[1](V, V),
        ValueError,
        r"vjp: expected one cotangent for each of 1 values, .*got \[\(3,\), \(3,\)\]; give zeros",
    ),
    "no cotangent": (lambda: tg.func.vjp(tg.exp, V)[1](), ValueError, r"vjp: .* got \[\]; give"),
}


@pytest.mark.parametrize(("call", "kind", "message"), BAD.values(), ids=BAD)
def test_bad_call_reads_well(call, kind, message):
    with pytest.raises(kind, match=f"^({message})") as caught:
        call()
    error = caught.value
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None, "a second traceback is shown"
    assert not re.search(r"\bgot got\b|None;$|  |\n", str(error))


# Raised before any op runs: the same law, and the user need not know which op was inside
AXES = {
    "sum": lambda k: M.sum(k),
    "mean": lambda k: M.mean(k),
    "var": lambda k: M.var(k),
    "std": lambda k: M.std(k),
    "prod": lambda k: M.prod(k),
    "max": lambda k: M.max(k),
    "argmax": lambda k: M.argmax(k),
    "cumsum": lambda k: M.cumsum(k),
    "norm": lambda k: tg.norm(M, axis=k),
    "logsumexp": lambda k: tg.logsumexp(M, axis=k),
    "softmax": lambda k: tg.softmax(M, axis=k),
    "log_softmax": lambda k: tg.log_softmax(M, axis=k),
    "sort": lambda k: tg.sort(M, axis=k),
    "argsort": lambda k: tg.argsort(M, axis=k),
    "topk": lambda k: tg.topk(M, 1, axis=k),
    "squeeze": lambda k: tg.squeeze(M, k),
    "expand_dims": lambda k: tg.expand_dims(M, k),
    "swapaxes": lambda k: tg.swapaxes(M, 0, k),
    "moveaxis": lambda k: tg.moveaxis(M, k, 0),
    "flip": lambda k: tg.flip(M, k),
    "roll": lambda k: tg.roll(M, 1, k),
    "stack": lambda k: tg.stack([M, M], k),
    "unstack": lambda k: tg.unstack(M, k),
    "split": lambda k: tg.split(M, 1, k),
    "concatenate": lambda k: tg.concatenate([M, M], k),
    "repeat": lambda k: tg.repeat(M, 2, k),
    "take": lambda k: tg.take(M, [0], k),
    "take_along_axis": lambda k: tg.take_along_axis(M, [[0]], k),
}


TWICE = {
    "sum": lambda k: M.sum(k),
    "prod": lambda k: M.prod(k),
    "max": lambda k: M.max(k),
    "norm": lambda k: tg.norm(M, axis=k),
    "logsumexp": lambda k: tg.logsumexp(M, axis=k),
    "squeeze": lambda k: tg.squeeze(leaf((1, 1)), k),
    "expand_dims": lambda k: tg.expand_dims(M, k),
    "moveaxis": lambda k: tg.moveaxis(M, k, (0, 1)),
    "flip": lambda k: tg.flip(M, k),
    "transpose": lambda k: tg.transpose(M, k),
}


@pytest.mark.parametrize("axes", [(0, 0), (1, -1)])
@pytest.mark.parametrize("call", TWICE.values(), ids=TWICE)
def test_an_axis_named_twice_reads_well(call, axes):
    message = r"^\w+: expected .*(each once|duplicate|repeated|did not|don't).*got .*; \w+"
    if call is TWICE["expand_dims"]:
        axes = (axes[0], axes[0])  # there -1 is the third of three
    with pytest.raises(ValueError, match=message) as caught:
        call(axes)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("axis", [7, -8])
@pytest.mark.parametrize("call", AXES.values(), ids=AXES)
def test_bad_axis_reads_well(call, axis):
    message = (
        rf"^\w+: expected ax[ie]s in -\d\.\.\d, [^:]*got [^:]*{axis}\b[^:]*; count axes from 0"
    )
    with pytest.raises((ValueError, IndexError), match=message) as caught:
        call(axis)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_bad_state_changes_nothing():
    before = tg.get_rng_state()
    for bad in ({**before, "state": {"state": 1, "inc": -1}}, {"bit_generator": "PCG64"}):
        with pytest.raises(ValueError, match="set_rng_state: expected"):
            tg.set_rng_state(bad)
    assert tg.get_rng_state() == before


def test_a_users_primitive_keeps_its_own_exception():
    class Refused(Exception):
        pass

    reason = KeyError("reason")

    @tg.primitive(x=lambda g: g)
    def picky(x: tg.Array) -> tg.Array:
        raise Refused("not today") from reason

    with pytest.raises(Refused, match=r"^not today") as caught:
        picky(M)
    assert caught.value.__notes__ == ["in primitive 'picky', on shapes (2, 3)"]
    assert caught.value.__cause__ is reason

    @tg.primitive(x=lambda g: g)
    def shaped(x: tg.Array) -> tg.Array:
        return x.reshape(7)

    with pytest.raises(ValueError, match="cannot reshape array of size 6") as caught:
        shaped(M)
    assert caught.value.__notes__ == ["in primitive 'shaped', on shapes (2, 3)"]
