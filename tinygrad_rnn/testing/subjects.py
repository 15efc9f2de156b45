"""What is checked: a function of Tensors, or a pair (f, vjp) of NumPy functions, seen alike.

A subject computes on vectors: all its inputs joined, all its outputs joined. Outputs that are not
floating-point numbers have no derivative and are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.gradient import grad
from tinygrad_rnn.autograd.graph import Array, leaf, read_only, unwrap, wrap
from tinygrad_rnn.autograd.tensor import Tensor


class Space:
    """Several arrays as one vector."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.shapes = [a.shape for a in arrays]
        self.ends = list(itertools.accumulate(a.size for a in arrays))
        self.size = self.ends[-1]
        self.slices = [slice(end - a.size, end) for end, a in zip(self.ends, arrays, strict=True)]

    def join(self, arrays: Sequence[Array | None]) -> Array:
        """One vector of float64; None counts as zeros."""
        if len(arrays) == 1 and arrays[0] is not None:
            return np.asarray(arrays[0], np.float64).ravel()
        parts = [np.zeros(s) if a is None else a for a, s in zip(arrays, self.shapes, strict=True)]
        return np.concatenate(parts, axis=None, dtype=np.float64)

    def split(self, vector: Array) -> list[Array]:
        pairs = zip(self.slices, self.shapes, strict=True)
        return [vector[part].reshape(shape) for part, shape in pairs]

    def place(self, k: int) -> tuple[int, tuple[int, ...]]:
        """Which array element k of the vector is in, and where."""
        which = int(np.searchsorted(self.ends, k, side="right"))
        index = np.unravel_index(k - self.slices[which].start, self.shapes[which])
        return which, tuple(map(int, index))


Arrays = Sequence[Array]
Gradients = Sequence[Array | None]


class Run(NamedTuple):
    """One differentiated evaluation, and its ways back."""

    outputs: list[Array]
    inputs: Arrays  # the memory that the function was given
    back: Callable[[Arrays, bool], Gradients]
    recorded: Callable[[Arrays, Arrays], tuple[Gradients, Callable[[], Gradients]]] | None = None

    def pull(self, cotangents: Arrays, free: bool = False) -> Gradients:
        """The gradient of each input; None where no output depends on one.

        With `free` it is the last pass, and may take apart what was saved.
        """
        return self.back(cotangents, free)


