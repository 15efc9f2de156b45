"""Every op that torch has: its values and its gradients are torch's."""

import math

import numpy as np
import pytest

import tinygrad_rnn as tg

torch = pytest.importorskip("torch")

from tests.parity.compare import agree, array, gradients, ours, several, theirs  # noqa: E402

pytestmark = pytest.mark.parity

F = torch.nn.functional
RNG = np.random.default_rng(0)
EDGES = np.array([-800.0, -40.0, -9.0, -1.5, -1e-8, -0.0, 0.0, 1e-8, 0.3, 1.0, 9.0, 40.0, 800.0])


def normal(*shape):
    return RNG.standard_normal(shape)


def positive(*shape):
    return RNG.uniform(0.2, 3.0, shape)


def spread(*shape):
    """Distinct values."""
    return RNG.permutation(np.linspace(-2.0, 2.1, math.prod(shape))).reshape(shape)


# name -> (ours, torch's, inputs...)
POINTWISE = {
    "negative": (tg.negative, torch.neg, normal(2, 3)),
    "abs": (tg.abs, torch.abs, normal(2, 3)),
    "sign": (tg.sign, torch.sign, normal(2, 3)),
    "exp": (tg.exp, torch.exp, normal(2, 3)),
    "expm1": (tg.expm1, torch.expm1, normal(2, 3)),
    "log": (tg.log, torch.log, positive(2, 3)),
    "log1p": (tg.log1p, torch.log1p, positive(2, 3)),
    "sqrt": (tg.sqrt, torch.sqrt, positive(2, 3)),
    "rsqrt": (tg.rsqrt, torch.rsqrt, positive(2, 3)),
    "square": (tg.square, torch.square, normal(2, 3)),
    "sin": (tg.sin, torch.sin, normal(2, 3)),
    "cos": (tg.cos, torch.cos, normal(2, 3)),
    "tanh": (tg.tanh, torch.tanh, normal(2, 3)),
    "tanh edges": (tg.tanh, torch.tanh, EDGES),
    "erf": (tg.erf, torch.erf, EDGES),
    "erfc": (tg.erfc, torch.erfc, normal(2, 3)),
    "sigmoid": (tg.sigmoid, torch.sigmoid, normal(2, 3)),
    "sigmoid edges": (tg.sigmoid, torch.sigmoid, EDGES),
    "softplus": (tg.softplus, lambda x: F.softplus(x, threshold=1e9), 3 * normal(2, 3)),
    "log_sigmoid": (tg.log_sigmoid, F.logsigmoid, EDGES),
    "relu": (tg.relu, torch.relu, EDGES),
    "leaky_relu": (tg.leaky_relu, F.leaky_relu, EDGES),
    "leaky_relu slope": (
        lambda x: tg.leaky_relu(x, 0.3),
        lambda x: F.leaky_relu(x, 0.3),
        EDGES,
    ),
    "elu": (tg.elu, F.elu, EDGES),
    "elu alpha": (lambda x: tg.elu(x, 0.3), lambda x: F.elu(x, 0.3), EDGES),
    "silu": (tg.silu, F.silu, normal(2, 3)),
    "silu edges": (tg.silu, F.silu, EDGES[1:-1]),
    "gelu": (tg.gelu, F.gelu, 2 * normal(4, 5)),
    "gelu edges": (tg.gelu, F.gelu, EDGES[2:]),
    "gelu tanh": (
        lambda x: tg.gelu(x, approximate="tanh"),
        lambda x: F.gelu(x, approximate="tanh"),
        2 * normal(4, 5),
    ),
    "astype": (lambda x: tg.astype(x, "float32"), lambda x: x.float(), normal(2, 3)),
    "add": (tg.add, torch.add, normal(2, 3), normal(3)),
    "subtract": (tg.subtract, torch.sub, normal(2, 3), normal(2, 1)),
    "multiply": (tg.multiply, torch.mul, normal(4, 1, 3), normal(2, 1)),
    "divide": (tg.divide, torch.div, normal(2, 3), positive(3)),
    "maximum": (tg.maximum, torch.maximum, normal(2, 3), normal(3)),
    "minimum": (tg.minimum, torch.minimum, normal(2, 3), normal(2, 1)),
    "power": (tg.power, torch.pow, positive(2, 3), normal(3)),
    "power of base 0": (tg.power, torch.pow, np.zeros(3), np.array([1.0, 2.0, 3.0])),
    "square root by power": (lambda x: x**0.5, lambda x: x**0.5, positive(3)),
    "cube": (lambda x: x**3, lambda x: x**3, EDGES[1:-1]),
    "power 0": (lambda x: x**0 + x, lambda x: x**0 + x, EDGES),
    "inverse by power": (lambda x: x**-1, lambda x: x**-1, positive(3)),
    "number to a power": (lambda x: 2.0**x, lambda x: 2.0**x, normal(3)),
    "clip": (lambda x: tg.clip(x, -0.5, 0.5), lambda x: torch.clip(x, -0.5, 0.5), normal(5, 5)),
    "clip below": (lambda x: tg.clip(x, -0.5), lambda x: torch.clip(x, -0.5), normal(5, 5)),
    "clip above": (
        lambda x: tg.clip(x, None, 0.5),
        lambda x: torch.clip(x, max=0.5),
        normal(5, 5),
    ),
    "where": (
        lambda x, y: tg.where(x > y, x * 2, y),
        lambda x, y: torch.where(x > y, x * 2, y),
        normal(2, 3),
        normal(3),
    ),
    "comparisons": (
        lambda x, y: (x == y, x != y, x < y, x <= y, x > y, x >= y),
        lambda x, y: (x == y, x != y, x < y, x <= y, x > y, x >= y),
        np.array([1.0, 2.0, 3.0]),
        np.array([1.0, 3.0, 2.0]),
    ),
}

