"""A failing example as Python code that can be pasted and run."""

from __future__ import annotations

import ast
import builtins
import contextlib
import copyreg
import dataclasses
import functools
import inspect
import itertools
import operator
import re
import symtable
import sys
import textwrap
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor

LONGEST = 2_000  # elements of an array that are written out
PLAIN = (bool, int, float, complex, str, bytes, range, slice, type(None), type(...), np.generic)
DATA = (*PLAIN, list, tuple, set, frozenset, dict, np.dtype, np.ndarray, Tensor)  # not imported
SHORT = {"builtins": "", "numpy": "np.", "tinygrad_rnn": "tg."}


class NoLiteral(Exception):
    """Why a value cannot be written as an expression."""


class Code(str):
    """An expression, which shows in a container as it is."""

    __repr__ = str.__str__


def differentiable(value: Any) -> bool:
    """Whether a gradient is asked of a value: arrays and Tensors of floating-point numbers."""
    return isinstance(value, (np.ndarray, Tensor)) and value.dtype.kind == "f"


def place(value: Any) -> tuple[str, str]:
    """The module that has a value, and its path there; maybe that of a test, whose `fn` it is."""
    home: Any = getattr(value, "__module__", None)
    own: Any = getattr(value, "__qualname__", None)
    modules = {n: m for n, m in list(sys.modules.items()) if isinstance(m, ModuleType)}
    for script in ("__main__", "__mp_main__"):  # two names of the same
        modules.pop(script, None)
    found = [(n, k) for n, m in modules.items() for k, v in list(vars(m).items()) if v is value]
    for path in (own, f"{own}.fn"):
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            if operator.attrgetter(path)(modules[home]) is value:
                found.append((home, path))

    def unlikely(candidate: tuple[str, str]) -> tuple[bool, bool, bool, int]:
        module, _ = candidate
        return module not in SHORT, module != home, "._" in f".{module}", len(module)

    return min(found, key=unlikely, default=("", ""))


def parts(value: Any) -> tuple[Any, Any, dict[str, Any]]:
    """What is called, and with what, to make a value."""
    kind = type(value)
    if kind is functools.partial:
        return kind, (value.func, *value.args), value.keywords
    if dataclasses.is_dataclass(kind):
        names = [f.name for f in dataclasses.fields(kind) if f.init]
        return kind, (), {name: getattr(value, name) for name in names}
    try:
        make, given, *state = value.__reduce_ex__(2)  # as pickle does: an enum, a bound method
    except (TypeError, ValueError):
        make, given, state = None, (), [value]
    if isinstance(value, type) or any(v is not None for v in state):
        raise NoLiteral("it has no literal")
    new = make is copyreg.__newobj__  # type: ignore[attr-defined]
    return (given[0], given[1:], {}) if new else (make, given, {})


def source(fn: FunctionType) -> ast.Lambda | ast.FunctionDef:
    """The def or lambda of a function, without annotations."""
    places = [p for p in fn.__code__.co_positions() if p[0] and p[3]]
    start, end = min((p[0], p[2]) for p in places), max((p[1], p[3]) for p in places)
    with contextlib.suppress(OSError, SyntaxError):
        tree = ast.parse("".join(inspect.findsource(fn)[0]))
        for node in reversed(list(ast.walk(tree))):  # innermost first
            if isinstance(node, ast.arg):
                node.annotation = None
            if isinstance(node, ast.FunctionDef):
                node.returns = None
            if isinstance(node, (ast.Lambda, ast.FunctionDef)):
                last = (node.end_lineno, node.end_col_offset)
                if (node.lineno, node.col_offset) <= start and end <= last:
                    return node
    raise NoLiteral("its source is not at hand")


