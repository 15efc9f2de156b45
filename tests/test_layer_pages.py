"""docs/layers tells the truth: its blocks run, its parts are those of the code, and its pictures
are those that the scripts draw, which draw what the equations do."""

import doctest
import importlib
import inspect
import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.cell import Cell
from tinygrad_rnn.nn import cells

pytest.importorskip("matplotlib")
DOCS = Path(__file__).resolve().parents[1] / "docs"
FOLDER = DOCS / "layers"
PAGES = sorted(path.name for path in FOLDER.glob("*.md"))
sys.path.insert(0, str(DOCS))
import layer_pages  # noqa: E402
import layer_pictures  # noqa: E402
from pictures import cells as cell_pictures  # noqa: E402
from pictures import drawing, reading, routing, wirings  # noqa: E402

sys.path.remove(str(DOCS))
CELLS = [name for name, v in vars(cells).items() if isinstance(v, Cell)]


def text_of(name):
    return (FOLDER / name).read_text(encoding="utf-8")


# Pages


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_a_page_does_what_it_shows(name):
    parts = re.split(r"^(?:```\w*)$", text_of(name), flags=re.MULTILINE)  # every other is a block
    blocks = [p if k % 2 else "\n" * p.count("\n") for k, p in enumerate(parts)]
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, name, name, 0)
    assert len(test.examples) == text_of(name).count(">>> ")
    tg.manual_seed(0)
    report = []
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert found.failed == 0, "".join(report)


@pytest.mark.parametrize("name", sorted(set(PAGES) - {"README.md"}))
def test_a_page_has_an_example_equations_pictures_and_a_source(name):
    text = text_of(name)
    assert text.startswith("# ") and ">>> import tinygrad_rnn as tg" in text
    assert "```text\n" in text and "![" in text and re.search(r"\((19|20)\d\d\), ", text)


@pytest.mark.parametrize("name", PAGES)
def test_what_comes_from_the_code_is_as_the_code_has_it(name):
    assert layer_pages.rewritten(text_of(name)) == text_of(name), (
        f"{name} is out of date: run python docs/layer_pages.py"
    )


def public_names():
    yield from (f"nn.{name}" for name in nn.__all__ if not inspect.ismodule(getattr(nn, name)))
    yield from (f"nn.cells.{name}" for name, v in vars(cells).items() if isinstance(v, Cell))
    for prefix in ("nn.init", "nn.inspection", "optim.lr_scheduler"):
        module = importlib.import_module(f"tinygrad_rnn.{prefix}")
        for name, value in vars(module).items():
            if getattr(value, "__module__", "") == module.__name__ and name[0] != "_":
                yield f"{prefix}.{name}"
    yield from (f"optim.{name}" for name in optim.__all__ if name != "lr_scheduler")


def test_every_public_name_has_an_entry_on_one_page():
    entries = re.findall(r"^### (\S+)$", "\n".join(map(text_of, PAGES)), re.MULTILINE)
    assert sorted(entries) == sorted(public_names())
    index = re.findall(r"^\| \[`(.+?)`\]", text_of("README.md"), re.MULTILINE)
    assert sorted(index) == sorted(entries)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for page, _, anchor in re.findall(r"\]\(([^)#\s]*)(#?)([^)\s]*)\)", text_of(name)):
        path = FOLDER / (page or name)
        assert path.exists(), page
        if anchor:
            heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in heads}


# Pictures


def test_every_picture_is_shown_and_every_page_shows_what_is_drawn():
    shown = set(re.findall(r"!\[\w+\]\((\w+)\.png\)", "\n".join(map(text_of, PAGES))))
    assert shown == set(layer_pictures.PICTURES)
    assert shown == {path.stem for path in FOLDER.glob("*.png")}


@pytest.mark.parametrize("name", layer_pictures.PICTURES)
def test_a_picture_is_what_its_script_draws(name):
    data = (FOLDER / f"{name}.png").read_bytes()
    assert data.startswith(b"\x89PNG") and len(data) < 80_000
    digest = layer_pictures.digest(layer_pictures.PICTURES[name]())
    assert digest.encode() in data, f"{name}.png is out of date: run docs/layer_pictures.py"


def test_the_script_writes_what_is_new(tmp_path, monkeypatch, capsys):
    few = {name: layer_pictures.PICTURES[name] for name in ("lstm", "gru", "sampling")}
    monkeypatch.setattr(layer_pictures, "PICTURES", few)
    layer_pictures.main(tmp_path)
    assert capsys.readouterr().out.count("wrote ") == 3
    (tmp_path / "gru.png").write_bytes((tmp_path / "lstm.png").read_bytes())
    layer_pictures.main(tmp_path)
    assert capsys.readouterr().out == f"wrote {tmp_path / 'gru.png'}\n"