# At ties, where the gradient is a choice: the same as torch's
TIES = {
    "abs at 0": (tg.abs, torch.abs, np.zeros(3)),
    "relu at 0": (tg.relu, torch.relu, np.array([0.0, -0.0, 1.0])),
    "leaky_relu at 0": (tg.leaky_relu, F.leaky_relu, np.zeros(2)),
    "elu at 0": (lambda x: tg.elu(x, 0.5), lambda x: F.elu(x, 0.5), np.zeros(2)),
    "maximum": (tg.maximum, torch.maximum, np.array([1.0, 2.0]), np.array([1.0, 3.0])),
    "minimum": (tg.minimum, torch.minimum, np.array([1.0, 2.0]), np.array([1.0, 3.0])),
    "clip at its bounds": (
        lambda x: tg.clip(x, -1.0, 2.0),
        lambda x: torch.clip(x, -1.0, 2.0),
        np.array([-1.0, 2.0, 0.0, -3.0, 5.0]),
    ),
    "max of all": (tg.max, torch.amax, np.array([[2.0, 1.0], [2.0, 2.0]])),
    "max along": (
        lambda x: tg.max(x, axis=1),
        lambda x: torch.amax(x, 1),
        np.array([[2.0, 2.0, 1.0], [0.0, 0.0, 0.0]]),
    ),
    "min along": (
        lambda x: tg.min(x, axis=0, keepdims=True),
        lambda x: torch.amin(x, 0, keepdim=True),
        np.array([[2.0, 2.0, 1.0], [0.0, 2.0, 1.0]]),
    ),
    "norm at 0": (tg.norm, torch.linalg.vector_norm, np.zeros(3)),
    "norm of ord inf": (
        lambda x: tg.norm(x, ord=math.inf),
        lambda x: torch.linalg.vector_norm(x, math.inf),
        np.array([2.0, -2.0, 1.0]),
    ),
    "norm of ord 1 at 0": (
        lambda x: tg.norm(x, ord=1),
        lambda x: torch.linalg.vector_norm(x, 1),
        np.array([0.0, -2.0, 1.0]),
    ),
    "sort": (
        tg.sort,
        lambda x: torch.sort(x, stable=True)[0],
        np.array([2.0, 1.0, 2.0, 1.0, 1.0]),
    ),
    "power 2 at 0": (lambda x: x**2, lambda x: x**2, np.zeros(2)),
    "power 1 at 0": (lambda x: x**1, lambda x: x**1, np.zeros(2)),
}

