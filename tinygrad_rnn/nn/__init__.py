"""Layers, losses and initialisers, with PyTorch's names and shapes."""

from tinygrad_rnn.nn import cells, init, inspection
from tinygrad_rnn.nn.attention import AdditiveAttention, DotAttention, GeneralAttention
from tinygrad_rnn.nn.connections import Dense, Highway, Residual, Skip
from tinygrad_rnn.nn.containers import ModuleDict, ModuleList, Sequential
from tinygrad_rnn.nn.convert import from_keras, from_onnx
from tinygrad_rnn.nn.layers import Dropout, Embedding, Linear, dropout
from tinygrad_rnn.nn.losses import cross_entropy
from tinygrad_rnn.nn.module import Module, Parameter
from tinygrad_rnn.nn.normalization import LayerNorm, layer_norm
from tinygrad_rnn.nn.one_step import GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.nn.output_losses import linear_cross_entropy
from tinygrad_rnn.nn.pointwise_losses import (
    binary_cross_entropy_with_logits,
    hinge_embedding_loss,
    l1_loss,
    mse_loss,
    multi_margin_loss,
    nll_loss,
)
from tinygrad_rnn.nn.recurrent import Recurrent
from tinygrad_rnn.nn.regularisation import (
    EmbeddingDropout,
    LockedDropout,
    WordDropout,
    activation_penalty,
    temporal_activation_penalty,
)
from tinygrad_rnn.nn.rnn import GRU, LSTM, RNN
from tinygrad_rnn.nn.sampling import probabilities, sample
from tinygrad_rnn.nn.sequences import (
    TBPTT,
    Batches,
    detached,
    pad_sequence,
    restarted,
    sequence_mask,
)
from tinygrad_rnn.nn.summary import summary

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "Recurrent", "cells"]
__all__ += ["Module", "ModuleDict", "ModuleList", "Parameter", "Sequential", "summary"]
__all__ += ["Embedding", "LayerNorm", "Linear", "init", "inspection", "layer_norm"]
__all__ += ["AdditiveAttention", "DotAttention", "GeneralAttention"]
__all__ += ["Dense", "Highway", "Residual", "Skip"]
__all__ += ["Dropout", "EmbeddingDropout", "LockedDropout", "WordDropout", "dropout"]
__all__ += ["activation_penalty", "temporal_activation_penalty"]
__all__ += ["binary_cross_entropy_with_logits", "cross_entropy", "linear_cross_entropy", "nll_loss"]
__all__ += ["hinge_embedding_loss", "l1_loss", "mse_loss", "multi_margin_loss"]
__all__ += ["TBPTT", "Batches", "detached", "pad_sequence", "restarted", "sequence_mask"]
__all__ += ["probabilities", "sample"]
__all__ += ["from_keras", "from_onnx"]