# What the pictures of equations show


def test_every_cell_has_a_picture():
    assert set(cell_pictures.SKETCHES) == set(CELLS)


def logit(p):
    return np.log(p) - np.log1p(-p)


def softmax(scores):
    weights = np.exp(scores)
    return weights / weights.sum(-1, keepdims=True)


SIGNS = {
    "×": np.multiply,
    "+": np.add,
    "−": np.subtract,
    "1−": lambda a: 1 - a,
    "x²": np.square,
    "+ε": lambda a: a + 1e-5,
    "1/√": lambda a: 1 / np.sqrt(a),
    "mean": lambda a: a.mean(-1, keepdims=True),
    "[ ]": lambda *several: np.concatenate(several, -1),
    "tanh": np.tanh,
    "softmax": softmax,
}
INVERSE = {"σ": logit, "tanh": np.arctanh}  # of the others, the identity
WEIGHING = {"σ", "tanh", "relu", "W", "w", "+b"}
WITHIN = {"σ": (1e-4, 1 - 1e-4), "tanh": (-0.9999, 0.9999), "relu": (1e-9, np.inf)}
READINGS = {
    **{name: cell_pictures.reading(name, rows=96) for name in cell_pictures.SKETCHES},
    **{
        name: wirings.reading(name)
        for name in sorted({*wirings.WIRINGS} - {"layers", "directions"})
    },
}


@pytest.mark.parametrize("name", READINGS)
def test_a_white_circle_holds_what_its_sign_makes_of_what_its_arrows_bring(name):
    reader = READINGS[name].reader()
    for node in reader.nodes.values():
        if node.sign and not node.learned and node.sign != "@":
            given = [reader.values[arrow.source] for arrow in node.sources]
            expected = SIGNS[node.sign](*given)
            np.testing.assert_allclose(reader.values[node.name], expected, rtol=1e-5, atol=1e-6)
        elif not node.sign and node.sources:  # a result
            (arrow,) = node.sources
            assert arrow.via == reading.PLAIN and arrow.source in reader.nodes


def columns(node, arrow, value, unit, width):
    """What an arrow brings to a unit of a gate: what is added as it is, what is weighted."""
    if arrow.via == reading.MATRIX:
        return 0.0, value
    if value.shape[1] > width:  # all gates' rows
        value = value[:, node.piece[-1] * width :]
    one = value[:, unit : unit + 1]
    return (0.0, one) if arrow.via == reading.VECTOR else (one[:, 0], one[:, :0])


def misfit(node, arrows, values):
    """How far the least good unit of a gate is from a weighted sum, with a bias, of its arrows."""
    found, worst = values[node.name], 0.0
    low, high = WITHIN.get(node.sign, (-np.inf, np.inf))
    for unit in range(found.shape[1]):
        y = found[:, unit]
        rows = (low < y) & (y < high)
        target = INVERSE.get(node.sign, np.positive)(y[rows])
        design = [np.ones((rows.sum(), 1))]
        for arrow in arrows:
            plain, weighted = columns(node, arrow, values[arrow.source][rows], unit, found.shape[1])
            target = target - plain
            design.append(weighted)
        matrix = np.concatenate(design, 1)
        assert len(matrix) > matrix.shape[1] + 4
        solved = np.linalg.lstsq(matrix, target, rcond=None)[0]
        worst = max(worst, float(np.abs(matrix @ solved - target).max()))
    return worst


GATES = [
    (name, gate)
    for name, found in READINGS.items()
    for reader in [found.reader()]
    for gate, node in reader.nodes.items()
    if node.learned and node.sign in WEIGHING and reader.values[gate].ndim == 2
]


@pytest.mark.parametrize(("name", "gate"), GATES)
def test_a_gate_weighs_what_its_arrows_bring_and_nothing_else(name, gate):
    reader = READINGS[name].reader()
    node = reader.nodes[gate]
    rounding = np.finfo(reader.values[gate].dtype).eps ** 0.5
    assert misfit(node, node.sources, reader.values) < 10 * rounding
    for k in range(len(node.sources)):
        arrow, others = node.sources[k], node.sources[:k] + node.sources[k + 1 :]
        assert misfit(node, others, reader.values) > 1e-2
        if reader.values[arrow.source].shape == reader.values[gate].shape:
            less = (*others, arrow._replace(via=reading.VECTOR))  # of the unit's own number alone
            assert arrow.via != reading.MATRIX or misfit(node, less, reader.values) > 1e-2


