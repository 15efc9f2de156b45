"""What gradcheck catches, misses and falsely accuses: python -m benchmarks.checker_power

Three studies, each beside the rule of torch.autograd.gradcheck (its defaults, stated once more on
arrays): every differentiable op as it is; every op with each wrong rule that can be made of it;
and functions of arrays, from smooth ones to noisy ones, with their vjps and with errors planted in
these. The full study, `--full`, checks every op 10,000 times and draws 124,800 right gradients.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np

import tinygrad_rnn as tg
from benchmarks.checker.mutants import MUTANTS
from benchmarks.checker.problem import CATEGORIES, KINDS
from benchmarks.checker.study import ROWS, RULES, run

Results = dict[str, list[dict[str, Any]]]
WORDS = ("fail", "unsure", "pass", "error")
LATER = ("keep", "processes", "parts", "only", "full")  # settings that change no result
LISTED = 150  # kinds of misses at most
FULL = {"examples": 10_000, "draws": 100, "right": 1600, "planted": 100, "beside": 100}


def share(part: float, whole: float) -> str:
    """A percentage that does not round a few to none or all."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    return f"{percent:.3g} %" if percent < 99 else f"{100 - float(f'{100 - percent:.1g}'):.6g} %"


def right_ops(rows: list[dict[str, Any]]) -> None:
    total: Counter[str] = sum((r["counts"] for r in rows), Counter())
    beside: Counter[str] = sum((r["beside"] for r in rows), Counter())
    checked = total["examples"]
    print(f"\nRIGHT OPS: {len(rows)} ops, {checked:,} examples, first and second derivatives")
    print(f"{'':14}{'examples':>10}{'falsely accused':>18}{'unsure':>10}{'empty':>10}")
    alarms = total["fail"] + total["error"]
    print(f"{'checker':14}{checked:10,}{alarms:18,}{total['unsure']:10,}{total['empty']:10,}")
    for rule in RULES[1:]:
        print(f"{rule:14}{beside['examples']:10,}{beside[rule]:18,}")
    if not alarms:
        print(f"no false alarm: with 95 % confidence fewer than {3 / max(checked, 1):.1g} of all")
    for row in rows:
        for name, word, shown, text in row["alarms"]:
            what = "unsure" if word == "unsure" else "FALSE ALARM"
            print(f"  {what} {row['counts'][word]} times: {name}; first at {shown}")
            print("    " + text.replace("\n", "\n    "))


def wrong_ops(rows: list[dict[str, Any]]) -> None:
    mutants = [{**m, "row": r["name"]} for r in rows for m in r["mutants"]]
    draws = max(r["draws"] for r in rows)
    print(
        f"\nWRONG OPS: {len(mutants):,} mutants of {len(rows)} ops, {draws} examples each at most:"
    )
    print("how many are caught, and how the checker judges single examples on which they are wrong")
    heads = f"{'mutant':52}{'number':>8}" + "".join(f"{r:>12}" for r in RULES)
    print(heads + f"{'fail':>9}{'unsure':>8}{'pass':>9}{'error':>8}")
    groups: dict[str, list[Any]] = {f"{m.kind}: {m.which}".rstrip(": "): [] for m in MUTANTS}
    for m in mutants:
        groups.setdefault(f"{m['kind']}: {m['which']}".rstrip(": "), []).append(m)
    groups["ALL"] = mutants
    groups["ALL wrong everywhere by 0.1 % or more"] = [m for m in mutants if m["everywhere"]]
    for name, group in groups.items():
        cells = [share(sum(m["caught"][r] for m in group), len(group)) for r in RULES]
        seen: Counter[str] = sum((m["seen"] for m in group), Counter())
        judged = [share(seen[word], sum(seen.values())) for word in WORDS]
        print(f"{name:52}{len(group):8,}" + "".join(f"{c:>12}" for c in cells), end="")
        print("{:>9}{:>8}{:>9}{:>8}".format(*judged))
    missed = [m for m in mutants if not m["caught"]["checker"]]
    print(f"missed by the checker: {len(missed)}")
    for m in missed[:LISTED]:
        print(f"  {m['row']}: {m['kind']}, {m['which']}; wrong on {m['wrong']} examples; the last:")
        print("    " + m["text"].replace("\n", "\n    "))


def tallied(counts: Counter[Any], part: str, rule: str, word: str) -> str:
    total = sum(n for (p, r, w), n in counts.items() if p == part and r == rule and w in WORDS)
    found = counts[part, rule, word]
    if word == "fail":
        found += counts[part, rule, "error"]
    return share(found, total)


