"""Watching a step: it runs once, recorded, on small rows, and so does its backward pass.

Every op tells the watcher what it was given and what it made (an observer of the mode), so the
program of a cell, and of its gradients by the primitives' own rules, is simply what happened.
The values themselves are Symbols: a step that looks at them is not compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.gradient import grad
from tinygrad_rnn.autograd.graph import MODE, Value, switched
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.autograd.trace.atoms import Atoms, Untraceable
from tinygrad_rnn.autograd.trace.meaning import Matrix, Meanings, Outer, Row, Scalars, flat
from tinygrad_rnn.kernels.pointwise.table import POINTWISE


class Batch(int):
    """How many rows a step has: this may be handed on, but not looked at."""

    def _looked(self, *others: Any) -> Any:
        raise Untraceable("it looks at the size of the batch")


for _name in """eq ne lt le gt ge hash bool int float add radd sub rsub mul rmul truediv rtruediv
    floordiv rfloordiv mod rmod divmod rdivmod pow rpow neg abs""".split():
    setattr(Batch, f"__{_name}__", Batch._looked)


def _hidden(name: str) -> Any:
    """An attribute that the library reads as it is, others as the watcher shows it."""

    def read(value: Tensor) -> Any:
        ours = sys._getframe(1).f_globals.get("__name__", "").startswith("tinygrad_rnn.")
        watching = [o for o in MODE.get().observers if isinstance(o, Watcher)]
        own = getattr(Tensor, name)
        return watching[-1].shown(name, value) if watching and not ours else own.__get__(value)

    return property(read)


class Symbol(Tensor):
    """A value of a watched step: it may be used, but not looked at."""

    __slots__ = ()

    def _looked(self, *args: Any, **kwargs: Any) -> Any:
        raise Untraceable("it looks at the values of a tensor")

    numpy = item = tolist = backward = retain_grad = register_hook = _looked
    __bool__ = __float__ = __int__ = __index__ = __array__ = _looked
    shape, ndim, size, __len__ = map(_hidden, ("shape", "ndim", "size", "__len__"))
    requires_grad, is_leaf, grad = map(_hidden, ("requires_grad", "is_leaf", "grad"))

    def detach(self) -> Tensor:
        value = super().detach()
        value.__class__ = Symbol
        return value


class Shapes(NamedTuple):
    """The widths of what a step is given: inputs, states, each; the shapes of its parameters."""

    xs: tuple[int, ...]
    states: tuple[int, ...]
    each: tuple[int, ...]
    params: tuple[tuple[int, ...], ...]
    several: bool  # whether xs, and the state, are tuples
    paired: bool
    fixed: tuple[int, ...] = ()  # of (*xs, *states, *each), those that get no gradient


class Traced(NamedTuple):
    """What a step computes, and what its backward pass does."""

    output: Row
    states: tuple[Row, ...]
    gradients: dict[tuple[str, int], Row | Outer]  # of ("x", k), ("state", i), ("each", j), ...
    atoms: Atoms


class Watcher:
    """An observer that keeps the meaning of every array it has seen."""

    def __init__(self, pointwise: Callable[[str], bool]) -> None:
        self.meanings, self.known = Meanings(pointwise), {}  # type: ignore[var-annotated]
        self.backward = False

    def given(self, meaning: Any, shape: tuple[int, ...], dtype: np.dtype, grad: bool) -> Tensor:
        """A Symbol for an input of the step."""
        value = Tensor(np.zeros(shape, dtype), requires_grad=grad)
        self.keep(value, meaning)
        return value

    def keep(self, value: Any, meaning: Any) -> None:
        self.known[id(value._data)] = (value._data, meaning)
        if type(value) is Tensor:
            value.__class__ = Symbol

    def meaning(self, value: Any) -> Any:
        """What an argument of an op stands for."""
        if isinstance(value, Value):
            _, found = self.known.get(id(value._data), (None, None))
            if found is None:
                found = self._number(value._data)
            return found
        if isinstance(value, (list, tuple)) and any(isinstance(v, Value) for v in value):
            return [self.meaning(v) for v in value]
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            return self._number(value)
        return value

    def shown(self, name: str, value: Tensor) -> Any:
        """What a step may know of a value: widths, but neither how many rows there are nor whether
        a gradient is wanted."""
        shape, meaning = value._data.shape, self.meaning(value)
        if name == "ndim":
            return len(shape)
        if name != "shape" or not isinstance(meaning, (Row, Matrix)):
            raise Untraceable(f"it looks at the {name.strip('_')} of a tensor")
        known = isinstance(meaning, Matrix) or flat(meaning)
        return shape if known else (Batch(shape[0]), *shape[1:])

    def _number(self, array: np.ndarray) -> Row:
        if self.backward and array.ndim == 0:
            return self.meanings.number(float(array))
        if self.backward and not array.any():
            return Row((self.meanings.atoms.constant(0.0, array.shape[-1]),))
        raise Untraceable("it uses an array or tensor that it is not given: pass it in params")

    def made(self, name: str, inputs: tuple[Any, ...], outputs: tuple[Value, ...]) -> None:
        """An op ran."""
        arguments = [self.meaning(v) for v in inputs]
        if self.meanings.is_pointwise(name):
            arguments = [
                self.meanings.number(float(v)) if isinstance(v, (int, float, np.number)) else v
                for v in arguments
            ]
        result = self.meanings.result(name, arguments)
        for value, meaning in zip(
            outputs, result if type(result) is tuple else (result,), strict=True
        ):
            self._fits(name, value._data, meaning)
            self.keep(value, meaning)

    def _fits(self, name: str, array: np.ndarray, meaning: Any) -> None:
        fits = not isinstance(meaning, Scalars) or array.ndim == 1
        if isinstance(meaning, Row):
            ndim = 1 if flat(meaning) else 2
            alone = array.ndim == 0 and (meaning.width == 0 or meaning.total)
            fits = alone or (array.ndim == ndim and array.shape[-1] == meaning.width)
        if not fits:
            raise Untraceable(f"{name} with a result of shape {array.shape}")

    def pulled(self, node: Any, g: Any, gradients: Sequence[Any]) -> None:
        """The ops of a backward pass are seen as they run."""


def traced(
    step: Callable[..., Any],
    shapes: Shapes,
    dtype: Any,
    pointwise: Callable[[str], bool] = POINTWISE.__contains__,
) -> Traced:
    """Watch `step` and its backward pass.

    Raises:
        Untraceable: saying why it cannot be compiled.
    """
    first, second = (_traced(step, shapes, np.dtype(dtype), pointwise, n) for n in (1, 3))
    if repr(first[:3]) != repr(second[:3]) or first.atoms.listing() != second.atoms.listing():
        raise Untraceable("what it computes depends on the size of the batch")
    return first


def _traced(
    step: Callable[..., Any],
    shapes: Shapes,
    dtype: np.dtype,
    pointwise: Callable[[str], bool],
    batch: int,
) -> Traced:
    watcher = Watcher(pointwise)
    given = _given(watcher, shapes, dtype, batch)
    xs, states, each, params = given.values()
    with (
        switched(recording=True, definitions=True, observers=(watcher,)),
        np.errstate(all="ignore"),
    ):
        x = tuple(xs) if shapes.several else xs[0]
        result: Any = step(x, tuple(states) if shapes.paired else states[0], *each, *params)
        if not isinstance(result, tuple) or len(result) != 2:
            result = None, None
        output, after = result
        news = after if isinstance(after, tuple) else (after,)
        _check(output, news, states, shapes.paired == isinstance(after, tuple))
        watcher.backward = True
        inputs = {
            (kind, k): v
            for kind, group in given.items()
            for k, v in enumerate(group)
            if v.requires_grad
        }
        found = _gradients([output, *news], _cotangents(watcher, output, news), inputs)
    return Traced(
        watcher.meaning(output),
        tuple(map(watcher.meaning, news)),
        {key: watcher.meaning(d) for key, d in found.items()},
        watcher.meanings.atoms,
    )


def _given(
    watcher: Watcher, shapes: Shapes, dtype: np.dtype, batch: int
) -> dict[str, list[Tensor]]:
    """Symbols for all that a step is given, by kind."""
    leaf = watcher.meanings.atoms.leaf
    found: dict[str, list[Tensor]] = {"x": [], "state": [], "each": [], "param": []}
    for kind, widths in zip(found, (shapes.xs, shapes.states, shapes.each), strict=False):
        for k, n in enumerate(widths):
            live = sum(map(len, found.values())) not in shapes.fixed
            found[kind].append(watcher.given(Row((leaf(kind, k, n),)), (batch, n), dtype, live))
    for k, shape in enumerate(shapes.params):
        vector = Row((leaf("unit", k, shape[0]),), unit=True)
        meaning = vector if len(shape) == 1 else Matrix(k, (0, shape[0]), (0, shape[1]))
        found["param"].append(watcher.given(meaning, shape, dtype, True))
    return found


def _cotangents(watcher: Watcher, output: Tensor, news: Sequence[Tensor]) -> list[Tensor]:
    """Symbols for the cotangents of the output and of the new states."""
    meanings = [Row((watcher.meanings.atoms.leaf("d_out", 0, output.shape[-1]),))]
    meanings += [watcher.meanings.copied("d_state", k, v.shape[-1]) for k, v in enumerate(news)]
    pairs = zip((output, *news), meanings, strict=True)
    return [watcher.given(meaning, v.shape, v.dtype, False) for v, meaning in pairs]


def _check(output: Any, news: Sequence[Any], states: Sequence[Tensor], alike: bool) -> None:
    """The step returned (output, new state) of rows, the states as wide as before."""
    for v in (output, *news):
        if not isinstance(v, Symbol) or v.ndim != 2 or v.dtype != states[0].dtype:
            raise Untraceable("it does not return (output, new state) of rows it computed")
    if not alike or [v.shape for v in news] != [v.shape for v in states]:
        raise Untraceable("its new state has another form than the state it was given")


def _gradients(
    outputs: Sequence[Tensor], cotangents: Sequence[Tensor], inputs: dict[Any, Tensor]
) -> dict[Any, Any]:
    """The gradients of the inputs, as the recorded backward pass leaves them."""
    pairs = [(v, g) for v, g in zip(outputs, cotangents, strict=True) if v.requires_grad]
    values, sent = [v for v, _ in pairs], [g for _, g in pairs]
    found = grad(values, list(inputs.values()), sent, create_graph=True, allow_unused=True)
    return {key: d for key, d in zip(inputs, found, strict=True) if d is not None}
