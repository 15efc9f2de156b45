"""Places where a plausible engine is silently wrong."""

import array

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.autograd.writes import assign


def leaf(*values):
    return tg.Tensor(list(values), requires_grad=True)


@pytest.mark.parametrize(
    "key", [((0, 0, 1),), array.array("l", [0, 0, 1]), [0, 0, 1], tg.Tensor([0, 0, 1])], ids=repr
)
def test_repeated_indices_add_up_in_every_form_of_key(key):
    x = leaf(1.0, 2.0, 3.0)
    x[key].sum().backward()
    assert x.grad.tolist() == [2.0, 1.0, 0.0]


def test_an_empty_list_is_an_index():
    assert leaf(1.0, 2.0)[[]].shape == (0,)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.float32])
def test_topk_ranks_every_dtype(dtype):
    values, indices = tg.topk(tg.Tensor(np.array([0, 5, 2, 5], dtype)), 3)
    assert values.tolist() == [5, 5, 2] and indices.tolist() == [1, 3, 2]


def test_topk_counts_nan_as_large():
    assert tg.topk(leaf(1.0, np.nan, 3.0), 2)[1].tolist() == [1, 2]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64, bool])
@pytest.mark.parametrize(
    "op", [tg.sigmoid, tg.softplus, tg.log_sigmoid, tg.silu, tg.softmax, tg.logsumexp]
)
def test_activations_of_integers_are_those_of_float64(op, dtype):
    x = np.array([0, 1, 100], dtype)
    np.testing.assert_array_equal(op(tg.Tensor(x)), op(tg.Tensor(x.astype(np.float64))))


def test_small_integers_give_no_half_precision():
    with pytest.raises(TypeError, match=r"expected integers of 32 or 64 bits.*astype\('float32'\)"):
        tg.exp(tg.Tensor(np.array([1], np.int8)))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8])
def test_products_of_small_integers_do_not_overflow(dtype):
    x = np.ones(3, dtype) * dtype(16 if dtype is not bool else 1)
    found = tg.prod(tg.Tensor(x))
    assert found.item() == np.prod(x) and found.dtype == np.prod(x).dtype


def test_none_is_no_tensor():
    x = leaf(1.0, 2.0)
    assert (x == None) is False and (x != None) is True and x not in [None]  # noqa: E711


def test_a_masked_array_is_refused():
    with pytest.raises(TypeError, match=r"masked array; use tg\.stack, or fill the mask"):
        tg.Tensor(np.ma.array([1.0, 2.0], mask=[True, False]))


def test_power_of_zero_has_a_gradient_of_zero():
    x = leaf(0.0, 2.0)
    (found,) = tg.grad((x**0).sum(), x)
    assert found.tolist() == [0.0, 0.0]


def test_einsum_refuses_a_diagonal_that_is_none():
    with pytest.raises(ValueError, match=r"einsum: expected equal sizes along the axes 'i'"):
        tg.einsum("ii", tg.ones(2, 3))


def test_einsum_refuses_to_sum_an_ellipsis():
    with pytest.raises(ValueError, match=r"einsum: expected \.\.\. in the result"):
        tg.einsum("...i->i", tg.ones(2, 3))


@pytest.mark.parametrize("axes", [([5], [0]), 3, ([np.int64(7)], [0])])
def test_tensordot_refuses_axes_that_are_not_there(axes):
    with pytest.raises(ValueError, match=r"tensordot: expected axes in"):
        tg.tensordot(tg.ones(2, 3), tg.ones(3, 4), axes=axes)


def test_a_fused_backward_may_reuse_its_workspace():
    workspace = np.zeros(3, np.float32)

    def backward(saved, g):
        np.multiply(g, 1.0, out=workspace)
        return (workspace,)

    same = tg.fused(lambda x: (x.copy(), None), backward)(lambda x: x * 1.0)
    x = leaf(1.0, 2.0, 3.0)
    (same(x) * 1.0 + same(x) * 10.0).sum().backward()
    assert x.grad.tolist() == [11.0, 11.0, 11.0]


