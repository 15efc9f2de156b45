"""Layers, losses and initialisers, with PyTorch's names and shapes."""

from tinygrad_rnn.nn import cells, init
from tinygrad_rnn.nn.layers import Embedding, Linear
from tinygrad_rnn.nn.losses import cross_entropy
from tinygrad_rnn.nn.module import Module, Parameter
from tinygrad_rnn.nn.recurrent import LSTM

__all__ = [
    "LSTM",
    "Embedding",
    "Linear",
    "Module",
    "Parameter",
    "cells",
    "cross_entropy",
    "init",
]
