"""Optimisers, gradient clipping, and schedules of the learning rate."""

from tinygrad_rnn.optim import lr_scheduler
from tinygrad_rnn.optim.clip import clip_grad_norm_, clip_grad_value_
from tinygrad_rnn.optim.methods import SGD, Adagrad, Adam, AdamW, RMSprop
from tinygrad_rnn.optim.optimizer import Optimizer

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop"]
__all__ += ["clip_grad_norm_", "clip_grad_value_", "lr_scheduler"]
