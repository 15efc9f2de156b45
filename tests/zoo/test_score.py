"""Figures of merit are what they say, the truth is always among the answers, no word flatters."""

import doctest
import functools
import importlib
import importlib.util
import json
import math
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.zoo import scripts
from tinygrad_rnn import saving
from zoo import char_lm, ngram_lm, score, word_lm
from zoo.models import trained
from zoo.models.predictors import Predictor, opening
from zoo.scored import answers, authors, retrieval, scoring
from zoo.scored.held_out import study
from zoo.scored.suggestions import Suggestions, typing
from zoo.texts.tokens import Tokens

ROOT = Path(__file__).resolve().parents[2]
PEOPLE = random.Random(0)
WHO, DOES, WHERE = "cat dog bird man".split(), "sat ran slept".split(), "mat rug tree".split()
LIKE = "old young big small".split()
LINES = [
    f"the {PEOPLE.choice(WHO)} {PEOPLE.choice(DOES)} on a {PEOPLE.choice(WHERE)}"
    f"{PEOPLE.choice(['', ' and slept', f' with the {PEOPLE.choice(LIKE)} {PEOPLE.choice(WHO)}'])}"
    for _ in range(400)
]
NEW = "the zebra sat on a mat"  # with a word that is only held out
CATS = "".join(f"{line}\n" for line in [*LINES, NEW])
FEW = ["--sentences", "8", "--document", "20", "--documents", "6"]
TRAININGS = {
    "words": (
        word_lm,
        "--hidden 16 --embedding 8 --epochs 4 --batch 4 --length 12 --dropout 0 --lr 0.02",
    ),
    "grams": (ngram_lm, "--orders 1 3 --methods kneser-ney"),
    "characters": (
        char_lm,
        "--hidden 16 --embedding 6 --updates 120 --batch 8 --length 16 --lr 0.03",
    ),
    "letters": (ngram_lm, "--orders 5 --methods kneser-ney --unit character"),
}

