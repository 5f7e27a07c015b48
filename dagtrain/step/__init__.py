"""One training step: the objective, its program, the flat vector of parameters, the update and the state."""

from dagtrain.step.contribution import Contribution, ContributionObjective
from dagtrain.step.layout import VectorLayout
from dagtrain.step.model import ModelObjective
from dagtrain.step.objective import CostObjective
from dagtrain.step.parts import StepParts
from dagtrain.step.program import Program
from dagtrain.step.state import State
from dagtrain.step.update import Update

__all__ = [
    "Contribution",
    "ContributionObjective",
    "CostObjective",
    "ModelObjective",
    "Program",
    "State",
    "StepParts",
    "Update",
    "VectorLayout",
]
