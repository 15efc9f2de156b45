"""`Recurrent`: everything of a recurrent layer that is not the recurrence."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Array, shape_of, switched, wrap
from tinygrad_rnn.autograd.ops.shape import concatenate, reshape, stack, transpose, unstack
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.cells import Shapes
from tinygrad_rnn.nn.layers import check_share, dropout
from tinygrad_rnn.nn.module import Module, Parameter, check_dtype
from tinygrad_rnn.scan import Step, scan

Shape = tuple[int, ...]
FIXED = {"gain": 1.0, "shift": 0.0}  # what parameters of such names begin with


def name_of(step: Step) -> str:
    return getattr(step, "__name__", type(step).__name__)


def check_sizes(where: str, **sizes: int) -> None:
    """Raise unless all sizes are whole and at least 1."""
    if not all(isinstance(n, (int, np.integer)) and n >= 1 for n in sizes.values()):
        got = ", ".join(f"{name}={n}" for name, n in sizes.items())
        raise ValueError(f"{where}: expected sizes of at least 1, got {got}")


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
        names = ", ".join(map(_part, range(len(shapes))))
        raise TypeError(
            f"{where}: expected the state as {'a tuple' if several else 'one tensor'} ({names}), "
            f"got {type(state).__name__}{f' of {size}' if size else ''}; "
            "pass what the layer returned, or None for zeros"
        )
    parts = list(state) if several else [state]
    for k, part in enumerate(parts):
        if shape_of(part) != shapes[k]:
            raise ValueError(
                f"{where}: expected {_part(k)} of shape {shapes[k]}, got {shape_of(part)}; {layout}"
            )
        check_dtype(where, _part(k), part, dtype)
    return parts


def _part(k: int) -> str:
    return ("h_0", "c_0")[k] if k < 2 else f"state[{k}]"


def _ends(state: Any) -> tuple[Array, ...]:
    return state if isinstance(state, tuple) else (state,)


class Recurrent(Module):
    """A layer from any cell: its step over the sequence, stacked and in one or both directions.

        output_t, s_t = step(x_t, s_{t-1}, *params)

    Args:
        step: the cell, `step(x, state, *params) -> (output, new state)`; see `nn.cells`. The width
            of a layer's output is that of the step's.
        input_size: features per step, I.
        hidden_size: units, H.
        shapes: a function of I and H: the parameters' names and shapes, in the order in which the
            step takes them. Cells of `nn.cells` bring theirs.
        states: how many parts the state has, each H wide; or their widths; by default those of the
            cell, or 1. A state of one part is a tensor, of several a tuple.
        num_layers: layers, L; each reads the outputs of the one below.
        bias: if false, parameters whose names begin with "bias" are left out; those whose names
            begin with "gain" are 1 at first, with "shift" 0.
        batch_first: whether x and the output are (B, T, ...); states are the same either way.
        dropout: the share of every layer's outputs, but the last one's, that is dropped in
            training.
        bidirectional: whether a second set of parameters reads each layer's input from its end,
            D = 2; the outputs of both directions are side by side.
        rng: draws the parameters, each from [-1/√H, 1/√H], and what is dropped; by default the
            default generator, which `tg.checkpoint` needs to drop the same again.

    Called with x, a state (None for zeros) and lengths (B,) in 0..T (None for T): beyond a length
    the output is 0, the state is that of the last valid step, and the reverse direction starts
    there.

    Shapes:
        x (T, B, I); h_0 (L·D, B, H), by layer, then direction
        ->  output (T, B, D·O), O the width of the step's output; h_n (L·D, B, H)
        or, for one sequence, x (T, I); h_0 (L·D, H)  ->  output (T, D·O); h_n (L·D, H)
        parameters `{name}_l{k}` and `{name}_l{k}_reverse`; for k > 0, I is D·O

    Raises:
        ValueError: if a size, x, the state or the lengths do not fit.
        TypeError: if x or a state has another dtype than the weights, or the state other parts.

    >>> import tinygrad_rnn as tg
    >>> def leaky(x, h, weight, bias=None):
    ...     h = 0.9 * h + 0.1 * tg.tanh(tg.linear(tg.concatenate([x, h], -1), weight, bias))
    ...     return h, h
    >>> layer = tg.nn.Recurrent(leaky, 3, 5, lambda i, h: {"weight": (h, i + h), "bias": (h,)})
    >>> output, h_n = layer(tg.zeros(7, 2, 3))
    >>> output.shape, h_n.shape
    ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self,
        step: Step,
        input_size: int,
        hidden_size: int,
        shapes: Shapes | None = None,
        *,
        states: int | Sequence[int] | None = None,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.step, self.rng, self.dtype = step, rng, np.dtype(dtype)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        shapes = shapes or getattr(step, "shapes", None)
        if shapes is None:
            raise TypeError(
                f"{self._where()}: expected shapes, a function of I and H that gives the names and "
                "shapes of the step's parameters; only cells of nn.cells bring their own"
            )
        states = getattr(step, "states", 1) if states is None else states
        self.state_sizes = [hidden_size] * states if isinstance(states, int) else list(states)
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        check_sizes(self._where(), **sizes, states=min(self.state_sizes, default=0))
        self.dropout = check_share(self._where(), "dropout", dropout)
        if dropout and num_layers == 1:
            text = f"dropout={dropout} acts between layers, and there is one; use nn.Dropout"
            warnings.warn(f"{self._where()}: {text}", stacklevel=3)
        self._names: list[list[str]] = []  # of the parameters, by layer and direction
        options = {"fan": hidden_size, "rng": rng, "dtype": dtype}
        self._draw(shapes(input_size, hidden_size), **options)
        self.output_size = self._width()
        for _ in range(1, num_layers):
            below = (1 + bidirectional) * self.output_size
            self._draw(shapes(below, hidden_size), **options)

    def _draw(self, shapes: dict[str, Shape], **options: Any) -> None:
        """The parameters of one more layer."""
        k = len(self._names) // (1 + self.bidirectional)
        for suffix in (f"_l{k}", f"_l{k}_reverse")[: 1 + self.bidirectional]:
            self._names.append(drawn(self, shapes, suffix, self.bias, **options))

    def weights(self, layer: int, reverse: bool = False) -> list[Tensor]:
        """What the step is given, of a layer and direction."""
        names = self._names[2 * layer + reverse if self.bidirectional else layer]
        return [getattr(self, name) for name in names]

    def __call__(self, x: Array, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        parts = self._checked(x, state)
        alone = x.ndim == 2
        if alone:
            x = reshape(x, (len(x), 1, self.input_size))
        elif self.batch_first:
            x = transpose(x, (1, 0, 2))
        output, last = self._stacked(x, self._starts(parts, x), lengths)
        if alone:
            output = reshape(output, (len(output), output.shape[2]))
            last = [reshape(s, (len(s), s.shape[2])) for s in last]
        elif self.batch_first:
            output = transpose(output, (1, 0, 2))
        return output, self._state(last)

    def _stacked(self, x: Any, starts: Sequence[Any], lengths: Any) -> tuple[Any, list[Any]]:
        """Layer after layer, the directions of each side by side: x (T, B, I) to the output and
        the last states (L·D, B, H)."""
        ends: list[tuple[Array, ...]] = []
        for k in range(self.num_layers):
            if k and self.dropout and self.training:
                x = dropout(x, self.dropout, rng=self.rng)
            outputs = []
            for reverse in (False, True)[: 1 + self.bidirectional]:
                start, weights = starts[len(ends)], self.weights(k, reverse)
                y, end = scan(self.step, x, start, weights, lengths=lengths, reverse=reverse)
                outputs.append(y)
                ends.append(_ends(end))
            x = concatenate(outputs, -1) if len(outputs) > 1 else outputs[0]
        if len(ends) == 1:
            return x, [reshape(s, (1, *s.shape)) for s in ends[0]]
        return x, [stack(rows) for rows in zip(*ends, strict=True)]

    def _starts(self, parts: list[Array] | None, x: Array) -> list[Any]:
        """The first state of every layer and direction."""
        count, batch = len(self._names), x.shape[1]
        if parts is None:
            zeros = [wrap(np.zeros((batch, n), x.dtype)) for n in self.state_sizes]
            return [self._state(zeros)] * count
        if count == 1:
            return [self._state([reshape(s, (batch, s.shape[-1])) for s in parts])]
        rows = [unstack(reshape(s, (count, batch, s.shape[-1]))) for s in parts]
        return [self._state(row) for row in zip(*rows, strict=True)]

    def _state(self, parts: Sequence[Any]) -> Any:
        """What the step calls a state of these parts."""
        return tuple(parts) if len(self.state_sizes) > 1 else parts[0]

    def _checked(self, x: Array, state: Any) -> list[Array] | None:
        """The parts of the state, or None; raise unless x and they fit."""
        where, shape, dtype = self._where(), shape_of(x), self._dtype()
        if len(shape) not in (2, 3) or shape[-1] != self.input_size:
            axes, other = ("B, T", "time") if self.batch_first else ("T, B", "batch")
            raise ValueError(
                f"{where}: expected x of shape ({axes}, {self.input_size}), got {shape}; "
                f"for {other}-major input pass batch_first={not self.batch_first}"
            )
        check_dtype(where, "x", x, dtype)
        if state is None:
            return None
        batch = (shape[0 if self.batch_first else 1],) if len(shape) == 3 else ()
        shapes = [(len(self._names), *batch, n) for n in self.state_sizes]
        layout = "a state is (L·D, B, H), or (L·D, H) beside x (T, I), also with batch_first"
        return checked_state(where, state, shapes, dtype, layout)

    def _width(self) -> int:
        """The width of the step's output, by one step on zeros, which must keep its state."""
        sizes, dtype = (self.input_size, *self.state_sizes), self._dtype()
        x, *parts = (np.zeros((2, n), dtype) for n in sizes)
        quiet = switched(recording=False, definitions=True, observers=())
        with quiet, np.errstate(all="ignore"):
            start = self._state([wrap(s) for s in parts])
            output, end = scan(self.step, wrap(x[None]), start, self.weights(0))
        expected, got = ([shape_of(s) for s in _ends(v)] for v in (start, end))
        if got != expected or isinstance(end, tuple) != isinstance(start, tuple):
            raise ValueError(
                f"{self._where()}: expected a step that keeps a state of shapes {expected}, "
                f"got {got}; states= gives the number of its parts, or their widths"
            )
        width: int = output.shape[-1]
        return width

    def _dtype(self) -> np.dtype:
        """That of the weights, if there are any."""
        weights = self.weights(0)
        return weights[0].dtype if weights else self.dtype

    def _where(self) -> str:
        """What messages call this layer."""
        name = type(self).__name__
        return f"{name}({name_of(self.step)})" if type(self) is Recurrent else name

    def extra_repr(self) -> str:
        names = ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
        usual = zip(names, (1, True, False, 0.0, False), strict=True)
        others = [f"{n}={v}" for n, u in usual if (v := getattr(self, n)) != u]
        cell = [name_of(self.step)] if type(self) is Recurrent else []
        return ", ".join([*cell, str(self.input_size), str(self.hidden_size), *others])
