"""Texts are found, checked and decoded, or refused in one sentence; baselines are exact."""

import doctest
import gc
import hashlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.texts import datasets
from zoo.texts.datasets import DataError, Vocabulary, bigram_loss, load_text, split, unigram_loss

ROOT = Path(__file__).resolve().parents[2]
DATA = os.environ.get("TINYGRAD_RNN_DATA")
PLAY = b"First Citizen:\nBefore we proceed any further, hear me speak.\n"

# A refused download leaves its connection to the collector; see the fixture `publish`.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
real_data = pytest.mark.skipif(not DATA, reason="TINYGRAD_RNN_DATA names no folder of data sets")


def fixed(text):
    return re.escape(str(text))


# Files.


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"to be\nor not", "to be\nor not"),
        (b"\xef\xbb\xbfto be", "to be"),
        (b"to be\r\nor\rnot\n\r\n", "to be\nor\nnot\n\n"),
        ("ça, naïve 日本 🙂\n".encode(), "ça, naïve 日本 🙂\n"),
        (b"a\x0cb\x1cc\xc2\x85", "a\x0cb\x1cc\x85"),  # no line ends in a text file
    ],
    ids=["plain", "byte order mark", "line ends", "beyond ASCII", "controls"],
)
def test_a_file_is_read_with_one_kind_of_line_end(tmp_path, data, text):
    path = write(tmp_path / "a.txt", data)
    for form in (path, str(path)):
        loaded = load_text(form)
        assert (loaded.text, loaded.name, loaded.source) == (text, str(path), str(path))
    assert len(repr(loaded)) < 300 + 2 * len(str(path))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a text, got an empty file; choose another"),
        (b"\xef\xbb\xbf", "expected a text, got an empty file"),
        (b"caf\xe9 noir", r"expected UTF-8, got byte 0xe9 at offset 3; convert it, .* iconv"),
        (b"\xef\xbb\xbfcaf\xe9", "expected UTF-8, got byte 0xe9 at offset 6"),
        ("naïve".encode()[:3], "expected UTF-8, got byte 0xc3 at offset 2"),
        ("wide".encode("utf-16"), "expected UTF-8, got byte 0xff at offset 0"),
        ("wide".encode("utf-16-le"), "expected a text, got a zero byte at offset 1; is this a bin"),
    ],
)
def test_a_file_that_is_no_text_is_named(tmp_path, data, message):
    path = write(tmp_path / "a.txt", data)
    with pytest.raises(DataError, match=f"^{fixed(repr(str(path)))}: {message}"):
        load_text(path)


def test_a_path_without_a_file_lists_the_known_names(tmp_path):
    known = "expected the path of a text file or one of stdlib, tiny-shakespeare, got"
    for path, got in [
        (tmp_path / "shakespear", "No such file or directory"),
        (tmp_path, "a folder"),
        (f"{tmp_path}/zero\0byte", "embedded null byte"),
        ("", "No such file or directory"),
    ]:
        with pytest.raises(DataError, match=f"load_text: {known} {fixed(repr(str(path)))}: {got}"):
            load_text(path)


# Python's own source.


def test_stdlib_is_four_million_plain_characters():
    text = load_text("stdlib").text
    assert len(text) == 4_000_000
    assert set(text) <= {"\n", "\t", *map(chr, range(32, 127))}
    assert len(set(text)) > 90
    assert "def dedent(" in datasets.stdlib(10**9).text
    assert "class TestCase" not in text[:1000]


