"""Property tests of gradients: what they find, what they print, and that it runs."""

import enum
import functools
import inspect
import subprocess
import sys
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import given, reproduce_failure, seed, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.testing import (
    GradientError,
    assert_gradients,
    check_gradients,
    gradcheck,
    properties,
    register_profiles,
)
from tinygrad_rnn.testing import strategies as ts
from tinygrad_rnn.testing.snippet import Program

SCALE = 3.0


@tg.primitive(x=lambda g, x: g * tg.where(x > 3, 2.0, 1.0))
def doubled_above_3(x):
    return x + 0.0


def wrong(x, y):
    return doubled_above_3(x) * y


def failure(test):
    """The error of a property that must fail, the same in every run."""
    with pytest.raises(GradientError) as caught:
        seed(0)(test)()
    return caught.value


def code_of(error):
    return str(error).split("To repeat it:\n\n")[1]


def rerun(code):
    with pytest.raises(GradientError) as caught:
        exec(code, {"__name__": "__main__"})
    return caught.value


# As tests


@check_gradients(ts.reals("a b"), ts.reals("b c"))
def test_matmul(x, y):
    return tg.matmul(x, y)


@settings(max_examples=5)
@check_gradients(ts.reals("a b"), ts.positive("b"), order=2)
def test_division(x, y):
    """Divides."""
    return x / y


@seed(3)
@check_gradients(ts.small_integers("a b"), exact=True)
def test_exact(x):
    return tg.cumsum(x * x, axis=0), tg.max(x, axis=1) if x.shape[1] else x


@check_gradients(ts.reals("a", dtype=np.float32), max_examples=20)
def test_float32(x):
    return tg.tanh(x)


@check_gradients(ts.matmul_operands())
def test_one_strategy_draws_all_arguments(x, y):
    return x @ y


@check_gradients(ts.sequences(2, lengths=True), ts.small_integers("k", 0, 1, dtype=np.intp), 2.0)
def test_what_is_not_differentiable_is_passed_on(batch, places, factor):
    x, lengths = batch
    assert isinstance(lengths, np.ndarray) and lengths.dtype == np.intp and factor == 2.0
    assert isinstance(places, np.ndarray) and not isinstance(x, np.ndarray)
    return tg.take(x, places, axis=2) * factor * lengths.sum()


@check_gradients(np.array([[0.5, -1.0]]), ts.reals("a 2"))
def test_values_may_be_fixed(x, y):
    assert x.shape == (1, 2)
    return x * y


def test_tests_look_like_tests():
    assert not inspect.signature(test_division).parameters
    assert test_division.__name__ == "test_division" and test_division.__doc__ == "Divides."
    assert test_division.fn(3.0, 2.0) == 1.5
    assert test_division.is_hypothesis_test


@pytest.fixture(scope="module")
def three():
    return 3.0


@pytest.mark.parametrize("factor", [2.0, 0.5])
@check_gradients(ts.reals("a"), ts.reals("a"), max_examples=5)
def test_parameters_that_are_not_drawn_stay(three, factor, x, y):
    assert three == 3.0 and factor in (2.0, 0.5) and x.shape == y.shape
    return x * y * factor * three


class TestMethods:
    @check_gradients(ts.matmul_operands(), max_examples=5)
    def test_method(self, x, y):
        assert isinstance(self, TestMethods)
        return x @ y

    @settings(max_examples=5)
    @check_gradients(ts.reals("a"))
    @pytest.mark.parametrize("factor", [2.0])
    def test_more(self, x, power=2, *, factor, three):
        assert (power, factor, three) == (2, 2.0, 3.0)
        return tg.tanh(x) * factor

    @check_gradients(ts.reals("a"))
    def wrong(self, factor, x):
        return wrong(x, factor)


def test_failures_of_methods_can_be_repeated():
    with pytest.raises(GradientError) as caught:
        TestMethods().wrong(factor=2.0)
    code = code_of(caught.value)
    assert "TestMethods.wrong.fn" in code and "self = TestMethods()" in code
    assert rerun(code).report.analytic == caught.value.report.analytic


@pytest.mark.parametrize(
    "inputs, fn, text",
    [
        ([ts.reals("a"), 2.0], lambda x: x, r"of 2 arguments, .* got <lambda>\(x\)"),
        ([ts.reals("a")], lambda: 1.0, "of 1 arguments"),
        ([ts.sequences(), ts.reals("a")], lambda self, x: x, "of 2 arguments"),
    ],
)
def test_too_few_parameters(inputs, fn, text):
    with pytest.raises(ValueError, match=f"check_gradients: expected a function {text}"):
        check_gradients(*inputs)(fn)


