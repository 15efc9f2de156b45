"""Counts are exact, probabilities sum to one, and Kneser-Ney is what its paper says."""

import dataclasses
import doctest
import gzip
import hashlib
import importlib.util
import itertools
import json
import math
import os
import re
import signal
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import ngram_lm
from zoo.models import counts, ngrams
from zoo.models.counts import count
from zoo.models.ngrams import METHODS, perplexity
from zoo.running import recipes
from zoo.texts import corpora, tokens
from zoo.texts.corpora import load_parts
from zoo.texts.datasets import DataError, Known
from zoo.texts.tokens import Tokens, depths

ROOT = Path(__file__).resolve().parents[2]
DATA = os.environ.get("TINYGRAD_RNN_DATA")
SIZE = 5  # tokens, with <s>
LONGEST = ngram_lm.LONGEST
CATS = "the cat sat on a mat and\nthen it ran off and the\ncat sat and sat\n" * 20

pytest.importorskip("tqdm")
posix = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

words = st.integers(1, SIZE - 1)
sentences = st.lists(st.lists(words, min_size=1, max_size=9), min_size=1, max_size=8)
lengths = st.integers(1, LONGEST)
normal = pytest.mark.parametrize("method", [m for m in METHODS if m != "stupid-back-off"])


def joined(several):
    return np.array([token for sentence in several for token in (0, *sentence)])


def fit(method, ids, n, **options):
    recipe = ngram_lm.Recipe(**options)
    return ngram_lm.fit(recipe, method, count(ids, SIZE, n))


# Counting.


def grams(several, k):
    """The k-grams of sentences that begin with <s>, as tuples; not those that are <s> alone."""
    found = Counter()
    for sentence in several:
        padded = (0, *sentence)
        found.update(padded[t : t + k] for t in range(len(padded) - k + 1))
    del found[(0,)]
    return found


