"""Parameters and states of recurrent layers and cells: drawn, named and checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.generator import default_rng
from tinygrad_rnn.autograd.graph import Array, shape_of
from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.module import Module, Parameter, check_dtype
from tinygrad_rnn.nn.sequences import sequence_mask

Shape = tuple[int, ...]
FIXED = {"gain": 1.0, "shift": 0.0}  # what parameters of such names begin with


def drawn(
    layer: Module, shapes: dict[str, Shape], suffix: str, bias: bool, **options: Any
) -> list[str]:
    """Give a layer its parameters, drawn as torch draws them, gains of 1, shifts of 0; their
    attributes' names."""
    names = [n for n in shapes if bias or not n.startswith("bias")]
    for name in names:
        if (kind := name.partition("_")[0]) in FIXED:
            values = np.full(shapes[name], FIXED[kind], options["dtype"])
            setattr(layer, name + suffix, Parameter(values))
        else:
            setattr(layer, name + suffix, init.uniform(*shapes[name], **options))
    return [name + suffix for name in names]


def checked_state(
    where: str, state: Any, shapes: Sequence[Shape], dtype: np.dtype, layout: str
) -> list[Array]:
    """The parts of a state, each of its shape and dtype; one part alone is no tuple."""
    several = len(shapes) > 1
    size = len(state) if isinstance(state, (tuple, list)) else 0
    if size != len(shapes) * several:
        names = ", ".join(map(state_name, range(len(shapes))))
        raise TypeError(
            f"{where}: expected the state as {'a tuple' if several else 'one tensor'} ({names}), "
            f"got {type(state).__name__}{f' of {size}' if size else ''}; "
            "pass what the layer returned, or None for zeros"
        )
    parts = list(state) if several else [state]
    for k, part in enumerate(parts):
        name, got = state_name(k), shape_of(part)
        if got != shapes[k]:
            raise ValueError(f"{where}: expected {name} of shape {shapes[k]}, got {got}; {layout}")
        check_dtype(where, name, part, dtype)
    return parts


def state_name(k: int) -> str:
    """What a part of a state is called."""
    return ("h_0", "c_0")[k] if k < 2 else f"state_{k}"


def checked_resets(where: str, reset: Any, shape: Shape, turned: bool, lengths: Any) -> Any:
    """Where sequences begin, (T, B), read forwards and backwards: backwards at their last steps,
    but where the scan itself begins."""
    array = np.asarray(reset, dtype=bool)
    if array.shape != shape:
        axes = "(T,)" if len(shape) == 1 else "(B, T)" if turned else "(T, B)"
        raise ValueError(
            f"{where}: expected reset of shape {axes}, {shape}, got {array.shape}; it is true at "
            "the first steps of sequences"
        )
    array = array[:, None] if len(shape) == 1 else array.T if turned else array
    if lengths is not None:
        array = array & sequence_mask(lengths, len(array))
    return array, np.concatenate([array[1:], np.zeros_like(array[:1])])


def ones(p: float, shape: Shape, dtype: Any, rng: np.random.Generator | None) -> np.ndarray:
    """1 with probability p, to within 2⁻¹⁷, else 0."""
    size = math.prod(shape)
    bits = default_rng(rng).integers(0, 2**64, -(-size // 4), np.uint64).view(np.uint16)
    return (bits[:size] < round(p * 2**16)).reshape(shape).astype(dtype)
