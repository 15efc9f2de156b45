"""`summary`: a model as a table."""

from __future__ import annotations

from tinygrad_rnn.nn.module import Module, Parameter


def summary(module: Module) -> str:
    """A table of the layers that have parameters, with their shapes and numbers.

    A tied parameter is shown at each of its places, and counted at the first.

    >>> import tinygrad_rnn as tg
    >>> print(summary(tg.nn.Sequential(tg.nn.Linear(3, 4), tg.tanh, tg.nn.Linear(4, 1))))
    layer  kind    parameters                count
    0      Linear  weight (4, 3), bias (4,)     16
    2      Linear  weight (1, 4), bias (1,)      5
    21 parameters, 21 of them trained, 84 bytes
    """
    seen: dict[int, Parameter] = {}
    rows = [("layer", "kind", "parameters", "count")]
    for name, layer in module.named_modules():
        own = [(n, p) for n, p in layer._held() if isinstance(p, Parameter)]
        new = {id(p): p for _, p in own if id(p) not in seen}
        seen |= new
        if own:
            shapes = ", ".join(f"{n} {p.shape}" + " tied" * (id(p) not in new) for n, p in own)
            count = sum(p.size for p in new.values())
            rows.append((name or "-", type(layer).__name__, shapes, f"{count:,}"))
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{a:{wide[0]}}  {b:{wide[1]}}  {c:{wide[2]}}  {d:>{wide[3]}}" for a, b, c, d in rows]
    trained = sum(p.size for p in seen.values() if p.requires_grad)
    total = sum(p.size for p in seen.values())
    size = sum(p.numpy().nbytes for p in seen.values())
    lines.append(f"{total:,} parameters, {trained:,} of them trained, {size:,} bytes")
    return "\n".join(lines)