def functions(kinds: list[dict[str, Any]]) -> None:
    right = sum(n for k in kinds for (p, r, w), n in k["counts"].items()
                if p == "right" and r == "checker")  # fmt: skip
    print(f"\nFUNCTIONS: {len(kinds)} kinds, {right:,} right gradients; errors of 1e-3 and more")
    print("right gradients: falsely accused (and unsure); planted errors: passed (and unsure)")
    print(f"{'':38}{'right':>8}{'checker':>20}{'torch slow':>12}{'torch fast':>12}"
          f"{'planted':>9}{'checker':>20}{'torch slow':>12}{'torch fast':>12}")  # fmt: skip
    names = {c: [k for k in kinds if k["category"] == c] for c in CATEGORIES}
    for category, group in [*names.items(), ("ALL", kinds)]:
        counts: Counter[Any] = sum((k["counts"] for k in group), Counter())
        line = f"{CATEGORIES.get(category, category):38}"
        for part, word in (("right", "fail"), ("planted", "pass")):
            total = sum(counts[part, "checker", w] for w in WORDS)
            unsure = tallied(counts, part, "checker", "unsure")
            own = f"{tallied(counts, part, 'checker', word)} ({unsure})"
            others = [tallied(counts, part, r, word) for r in RULES[1:]]
            line += f"{total:{8 if part == 'right' else 9},}{own:>20}" + "".join(
                f"{o:>12}" for o in others
            )
        print(line)
    listing(kinds)


def listing(kinds: list[dict[str, Any]]) -> None:
    """Alarms in full; misses counted by function and error, with the first of each."""
    groups: dict[tuple[str, ...], list[Any]] = {}
    for k in kinds:
        for name, category, what, index, found, weight in k["listed"]:
            noted = ", a kink noted" if found.kinks else ""
            groups.setdefault((category, name, what + noted), []).append((index, found, weight))
    total = sum(k["counts"]["planted", "checker", "pass"] for k in kinds)
    noted = sum(k["counts"]["planted", "checker", "kink noted"] for k in kinds)
    print(f"planted errors passed: {total}, of these with a kink noted in the report: {noted}")
    ranked = sorted(
        groups.items(), key=lambda g: (not g[0][2].startswith("right"), g[1][0][1].kinks)
    )
    for (category, name, what), found in ranked[:LISTED]:
        index, first, weight = found[0]
        text = first.text.splitlines()
        print(f"  {category}: {name}, {what}: {len(found)}; first at {index}: {text[0]}")
        for line in text[1:4] if what.startswith("right") else [why(first, weight)]:
            print(f"      {line.strip()}")


def why(found: Any, weight: float) -> str:
    """Why a planted error passed."""
    if found.kinks:
        return "why: a kink was seen, and the wrong value lies between its two slopes"
    if weight < found.resolution:
        return f"why: the wrong entries make up {weight:.1g} of the derivative, too little to see"
    return f"why: unexplained; the wrong entries make up {weight:.1g} of the derivative"


PRINTED = {"right": right_ops, "wrong": wrong_ops, "functions": functions}


def jobs(options: argparse.Namespace) -> list[tuple[str, str, Any]]:
    def wanted(name: str) -> bool:
        return not options.only or any(word in name for word in options.only)

    names = {"right": ROWS, "wrong": ROWS, "functions": KINDS}
    return [(p, n, options) for p in options.parts for n in names[p] if wanted(n)]


def resumed(job: tuple[str, str, Any]) -> Any:
    """A job's result: the one that an earlier run left in the folder `keep`, or a new one."""
    part, name, options = job
    if not options.keep:
        return run(job)
    settings = {k: v for k, v in vars(options).items() if k not in LATER}
    key = hashlib.sha256(repr((part, name, sorted(settings.items()))).encode()).hexdigest()
    path = Path(options.keep, f"{key}.pickle")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".part").write_bytes(pickle.dumps(run(job)))
        path.with_suffix(".part").rename(path)
    return pickle.loads(path.read_bytes())


def results(todo: list[tuple[str, str, Any]], processes: int) -> Iterator[Any]:
    if processes == 1:
        yield from map(resumed, todo)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(resumed, todo)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--full", action="store_true", help="the full study, some hours")
    add("--parts", nargs="+", default=list(PRINTED), choices=list(PRINTED), metavar="PART")
    add("--examples", type=int, default=100, help="of each right op (default: 100)")
    add("--draws", type=int, default=30, help="examples of each mutant (default: 30)")
    add("--right", type=int, default=100, help="right gradients of each kind (default: 100)")
    add("--planted", type=int, default=10, help="problems of each kind that get errors (10)")
    add("--beside", type=int, default=10, help="of these, how many torch's rules see (10)")
    add("--only", nargs="*", default=[], metavar="WORD", help="ops and kinds whose name has one")
    add("--seed", type=int, default=0)
    add("--processes", type=int, default=2)
    add("--keep", metavar="FOLDER", help="of results, where a stopped study goes on")
    options = parser.parse_args()
    if options.full:
        vars(options).update(FULL)
    return options


def main() -> None:
    options, start = parsed(), time.perf_counter()
    versions = {"python": platform.python_version(), "numpy": np.__version__,
                "tinygrad_rnn": tg.__version__}  # fmt: skip
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"python -m benchmarks.checker_power {' '.join(sys.argv[1:])}; seed {options.seed}")
    todo, found = jobs(options), Results()
    for k, (part, result) in enumerate(results(todo, options.processes), 1):
        found.setdefault(part, []).append(result)
        print(f"\r{k} of {len(todo)} jobs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for part, rows in found.items():
        PRINTED[part](rows)
    print(f"\n{(time.perf_counter() - start) / 60:.1f} minutes, {options.processes} processes")


if __name__ == "__main__":
    main()