def test_a_fused_backward_may_return_one_bare_array():
    for shape in ((3,), (1, 3), ()):
        same = tg.fused(lambda x: (x.copy(), None), lambda saved, g: g * 2.0)(lambda x: x * 2.0)
        x = tg.ones(shape, requires_grad=True)
        tg.sum(same(x)).backward()
        np.testing.assert_array_equal(x.grad, np.full(shape, 2.0))


def test_a_users_backward_cannot_change_the_cotangent():
    def vjp(x, g):
        g *= 2.0
        return g

    double = tg.primitive(lambda x: x * 2.0, vjp)
    x, z, given = leaf(1.0), leaf(1.0), tg.ones(1)
    with pytest.raises(ValueError, match="read-only"):
        (double(x) + z).backward(given)
    assert given.tolist() == [1.0]


def test_a_rule_may_give_a_read_only_array_twice():
    frozen = np.ones(2, np.float32)
    frozen.flags.writeable = False
    ones = tg.primitive(x=lambda g: frozen)(lambda x: x * 1.0)
    x = leaf(1.0, 2.0)
    (ones(x) + ones(x) + ones(x)).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0] and frozen.tolist() == [1.0, 1.0]


def test_a_tensor_by_keyword_is_refused():
    product = tg.fused(lambda x, w: (x * w, None), lambda saved, g: (g, g))(lambda x, w: x * w)
    with pytest.raises(TypeError, match="expected tensors by position, got one by keyword"):
        product(leaf(1.0), w=leaf(2.0))


def test_a_tensor_in_a_parameter_without_a_rule_is_refused():
    scale = tg.primitive(x=lambda g, w: g * w)(lambda x, w: x * w)
    with pytest.raises(TypeError, match="came in by a parameter without a rule"):
        scale(leaf(1.0), leaf(2.0))


@pytest.mark.parametrize("fn", [lambda x, *rest: x, lambda x, **rest: x, lambda x, _y: x])
def test_a_primitive_has_plain_parameters(fn):
    with pytest.raises(TypeError, match="expected named parameters without a leading _"):
        tg.primitive(x=lambda g: g)(fn)


def test_aux_follows_an_outer_computation_that_the_value_does_not():
    def outer(a):
        _, aux = tg.func.grad(lambda x: (x * 2.0, a * a), has_aux=True)(1.0)
        return aux

    assert tg.func.grad(outer)(2.0).item() == 4.0


def test_a_checkpoint_notices_writes_to_constants_it_closes_over():
    x, w = leaf(1.0, 2.0), tg.Tensor([3.0, 4.0])
    y = tg.checkpoint(lambda x: tg.exp(x * w), x).sum()
    assign(w, [0.0, 0.0])
    with pytest.raises(RuntimeError, match="'checkpoint' saved was changed"):
        y.backward()


def test_a_checkpoint_runs_again_in_the_mode_it_ran_in():
    calls = []

    def kernel(x):
        calls.append("kernel")
        return x * 2.0, None

    double = tg.fused(kernel, lambda saved, g: (g * 2.0,))(lambda x: x * 2.0)
    x = leaf(1.0)
    with tg.definitions():
        y = tg.checkpoint(double, x)
    y.sum().backward()
    assert calls == [] and x.grad.tolist() == [2.0]


def test_no_grad_silences_a_generator_and_nothing_around_it():
    x = leaf(1.0)

    @tg.no_grad
    def silent():
        for _ in range(2):
            yield (x * 2.0).requires_grad

    found = [(inside, (x * 2.0).requires_grad) for inside in silent()]
    assert found == [(False, True), (False, True)]


def test_one_no_grad_serves_nested_blocks():
    x, silence = leaf(1.0), tg.no_grad()
    with silence:
        with silence:
            assert not (x * 2.0).requires_grad
        assert not (x * 2.0).requires_grad
    assert (x * 2.0).requires_grad


