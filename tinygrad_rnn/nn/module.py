"""`Module`: a tree of parameters. It is found by walking attributes; nothing is registered."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
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


def check_sizes(where: str, least: int = 1, **sizes: Any) -> None:
    """Raise unless all sizes are whole numbers, and large enough."""
    whole = (type(n) is int or isinstance(n, np.integer) for n in sizes.values())
    if not all(whole) or min(sizes.values()) < least:
        got = ", ".join(f"{name}={n!r}" for name, n in sizes.items())
        raise ValueError(f"{where}: expected sizes of at least {least}, got {got}")


def _fault(name: str, value: Any, array: np.ndarray, one: str, twin: np.ndarray) -> str:
    """What is wrong with an array for `value`, given also as `twin` under the name `one`."""
    if array.shape != value.shape or not np.can_cast(array.dtype, value.dtype, "same_kind"):
        return f"{name}: expected {value.shape} {value.dtype}, got {array.shape} {array.dtype}"
    if not np.array_equal(array, twin, equal_nan=array.dtype.kind == twin.dtype.kind == "f"):
        return f"{name}: expected what {one} holds, to which it is tied, got another array"
    return ""


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
    _buffers: Mapping[str, bool] = MappingProxyType({})  # attributes, and whether they are saved

    def _held(self) -> Iterator[tuple[str, Any]]:
        """What stands directly below this module, by name, beside attributes of other kinds."""
        yield from vars(self).items()

    def _named(
        self, prefix: str = "", above: tuple[Module, ...] = ()
    ) -> Iterator[tuple[str, Any, Module]]:
        """Every parameter, buffer and module below, by its dotted name, and whose it is. A module
        that refers back to one above does not have it below."""
        above = (*above, self)
        for name, value in self._held():
            if isinstance(value, Parameter) or name in self._buffers:
                yield prefix + name, value, self
            elif isinstance(value, Module) and not any(value is m for m in above):
                yield prefix + name, value, self
                yield from value._named(f"{prefix}{name}.", above)

    def _once(self, fits: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
        """What fits, each under the first of its names."""
        seen: set[int] = set()
        for name, value, _ in self._named():
            if fits(value) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their names; one that has several names comes once."""
        return self._once(lambda v: isinstance(v, Parameter))

    def parameters(self) -> Iterator[Parameter]:
        """The parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module, named "", and those below it, each once."""
        yield "", self
        yield from self._once(lambda v: isinstance(v, Module) and v is not self)

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """The buffers with their names, each once."""
        return self._once(lambda v: not isinstance(v, (Parameter, Module)))

    def register_buffer(self, name: str, array: Any, persistent: bool = True) -> None:
        """Keep an array that is no parameter as the attribute `name`: `state_dict` has it, and an
        assignment to the attribute changes it.

        Args:
            array: what `Tensor` takes; copied.
            persistent: whether it is part of the state.

        Raises:
            ValueError: if the name is no attribute's, or taken.

        >>> module = Module()
        >>> module.register_buffer("seen", 0)
        >>> module.seen = module.seen + 1
        >>> module.state_dict()
        {'seen': array(1)}
        """
        if not name.isidentifier() or (hasattr(self, name) and name not in self._buffers):
            raise ValueError(
                f"register_buffer: expected a new attribute's name, got {name!r}; "
                f"{type(self).__name__} uses it, or it is no name"
            )
        setattr(self, name, Tensor(array))
        self._buffers = {**self._buffers, name: persistent}

    def _saved(self) -> dict[str, tuple[Tensor, Module]]:
        """What belongs to the state, and whose it is."""
        found: dict[str, tuple[Tensor, Module]] = {}
        for name, value, owner in self._named():
            key = name.rpartition(".")[2]
            if not isinstance(value, Module) and owner._buffers.get(key, True):
                if name in found:
                    raise ValueError(f"state_dict: expected one {name}, got two; rename an item")
                found[name] = value if isinstance(value, Tensor) else Tensor(value), owner
        return found

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter and persistent buffer, under each of its names.

        Raises:
            ValueError: if an item of a container has the name of an attribute.
        """
        return {name: np.array(value) for name, (value, _) in self._saved().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Write arrays into the parameters and buffers; names, shapes and kinds must agree, or
        nothing is changed.

        Of tied parameters one name is enough; if there are more, they must hold the same. To load
        a part, complete it: `load_state_dict(module.state_dict() | part)`.

        Raises:
            ValueError: naming the missing, unexpected or wrong arrays.
        """
        if not isinstance(state, Mapping):
            raise ValueError(f"load_state_dict: expected arrays by their names, got {state!r:.99}")
        own, arrays = self._saved(), {name: np.asarray(a) for name, a in state.items()}
        first: dict[int, str] = {}
        for name in own.keys() & arrays.keys():
            first[id(own[name][0])] = min(name, first.get(id(own[name][0]), name))
        missing = sorted(name for name, (value, _) in own.items() if id(value) not in first)
        extra = sorted(arrays.keys() - own.keys(), key=str)
        given = [(name, v, first[id(v)]) for name, (v, _) in own.items() if name in arrays]
        wrong = [text for n, v, one in given if (text := _fault(n, v, arrays[n], one, arrays[one]))]
        if missing or extra or wrong:
            raise ValueError(
                f"load_state_dict: expected the parameters of {type(self).__name__}, got "
                f"missing {missing}, unexpected {extra}, wrong {wrong}"
            )
        ready = {name: arrays[name].astype(value.dtype) for name, value, _ in given}
        for name, array in ready.items():
            value, owner = own[name]
            if isinstance(value, Parameter):
                assign(value, array)
            else:
                setattr(owner, name.rpartition(".")[2], Tensor(array))

    def extra_repr(self) -> str:
        """What `print(module)` says of it besides its name and the modules below it."""
        return ""

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        below = [f"({n}): {v!r}" for n, v in self._held() if isinstance(v, Module)]
        name, extra = type(self).__name__, self.extra_repr()
        if not below:
            return f"{name}({extra})"
        lines = "\n".join([extra, *below] if extra else below).replace("\n", "\n  ")
        return f"{name}(\n  {lines}\n)"

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module below, then on this one."""
        for _, module in reversed([*self.named_modules()]):
            fn(module)
        return self

    def train(self, mode: bool = True) -> Self:
        """Switch this module and those below to training (dropout on), or off."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch this module and those below to evaluation."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.grad = None
