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
from tinygrad_rnn.autograd.graph import Array, switched
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.creation import from_numpy


class Space:
    """Several arrays as one vector."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.shapes = [a.shape for a in arrays]
        self.ends = list(itertools.accumulate(a.size for a in arrays))
        self.size = self.ends[-1] if arrays else 0

    def join(self, arrays: Sequence[Array | None]) -> Array:
        """One vector of float64; None counts as zeros."""
        if len(arrays) == 1 and arrays[0] is not None:
            return np.asarray(arrays[0], np.float64).ravel()
        parts = [np.zeros(s) if a is None else a for a, s in zip(arrays, self.shapes, strict=True)]
        return np.concatenate([np.zeros(0), *(p.ravel() for p in parts)])

    def split(self, vector: Array) -> list[Array]:
        starts = [0, *self.ends]
        rows = zip(starts[:-1], self.ends, self.shapes, strict=True)
        return [vector[start:end].reshape(shape) for start, end, shape in rows]

    def place(self, k: int) -> tuple[int, tuple[int, ...]]:
        """Which array element k of the vector is in, and where."""
        which = int(np.searchsorted(self.ends, k, side="right"))
        start = [0, *self.ends][which]
        return which, tuple(map(int, np.unravel_index(k - start, self.shapes[which])))


Arrays = Sequence[Array]
Gradients = Sequence[Array | None]


class Run(NamedTuple):
    """One differentiated evaluation, and its ways back."""

    outputs: list[Array]
    inputs: Arrays  # the memory that the function was given
    back: Callable[[Arrays, bool], Gradients]
    recorded: Callable[[Arrays, Arrays], tuple[Gradients, Callable[[], Arrays]]] | None = None

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
        with switched(recording=True):  # a check may be made under no_grad
            found = sequence(self.fn(*xs))
        for v in found:
            if not isinstance(v, Tensor):
                raise TypeError(
                    f"gradcheck: expected fn to return a Tensor or several, got {type(v).__name__};"
                    " for functions of NumPy arrays pass the pair (f, vjp)"
                )
        return [v for v in found if v.dtype.kind == "f"]

    def values(self, arrays: Sequence[Array]) -> list[Array]:
        return [v.numpy() for v in self.outputs([from_numpy(a) for a in arrays])]

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
            gs = [from_numpy(cotangents[k]) for k in live]
            return _numpy(grad(ends, inputs, gs, retain_graph=not free, allow_unused=True))

        def recorded(cotangents: Arrays, tangents: Arrays) -> Any:
            """The gradients, and what gives the outputs' derivative along `tangents`: a gradient
            is linear in its cotangents, and pulling tangents back through it pushes them forward.
            """
            gs = leaves([cotangents[k] for k in live])
            found = grad(ends, inputs, gs, create_graph=True, allow_unused=True)

            def push() -> Arrays:
                moved = [np.zeros_like(v.numpy()) for v in outputs]
                linear = [k for k, d in enumerate(found) if d is not None and d.requires_grad]
                if linear:
                    ts = [from_numpy(tangents[k]) for k in linear]
                    pushed = grad([found[k] for k in linear], gs, ts, allow_unused=True)
                    for k, d in zip(live, pushed, strict=True):
                        moved[k] = moved[k] if d is None else d.numpy()
                return moved

            return _numpy(found), push

        memory = [x.numpy() for x in inputs]
        return Run([v.numpy() for v in outputs], memory, back, recorded)

    def pullback(self, count: int) -> TensorFunction:
        """The function (`count` inputs, cotangents of the outputs) -> gradients of the inputs."""

        def pulled(*arguments: Any) -> list[Tensor]:
            recorded = any(v.requires_grad for v in arguments)
            xs = [v if v.requires_grad else leaves([v])[0] for v in arguments[:count]]
            pairs = zip(self.outputs(xs), arguments[count:], strict=True)
            live = [(v, g) for v, g in pairs if v.requires_grad]
            found: Sequence[Any] = [None] * count
            if live:
                outputs, gs = zip(*live, strict=True)
                found = grad(outputs, xs, gs, create_graph=recorded, allow_unused=True)
            return [x.detach() * 0.0 if d is None else d for x, d in zip(xs, found, strict=True)]

        return TensorFunction(pulled)


def _numpy(gradients: Sequence[Tensor | None]) -> Gradients:
    return [None if d is None else d.numpy() for d in gradients]


def leaves(arrays: Sequence[Array], copy: bool = True) -> list[Tensor]:
    """Tensors that want a gradient, at copies of arrays or at the arrays as they lie in memory."""
    xs = [Tensor(a) if copy else from_numpy(a) for a in arrays]
    for x in xs:
        x.requires_grad = True
    return xs


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
        value = np.array(out)  # f may use its memory again
        return [value] if value.dtype.kind == "f" else []

    def run(self, arrays: Sequence[Array], copy: bool = True) -> Run:
        if copy:
            arrays = [a.copy() for a in arrays]
        outputs = self.values(arrays)

        def back(cotangents: Arrays, free: bool) -> Gradients:
            found = self.vjp(*arrays, *cotangents)
            if len(arrays) > 1 or np.ndim(found) > arrays[0].ndim or isinstance(found, tuple):
                found = sequence(found)
            else:
                found = [found]
            if len(found) != len(arrays):
                raise ValueError(
                    "gradcheck: expected vjp(*arrays, cotangent) to return one gradient per input "
                    f"({len(arrays)}), got {len(found)}"
                )
            return [None if d is None else np.array(d) for d in found]

        return Run(outputs, arrays, back)


Subject = TensorFunction | Pair
