"""What NumPy does in several passes over memory, or slowly: on large arrays vector code does it."""

import sys

from tinygrad_rnn.kernels.choice import disabled

# Elements from which vector code is worth its call
LARGE = sys.maxsize if disabled() else 1 << 15

AHEAD = frozenset(
    """exp expm1 log log1p rsqrt sin cos tanh power erf erfc sigmoid softplus log_sigmoid silu
    normal_cdf""".split()
)
BACK = AHEAD - {"exp", "log"} | frozenset("divide sqrt square abs relu maximum minimum".split())