def unpacked(orders):
    """The tables as tuples and numbers."""
    shorter = [(token,) for token in range(SIZE)]
    for k, order in enumerate(orders, 1):
        if k > 1:
            longer = [shorter[key // SIZE] + (key % SIZE,) for key in order.keys.tolist()]
            for gram, suffix in zip(longer, order.suffixes.tolist(), strict=True):
                assert shorter[suffix] == gram[1:]
            shorter = longer
        yield dict(zip(shorter, order.counts.tolist(), strict=True))


@given(sentences, lengths)
def test_counts_are_those_of_a_dictionary_of_tuples(several, n):
    orders = count(joined(several), SIZE, n)
    for k, table in enumerate(unpacked(orders), 1):
        assert {g: c for g, c in table.items() if c} == grams(several, k)
        assert np.all(np.diff(orders[k - 1].keys) > 0)


@given(sentences, sentences, lengths)
def test_contexts_are_found_or_told_to_be_unseen_or_beyond_the_start(several, others, n):
    orders = count(joined(several), SIZE, n)
    rows = [list(table) for table in unpacked(orders)]
    contexts = counts.before([order.keys for order in orders], joined(others), SIZE)
    at = 0
    for sentence in others:
        padded = (0, *sentence)
        for t in range(1, len(padded)):
            for k in range(1, n):
                row = contexts[k][at]
                if k > t:
                    assert row == counts.BEYOND
                elif (context := padded[t - k : t]) in rows[k - 1]:
                    assert rows[k - 1][row] == context
                else:
                    assert row == counts.UNSEEN
            at += 1
    assert at == len(contexts[0]) and not contexts[0].any()


def test_depths_count_from_the_start_of_each_sentence():
    assert depths(joined([[1, 2], [3], [1, 1, 1]])).tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]


# Probabilities.


@normal
@given(sentences, st.lists(words, max_size=9), lengths, st.sampled_from([(1,), (1, 2), (1, 1, 3)]))
@settings(max_examples=60)
def test_probabilities_sum_to_one_after_any_context(method, several, history, n, cutoffs):
    model = fit(method, joined(several), n, cutoffs=cutoffs)
    p = model.distribution(np.array([0, *history]))
    assert p.shape == (SIZE,) and p[0] == 0 and p.min() >= 0
    assert p.sum() == pytest.approx(1, abs=2e-6)
    if method != "maximum-likelihood":
        assert p[1:].min() > 0  # nothing is impossible


@given(sentences, lengths)
def test_scores_of_stupid_back_off_are_no_probabilities(several, n):
    model = fit("stupid-back-off", joined(several), n)
    total = model.distribution(np.array([0, *several[0][:-1]])).sum()
    assert total > 1 - 1e-6


@pytest.mark.parametrize("method", METHODS)
@given(sentences, sentences, lengths)
@settings(max_examples=30)
def test_a_text_is_as_likely_as_its_tokens_one_by_one(method, several, others, n):
    model = fit(method, joined(several), n)
    slow = [
        model.distribution(np.array([0, *sentence[:t]]))[token]
        for sentence in others
        for t, token in enumerate(sentence)
    ]
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(model.losses(joined(others)), -np.log(slow), rtol=1e-12)


class Reference:
    """Interpolated modified Kneser-Ney by its formulas, on dictionaries of tuples."""

    def __init__(self, several, n, cutoffs):
        self.n, self.a, self.d = n, {}, {}
        self.cutoffs = [*cutoffs, *[cutoffs[-1]] * n][:n]
        for k in range(1, n + 1):
            whole, kinds = grams(several, k), Counter(g[1:] for g in grams(several, k + 1))
            keep = {g: c for g, c in whole.items() if k == n or g[0] == 0}
            self.a[k] = {**{g: kinds[g] for g in whole}, **keep}
            n1, n2, n3, n4 = (sum(a == r for a in self.a[k].values()) for r in (1, 2, 3, 4))
            d = ngrams.FALLBACK
            if n1 and n2 and n3:
                y = n1 / (n1 + 2 * n2)
                got = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
                d = got if all(0 <= got[r] <= r + 1 for r in range(3)) else d
            self.d[k] = d

    def __call__(self, word, context):
        context = context[len(context) - self.n + 1 :] if len(context) >= self.n else context
        return self.p(word, context)

    def p(self, word, context):
        k = len(context) + 1
        lower = self.p(word, context[1:]) if context else 1 / (SIZE - 1)
        after = {g[-1]: a for g, a in self.a[k].items() if g[:-1] == context}
        if not after:
            return lower
        total, taken = sum(after.values()), 0.0
        for w, a in after.items():
            d = a if a < self.cutoffs[k - 1] else self.d[k][min(a, 3) - 1]
            taken += d
            after[w] = a - d
        return (after.get(word, 0.0) + taken * lower) / total


@given(sentences, st.lists(words, max_size=9), lengths, st.sampled_from([(1,), (1, 1, 2), (1, 3)]))
def test_kneser_ney_is_what_its_formulas_give(several, history, n, cutoffs):
    model = fit("kneser-ney", joined(several), n, cutoffs=cutoffs)
    reference = Reference(several, n, cutoffs)
    for past in (history, several[-1][:-1]):
        fast = model.distribution(np.array([0, *past]))
        slow = [reference(word, (0, *past)) for word in range(1, SIZE)]
        np.testing.assert_allclose(fast[1:], slow, rtol=1e-5)


@pytest.mark.parity
def test_kneser_ney_is_what_nltk_gives_where_both_define_the_same(monkeypatch):
    """Bigrams, one discount for them and none for single words, words seen in training."""
    lm = pytest.importorskip("nltk.lm")
    rng = np.random.default_rng(0)
    several = [[*rng.integers(2, SIZE, size=rng.integers(1, 9)).tolist(), 1] for _ in range(30)]
    two = [
        [("0", str(s[0])), *((str(a), str(b)) for a, b in itertools.pairwise(s))] for s in several
    ]
    ones = [[(str(w),) for w in s] for s in several]
    theirs = lm.KneserNeyInterpolated(2, discount=0.1)
    vocabulary = [str(w) for w in range(SIZE)]
    theirs.fit([x + y for x, y in zip(ones, two, strict=True)], vocabulary)
    found = iter([(0.0,) * 3, (0.1,) * 3])
    monkeypatch.setattr(ngrams, "discounts", lambda a: next(found))
    ours = fit("kneser-ney", joined(several), 2)
    for a in range(SIZE):
        if a != 1:  # nothing follows <eos>
            context = np.array([0] if a == 0 else [0, 2, a])
            p = [theirs.score(str(w), (str(a),)) for w in range(1, SIZE)]
            np.testing.assert_allclose(ours.distribution(context)[1:], p, rtol=1e-5)


@given(sentences, st.lists(words, max_size=9), lengths, st.floats(1e-3, 10))
@settings(max_examples=50)
def test_ratios_and_added_counts_are_those_of_a_dictionary(several, history, n, k):
    past = (0, *history)[-(n - 1) :] if n > 1 else ()
    after = {g[-1]: c for g, c in grams(several, len(past) + 1).items() if g[:-1] == past}
    total = sum(after.values())
    added = fit("add-k", joined(several), n, k=k).distribution(np.array([0, *history]))
    slow = [(after.get(w, 0) + k) / (total + k * (SIZE - 1)) for w in range(1, SIZE)]
    np.testing.assert_allclose(added[1:], slow, rtol=1e-5)
    if total:
        plain = fit("maximum-likelihood", joined(several), n).distribution(np.array([0, *history]))
        np.testing.assert_allclose(plain[1:], [after.get(w, 0) / total for w in range(1, SIZE)])


@given(sentences, st.lists(words, max_size=9), lengths)
@settings(max_examples=50)
def test_stupid_back_off_multiplies_by_two_fifths_for_each_token_it_drops(several, history, n):
    def score(word, past):
        after = {g[-1]: c for g, c in grams(several, len(past) + 1).items() if g[:-1] == past}
        if word in after:
            return after[word] / sum(after.values())
        lower = score(word, past[1:]) if past else 1 / (SIZE - 1)
        return (0.4 if after else 1) * lower

    past = (0, *history)[-(n - 1) :] if n > 1 else ()
    fast = fit("stupid-back-off", joined(several), n).distribution(np.array([0, *history]))
    np.testing.assert_allclose(fast[1:], [score(w, past) for w in range(1, SIZE)], rtol=1e-5)


def test_weights_of_the_interpolation_are_the_likeliest():
    rng = np.random.default_rng(1)
    alone, below = rng.random((2, 400))
    n, buckets = rng.integers(1, 9, 400), rng.integers(2, 4, 400)
    mu = ngrams._weights(alone, below, n, buckets, 300)
    grid = np.linspace(0, 1, 2001)[1:-1]
    for b in (2, 3):
        here = buckets == b
        mixed = grid[:, None] * alone[here] + (1 - grid[:, None]) * below[here]
        best = grid[(n[here] * np.log(mixed)).sum(axis=1).argmax()]
        assert mu[b] == pytest.approx(best, abs=1e-3) and 0.1 < mu[b] < 0.9
    assert mu[9] == mu[3]  # where nothing is known, what holds for less frequent contexts


def test_interpolation_leaves_each_token_out_of_its_own_counts():
    """Bigrams that occur once are none when left out, so their context does not count."""
    once = fit("interpolation", np.array([0, 1, 2, 3, 4]), 2)
    assert once.distribution(np.array([0, 1]))[1:] == pytest.approx([0.25] * 4, abs=1e-5)
    often = fit("interpolation", np.array([0, 1, 2] * 50), 2)
    assert often.distribution(np.array([0, 1]))[2] > 0.98


@pytest.mark.parametrize(
    ("a", "found"),
    [
        ([1] * 8 + [2] * 4 + [3] * 2 + [4], (0.5, 1.25, 2.0)),
        ([1, 2, 4], ngrams.FALLBACK),  # no 3
        ([1, 2, 3, 3, 3], ngrams.FALLBACK),  # would be negative
        ([], ngrams.FALLBACK),
    ],
)
def test_discounts(a, found):
    assert ngrams.discounts(np.array(a)) == pytest.approx(found)


@given(sentences, sentences, lengths)
def test_rows_that_are_dropped_change_nothing(several, others, n):
    ids, cutoffs = joined(several), (1, 2, 2, 3)
    small = fit("kneser-ney", ids, n, cutoffs=cutoffs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "pruned", lambda model: model)
        large = fit("kneser-ney", ids, n, cutoffs=cutoffs)
    assert small.bytes <= large.bytes
    np.testing.assert_allclose(small.losses(joined(others)), large.losses(joined(others)))


def test_what_a_model_says_it_takes_is_what_it_takes():
    ids = np.insert(np.random.default_rng(0).integers(1, 300, 40_000), range(0, 40_000, 20), 0)
    orders = count(ids, 300, 4)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        model = ngrams.kneser_ney(orders)
        model.levels = [
            ngrams.Level(level.keys.copy(), level.shares, level.rests) for level in model.levels
        ]
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert model.bytes > 10**6 and taken == pytest.approx(model.bytes, rel=0.02)


# Texts.


lines = st.lists(st.lists(st.sampled_from(["a", "bb", "ç", "<unk>"]), min_size=1), min_size=1)


@given(lines)
def test_words_come_back(several):
    text = "".join(" ".join(line) + "\n" for line in several)
    known = Tokens.words(text)
    ids = known.encode(text)
    assert known.decode(ids) == text
    assert (ids > 0).sum() == sum(len(line) + 1 for line in several)
    assert known.names[:3] == ["<s>", "<eos>", "<unk>"] and len(set(known.names)) == len(known)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_characters_come_back(text):
    known = Tokens.characters(text)
    ids = known.encode(text)
    assert known.decode(ids) == text and len(ids) == len(text) + 1 and ids.min() == ids[0] == 0


def test_words_are_kept_by_frequency_and_the_rest_is_unknown():
    text = "b a a\n\n  c b a <s> <eos>\n"
    assert Tokens.words(text).names[3:] == ["a", "b", "c"]
    assert Tokens.words(text, limit=1).names[3:] == ["a"]
    assert Tokens.words(text, least=2).names[3:] == ["a", "b"]
    assert Tokens.words(text, limit=10**6).names[3:] == ["a", "b", "c"]  # more than there are
    assert Tokens.words(text).encode("a d <s> <eos>").tolist() == [0, 3, 2, 2, 2, 1]
    assert Tokens.words(text).encode("\n \n").size == 0
    with pytest.raises(DataError, match=r"expected a text with words, got none"):
        Tokens.words(" \n ")


@given(st.text("ab \n", min_size=1))
def test_a_text_is_cut_between_words_or_refused(text):
    try:
        train, valid = corpora.cut(text)
    except DataError:
        assert len(text.split()) < 2
        return
    assert train + valid == text and train.split() and valid.split()
    assert train.split() + valid.split() == text.split()
    if len(text.strip().split("\n")) > 1 and all(text.strip().split("\n")):
        assert train.endswith("\n")  # not within a sentence


def test_topics_are_the_same_every_time_and_need_no_file():
    first = load_parts("pydoc")
    assert first == load_parts("pydoc") and first.test == ""
    assert 9 * len(first.valid) == pytest.approx(len(first.train), rel=0.05)
    assert len(first.train.split()) > 30_000 and all(
        line.split() for line in first.train.splitlines()
    )
    assert "pydoc_data.topics" in first.source


def test_a_python_without_its_topics_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"expected Python's help topics .* the path of a text"):
        load_parts("pydoc")


