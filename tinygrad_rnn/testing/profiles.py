"""Hypothesis profiles for tests of code that compiles at its first call."""

from hypothesis import settings


def register_profiles() -> None:
    """Register hypothesis profiles without a deadline, which a first call would miss.

        tinygrad_rnn          100 examples, new ones in every run
        tinygrad_rnn-ci       200 examples, the same in every run; no database, blobs printed
        tinygrad_rnn-nightly  10,000 examples, new ones in every run; blobs printed

    Call it in `conftest.py`, and load one by `hypothesis.settings.load_profile(name)` or with
    `pytest --hypothesis-profile=NAME`. A blob is a line `@reproduce_failure(...)` to put on a test.

    >>> import hypothesis
    >>> register_profiles()
    >>> hypothesis.settings.get_profile("tinygrad_rnn-ci").max_examples
    200
    """
    everywhere = settings(deadline=None, max_examples=100, derandomize=False)
    blobs = settings(everywhere, print_blob=True)
    same = settings(blobs, derandomize=True, database=None)
    settings.register_profile("tinygrad_rnn", everywhere)
    settings.register_profile("tinygrad_rnn-ci", same, max_examples=200)
    settings.register_profile("tinygrad_rnn-nightly", blobs, max_examples=10_000)
