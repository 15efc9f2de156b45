"""Elementary functions and their derivatives, in units of the last place.

Arguments are special values, bit patterns drawn uniformly, and numbers where the functions bend.
The reference is NumPy in a wider dtype; what it calls wrong in float64 is compared with `decimal`.
Results below the normal numbers must not be flushed to zero: a product with one may be off by more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from benchmarks.reliable.outcome import Outcome
from tests.kernels.test_elementary import (
    UNARY,
    WIDTHS,
    _normal_cdf,
    _sigmoid,
    programs,
    run,
    samples,
    units,
    wide,
)
from tests.ops.test_accuracy import EXACT, TWO, erfc, ulps_off

COUNT, CLOSELY = 20_000, 40  # arguments a round, and of those compared with `decimal`
ULPS, STEPS = 4, 16  # of normal results, and of those below
GELU_TAIL = {"float32": -12.9, "float64": -37.5}  # below, Φ(x) is no normal number, xΦ(x) may be
REFERENCE = {
    **UNARY,
    "gelu": lambda x: np.maximum(x, -1e4) * _normal_cdf(np.maximum(x, -1e4)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
}
DECIMAL = {name: exact for name, (exact, _, _) in EXACT.items()}
DECIMAL["normal_cdf"] = lambda x: erfc(-x / TWO.sqrt()) / 2


def wrong_ones(name: str, x: np.ndarray, got: np.ndarray, want: np.ndarray) -> tuple[Any, float]:
    """Which results are wrong, and the worst error of a normal one."""
    kind = np.finfo(x.dtype)
    apart = units(got, want)
    with np.errstate(invalid="ignore"):
        normal = np.abs(want) >= kind.tiny
        regular = np.isfinite(want) & (want != 0)
    fine = apart <= np.where(regular, np.where(normal, ULPS, STEPS), 0)
    for k in np.flatnonzero(~fine & (np.abs(apart) < 1e3)):
        if name in DECIMAL and x.dtype == np.float64 and np.isfinite(want[k]):
            apart[k] = ulps_off(got[k : k + 1], x[k : k + 1], DECIMAL[name])[0]
            fine[k] = apart[k] <= ULPS
    return ~fine, float(apart[normal].max(initial=0.0))


def judged(
    what: str, name: str, x: np.ndarray, got: np.ndarray, want: np.ndarray
) -> Iterator[Outcome]:
    bad, worst = wrong_ones(name, x, got, want)
    found = Outcome(what, worst=worst)
    shown = (f"{what} of {x[k]!r}: {got[k]!r}, not {want[k]!r}" for k in np.flatnonzero(bad))
    found.many(x.size, list(shown))
    yield found


def closely(x: np.ndarray, rng: np.random.Generator) -> Iterator[Outcome]:
    """float64's error functions, whose reference above is the one they call, against `decimal`."""
    for name in ("erf", "erfc", "gelu"):
        exact, low, high = EXACT[name]
        some = rng.choice(x[(low < x) & (x < high) & (np.abs(x) > 1e-8)], CLOSELY)
        off = ulps_off(of_tensors(name)(some), some, exact)
        found = Outcome(f"{name} {x.dtype}, against decimal", worst=float(off.max()))
        found.many(some.size, [f"{name} of {v!r}" for v in some[~(off <= ULPS)]])
        yield found


def of_tensors(name: str) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: getattr(tg, name)(tg.Tensor(x)).numpy()


def slopes(name: str, x: np.ndarray) -> np.ndarray:
    t = tg.Tensor(x, requires_grad=True)
    found: np.ndarray = tg.grad(getattr(tg, name)(t).sum(), t)[0].numpy()
    return found


def derivatives(x: np.ndarray, label: str) -> Iterator[Outcome]:
    """From the output, 4 eps are allowed; from the input, 4 units in the last place."""
    w = wide(x)
    for name, sign in (("softplus", 1), ("log_sigmoid", -1)):
        yield from judged(f"{name}' {label}", "sigmoid'", x, slopes(name, x), _sigmoid(sign * w))
    for name in ("tanh", "sigmoid"):
        e = np.exp(-np.abs(w) * (2 if name == "tanh" else 1))
        want = (4 if name == "tanh" else 1) * e / (1 + e) ** 2
        off = np.abs(slopes(name, x) - want) / np.finfo(x.dtype).eps
        found = Outcome(f"{name}' {label}, in eps", worst=float(off.max()))
        found.many(x.size, [f"{name}' of {v!r}" for v in x[~(off <= ULPS)]])
        yield found


def round(rng: np.random.Generator) -> Iterator[Outcome]:
    """Every function of one dtype, by NumPy's way and by that of the kernels."""
    dtype, width = rng.choice([np.float32, np.float64]), int(rng.choice(WIDTHS))
    label = np.dtype(dtype).name
    x = samples(dtype, COUNT, int(rng.integers(2**32)))
    before = os.environ.get("TINYGRAD_RNN_VECTOR")
    os.environ["TINYGRAD_RNN_VECTOR"] = str(width)
    try:
        lanes = programs(np.dtype(dtype), width)
    finally:
        os.environ.pop("TINYGRAD_RNN_VECTOR")
        if before is not None:
            os.environ["TINYGRAD_RNN_VECTOR"] = before
    with np.errstate(all="ignore"):
        for name, reference in REFERENCE.items():
            want = np.asarray(reference(wide(x)))
            if name in lanes:
                yield from judged(f"{name} {label}, kernels", name, x, run(name, width, x), want)
            if hasattr(tg, name) and (dtype == np.float32 or name not in ("erf", "erfc")):
                got, tail = of_tensors(name)(x), (name == "gelu") & (x < GELU_TAIL[label])
                yield from judged(f"{name} {label}", name, x[~tail], got[~tail], want[~tail])
                if tail.any():
                    what = f"{name} {label}, x < {GELU_TAIL[label]}"
                    yield from judged(what, name, x[tail], got[tail], want[tail])
        yield from derivatives(x, label)
    if dtype == np.float64:
        yield from closely(x, rng)
