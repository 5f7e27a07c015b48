"""Fitting: the trainer, its loop, callbacks and history."""

from dagtrain.report.records import Event
from dagtrain.train import callbacks
from dagtrain.train.history import History
from dagtrain.train.loading import load
from dagtrain.train.rate_range import learning_rate_range
from dagtrain.train.stepper import Stepper
from dagtrain.train.trainer import Trainer

__all__ = ["Event", "History", "Stepper", "Trainer", "callbacks", "learning_rate_range", "load"]
