"""What NumPy does in several passes over memory, or slowly: on large arrays vector code does it."""

import os
import sys

# Elements from which vector code is worth its call
LARGE = 1 << 15 if os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0") else sys.maxsize

AHEAD = frozenset(
    """exp expm1 log log1p rsqrt sin cos tanh power erf erfc sigmoid softplus log_sigmoid silu
    normal_cdf""".split()
)
BACK = AHEAD - {"exp", "log"} | frozenset("divide sqrt square abs relu maximum minimum".split())
