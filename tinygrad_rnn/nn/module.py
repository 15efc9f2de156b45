"""`Module`: a tree of parameters. It is found by walking attributes; nothing is registered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.autograd.writes import assign


class Parameter(Tensor):
    """A tensor that a module trains: it requires a gradient."""

    __slots__ = ()

    def __init__(self, array: Any, requires_grad: bool = True, dtype: Any = None) -> None:
        super().__init__(array, requires_grad, dtype)


def check_dtype(where: str, name: str, value: Any, dtype: np.dtype) -> None:
    """Raise unless what a layer is given has the dtype of its weights."""
    got = value.dtype if hasattr(value, "dtype") else type(value).__name__
    if not isinstance(got, np.dtype) or got != dtype:
        raise TypeError(
            f"{where}: expected {name} of the weights' dtype {dtype}, got {got}; "
            f"convert with .astype('{dtype}') or tg.Tensor({name}, dtype='{dtype}')"
        )


def _fits(array: np.ndarray, parameter: Parameter) -> bool:
    same_shape = array.shape == parameter.shape
    return same_shape and np.can_cast(array.dtype, parameter.dtype, "same_kind")


class Module:
    """Base of all layers: attributes that are parameters or modules make up the tree.

    >>> import tinygrad_rnn as tg
    >>> class Scale(tg.nn.Module):
    ...     def __init__(self):
    ...         self.factor = tg.nn.Parameter([2.0, 3.0])
    ...     def __call__(self, x):
    ...         return x * self.factor
    >>> [name for name, _ in Scale().named_parameters()]
    ['factor']
    """

    training: bool = True

    def _named(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Every parameter and module below this one, with its dotted name, in order."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value
            elif isinstance(value, Module):
                yield prefix + name, value
                yield from value._named(f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their names; one that has several names comes once."""
        seen: set[int] = set()
        for name, value in self._named():
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter, by name."""
        return {n: v.numpy().copy() for n, v in self._named() if isinstance(v, Parameter)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Write arrays into the parameters; names, shapes and kinds must agree, or nothing is
        changed.

        Raises:
            ValueError: naming the missing, unexpected or wrong arrays.
        """
        own = {n: v for n, v in self._named() if isinstance(v, Parameter)}
        arrays = {n: np.asarray(a) for n, a in state.items()}
        missing, extra = sorted(own.keys() - arrays.keys()), sorted(arrays.keys() - own.keys())
        wrong = [
            f"{n}: expected {p.shape} {p.dtype}, got {arrays[n].shape} {arrays[n].dtype}"
            for n, p in own.items()
            if n in arrays and not _fits(arrays[n], p)
        ]
        if missing or extra or wrong:
            raise ValueError(
                f"load_state_dict: expected the parameters of {type(self).__name__}, got "
                f"missing {missing}, unexpected {extra}, wrong {wrong}"
            )
        arrays = {n: arrays[n].astype(p.dtype) for n, p in own.items()}
        for name, parameter in own.items():
            assign(parameter, arrays[name])

    def extra_repr(self) -> str:
        """What `print(module)` says of it besides its name and the modules below it."""
        return ""

    def __repr__(self) -> str:
        below = [f"({n}): {v!r}" for n, v in vars(self).items() if isinstance(v, Module)]
        name, extra = type(self).__name__, self.extra_repr()
        if not below:
            return f"{name}({extra})"
        lines = "\n".join([extra, *below] if extra else below).replace("\n", "\n  ")
        return f"{name}(\n  {lines}\n)"

    def train(self, mode: bool = True) -> Self:
        """Switch this module and those below to training (dropout on), or off."""
        self.training = mode
        for _, value in self._named():
            if isinstance(value, Module):
                value.training = mode
        return self

    def eval(self) -> Self:
        """Switch this module and those below to evaluation."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.grad = None
