"""What equations use besides operators: functions of NumPy's arrays and of vector lanes alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.kernels.pointwise.lanes import Lane
from tinygrad_rnn.kernels.pointwise.table import POINTWISE


def _either(name: str) -> Callable[..., Any]:
    """NumPy's function of that name, or the lanes'."""

    def function(x: Any, *others: Any) -> Any:
        return (POINTWISE[name] if isinstance(x, Lane) else getattr(np, name))(x, *others)

    return function


sqrt, maximum, minimum = (_either(name) for name in ("sqrt", "maximum", "minimum"))
