"""Recurrent networks at work: every module here is one task, run by `python -m zoo.NAME`.

Before a script's own first line its imports are read: Ctrl-C ends that without a traceback, and a
package that is missing is one line. A terminal without ∂ shows a question mark.
"""

import io
import os
import signal
import sys
from types import TracebackType

EXTRA = ("matplotlib", "pooch", "safetensors", "threadpoolctl", "tqdm")  # as in pyproject.toml


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's own traceback, or a line if a package of the extra is missing."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in EXTRA:
        return sys.__excepthook__(kind, error, trace)
    remedy = "pip install -e '.[zoo]' where pyproject.toml is"
    print(f"zoo: expected the package {error.name}, got no such package; {remedy}", file=sys.stderr)
    raise SystemExit(2)


if sys.argv[:1] == ["-m"]:  # so it is while `python -m` looks for the script
    sys.excepthook = _told
    if sys.stderr is None:  # closed: what is told there must not come out elsewhere
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `runs.ending_well`