def test_stdlib_is_the_same_in_another_process_and_locale():
    script = (
        "import hashlib; from zoo.texts.datasets import load_text;"
        "print(hashlib.sha256(load_text('stdlib').text.encode()).hexdigest())"
    )
    expected = hashlib.sha256(load_text("stdlib").text.encode()).hexdigest()
    for settings in ({"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "tr_TR.UTF-8"}):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", **settings}
        command = [sys.executable, "-c", script]
        assert subprocess.check_output(command, env=environment, text=True).strip() == expected


def test_stdlib_takes_modules_in_order_and_leaves_out_the_rest(tmp_path, monkeypatch):
    files = {
        "b.py": "b = 2\n",
        "a/z.py": "z = 'caf\xe9'\r\n",
        "Z.py": "Z = 0\n",
        "a.py": "\ta = 1\x0c\n",
        "test/t.py": "no",
        "a/tests/t.py": "no",
        "site-packages/s.py": "no",
        "__pycache__/p.py": "no",
        "lib2to3/l.py": "no",
        "encodings/e.py": "no",
        "_sysconfigdata_linux.py": "no",
        "notes.txt": "no",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        write(tmp_path / name, text.encode())
    monkeypatch.setattr(datasets.sysconfig, "get_path", lambda _: str(tmp_path))
    assert load_text("stdlib").text == "Z = 0\n\ta = 1\nz = 'caf'\nb = 2\n"
    assert datasets.stdlib(8).text == "Z = 0\n\ta"


def test_a_python_without_its_source_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.sysconfig, "get_path", lambda _: str(tmp_path / "python.zip"))
    with pytest.raises(
        DataError, match=r"stdlib: expected Python's own source files under .* none"
    ):
        load_text("stdlib")


# Named sets: the folder, the cache, the network.


class Server(http.server.ThreadingHTTPServer):
    """Serves what `answers` yields, one status and body for each request, then 404."""

    def __init__(self, answers):
        self.answers, self.requests = list(answers), 0
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/input.txt"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        status, body, length = (*(self.server.answers or [(404, b"")]).pop(0), None)[:3]
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Puts a small play at a local address in place of tiny-shakespeare, with an empty cache."""
    servers = []

    def start(*answers, url=None):
        server = Server(answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        known = datasets.Known(
            url or server.url, hashlib.sha256(PLAY).hexdigest(), len(PLAY), "play/input.txt"
        )
        monkeypatch.setitem(datasets.KNOWN, "tiny-shakespeare", known)
        return server

    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "TINYGRAD_RNN_DATA"):
        monkeypatch.delenv(variable, raising=False)
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
    gc.collect()


def test_a_named_set_is_downloaded_once(publish):
    server = publish((200, PLAY))
    for _ in range(3):
        loaded = load_text("tiny-shakespeare")
    assert (loaded.text, loaded.source) == (PLAY.decode(), server.url)
    assert server.requests == 1


def test_a_failed_download_is_tried_again(publish):
    server = publish((500, b""), (200, PLAY[:20]), (200, PLAY))
    assert load_text("tiny-shakespeare").text == PLAY.decode()
    assert server.requests == 3


@pytest.mark.parametrize(
    ("answer", "got"),
    [((404, b""), "HTTPError: 404"), ((200, b"<html>"), "ValueError: .*hash")],
    ids=["missing", "other contents"],
)
def test_a_download_is_given_up_after_three_attempts(publish, tmp_path, answer, got):
    server = publish(*[answer] * 10)
    with pytest.raises(DataError, match=got) as caught:
        load_text("tiny-shakespeare")
    assert server.requests == 3
    assert caught.value.__cause__ is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_network_names_the_address_the_checksum_and_the_place(publish, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/input.txt"
        publish(url=url)
        place = tmp_path / "cache" / "tinygrad_rnn" / "play" / "input.txt"
        message = (
            rf"tiny-shakespeare: expected to download {fixed(url)} \({len(PLAY)} bytes, sha256 "
            rf"{hashlib.sha256(PLAY).hexdigest()}\), got ConnectionError: .*; download it "
            rf"elsewhere and put it at {fixed(repr(str(place)))}, or at play/input.txt in a "
            "folder that TINYGRAD_RNN_DATA names"
        )
        with pytest.raises(DataError, match=message):
            load_text("tiny-shakespeare")
    place.parent.mkdir(parents=True, exist_ok=True)
    write(place, PLAY)
    assert load_text("tiny-shakespeare").text == PLAY.decode()


def test_a_cache_that_cannot_be_written_is_named(publish, tmp_path):
    publish((200, PLAY))
    write(tmp_path / "cache", b"a file where the cache should be")
    with pytest.raises(DataError, match=r"expected to download .*, got .*Error: .*; down"):
        load_text("tiny-shakespeare")


def test_the_folder_of_data_sets_comes_first(publish, tmp_path, monkeypatch):
    server = publish((200, PLAY))
    monkeypatch.setenv("TINYGRAD_RNN_DATA", str(tmp_path))
    (tmp_path / "play").mkdir()
    write(tmp_path / "play" / "input.txt", PLAY)
    monkeypatch.setitem(sys.modules, "pooch", None)  # not needed here
    assert load_text("tiny-shakespeare").text == PLAY.decode()
    assert server.requests == 0


def test_a_changed_file_in_the_folder_is_refused(publish, tmp_path, monkeypatch):
    server = publish()
    monkeypatch.setenv("TINYGRAD_RNN_DATA", str(tmp_path))
    (tmp_path / "play").mkdir()
    write(tmp_path / "play" / "input.txt", PLAY + b"!")
    message = (
        rf"expected {len(PLAY)} bytes with sha256 {hashlib.sha256(PLAY).hexdigest()}, "
        rf"got {len(PLAY) + 1} with .*; replace it by {fixed(server.url)}"
    )
    with pytest.raises(DataError, match=message):
        load_text("tiny-shakespeare")


def test_a_folder_without_the_set_is_passed_over(publish, tmp_path, monkeypatch):
    publish((200, PLAY))
    monkeypatch.setenv("TINYGRAD_RNN_DATA", str(tmp_path))
    assert load_text("tiny-shakespeare").text == PLAY.decode()


def test_a_variable_that_names_no_folder_is_an_error(publish, monkeypatch):
    publish()
    monkeypatch.setenv("TINYGRAD_RNN_DATA", "nowhere")
    message = "TINYGRAD_RNN_DATA: expected a folder of data sets, got 'nowhere'; correct or unset"
    with pytest.raises(DataError, match=message):
        load_text("tiny-shakespeare")


def test_missing_pooch_names_the_extra(publish, monkeypatch):
    publish()
    monkeypatch.setitem(sys.modules, "pooch", None)
    message = r"expected the package pooch .* pip install 'tinygrad-rnn\[zoo\]', or set TINYGRAD_"
    with pytest.raises(ImportError, match=message):
        load_text("tiny-shakespeare")


# Splits, vocabularies, baselines.


@given(st.text(min_size=2), st.floats(0, 1))
def test_a_split_loses_nothing(text, fraction):
    try:
        train, valid = split(text, fraction)
    except DataError:
        assert int(fraction * len(text)) in (0, len(text))
    else:
        assert train + valid == text
        assert len(train) == int(fraction * len(text))


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5, float("nan"), 0.01])
def test_a_split_with_an_empty_part_is_refused(fraction):
    message = rf"split: expected a fraction in \(0, 1\) .* got {fraction} of 10; use a longer text"
    with pytest.raises(DataError, match=message):
        split("abcdefghij", fraction)


@given(st.text(st.characters(), min_size=1))
def test_a_vocabulary_takes_a_text_to_numbers_and_back(text):
    vocabulary = Vocabulary(text)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int64
    assert [vocabulary.characters[i] for i in ids] == list(text)
    assert vocabulary.decode(ids) == vocabulary.decode(ids.tolist()) == text
    assert list(vocabulary.characters) == sorted(set(text))
    assert Vocabulary(vocabulary.characters).characters == vocabulary.characters


def test_nothing_is_nothing():
    vocabulary = Vocabulary("ab")
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.decode([]) == vocabulary.decode(vocabulary.encode("")) == ""
    with pytest.raises(DataError, match="Vocabulary: expected a text, got ''; give one with"):
        Vocabulary("")


@pytest.mark.parametrize("character", ["b", "é", "\0", "🙂", "\U0010ffff"])
def test_an_unknown_character_is_named(character):
    message = f"expected only the 2 characters of the vocabulary, got {character!r} at position 3; "
    with pytest.raises(DataError, match=fixed(message) + "build it from the whole text"):
        Vocabulary("ac").encode(f"aca{character}a{character}")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 2], "expected numbers from 0 to 1, got 0 to 2; use one vocabulary throughout"),
        ([-1], "expected numbers from 0 to 1, got -1 to -1"),
        ([0.0], r"expected at least 1 integers in one dimension, got shape \(1,\) of float64"),
        ([[0, 1]], r"got shape \(1, 2\) of int64; encode a text"),
    ],
)
def test_numbers_without_a_character_are_named(ids, message):
    with pytest.raises(DataError, match=f"Vocabulary.decode: .*{message}"):
        Vocabulary("ab").decode(ids)


ids = st.lists(st.integers(0, 4), min_size=2, max_size=30)


@given(ids, ids)
def test_baselines_are_means_of_smoothed_frequencies(train, valid):
    def unigram(b):
        return (train.count(b) + 0.1) / (len(train) + 0.5)

    def bigram(a, b):
        pairs = list(pairwise(train))
        return (pairs.count((a, b)) + 0.1) / (train[:-1].count(a) + 0.5)

    expected = -np.mean([np.log(unigram(b)) for b in valid])
    assert unigram_loss(train, valid, 5) == pytest.approx(expected, rel=1e-12)
    expected = -np.mean([np.log(bigram(a, b)) for a, b in pairwise(valid)])
    assert bigram_loss(train, valid, 5) == pytest.approx(expected, rel=1e-12)


def test_baselines_take_any_size_of_vocabulary():
    train = np.arange(10**5)
    assert unigram_loss(train, train, 10**6) == pytest.approx(np.log(2e5 / 1.1))
    assert bigram_loss(train, train, 10**6) == pytest.approx(np.log(100_001 / 1.1))


@pytest.mark.parametrize("baseline", [unigram_loss, bigram_loss])
def test_baselines_refuse_what_is_not_encoded_text(baseline):
    name = baseline.__name__
    with pytest.raises(DataError, match=f"{name}: valid: expected numbers from 0 to 1, got 0 to 2"):
        baseline([0, 1], [0, 2], 2)
    with pytest.raises(DataError, match=f"{name}: train: expected at least . integers"):
        baseline([], [0, 1], 2)


@real_data
def test_tiny_shakespeare_has_its_known_floors():
    text = load_text("tiny-shakespeare").text
    vocabulary = Vocabulary(text)
    assert (len(text), len(vocabulary)) == (1_115_394, 65)
    train, valid = (vocabulary.encode(part) for part in split(text))
    assert (len(train), len(valid)) == (1_003_854, 111_540)
    assert round(unigram_loss(train, valid, 65), 3) == 3.347
    assert round(bigram_loss(train, valid, 65), 3) == 2.484


def test_the_examples_run():
    failed, tried = doctest.testmod(datasets)
    assert failed == 0
    assert tried > 5