def published(folder, monkeypatch, **texts):
    """Puts small parts in the place of the treebank's, in a folder of data sets."""
    monkeypatch.setenv("TINYGRAD_RNN_DATA", str(folder))
    (folder / "ptb").mkdir()
    for part, text in texts.items():
        digest = hashlib.sha256(text).hexdigest()
        known = Known("http://nowhere", digest, len(text), f"ptb/{part}.txt")
        monkeypatch.setitem(corpora.PTB, part, known)


def test_a_set_in_three_parts_is_read_packed_or_not(tmp_path, monkeypatch):
    texts = {"train": b"a b\nb a\n" * 9, "valid": b"a b\n", "test": b"b c\n"}
    published(tmp_path, monkeypatch, **texts)
    (tmp_path / "ptb/train.txt.gz").write_bytes(gzip.compress(texts["train"]))
    (tmp_path / "ptb/valid.txt").write_bytes(texts["valid"])
    (tmp_path / "ptb/test.txt").write_bytes(texts["test"])
    found = load_parts("ptb")
    assert [part.encode() for part in found.parts.values()] == list(texts.values())
    assert found.digest == hashlib.sha256(b"".join(texts.values())).hexdigest()
    result = ngram_lm.main(
        ["--data", "ptb", "--orders", "1", "--methods", "add-k", "--sample", "0"]
    )
    assert result["text"]["tokens"] == {"train": 54, "validation": 3, "test": 3}
    assert result["recipe"]["least"] == 1 and result["text"]["unknown"]["test"] == 1 / 3


