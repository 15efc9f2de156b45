"""Functions in, derivatives out: `tg.func`, with the names of torch.func and JAX.

Each transform differentiates `fn` at fresh leaves. Where `fn` also depends on tensors of an outer
computation, or an input is part of one, the derivative is recorded, so that transforms nest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.flow import frontier
from tinygrad_rnn.autograd.gradient import grad as _grad
from tinygrad_rnn.autograd.graph import MODE, Value, shape_of, switched, tick
from tinygrad_rnn.autograd.ops.elementwise import add
from tinygrad_rnn.autograd.ops.reduce import sum
from tinygrad_rnn.autograd.ops.shape import reshape, stack
from tinygrad_rnn.autograd.tensor import Tensor

Argnums = int | Sequence[int]


def _fresh(value: Any) -> Tensor:
    """The value at a place of its own on the graph."""
    if isinstance(value, Tensor) and value.requires_grad:
        return add(value, 0.0)  # type: ignore[no-any-return]
    tensor = Tensor(value)
    tensor.requires_grad = True
    return tensor


def _zero_like(value: Tensor) -> Tensor:
    return Tensor(np.zeros(value.shape, value.dtype))


def _followed(values: Sequence[Any]) -> bool:
    """Whether what is computed from `values` is recorded."""
    return MODE.get().recording and any(isinstance(v, Value) and v._node for v in values)


class _Run:
    """One recorded call of `fn` at fresh inputs."""

    def __init__(self, fn: Callable[..., Any], primals: Sequence[Any], argnums: Argnums) -> None:
        self.single = isinstance(argnums, (int, np.integer))
        chosen = [argnums] if isinstance(argnums, (int, np.integer)) else list(argnums)
        if not all(-len(primals) <= k < len(primals) for k in chosen):
            raise ValueError(
                f"func: expected argnums within the {len(primals)} arguments, got {argnums}"
            )
        start, arguments = tick(), list(primals)
        with switched(recording=True):
            for k in chosen:
                arguments[k] = _fresh(arguments[k])
            self.result = fn(*arguments)
        self.inputs = [arguments[k] for k in chosen]
        self.start = start

    def outputs(self, where: str) -> tuple[Tensor, ...]:
        outputs = self.result if isinstance(self.result, (tuple, list)) else (self.result,)
        for v in outputs:
            if not isinstance(v, Tensor):
                raise TypeError(
                    f"{where}: expected a function that returns Tensors, got {type(v).__name__}"
                )
        self.outer = self.follows(outputs)
        return tuple(outputs)

    def follows(self, values: Sequence[Tensor]) -> bool:
        """Whether values depend on an outer computation."""
        return MODE.get().recording and bool(frontier([v._node for v in values], self.start))

    def output(self, where: str) -> Tensor:
        outputs = self.outputs(where)
        if len(outputs) != 1:
            raise TypeError(
                f"{where}: expected a function that returns one Tensor, got {len(outputs)}; "
                "use tg.func.vjp for several"
            )
        return outputs[0]

    def settled(self, value: Any) -> Any:
        """A result as the caller gets it: on the graph only where an outer computation is."""
        if isinstance(value, (tuple, list)):
            return type(value)(map(self.settled, value))
        if isinstance(value, dict):
            return {k: self.settled(v) for k, v in value.items()}
        return value if not isinstance(value, Tensor) or self.follows([value]) else value.detach()

    def pull(
        self, outputs: Sequence[Tensor], gs: Sequence[Any], graph: bool = False
    ) -> tuple[Tensor, ...]:
        """The gradients of the inputs; zero where the outputs do not depend on one."""
        pairs = [(v, g) for v, g in zip(outputs, gs, strict=True) if v.requires_grad]
        found: Sequence[Tensor | None] = [None] * len(self.inputs)
        if pairs:
            found = _grad(
                [v for v, _ in pairs],
                self.inputs,
                [g for _, g in pairs],
                create_graph=graph or self.outer,
                retain_graph=True,
                allow_unused=True,
            )
        return tuple(
            _zero_like(x) if d is None else d for d, x in zip(found, self.inputs, strict=True)
        )


def value_and_grad(
    fn: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns the value of `fn` (one element) and its gradient.

    Args:
        argnums: which positional argument, or which ones (then a tuple of gradients).
        has_aux: whether `fn` returns (value, auxiliary result); then ((value, aux), gradient).
    """

    def run(*args: Any) -> tuple[Any, Any]:
        call = _Run(fn, args, argnums)
        aux = None
        if has_aux:
            if not isinstance(call.result, tuple) or len(call.result) != 2:
                raise TypeError(
                    "grad: expected a function that returns (value, auxiliary result), "
                    f"got {type(call.result).__name__}; or leave has_aux out"
                )
            call.result, aux = call.result
        value = call.output("grad")
        gradients = call.pull([value], [None])
        settled = call.settled(value)
        aux = call.settled(aux)
        return (settled, aux) if has_aux else settled, gradients[0] if call.single else gradients

    return run