def test_several_results_may_be_named_by_their_rule():
    both = tg.primitive(x=lambda g, out: g[0] * out[0] + g[1] * 2.0 * out[0] * out[0])(
        lambda x: (np.exp(x), np.exp(2.0 * x))
    )
    x = tg.Tensor(np.array([0.5]), requires_grad=True)

    def total(op):
        first, second = op(x)
        (g,) = tg.grad((first * first + second).sum(), x, create_graph=True)
        return g.item(), tg.grad(g.sum(), x)[0].item()

    plain = total(lambda x: (tg.exp(x), tg.exp(2.0 * x)))
    np.testing.assert_allclose(total(both), plain, rtol=1e-12)


def test_an_opaque_function_gives_one_array():
    pair = tg.primitive(lambda x: (x, x), lambda x, g: g)
    with pytest.raises(TypeError, match=r"expected f\(\*arrays\) -> array, got tuple"):
        pair(leaf(1.0))


def test_a_sequence_rule_gives_one_gradient_each():
    @tg.primitive(xs=lambda g: [g])
    def total(xs: tg.Arrays):
        return sum(xs)

    with pytest.raises(ValueError, match="expected one gradient for each of 2 inputs, got 1"):
        total([leaf(1.0), leaf(2.0)]).backward()


def test_grad_takes_any_iterable_of_inputs():
    layer = tg.nn.Linear(2, 1)
    found = tg.grad(layer(tg.ones(1, 2)).sum(), layer.parameters())
    assert [g.shape for g in found] == [(1, 2), (1,)]


def test_a_checkpoint_whose_closure_moved_on_says_so():
    h, weights = leaf(1.0), [leaf(2.0), leaf(3.0)]
    for w in weights:
        h = tg.checkpoint(lambda u: u * w, h)  # noqa: B023 (the mistake that is tested)
    with pytest.raises(RuntimeError, match="checkpoint: expected the function to read the same"):
        tg.grad(h.sum(), weights, allow_unused=True)


def test_a_replay_leaves_the_default_generator_alone():
    x = leaf(1.0, 2.0)
    y = tg.checkpoint(lambda x: x * tg.rand(2), x)
    before = tg.get_rng_state()
    (found,) = tg.grad(y.sum(), x)
    assert tg.get_rng_state() == before
    np.testing.assert_array_equal(found, y / x)


def test_many_repeats_of_an_index_lose_no_precision():
    x = tg.Tensor(np.zeros(1, np.float32), requires_grad=True)
    weights = np.full(1_000_000, 0.1, np.float32)
    (x[np.zeros(1_000_000, int)] * weights).sum().backward()
    np.testing.assert_allclose(x.grad.item(), 100_000.0, rtol=1e-6)


def test_clip_takes_both_spellings_of_its_bounds():
    x = leaf(-2.0, 0.5, 9.0)
    assert tg.clip(x, min=0, max=1).tolist() == tg.clip(x, 0, 1).tolist() == [0.0, 0.5, 1.0]
    assert x.clip(max=1).tolist() == [-2.0, 0.5, 1.0]


def test_masked_steps_keep_the_dtype_of_integer_states():
    xs = np.ones((3, 2, 1), np.int64)
    for lengths in (None, [3, 1]):
        outputs, state = tg.scan(
            lambda x, s: (s + x, s + x), tg.Tensor(xs), tg.Tensor(xs[0]), lengths=lengths
        )
        assert outputs.dtype == state.dtype == np.int64


@pytest.mark.parametrize("op", [lambda x: tg.max(x, axis=0), lambda x: tg.min(-x, axis=0)])
def test_an_infinite_cotangent_stays_with_the_extremum(op):
    x = leaf(1.0, 2.0)
    (found,) = tg.grad(op(x), x, tg.Tensor(np.inf))
    assert found.numpy()[0] == 0.0 and np.isinf(found.numpy()[1])


def test_an_infinite_cotangent_gives_sign_no_nan():
    x = leaf(1.0)
    assert tg.grad(tg.sign(x), x, tg.Tensor([np.inf]))[0].tolist() == [0.0]


def test_a_hook_is_a_function():
    with pytest.raises(TypeError, match="register_hook: expected a function, got int"):
        leaf(1.0).register_hook(3)
