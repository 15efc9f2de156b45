"""Layers, losses and initialisers, with PyTorch's names and shapes."""

from tinygrad_rnn.nn import cells, init
from tinygrad_rnn.nn.layers import Dropout, Embedding, Linear, dropout
from tinygrad_rnn.nn.losses import cross_entropy
from tinygrad_rnn.nn.module import Module, Parameter
from tinygrad_rnn.nn.one_step import GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.nn.recurrent import Recurrent
from tinygrad_rnn.nn.rnn import GRU, LSTM, RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Dropout",
    "Embedding",
    "GRUCell",
    "LSTMCell",
    "Linear",
    "Module",
    "Parameter",
    "RNNCell",
    "Recurrent",
    "cells",
    "cross_entropy",
    "dropout",
    "init",
]
