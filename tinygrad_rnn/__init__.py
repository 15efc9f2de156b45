"""tinygrad_rnn: a small autograd engine whose equations are written once, and the RNN zoo on it."""

from tinygrad_rnn import func
from tinygrad_rnn.autograd.creation import (
    arange,
    eye,
    from_numpy,
    full,
    ones,
    ones_like,
    rand,
    randn,
    zeros,
    zeros_like,
)
from tinygrad_rnn.autograd.debug import detect_anomaly, detect_mutation
from tinygrad_rnn.autograd.drawing import to_dot
from tinygrad_rnn.autograd.fused import checkpoint, fused
from tinygrad_rnn.autograd.generator import get_rng_state, manual_seed, set_rng_state
from tinygrad_rnn.autograd.gradient import grad
from tinygrad_rnn.autograd.graph import Array, definitions, no_grad
from tinygrad_rnn.autograd.op import Arrays, primitive
from tinygrad_rnn.autograd.ops.activation import (
    elu,
    gelu,
    leaky_relu,
    log_sigmoid,
    relu,
    sigmoid,
    silu,
    softplus,
)
from tinygrad_rnn.autograd.ops.elementwise import (
    abs,
    add,
    astype,
    clip,
    cos,
    divide,
    equal,
    erf,
    erfc,
    exp,
    expm1,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    rsqrt,
    sign,
    sin,
    sqrt,
    square,
    subtract,
    tanh,
    where,
)
from tinygrad_rnn.autograd.ops.index import (
    argsort,
    embedding,
    sort,
    take,
    take_along_axis,
    topk,
    tril,
    triu,
)
from tinygrad_rnn.autograd.ops.linalg import dot, einsum, linear, matmul, outer, tensordot
from tinygrad_rnn.autograd.ops.reduce import (
    argmax,
    argmin,
    cumsum,
    log_softmax,
    logsumexp,
    max,
    mean,
    min,
    norm,
    prod,
    softmax,
    std,
    sum,
    var,
)
from tinygrad_rnn.autograd.ops.shape import (
    broadcast_to,
    concatenate,
    expand_dims,
    flip,
    moveaxis,
    pad,
    ravel,
    repeat,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    transpose,
    unstack,
)
from tinygrad_rnn.autograd.scan import scan
from tinygrad_rnn.autograd.tensor import Tensor

__version__ = "0.1.0"
