"""Connections across depth, around feed-forward modules and recurrent layers alike.

Around recurrent layers they are called as those: with x, a state and lengths, to (output, state),
the output being 0 beyond a length.
"""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.autograd.graph import Array, shape_of
from tinygrad_rnn.autograd.ops.activation import relu, sigmoid
from tinygrad_rnn.autograd.ops.shape import concatenate
from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.containers import Flow, Sequential, Wiring, checked
from tinygrad_rnn.nn.layers import Linear


class _Around(Wiring):
    """A module whose output is joined with its input; the state is the module's own."""

    module: Any

    def runs(self) -> list[Any]:
        return [self.module]

    def _joined(self, x: Array, y: Array) -> Any:
        raise NotImplementedError

    def _same(self, x: Array, y: Array, remedy: str) -> None:
        if shape_of(x) != shape_of(y):
            raise ValueError(
                f"{type(self).__name__}: expected an output of the input's shape {shape_of(x)}, "
                f"got {shape_of(y)}; {remedy}"
            )

    def __call__(self, x: Array, state: Any = None, lengths: Any = None) -> Any:
        flow = Flow(self, None if state is None else (state,), lengths)
        y = flow.run(self.module, x)
        y = flow.within(self._joined(flow.within(x), y))  # what pads x may be NaN
        return (y, *flow.ends) if flow.recurrent else y


class Residual(_Around):
    """A module's output added to its input.

        y = f(x) + P x, P the identity if there is no projection

    Args:
        module: f, feed-forward or recurrent.
        projection: P, for example `nn.Linear(I, O, bias=False)`, needed if widths differ.

    Shapes:
        x (..., I)  ->  (..., O), I = O without a projection; or as of the recurrent module

    Raises:
        ValueError: if the shapes differ and there is no projection.

    He, Zhang, Ren & Sun (2016), Deep Residual Learning for Image Recognition, eq. 1 and 2.

    >>> import tinygrad_rnn as tg
    >>> layer = tg.nn.Residual(tg.nn.LSTM(3, 3))
    >>> output, (h_n, c_n) = layer(tg.zeros(7, 2, 3), lengths=[7, 4])
    >>> output.shape
    (7, 2, 3)
    """

    def __init__(self, module: Any, projection: Any = None) -> None:
        self.module = checked("Residual", module)
        self.projection = projection

    def _joined(self, x: Array, y: Array) -> Any:
        if self.projection is not None:
            x = self.projection(x)
        self._same(x, y, "pass projection=nn.Linear(I, O)")
        return x + y


class Highway(_Around):
    """A gate lets a module's output or its input through.

        t = σ(W_t x + b_t)
        y = t·f(x) + (1 - t)·x

    Args:
        width: features of x and y, H.
        module: f, feed-forward or recurrent; by default relu(W x + b).
        gate_bias: what b_t is at first: negative, so that the input passes.
        options: dtype and rng, as of `Linear`.

    Shapes:
        x (..., H)  ->  (..., H); or as of the recurrent module;  gate.weight (H, H), gate.bias (H,)

    Raises:
        ValueError: if the module changes the shape.

    Srivastava, Greff & Schmidhuber (2015), Highway Networks, eq. 3 and §2.2.

    >>> import tinygrad_rnn as tg
    >>> deep = tg.nn.Sequential(*(tg.nn.Highway(4, tg.nn.LSTM(4, 4)) for _ in range(8)))
    >>> output, states = deep(tg.zeros(7, 2, 4))
    >>> output.shape, len(states)
    ((7, 2, 4), 8)
    """

    def __init__(
        self, width: int, module: Any = None, *, gate_bias: float = -1.0, **options: Any
    ) -> None:
        plain = Sequential(Linear(width, width, **options), relu) if module is None else module
        self.module, self.gate = checked("Highway", plain), Linear(width, width, **options)
        self.gate.bias = init.constant(width, value=gate_bias, dtype=self.gate.weight.dtype)

    def _joined(self, x: Array, y: Array) -> Any:
        self._same(x, y, "a highway keeps its width; put nn.Linear before it")
        t = sigmoid(self.gate(x))
        return t * y + (1.0 - t) * x


class Dense(Sequential):
    """Every module sees the input and the outputs of all modules before it, side by side.

        x_k = f_k([x, x_1, ..., x_{k-1}]);  y = [x, x_1, ..., x_L]

    Args:
        modules: f_1 ... f_L; f_k takes I features and those of all outputs before it.

    Shapes:
        x (..., I), outputs (..., O_k)  ->  (..., I + O_1 + ... + O_L); states as of `Sequential`

    Raises:
        TypeError, ValueError: as `Sequential`.

    Huang, Liu, van der Maaten & Weinberger (2017), Densely Connected Convolutional Networks, eq. 2.

    >>> import tinygrad_rnn as tg
    >>> stack = tg.nn.Dense(tg.nn.GRU(3, 4), tg.nn.GRU(3 + 4, 4))
    >>> output, states = stack(tg.zeros(7, 2, 3))
    >>> output.shape
    (7, 2, 11)
    """

    def __call__(self, x: Array, state: Any = None, lengths: Any = None) -> Any:
        flow = Flow(self, state, lengths)
        x = flow.within(x)
        for module in self:
            x = concatenate([x, flow.run(module, x)], -1)
        return flow.result(flow.within(x))


class Skip(Sequential):
    """Every module sees the input beside the output of the one before; all outputs are returned.

        x_1 = f_1(x);  x_k = f_k([x_{k-1}, x]);  y = [x_1, ..., x_L]

    Args:
        modules: f_1 ... f_L; f_k takes the features of the output before it, then I.

    Shapes:
        x (..., I), outputs (..., O_k)  ->  (..., O_1 + ... + O_L); states as of `Sequential`

    Raises:
        TypeError, ValueError: as `Sequential`.

    Graves (2013), Generating Sequences With Recurrent Neural Networks, §2.

    >>> import tinygrad_rnn as tg
    >>> stack = tg.nn.Skip(tg.nn.LSTM(3, 4), tg.nn.LSTM(4 + 3, 4))
    >>> output, states = stack(tg.zeros(7, 2, 3))
    >>> output.shape
    (7, 2, 8)
    """

    def __call__(self, x: Array, state: Any = None, lengths: Any = None) -> Any:
        flow = Flow(self, state, lengths)
        x = flow.within(x)
        outputs: list[Any] = []
        for module in self:
            below = concatenate([outputs[-1], x], -1) if outputs else x
            outputs.append(flow.run(module, below))
        return flow.result(flow.within(concatenate(outputs, -1)))
