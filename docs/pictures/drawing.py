"""Draws nodes and arrows: the places are given as text, the lines find their ways themselves."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.path import Path

from .reading import MATRIX, PLAIN, VECTOR, Node
from .routing import Board, Point, Way, corners

UNIT = 0.56  # inches from one place of a grid to the next
RADIUS, SMALL, ROUND = 0.34, 0.24, 0.22
DARK, LINE = "#222222", "#4a5568"
COLOURS = {"σ": "#f6c667", "tanh": "#7cc4b8", "relu": "#f4a28c", "softmax": "#b9a5d8"}
BOX, FREE = "#dfe5ee", "#ffffff"
Ways = list[tuple[str, str, str, Way]]  # source, target, what multiplies, and the line
SIZES = {1: 12.0, 2: 10.0, 3: 9.0, 4: 8.0}


def places(grid: str) -> dict[str, Point]:
    """Where the names of a grid stand, in half steps; a dot is an empty place."""
    rows = [line.split() for line in grid.strip().splitlines()]
    found = {
        name: (2 * x, -2 * y)
        for y, row in enumerate(rows)
        for x, name in enumerate(row)
        if name != "."
    }
    if len(found) != sum(name != "." for row in rows for name in row):
        raise ValueError("a name stands twice in the grid")
    return found


def routed(nodes: dict[str, Node], where: dict[str, Point]) -> Ways:
    """A way for every arrow, the short ones first."""
    if nodes.keys() != where.keys():
        lacking, odd = sorted(nodes.keys() - where.keys()), sorted(where.keys() - nodes.keys())
        raise ValueError(
            f"expected a grid of {sorted(nodes)}, got one without {lacking}, with {odd}"
        )
    arrows = [(a.source, node.name, a.via) for node in nodes.values() for a in node.sources]

    def length(arrow: tuple[str, str, str]) -> tuple[bool, int]:
        (a, b), (c, d) = where[arrow[0]], where[arrow[1]]
        return a != c and b != d, abs(a - c) + abs(b - d)

    gates = {n: node for n, node in nodes.items() if node.learned and node.sign in COLOURS}
    board = Board(where, {n: 6.0 if len(gate.sources) == 1 else 3.0 for n, gate in gates.items()})
    ordered = sorted(arrows, key=length)
    return [(a, b, via, board.way(a, b, marked=via != PLAIN)) for a, b, via in ordered]


def sketch(nodes: dict[str, Node], grid: str, timed: bool = True) -> Figure:
    """The picture of nodes at the places that a grid gives them; whether x is that of a step."""
    where = places(grid)
    ways = routed(nodes, where)
    xs, ys = zip(*(p for *_, way in ways for p in way), strict=True)
    left, right, low, high = min(xs) / 2, max(xs) / 2, min(ys) / 2, max(ys) / 2
    figure = Figure(figsize=((right - left + 1.3) * UNIT, (high - low + 1.1) * UNIT))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left - 0.65, right + 0.65), ylim=(low - 0.55, high + 0.55))
    axes.set_axis_off()
    dots = branches(ways)
    drawn: set[tuple[str, Point, Point]] = set()
    for source, target, via, way in ways:
        line(axes, new(way, source, drawn), nodes[source], nodes[target], via, dots)
    for x, y in dots:
        axes.plot([x], [y], "o", ms=4, color=LINE, zorder=8)
    for x, y in crossings(ways):  # the line that rises passes over the other
        for side in (-0.09, 0.04):
            axes.plot([x + side, x + side + 0.05], [y, y], color="white", lw=3, zorder=7)
    for name, node in nodes.items():
        x, y = where[name]
        symbol(axes, node, x / 2, y / 2, timed)
        if node.learned and not name.startswith("_"):
            side, x, y = corner(x / 2, y / 2, ways)
            text(axes, x, y, label(name), 10.0, side)
    return figure


def new(way: Way, source: str, drawn: set[tuple[str, Point, Point]]) -> Way:
    """The part of a way that is not drawn yet."""
    steps = [(source, a, b) for a, b in pairwise(way)]
    done = sum(step in drawn for step in steps)
    drawn.update(steps)
    return way[done:]


def size(node: Node, upright: bool) -> float:
    """How far from its middle a node's lines end."""
    if not node.sign:
        return 0.0 if set(node.name) == {"&"} else 0.28 if upright else 0.42
    wide = 0.16 if len(node.sign) > 4 and not upright else 0.0
    return wide + (RADIUS if node.learned or len(node.sign) > 2 else SMALL)