A, B = spread(2, 3, 4), spread(4, 3)
REDUCTIONS = {
    "sum": (tg.sum, torch.sum, A),
    "sum along": (lambda x: x.sum(axis=(0, -1)), lambda x: x.sum((0, -1)), A),
    "mean": (tg.mean, torch.mean, A),
    "mean keepdims": (
        lambda x: tg.mean(x, axis=1, keepdims=True),
        lambda x: torch.mean(x, 1, keepdim=True),
        A,
    ),
    "var": (lambda x: tg.var(x, ddof=1), torch.var, A),
    "var along": (lambda x: tg.var(x, 1), lambda x: torch.var(x, 1, correction=0), A),
    "std": (lambda x: tg.std(x, -1, ddof=1), lambda x: torch.std(x, -1), A),
    "prod": (lambda x: tg.prod(x, 1), lambda x: torch.prod(x, 1), A),
    "prod with zeros": (tg.prod, torch.prod, np.array([2.0, 0.0, 3.0])),
    "prod with two zeros": (tg.prod, torch.prod, np.array([2.0, 0.0, 0.0])),
    "max": (lambda x: tg.max(x, axis=(0, 2)), lambda x: torch.amax(x, (0, 2)), A),
    "min": (lambda x: tg.min(x, axis=-1), lambda x: torch.amin(x, -1), A),
    "argmax": (lambda x: tg.argmax(x, 1), lambda x: torch.argmax(x, 1), A),
    "argmin": (tg.argmin, torch.argmin, A),
    "cumsum": (lambda x: tg.cumsum(x, 1), lambda x: torch.cumsum(x, 1), A),
    "logsumexp": (lambda x: tg.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1), A),
    "logsumexp of huge": (
        lambda x: tg.logsumexp(x, -1),
        lambda x: torch.logsumexp(x, -1),
        1e4 * B,
    ),
    "softmax": (tg.softmax, lambda x: torch.softmax(x, -1), A),
    "softmax along 0": (lambda x: tg.softmax(x, 0), lambda x: torch.softmax(x, 0), 50 * A),
    "log_softmax": (tg.log_softmax, lambda x: torch.log_softmax(x, -1), 100 * A),
    "norm": (
        lambda x: tg.norm(x, axis=1),
        lambda x: torch.linalg.vector_norm(x, dim=1),
        A,
    ),
    "norm of ord 3": (
        lambda x: tg.norm(x, 3, 1),
        lambda x: torch.linalg.vector_norm(x, 3, 1),
        A,
    ),
    "norm of ord -inf": (
        lambda x: tg.norm(x, -math.inf, -1),
        lambda x: torch.linalg.vector_norm(x, -math.inf, -1),
        A,
    ),
}

SHAPES = {
    "reshape": (lambda x: tg.reshape(x, (4, -1)), lambda x: x.reshape(4, -1), A),
    "transpose": (
        lambda x: tg.transpose(x, (2, 0, 1)),
        lambda x: x.permute(2, 0, 1),
        A,
    ),
    "T": (lambda x: x.T, lambda x: x.T, B),
    "mT": (lambda x: x.mT, lambda x: x.mT, A),
    "swapaxes": (lambda x: tg.swapaxes(x, 0, -1), lambda x: x.swapaxes(0, -1), A),
    "moveaxis": (
        lambda x: tg.moveaxis(x, (0, 1), (2, 0)),
        lambda x: torch.moveaxis(x, (0, 1), (2, 0)),
        A,
    ),
    "broadcast_to": (
        lambda x: tg.broadcast_to(x, (5, 4, 3)),
        lambda x: torch.broadcast_to(x, (5, 4, 3)),
        B,
    ),
    "squeeze": (lambda x: tg.squeeze(x, 1), lambda x: x.squeeze(1), normal(2, 1, 3)),
    "expand_dims": (lambda x: tg.expand_dims(x, 1), lambda x: x.unsqueeze(1), B),
    "ravel": (tg.ravel, torch.ravel, A),
    "flip": (lambda x: tg.flip(x, (0, 2)), lambda x: torch.flip(x, (0, 2)), A),
    "roll": (lambda x: tg.roll(x, 2, 1), lambda x: torch.roll(x, 2, 1), A),
    "pad": (
        lambda x: tg.pad(x, ((1, 2), (0, 3)), constant_values=7.0),
        lambda x: F.pad(x, (0, 3, 1, 2), value=7.0),
        B,
    ),
    "concatenate": (
        lambda x, y: tg.concatenate([x, y, x], 1),
        lambda x, y: torch.cat([x, y, x], 1),
        normal(2, 3),
        normal(2, 1),
    ),
    "stack": (
        lambda x, y: tg.stack([x, y], -1),
        lambda x, y: torch.stack([x, y], -1),
        normal(2, 3),
        normal(2, 3),
    ),
    "unstack": (lambda x: tg.unstack(x, 1), lambda x: x.unbind(1), A),
    "split": (lambda x: tg.split(x, 2, -1), lambda x: torch.tensor_split(x, 2, -1), A),
    "split at": (
        lambda x: tg.split(x, [1, 3], 2),
        lambda x: torch.tensor_split(x, [1, 3], 2),
        A,
    ),
    "tile": (lambda x: tg.tile(x, (2, 1, 3)), lambda x: torch.tile(x, (2, 1, 3)), B),
    "repeat": (
        lambda x: tg.repeat(x, 3, 1),
        lambda x: torch.repeat_interleave(x, 3, 1),
        B,
    ),
    "repeat each": (
        lambda x: tg.repeat(x, [0, 1, 2, 5], 0),
        lambda x: torch.repeat_interleave(x, torch.tensor([0, 1, 2, 5]), 0),
        B,
    ),
}

