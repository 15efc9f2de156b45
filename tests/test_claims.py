"""docs/claims.md says what the stored runs say, and would say the opposite of opposite runs."""

import copy
import doctest
import functools
import importlib
import operator
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import claims  # noqa: E402

sys.path.remove(str(ROOT / "docs"))
NAMES = ("model", "network", "method", "n", "window", "unit")  # by which rows are told apart
TESTS = [pytest.param(test, id=f"{test.claim}-{k}") for k, test in enumerate(claims.TESTS)]


def leaves(value, path=()):
    """(place, label) of every number in a result; rows of one model have one label."""
    if isinstance(value, dict):
        names = tuple(value.get(name) for name in NAMES if not isinstance(value.get(name), dict))
        for key, part in value.items():
            for place, label in leaves(part, (*path, key)):
                yield place, (names, key, *label)
    elif isinstance(value, list):
        rows = all(isinstance(part, dict) for part in value)
        for k, part in enumerate(value):
            for place, label in leaves(part, (*path, k)):
                yield place, ("row" if rows else k, *label)
    elif value is None or isinstance(value, (int, float)):
        yield path, ()


def altered(runs):
    """The runs, with all numbers of one label made larger or smaller; the next time with others."""
    runs, groups = copy.deepcopy(runs), {}
    for k, run in enumerate(runs):
        for place, label in leaves(run):
            groups.setdefault((k, label), []).append((k, *place))
    for places in groups.values():
        rows = [
            (functools.reduce(operator.getitem, place[:-1], runs), place[-1]) for place in places
        ]
        before = [row[key] for row, key in rows]
        for factor in (1e-9, 0.9, 1.02, 1.2, 1e9):
            for (row, key), value in zip(rows, before, strict=True):
                row[key] = (value or 1) * factor
            yield runs
        for (row, key), value in zip(rows, before, strict=True):
            row[key] = value


def said(test, runs):
    try:
        return claims.judged(test, runs).words
    except (ZeroDivisionError, OverflowError, KeyError, TypeError, IndexError):
        return None  # no result of a run


@pytest.mark.parametrize("test", TESTS)
def test_every_test_can_say_both(test):
    runs = claims.stored(test.runs)
    if not claims.judged(test, runs).values:
        pytest.skip(f"{test.runs} is not stored")
    first, others = said(test, runs), {"**supported**", "**not supported**"}
    found = set()
    for changed in altered(runs):
        words = said(test, changed)
        found.add(words and words.partition(":")[0])
        if others <= found | {first.partition(":")[0]}:
            return
    raise AssertionError(f"{test.quantity}: only ever {found}")


@pytest.mark.parametrize(
    ("values", "words", "share"),
    [
        ([1.2, 1.5], "**supported**", 1.2),
        ([1.0], "**supported**", 1.0),
        ([0.5, 0.9], "**not supported**", 0.5),
        ([1.5, 0.9, 1.1], "**not supported**: 2 of 3 values are within", 0.9),
        ([float("nan")], "**not supported**", None),
        ([], "not tested: no run is stored", None),
    ],
)
def test_a_claim_is_supported_if_all_values_are_within(values, words, share):
    at_least = claims.Test("1.1", "", "x", lambda runs: values, least=1)
    found = claims.judged(at_least, [{}])
    assert found.words == words and (share is None or found.share == share)
    if values and values[0] == values[0]:
        at_most = at_least._replace(
            values=lambda runs: [1 / v for v in values], least=-float("inf")
        )
        again = claims.judged(at_most._replace(most=1), [{}])
        assert again.words == words and again.share == pytest.approx(1 / share)


def compared(**perplexities):
    """A result of compare_lm with three seeds."""
    found = []
    for model, values in perplexities.items():
        rows = enumerate(values) if len(values) > 1 else [(None, values[0])]
        found += [
            {"model": model, "seed": seed, "validation": {"perplexity": value}}
            for seed, value in rows
        ]
    return {"judged by": "validation", "recipe": {"seeds": 3}, "runs": found}


def test_models_are_compared_seed_by_seed():
    run = compared(window=[90, 80, 70], lstm=[60, 80, 100]) | {}
    run["runs"] += compared(**{"5-gram": [72]})["runs"]
    ratio = claims.ratio("window", "lstm", "part", "perplexity")
    assert ratio([run]) == [1.5, 1.0, 0.7]
    assert claims.ratio("5-gram", "window", "part", "perplexity")([run]) == [0.8, 0.9, 72 / 70]
    assert claims.ratio("lstm", "gru", "part", "perplexity")([]) == []


def test_a_reach_beyond_all_steps_counts_as_all_of_them():
    rows = [{"network": "LSTM", "reach": None}, {"network": "GRU", "reach": 9}]
    runs = [{"recipe": {"steps": 100}, "networks": rows}]
    assert claims.network("LSTM", "reach")(runs) == [100]
    assert claims.network("GRU", "reach")(runs) == [9]


# The page


def test_the_page_is_up_to_date():
    text = claims.PAGE.read_text(encoding="utf-8")
    assert claims.rewritten(text) == text, "out of date: run python docs/claims.py"
    assert text.count("**supported**") > 10 and text.count("**not supported**") > 3


def test_every_claim_is_there_once_with_a_test_or_without():
    text = claims.PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+\.\d+) \| ([^|]*?) ?\|", text, re.MULTILINE)
    rest = re.findall(r"^\* (\d+\.\d+): (.+)$", text, re.MULTILINE)
    assert dict([(n, claim) for n, claim in rows if claim] + rest) == claims.CLAIMS
    assert not {n for n, _ in rows} & {n for n, _ in rest}
    numbers = [tuple(map(int, n.split("."))) for n in claims.CLAIMS]
    assert numbers == sorted(numbers) and len(rows) == len(claims.TESTS)


def test_every_test_has_one_threshold_and_is_in_order():
    order = list(claims.CLAIMS)
    places = [order.index(test.claim) for test in claims.TESTS]
    assert places == sorted(places)
    for test in claims.TESTS:
        assert (test.least > -float("inf")) != (test.most < float("inf")), test.quantity


def test_scripts_and_commands_of_the_page_are_those_of_the_zoo():
    text = claims.PAGE.read_text(encoding="utf-8")
    commands = re.findall(r"`python -m ([\w.]+)", text)
    assert len(commands) > 20
    for module in set(commands):
        assert importlib.util.find_spec(module), module


def test_one_more_record_is_one_more_line(monkeypatch, tmp_path):
    more = claims.Test("5.6", "none-*", "perplexity", lambda runs: [1.0], least=1)
    monkeypatch.setattr(claims, "TESTS", [*claims.TESTS, more])
    monkeypatch.setattr(claims, "ROOT", tmp_path)
    monkeypatch.setattr(claims, "PAGE", tmp_path / "claims.md")
    page = "<!-- claims: {0} -->\nSTALE\n<!-- end of claims -->\n"
    claims.PAGE.write_text(page.format("tested") + page.format("untested"), encoding="utf-8")
    claims.main()
    text = claims.PAGE.read_text(encoding="utf-8")
    assert "STALE" not in text and "* 5.7: " in text and "* 5.6: " not in text
    line = text.splitlines()[len(claims.TESTS) + 2]
    assert line.startswith("| 5.6 | Reading in both directions")
    assert "| not tested: no run is stored |" in line and "supported" not in line


def test_the_examples_run():
    assert doctest.testmod(claims) == (0, 1)
