"""Fitting: the trainer, its loop, callbacks and history."""

from dagtrain.report.records import Event
from dagtrain.train import callbacks
from dagtrain.train.calibration import Calibration, calibrate
from dagtrain.train.history import History
from dagtrain.train.loading import load
from dagtrain.train.rate_range import learning_rate_range
from dagtrain.train.stepper import Stepper
from dagtrain.train.trainer import Trainer

__all__ = ["Calibration", "Event", "History", "Stepper", "Trainer", "calibrate", "callbacks", "learning_rate_range", "load"]
