"""Property tests of gradients in one line."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import FunctionType
from typing import Any

from hypothesis import HealthCheck, Phase, event, find, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tinygrad_rnn.testing.exact import exact_gradcheck
from tinygrad_rnn.testing.gradcheck import Fn, gradcheck
from tinygrad_rnn.testing.report import GradientError, Report
from tinygrad_rnn.testing.snippet import differentiable, program

STACKED = "_hypothesis_internal_use_"  # where hypothesis keeps what decorators say
WARM = settings(
    database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


def _rebuilt(arguments: Any, leaf: Callable[[Any], Any]) -> Any:
    """Arguments, which may be nested in tuples and lists, with each leaf replaced."""
    if not isinstance(arguments, (tuple, list)):
        return leaf(arguments)
    kind, items = type(arguments), [_rebuilt(a, leaf) for a in arguments]
    return kind(*items) if hasattr(arguments, "_fields") else kind(items)


@dataclass
class Property:
    """That the gradients of a function, or pair, are right at whatever is drawn."""

    check: Callable[..., Report]
    fn: Any
    drawn: SearchStrategy[Any]
    keywords: dict[str, Any]
    verdicts: Counter[str] = field(default_factory=Counter)

    def judge(self, arguments: Any, **rng: int) -> Report:
        """Check the gradients of what is floating-point; all else is passed on as it is."""
        inputs: list[Any] = []
        _rebuilt(arguments, lambda v: inputs.append(v) if differentiable(v) else None)

        def passing(fn: Any) -> Any:
            def passed(*xs: Any) -> Any:
                rest = iter(xs)
                put = _rebuilt(arguments, lambda v: next(rest) if differentiable(v) else v)
                return fn(*put, *rest)

            return passed

        fn = self.fn
        if not all(map(differentiable, arguments)):
            pair = isinstance(fn, (tuple, list))
            fn = tuple(map(passing, fn)) if pair else passing(fn)
        return self.check(fn, inputs, **{**self.keywords, **rng})

    def test(self) -> Any:
        """The hypothesis test of it."""

        def example(arguments: Any, rng: int) -> None:
            try:
                verdict = self.judge(arguments, rng=rng).verdict
            except Exception as error:
                error.drawn = arguments, rng  # type: ignore[attr-defined]
                raise
            self.verdicts[verdict] += 1
            event(f"verdict: {verdict}")

        # hypothesis tells properties apart by the source behind __wrapped__
        example.__signature__ = inspect.signature(example)  # type: ignore[attr-defined]
        named = self.fn[0] if isinstance(self.fn, (tuple, list)) else self.fn
        attributes = ["__dict__"] * isinstance(self.fn, FunctionType)
        functools.update_wrapper(example, named, updated=attributes)
        example.__name__ = example.__name__ if example.__name__.isidentifier() else "example"
        rng = self.keywords.get("rng")
        seeds = st.integers(0, 2**32 - 1) if rng is None else st.just(rng)
        return given(arguments=self.drawn, rng=seeds)(example)

    def run(self, test: Callable[[], None]) -> None:
        """Call a test, and say more of how it fails."""
        __tracebackhide__ = True
        self.verdicts.clear()
        with contextlib.suppress(Exception):  # what compiles at the first call does so here
            self.judge(find(self.drawn, bool, settings=WARM, random=Random(0)))
        try:
            test()
        except BaseException as error:
            for one in getattr(error, "exceptions", [error]):
                if hasattr(one, "drawn"):
                    self.explain(one)
            raise
        if not self.verdicts["pass"]:
            raise AssertionError(
                f"{self.check.__name__}: expected at least one example that shows a gradient to be "
                f"right, got {dict(self.verdicts)}; draw others: no error could have been seen"
            )

    def explain(self, error: Any) -> None:
        """Add the code that repeats an error to its text."""
        arguments, rng = error.drawn
        code = program(self.check.__name__, self.fn, arguments, {**self.keywords, "rng": rng})
        code = f"\n\nTo repeat it:\n\n{code}\n"
        if isinstance(error, GradientError):
            error.args = (f"{error}{code}",)
        else:
            error.add_note(code)


def assert_gradients(
    fn: Fn, *inputs: Any, exact: bool = False, max_examples: int | None = None, **keywords: Any
) -> None:
    """Check the gradients of `fn` at inputs drawn by hypothesis.

    A failure is shrunk, and shown with the code that repeats it. The function is called once before
    hypothesis looks at the clock, and there is no deadline, so a function may compile at its first
    call. Examples whose verdict is "unsure" do not fail, but an "unsure" for all of them does.

    Args:
        fn: as of `gradcheck`: a function of Tensors, or a pair (f, vjp) of NumPy functions.
        inputs: a strategy for each argument, such as `reals("a b")`, or one for all that draws
            tuples, such as `matmul_operands()`; or fixed values. Gradients are asked of arrays and
            Tensors of floating-point numbers, also within tuples; `fn` gets integers, booleans,
            None and all else as they are.
        exact: whether to use `exact_gradcheck`, with inputs such as `small_integers("a b")`.
        max_examples: how many examples; by default those of the hypothesis profile, 100.
        keywords: of `gradcheck`: order, modes, kinks, names, resolution, rng.

    Raises:
        GradientError: if a gradient is wrong; an AssertionError.
        AssertionError: if no example could have shown a wrong gradient.
        ValueError: if there are no inputs.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.testing import assert_gradients
    >>> from tinygrad_rnn.testing.strategies import reals, small_integers
    >>> assert_gradients(lambda x, y: x * tg.tanh(y), reals("a b"), reals("b"), order=2)
    >>> assert_gradients(tg.cumsum, small_integers("a"), exact=True)
    """
    __tracebackhide__ = True
    check_gradients(*inputs, exact=exact, max_examples=max_examples, **keywords)(fn)()


def check_gradients(
    *inputs: Any, exact: bool = False, max_examples: int | None = None, **keywords: Any
) -> Callable[[Fn], Callable[[], None]]:
    """Make a pytest test of a function: the gradients of what it returns are checked.

    The test has no parameters. `@hypothesis.settings(...)`, `seed` and `reproduce_failure` may be
    stacked on it; the deadline is always None. The function itself stays at hand as `test.fn`.

    Args:
        inputs, exact, max_examples, keywords: as of `assert_gradients`, which says what is raised.

    >>> from tinygrad_rnn.testing.strategies import positive, reals
    >>> @check_gradients(reals("a b"), positive("b"))
    ... def test_division(x, y):
    ...     return x / y
    >>> test_division()
    """
    if not inputs or any(isinstance(v, FunctionType) for v in inputs):
        raise ValueError(
            f"check_gradients: expected a strategy for each argument, got {inputs}; "
            'such as @check_gradients(reals("a b"), reals("b"))'
        )
    several = [v if isinstance(v, SearchStrategy) else st.just(v).map(copy.copy) for v in inputs]
    drawn = st.tuples(*several)
    if len(several) == 1:  # may draw all arguments
        drawn = drawn.map(lambda one: one[0] if isinstance(one[0], tuple) else one)
    limits: dict[str, Any] = {} if max_examples is None else {"max_examples": max_examples}
    check = exact_gradcheck if exact else gradcheck

    def decorate(fn: Fn) -> Callable[[], None]:
        held = Property(check, fn, drawn, keywords)
        inner = held.test()

        @functools.wraps(inner)
        def test() -> None:
            __tracebackhide__ = True
            stacked = {name: v for name, v in vars(test).items() if name.startswith(STACKED)}
            chosen = settings(stacked.get(f"{STACKED}settings"), deadline=None, **limits)
            phases = set(chosen.phases) - {Phase.explain}  # the report explains more
            stacked[f"{STACKED}settings"] = settings(chosen, phases=phases)
            vars(inner).update(stacked)
            held.run(inner)

        test.__signature__ = inspect.Signature()  # type: ignore[attr-defined]
        test.fn = fn  # type: ignore[attr-defined]
        return test

    return decorate
