"""A failing example as Python code that can be pasted and run."""

from __future__ import annotations

import ast
import builtins
import copyreg
import dataclasses
import functools
import inspect
import itertools
import math
import operator
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor

LONGEST = 2_000  # elements of an array that are written out
PLAIN = (bool, int, str, bytes, complex, range, slice, type(None), type(...))
BRACKETS: dict[type, str] = {list: "[{}]", tuple: "({},)", set: "{{{}}}"}


class NoLiteral(Exception):
    """Why a value cannot be written as an expression."""


def differentiable(value: Any) -> bool:
    """Whether a gradient is asked of a value: arrays and Tensors of floating-point numbers."""
    return isinstance(value, (np.ndarray, Tensor)) and value.dtype.kind == "f"


def refused(value: Any) -> str:
    raise NoLiteral("it has no literal")


def literal(value: Any, other: Callable[[Any], str] = refused) -> str:
    """A value as an expression; of an array, with the same bits and dtype.

    What has none is written by `other`.
    """
    write, kind = functools.partial(literal, other=other), type(value)
    if isinstance(value, Tensor):
        return f"tg.Tensor({write(value.numpy())})"
    if isinstance(value, np.ndarray):
        return array(value)
    if kind is float:
        return repr(value) if math.isfinite(value) else f"float('{value}')"
    if kind in PLAIN:
        return repr(value)
    if isinstance(value, np.dtype):
        return f"np.dtype({value.str!r})"
    if isinstance(value, np.generic):
        return f"np.{kind.__name__}({write(value.item())})"
    if kind is dict:
        return "{" + ", ".join(f"{write(k)}: {write(v)}" for k, v in value.items()) + "}"
    if kind in BRACKETS:
        items = ", ".join(map(write, value))
        return BRACKETS[kind].format(items) if items else f"{kind.__name__}()"
    if kind is functools.partial:
        given = [*map(write, value.args), *(f"{k}={write(v)}" for k, v in value.keywords.items())]
        return f"{other(kind)}({', '.join([write(value.func), *given])})"
    if dataclasses.is_dataclass(kind):
        given = [f.name for f in dataclasses.fields(kind) if f.init]
        parts = (f"{name}={write(getattr(value, name))}" for name in given)
        return f"{other(kind)}({', '.join(parts)})"
    return other(value)


def array(value: np.ndarray[Any, Any]) -> str:
    if value.dtype.kind not in "biufc":
        raise NoLiteral(f"it is an array of {value.dtype}")
    if value.size > LONGEST:
        raise NoLiteral(
            f"it has {value.size:,} elements, too many to print; the @reproduce_failure line that "
            "hypothesis prints draws them again"
        )
    dtype = "" if value.dtype == np.float64 else f", dtype=np.{value.dtype}"
    if not value.size:
        return f"np.zeros({value.shape}{dtype})"

    def number(v: Any) -> str:
        return str(v) if np.isfinite(v) else f"{type(v.item()).__name__}('{v}')"

    forms: Any = dict.fromkeys(("float_kind", "int_kind", "bool", "complex_kind"), number)
    text = np.array2string(value, separator=", ", threshold=sys.maxsize, formatter=forms)
    text = textwrap.fill(" ".join(text.split()), 88, subsequent_indent="    ")
    return f"np.array({text}{dtype})"


def place(value: Any) -> tuple[str, str]:
    """The module that has a value, and its name there; maybe that of a test, whose `fn` it is."""
    module, own = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if isinstance(own, str) and own and module in sys.modules and module != "__main__":
        try:
            found = operator.attrgetter(own)(sys.modules[module])
        except AttributeError:
            found = None
        if found is value:
            return module, own
        if getattr(found, "fn", None) is value:
            return module, f"{own}.fn"
    everywhere = [
        (name, own)
        for name, m in list(sys.modules.items())
        if name != "__main__" and isinstance(m, ModuleType)
        for own, v in list(vars(m).items())
        if v is value and own.isidentifier()
    ]
    return min(everywhere, key=lambda p: ("._" in f".{p[0]}", len(p[0])), default=("", ""))


def source(fn: FunctionType, decorated: bool) -> ast.Lambda | ast.FunctionDef:
    """The def or lambda of a function, without annotations."""
    try:
        nodes = list(ast.walk(ast.parse("".join(inspect.findsource(fn)[0]))))
    except (OSError, SyntaxError):
        raise NoLiteral("its source is not at hand") from None
    places = [p for p in fn.__code__.co_positions() if p[0] and p[3]]
    start, end = min((p[0], p[2]) for p in places), max((p[1], p[3]) for p in places)
    for node in reversed(nodes):  # innermost first
        if isinstance(node, (ast.Lambda, ast.FunctionDef)):
            last = (node.end_lineno, node.end_col_offset)
            if (node.lineno, node.col_offset) <= start and end <= last:
                if isinstance(node, ast.FunctionDef):
                    node.returns, node.decorator_list = None, node.decorator_list * decorated
                for inner in ast.walk(node):
                    if isinstance(inner, ast.arg):
                        inner.annotation = None
                return node
    raise NoLiteral("its source is not at hand")