pytest.importorskip("tqdm")
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with models of one text, and a model of another."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "cats.txt").write_text(CATS, encoding="utf-8")
    (folder / "other.txt").write_text(CATS + "the end\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, (script, options) in TRAININGS.items():
            script.main(["--data", "cats.txt", "--out", name, *options.split()])
        ngram_lm.main(["--data", "other.txt", "--out", "other", "--orders", "2"])
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture
def refused(capsys):
    return functools.partial(scripts.refused, score.main, "±", capsys)


def model(name):
    return trained.load(Path(name)).model


class Fixed(Predictor):
    """A model that expects the same everywhere."""

    def __init__(self, text, **p):
        self.tokens = Tokens.words(text)
        p = np.array([p.get(name.strip("<>"), 1e-9) for name in self.tokens.names])
        self.row = np.log(np.where(np.arange(len(p)) > 0, p, 1e-300))

    def read(self, ids, state=None):
        return np.tile(self.row, (len(ids), 1)), 0


# Sentences.


@pytest.mark.parametrize("name", TRAININGS)
def test_a_sentence_has_the_product_of_its_tokens(name):
    each = model(name)
    sentence = "the cat sat on a mat"
    found = scoring.losses(each, sentence)
    assert len(found) == (7 if each.tokens.unit == "word" else len(sentence) + 1)
    words = scoring.word_losses(each, sentence)
    assert len(words) == 6
    end = found[-1] if each.tokens.unit == "word" else 0.0
    assert words.sum() + end == pytest.approx(scoring.loss(each, sentence))
    states = [None, *retrieval.states(each, [["the dog ran"]])]
    after = [scoring.loss(each, sentence)] + [
        math.fsum(scoring.losses(each, sentence, state)) for state in states[1:]
    ]
    carries = name in ("words", "characters")  # only these remember the document
    assert (abs(after[0] - after[1]) > 1e-6) == carries


@pytest.mark.parametrize("name", TRAININGS)
def test_a_likely_sentence_is_likelier_than_its_words_in_disorder(name, capsys):
    score.main([name, "--say", "the cat sat on a mat", "mat a on sat cat the"])
    *_, true, _ = (
        line for line in capsys.readouterr().out.splitlines() if trained_name(name, line)
    )
    rows = score.main([name, "--say", "the cat sat on a mat", "mat a on sat cat the"])["said"]
    first, second = (row for row in rows if row["model"] != "unigrams")
    assert first["log P"] > second["log P"] and "yes" in true
    assert (first["likelier"], second["likelier"]) == (True, False)
    assert first["bits"] == pytest.approx(-first["log P"] / math.log(2))
    ties = [row for row in rows if row["model"] == "unigrams"]
    assert ties[0]["log P"] == ties[1]["log P"] and not any(row["likelier"] for row in ties)


@pytest.mark.parametrize("name", ["characters", "letters"])
def test_a_sentence_of_characters_begins_after_a_new_line(name):
    each = model(name)
    before = {"characters": "", "letters": "\n"}[name]  # the network reads one for <s>
    (*_, row), _ = each.read(each.tokens.encode(before))
    first = scoring.losses(each, "the dog")[0]
    assert first == pytest.approx(-row[each.tokens.names.index("t")])
    assert first < scoring.losses(each, "og the d")[0]


def trained_name(name, line):
    return line.strip().startswith(trained.load(Path(name)).about.split(",")[0])


def test_words_that_are_not_known_are_said_and_decide_nothing(capsys):
    pair = ["a zebra sat on a mat", "a dog sat on a mat"]
    found = score.main(["words", "characters", "--say", *pair])["said"]
    rows = {(row["said"], row["model"].split(",")[0]): row for row in found}
    words = rows[pair[0], "word_lm"]
    assert words["unknown"] == ["zebra"] and words["likelier"] is None and words["log P"] < 0
    assert rows[pair[1], "word_lm"]["likelier"] is None and rows[pair[1], "char_lm"]["likelier"]
    assert any(line.endswith("zebra") for line in capsys.readouterr().out.splitlines())


def test_characters_that_are_not_known_are_refused():
    rows = score.main(["characters", "--say", "a Ü", "--prompt", "Ü", "--correct", "Ü"])
    for kind in ("said", "suggested", "meant"):
        row = rows[kind][-1]
        assert row["unknown"][-1] == "Ü" and len(row) == 3


# Figures of merit.

letters = st.text("abcd", min_size=1, max_size=4)
sentences = st.lists(letters, min_size=2, max_size=8).map(" ".join)
seeds = st.integers(0, 2**32 - 1)
cases = st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=20)


@given(cases)
def test_a_figure_is_a_share_of_what_could_be_reached(hits):
    found = scoring.figures(["a", "b"], [[(a, 1), (2 * b, 2)] for a, b in hits])
    for (value, error), mine in zip(found.values(), zip(*hits, strict=True), strict=True):
        assert value == pytest.approx(np.mean(mine))
        assert error == pytest.approx(np.std(mine) / math.sqrt(len(mine)))


@given(sentences, seeds)
def test_disorder_is_of_the_same_words(sentence, seed):
    assume(len(set(sentence.split())) > 1)
    true, mixed, swapped = scoring.shuffled(sentence, np.random.default_rng(seed))
    assert true == sentence and mixed != true != swapped
    assert Counter(true.split()) == Counter(mixed.split()) == Counter(swapped.split())
    wrong = [a != b for a, b in zip(true.split(), swapped.split(), strict=True)]
    first = wrong.index(True)
    assert wrong[first + 1] and sum(wrong) == 2