def line(axes: Any, way: Way, source: Node, target: Node, via: str, dots: Any) -> None:
    """A line with an arrow's head, and corners that are round where no other line parts."""
    points = [(x / 2, y / 2) for x, y in corners(way)]
    upright = [a[0] == b[0] for a, b in pairwise(points)]
    after = size(target, upright[-1])
    head = 0.13 if after else 0.0
    if points[0] not in dots:
        points[0] = towards(points[0], points[1], size(source, upright[0]))
    tip = towards(points[-1], points[-2], after)
    points[-1] = towards(tip, points[-2], head)
    codes, path = [Path.MOVETO], [points[0]]
    for a, b, c in zip(points, points[1:], points[2:], strict=False):
        round_by = 0.0 if b in dots else ROUND
        path += [towards(b, a, round_by), b, towards(b, c, round_by)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    shape = Path([*path, points[-1]], [*codes, Path.LINETO])
    axes.add_patch(PathPatch(shape, fc="none", ec=LINE, lw=1.3, capstyle="butt", zorder=3))
    if head:
        axes.add_patch(arrowhead(points[-1], tip))
    if via in (MATRIX, VECTOR):
        x, y = towards(tip, points[-2], 0.24)
        colour = LINE if via == MATRIX else "white"
        axes.plot([x], [y], "s", ms=5.5, mfc=colour, mec=LINE, mew=1.2, zorder=4)


def towards(a: tuple[float, float], b: tuple[float, float], by: float) -> tuple[float, float]:
    """The point so far from a on the way to b."""
    x, y = b[0] - a[0], b[1] - a[1]
    length = (x * x + y * y) ** 0.5 or 1.0
    return a[0] + x / length * by, a[1] + y / length * by


def arrowhead(base: tuple[float, float], tip: tuple[float, float]) -> PathPatch:
    x, y = (tip[0] - base[0]) * 0.5, (tip[1] - base[1]) * 0.5
    corner = [(base[0] - y, base[1] + x), tip, (base[0] + y, base[1] - x)]
    return PathPatch(Path([*corner, corner[0]]), fc=LINE, ec=LINE, lw=0.3, joinstyle="miter")


def branches(ways: Ways) -> set[tuple[float, float]]:
    """Where the lines of one source part."""
    after: dict[tuple[str, Point], set[Point]] = {}
    for source, _, _, way in ways:
        for a, b in pairwise(way[1:]):
            after.setdefault((source, a), set()).add(b)
    return {(x / 2, y / 2) for (_, (x, y)), nexts in after.items() if len(nexts) > 1}


def crossings(ways: Ways) -> set[tuple[float, float]]:
    """Where lines of different sources cross."""
    inner = [(source, p) for source, _, _, way in ways for p in way[1:-1]]
    found = {p for source, p in inner for other, q in inner if p == q and source != other}
    return {(x / 2, y / 2) for x, y in found}


def label(name: str, timed: bool = False) -> str:
    """How a name is written; that of an input or result with its time."""
    plain = name.rstrip("'~")
    if "_" in name:
        return f"${name}$"
    if name[-1].isdigit():
        return f"${name[:-1]}_{name[-1]}$"
    plain = rf"\tilde{{{plain}}}" if name.endswith("~") else plain
    time = "_t" if name[-1] in ("x", "y", "'") else "_{t-1}" * (name in ("h", "c", "s"))
    return f"${plain}{time if timed else ''}$"


def symbol(axes: Any, node: Node, x: float, y: float, timed: bool) -> None:
    """A node's circle or box with its sign, and the label of a gate beside it."""
    if not node.sign:
        if set(node.name) == {"&"}:
            axes.plot([x], [y], "o", ms=5, color=LINE, zorder=8)
        else:
            text(axes, x, y, label(node.name, timed), 12.0)
        return
    radius, sign = size(node, True), node.sign
    wide = size(node, False)
    colour = COLOURS.get(sign, BOX) if node.learned else FREE
    square = node.learned and sign not in {*COLOURS, "W", "w", "+b"}
    style = f"round,pad=0,rounding_size={0.12 if square else radius}"
    shape: Any = FancyBboxPatch((x - wide, y - radius), 2 * wide, 2 * radius, boxstyle=style)
    if not square and wide == radius:
        shape = Circle((x, y), radius)
    shape.set(fc=colour, ec=DARK, lw=1.1, zorder=9)
    axes.add_patch(shape)
    text(axes, x, y - 0.01, sign, SIZES.get(len(sign), 8.0))


def corner(x: float, y: float, ways: Ways) -> tuple[str, float, float]:
    """Where beside a gate its label is on no line."""
    quarters = (
        (a + (c - a) * k / 4, b + (d - b) * k / 4)
        for *_, way in ways
        for (a, b), (c, d) in pairwise(way)
        for k in range(4)
    )
    lines = {(a / 2, b / 2) for a, b in quarters}
    for up in (0.38, -0.42):
        for right, side in ((-0.26, "right"), (0.26, "left")):
            place = x + 1.5 * right, y + up
            if all(abs(place[0] - a) > 0.2 or abs(place[1] - b) > 0.2 for a, b in lines):
                return side, x + right, y + up
    raise ValueError("no corner is free for a label; move a node")


def text(axes: Any, x: float, y: float, words: str, points: float, side: str = "center") -> None:
    axes.text(x, y, words, fontsize=points, ha=side, va="center", color=DARK, zorder=10)