def test_too_many_parameters():
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        assert_gradients(lambda x, y: x * y, ts.reals("a"))


# Running them


def calls(limit=None, **keywords):
    """How many examples `assert_gradients` checks: evaluations of a pair's vjp at new inputs."""
    seen = set()

    def vjp(x, g):
        seen.add(x.tobytes())
        return 2 * x * g

    pair = (lambda x: x * x, vjp)
    assert_gradients(pair, ts.reals((10,)), **keywords)
    return len(seen)


def test_max_examples():
    assert calls(max_examples=3) < 20 < calls(max_examples=30)


def test_settings_can_be_stacked():
    count = []

    @settings(max_examples=4)
    @check_gradients(ts.reals((2,)).map(lambda a: count.append(1) or a))
    def holds(x):
        return x * 2.0

    holds()
    assert len(count) <= 6  # with the warm-up
    with pytest.raises(hypothesis.errors.InvalidArgument, match="already been decorated"):
        settings(max_examples=3)(holds)


def test_there_is_no_deadline_whatever_the_settings():
    @settings(max_examples=2, deadline=1)
    @check_gradients(ts.reals((1,)))
    def slow(x):
        time.sleep(0.002)
        return x * 2.0

    slow()


def test_the_first_call_is_not_counted():
    made = []

    def compiled(x):
        made.append(1)
        if len(made) == 1:
            raise RuntimeError("the compiler has a bad day")
        return x * x

    assert_gradients(compiled, ts.reals("a"), max_examples=5)
    assert len(made) > 5


def test_the_warm_up_is_one_quiet_call():
    outside, made = [], []

    def assuming(x):
        made.append(hypothesis.currently_in_test_context())
        hypothesis.assume(x.size > 0)
        return x * x

    def pair_vjp(x, g):
        outside.append(hypothesis.currently_in_test_context())
        return 2 * x * g

    assert_gradients(assuming, ts.reals("a"), max_examples=5)
    assert made.count(False) == 1
    assert_gradients((np.square, pair_vjp), ts.reals("a"), max_examples=5)
    assert outside.count(False) == 1


def test_a_failure_can_be_reproduced_by_its_blob():
    def test():
        return settings(database=None, print_blob=True, max_examples=200)(
            check_gradients(ts.reals("a"))(doubled_above_3)
        )

    with pytest.raises(GradientError) as caught:
        test()()
    text = "\n".join(caught.value.__notes__)
    blob = eval(text.split("@reproduce_failure(")[1].split(")")[0])[1]
    again = reproduce_failure(hypothesis.__version__, blob)(
        check_gradients(ts.reals("a"))(doubled_above_3)
    )
    with pytest.raises(GradientError) as caught_again:
        again()
    assert code_of(caught_again.value) == code_of(caught.value)


def test_kinks_can_be_rejected():
    assert_gradients(tg.abs, ts.reals("a", scales=(1.0,)), kinks="reject", max_examples=30)
    check = check_gradients(ts.reals("a", scales=(1.0,)), kinks="fail", max_examples=300)
    assert failure(check(tg.abs)).report.verdict == "fail"


# A property that cannot fail is no property


