"""`gradcheck`: a gradient against differences, judged by their own estimated error."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Array, switched
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.testing import single
from tinygrad_rnn.testing.check import Check, Options
from tinygrad_rnn.testing.point import Point, signed
from tinygrad_rnn.testing.report import GradientError, Report
from tinygrad_rnn.testing.subjects import Pair, Subject, TensorFunction

MODES = ("vjp", "jvp")
KINKS = ("subgradient", "reject", "fail")
Fn = Callable[..., Any] | tuple[Callable[..., Any], Callable[..., Any]]


def gradcheck(
    fn: Fn,
    inputs: Any,
    *,
    order: int = 1,
    modes: Sequence[str] = MODES,
    kinks: str = "subgradient",
    rng: np.random.Generator | int | None = None,
    raise_exception: bool = True,
    names: Sequence[str] | None = None,
    resolution: float | None = None,
) -> Report:
    """Check the derivatives of `fn` at `inputs` against differences.

    One derivative along a random direction, with a random cotangent, is compared with Ridders'
    extrapolated differences. What it may be off is what these estimate their own error to be, from
    truncation and from the noise of `fn`; there is no tolerance to choose. Only where it disagrees
    are single elements looked at. Also checked: that `fn` is deterministic and leaves its inputs
    alone; that gradients have the dtype and shape of their inputs, are linear in the cotangent
    (zero for zero) and do not depend on strides; that an input given twice, or computed from
    another, gets what it should. See docs/testing.md.

    Args:
        fn: a function of Tensors that returns a Tensor or several, or a pair (f, vjp) of NumPy
            functions `f(*arrays) -> array` and `vjp(*arrays, cotangent) -> array or tuple`.
        inputs: an array or Tensor, or a sequence of them, one per argument. float64 is checked in
            float64; float32 in float64, if `fn` takes it, and in float32.
        order: of the derivatives to check; 2 also checks the gradient of the gradient.
        modes: "vjp" (backward), "jvp" (forward), or both; a pair has its vjp only.
        kinks: where the slopes from both sides differ, "subgradient" accepts values between them,
            "reject" makes hypothesis draw another example, "fail" fails.
        rng: a generator or seed for the directions; by default a seed made from the inputs.
        raise_exception: raise if the verdict is "fail"; never if it is "unsure".
        names: of the inputs, for the report.
        resolution: the relative error that the check must be able to see, or it is "unsure"; by
            default 1e-3, in float32 0.1.

    Raises:
        GradientError: if a derivative is wrong; an AssertionError, its `report` says where.
        TypeError, ValueError: if `fn` or `inputs` cannot be checked.

    >>> import numpy as np, tinygrad_rnn as tg
    >>> from tinygrad_rnn.testing import gradcheck
    >>> bool(gradcheck(tg.tanh, np.array([0.5, -1.0]), order=2))
    True
    >>> pair = (lambda x: x**3, lambda x, g: 2 * g * x**2)
    >>> gradcheck(pair, np.array([1.0, 2.0]), raise_exception=False).causes
    ['x0: a constant factor, 0.666667']
    """
    arrays, subject = checked(inputs), subject_of(fn)
    names = named(names, arrays)
    modes = (modes,) if isinstance(modes, str) else modes
    expect(f"modes among {MODES}", modes, lambda v: v and {*v} <= {*MODES})
    expect(f"kinks to be one of {KINKS}", kinks, lambda v: v in KINKS)
    expect("order 1, 2 ...", order, lambda v: isinstance(v, int) and v > 0)
    expect("a resolution above 0", resolution, lambda v: v is None or v > 0)
    expect("a seed or a generator as rng", rng, lambda v: v is None or np.random.default_rng(v))
    if isinstance(subject, Pair):
        expect("mode vjp for a pair (f, vjp), which has no jvp", modes, lambda v: "vjp" in v)
        expect(f"order 1 for a pair (f, vjp), which has no order {order}", order, lambda v: v == 1)
    modes = [m for m in modes if m in subject.modes]
    options = Options(modes, kinks, names, resolution, generator(rng, arrays))
    with np.errstate(all="ignore"), switched(recording=True):  # even if called under no_grad
        report = wide(subject, arrays, order, options)
    if kinks == "reject" and report.kinks:
        reject(report)
    return finished(report, subject, raise_exception, "gradcheck")


def gradgradcheck(fn: Callable[..., Any], inputs: Any, **options: Any) -> Report:
    """`gradcheck` of first and second derivatives: of `fn`, and of its gradient.

    >>> import numpy as np, tinygrad_rnn as tg
    >>> bool(tg.testing.gradgradcheck(tg.sigmoid, np.array([0.5, -1.0])))
    True
    """
    return gradcheck(fn, inputs, order=2, **options)


def finished(report: Report, subject: Subject, raise_exception: bool, check: str) -> Report:
    """The report with its count; raised if it says that the gradient is wrong."""
    report.evaluations = subject.evaluations
    if report.verdict == "fail" and raise_exception:
        raise GradientError(report, check)
    return report


def expect(expected: str, got: Any, holds: Callable[[Any], Any]) -> None:
    """Raise unless an option is what it should be."""
    try:
        if holds(got):
            return
    except (TypeError, ValueError):
        pass
    raise ValueError(f"gradcheck: expected {expected}; got {got!r}")


def named(names: Any, arrays: Sequence[Array]) -> list[str]:
    """A name for each input."""
    names = [f"x{k}" for k in range(len(arrays))] if names is None else names
    expect(f"{len(arrays)} names, one per input", names, lambda v: len(v) == len(arrays))
    return list(names)


def subject_of(fn: Any) -> Subject:
    if callable(fn):
        return TensorFunction(fn)
    if isinstance(fn, (tuple, list)) and len(fn) == 2 and all(map(callable, fn)):
        return Pair(*fn)
    raise TypeError(
        "gradcheck: expected a function of Tensors, or a pair (f, vjp) of NumPy functions, "
        f"got {type(fn).__name__}"
    )


def checked(inputs: Any, check: str = "gradcheck") -> list[Array]:
    """The inputs as finite arrays of floating-point numbers."""
    several = inputs if isinstance(inputs, (tuple, list)) else [inputs]
    arrays = []
    for k, value in enumerate(several):
        a = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
        a = a.astype(a.dtype.newbyteorder("="), copy=False)
        if a.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"{check}: expected inputs of float32 or float64, got {a.dtype} for input {k}; "
                "let fn close over what is not differentiated, or convert it with .astype(float)"
            )
        if not np.isfinite(a).all():
            where = tuple(map(int, np.argwhere(~np.isfinite(a))[0]))
            raise ValueError(
                f"{check}: expected finite inputs, got {a[where]} at {where} of input {k}"
            )
        arrays.append(a)
    if not arrays:
        raise ValueError(f"{check}: expected at least one input, got none")
    return arrays


def generator(rng: Any, arrays: Sequence[Array]) -> np.random.Generator:
    """The given generator, or one seeded by what is checked: varied, and repeatable."""
    if rng is None:
        rng = 0
        for a in arrays:
            rng = zlib.crc32(a.ravel()[:512].tobytes(), rng)
    return np.random.default_rng(rng)


def reject(report: Report) -> None:
    """Have hypothesis draw another example; outside of a property test, be unsure."""
    import hypothesis

    if hypothesis.currently_in_test_context():
        hypothesis.reject()
    report.verdict = "unsure"


def wide(subject: Subject, arrays: list[Array], order: int, options: Options) -> Report:
    """Check in float64 where the function takes it; then, given float32, in float32 as well."""
    doubles = [a.astype(np.float64, copy=False) for a in arrays]
    if all(a.dtype == np.float64 for a in arrays):
        return orders(subject, doubles, order, options)
    try:
        takes = all(v.dtype == np.float64 for v in subject.values(doubles))
    except Exception:  # whatever it raises: if it is not for the dtype, float32 raises it as well
        takes = False
    if not takes:
        report = orders(subject, arrays, order, options)
        report.notes.append("checked in float32 only: fn does not compute in float64")
        return report
    report = orders(subject, doubles, order, options)
    if report.verdict != "fail":
        single.compare(report, subject, arrays, options)
    return report


def orders(subject: Subject, arrays: list[Array], order: int, options: Options) -> Report:
    """Check first derivatives, then those of the pullback, and so on."""
    report = first = Check(subject, arrays, options).run()
    for n in range(2, order + 1):
        if report.verdict != "pass" or isinstance(subject, Pair):
            break
        outputs = Point(subject, arrays, options.names).run.outputs
        gs = [np.asarray(signed(options.rng, v.size).reshape(v.shape), v.dtype) for v in outputs]
        names = [*options.names, *(f"g{k}" for k in range(len(gs)))]
        subject = subject.pullback(len(arrays))
        arrays = [*arrays, *gs]
        options = replace(options, names=names)
        report = Check(subject, arrays, options, laws=False).run()
        report.order = n
        report.kinks, report.notes = first.kinks + report.kinks, first.notes + report.notes
    return report
