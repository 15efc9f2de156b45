"""The three studies, as jobs that return counts: right ops, wrong ops, and functions of arrays."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable

import tinygrad_rnn as tg
from benchmarks.checker import fusions, jumps, kinks, noisy, offset, scaled, smooth
from benchmarks.checker.mutants import MUTANTS, Mutant, applied, is_wrong
from benchmarks.checker.planted import ERRORS, planted
from benchmarks.checker.problem import KINDS
from benchmarks.checker.rules import (
    Verdict,
    checker,
    judged,
    of_pair,
    of_tensors,
    torch_fast,
    torch_slow,
)
from benchmarks.checker.wrong import right
from tests.ops.drawing import cases
from tests.ops.table import ROWS as TABLE

REGISTERED = (jumps, kinks, noisy, offset, scaled, smooth)  # importing one registers its kinds
ROWS = {row.name: row for row in (*TABLE, *fusions.ROWS) if row.order}
FUSED = [n for n in tg.__all__ if hasattr(getattr(tg, n), "definition")]
assert set(FUSED) <= set(ROWS), f"fused ops without a row: {FUSED}"
RULES = ("checker", "torch slow", "torch fast")
WHOLE = 1000  # elements of inputs up to which torch's slow rule, the whole Jacobian, is applied
CLOSELY = 5  # wrong examples of a mutant that are judged even after it is caught


def drawn(
    row: Any, count: int, start: int, use: Callable[[Any], Any], square: bool = False
) -> None:
    """Call `use` on `count` cases of a row, drawn as its property tests draw them."""
    strategy = cases(row).filter(_has_square) if square else cases(row)

    @seed(start + zlib.crc32(row.name.encode()))
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(case: Any) -> None:
        use(case)

    try:
        run()
    except Unsatisfiable:
        assert square, f"{row}: nothing was drawn"


def _has_square(case: Any) -> bool:
    return any(a.ndim > 1 and a.shape[-1] == a.shape[-2] > 1 for a in case.arrays)


def _empty(case: Any) -> bool:
    return not sum(a.size for a in case.arrays) or not sum(v.size for v in case(*case.arrays))


def _torch(fn: Any, case: Any, order: int) -> tuple[str, str]:
    """What torch's two rules say of the derivatives of an order."""
    rng = np.random.default_rng(case.seed)
    try:
        subject, arrays = of_tensors(fn, order, case.arrays, rng)
    except Exception:
        return "fail", "fail"
    slow = judged(torch_slow, subject, arrays)
    return slow, judged(torch_fast, subject, arrays, rng)


# Right ops


def right_op(name: str, options: Any) -> dict[str, Any]:
    """False alarms at a row of the table."""
    row, counts, alarms, beside = ROWS[name], Counter[str](), [], Counter[str]()

    def use(case: Any) -> None:
        counts["examples"] += 1
        found = checker(case, case.arrays, case.seed, row.order)
        word = "empty" if found.word == "unsure" and _empty(case) else found.word
        counts[word] += 1
        if word in ("fail", "error", "unsure") and counts[word] == 1:
            alarms.append((name, word, _shown(case), found.text))
        if beside["examples"] < options.beside:
            beside["examples"] += 1
            pairs = [_torch(case, case, order) for order in range(1, row.order + 1)]
            for rule, words in zip(RULES[1:], zip(*pairs, strict=True), strict=True):
                beside[rule] += "fail" in words

    drawn(row, options.examples, options.seed, use)
    return {"name": name, "counts": counts, "alarms": alarms, "beside": beside}


def _shown(case: Any) -> str:
    shapes = ", ".join(str(a.shape) for a in case.arrays)
    return f"{shapes} {case.meta} seed {case.seed}"


# Wrong ops


def wrong_op(name: str, options: Any) -> dict[str, Any]:
    """Which mutants of a row are caught."""
    row, plain, square = ROWS[name], [], []
    drawn(row, options.draws, options.seed, plain.append)
    drawn(row, options.draws, options.seed, square.append, square=True)
    found = []
    for mutant in MUTANTS:
        chosen = square if mutant.kind == "transposed" else plain
        found.append(_mutant(mutant, chosen, lambda case, m=mutant: applied(m, case)))
    if name in fusions.FUSIONS:
        found += [_mutant(m, plain, build) for m, build in _fused_mutants(name)]
    return {"name": name, "mutants": [m for m in found if m["wrong"]], "draws": options.draws}


