"""Smooth, well-scaled functions with their vjps by formula."""

from __future__ import annotations

import numpy as np

from benchmarks.checker.problem import Problem, count, kind, some


@kind("smooth")
def mixed_sines(rng):
    n = count(rng)
    a = some(rng, count(rng), n) / np.sqrt(n)
    return Problem(lambda x: np.sin(a @ x), lambda x, g: a.T @ (g * np.cos(a @ x)), [some(rng, n)])


@kind("smooth")
def log_density_of_a_mixture(rng):
    centres = some(rng, count(rng, 2, 5), count(rng))

    def shares(x):
        logs = -0.5 * np.sum((x - centres) ** 2, 1)
        top = logs.max()
        return np.exp(logs - top), top

    def f(x):
        p, top = shares(x)
        return top + np.log(p.sum())

    def vjp(x, g):
        p, _ = shares(x)
        return g * ((p / p.sum()) @ (centres - x))

    return Problem(f, vjp, [some(rng, centres.shape[1])])


@kind("smooth")
def network_of_two_layers(rng):
    i, h, o = count(rng, 1, 8), count(rng, 1, 8), count(rng, 1, 8)

    def vjp(x, w, v, g):
        y = np.tanh(w @ x)
        d = (v.T @ g) * (1 - y * y)
        return w.T @ d, np.outer(d, x), np.outer(g, y)

    arrays = [some(rng, i), some(rng, h, i) / np.sqrt(i), some(rng, o, h)]
    return Problem(lambda x, w, v: v @ np.tanh(w @ x), vjp, arrays)


@kind("smooth")
def linear_system(rng):
    n = count(rng, 1, 8)

    def vjp(a, b, g):
        s = np.linalg.solve(a.T, g)
        return -np.outer(s, np.linalg.solve(a, b)), s

    a = 3 * np.eye(n) + some(rng, n, n) / np.sqrt(n)
    return Problem(np.linalg.solve, vjp, [a, some(rng, n)])


@kind("smooth")
def log_determinant(rng):
    n = count(rng, 1, 7)

    def gram(a):
        return a @ a.T + np.eye(n)

    return Problem(
        lambda a: np.linalg.slogdet(gram(a))[1],
        lambda a, g: 2 * g * np.linalg.solve(gram(a), a),
        [some(rng, n, n)],
    )


@kind("smooth")
def ratio(rng):
    def vjp(x, y, g):
        q = 1 + x * x + y * y
        return g * y * (1 - x * x + y * y) / q**2, g * x * (1 + x * x - y * y) / q**2

    n = count(rng)
    return Problem(lambda x, y: x * y / (1 + x * x + y * y), vjp, [some(rng, n), some(rng, n)])


@kind("smooth")
def curved_valley(rng):
    def f(x):
        return np.sum(20 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def vjp(x, g):
        d, away = np.zeros_like(x), x[1:] - x[:-1] ** 2
        d[1:] += 40 * away
        d[:-1] -= 80 * away * x[:-1] + 2 * (1 - x[:-1])
        return g * d

    return Problem(f, vjp, [some(rng, count(rng, 2))])


@kind("smooth")
def angle(rng):
    n = count(rng)
    r, t = rng.uniform(0.5, 2, n), rng.uniform(-2.5, 2.5, n)

    def vjp(y, x, g):
        q = x * x + y * y
        return g * x / q, -g * y / q

    return Problem(np.arctan2, vjp, [r * np.sin(t), r * np.cos(t)])


@kind("smooth")
def circular_convolution(rng):
    n = count(rng)

    def product(a, b):
        return np.fft.irfft(a * b, n)

    def vjp(x, k, g):
        fx, fk, fg = map(np.fft.rfft, (x, k, g))
        return product(fk.conj(), fg), product(fx.conj(), fg)

    return Problem(
        lambda x, k: product(np.fft.rfft(x), np.fft.rfft(k)), vjp, [some(rng, n), some(rng, n)]
    )


@kind("smooth")
def unit_vector(rng):
    def vjp(x, g):
        size = np.linalg.norm(x)
        return (g - x * (x @ g) / size**2) / size

    return Problem(lambda x: x / np.linalg.norm(x), vjp, [some(rng, count(rng, 2))])


@kind("smooth")
def cube_of_a_matrix(rng):
    n = count(rng, 1, 7)

    def vjp(a, g):
        t = a.T
        return g @ t @ t + t @ g @ t + t @ t @ g

    return Problem(lambda a: a @ a @ a, vjp, [some(rng, n, n) / np.sqrt(n)])


@kind("smooth")
def softened_distances(rng):
    def f(x):
        return np.sqrt(np.sum((x[:, None] - x) ** 2, 2) + 1)

    def vjp(x, g):
        w = (g + g.T) / f(x)
        return w.sum(1)[:, None] * x - w @ x

    return Problem(f, vjp, [some(rng, count(rng, 2, 6), count(rng, 1, 4))])


@kind("smooth")
def layer_norm(rng):
    def parts(x):
        away = x - x.mean(1, keepdims=True)
        return away, 1 / np.sqrt(np.mean(away**2, 1, keepdims=True) + 0.1)

    def vjp(x, g):
        away, scale = parts(x)
        y = away * scale
        return scale * (g - g.mean(1, keepdims=True) - y * np.mean(g * y, 1, keepdims=True))

    return Problem(
        lambda x: np.multiply(*parts(x)), vjp, [some(rng, count(rng, 1, 5), count(rng, 2, 8))]
    )


@kind("smooth")
def trilinear_form(rng):
    sizes = [count(rng, 1, 6) for _ in range(3)]
    a = some(rng, *sizes)

    def vjp(x, y, z, g):
        return tuple(
            g * np.einsum(spec, a, *rest)
            for spec, rest in (
                ("ijk,j,k->i", (y, z)),
                ("ijk,i,k->j", (x, z)),
                ("ijk,i,j->k", (x, y)),
            )
        )

    return Problem(
        lambda x, y, z: np.einsum("ijk,i,j,k->", a, x, y, z), vjp, [some(rng, n) for n in sizes]
    )


@kind("smooth")
def keplers_equation(rng):
    def solved(mean, e):
        angle = mean + 0.0
        for _ in range(10):  # 6 are enough
            angle = angle - (angle - e * np.sin(angle) - mean) / (1 - e * np.cos(angle))
        return angle

    def vjp(mean, e, g):
        angle = solved(mean, e)
        slope = g / (1 - e * np.cos(angle))
        return slope, slope * np.sin(angle)

    n = count(rng)
    return Problem(solved, vjp, [rng.uniform(-2, 2, n), rng.uniform(0.1, 0.6, n)])


@kind("smooth")
def attention(rng):
    n, d = count(rng, 1, 5), count(rng, 1, 4)

    def weights(q, k):
        e = np.exp(q @ k.T / np.sqrt(d))
        return e / e.sum(1, keepdims=True)

    def vjp(q, k, v, g):
        p = weights(q, k)
        d_p = g @ v.T
        s = p * (d_p - np.sum(p * d_p, 1, keepdims=True)) / np.sqrt(d)
        return s @ k, s.T @ q, p.T @ g

    return Problem(lambda q, k, v: weights(q, k) @ v, vjp, [some(rng, n, d) for _ in range(3)])


@kind("smooth")
def unused_input(rng):
    def vjp(x, y, g):
        return g * np.cos(x), np.zeros_like(y)

    return Problem(lambda x, y: np.sin(x), vjp, [some(rng, count(rng)), some(rng, count(rng))])
