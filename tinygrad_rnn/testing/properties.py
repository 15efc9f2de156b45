"""Property tests of gradients in one line."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import warnings
from collections import Counter
from collections.abc import Callable
from random import Random
from types import FunctionType
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, event, find, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tinygrad_rnn.autograd.gradient import grad
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.testing.exact import exact_gradcheck
from tinygrad_rnn.testing.gradcheck import Fn, gradcheck
from tinygrad_rnn.testing.report import GradientError, Report
from tinygrad_rnn.testing.snippet import differentiable, program

STACKED = "_hypothesis_internal_use_"  # where hypothesis keeps what decorators say
SETTINGS = f"{STACKED}settings"
WARM = settings(
    database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


def _rebuilt(arguments: Any, leaf: Callable[[Any], Any]) -> Any:
    """Arguments, which may be nested in tuples and lists, with each leaf replaced."""
    if not isinstance(arguments, (tuple, list)):
        return leaf(arguments)
    kind, items = type(arguments), [_rebuilt(a, leaf) for a in arguments]
    return kind(*items) if hasattr(arguments, "_fields") else kind(items)


def _first(drawn: SearchStrategy[Any]) -> Any:
    """An example, drawn outside of any test."""
    return find(drawn, lambda _: True, settings=WARM, random=Random(0))


def _left_over(fn: Any, drawn: SearchStrategy[Any], count: int) -> list[inspect.Parameter]:
    """The parameters of a function that are not drawn: self, fixtures, what pytest parametrizes."""
    try:
        several = [*inspect.signature(fn).parameters.values()]
    except (TypeError, ValueError):  # a pair, or a builtin that does not say
        return []
    placed = [p for p in several if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in placed if p.default is p.empty]
    named = [p for p in several if p.kind == p.KEYWORD_ONLY and p.default is p.empty]
    own = [p for p in placed[:1] if p.name == "self"]
    if count == 1 < len(needed) - len(own):  # one strategy may draw all arguments
        with contextlib.suppress(Exception):
            count = len(_first(drawn))
    if len(placed) - len(own) < count and all(p.kind != p.VAR_POSITIONAL for p in several):
        raise ValueError(
            f"check_gradients: expected a function of {count} arguments, one for each strategy or "
            f"value that is drawn, got {fn.__name__}{inspect.signature(fn)}"
        )
    return (needed[:-count] or own) + named


class Property:
    """That the gradients of a function, or pair, are right at whatever is drawn."""

    def __init__(
        self, check: Callable[..., Report], fn: Any, drawn: SearchStrategy[Any], keywords: Any
    ) -> None:
        self.check, self.fn, self.drawn, self.keywords = check, fn, drawn, keywords
        self.pair = isinstance(fn, (tuple, list))
        self.verdicts: Counter[str] = Counter()
        self.extra = inspect.Signature().bind()

    def subject(self, arguments: Any) -> tuple[Any, list[Any]]:
        """A function, or pair, of what is floating-point, to which all else is passed as it is."""
        inputs: list[Any] = []
        _rebuilt(arguments, lambda v: inputs.append(v) if differentiable(v) else None)
        extra = self.extra
        if not inputs:
            raise TypeError(
                "check_gradients: expected an array or Tensor of floating-point numbers among what "
                f'is drawn, got {arguments!r}; reals("") draws a single number'
            )

        def passing(fn: Any) -> Any:
            def passed(*xs: Any) -> Any:
                rest = iter(xs)
                put = _rebuilt(arguments, lambda v: next(rest) if differentiable(v) else v)
                return fn(*extra.args, *put, *rest, **extra.kwargs)

            return passed

        if not extra.arguments and all(map(differentiable, arguments)):
            return self.fn, inputs
        return tuple(map(passing, self.fn)) if self.pair else passing(self.fn), inputs

    def test(self) -> Any:
        """The hypothesis test of it."""

        def example(arguments: Any, rng: int) -> None:
            keywords = {**self.keywords, "rng": rng}
            try:
                verdict = self.check(*self.subject(arguments), **keywords).verdict
            except Exception as error:
                error.drawn = arguments, keywords  # type: ignore[attr-defined]
                raise
            self.verdicts[verdict] += 1
            event(f"verdict: {verdict}")

        # hypothesis tells properties apart by the source behind __wrapped__
        example.__signature__ = inspect.signature(example)  # type: ignore[attr-defined]
        attributes = ["__dict__"] * isinstance(self.fn, FunctionType)
        functools.update_wrapper(example, self.fn[0] if self.pair else self.fn, updated=attributes)
        example.__name__ = example.__name__ if example.__name__.isidentifier() else "example"
        rng = self.keywords.get("rng")
        seeds = st.integers(0, 2**32 - 1) if rng is None else st.just(rng)
        return given(arguments=self.drawn, rng=seeds)(example)

    def warm(self) -> None:
        """Have compiled what compiles at the first call."""
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fn, inputs = self.subject(_first(self.drawn))
            if self.pair:
                fn[1](*inputs, np.ones_like(fn[0](*inputs)))
            else:
                inputs = [Tensor(x, requires_grad=True) for x in inputs]
                grad(fn(*inputs), inputs, allow_unused=True)

    def run(self, test: Callable[[], None], extra: inspect.BoundArguments) -> None:
        """Call a test, and say more of how it fails."""
        __tracebackhide__ = True
        self.verdicts.clear()
        self.extra = extra
        self.warm()
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
        arguments, keywords = error.drawn
        try:
            code = program(self.check.__name__, self.fn, arguments, keywords, self.extra.arguments)
        except Exception as unwritten:  # no reason to hide the error itself
            code = f"# no code: {unwritten!r}"
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
    Within a test of `hypothesis.given` use `gradcheck`: hypothesis refuses a search in a search.

    Args:
        fn: as of `gradcheck`: a function of Tensors, or a pair (f, vjp) of NumPy functions.
        inputs: a strategy for each argument, such as `reals("a b")`, or one for all that draws
            tuples, such as `matmul_operands()`; or fixed values. Gradients are asked of arrays and
            Tensors of floating-point numbers, also within tuples; `fn` gets integers, booleans,
            None and all else as they are.
        exact: whether to use `exact_gradcheck`, with inputs such as `small_integers("a b")`.
        max_examples: how many examples; by default those of the hypothesis profile, 100.
        keywords: of `gradcheck`: order, modes, kinks, names, resolution, rng. A generator as rng
            draws one seed, for all examples.

    Raises:
        GradientError: if a gradient is wrong; an AssertionError.
        AssertionError: if no example could have shown a wrong gradient.
        ValueError: if there are no inputs, or more than `fn` takes.

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
) -> Callable[[Fn], Callable[..., None]]:
    """Make a pytest test of a function: the gradients of what it returns are checked.

    What is drawn goes to the last parameters without a default. Those before (self, fixtures, what
    pytest parametrizes) and keyword-only ones are the parameters of the test; as with `given`, a
    fixture should live longer than one test.
    `@hypothesis.settings(...)`, `seed` and `reproduce_failure` may be stacked on it; the deadline
    is always None. The function itself stays at hand as `test.fn`.

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
    check, rng = exact_gradcheck if exact else gradcheck, keywords.get("rng")
    if isinstance(rng, np.random.Generator):
        keywords["rng"] = int(rng.integers(2**32))

    def decorate(fn: Fn) -> Callable[..., None]:
        held = Property(check, fn, drawn, keywords)
        parameters = _left_over(fn, drawn, len(several))
        signature = inspect.Signature([p.replace(annotation=p.empty) for p in parameters])
        inner = held.test()

        @functools.wraps(inner)
        def test(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            stacked = {name: v for name, v in vars(test).items() if name.startswith(STACKED)}
            chosen = settings(stacked.get(SETTINGS), deadline=None, print_blob=True, **limits)
            phases = set(chosen.phases) - {Phase.explain}  # the report explains more
            vars(inner).update({**stacked, SETTINGS: settings(chosen, phases=phases)})
            held.run(inner, signature.bind(*args, **kwargs))

        test.__signature__ = signature  # type: ignore[attr-defined]
        test.fn = fn  # type: ignore[attr-defined]
        return test

    return decorate
