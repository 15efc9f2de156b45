"""What the tests of the checkers share: functions to judge, and how."""

import functools

import numpy as np

import tinygrad_rnn as tg

SIN = (np.sin, lambda x, g: g * np.cos(x))
SQUARE = (np.square, lambda x, g: 2 * g * x)
PRODUCT = (np.multiply, lambda x, y, g: (g * y, g * x))
MATMUL = (np.matmul, lambda a, b, g: (g @ b.T, a.T @ g))
BIAS = (np.add, lambda a, b, g: (g, g.sum(0)))


def judge(fn, *inputs, check=tg.testing.gradcheck, **options):
    with np.errstate(all="ignore"):
        return check(fn, list(inputs), raise_exception=False, **options)


exactly = functools.partial(judge, check=tg.testing.exact_gradcheck)


def verdicts(fn, draw, seeds, **options):
    """How often each verdict is given at inputs drawn by `draw(generator)`."""
    found = {"pass": 0, "fail": 0, "unsure": 0}
    for seed in range(seeds):
        found[judge(fn, draw(np.random.default_rng(seed)), rng=seed, **options).verdict] += 1
    return found


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def noisy(level, f=np.sin, df=np.cos):
    """f with deterministic noise of a relative size."""

    def value(x):
        mixed = np.frombuffer(np.ascontiguousarray(x).tobytes(), np.uint64)
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        noise = (mixed >> np.uint64(11)) / 2**53 - 0.5
        return f(x) * (1 + level * noise.reshape(x.shape))

    return value, lambda x, g: g * df(x)


def scaled(pair, factor):
    """A pair with its gradients multiplied by a factor."""
    f, vjp = pair

    def wrong(*arguments):
        found = vjp(*arguments)
        several = found if isinstance(found, tuple) else (found,)
        return tuple(d * factor for d in several)

    return f, wrong
