"""Initial weights: arrays from an explicit generator.

Matrices are (outputs, inputs), as in `Linear`: fan_in is the second size, fan_out the first, times
the sizes of any further axes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.generator import default_rng
from tinygrad_rnn.nn.module import Parameter

Rng = np.random.Generator | None


def uniform(*shape: int, fan: int, rng: Rng, dtype: Any = np.float32) -> Parameter:
    """Draws from [-1/√fan, 1/√fan], as torch initialises its linear and recurrent layers.

    >>> uniform(2, 4, fan=4, rng=None).shape
    (2, 4)
    """
    return _within(1.0 / math.sqrt(fan) if fan else 0.0, shape, rng, dtype)


def normal(*shape: int, rng: Rng, dtype: Any = np.float32, std: float = 1.0) -> Parameter:
    """Draws from the normal distribution around 0.

    >>> normal(2, 4, std=0.01, rng=None).shape
    (2, 4)
    """
    return Parameter(std * default_rng(rng).standard_normal(shape), dtype=dtype)


def xavier_uniform(*shape: int, gain: float = 1.0, rng: Rng, dtype: Any = np.float32) -> Parameter:
    """Draws from [-a, a], a = gain·√(6 / (fan_in + fan_out)).

    Glorot & Bengio (2010), Understanding the difficulty of training deep feedforward neural
    networks, eq. 16.

    >>> xavier_uniform(3, 5, rng=None).shape
    (3, 5)
    """
    bound = gain * math.sqrt(6 / max(sum(_fans("xavier_uniform", shape)), 1))
    return _within(bound, shape, rng, dtype)


def xavier_normal(*shape: int, gain: float = 1.0, rng: Rng, dtype: Any = np.float32) -> Parameter:
    """Draws around 0 with the standard deviation gain·√(2 / (fan_in + fan_out)).

    Glorot & Bengio (2010), Understanding the difficulty of training deep feedforward neural
    networks, eq. 12.

    >>> xavier_normal(3, 5, rng=None).shape
    (3, 5)
    """
    std = gain * math.sqrt(2 / max(sum(_fans("xavier_normal", shape)), 1))
    return normal(*shape, rng=rng, dtype=dtype, std=std)


def kaiming_uniform(
    *shape: int, gain: float = 2**0.5, mode: str = "fan_in", rng: Rng, dtype: Any = np.float32
) -> Parameter:
    """Draws from [-a, a], a = gain·√(3 / fan).

    Args:
        gain: √2 for layers whose outputs go through a relu, 1 for linear ones.
        mode: "fan_in" keeps the variance of outputs, "fan_out" that of gradients.

    He, Zhang, Ren & Sun (2015), Delving Deep into Rectifiers, §2.2.

    >>> kaiming_uniform(3, 5, rng=None).shape
    (3, 5)
    """
    fan = _fan("kaiming_uniform", shape, mode)
    return _within(gain * math.sqrt(3 / max(fan, 1)), shape, rng, dtype)


def kaiming_normal(
    *shape: int, gain: float = 2**0.5, mode: str = "fan_in", rng: Rng, dtype: Any = np.float32
) -> Parameter:
    """Draws around 0 with the standard deviation gain/√fan.

    Args:
        gain, mode: as of `kaiming_uniform`.

    He, Zhang, Ren & Sun (2015), Delving Deep into Rectifiers, eq. 10 and 14.

    >>> kaiming_normal(3, 5, rng=None).shape
    (3, 5)
    """
    std = gain / math.sqrt(max(_fan("kaiming_normal", shape, mode), 1))
    return normal(*shape, rng=rng, dtype=dtype, std=std)


def orthogonal(
    *shape: int, gain: float = 1.0, blocks: int = 1, rng: Rng, dtype: Any = np.float32
) -> Parameter:
    """gain·Q, Q drawn evenly from the matrices with orthonormal rows, or columns if it is taller
    than wide.

    Args:
        blocks: how many such matrices stand one below another: the gates of a recurrent layer's
            weight_hh (4H, H) are 4.

    Shapes:
        (m, n), or (m, ...) as a matrix of m rows

    Saxe, McClelland & Ganguli (2014), Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks, §3; drawn as Mezzadri (2007), How to generate random matrices from the
    classical compact groups, §5.

    >>> w = orthogonal(8, 2, blocks=4, rng=None, dtype="float64").numpy()
    >>> bool(np.allclose(w[2:4] @ w[2:4].T, np.eye(2)))
    True
    """
    _fans("orthogonal", shape)
    if shape[0] % blocks:
        raise ValueError(
            f"orthogonal: expected rows that {blocks} blocks share equally, got {shape[0]}; "
            "blocks= is the number of gates"
        )
    rows, columns = shape[0] // blocks, math.prod(shape[1:])
    draws = default_rng(rng).standard_normal((blocks, max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(draws)
    q = q * np.where(np.diagonal(r, axis1=1, axis2=2) < 0, -1.0, 1.0)[:, None, :]
    return Parameter(gain * (q if rows >= columns else q.mT).reshape(shape), dtype=dtype)


def identity(*shape: int, gain: float = 1.0, dtype: Any = np.float32) -> Parameter:
    """gain on the diagonal of a matrix, 0 elsewhere.

    Le, Jaitly & Hinton (2015), A Simple Way to Initialize Recurrent Networks of Rectified Linear
    Units, §2.

    >>> identity(2, 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    if len(shape) != 2:
        raise ValueError(f"identity: expected a matrix's shape (m, n), got {shape}; give two sizes")
    return Parameter(gain * np.eye(*shape), dtype=dtype)


def constant(*shape: int, value: float, dtype: Any = np.float32) -> Parameter:
    """The same number everywhere.

    >>> constant(2, value=-1.0).tolist()
    [-1.0, -1.0]
    """
    return Parameter(np.full(shape, value), dtype=dtype)


def zeros(*shape: int, dtype: Any = np.float32) -> Parameter:
    """0 everywhere.

    >>> zeros(2).tolist()
    [0.0, 0.0]
    """
    return constant(*shape, value=0.0, dtype=dtype)


def ones(*shape: int, dtype: Any = np.float32) -> Parameter:
    """1 everywhere.

    >>> ones(2).tolist()
    [1.0, 1.0]
    """
    return constant(*shape, value=1.0, dtype=dtype)


def _within(bound: float, shape: tuple[int, ...], rng: Rng, dtype: Any) -> Parameter:
    return Parameter(default_rng(rng).uniform(-bound, bound, shape), dtype=dtype)


def _fans(where: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """fan_in and fan_out."""
    if len(shape) < 2:
        raise ValueError(
            f"{where}: expected the shape of a matrix (outputs, inputs, ...), got {shape}; "
            "for a vector use uniform, zeros or constant"
        )
    rest = math.prod(shape[2:])
    return shape[1] * rest, shape[0] * rest


def _fan(where: str, shape: tuple[int, ...], mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{where}: expected mode 'fan_in' or 'fan_out', got {mode!r}")
    return _fans(where, shape)[mode == "fan_out"]
