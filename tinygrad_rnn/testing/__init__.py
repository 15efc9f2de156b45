"""Gradient checks for anybody's code: `tg.testing`.

`gradcheck` judges a gradient by differences that estimate their own error, `exact_gradcheck`
compares bits at small integers, `assert_gradients` and `check_gradients` make a property test of
either, with inputs from `strategies`. The latter need hypothesis: pip install 'tinygrad-rnn[test]'.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from tinygrad_rnn.testing.exact import exact_gradcheck
from tinygrad_rnn.testing.gradcheck import gradcheck, gradgradcheck
from tinygrad_rnn.testing.report import Element, GradientError, Report

if TYPE_CHECKING:
    from tinygrad_rnn.testing import strategies
    from tinygrad_rnn.testing.profiles import register_profiles
    from tinygrad_rnn.testing.properties import assert_gradients, check_gradients

__all__ = [
    "Element",
    "GradientError",
    "Report",
    "assert_gradients",
    "check_gradients",
    "exact_gradcheck",
    "gradcheck",
    "gradgradcheck",
    "register_profiles",
    "strategies",
]

_WITH_HYPOTHESIS = {  # name: module
    "assert_gradients": "properties",
    "check_gradients": "properties",
    "register_profiles": "profiles",
    "strategies": "strategies",
}


def __getattr__(name: str) -> Any:
    """What needs hypothesis is imported when it is first used."""
    if name not in _WITH_HYPOTHESIS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_WITH_HYPOTHESIS[name]}")
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        # `hasattr` and `from ... import` want different errors, and no class can be both
        importing = sys._getframe(1).f_code.co_name == "_handle_fromlist"
        raise (ImportError if importing else AttributeError)(
            f"testing.{name}: expected hypothesis, which is not installed; "
            "pip install 'tinygrad-rnn[test]'"
        ) from None
    return module if name == "strategies" else getattr(module, name)