@pytest.mark.parametrize(
    "fn, strategy",
    [
        (lambda x: x * 2.0, ts.reals("0 a")),
        (lambda x: tg.log(x * 0.0 - 1.0), ts.reals((2,))),
        (lambda x: x[:0], ts.reals((2,))),
    ],
    ids=["empty", "nan", "empty results"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nothing_proven_is_a_failure(fn, strategy):
    with pytest.raises(AssertionError, match=r"at least one example .* got .*unsure"):
        assert_gradients(fn, strategy, max_examples=10)


@pytest.mark.parametrize("use", [lambda: check_gradients()(tg.tanh), lambda: assert_gradients(abs)])
def test_there_must_be_inputs(use):
    with pytest.raises(ValueError, match="expected a strategy for each argument, got"):
        use()


def test_a_forgotten_call_is_noticed():
    with pytest.raises(ValueError, match="expected a strategy for each argument, got"):

        @check_gradients
        def holds(x):
            return x


def test_other_errors_say_how_to_repeat_them_too():
    def broken(x):
        return x.no_such_method() if x.ndim == 2 else x * 2.0

    with pytest.raises(AttributeError) as caught:
        assert_gradients(broken, ts.reals())
    code = caught.value.__notes__[-1].split("To repeat it:\n\n")[1]
    with pytest.raises(AttributeError):
        exec(code, {})


# What a failure prints


def local_function():
    factor, weights = 2.0, np.array([[0.1], [0.25]])

    def scaled(x):
        return doubled_above_3(x) * factor

    return lambda x: scaled(x) * weights.sum() * SCALE


def local_primitive():
    @tg.primitive(x=lambda g, x: g * (x > 3))
    def local(x):
        return x * 1.0

    return local


def pair():
    return (
        lambda x, y: x + y,
        lambda x, y, g: (g, 1.5 * g),
    )


CASES = {
    "importable": (wrong, [ts.reals("a b"), ts.reals("b")], "from tests.testing.test_properties"),
    "lambda": (lambda x: doubled_above_3(x) * SCALE, [ts.reals("a")], "SCALE = 3.0"),
    "local function": (local_function(), [ts.reals("a")], "weights = np.array([[0.1], [0.25]])"),
    "local primitive": (local_primitive(), [ts.reals("a")], "@tg.primitive(x=lambda"),
    "pair": (pair(), [ts.reals("a"), ts.reals("a")], "tg.testing.gradcheck((fn, fn_1), [x0, x1]"),
    "nested": (
        lambda x, s, k: tg.take(doubled_above_3(x) * s[0].sum(), k),
        [ts.reals("1"), ts.sequences(1, 1, 1), np.array([0])],
        "(x1, ",
    ),
    "float32": (
        lambda x: doubled_above_3(x) * 2.0,
        [ts.reals("a", dtype=np.float32)],
        "dtype=np.float32",
    ),
    "tensor": (doubled_above_3, [ts.tensors(ts.reals("a"))], "tg.Tensor(np.array("),
}


@pytest.mark.parametrize("case", CASES)
def test_the_printed_example_runs_and_fails_alike(case):
    fn, inputs, expected = CASES[case]
    error = failure(check_gradients(*inputs)(fn))
    code = code_of(error)
    assert expected in code and code.startswith("import numpy as np\nimport tinygrad_rnn as tg\n")
    again = rerun(code)
    assert again.report.elements == error.report.elements
    assert again.report.analytic == error.report.analytic


@check_gradients(ts.reals("a"))
def decorated(x):
    return wrong(x, 2.0)


def test_a_decorated_test_is_imported():
    code = code_of(failure(decorated))
    assert "import decorated\n" in code and "gradcheck(decorated.fn, [x0]" in code
    rerun(code)


class Scaled:
    """A callable that has state, and so no literal."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return doubled_above_3(x) * self.factor


class Color(enum.Enum):
    RED = 2.0


GLOBAL = Scaled(2.0)


def with_containers():
    weights = {"w": np.array([2.0, np.inf]), "several": [(np.float64(0.5), Color.RED)], "f": wrong}
    return lambda x: weights["f"](x, weights["w"][0]) * weights["several"][0][1].value


def with_defaults():
    y, factor = np.array([2.0]), 3.0
    rule = lambda g, x: g * (x > factor)  # noqa: E731

    @tg.primitive(x=lambda g, x: rule(g, x))
    def local(x, y):
        return x * 1.0

    return lambda x, y=y, *, f=doubled_above_3: f(x) * y[0]


def two_of_a_name():
    def named(factor):
        return lambda x: doubled_above_3(x) * factor

    two, three = named(2.0), named(3.0)
    return lambda x: two(x) + three(x)


RUNNABLE = {
    "partial": (functools.partial(wrong, y=np.array(2.0)), "partial(wrong, y=np.array(2.0))"),
    "bound method": (GLOBAL.__call__, "import GLOBAL"),
    "global object": (GLOBAL, "import GLOBAL"),
    "object in a closure": ((lambda scaled: lambda x: scaled(x))(GLOBAL), "lambda x: GLOBAL(x)"),
    "frozen set": (
        (lambda s: lambda x: doubled_above_3(x) * max(s))(frozenset({2.0})),
        "s = frozenset({2.0})",
    ),
    "containers": (with_containers(), "Color(2.0)"),
    "defaults": (with_defaults(), "y=np.array([2.0])"),
    "two of a name": (two_of_a_name(), "factor_1 = 2.0"),
}


@pytest.mark.parametrize("case", RUNNABLE)
def test_the_printed_code_runs(case):
    fn, expected = RUNNABLE[case]
    error = failure(check_gradients(ts.reals("a"))(fn))
    assert expected in code_of(error)
    assert rerun(code_of(error)).report.analytic == error.report.analytic


def abs_of(x):
    return tg.abs(x)


def no_source():
    return eval("lambda x: f(x)", {"f": doubled_above_3})


NEEDED = {
    "object": ((lambda layer: lambda x: layer(x))(Scaled(2.0)), "layer", "no literal"),
    "bound method": (Scaled(2.0).__call__, "scaled", "no literal"),
    "layer of nn": (
        (lambda lstm: lambda x: doubled_above_3(x) + lstm.hidden_size)(tg.nn.LSTM(1, 1)),
        "lstm",
        "no literal",
    ),
    "wrapped": (functools.wraps(abs_of)(lambda x: doubled_above_3(x)), "abs_of", "no literal"),
    "no source": (no_source(), "fn", "source is not at hand"),
}


@pytest.mark.parametrize("case", NEEDED)
def test_what_has_no_literal_is_asked_for_first(case):
    fn, name, why = NEEDED[case]
    code = code_of(failure(check_gradients(ts.reals("a"))(fn)))
    assert any(f"# define `{name}` here: it" in line and why in line for line in code.splitlines())
    needed = {"layer": Scaled(2.0), "scaled": Scaled(2.0), "lstm": tg.nn.LSTM(1, 1)}
    with pytest.raises(GradientError):
        exec(code, {name: needed.get(name, doubled_above_3)})


def test_large_arrays_are_not_printed():
    def broken(x):
        raise ArithmeticError

    with pytest.raises(ArithmeticError) as caught:
        assert_gradients(broken, ts.reals((60, 60)))
    text = "\n".join(caught.value.__notes__)
    assert "# define `x0` here: it has 3,600 elements, too many to print;" in text
    assert "@reproduce_failure('" in text and len(text) < 2000


def test_an_error_is_not_hidden_by_the_code_that_cannot_be_written(monkeypatch):
    monkeypatch.setattr(properties, "program", lambda *_: 1 / 0)
    error = failure(check_gradients(ts.reals("a"))(doubled_above_3))
    assert code_of(error).startswith("# no code: ZeroDivisionError") and error.report.elements


def test_large_arrays_that_are_passed_on_are_asked_for():
    check = check_gradients(ts.reals("a"), np.zeros(3_000, np.intp))
    code = code_of(failure(check(lambda x, places: doubled_above_3(x) + places[0])))
    assert "# define `c` here: it has 3,000 elements" in code and "fn(x0, c), [x0]" in code


def test_views_are_noted():
    check = check_gradients(st.just(np.full((2, 3), 3.5).T))
    code = code_of(failure(check(lambda x: doubled_above_3(x))))
    assert "])  # with strides of (8, 24) bytes" in code
    rerun(code)


@pytest.mark.parametrize(
    "value",
    [
        (1, [2.5, None], {"k": {3}, "n": (), "s": set()}),
        float("-inf"),
        slice(1, None),
        np.dtype("f4"),
        np.float32(0.1),
        np.float64("inf"),
        np.array([1.0, -np.inf, 1e30]),
        np.array(np.inf),
        np.array([1 / 3 + 2j, complex(np.inf, 0)]),
    ],
    ids=repr,
)
def test_literals(value):
    again = eval(Program().literal(value), {"np": np})
    np.testing.assert_equal(again, value)
    assert type(again) is type(value)


def test_a_generator_draws_one_seed():
    rng = np.random.default_rng(5)
    check = check_gradients(ts.reals("a"), rng=rng)
    expected = np.random.default_rng(5).integers(2**32)
    assert f"rng={expected})" in code_of(failure(check(doubled_above_3)))
    assert_gradients(tg.tanh, ts.reals("a"), rng=rng, max_examples=2)


def test_options_are_printed():
    check = check_gradients(ts.reals("a", scales=(1.0,)), order=2, modes=("vjp",), rng=7)
    code = code_of(failure(check(lambda x: doubled_above_3(x) * x)))
    assert ", order=2, modes=('vjp',), rng=7)" in code
    code = code_of(failure(check_gradients(ts.small_integers("a"), exact=True)(doubled_above_3)))
    assert "tg.testing.exact_gradcheck(doubled_above_3, [x0], rng=0)" in code


@pytest.mark.parametrize(
    "a",
    [
        np.array(0.1),
        np.array([1 / 3, -2.0, 1e-300, 5e-324, 1e22]),
        np.array([[0.1, 1 / 3]], np.float32),
        np.zeros((0, 3)),
        np.zeros((2, 0), np.float32),
        np.array([3, -1]),
        np.array([True, False]),
        np.arange(2000.0).reshape(2, 500, 2) / 7,
        np.arange(6.0).reshape(2, 3).T,
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_are_written_exactly(a):
    text = Program().literal(a)
    again = eval(f"({text}\n)", {"np": np})
    np.testing.assert_array_equal(again, a, strict=True)
    assert max(map(len, text.splitlines())) <= 130


# Shrinking


def summed(g, shape):
    """The sum of a cotangent over broadcast axes."""
    g = g.sum(tuple(range(g.ndim - len(shape))))
    return g.sum(tuple(k for k, n in enumerate(shape) if n == 1), keepdims=True).reshape(shape)


def one_column(g, shape):
    """The first column only: the sum over a broadcast axis is missing."""
    g = g.sum(tuple(range(g.ndim - len(shape))))
    return g[tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)]


def last_wrong(x, g):
    d = 2 * x * g
    d.flat[d.size - 1 :] *= 1.01
    return d


BUGS = {
    "above 3": (doubled_above_3, [ts.reals()]),
    "below -1.7": (
        (np.abs, lambda x, g: g * np.sign(x) * np.where(x < -1.7, 1.01, 1)),
        [ts.away_from(0.0)],
    ),
    "no sum": (
        (np.add, lambda x, y, g: (one_column(g, x.shape), summed(g, y.shape))),
        [ts.operands(ts.broadcastable_shapes(2))],
    ),
    "last element": ((np.square, last_wrong), [ts.reals()]),
    "tall": (
        (np.square, lambda x, g: 2 * x * g * (1.1 if x.shape[0] > x.shape[1] else 1)),
        [ts.reals("a b")],
    ),
    "long products": (
        (np.matmul, lambda a, b, g: (g @ b.T, a.T @ g * (1.001 if len(a) > 2 else 1))),
        [ts.reals("n k"), ts.reals("k m")],
    ),
}


def sizes_of_failures(bug, seeds):
    fn, inputs = BUGS[bug]
    sizes = []
    for number in seeds:
        test = settings(max_examples=200, database=None)(check_gradients(*inputs)(fn))
        with pytest.raises(GradientError) as caught:
            seed(number)(test)()
        inputs_found = {}
        exec(code_of(caught.value).rsplit("\n", 2)[0], {"__name__": "__main__"}, inputs_found)
        arrays = [v for name, v in inputs_found.items() if name in ("x0", "x1")]
        sizes.append(sum(a.size for a in arrays))
    return sizes


@pytest.mark.parametrize("bug", BUGS)
def test_bugs_shrink_to_four_elements(bug):
    assert max(sizes_of_failures(bug, range(4))) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_bugs_shrink_to_four_elements_for_most_seeds(bug):
    sizes = np.array(sizes_of_failures(bug, range(100)))
    assert (sizes <= 4).mean() >= 0.95


# Profiles


def test_profiles():
    register_profiles()
    plain, ci, nightly = (
        settings.get_profile(f"tinygrad_rnn{end}") for end in ("", "-ci", "-nightly")
    )
    assert (plain.max_examples, ci.max_examples, nightly.max_examples) == (100, 200, 10_000)
    assert plain.deadline is ci.deadline is nightly.deadline is None
    assert ci.derandomize and ci.database is None and ci.print_blob
    assert nightly.print_blob and not nightly.derandomize


def test_properties_work_under_given():
    @given(st.just(1))
    @settings(suppress_health_check=[hypothesis.HealthCheck.nested_given], max_examples=1)
    def outer(_):
        assert gradcheck(tg.tanh, np.array([0.5]))

    outer()


WITHOUT = """
import sys
sys.modules["hypothesis"] = None
import tinygrad_rnn as tg
assert tg.testing.gradcheck and not hasattr(tg.testing, "strategies")
for use, error in [
    ("tg.testing.check_gradients", AttributeError),
    ("from tinygrad_rnn.testing import assert_gradients", ImportError),
    ("from tinygrad_rnn.testing import *", ImportError),
]:
    try:
        exec(use)
    except error as caught:
        assert "expected hypothesis, which is not installed; pip install" in str(caught), use
    else:
        raise AssertionError(use)
"""


def test_without_hypothesis():
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)