@given(st.lists(sentences, min_size=1, max_size=4), seeds)
def test_who_knows_nothing_of_order_gets_half(several, seed):
    several = [s for s in several if len(set(s.split())) > 1]
    assume(several)
    rng = np.random.default_rng(seed)
    task = scoring.order([scoring.shuffled(s, rng) for s in several])
    judge = task.judge(Fixed(" ".join(several), **{w: 0.1 for w in "abcd"}))
    assert all(judge(case) == [(0.5, 1), (0.5, 1)] for case in task.cases)


# Typing.


@given(sentences, st.integers(1, 3))
def test_keystrokes_are_those_of_somebody_who_takes_every_suggestion(sentence, count):
    """Against typing it, key by key."""
    fixed = Fixed("a ab abc b bcd d dd " * 2, a=0.3, ab=0.2, abc=0.1, b=0.15, bcd=0.1, d=0.05)
    known, p = fixed.tokens.names[3:], dict(zip(fixed.tokens.names, fixed.row, strict=True))
    keys, hits = 0, 0
    for word in sentence.split():
        for typed in range(len(word) + 1):
            fits = sorted(
                (w for w in known if w.startswith(word[:typed])), key=lambda w: (-p[w], w)
            )
            if word in fits[:count] and typed < len(word):
                keys, hits = keys + typed + 1, hits + (typed == 0)
                break
        else:
            keys += len(word) + 1
    (saved, all_keys), (hit, words) = typing([sentence], count).judge(fixed)(sentence)
    assert (all_keys - saved, hit) == (keys, hits)
    assert (all_keys, words) == (len(sentence) + 1, len(sentence.split()))


@pytest.mark.parametrize("name", ["characters", "letters"])
def test_letters_make_the_likeliest_words(name):
    """The best-first search against every word of three letters."""
    each = model(name)
    suggestions = Suggestions(each)
    text = "the cat sat o"
    first, *more = suggestions.best(*suggestions.spots(text)[len(text)], "o", 3)
    assert first == "on" and len({first, *more}) == 3

    def cost(word):
        start, whole = (len(t) for t in ("the cat sat ", f"the cat sat {word} "))
        return scoring.losses(each, f"the cat sat {word} on")[start:whole].sum()

    names = [c for c in each.tokens.names[1:] if not c.isspace()]
    others = {"o", *(f"o{a}" for a in names), *(f"o{a}{b}" for a in names for b in names)}
    best = sorted(others | set(more), key=cost)[: 1 + len(more)]
    assert [first, *more] == best


@pytest.mark.parametrize("name", TRAININGS)
def test_what_is_suggested_goes_on_from_what_was_typed(name):
    each = model(name)
    found = Suggestions(each).after
    assert found("the  cat sat  on", 1) == ["on"] == found("the cat sat on", 1)
    assert all(word.startswith("s") for word in found("the cat s", 3))
    if each.tokens.unit == "word":
        for text in ("", "the ", "the cat sat on a "):
            (*_, row), _ = each.read(opening(each.tokens, text))
            places = [each.tokens.names.index(word) for word in found(text, 9)]
            assert row[places].tolist() == sorted(row[3:], reverse=True)[:9]
        assert found("zz", 3) == []


# Spelling.

words = st.text("abcz", min_size=1, max_size=5)