def sequence(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


class TensorFunction:
    """A function of Tensors."""

    modes: tuple[str, ...] = ("vjp", "jvp")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn, self.evaluations = fn, 0

    def outputs(self, xs: Sequence[Any]) -> list[Tensor]:
        self.evaluations += 1
        found = sequence(self.fn(*xs))
        for v in found:
            if not isinstance(v, Tensor):
                raise TypeError(
                    f"gradcheck: expected fn to return a Tensor or several, got {type(v).__name__};"
                    " for functions of NumPy arrays pass the pair (f, vjp)"
                )
        return [v for v in found if v.dtype.kind == "f"]

    def values(self, arrays: Sequence[Array]) -> list[Array]:
        return [unwrap(v) for v in self.outputs(shared(arrays))]

    def run(self, arrays: Sequence[Array], copy: bool = True) -> Run:
        """Evaluate at copies of the arrays, or at the arrays as they lie in memory."""
        xs = leaves(arrays, copy)
        return self.traced(xs, xs)

    def traced(self, arguments: Sequence[Any], inputs: Sequence[Tensor]) -> Run:
        """Evaluate at `arguments`, which were computed from `inputs`."""
        outputs = self.outputs(arguments)
        live = [k for k, v in enumerate(outputs) if v.requires_grad]
        ends = [outputs[k] for k in live]

        def back(cotangents: Arrays, free: bool) -> Gradients:
            gs = shared([cotangents[k] for k in live])
            found = grad(ends, inputs, gs, retain_graph=not free, allow_unused=True)
            return [unwrap(d) for d in found]

        def recorded(cotangents: Arrays, tangents: Arrays) -> Any:
            """The gradients, and what gives the outputs' derivative along `tangents`: a gradient
            is linear in its cotangents, and pulling tangents back through it pushes them forward.
            """
            gs = leaves([cotangents[k] for k in live], copy=False)
            found = grad(ends, inputs, gs, create_graph=True, allow_unused=True)

            def push() -> Gradients:
                moved: list[Array | None] = [None] * len(outputs)
                linear = [k for k, d in enumerate(found) if d is not None and d.requires_grad]
                if linear:
                    ts = shared([tangents[k] for k in linear])
                    pushed = grad([found[k] for k in linear], gs, ts, allow_unused=True)
                    for k, d in zip(live, pushed, strict=True):
                        moved[k] = unwrap(d)
                return moved

            return [unwrap(d) for d in found], push

        values, memory = ([unwrap(v) for v in several] for several in (outputs, inputs))
        return Run(values, memory, back, recorded)

    def pullback(self, count: int) -> TensorFunction:
        """The function (`count` inputs, cotangents of the outputs) -> gradients of the inputs."""

        def pulled(*arguments: Any) -> list[Tensor]:
            recorded = any(v.requires_grad for v in arguments)
            xs = [v if v.requires_grad else leaves([v.numpy()])[0] for v in arguments[:count]]
            pairs = zip(self.outputs(xs), arguments[count:], strict=True)
            live = [(v, g) for v, g in pairs if v.requires_grad]
            found: Sequence[Any] = [None] * count
            if live:
                outputs, gs = zip(*live, strict=True)
                found = grad(outputs, xs, gs, create_graph=recorded, allow_unused=True)
            return [x.detach() * 0.0 if d is None else d for x, d in zip(xs, found, strict=True)]

        return TensorFunction(pulled)


def shared(arrays: Arrays) -> list[Tensor]:
    """Tensors that share the memory of arrays and do not write it."""
    return [wrap(read_only(a)) for a in arrays]


def leaves(arrays: Sequence[Array], copy: bool = True) -> list[Tensor]:
    """Tensors that want a gradient, at copies of arrays or at the arrays as they lie in memory."""
    return [wrap(a, leaf(a)) for a in (np.array(a) if copy else read_only(a) for a in arrays)]


class Pair:
    """NumPy functions f(*arrays) -> array and vjp(*arrays, cotangent) -> array or several."""

    modes = ("vjp",)

    def __init__(self, f: Callable[..., Any], vjp: Callable[..., Any]) -> None:
        self.f, self.vjp, self.evaluations = f, vjp, 0

    def values(self, arrays: Sequence[Array]) -> list[Array]:
        self.evaluations += 1
        out = self.f(*arrays)
        if isinstance(out, (tuple, list)) or np.asarray(out).dtype.kind not in "fiub":
            raise TypeError(
                "gradcheck: expected f(*arrays) -> array of the pair (f, vjp), "
                f"got {type(out).__name__}; return one array of real numbers"
            )
        # a copy, as f may use its memory again; a number of Python has no precision of its own
        value = np.array(out, np.result_type(*arrays) if type(out) is float else None)
        return [value] if value.dtype.kind == "f" else []

    def run(self, arrays: Sequence[Array], copy: bool = True) -> Run:
        if copy:
            arrays = [a.copy("K") for a in arrays]
        outputs = self.values(arrays)

        def back(cotangents: Arrays, free: bool) -> Gradients:
            found = self.vjp(*arrays, *cotangents)
            several = len(arrays) > 1 or np.ndim(found) > arrays[0].ndim
            found = sequence(found) if several or isinstance(found, tuple) else [found]
            if len(found) != len(arrays):
                raise ValueError(
                    "gradcheck: expected vjp(*arrays, cotangent) to return one gradient per input "
                    f"({len(arrays)}), got {len(found)}"
                )
            return [None if d is None else np.array(d) for d in found]

        return Run(outputs, arrays, back)


Subject = TensorFunction | Pair
