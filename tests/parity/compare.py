"""What the comparisons with torch share: arrays into both, gradients of both, one tolerance."""

import numpy as np
import pytest

import tinygrad_rnn as tg

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # the tensors are small

F64 = {"rtol": 1e-10, "atol": 1e-12}
F32 = {"rtol": 1e-4, "atol": 1e-5}


def several(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


def ours(a):
    return tg.Tensor(a, requires_grad=np.asarray(a).dtype.kind == "f")


def theirs(a):
    return torch.tensor(a, requires_grad=np.asarray(a).dtype.kind == "f")


def array(v):
    return v.detach().numpy(force=True) if isinstance(v, torch.Tensor) else np.asarray(v)


def same(found, expected, **tolerance):
    """Ours against torch's: shapes, dtypes and values."""
    found, expected = array(found), array(expected)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    if not tolerance:
        tolerance = F32 if found.dtype == np.float32 else F64
    np.testing.assert_allclose(found, expected, **tolerance)


def weights(rng, outputs):
    """A cotangent for each real output."""
    return [rng.standard_normal(v.shape).astype(array(v).dtype) for v in outputs]


def gradients(outputs, inputs, gs):
    """The gradients of the outputs along gs; zeros where there is none."""
    if isinstance(inputs[0], torch.Tensor):
        gs = [torch.from_numpy(np.asarray(g)) for g in gs]
        found = torch.autograd.grad(outputs, inputs, gs, allow_unused=True)
    else:
        found = tg.grad(outputs, inputs, gs, allow_unused=True)
    pairs = zip(found, inputs, strict=True)
    return [np.zeros_like(array(x)) if d is None else array(d) for d, x in pairs]


def agree(fn, reference, arrays, seed=0, **tolerance):
    """Values and gradients of two functions, ours and torch's, at the same arrays."""
    xs, ts = [ours(a) for a in arrays], [theirs(a) for a in arrays]
    found, expected = several(fn(*xs)), several(reference(*ts))
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        same(f, e, **tolerance)
    pairs = [(f, e) for f, e in zip(found, expected, strict=True) if e.requires_grad]
    assert all(f.requires_grad for f, _ in pairs)
    xs, ts = ([v for v in vs if v.requires_grad] for vs in (xs, ts))
    if not pairs or not xs:
        return
    found, expected = zip(*pairs, strict=True)
    gs = weights(np.random.default_rng(seed), found)
    ds, es = gradients(found, xs, gs), gradients(expected, ts, gs)
    for d, e in zip(ds, es, strict=True):
        same(d, e, **tolerance)
