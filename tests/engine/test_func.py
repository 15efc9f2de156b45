"""`tg.func`: functions in, derivatives out, against closed forms and nested in each other."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import func

A = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [1.0, 1.0, -2.0]])
X = np.array([0.3, -0.7, 1.1])
V = np.array([1.0, 2.0, -1.0])


def leaf(values):
    return tg.Tensor(np.asarray(values, np.float64), requires_grad=True)


def same(tensor, expected, graph=False):
    assert isinstance(tensor, tg.Tensor) and tensor.requires_grad == graph
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-12, atol=1e-14)


def quadratic(x):
    return 0.5 * (x @ A @ x)


def waves(x):
    return tg.sin(tg.Tensor(A) @ x)


SLOPE = np.cos(A @ X)[:, None] * A  # of waves at X


# Closed forms


def test_grad_of_a_quadratic():
    same(func.grad(quadratic)(X), 0.5 * (A + A.T) @ X)


def test_value_and_grad():
    value, gradient = func.value_and_grad(quadratic)(X)
    same(value, 0.5 * X @ A @ X)
    same(gradient, 0.5 * (A + A.T) @ X)


def test_vjp():
    value, pull = func.vjp(waves, X)
    same(value, np.sin(A @ X))
    for _ in range(2):  # as often as wanted
        (g,) = pull(V)
        same(g, V @ SLOPE)
    same(pull(2.0 * V)[0], 2.0 * V @ SLOPE)


def test_jvp():
    value, moved = func.jvp(waves, (X,), (V,))
    same(value, np.sin(A @ X))
    same(moved, SLOPE @ V)


def test_jvp_is_the_transposed_vjp():
    _, moved = func.jvp(lambda x: tg.softmax(waves(x)) * x, (X,), (V,))
    (pulled,) = func.vjp(lambda x: tg.softmax(waves(x)) * x, X)[1](SLOPE[0])
    assert moved.numpy().any()
    np.testing.assert_allclose(moved.numpy() @ SLOPE[0], pulled.numpy() @ V, rtol=1e-12)


def test_jacobian():
    same(func.jacobian(waves)(X), SLOPE)
    same(func.jacobian(lambda x: tg.outer(x, x))(X), np.einsum("ik,j->ijk", np.eye(3), X)
         + np.einsum("jk,i->ijk", np.eye(3), X))  # fmt: skip
    same(func.jacobian(quadratic)(X), 0.5 * (A + A.T) @ X)
    same(func.jacobian(lambda x: x[:0])(X), np.zeros((0, 3)))


def test_hessian():
    same(func.hessian(quadratic)(X), 0.5 * (A + A.T))
    same(func.hessian(lambda x: tg.sin(x).sum())(X), np.diag(-np.sin(X)))
    same(func.hessian(lambda x: (x * V).sum())(X), np.zeros((3, 3)))


def test_hvp():
    value, product = func.hvp(quadratic, (X,), (V,))
    same(value, 0.5 * X @ A @ X)
    same(product, 0.5 * (A + A.T) @ V)


def test_hvp_over_several_arguments():
    value, (hx, hy) = func.hvp(lambda x, y: (x * x * y).sum(), (X, V), (V, X))
    same(value, (X * X * V).sum())
    same(hx, 2.0 * V * V + 2.0 * X * X)
    same(hy, 2.0 * X * V)


# Arguments and results


def test_argnums_choose_arguments():
    fn = lambda x, y, z: (x * y * y * z).sum()  # noqa: E731
    arguments = (X, V, A[0])
    same(func.grad(fn, 1)(*arguments), 2.0 * X * V * A[0])
    same(func.grad(fn, -1)(*arguments), X * V * V)
    gradients = func.grad(fn, (2, 0))(*arguments)
    assert type(gradients) is tuple
    for got, expected in zip(gradients, (X * V * V, V * V * A[0]), strict=True):
        same(got, expected)
    (only,) = func.grad(fn, [0])(*arguments)
    same(only, V * V * A[0])
    jacobians = func.jacobian(lambda x, y: x * y, (0, 1))(X, V)
    same(jacobians[0], np.diag(V))
    same(jacobians[1], np.diag(X))
    same(func.hessian(fn, 1)(*arguments), np.diag(2.0 * X * A[0]))


def test_other_arguments_pass_untouched():
    seen = []

    def fn(x, flag, n):
        seen.append((flag, n))
        return (x * n).sum()

    same(func.grad(fn)(X, "flag", 3), [3.0] * 3)
    assert seen == [("flag", 3)]


@pytest.mark.parametrize("value", [2.0, [2.0], np.float32(2.0), np.array([2.0]), leaf([2.0])])
def test_inputs_may_be_numbers_lists_arrays_and_tensors(value):
    (g,) = func.grad(lambda x: (x**3).sum(), (0,))(value)
    assert g.shape == np.shape(value) and np.allclose(g.numpy(), 12.0)
    assert g.dtype == tg.Tensor(value).dtype


def test_inputs_are_copied():
    a = X.copy()
    _, pull = func.vjp(lambda x: x * x, a)
    a[...] = 0.0
    same(pull(V)[0], 2.0 * X * V)


def test_has_aux():
    def fn(x):
        h = tg.exp(x)
        return h.sum(), {"h": h, "twice": (h * 2.0, [h]), "name": "aux"}

    gradient, aux = func.grad(fn, has_aux=True)(X)
    same(gradient, np.exp(X))
    same(aux["h"], np.exp(X))
    same(aux["twice"][0], 2.0 * np.exp(X))
    same(aux["twice"][1][0], np.exp(X))
    assert aux["name"] == "aux"
    (value, aux), gradient = func.value_and_grad(fn, has_aux=True)(X)
    same(value, np.exp(X).sum())
    same(aux["h"], np.exp(X))
    same(gradient, np.exp(X))


def test_unused_inputs_have_zero_derivatives():
    x = tg.Tensor(X)
    fn = lambda x, y: (x * x).sum()  # noqa: E731
    same(func.grad(fn, 1)(x, A), np.zeros((3, 3)))
    same(func.vjp(fn, X, A)[1](1.0)[1], np.zeros((3, 3)))
    same(func.jvp(fn, (X, A), (V, A))[1], 2.0 * X @ V)
    same(func.jvp(lambda x, y: y * 1.0, (X, V), (X, np.zeros(3)))[1], np.zeros(3))
    same(func.jacobian(lambda x: tg.Tensor(V))(X), np.zeros((3, 3)))
    same(func.grad(lambda x: tg.Tensor(1.0))(X), np.zeros(3))
    same(func.hessian(lambda x: tg.Tensor(1.0))(X), np.zeros((3, 3)))


def test_functions_that_return_tuples():
    fn = lambda x, y: (x * y, tg.sin(x), tg.Tensor(V))  # noqa: E731
    (a, b, c), pull = func.vjp(fn, X, V)
    same(a, X * V)
    same(b, np.sin(X))
    same(c, V)
    for gx, gy in (pull(V, X, V), pull((V, X, V))):
        same(gx, V * V + X * np.cos(X))
        same(gy, X * V)
    values, moved = func.jvp(fn, (X, V), (V, X))
    assert type(values) is type(moved) is tuple
    for got, expected in zip(moved, (V * V + X * X, np.cos(X) * V, 0.0 * V), strict=True):
        same(got, expected)


def test_integer_results_do_not_move():
    fn = lambda x: tg.topk(x * x, 2)  # noqa: E731
    (values, indices), (moved, still) = func.jvp(fn, (X,), (V,))
    same(values, [X[2] ** 2, X[1] ** 2])
    same(moved, [2.0 * X[2] * V[2], 2.0 * X[1] * V[1]])
    assert indices.tolist() == [2, 1] and still.tolist() == [0, 0]
    _, pull = func.vjp(fn, X)
    same(pull(np.ones(2), np.zeros(2, int))[0], 2.0 * X * [0.0, 1.0, 1.0])


def test_integer_inputs_raise():
    for transform in (func.grad, func.jacobian, func.hessian, func.value_and_grad):
        with pytest.raises(TypeError, match=r"^requires_grad: expected a floating.*int64; convert"):
            transform(lambda x: x.sum())(np.arange(3))


def test_gradient_dtypes_follow_inputs():
    g32, g64 = func.grad(lambda x, y: (x * y).sum(), (0, 1))(X.astype(np.float32), V)
    assert (g32.dtype, g64.dtype) == (np.float32, np.float64)
    assert func.jvp(lambda x: x * x, (np.float64(0.5),), (0.1,))[1].item() == 0.1


# Nesting


def test_grad_of_grad_of_grad():
    fn = lambda x: x**4  # noqa: E731
    for order, expected in enumerate([32.0, 48.0, 48.0, 24.0, 0.0]):
        same(fn(np.float64(2.0)) if order < 0 else func.grad(fn)(np.float64(2.0)), expected)
        fn = func.grad(fn)


def test_perturbations_are_not_confused():
    one = np.float64(1.0)
    inner = lambda x: func.grad(lambda y: x + y)(one)  # noqa: E731
    same(func.grad(lambda x: x * inner(x))(one), 1.0)  # 2 where x and y are confused
    inner = lambda x: func.grad(lambda y: x * y)(one)  # noqa: E731
    same(func.grad(lambda x: x * inner(x))(np.float64(3.0)), 6.0)
    same(func.jvp(lambda x: x * func.jvp(lambda y: x * y, (one,), (one,))[1], (one,), (one,))[1], 2)
    same(func.grad(lambda x: x * func.jvp(lambda y: x + y, (one,), (one,))[1])(one), 1.0)


def test_grad_over_a_closure_variable():
    def fn(a):
        return func.grad(lambda x: (a * x**3).sum())(X).sum()

    same(func.grad(fn)(V), 3.0 * X**2)
    same(func.hessian(lambda a: fn(a * a))(V), np.diag(6.0 * X**2))


def test_jvp_of_grad_is_hvp():
    fn = lambda x: tg.sin(x @ A).sum() * quadratic(x)  # noqa: E731
    gradient, product = func.jvp(func.grad(fn), (X,), (V,))
    same(gradient, func.grad(fn)(X).numpy())
    same(product, func.hvp(fn, (X,), (V,))[1].numpy())
    same(product, func.hessian(fn)(X).numpy() @ V)


def test_grad_of_jvp():
    along = lambda x: func.jvp(lambda x: (x**3).sum(), (x,), (V,))[1]  # noqa: E731
    same(func.grad(along)(X), 6.0 * X * V)


def test_grad_by_directions_alone():
    for direction in (lambda v: func.jvp(tg.exp, (X,), (v,))[1],
                      lambda v: func.vjp(tg.exp, X)[1](v)[0]):  # fmt: skip
        same(func.grad(lambda v, d=direction: d(v).sum())(V), np.exp(X))
        (g,) = tg.grad(direction(w := leaf(V)).sum(), w)
        same(g, np.exp(X))
        with tg.no_grad():
            same(direction(w), np.exp(X) * V)
    same(func.grad(lambda v: func.hvp(lambda x: (x**3).sum(), (X,), (v,))[1].sum())(V), 6.0 * X)


def test_grad_of_vjp_and_of_its_cotangent():
    same(func.grad(lambda x: func.vjp(tg.exp, x)[1](V)[0].sum())(X), np.exp(X) * V)
    same(func.grad(lambda v: func.vjp(tg.exp, X)[1](v)[0].sum())(V), np.exp(X))


def test_jacobian_of_grad_is_hessian():
    fn = lambda x: (x[0] * x[1] ** 2) * x[2]  # noqa: E731
    same(func.jacobian(func.grad(fn))(X), func.hessian(fn)(X).numpy())
    same(func.hessian(fn)(X), [
        [0.0, 2.0 * X[1] * X[2], X[1] ** 2],
        [2.0 * X[1] * X[2], 2.0 * X[0] * X[2], 2.0 * X[0] * X[1]],
        [X[1] ** 2, 2.0 * X[0] * X[1], 0.0],
    ])  # fmt: skip


def test_grad_of_hessian_and_of_hvp():
    same(func.grad(lambda x: func.hessian(lambda x: (x**4).sum())(x).sum())(X), 24.0 * X)

    def both(x):
        value, product = func.hvp(lambda x: (x**4).sum(), (x,), (V,))
        return value + product.sum()

    same(func.grad(both)(X), 4.0 * X**3 + 24.0 * X * V)


# What carries a graph


def test_results_carry_a_graph_only_inside_an_outer_computation():
    for result in func.value_and_grad(quadratic)(X):
        assert not result.requires_grad
    w = leaf(V)
    results = {
        "grad": func.grad(lambda x: (x * x * w).sum())(X),
        "value": func.value_and_grad(lambda x: (x * w).sum())(X)[0],
        "jvp": func.jvp(lambda x: x * w, (X,), (V,))[1],
        "jacobian": func.jacobian(lambda x: x * w)(X),
        "hvp": func.hvp(lambda x: (x**3 * w).sum(), (X,), (V,))[1],
        "hvp value": func.hvp(lambda x: (x**3 * w).sum(), (X,), (V,))[0],
        "input": func.grad(lambda x: (x * x).sum())(w),
    }
    expected = {
        "grad": 2.0 * X,
        "value": X,
        "jvp": V,
        "jacobian": np.ones(3),
        "hvp": 6.0 * X * V,
        "hvp value": X**3,
        "input": np.full(3, 2.0),
    }
    for name, result in results.items():
        assert result.requires_grad, name
        np.testing.assert_allclose(tg.grad(result.sum(), w)[0].numpy(), expected[name], rtol=1e-12)


def test_transforms_under_no_grad_record_nothing_outside():
    w = leaf(V)
    with tg.no_grad():
        same(func.grad(lambda x: (x * x * w).sum())(X), 2.0 * X * V)
        same(func.grad(lambda x: (x * x).sum())(w), 2.0 * V)
        same(func.jvp(lambda x: x * w, (X,), (V,))[1], V * V)
        same(func.hessian(lambda x: (x * x * w).sum())(X), np.diag(2.0 * V))


def test_transforms_leave_dot_grad_alone():
    w = leaf(V)
    func.hessian(lambda x: (x**3).sum())(w)
    func.jvp(tg.exp, (w,), (V,))
    assert w.grad is None