def free(table: symtable.SymbolTable) -> Iterator[str]:
    """The names that code uses and does not define."""
    top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (not symbol.is_assigned() if top else symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from free(child)


class Program:
    """Lines of code, in which every name is defined before it is used."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.lines = ["import numpy as np", "import tinygrad_rnn as tg"]
        self.known: dict[str, Any] = {"np": np, "tg": sys.modules["tinygrad_rnn"]}
        self.inputs: list[str] = []
        self.fixed: list[str] = []

    def define(self, name: str, value: Any) -> str:
        """Give a value a name: this one, unless it is taken."""
        for taken, v in self.known.items():
            if v is value and (taken == name or isinstance(v, (FunctionType, ModuleType))):
                return taken
        wanted = name if name.isidentifier() else "fn"
        others = (f"{wanted}_{k}" for k in itertools.count(1))
        name = next(n for n in itertools.chain([wanted], others) if n not in self.known)
        self.known[name] = value
        try:
            text = literal(value, lambda v: self.refer(v, name if v is value else ""))
        except (NoLiteral, RecursionError) as why:
            self.heads.append(f"# define `{name}` first: {why}")
            return name
        if isinstance(value, np.ndarray) and not value.flags.c_contiguous:
            text += f"  # with strides of {value.strides} bytes"
        if text != name:
            self.lines.append(f"{name} = {text}")
        return name

    def refer(self, value: Any, name: str = "") -> str:
        """The name of what has no literal, under which it is imported or defined."""
        own = str(getattr(value, "__name__", type(value).__name__.lower()))
        if getattr(builtins, own, None) is value:
            return own
        if not name:
            return self.define(own, value)
        if isinstance(value, ModuleType):
            self.lines.append(f"import {value.__name__} as {name}")
            return name
        module, own = place(value)
        head, _, rest = own.partition(".")
        if rest:
            del self.known[name]  # maybe that of the head
            head = self.define(head, getattr(sys.modules[module], head))
            self.known[name] = value
            return f"{head}.{rest}"
        if own:
            self.lines.append(f"from {module} import {own} as {name}".removesuffix(f" as {own}"))
        elif isinstance(value, FunctionType):
            self.function(name, value)
        else:
            return self.made(value)
        return name

    def made(self, value: Any) -> str:
        """The call that makes a value, if pickle knows one: a bound method, an enum, ..."""
        try:
            make, parts, *state = value.__reduce_ex__(2)
        except (TypeError, ValueError):
            return refused(value)
        if isinstance(value, type) or any(v is not None for v in state):
            return refused(value)
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            make, *parts = parts
        several = [literal(v, self.refer) for v in (make, *parts)]
        return f"{several[0]}({', '.join(several[1:])})"

    def function(self, name: str, fn: FunctionType) -> None:
        """What a function refers to, and its source."""
        inner: Any = inspect.unwrap(fn)
        node = source(inner, decorated=inner is not fn)
        if inner is not fn and not getattr(node, "decorator_list", []):
            refused(fn)  # wrapped by a call that is not at hand

        def expression(value: Any) -> ast.expr:
            return ast.parse(literal(value, self.refer), mode="eval").body

        given, by_name = inner.__defaults__ or (), inner.__kwdefaults__ or {}
        node.args.defaults = [expression(v) for v in given]
        node.args.kw_defaults = [
            expression(by_name[a.arg]) if a.arg in by_name else None for a in node.args.kwonlyargs
        ]
        if isinstance(node, ast.FunctionDef):
            node.name = name
        values = {**inner.__globals__, **inspect.getclosurevars(inner).nonlocals}
        names: dict[str, str] = {}
        for other in dict.fromkeys(free(symtable.symtable(ast.unparse(node), "", "exec"))):
            if other in values:
                names[other] = self.define(other, values[other])
            elif other not in self.known and not hasattr(builtins, other):
                self.heads.append(f"# define `{other}` first: it is not at hand")
        for inside in ast.walk(node):
            if isinstance(inside, ast.Name):
                inside.id = names.get(inside.id, inside.id)
        text = ast.unparse(node)
        self.lines.append(text if isinstance(node, ast.FunctionDef) else f"{name} = {text}")

    def argument(self, value: Any) -> str:
        if isinstance(value, (tuple, list)):
            return f"({', '.join(map(self.argument, value))},)" if value else "()"
        if value is None or isinstance(value, (int, float, str)):
            return literal(value)
        kind, names = ("x", self.inputs) if differentiable(value) else ("c", self.fixed)
        names.append(self.define(f"{kind}{len(names)}", value))
        return names[-1]


def program(
    check: str, fn: Any, arguments: Any, keywords: dict[str, Any], extra: dict[str, Any]
) -> str:
    """Code that checks one example; `extra` has what is not drawn, by the names of parameters."""
    code, several = Program(), fn if isinstance(fn, (tuple, list)) else [fn]
    names = []
    for k, f in enumerate(several):
        own = getattr(f, "__name__", "")
        names.append(code.define(own if own.isidentifier() else f"fn{k or ''}", f))
    parts = [code.define(name, value) for name, value in extra.items()]
    call, inputs = ", ".join([*parts, *map(code.argument, arguments)]), ", ".join(code.inputs)
    if call != inputs:
        ends = zip(names, ("", ", g"), strict=False)
        names = [f"lambda {inputs}{g}: {name}({call}{g})" for name, g in ends]
    subject = names[0] if several is not fn else f"({', '.join(names)})"
    options = "".join(f", {k}={v!r}" for k, v in keywords.items())
    lines = [*code.heads, *code.lines]
    return "\n".join([*lines, f"tg.testing.{check}({subject}, [{inputs}]{options})"])