IDS = np.array([[0, 3, 3], [1, 0, 3]])
ALONG = np.array([[0, 2, 2], [1, 0, 0], [2, 1, 0], [0, 0, 0]])
MASK = B > 0
INDEXING = {
    "slice": (lambda x: x[1:, ::2], lambda x: x[1:, ::2], B),
    "integer": (lambda x: x[-1], lambda x: x[-1], A),
    "new axis": (lambda x: x[..., None, 0], lambda x: x[..., None, 0], A),
    "repeated rows": (lambda x: x[IDS], lambda x: x[torch.tensor(IDS)], B),
    "pairs": (
        lambda x: x[IDS, [0, 1, 1]],
        lambda x: x[torch.tensor(IDS), torch.tensor([0, 1, 1])],
        B,
    ),
    "mask": (lambda x: x[MASK], lambda x: x[torch.tensor(MASK)], B),
    "take": (
        lambda x: tg.take(x, [2, 0, 2], 1),
        lambda x: torch.index_select(x, 1, torch.tensor([2, 0, 2])),
        A,
    ),
    "take of the flattened": (
        lambda x: tg.take(x, IDS),
        lambda x: torch.take(x, torch.tensor(IDS)),
        A,
    ),
    "take_along_axis": (
        lambda x: tg.take_along_axis(x, ALONG, 1),
        lambda x: torch.gather(x, 1, torch.tensor(ALONG)),
        B,
    ),
    "embedding": (
        lambda w: tg.embedding(IDS, w),
        lambda w: F.embedding(torch.tensor(IDS), w),
        B,
    ),
    "sort": (lambda x: tg.sort(x, 1), lambda x: torch.sort(x, 1)[0], A),
    "argsort": (
        lambda x: tg.argsort(x, 0),
        lambda x: torch.argsort(x, dim=0, stable=True),
        A,
    ),
    "topk": (lambda x: tg.topk(x, 2), lambda x: torch.topk(x, 2), A),
    "topk smallest": (
        lambda x: tg.topk(x, 1, 0, largest=False),
        lambda x: torch.topk(x, 1, 0, largest=False),
        A,
    ),
    "tril": (lambda x: tg.tril(x, -1), lambda x: torch.tril(x, -1), A),
    "triu": (lambda x: tg.triu(x, 1), lambda x: torch.triu(x, 1), B),
}