def grad(fn: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of `fn`, whose value has one element.

    >>> import tinygrad_rnn as tg
    >>> tg.func.grad(tg.func.grad(lambda x: x**3))(2.0)
    Tensor(12., dtype=float32)
    """
    both = value_and_grad(fn, argnums, has_aux)

    def run(*args: Any) -> Any:
        value, gradient = both(*args)
        return (gradient, value[1]) if has_aux else gradient

    return run


def fitting(where: str, kind: str, values: Sequence[Any], directions: Sequence[Any]) -> None:
    """Raise unless there is one direction of the right shape for each value."""
    expected, got = ([shape_of(v) for v in vs] for vs in (values, directions))
    if expected != got:
        raise ValueError(
            f"{where}: expected one {kind} for each of {len(expected)} values, of shapes "
            f"{expected}, got {got}; give zeros where there is none"
        )


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """The value of `fn` at `primals`, and the function that pulls a cotangent back to them."""
    call = _Run(fn, primals, range(len(primals)))
    outputs = call.outputs("vjp")
    several = isinstance(call.result, (tuple, list))

    def pull(*cotangents: Any) -> tuple[Tensor, ...]:
        gs = cotangents[0] if several and len(cotangents) == 1 else cotangents
        fitting("vjp", "cotangent", outputs, gs)
        return call.pull(outputs, gs, graph=_followed(gs))

    values = tuple(call.settled(v) for v in outputs)
    return (values if several else values[0]), pull


def jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The value of `fn` at `primals`, and its derivative along `tangents`.

    A vector-Jacobian product is linear in its cotangent; pulling back through that product gives
    the Jacobian-vector product, so no op needs a second rule.

    >>> import tinygrad_rnn as tg
    >>> tg.func.jvp(lambda x: x**2, (3.0,), (1.0,))
    (Tensor(9., dtype=float32), Tensor(6., dtype=float32))
    """
    fitting("jvp", "tangent", primals, tangents)
    call = _Run(fn, primals, range(len(primals)))
    outputs = call.outputs("jvp")
    live = [v for v in outputs if v.requires_grad]
    cotangents = [_fresh(_zero_like(v)) for v in live]
    outer = call.outer or _followed(tangents)
    with switched(recording=True):
        gradients = call.pull(live, cotangents, graph=True)
        dependent = [(d, t) for d, t in zip(gradients, tangents, strict=True) if d.requires_grad]
        pushed: Sequence[Tensor | None] = [None] * len(live)
        if dependent:
            pushed = _grad(
                [d for d, _ in dependent],
                cotangents,
                [Tensor(t, dtype=d.dtype) if not isinstance(t, Value) else t for d, t in dependent],
                create_graph=outer,
                allow_unused=True,
            )
    settled = tuple(call.settled(v) for v in outputs)
    found = {id(v): d for v, d in zip(live, pushed, strict=True) if d is not None}
    moved = tuple(found[id(v)] if id(v) in found else _zero_like(v) for v in outputs)
    several = isinstance(call.result, (tuple, list))
    return (settled, moved) if several else (settled[0], moved[0])


def jacobian(fn: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that returns all derivatives of `fn`, one backward pass per element of its value.

    Shapes:
        fn: (*in) -> (*out)  ->  jacobian (*out, *in)
    """

    def run(*args: Any) -> Any:
        call = _Run(fn, args, argnums)
        value = call.output("jacobian")
        basis = np.eye(value.size, dtype=value.dtype).reshape(value.size, *value.shape)
        rows = [call.pull([value], [Tensor(e)]) for e in basis]
        columns = [
            reshape(stack([r[k] for r in rows]), (*value.shape, *x.shape))
            if rows
            else Tensor(np.zeros((*value.shape, *x.shape), value.dtype))
            for k, x in enumerate(call.inputs)
        ]
        return columns[0] if call.single else tuple(columns)

    return run


def hessian(fn: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """A function that returns the second derivatives of `fn`, whose value has one element.

    >>> import tinygrad_rnn as tg
    >>> tg.func.hessian(lambda x: (x**3).sum())([1.0, 2.0])
    Tensor([[ 6.,  0.],
            [ 0., 12.]], dtype=float32)
    """
    return jacobian(grad(fn, argnums), argnums)


def hvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The value of `fn` (one element), and its Hessian times `tangents`, in two backward passes.

    >>> import tinygrad_rnn as tg
    >>> tg.func.hvp(lambda x: (x**3).sum(), ([1.0, 2.0],), ([1.0, 1.0],))[1]
    Tensor([ 6., 12.], dtype=float32)
    """
    fitting("hvp", "tangent", primals, tangents)

    def slope(*xs: Any) -> Any:
        value, gradients = value_and_grad(fn, range(len(primals)))(*xs)
        return sum(stack([sum(d * t) for d, t in zip(gradients, tangents, strict=True)])), value

    products, value = grad(slope, range(len(primals)), has_aux=True)(*primals)
    return value, products[0] if len(primals) == 1 else products