@given(words)
def test_a_slip_can_be_undone(word):
    slips = sorted(scoring.edits(word))
    for slip in slips[:: len(slips) // 4]:
        assert slip != word and word in scoring.edits(slip)
    lengths = Counter(len(slip) - len(word) for slip in slips)
    assert set(lengths) <= {-1, 0, 1} and lengths[1] == 26 + 25 * len(word)


@given(st.lists(words, min_size=1, max_size=6).map(" ".join), seeds)
def test_what_was_meant_is_among_the_corrections(sentence, seed):
    known = {*sentence.split(), "(", "ab", "abc"}
    lexicon = scoring.lower(known)
    true, observed = scoring.misspelt(f"( {sentence}", lexicon, np.random.default_rng(seed))
    found = dict(scoring.corrections(observed, known, lexicon))
    assert true in found and observed not in found
    for candidate, log in found.items():
        pairs = zip(candidate.split(), observed.split(), strict=True)
        ((meant, slip),) = [(a, b) for a, b in pairs if a != b]
        assert slip in scoring.edits(meant) and math.exp(-log) == pytest.approx(
            len(scoring.edits(meant))
        )


def test_the_likelier_word_is_meant_unless_the_channel_says_otherwise():
    fixed = Fixed("on an no one " * 2, on=0.2, an=0.3, no=0.1, one=0.22)
    known = set(fixed.tokens.names)
    lexicon = scoring.lower(known)
    assert scoring.corrected(fixed, "bn", known, lexicon) == "an"
    assert scoring.corrected(fixed, "onn", known, lexicon) == "on"  # which has fewer slips than one
    assert scoring.corrected(fixed, "qqqq", known, lexicon) == "qqqq"


@pytest.mark.parametrize("name", ["words", "grams"])
def test_context_corrects_what_the_channel_cannot(name):
    (row,) = [
        row
        for row in score.main([name, "--correct", "the cat sat on a rat"])["meant"]
        if row["model"] != "unigrams"
    ]
    assert row["meant"] == "the cat sat on a mat"


# Retrieval.


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=9), st.data())
def test_the_mean_of_equal_ranks(scores, data):
    k = data.draw(st.integers(0, len(scores) - 1))
    places = [p for p, s in enumerate(sorted(scores, reverse=True), 1) if s == scores[k]]
    assert retrieval.rank(np.array(scores), k) == np.mean(places)


@given(st.lists(sentences, max_size=12), st.integers(1, 20), seeds)
def test_a_query_is_taken_out_of_its_document(lines, length, seed):
    documents = retrieval.passages(lines, length)
    joined = [line for document in documents for line in document]
    assert joined == lines[: len(joined)]
    assert all(len(" ".join(d).split()) >= length for d in documents)
    rest, asked = retrieval.queries(documents, set(lines[::2]), np.random.default_rng(seed))
    assert len(rest) == len(documents)
    for query, k in asked:
        assert query in documents[k] and query not in rest[k] and query in lines[::2]


def test_the_document_of_a_query_has_its_words():
    """By hand: n(w; d) + μ P(w) over |d| + μ, P a unigram model."""
    fixed = Fixed("a b c " * 2, a=0.5, b=0.3, c=0.1)
    documents = [["a a b"], ["c c", "a"], ["b"]]
    judge = retrieval.retrieval(documents, [("c a", 1)], 2.0).judge(fixed)
    by_hand = [(0 + 0.2) * (2 + 1) / 25, (2 + 0.2) * (1 + 1) / 25, 0.2 * 1 / 9]
    assert by_hand[1] > by_hand[0] > by_hand[2]
    assert judge(("c a", 1)) == [(1, 1), (0.5, 1)]  # alone, all three documents are equal
    assert [judge(("c a", k))[0] for k in (0, 2)] == [(1 / 2, 1), (1 / 3, 1)]


# Authors.


def test_authors_are_known_by_what_they_write(monkeypatch, capsys):
    monkeypatch.setattr(authors, "RECIPE", authors.Recipe(hidden=6, embedding=6, epochs=2, batch=4))
    Path("dogs.txt").write_text("a dog runs and a dog barks\n" * 150, encoding="utf-8")
    options = ["--tasks", "authors", "--authors", "cats.txt", "dogs.txt", "--chunk", "12"]
    result = score.main([*options, "--out", "known"])
    assert [row["model"] for row in result["figures"]][:2] == ["unigrams", "3-grams"]
    assert all(row["figures"]["author found"] == [1, 0] for row in result["figures"][:2])
    assert all(row["cases"] > 8 for row in result["figures"])
    assert "author found" in capsys.readouterr().out
    parts = authors.parts_of(["cats.txt", "dogs.txt"])
    sizes = [sum(len(part.split()) for part in two) for two in parts.values()]
    assert abs(sizes[0] - sizes[1]) < 20  # as much of each


