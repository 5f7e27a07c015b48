"""Training: the step, the state, the loop. Knows no cluster; engines that do plug themselves in."""

from dagtrain.train import callbacks
from dagtrain.train.history import Event, History
from dagtrain.train.ledger import Ledger
from dagtrain.train.loading import load
from dagtrain.train.objective import CostObjective, ModelObjective
from dagtrain.train.state import State
from dagtrain.train.step import Program, StepParts
from dagtrain.train.trainer import Trainer
from dagtrain.train.update import Update
from dagtrain.train.vector import VectorLayout

__all__ = [
    "CostObjective",
    "Event",
    "History",
    "Ledger",
    "ModelObjective",
    "Program",
    "State",
    "StepParts",
    "Trainer",
    "Update",
    "VectorLayout",
    "callbacks",
    "load",
]