def free(table: symtable.SymbolTable) -> set[str]:
    """The names that code uses and does not define."""
    own = {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
    return own.union(*map(free, table.get_children()))


class Program:
    """Lines of code, in which every name is defined before it is used."""

    def __init__(self) -> None:
        self.lines = ["import numpy as np", "import tinygrad_rnn as tg"]
        self.known: dict[str, Any] = {"np": np, "tg": sys.modules["tinygrad_rnn"]}
        self.inputs: list[str] = []

    def add(self, wanted: str, value: Any, line: Callable[[str], str]) -> str:
        """The name of a value, this one unless it is taken, after the line that defines it."""
        same = [n for n, v in self.known.items() if v is value and callable(v)]
        others = (f"{wanted}_{k}" for k in itertools.count(1))
        names = itertools.chain(same, [wanted], others)
        name = next(n for n in names if self.known.get(n, value) is value)
        if name not in self.known:
            self.known[name] = value
            try:
                text = re.sub(r"import (\w+) as \1$", r"import \1", line(name))
            except (NoLiteral, RecursionError) as why:
                text = f"# define `{name}` here: {why}"
            self.lines.append(text)
        return name

    def name(self, wanted: str, value: Any) -> str:
        """What stands for a value: `np.exp`, the name of what is imported, or else this one."""
        if isinstance(value, ModuleType):
            return self.add(wanted, value, f"import {value.__name__} as {{}}".format)
        module, path = ("", "") if isinstance(value, DATA) else place(value)
        if module in SHORT:
            return SHORT[module] + path
        if module:
            head, dot, rest = path.partition(".")
            value, line = getattr(sys.modules[module], head), f"from {module} import {head} as {{}}"
            return self.add(head, value, line.format) + dot + rest
        wanted = wanted if wanted.isidentifier() else "fn"
        return self.add(wanted, value, functools.partial(self.definition, value))

    def definition(self, value: Any, name: str) -> str:
        """The line, or lines, that give a value its name."""
        if isinstance(value, FunctionType):
            return self.function(value, name)
        gaps = isinstance(value, np.ndarray) and not value.flags.c_contiguous
        note = f"  # with strides of {value.strides} bytes" if gaps else ""
        return f"{name} = {self.literal(value)}{note}"

    def expression(self, value: Any) -> Code:
        """A value within another: what has no literal is defined, and stands there by its name."""
        if isinstance(value, DATA):
            return Code(self.literal(value))
        return Code(self.name(getattr(value, "__name__", type(value).__name__.lower()), value))

    def literal(self, value: Any) -> str:
        """What makes a value; an array has the same bits and dtype."""
        write, kind = self.expression, type(value)
        if isinstance(value, (float, complex, np.inexact)) and not np.isfinite(value):
            return f"{'np.' * isinstance(value, np.generic)}{kind.__name__}('{value}')"
        if kind in (list, tuple, set, frozenset):
            return repr(kind(map(write, value)))
        if kind is dict:
            return repr({write(k): write(v) for k, v in value.items()})
        if isinstance(value, np.ndarray):
            return self.array(value)
        if isinstance(value, np.dtype):
            return f"np.{value!r}"
        if isinstance(value, Tensor):
            return f"tg.Tensor({self.array(value.numpy())})"
        if kind in PLAIN or isinstance(value, np.generic):
            return repr(value)
        make, given, named = parts(value)
        several = [*map(write, given), *(f"{k}={write(v)}" for k, v in named.items())]
        return f"{write(make)}({', '.join(several)})"

    def array(self, value: np.ndarray[Any, Any]) -> str:
        """An array, with every number as short as its dtype allows."""
        if value.dtype.kind not in "biufc":
            raise NoLiteral(f"it is an array of {value.dtype}")
        if value.size > LONGEST:
            raise NoLiteral(
                f"it has {value.size:,} elements, too many to print; the @reproduce_failure line "
                "that hypothesis prints draws them again"
            )
        dtype = "" if value.dtype == np.float64 else f", dtype=np.{value.dtype}"
        if not value.size:
            return f"np.zeros({value.shape}{dtype})"
        short = value.astype(str).astype(float) if value.dtype.kind == "f" else value
        text = self.literal(short.tolist())
        text = textwrap.fill(text, 88, subsequent_indent="    ", break_on_hyphens=False)
        return f"np.array({text}{dtype})"

    def function(self, fn: FunctionType, name: str) -> str:
        """The source of a function; what it refers to is defined first."""
        inner: Any = inspect.unwrap(fn)
        node = source(inner)
        if inner is not fn and not getattr(node, "decorator_list", []):
            raise NoLiteral("it has no literal")  # wrapped by a call that is not at hand
        if isinstance(node, ast.FunctionDef):
            node.name, node.decorator_list = name, node.decorator_list * (inner is not fn)
        args = node.args
        args.defaults = [ast.Name(self.expression(v)) for v in inner.__defaults__ or ()]
        args.kw_defaults = [
            default and ast.Name(self.expression(inner.__kwdefaults__[a.arg]))
            for a, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
        ]
        values = {**inner.__globals__, **inspect.getclosurevars(inner).nonlocals}
        names: dict[str, str] = {}
        for other in sorted(free(symtable.symtable(ast.unparse(node), "", "exec"))):
            if other in values:
                names[other] = self.name(other, values[other])
            elif other not in self.known and not hasattr(builtins, other):
                self.lines.append(f"# define `{other}` here: it is not at hand")
        for inside in ast.walk(node):
            if isinstance(inside, ast.Name):
                inside.id = names.get(inside.id, inside.id)
        text = ast.unparse(node)
        return text if isinstance(node, ast.FunctionDef) else f"{name} = {text}"

    def argument(self, value: Any) -> Code:
        """What is drawn for one argument, maybe nested."""
        if isinstance(value, (tuple, list)):
            return Code(tuple(map(self.argument, value)))
        if not differentiable(value):
            return Code(self.literal(value) if isinstance(value, PLAIN) else self.name("c", value))
        self.inputs.append(self.name(f"x{len(self.inputs)}", value))
        return Code(self.inputs[-1])


def program(
    check: str, fn: Any, arguments: Any, keywords: dict[str, Any], extra: dict[str, Any]
) -> str:
    """Code that checks one example; `extra` has what is not drawn, by the names of parameters."""
    code, several = Program(), fn if isinstance(fn, (tuple, list)) else [fn]
    names = [code.name(getattr(f, "__name__", ""), f) for f in several]
    parts = [code.name(name, value) for name, value in extra.items()]
    call, inputs = ", ".join([*parts, *map(code.argument, arguments)]), ", ".join(code.inputs)
    if call != inputs:
        ends = zip(names, ("", ", g"), strict=False)
        names = [f"lambda {inputs}{g}: {name}({call}{g})" for name, g in ends]
    subject = names[0] if several is not fn else f"({', '.join(names)})"
    options = "".join(f", {k}={v!r}" for k, v in keywords.items())
    return "\n".join([*code.lines, f"tg.testing.{check}({subject}, [{inputs}]{options})"])