DAMAGED = {
    "cut": gzip.compress(b"a b\n" * 9, mtime=0)[:-9],
    "not packed": b"a b\n",
    "empty": b"",
    "head": b"\x1f\x8b",
}


@pytest.mark.parametrize("blob", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_part_is_named(blob, tmp_path, monkeypatch, capsys):
    published(tmp_path, monkeypatch, train=b"a b\n" * 9)
    (tmp_path / "ptb/train.txt.gz").write_bytes(blob)
    message = refused(capsys, "--data", "ptb")
    assert "train.txt.gz': expected 36 bytes with sha256" in message
    assert message.endswith("; replace it by http://nowhere")


# The command.


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cats.txt").write_text(CATS, encoding="utf-8")
    return tmp_path


def run(*arguments, data="cats.txt"):
    return ngram_lm.main(["--data", data, *map(str, arguments)])


def refused(capsys, *arguments, code=2):
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        ngram_lm.main(list(map(str, arguments)))
    assert end.value.code == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_perplexities_are_those_of_the_text_with_its_ends_and_unknown_words():
    Path("few.txt").write_text("a b\n" * 9 + "a c\n")
    found = run("--orders", 1, 2, "--methods", "add-k", "--k", 1, data="few.txt")
    one, two = found["perplexities"]  # V = 4: <eos>, <unk>, a, b
    assert found["text"]["vocabulary"] == 4 and found["text"]["unknown"]["validation"] == 1 / 3
    assert found["text"]["tokens"] == {"train": 27, "validation": 3}
    p = [(9 + 1) / (27 + 4), (0 + 1) / (27 + 4), (9 + 1) / (27 + 4)]  # a, <unk>, <eos>
    assert one["validation"] == pytest.approx(math.prod(p) ** (-1 / 3), rel=1e-5)
    p = [(9 + 1) / (9 + 4), (0 + 1) / (9 + 4), 1 / 4]  # a after <s>, <unk> after a, after <unk>
    assert two["validation"] == pytest.approx(math.prod(p) ** (-1 / 3), rel=1e-5)


def test_result_log_and_table_tell_the_same_and_no_paths(folder, capsys):
    found = run("--out", folder / "kept", "--orders", 3, 1, "--seed", 4)
    stored = json.loads(Path("kept/result.json").read_text(encoding="utf-8"))
    log = Path("kept/log.jsonl").read_text(encoding="utf-8")
    first, *rows, last = map(json.loads, log.splitlines())
    assert stored == last == recipes_plain(found) and rows == stored["perplexities"]
    assert [(r["n"], r["method"]) for r in rows] == [(n, m) for n in (1, 3) for m in METHODS]
    assert str(folder) not in log and first["command"] == (
        "python -m zoo.ngram_lm --data cats.txt --out kept --orders 3 1 --seed 4"
    )
    assert found["bytes_while_counting"] > 0 and found["minutes"] > 0
    out = capsys.readouterr().out
    for row in found["perplexities"]:
        assert re.search(rf"^{row['method']} .* {row['validation']:.2f}( |$)", out, re.M)
    assert out.splitlines()[-1].split()[-1] == f"{rows[-1]['bytes'] / 1e6:.2f}"


def recipes_plain(found):
    return json.loads(json.dumps(ngram_lm.write_result.__globals__["plain"](found)))


def test_cutoffs_are_of_their_own_lengths():
    """Equal ones stay where they are, and the last holds for all longer n-grams."""
    text = " ".join(np.random.default_rng(0).choice([*"abcde\n"], 2000))
    Path("drawn.txt").write_text(text)
    options = "--methods kneser-ney --sample 0 --orders 1 2 3 4 5 5 1".split()
    plain, some, more = (
        run(*options, *cutoffs, data="drawn.txt")["perplexities"]
        for cutoffs in ([], ["--cutoffs", 1, 1, 1, 9], ["--cutoffs", 1, 1, 9])
    )
    assert [row["n"] for row in some] == [1, 2, 3, 4, 5]

    def same(a, b):
        return [x["validation"] == y["validation"] for x, y in zip(a, b, strict=True)]

    assert same(plain, some) == [True, True, True, False, False]
    assert same(plain, more) == [True, True, False, False, False]
    assert some[4]["bytes"] < plain[4]["bytes"]


def test_what_was_never_seen_is_impossible_for_ratios_alone():
    Path("new.txt").write_text("a b c d\n" * 9 + "d c b a\n")
    rows = run("--orders", 2, data="new.txt")["perplexities"]
    by = {row["method"]: row for row in rows}
    assert by["maximum-likelihood"]["validation"] == math.inf
    assert by["maximum-likelihood"]["impossible in validation"] == 1.0
    stored = json.loads(Path("runs/ngram_lm-new/result.json").read_text())["perplexities"]
    assert stored[0]["validation"] is None
    assert all(np.isfinite(by[m]["validation"]) for m in METHODS if m != "maximum-likelihood")


def test_characters_of_one_text_know_no_unknown():
    found = run("--unit", "character", "--orders", 1, 5)
    assert found["text"]["vocabulary"] == len(set(CATS)) and found["text"]["unknown"] == {}
    assert sum(found["text"]["tokens"].values()) == len(CATS)
    assert found["perplexities"][-1]["validation"] < 1.5 < found["perplexities"][0]["validation"]


def test_the_sample_follows_the_seed_and_the_model(capsys):
    texts = []
    for seed in (0, 0, 1):
        run("--seed", seed, "--sample", 40, "--methods", "maximum-likelihood", "--orders", 3)
        texts.append(capsys.readouterr().out.split("writes:\n\n")[1].split("\nruns")[0])
    assert texts[0] == texts[1] != texts[2]
    assert {t for text in texts for t in text.split()} <= set(CATS.split())
    seen = grams([[*line.split(), "."] for line in CATS.splitlines()], 3)
    written = grams([[*line.split(), "."] for line in texts[0].splitlines()[:-2]], 3)
    assert len(written) > 5 and set(written) <= set(seen)


def test_a_folder_belongs_to_one_run(capsys):
    for k in ("", "-2", "-3"):
        run("--orders", 1)
        assert Path(f"runs/ngram_lm-cats{k}/result.json").exists()
    message = refused(capsys, "--data", "cats.txt", "--out", "runs/ngram_lm-cats")
    assert message == (
        "ngram_lm: runs/ngram_lm-cats: expected a folder without files *.json*, it has some; "
        "name another folder with --out"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "'bad.txt': expected a text, got an empty file; choose another"),
        (b"one", "bad.txt: expected a text of two words or more, got 'one'; choose a longer one"),
        (b" \n \n", "expected a text of two words or more"),
        (b"caf\xe9 noir", "'bad.txt': expected UTF-8, got byte 0xe9 at offset 3; convert it"),
        (b"a b\0c", "'bad.txt': expected a text, got a zero byte at offset 3"),
    ],
)
def test_texts_that_cannot_be_used_are_named(data, message, capsys):
    Path("bad.txt").write_bytes(data)
    assert message in refused(capsys, "--data", "bad.txt")
    assert not Path("runs").exists()