@pytest.mark.parametrize(
    "name", [n for n in CELLS if re.search(r" = split\(W\w* \w+ \+", getattr(cells, n).__doc__)]
)
def test_gates_have_the_names_that_the_equations_give_them(name):
    order = re.match(r"([^=;]+) = split\(", getattr(cells, name).__doc__)[1].split(", ")
    nodes = cell_pictures.reading(name).read().values()
    gates = [n for n in nodes if len(n.piece) == 1 and not n.name.startswith("_")]
    assert gates
    for node in gates:
        assert node.name.split("_")[0] == order[node.piece[0]]


@pytest.mark.parametrize("name", READINGS)
def test_joining_lines_changes_nothing_but_the_lines(name):
    nodes = READINGS[name].read()
    for node in READINGS[name].reader().nodes.values():
        found = set()
        for arrow in nodes[node.name].sources:
            joint = nodes[arrow.source] if set(arrow.source) == {"&"} else None
            several = joint.sources if joint else (arrow,)
            found |= {(one.source, arrow.via) for one in several}
        assert found == set(node.sources)


def test_lines_that_lead_together_to_several_gates_are_joined():
    nodes = cell_pictures.reading("lstm").read()
    assert [arrow.source for arrow in nodes["&"].sources] == ["x", "h"]
    for gate in "ifgo":
        assert nodes[gate].sources == (reading.Arrow("&", reading.MATRIX),)


def test_names_must_be_as_many_as_nodes():
    found = cell_pictures.reading("gru")
    for names in (found.names[:-1], [*found.names, "more"]):
        with pytest.raises(ValueError, match="expected as many names as nodes"):
            found._replace(names=names).read()


# Lines


@pytest.mark.parametrize("name", [*cell_pictures.SKETCHES, *wirings.WIRINGS])
def test_every_arrow_has_a_line(name):
    known = name in cell_pictures.SKETCHES
    source = (cell_pictures if known else wirings).reading(name)
    text = cell_pictures.SKETCHES[name] if known else wirings.WIRINGS[name].sketch
    nodes, where = source.read(), drawing.places(text.split("\n", 1)[1])
    ways = drawing.routed(nodes, where)
    arrows = sorted((a.source, n.name, a.via) for n in nodes.values() for a in n.sources)
    assert sorted(way[:3] for way in ways) == arrows
    check_lines(where, [(a, b, way) for a, b, _, way in ways])


def check_lines(where, ways):
    """They lead from node to node, around the others, and no two of different sources meet but to
    cross at right angles."""
    owners = {}
    for source, target, way in ways:
        assert way[0] == where[source] and way[-1] == where[target]
        assert not set(way[1:-1]) & set(where.values())
        for a, b in pairwise(way):
            assert abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1
            assert owners.setdefault(frozenset((a, b)), source) == source
    for source, _, way in ways:
        for a, b, c in zip(way, way[1:], way[2:], strict=False):
            at_b = [step for step, owner in owners.items() if b in step and owner != source]
            assert not at_b or (c[0] - b[0], c[1] - b[1]) == (b[0] - a[0], b[1] - a[1])


@given(st.data())
def test_lines_never_run_on_top_of_one_another(data):
    spots = st.tuples(st.integers(0, 5), st.integers(0, 4)).map(lambda p: (2 * p[0], 2 * p[1]))
    points = data.draw(st.lists(spots, min_size=3, max_size=9, unique=True))
    where = dict(zip("abcdefghi", points, strict=False))
    names = st.sampled_from(sorted(where))
    pairs = st.tuples(names, names).filter(lambda p: p[0] != p[1])
    board, ways = routing.Board(where, {"a": 3.0}), []
    for source, target in data.draw(st.lists(pairs, min_size=1, max_size=12, unique=True)):
        try:
            ways.append((source, target, board.way(source, target, data.draw(st.booleans()))))
        except ValueError as error:
            assert "no way is left" in str(error)
    check_lines(where, ways)


def test_a_grid_must_have_every_node_once():
    nodes = cell_pictures.reading("rnn_tanh").read()
    with pytest.raises(ValueError, match="without \\['_a'\\], with \\[\\]"):
        drawing.routed(nodes, drawing.places("h . h' y x"))
    with pytest.raises(ValueError, match="stands twice"):
        drawing.places("h . h")
