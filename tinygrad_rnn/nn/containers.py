"""Modules of modules: lists, dictionaries, and sequences that also carry the states of recurrent
layers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence
from typing import Any

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.sequences import within


def checked(where: str, module: Any) -> Module:
    """A module, or raise."""
    if not isinstance(module, Module):
        raise TypeError(
            f"{where}: expected a Module, got {module!r}; a function becomes one in nn.Sequential, "
            "and a fully connected layer is nn.Linear"
        )
    return module


class _Container(Module):
    """What lists and dictionaries have in common."""

    _items: Any

    def _held(self) -> Iterator[tuple[str, Any]]:
        yield from super()._held()
        items = self._items
        named = items.items() if isinstance(items, dict) else enumerate(items)
        yield from ((str(name), module) for name, module in named)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, key: Any) -> Any:
        return self._items[key]

    def __delitem__(self, key: Any) -> None:
        del self._items[key]


class ModuleList(_Container, MutableSequence[Module]):
    """A list whose modules are part of the tree, named 0, 1, ...

    Raises:
        TypeError: if an item is no module.

    >>> import tinygrad_rnn as tg
    >>> layers = tg.nn.ModuleList(tg.nn.Linear(2, 2) for _ in range(3))
    >>> del layers[0]
    >>> [name for name, _ in layers.named_parameters()]
    ['0.weight', '0.bias', '1.weight', '1.bias']
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self._items: list[Module] = []
        self.extend(modules)

    def _checked(self, module: Any) -> Module:
        return checked(type(self).__name__, module)

    def __setitem__(self, index: Any, value: Any) -> None:
        several = isinstance(index, slice)
        self._items[index] = [*map(self._checked, value)] if several else self._checked(value)

    def insert(self, index: int, value: Any) -> None:
        """Put a module before the one at `index`."""
        self._items.insert(index, self._checked(value))


class ModuleDict(_Container, MutableMapping[str, Module]):
    """A dictionary whose modules are part of the tree, named by their keys.

    Raises:
        TypeError: if a value is no module.
        ValueError: if a key is no text without dots.

    >>> import tinygrad_rnn as tg
    >>> heads = tg.nn.ModuleDict({"tag": tg.nn.Linear(4, 9)})
    >>> heads["tag"](tg.zeros(2, 4)).shape, list(heads.state_dict())
    ((2, 9), ['tag.weight', 'tag.bias'])
    """

    __hash__ = Module.__hash__
    __eq__ = Module.__eq__

    def __init__(self, modules: MutableMapping[str, Module] | None = None) -> None:
        self._items: dict[str, Module] = {}
        self.update(modules or {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str) or not key or "." in key:
            raise ValueError(
                f"ModuleDict: expected keys of text without dots, got {key!r}; "
                "they become parts of the parameters' names"
            )
        self._items[key] = checked("ModuleDict", value)


class Function(Module):
    """A function of tensors as a module."""

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self.fn = fn

    def __call__(self, x: Array) -> Any:
        return self.fn(x)

    def __repr__(self) -> str:
        return f"{getattr(self.fn, '__name__', self.fn)}"


class Wiring(Module):
    """A module that runs others: it is recurrent if one of them is."""

    def runs(self) -> Iterable[Module]:
        raise NotImplementedError


@functools.cache
def _recurrent(call: Any) -> bool:
    return {"state", "lengths"} <= inspect.signature(call).parameters.keys()


def layouts(module: Any) -> set[bool]:
    """`batch_first` of the recurrent layers that a module runs: empty if there is none.

    Recurrent is what takes (x, state, lengths) by these names and returns (output, state).
    """
    if isinstance(module, Wiring):
        return set().union(*map(layouts, module.runs()))
    recurrent = callable(module) and _recurrent(type(module).__call__)
    return {bool(getattr(module, "batch_first", False))} if recurrent else set()


class Flow:
    """One call of a wiring: hands every recurrent module its state, and collects the new ones."""

    def __init__(self, wiring: Wiring, state: Any, lengths: Any) -> None:
        where, found, self.lengths = type(wiring).__name__, layouts(wiring), lengths
        if len(found) > 1:
            raise ValueError(
                f"{where}: expected recurrent layers of one layout, got some with batch_first=True "
                "and some without; make them all the same"
            )
        count = sum(bool(layouts(module)) for module in wiring.runs())
        self.recurrent, self.batch_first = count > 0, found == {True}
        size = len(state) if isinstance(state, (tuple, list)) else None
        if not count and not (state is None and lengths is None):
            raise TypeError(
                f"{where}: expected x alone, got a state or lengths, and no module here is "
                "recurrent; recurrent is what takes (x, state, lengths)"
            )
        if state is not None and size != count:
            raise TypeError(
                f"{where}: expected the state as a tuple of {count}, one part for each recurrent "
                f"module, got {type(state).__name__}{f' of {size}' if size is not None else ''}; "
                "pass what it returned, or None for zeros"
            )
        self.states = iter([None] * count if state is None else state)
        self.ends: list[Any] = []

    def run(self, module: Any, x: Any) -> Any:
        """The output of one module."""
        if not layouts(module):
            return module(x)
        output, end = module(x, next(self.states), self.lengths)
        self.ends.append(end)
        return output

    def within(self, x: Any) -> Any:
        """x, and 0 beyond the lengths."""
        return x if self.lengths is None else within(x, self.lengths, self.batch_first)

    def result(self, output: Any) -> Any:
        """What the wiring returns."""
        return (output, tuple(self.ends)) if self.recurrent else output


class Sequential(ModuleList, Wiring):
    """Modules, or functions of one tensor, one after another.

    If any of them is recurrent it is called as they are, with x, a state and lengths: they all get
    the lengths, and the state is a tuple with one part for each of them, in order. Modules that are
    not recurrent do not know the lengths.

    Args:
        modules: each takes what the one before returns.

    Shapes:
        x as of the first module  ->  output as of the last; or (output, state) if one is recurrent

    Raises:
        TypeError: if an item is neither a module nor a function, or the state has other parts.
        ValueError: if some recurrent layers are batch_first and some are not.

    >>> import tinygrad_rnn as tg
    >>> nn = tg.nn
    >>> nn.Sequential(nn.Linear(3, 4), tg.relu, nn.Linear(4, 2))(tg.zeros(5, 3)).shape
    (5, 2)
    >>> tagger = nn.Sequential(nn.Embedding(10, 3), nn.LSTM(3, 4), nn.GRU(4, 4), nn.Linear(4, 2))
    >>> logits, (lstm, gru) = tagger([[1, 2], [3, 4], [5, 0]], lengths=[3, 2])
    >>> logits.shape, gru.shape
    ((3, 2, 2), (1, 2, 4))
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__(modules)

    def _checked(self, module: Any) -> Module:
        plain = callable(module) and not isinstance(module, (Module, type))
        return super()._checked(Function(module) if plain else module)

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return type(self)(*found) if isinstance(key, slice) else found

    def runs(self) -> Iterable[Module]:
        return self._items

    def __call__(self, x: Any, state: Any = None, lengths: Any = None) -> Any:
        flow = Flow(self, state, lengths)
        for module in self:
            x = flow.run(module, x)
        return flow.result(x)