def test_one_character_is_too_few(capsys):
    Path("a.txt").write_text("a")
    message = refused(capsys, "--data", "a.txt", "--unit", "character")
    assert message.startswith("ngram_lm: a.txt: expected a text of two characters or more, got 'a'")


@pytest.mark.parametrize(
    ("text", "options"),
    [("a b", []), ("a\nb\n", []), ("ab", ["--unit", "character"]), ("a b c\n" * 9, [])],
)
def test_texts_shorter_than_n_are_counted_as_far_as_they_go(text, options):
    Path("short.txt").write_text(text)
    found = run(*options, "--vocabulary", 10**9, data="short.txt")
    rows = {(row["method"], row["n"]): row["validation"] for row in found["perplexities"]}
    assert all(rows[m, 7] > 0 and rows[m, 7] == pytest.approx(rows[m, 5]) for m in METHODS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--orders", "0"], "--orders: expected a whole number in 1..7, got '0'"),
        (["--orders", "8"], "--orders: expected a whole number in 1..7, got '8'"),
        (["--methods", "katz"], "--methods: invalid choice: 'katz'"),
        (["--k", "0"], "--k: expected a number in 1e-09..1000000000.0, got '0'"),
        (["--cutoffs", "0"], "--cutoffs: expected a whole number in 1..1000000000, got '0'"),
        (["--least", "x"], "--least: expected a whole number in 1..1000000000, got 'x'"),
        (["--unit", "byte"], "--unit: invalid choice: 'byte'"),
        (["--curve", "x.jpg"], "--curve: expected a name that ends in .png, got 'x.jpg'"),
        (["--curve", "no/x.png"], "--curve: expected a name in an existing folder, got no/x.png"),
        (["--data", "none"], "one of stdlib, tiny-shakespeare, pydoc, ptb, got 'none': No such"),
        (["--out", "cats.txt/below"], "cats.txt/below'; name another place"),
    ],
)
def test_bad_arguments_end_with_2_and_a_line(arguments, message, capsys):
    assert message in refused(capsys, "--data", "cats.txt", *arguments)
    assert not Path("runs").exists() and Path("cats.txt").read_text() == CATS


