"""What the tests of the scripts share: a text, and how runs end."""

import os
import random

import pytest

WORDS = "the cat sat on a mat and then it ran\n off".split(" ")
posix = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


def cats(words):
    """A text of so many words."""
    return " ".join(random.Random(0).choices(WORDS, k=words))


def refused(main, result, capsys, *arguments, code=2):
    """The one line on stderr that a run of `main` ends with; no traceback, ever, and nothing of
    what a result is told with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    assert end.value.code == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err and result not in out
    return err.splitlines()[-1]


def same_bits(arrays, others):
    assert arrays.keys() == others.keys()
    return all(
        a.dtype == others[n].dtype and a.tobytes() == others[n].tobytes() for n, a in arrays.items()
    )
