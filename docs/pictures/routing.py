"""Finds ways for a picture's lines: along a grid, around nodes, never on top of one another."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import pairwise

Point = tuple[int, int]  # x to the right, y up, in half steps
Way = list[Point]
SIDES = ((1, 0), (0, 1), (-1, 0), (0, -1))
UP = 1
LONG, SHARED, TURN, CROSSING, TIGHT = 1.0, 0.2, 1.5, 5.0, 4.0  # what steps cost


class Board:
    """The nodes' places, and the lines that are there already, by the node they come from.

    Args:
        upright: what it costs to enter a node other than from below.
    """

    def __init__(self, places: dict[str, Point], upright: dict[str, float]) -> None:
        self.places, self.upright, self.tight = places, upright, 0.0
        self.taken = {p: name for name, p in places.items()}
        self.steps: dict[tuple[Point, Point], str] = {}
        self.through: dict[Point, set[str]] = {}
        xs, ys = zip(*places.values(), strict=True)
        self.low, self.high = (min(xs) - 2, min(ys) - 2), (max(xs) + 2, max(ys) + 2)

    def way(self, source: str, target: str, marked: bool = False) -> Way:
        """The cheapest way between two nodes, which is then taken; whether its end bears a mark.

        Raises:
            ValueError: if there is none.
        """
        start, end, self.tight = self.places[source], self.places[target], TIGHT * marked
        queue: list[tuple[float, int, int, Way]] = [(0.0, 0, -1, [start])]
        done: set[tuple[Point, int]] = set()
        while queue:
            cost, _, side, way = heapq.heappop(queue)
            at = way[-1]
            if at == end:
                return self._lay(source, way)
            if (at, side) in done:
                continue
            done.add((at, side))
            for turn, (x, y) in enumerate(SIDES):
                to = at[0] + x, at[1] + y
                back = way[-2:-1] == [to]
                if not back and self._free(source, end, at, to, turn):
                    price = self._price(source, end, at, to, side, turn)
                    count = 4 * len(done) + turn  # the first that was found, of equal ones
                    heapq.heappush(queue, (cost + price, count, turn, [*way, to]))
        raise ValueError(f"no way is left from {source} to {target}; move a node")

    def _free(self, source: str, end: Point, at: Point, to: Point, turn: int) -> bool:
        """Whether a step may be made: on the board, through no node, along no other line."""
        inside = all(a <= b <= c for a, b, c in zip(self.low, to, self.high, strict=True))
        own = self.steps.get((at, to), source) == source and (to, at) not in self.steps
        if not (inside and own) or (to in self.taken and to != end):
            return False
        sides = (turn, (turn + 2) % 4)
        along = {self.steps.get(s) for k in sides for s in self._beside(to, SIDES[k])}
        return to == end or along <= {source, None}  # others are crossed at right angles

    def _beside(self, point: Point, side: Point) -> Iterator[tuple[Point, Point]]:
        """A step away from a point, and the same one back."""
        other = point[0] + side[0], point[1] + side[1]
        yield from ((point, other), (other, point))

    def _price(self, source: str, end: Point, at: Point, to: Point, side: int, turn: int) -> float:
        price = SHARED if (at, to) in self.steps else LONG
        met = self.through.get(to, set())
        if to != end and (met - {source} or (source in met and (at, to) not in self.steps)):
            price += CROSSING
        if side not in (-1, turn):
            near = any((at[0] + x, at[1] + y) in self.taken for x, y in SIDES)
            parts = source in self.through.get(at, set())
            price += TURN + (near and parts) + self.tight * (to == end)
        if to == end and turn != UP:
            price += self.upright.get(self.taken[end], 0.0)
        return price

    def _lay(self, source: str, way: Way) -> Way:
        self.steps |= dict.fromkeys(pairwise(way), source)
        for point in way[1:-1]:
            self.through.setdefault(point, set()).add(source)
        return way


def corners(way: Way) -> Iterator[Point]:
    """The ends of a way, and where it turns."""
    yield way[0]
    for a, b, c in zip(way, way[1:], way[2:], strict=False):
        if (b[0] - a[0], b[1] - a[1]) != (c[0] - b[0], c[1] - b[1]):
            yield b
    yield way[-1]
