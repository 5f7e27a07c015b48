"""Plans: graphs compiled to straight-line NumPy, and the interpreter they are tested against."""

from dagtrain.graph.protocols import PLAN
from dagtrain.plan.buffers import Memory
from dagtrain.plan.interpret import interpret, node_values
from dagtrain.plan.plan import Bound, Plan, plan

__all__ = ["Bound", "Memory", "Plan", "interpret", "node_values", "plan"]

PLAN.fill(plan)