def test_modules_of_the_standard_library_are_authors():
    text = authors.text_of("argparse")
    assert "class HelpFormatter ( object ):" in text
    assert len(authors.text_of("logging")) > len(text) / 2  # a package


# Whole runs.


def test_every_task_is_measured_for_every_model(folder):
    out = ["--tasks", *score.TASKS[:-1], *FEW, "--out", "all"]
    result = score.main([*TRAININGS, *out, "--seed", "3"])
    saved = json.loads(Path("all/result.json").read_text(encoding="utf-8"))
    assert saved == json.loads(json.dumps(result)) and str(folder) not in json.dumps(saved)
    assert saved["command"].startswith("python -m zoo.score words grams characters letters")
    abouts = {trained.load(Path(name)).about for name in TRAININGS}
    figures = {(row["task"], row["model"]): row["figures"] for row in result["figures"]}
    assert figures.keys() == {(t, m) for t in score.TASKS[:-1] for m in {*abouts, "unigrams"}}
    for values in figures.values():
        assert all(0 <= value <= 1 and error >= 0 for value, error in values.values())
    assert figures["order", "unigrams"]["true before random order"] == [0.5, 0]
    counting = figures["order", "ngram_lm, kneser-ney, n = 3"]
    assert counting["true before random order"][0] > 0.8
    log = [json.loads(line) for line in Path("all/log.jsonl").read_text("utf-8").splitlines()]
    assert len(log) == 1 + len(figures) + 1 and log[1]["task"] == "order"
    assert {row["said"] for row in result["said"]} == set(score.LECTURE)
    again = score.main(
        ["grams", "--tasks", "order", "spelling", *FEW, "--out", "again", "--seed", "3"]
    )
    assert all(row in result["figures"] for row in again["figures"])


def test_only_what_nobody_has_learnt_is_tried():
    found = study([Path("words"), Path("characters")], None)
    held = [text.valid for text in (trained.learnt(trained.load(Path(n))) for n in TRAININGS)]
    assert found.sentences and NEW in found.sentences
    for sentence in found.sentences:
        assert all(sentence in part.split("\n") for part in held)
        assert sentence not in CATS[: -len(held[0])].split("\n")
    task = score.task("spelling", found, score.Recipe(sentences=5))
    assert all("zebra" not in true.split() for true, _ in task.cases)


def test_cases_depend_on_the_seed_alone():
    one, two = study([Path("words")], None), study([Path("grams")], None)
    for name in score.TASKS[:-1]:
        recipe = score.Recipe(sentences=6, document=15)
        mine = score.task(name, one, recipe).cases
        assert mine == score.task(name, two, recipe).cases
        other = score.Recipe(sentences=6, document=15, seed=1)
        assert name == "retrieval" or mine != score.task(name, one, other).cases


def test_two_models_with_one_name_are_told_apart(folder):
    rows = score.main(["grams", str(folder / "grams"), "--say", "the cat"])["said"]
    assert [row["model"] for row in rows][1:] == ["ngram_lm, kneser-ney, n = 3 (grams)"]