def _fused_mutants(name: str) -> list[tuple[Mutant, Any]]:
    def always(fn: Any) -> Any:
        return lambda case: ((lambda *xs: fn(*xs, **case.meta)), None)

    def no_rule(case: Any) -> None:
        raise AssertionError

    kernel = Mutant("fused: kernel alone wrong", "scaled by 1.001", no_rule, everywhere=True)
    signed = kernel._replace(which="sign")
    definition = Mutant("fused: definition alone wrong", "scaled by 1.001", no_rule, 2, True)
    return [
        (kernel, always(fusions.wrong_kernel(name, 1.001))),
        (signed, always(fusions.wrong_kernel(name, -1.0))),
        (definition, always(fusions.wrong_definition(name))),
    ]


def _mutant(mutant: Mutant, chosen: list[Any], build: Any) -> dict[str, Any]:
    """One mutant at its examples: until each rule has caught it, the first few in any case."""
    tally: dict[str, Any] = {**mutant._asdict(), "wrong": 0, "seen": Counter(), "text": ""}
    tally["caught"] = dict.fromkeys(RULES, False)
    del tally["build"]
    for case in chosen:
        made = build(case)
        if made is None or not _is_wrong(mutant, case, made[1]):
            continue
        tally["wrong"] += 1
        closely = tally["wrong"] <= CLOSELY
        if closely or not tally["caught"]["checker"]:
            found = checker(made[0], case.arrays, case.seed, mutant.order)
            word = found.word
            if (
                word == "error" and mutant.writes
            ):  # the array was read-only: the write itself failed
                word = "fail"
            tally["caught"]["checker"] |= word == "fail"
            tally["seen"][word] += closely
            tally["text"] = f"{_shown(case)}: {found.text}" if word != "fail" else tally["text"]
        if closely or not all(tally["caught"].values()):
            words = _torch(made[0], case, mutant.order)
            for rule, word in zip(RULES[1:], words, strict=True):
                tally["caught"][rule] |= word == "fail"
        if not closely and all(tally["caught"].values()):
            break
    return tally


def _is_wrong(mutant: Mutant, case: Any, rule: Any) -> bool:
    if mutant.writes:
        return True
    if rule is None:
        gs = [np.ones_like(v) for v in case(*case.arrays)]
        return any(np.any(d) for d in right(case, case.arrays, gs))
    return is_wrong(case, rule, mutant.order)


# Functions of arrays


def function(name: str, options: Any) -> dict[str, Any]:
    """False alarms and misses at a kind of function."""
    kind, counts, listed = KINDS[name], Counter[Any](), []
    for index in range(options.right):
        problem = kind.problem(options.seed, index)
        words = _words(problem, index, index < options.beside)
        for rule, found in words.items():
            counts["right", rule, found.word] += 1
        found = words["checker"]
        if found.word in ("fail", "error") or (
            found.word == "unsure" and kind.category == "smooth"
        ):
            listed.append((name, kind.category, f"right, {found.word}", index, found, 0.0))
    for index in range(options.planted):
        for number, error in enumerate(ERRORS):
            rng = np.random.default_rng([options.seed, number, index])
            wrong, weight = planted(error, kind.problem(options.seed, index), rng)
            if wrong is None:
                continue
            words = _words(wrong, index, index < options.beside)
            for rule, found in words.items():
                counts["planted", rule, found.word] += 1
            found = words["checker"]
            if found.word == "pass":
                counts["planted", "checker", "kink noted"] += found.kinks
                listed.append((name, kind.category, error, index, found, weight))
    return {"name": name, "category": kind.category, "counts": counts, "listed": listed}


def _words(problem: Any, index: int, beside: bool) -> dict[str, Verdict]:
    arrays = problem.arrays
    words = {"checker": checker((problem.f, problem.vjp), arrays, index)}
    if beside:
        subject, rng = of_pair(problem), np.random.default_rng(index)
        if sum(x.size for x in arrays) <= WHOLE:
            words["torch slow"] = Verdict(judged(torch_slow, subject, arrays))
        words["torch fast"] = Verdict(judged(torch_fast, subject, arrays, rng))
    return words


JOBS = {"right": right_op, "wrong": wrong_op, "functions": function}


def run(job: tuple[str, str, Any]) -> tuple[str, dict[str, Any]]:
    part, name, options = job
    with np.errstate(all="ignore"):
        return part, JOBS[part](name, options)
