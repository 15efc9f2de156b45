"""Optimisers and gradient clipping."""

from tinygrad_rnn.optim.adam import Adam
from tinygrad_rnn.optim.clip import clip_grad_norm_
from tinygrad_rnn.optim.optimizer import Optimizer
from tinygrad_rnn.optim.sgd import SGD

__all__ = ["SGD", "Adam", "Optimizer", "clip_grad_norm_"]