# What cannot be used.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected folders of trained models, got none; only --tasks authors needs none"),
        (["--say", "the cat"], "expected folders of trained models, got none"),
        (["nowhere"], "nowhere: expected a folder with checkpoint.safetensors or, of ngram_lm, "
                      "result.json, got neither; train a model first"),
        (["words", "other"], "other: expected a model of the same text as the first, cats.txt, got "
                             "one of other.txt with another sha256; judge it by itself"),
        (["words", "--say", " "], "--say: expected a sentence with words, got ' '"),
        (["words", "--correct", ""], "--correct: expected a sentence with words, got ''"),
        (["words", "--tasks", "summaries"], "argument --tasks: invalid choice: 'summaries'"),
        (["words", "--sentences", "0"], "--sentences: expected a whole number in 1..1000000000"),
        (["words", "--prior", "-1"], "--prior: expected a number in 1e-09..1000000000.0, got '-1'"),
        (["words", "--seed", "x"], "--seed: expected a whole number in 0..4294967295, got 'x'"),
        (["words", "--data", "other.txt"], "expected the text that the model has learnt, cats.txt"),
        (["words", "--out", "words"], "words: expected a folder without files *.json*"),
        (["words", "--tasks", "retrieval", "--document", "9999", "--out", "short"],
         "retrieval: expected held-out text to try it on, got too little; use a longer one"),
        (["grams", "--tasks", "order", "authors", "--chunk", "99999", "--out", "short"],
         "authors: expected held-out text to try it on, got too little; use a longer one"),
        (["--tasks", "authors", "--authors", "cats.txt"],
         "--authors: expected two or more, each once, got cats.txt; name others"),
        (["--tasks", "authors", "--authors", "json", "cats.txt", "json"],
         "--authors: expected two or more, each once, got json cats.txt json; name others"),
        (["--tasks", "authors", "--authors", "gone.txt", "--out", "gone"],
         "a module of the standard library, got 'gone.txt': No such file or directory"),
    ],
)  # fmt: skip
def test_bad_arguments_end_with_2_and_a_line(arguments, message, refused):
    assert message in refused(*arguments)
    assert not any(Path(name).exists() for name in ("short", "gone", "runs"))


def test_a_checkpoint_of_another_kind_is_named(tmp_path, refused):
    saving.save(tmp_path / "checkpoint.safetensors", {}, {"script": "hello"})
    assert (
        "expected a checkpoint of char_lm, word_lm, fixed_window_lm, got one of hello"
        in refused(tmp_path)
    )


def test_ctrl_c_keeps_what_is_known(monkeypatch, capsys):
    def interrupted(*_):
        signal.raise_signal(signal.SIGINT)
        return lambda case: [(1, 1)]

    true = score.task
    task = scoring.Task(("x",), [0, 1], interrupted)
    monkeypatch.setattr(score, "task", lambda n, *rest: task if n == "typing" else true(n, *rest))
    with pytest.raises(SystemExit) as end:
        score.main(["grams", "--tasks", "order", "typing", *FEW, "--out", "stopped"])
    assert end.value.code == 130
    err = capsys.readouterr().err
    assert "Traceback" not in err and "stopped; what is known is in stopped" in err
    log = Path("stopped/log.jsonl").read_text("utf-8").splitlines()
    assert len(log) == 3 and not Path("stopped/result.json").exists()


# What is shown.


def test_help_is_readable(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        score.main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert score.__doc__ in out and max(map(len, out.splitlines())) <= 100


def test_it_runs_as_a_command_in_any_locale(folder):
    options = ["letters", "--say", "the cat", "--prompt", "the ", "--correct", "the czt"]
    done = subprocess.run(
        [sys.executable, "-m", "zoo.score", *options],
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, cwd=folder, encoding="ascii",
    )  # fmt: skip
    assert done.returncode == 0 and "the cat" in done.stdout and "not known" in done.stdout


@pytest.mark.parametrize("name", ["held_out", "scoring", "retrieval", "authors", "answers"])
def test_the_examples_run(name):
    found = doctest.testmod(importlib.import_module(f"zoo.scored.{name}"))
    assert found.failed == 0 and (found.attempted or name == "authors")
    assert answers.aligned(["a"], [["b"]]) == "a\nb"


def test_the_page_shows_the_stored_results():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = (ROOT / "docs/zoo/score.md").read_text(encoding="utf-8")
    assert tables.rewritten(page) == page
    assert "| pydoc | retrieval |" in page
    assert tables.rewritten(page.replace("| pydoc |", "| other |")) == page
