"""What a gradient check found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

WORST = 5  # elements and kinks that are shown


@dataclass(frozen=True)
class Element:
    """One entry of the Jacobian, d output / d input, as both ways see it."""

    input: str
    output: str
    analytic: float
    numeric: float
    error: float  # of `numeric`, estimated
    step: float  # the change of the input element
    slopes: tuple[float, float] | None = None  # from left and right, where they differ
    verdict: str = "fail"
    convex: bool | None = None  # whether the slope grows at the kink, if it is along this input

    def __str__(self) -> str:
        kink = "" if self.slopes is None else ", slopes {:.6g} and {:.6g}".format(*self.slopes)
        analytic, numeric = f"{self.analytic:.10g}", f"{self.numeric:.10g}"
        if analytic == numeric:
            analytic, numeric = repr(float(self.analytic)), repr(float(self.numeric))
        return (
            f"d {self.output} / d {self.input}: analytic {analytic}, numeric {numeric} ± "
            f"{self.error:.1g} (step {self.step:.1g}{kink})"
        )


@dataclass
class Report:
    """The result of a check; true only where it passed.

    Attributes:
        verdict: "pass", "fail" or "unsure".
        order: the order of the derivative that `analytic` and `numeric` are of.
        resolution: the smallest relative error of the derivative that this check could have seen.
        analytic, numeric, error, step: the derivative along the direction that decided, by the
            backward pass and by differences, the estimated error of the latter, and the step (in
            units of the inputs' own size).
        elements: the worst entries of the Jacobian, where the verdict is "fail".
        kinks: where slopes from left and right differ.
        causes: what is wrong, or likely to be.
        notes: what else was seen.
        evaluations: how often the function was evaluated.
    """

    verdict: str = "unsure"
    order: int = 1
    resolution: float = float("inf")
    analytic: float = float("nan")
    numeric: float = float("nan")
    error: float = float("inf")
    step: float = float("nan")
    elements: list[Element] = field(default_factory=list)
    kinks: list[str] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    evaluations: int = 0

    def __bool__(self) -> bool:
        return self.verdict == "pass"

    def list_kinks(self, kinks: Sequence[str]) -> None:
        """Add some kinks, and how many more there are."""
        self.kinks += kinks[:WORST]
        if len(kinks) > WORST:
            self.kinks.append(f"and {len(kinks) - WORST} more")

    def __str__(self) -> str:
        lines = [f"{self.verdict}: order {self.order}, {self.evaluations} evaluations"]
        if self.error < float("inf"):
            lines.append(
                f"  along a random direction: analytic {self.analytic:.10g}, numeric "
                f"{self.numeric:.10g} ± {self.error:.1g} (step {self.step:.1g})"
            )
            if self:
                lines[-1] += f"; relative errors down to {self.resolution:.1g} would show"
        lines += [f"  {element.verdict}: {element}" for element in self.elements]
        lines += [f"  likely cause: {cause}" for cause in self.causes]
        lines += [f"  kink: {kink}" for kink in self.kinks]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


class GradientError(AssertionError):
    """A gradient is wrong; `report` says where."""

    def __init__(self, report: Report, title: str = "gradcheck") -> None:
        super().__init__(f"{title}: {report}")
        self.report = report