PRODUCTS = {
    "matmul": (tg.matmul, torch.matmul, normal(2, 3), normal(3, 4)),
    "matmul of vectors": (tg.matmul, torch.matmul, normal(3), normal(3)),
    "matrix and vector": (tg.matmul, torch.matmul, normal(5, 2, 3), normal(3)),
    "vector and matrices": (tg.matmul, torch.matmul, normal(3), normal(5, 3, 2)),
    "matmul of a batch": (tg.matmul, torch.matmul, normal(5, 2, 3), normal(3, 4)),
    "matmul of two batches": (tg.matmul, torch.matmul, normal(5, 1, 2, 3), normal(4, 3, 2)),
    "linear": (tg.linear, F.linear, normal(2, 5, 3), normal(4, 3), normal(4)),
    "linear without bias": (tg.linear, F.linear, normal(3), normal(4, 3)),
    "outer": (tg.outer, torch.outer, normal(3), normal(4)),
    "dot": (tg.dot, torch.dot, normal(3), normal(3)),
    "tensordot": (
        lambda x, y: tg.tensordot(x, y, ([0, 2], [1, 0])),
        lambda x, y: torch.tensordot(x, y, ([0, 2], [1, 0])),
        normal(2, 3, 4),
        normal(4, 2, 5),
    ),
    **{
        f"einsum {s}": (
            lambda *v, s=s: tg.einsum(s, *v),
            lambda *v, s=s: torch.einsum(s, *v),
            *(normal(*sizes) for sizes in shapes),
        )
        for s, shapes in {
            "ij,jk->ik": [(2, 3), (3, 4)],
            "bij,bjk": [(2, 3, 4), (2, 4, 3)],
            "ii->i": [(3, 3)],
            "ii": [(3, 3)],
            "...i,oi->...o": [(2, 5, 3), (4, 3)],
            "i,j,k->kij": [(2,), (3,), (4,)],
            "ij->": [(2, 3)],
            "bhqd,bhkd->bhqk": [(2, 2, 3, 4), (2, 2, 5, 4)],
        }.items()
    },
}

TABLE = {
    f"{group}: {name}": row
    for group, rows in {
        "pointwise": POINTWISE,
        "ties": TIES,
        "reductions": REDUCTIONS,
        "shapes": SHAPES,
        "indexing": INDEXING,
        "products": PRODUCTS,
    }.items()
    for name, row in rows.items()
}


@pytest.mark.parametrize("name", TABLE)
def test_op_has_torchs_values_and_gradients(name):
    fn, reference, *arrays = TABLE[name]
    agree(fn, reference, arrays)


@pytest.mark.parametrize("name", [n for n in TABLE if "edges" not in n and "huge" not in n])
def test_op_has_torchs_values_and_gradients_in_float32(name):
    fn, reference, *arrays = TABLE[name]
    agree(fn, reference, [np.asarray(a, np.float32) for a in arrays])


NOT_TWICE = ("pointwise: power of base 0",)  # torch's second derivative is NaN there
SECOND = [
    n
    for n in TABLE
    if n.split(":")[0] in ("pointwise", "products", "reductions")
    and n not in (*NOT_TWICE, "pointwise: sign", "pointwise: comparisons")
    and "arg" not in n
]


def twice(outputs, inputs, places):
    """The gradients of the sum of the gradients, with uneven cotangents of the outputs."""
    outputs = [outputs[k] for k in places]
    gs = [np.cos(np.arange(float(array(v).size)) + k) for k, v in enumerate(outputs)]
    gs = [
        g.reshape(array(v).shape).astype(array(v).dtype) for g, v in zip(gs, outputs, strict=True)
    ]
    slope, make = tg.grad, tg.Tensor
    if isinstance(inputs[0], torch.Tensor):
        slope, make = torch.autograd.grad, torch.from_numpy
    ds = slope(outputs, inputs, list(map(make, gs)), create_graph=True, allow_unused=True)
    live = [d for d in ds if d is not None and d.requires_grad]
    if not live:
        return [np.zeros_like(array(x)) for x in inputs]
    return gradients(live, inputs, [np.ones_like(array(d)) for d in live])


@pytest.mark.parametrize("name", SECOND)
def test_op_has_torchs_second_derivatives(name):
    fn, reference, *arrays = TABLE[name]
    arrays = [a[a != 0] if a is EDGES else a for a in arrays]  # kinks
    xs, ts = [ours(a) for a in arrays], [theirs(a) for a in arrays]
    found, expected = several(fn(*xs)), several(reference(*ts))
    places = [k for k, v in enumerate(expected) if v.requires_grad]
    for d, e in zip(twice(found, xs, places), twice(expected, ts, places), strict=True):
        np.testing.assert_allclose(d, e, rtol=1e-9, atol=1e-11)


def test_every_op_is_compared():
    ops = {
        n
        for n in tg.__all__
        if ".autograd.ops." in (getattr(getattr(tg, n), "__module__", None) or "")
    }
    compared = {name.split(": ")[1].split()[0] for name in TABLE}
    comparisons = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
    assert len(ops) > 80 and ops - compared - comparisons == set()