@pytest.mark.skipif(os.name != "posix" or not os.geteuid(), reason="root may write anywhere")
def test_a_folder_without_permission_is_named(capsys):
    Path("locked").mkdir(mode=0o500)
    message = refused(capsys, "--data", "cats.txt", "--out", "locked")
    assert "Permission denied" in message and "locked" in message


def test_a_folder_that_takes_no_file_is_named(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(30, "Read-only file system", "kept/log.jsonl")

    monkeypatch.setattr(ngram_lm, "log", full)
    message = refused(capsys, "--data", "cats.txt", "--out", "kept")
    assert message.endswith("Read-only file system: 'kept/log.jsonl'; name another place")


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_between_two_models_and_what_is_known_is_kept(
    number, code, monkeypatch, capsys
):
    calls, right = [], ngram_lm.measured

    def signalling(*arguments):
        calls.append(0)
        if len(calls) == 3:
            signal.raise_signal(number)
        return right(*arguments)

    monkeypatch.setattr(ngram_lm, "measured", signalling)
    message = refused(capsys, "--data", "cats.txt", code=code)
    assert message == "stopped after 3 of 35 models; they are in runs/ngram_lm-cats/log.jsonl"
    kept = Path("runs/ngram_lm-cats/log.jsonl").read_text().splitlines()
    assert len(kept) == 4 and json.loads(kept[-1])["method"] == "stupid-back-off"
    assert not Path("runs/ngram_lm-cats/result.json").exists()


def test_the_curve_is_a_picture_of_perplexity_and_memory(monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    drawn, save = [], figure.Figure.savefig
    monkeypatch.setattr(
        figure.Figure, "savefig", lambda f, *a, **k: (drawn.append(f), save(f, *a, **k))
    )
    rows = run("--curve", "n.png", "--orders", 1, 2, 3)["perplexities"]
    assert Path("n.png").read_bytes()[:4] == b"\x89PNG"
    left, right = drawn[0].axes
    assert [line.get_label() for line in left.lines] == list(METHODS)
    last = [row for row in rows if row["method"] == "kneser-ney"]
    assert list(left.lines[-1].get_ydata()) == [row["validation"] for row in last]
    assert list(right.lines[0].get_ydata()) == [row["bytes"] / 1e6 for row in last]


def test_help_is_readable_and_lists_the_recipe(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        ngram_lm.main(["--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0 and ngram_lm.__doc__ in out
    assert all(f"--{f.name} " in out for f in dataclasses.fields(ngram_lm.Recipe))
    assert "--data ptb has --least 1" in out
    assert max(map(len, out.splitlines())) <= 100


# Penn Treebank.


@pytest.fixture(scope="module")
def ptb():
    if not DATA:
        pytest.skip("TINYGRAD_RNN_DATA names no folder of data sets")
    text = load_parts("ptb")
    known = Tokens.of(text, "word", 10**6, 1)
    return known, {part: known.encode(words) for part, words in text.parts.items()}


def test_penn_treebank_has_its_published_sizes(ptb):
    known, ids = ptb
    assert len(known) - 1 == 10_000
    assert {part: (i > 0).sum() for part, i in ids.items()} == {
        "train": 929_589, "validation": 73_760, "test": 82_430
    }  # fmt: skip


def test_kneser_ney_5_grams_have_the_published_perplexity(ptb):
    known, ids = ptb
    orders = count(ids["train"], len(known), 5)
    model = ngrams.kneser_ney(orders)
    assert perplexity(model.losses(ids["test"])) == pytest.approx(141.2, rel=0.005)
    assert perplexity(ngrams.maximum_likelihood(orders[:1]).losses(ids["test"])) == pytest.approx(
        639.3, abs=0.05
    )
    assert model.bytes < 40e6


# Examples and the page.


@pytest.mark.parametrize("module", [tokens, counts, ngrams, corpora, recipes])
def test_the_examples_run(module):
    assert doctest.testmod(module).failed == 0


def test_the_page_shows_the_stored_results():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = (ROOT / "docs/zoo/ngram_lm.md").read_text(encoding="utf-8")
    assert tables.rewritten(page) == page and "| ptb |" in page
    assert tables.rewritten(page.replace("| ptb |", "| other |")) == page
    assert "```python" not in page
