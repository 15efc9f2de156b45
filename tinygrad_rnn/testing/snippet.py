"""A failing example as Python code that can be pasted and run."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor

FORMATS: Any = {"float_kind": str, "int_kind": str, "bool": str}


def differentiable(value: Any) -> bool:
    """Whether a gradient is asked of a value: arrays and Tensors of floating-point numbers."""
    return isinstance(value, (np.ndarray, Tensor)) and value.dtype.kind == "f"


def literal(value: Any) -> str:
    """A value as an expression; of an array, with the same bits and dtype."""
    if isinstance(value, Tensor):
        return f"tg.Tensor({literal(value.numpy())})"
    if not isinstance(value, np.ndarray):
        return f"...  # {value!r}" if repr(value).startswith("<") else repr(value)
    dtype = "" if value.dtype == np.float64 else f", dtype=np.{value.dtype}"
    if not value.size:
        return f"np.zeros({value.shape}{dtype})"
    text = np.array2string(value, separator=", ", threshold=sys.maxsize, formatter=FORMATS)
    text = textwrap.fill(" ".join(text.split()), 88, subsequent_indent="    ")
    note = "" if value.flags.c_contiguous else f"  # with strides of {value.strides} bytes"
    return f"np.array({text}{dtype}){note}"


def source(fn: FunctionType, decorated: bool) -> tuple[str, list[str]]:
    """The text of a def or lambda, and the names it uses; nothing if it is not at hand."""
    try:
        nodes = list(ast.walk(ast.parse("".join(inspect.findsource(fn)[0]))))
    except (OSError, SyntaxError):
        return "", []
    places = [p for p in fn.__code__.co_positions() if p[0] and p[3]]
    start, end = min((p[0], p[2]) for p in places), max((p[1], p[3]) for p in places)
    for node in reversed(nodes):  # innermost first
        if isinstance(node, (ast.Lambda, ast.FunctionDef)):
            last = (node.end_lineno, node.end_col_offset)
            if (node.lineno, node.col_offset) <= start and end <= last:
                if isinstance(node, ast.FunctionDef) and not decorated:
                    node.decorator_list = []
                names = {n.id: None for n in ast.walk(node) if isinstance(n, ast.Name)}
                return ast.unparse(node), [n for n in names if n not in fn.__code__.co_varnames]
    return "", []


class Program:
    """Lines of code, in which every name is defined before it is used."""

    def __init__(self) -> None:
        self.lines = ["import numpy as np", "import tinygrad_rnn as tg"]
        self.known = {"np", "tg"}
        self.inputs: list[str] = []
        self.fixed: list[str] = []

    def define(self, name: str, value: Any) -> str:
        own, module = getattr(value, "__qualname__", ""), getattr(value, "__module__", None)
        found = getattr(sys.modules.get(module or ""), own, None)
        there = found is not None and module != "__main__"
        if name in self.known:
            return name
        self.known.add(name)
        if isinstance(value, ModuleType):
            self.lines.append(f"import {value.__name__} as {name}")
        elif there and (found is value or getattr(found, "fn", None) is value):
            self.lines.append(f"from {module} import {own} as {name}".removesuffix(f" as {own}"))
            return name if found is value else f"{name}.fn"
        elif isinstance(value, FunctionType):
            self.function(name, value)
        else:
            if dataclasses.is_dataclass(value):
                self.define(type(value).__name__, type(value))
            self.lines.append(f"{name} = {literal(value)}")
        return name

    def function(self, name: str, fn: FunctionType) -> None:
        """What a function refers to, and its source."""
        inner: Any = inspect.unwrap(fn)
        text, names = source(inner, decorated=inner is not fn)
        known = {**inner.__globals__, **inspect.getclosurevars(inner).nonlocals}
        for other in names:
            if other in known and other != name:
                self.define(other, known[other])
        if text.startswith("lambda") or not text:
            text = f"{name} = {text or f'...  # {fn!r}'}"
        self.lines.append(text)

    def argument(self, value: Any) -> str:
        if isinstance(value, (tuple, list)):
            return f"({', '.join(map(self.argument, value))},)" if value else "()"
        if value is None or isinstance(value, (int, float, str)):
            return repr(value)
        kind, names = ("x", self.inputs) if differentiable(value) else ("c", self.fixed)
        names.append(f"{kind}{len(names)}")
        return self.define(names[-1], value)


def program(check: str, fn: Any, arguments: Any, keywords: dict[str, Any]) -> str:
    """Code that checks one example."""
    code, several = Program(), fn if isinstance(fn, (tuple, list)) else [fn]
    names = []
    for k, f in enumerate(several):
        own = getattr(f, "__name__", "")
        names.append(code.define(own if own.isidentifier() else f"fn{k or ''}", f))
    call, inputs = ", ".join(map(code.argument, arguments)), ", ".join(code.inputs)
    if call != inputs:
        ends = zip(names, ("", ", g"), strict=False)
        names = [f"lambda {inputs}{g}: {name}({call}{g})" for name, g in ends]
    subject = names[0] if several is not fn else f"({', '.join(names)})"
    options = "".join(f", {k}={v!r}" for k, v in keywords.items())
    return "\n".join([*code.lines, f"tg.testing.{check}({subject}, [{inputs}]{options})"])
