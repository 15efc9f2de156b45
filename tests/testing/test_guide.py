"""docs/testing.md tells the truth: its blocks run, its pictures are those of the script."""

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
GUIDE = DOCS / "testing.md"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ROUNDING = re.compile(r"± \S+|\d+ evaluations|down to \S+|\(step [^,)]*")  # depends on the machine


class Checker(doctest.OutputChecker):
    def check_output(self, want, got, flags):
        """Compare without sizes of rounding errors, what follows from them, and blank lines."""
        want, got = (ROUNDING.sub("_", text.replace("\n\n", "\n")) for text in (want, got))
        return super().check_output(want, got, flags)


def test_every_block_of_the_guide_does_what_it_shows():
    text = GUIDE.read_text(encoding="utf-8")
    parts = re.split(r"^(?:```python|```)$", text, flags=re.MULTILINE)  # every other one is Python
    blocks = [p if k % 2 else "\n" * p.count("\n") for k, p in enumerate(parts)]
    parse = doctest.DocTestParser().get_doctest
    test = parse("".join(blocks), {"__name__": "__main__"}, "testing.md", str(GUIDE), 0)
    assert len(test.examples) == text.count(">>> ") > 40
    report = []
    runner = doctest.DocTestRunner(Checker(), optionflags=FLAGS)
    found = runner.run(test, out=report.append)
    assert found.failed == 0, "".join(report)


def test_pictures_are_there_small_and_shown():
    text = GUIDE.read_text(encoding="utf-8")
    shown = set(re.findall(r"!\[.+?\]\((testing/\w+\.png)\)", text))
    assert shown == {f"testing/{path.name}" for path in (DOCS / "testing").glob("*.png")}
    for name in shown:
        data = (DOCS / name).read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) < 80_000


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", GUIDE.read_text(encoding="utf-8")):
        assert (DOCS / link).exists(), link


def test_the_script_draws_every_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "testing_pictures.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    pictures.main(tmp_path)
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {path.name for path in (DOCS / "testing").glob("*.png")}
    assert capsys.readouterr().out.count("wrote ") == len(drawn)
