"""`OneLayer`: what each layer and direction of a recurrent layer is by itself."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import shape_of, switched, wrap
from tinygrad_rnn.autograd.ops.shape import broadcast_to, split
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.nn.around import around, changing, dropping, ends, showing, zoneout
from tinygrad_rnn.nn.cells import Shapes
from tinygrad_rnn.nn.layers import check_share, dropout
from tinygrad_rnn.nn.module import Module, Parameter, check_sizes
from tinygrad_rnn.nn.recurrent_parts import Shape, drawn, ones, state_name
from tinygrad_rnn.scan import Step, scan, stepped

RECURRENT = ("weight_hh", "weight_mh", "weight_mg")  # names of what weight_drop drops of
SCAN: ContextVar[Any] = ContextVar("tinygrad_rnn_scan", default=scan)  # how layers run


def name_of(step: Step) -> str:
    return getattr(step, "__name__", type(step).__name__)


class OneLayer(Module):
    """The half of `Recurrent` that knows nothing of the other layers: parameters, a first state,
    and a step with what is put around it."""

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
        locked_dropout: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float | Sequence[float] = 0.0,
        weight_drop: float = 0.0,
        learned_state: bool = False,
        dtype: Any = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.step, self.rng, self.dtype = step, rng, np.dtype(dtype)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self.dropout, self.locked_dropout, self.weight_drop = dropout, locked_dropout, weight_drop
        self.recurrent_dropout, self.zoneout = recurrent_dropout, zoneout
        self.learned_state = learned_state
        states = getattr(step, "states", 1) if states is None else states
        self.state_sizes = [hidden_size] * states if isinstance(states, int) else list(states)
        self._names: list[list[str]] = []  # of the parameters, by layer and direction
        self._build(shapes or getattr(step, "shapes", None))

    def _build(self, shapes: Shapes | None) -> None:
        """Make the parameters."""
        if shapes is None:
            raise TypeError(
                f"{self._where()}: expected shapes, a function of I and H that gives the names and "
                "shapes of the step's parameters; only cells of nn.cells bring their own"
            )
        names = ("input_size", "hidden_size", "num_layers")
        sizes = {name: getattr(self, name) for name in names}
        check_sizes(self._where(), **sizes, states=min(self.state_sizes, default=0))
        self._draw(shapes(self.input_size, self.hidden_size))
        self._check_options()
        self.output_size = self._width()
        for _ in range(1, self.num_layers):
            self._draw(shapes((1 + self.bidirectional) * self.output_size, self.hidden_size))
        for k, n in enumerate(self.state_sizes if self.learned_state else ()):
            zeros = np.zeros((len(self._names), n), self.dtype)
            setattr(self, state_name(k), Parameter(zeros))

    def _draw(self, shapes: dict[str, Shape]) -> None:
        """The parameters of one more layer."""
        k = len(self._names) // (1 + self.bidirectional)
        options = {"fan": self.hidden_size, "rng": self.rng, "dtype": self.dtype}
        for suffix in (f"_l{k}", f"_l{k}_reverse")[: 1 + self.bidirectional]:
            self._names.append(drawn(self, shapes, suffix, self.bias, **options))

    def weights(self, layer: int, reverse: bool = False) -> list[Tensor]:
        """What the step is given, of a layer and direction."""
        names = self._names[2 * layer + reverse if self.bidirectional else layer]
        return [getattr(self, name) for name in names]

    def _scanned(
        self, x: Any, start: Any, index: int, shown: tuple[bool, bool], reset: Any, **options: Any
    ) -> tuple[list[Any], Any]:
        """One layer and direction over x (T, B, I): its output with the states and gates that are
        shown, and its last state."""
        step, xs, each = self._dressed(x)
        if reset is not None and self.learned_state:
            reset = reset, self._state(self._first(index, x.shape[1]))
        step = around(step, showing, *shown) if any(shown) else step
        options |= {"each": each, "reset": reset}
        y, end = SCAN.get()(step, xs if len(xs) > 1 else x, start, self._dropped(index), **options)
        return self._apart(y, *shown) if any(shown) else [y], end

    def _dressed(self, x: Any) -> tuple[Step, tuple[Any, ...], list[Any]]:
        """The step with what is dropped of its state, its xs and each."""
        (steps, batch, _), step, each, kept = x.shape, self.step, list[Any](), list[Any]()
        if self.recurrent_dropout and self.training:
            rows = np.ones((batch, self.state_sizes[0]), x.dtype)
            step = around(step, dropping)
            each.append(dropout(rows, self.recurrent_dropout, rng=self.rng))
        share, count = self.zoneout, len(self.state_sizes)
        shares = [share] * count if type(share) is float else np.broadcast_to(share, count).tolist()
        for p, n in zip(shares, self.state_sizes, strict=True) if any(shares) else ():
            drawn = self.training and p
            shape = steps, batch, n if drawn else 1
            kept.append(ones(p, shape, x.dtype, self.rng) if drawn else np.full(shape, p, x.dtype))
        return around(step, changing, zoneout) if kept else step, (x, *kept), each

    def _dropped(self, index: int) -> list[Tensor]:
        """The weights of a layer and direction, parts of the recurrent ones dropped in training."""
        weights, p = [getattr(self, n) for n in self._names[index]], self.weight_drop
        if p and self.training:
            for k, (w, name) in enumerate(zip(weights, self._names[index], strict=True)):
                if name.startswith(RECURRENT):
                    weights[k] = w * (ones(1.0 - p, w.shape, w.dtype, self.rng) / (1.0 - p))
        return weights

    def _apart(self, y: Any, states: bool, gates: bool) -> list[Any]:
        """The output, states and gates that are side by side."""
        sizes = [self.output_size, *(self.state_sizes if states else [])]
        *parts, rest = split(y, np.cumsum(sizes).tolist(), -1)
        count, odd = divmod(rest.shape[-1], self.hidden_size)
        return [*parts, *([rest] if odd else split(rest, count, -1) if count else [])]

    def _first(self, index: int, batch: int) -> list[Any]:
        """The parts of what a layer and direction begins with where nothing is given."""
        shapes = [(batch, n) for n in self.state_sizes]
        if not self.learned_state:
            return [wrap(np.zeros(shape, self._dtype())) for shape in shapes]
        learned = (getattr(self, state_name(i))[index] for i in range(len(shapes)))
        return [broadcast_to(v, shape) for v, shape in zip(learned, shapes, strict=True)]

    def _state(self, parts: Sequence[Any]) -> Any:
        """What the step calls a state of these parts."""
        return tuple(parts) if len(self.state_sizes) > 1 else parts[0]

    def _check_options(self) -> None:
        """Raise unless the shares are some, and drop something."""
        where, count, names = self._where(), len(self.state_sizes), self._names[0]
        if np.ndim(self.zoneout) and np.shape(self.zoneout) != (count,):
            raise ValueError(
                f"{where}: expected zoneout as one share, or one for each part of the state, "
                f"{count}, got {self.zoneout}"
            )
        for name in ("dropout", "recurrent_dropout", "weight_drop"):
            check_share(where, name, getattr(self, name))
        for p in np.ravel(self.zoneout).tolist():
            check_share(where, "zoneout", p)
        if self.dropout and self.num_layers == 1:
            text = f"dropout={self.dropout} acts between layers, and there is one; use nn.Dropout"
            warnings.warn(f"{where}: {text}", stacklevel=4)
        if self.weight_drop and not any(n.startswith(RECURRENT) for n in names):
            raise ValueError(
                f"{where}: expected parameters to drop of, whose names begin with "
                f"{', '.join(RECURRENT)}, got {', '.join(names)}; leave "
                "weight_drop out, use recurrent_dropout, or rename them"
            )

    def _width(self) -> int:
        """The width of the step's output, by one step on zeros, which must keep its state."""
        sizes, dtype, weights = (self.input_size, *self.state_sizes), self._dtype(), self.weights(0)
        x, *parts = (wrap(np.zeros((2, n), dtype)) for n in sizes)
        quiet = switched(recording=False, definitions=True, observers=())
        with quiet, np.errstate(all="ignore"):
            start = self._state(parts)
            output, end = stepped(self.step, x, start, *weights)
            if self.recurrent_dropout:
                mask = np.full((2, sizes[1]), np.nan, dtype)
                _, new = stepped(around(self.step, dropping), x, start, mask, *weights)
                if not any(np.isnan(np.asarray(s)).any() for s in ends(new)):
                    raise ValueError(
                        f"{self._where()}: expected a step that asks what recurrent_dropout leaves "
                        "of its state, got one that does not; write linear(nn.cells.seen(h), w)"
                    )
        expected, got = ([shape_of(s) for s in ends(v)] for v in (start, end))
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
        return f"{name}({name_of(self.step)})" if name == "Recurrent" else name
