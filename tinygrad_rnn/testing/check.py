"""First derivatives of one subject at one point: what is compared, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.testing.blame import Search
from tinygrad_rnn.testing.causes import causes
from tinygrad_rnn.testing.differences import bends, kinked
from tinygrad_rnn.testing.laws import LARGE, LAWS, LET_OFF, Seen, form, stateful
from tinygrad_rnn.testing.point import ERRORS, Comparison, Direction, Point, signed
from tinygrad_rnn.testing.report import Report
from tinygrad_rnn.testing.subjects import Subject


@dataclass(frozen=True)
class Options:
    """What the caller of a check may choose."""

    modes: Sequence[str]
    kinks: str
    names: Sequence[str]
    resolution: float | None
    rng: np.random.Generator


SAMPLE = 5  # outputs with a kink that are looked at, if there are more
COARSE = "differences are too coarse here: fn jumps, bends, is noisy or not defined nearby"
EMPTY = "nothing to compare: the inputs or the outputs have no elements"


def formed(report: Report, point: Point, w: Array) -> Array | None:
    """The gradient of w · f, if there is one to compare; the report says if not, and why."""
    finite = np.isfinite(point.y)
    if not finite.all():
        place = point.output_label(int(np.argmin(finite)))
        report.notes.append(f"fn is not finite at the inputs: {place}")
        return None
    given = point.cotangents(w)
    found = point.run.pull(given)
    if problems := list(form(point, found, given, w)):
        report.verdict, report.causes = "fail", problems
    elif not (point.inputs.size and point.outputs.size):
        report.notes.append(EMPTY)
    else:
        return point.inputs.join(found)
    return None


class Check:
    """A check of first derivatives; `run` gives the report."""

    def __init__(
        self, subject: Subject, arrays: Sequence[Array], options: Options, laws: bool = True
    ) -> None:
        self.laws = laws
        self.point, self.report = Point(subject, arrays, options.names), Report()
        self.options, self.rng = options, options.rng

    def run(self) -> Report:
        point, report = self.point, self.report
        direction = Direction(point, self.rng)
        gradient = formed(report, point, direction.w)
        if gradient is not None:
            known = Comparison(point, direction.line, direction.w, gradient)
            if not (known.finite and self.fine(known)):
                known = self.finer(known, direction)  # too much may be made of small outputs
                if not self.fine(known):  # terms may have cancelled
                    known = self.finer(known, Direction(point, self.rng))
            if point.misfit:
                report.verdict, report.causes = "fail", ["results change their shape"]
            elif not known.finite:
                self.broken(known)
            else:
                self.compare(known)
        return report

    def fine(self, known: Comparison) -> bool:
        limit = self.options.resolution or (1e-3 if known.eps < 1e-10 else 0.1)
        return known.resolution <= limit

    def finer(self, known: Comparison, direction: Direction) -> Comparison:
        """The finer of a comparison and another."""
        w = direction.weights(1e-3)
        other = Comparison(self.point, direction.line, w, self.point.pull(w))
        return other if not known.finite or other.resolution < known.resolution else known

    def broken(self, known: Comparison) -> None:
        """A gradient that is not finite: wrong where there is a slope."""
        k = int(np.argmin(np.isfinite(known.gradient)))
        problem = f"{self.point.label(k)}: the gradient is {known.gradient[k]}"
        if known.kink if known.table.rough else np.isfinite(known.error):
            self.report.verdict, self.report.causes = "fail", [problem]
        else:
            self.report.notes.append(problem)

    def compare(self, known: Comparison) -> None:
        """Compare with differences, then with other gradients."""
        report, point, w = self.report, self.point, known.w
        large = point.x.size > LARGE
        v = np.zeros_like(w)
        if not large:
            v = signed(self.rng, w.size) * np.abs(w) * self.rng.integers(0, 2, w.size)
        crossed, values = self.ways(known, v)
        self.decide(known, values)
        sound = report.verdict != "fail" and np.isfinite(known.error)
        if sound and self.laws and "vjp" in self.options.modes:
            seen = Seen(point, known, v, crossed, self.rng)
            report.causes += [problem for law in LAWS[large] for problem in law(seen)]
            report.verdict = "fail" if report.causes else report.verdict
            report.notes += [LET_OFF] * large
        if report.verdict != "pass" and (told := list(stateful(point, known))):
            report.verdict, report.causes = "fail", report.causes + told

    def ways(self, known: Comparison, v: Array) -> tuple[Array, dict[str, float]]:
        """The gradient of (v - 2 w) · f, and the derivative of w · f along u in each mode."""
        point, cotangent = self.point, v - 2 * known.w
        values = {"vjp": known.analytic} if "vjp" in self.options.modes else {}
        if "jvp" not in self.options.modes or not point.run.recorded:
            return point.pull(cotangent), values
        pairs = zip(point.inputs.split(known.u), point.arrays, strict=True)
        tangents = [np.asarray(d, a.dtype) for d, a in pairs]
        gradient, push = point.run.recorded(point.cotangents(cotangent), tangents)
        try:
            values["jvp"] = float(known.w @ point.outputs.join(push()))
        except NotImplementedError as error:
            self.report.notes.append(f"jvp not checked: {error}")
        return point.inputs.join(gradient), values

    def decide(self, known: Comparison, values: dict[str, float]) -> None:
        """Compare; look closer where something disagrees."""
        report, point = self.report, self.point
        if not self.fine(known):
            known.measure()
        wrong = [value for value in values.values() if not known.agrees(value)]
        report.analytic, report.numeric = [*wrong, known.analytic][0], known.table.value
        report.error, report.step = known.error, known.table.step
        report.resolution = known.resolution
        fine = "pass" if values and self.fine(known) else "unsure"
        if wrong == [values.get("jvp")] != [known.analytic] and known.agrees():
            report.verdict, report.causes = "fail", ["the jvp is not the vjp transposed"]
        elif wrong and np.isfinite(known.error):
            self.accuse(known, fine)
        else:
            report.verdict = fine if not known.table.rough or known.kink else "unsure"
            places = kinked(known.line)
            if places.size and not bends(known.line, int(places[0]), ERRORS):
                places = places[:0]
            self.kinks([f"{point.output_label(int(j))}: slopes differ" for j in places])
            if values and report.verdict == "unsure":
                report.notes.append(point.trouble or COARSE)

    def kinks(self, kinks: list[str]) -> None:
        self.report.list_kinks(kinks)
        if kinks and self.options.kinks == "fail" != self.report.verdict:
            self.report.verdict, self.report.causes = "fail", ["not differentiable"]

    def accuse(self, known: Comparison, fine: str) -> None:
        """Find out what a disagreement is: a wrong gradient, a kink, or a function too rough."""
        report, point, w = self.report, self.point, known.w
        bent = kinked(known.line)
        if bent.size:  # what is smooth, and if that is right, some of the rest
            w = w.copy()
            w[bent] = 0.0
            if Comparison(point, known.line, w, point.pull(w)).agrees():
                w, some = np.zeros_like(w), self.rng.permutation(bent)[:SAMPLE]
                w[some] = known.w[some]
                report.notes += [f"kinks looked at: {SAMPLE} of {bent.size}"] * (bent.size > SAMPLE)
        search = Search(point, known, w)
        wrong, kinks, rough = (
            [e for e in search.found if e.verdict == verdict]
            for verdict in ("fail", "kink", "unsure")
        )
        if kinks and not wrong:
            wrong = list(search.together())
        report.elements = wrong or rough
        if wrong:
            report.verdict, report.causes = "fail", list(causes(point, known.u, known.w))
        elif search.found and not rough and not search.diffuse:
            report.verdict = fine
        elif not rough:
            report.notes.append("differences disagree, but on no single entry that could be found")
        self.kinks([str(kink) for kink in kinks])
