"""The bodies of a node in a plan: each is a plan of its own, and the node's kernel is bound to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dagtrain.backends import Backend
from dagtrain.graph import Graph, Tensor, bodies
from dagtrain.ops.bodies import Call

if TYPE_CHECKING:
    from dagtrain.plan.plan import Bound, Plan

__all__ = ["BoundBodies"]


class BoundBodies:
    """A node with bodies, as a constant of a plan: picklable, and bound with each binding of the plan."""

    def __init__(self, node: Tensor, compile: Callable[[Graph], Plan]) -> None:
        graphs = bodies(node)
        self.op = node.op
        self.bodies = {name: tuple(_Body(compile(graph)) for graph in several) for name, several in graphs.items()}
        self.attributes = {name: value for name, value in node.attributes if name not in graphs}

    @property
    def plans(self) -> list[Plan]:
        """The plans of all bodies."""
        return [body.plan for several in self.bodies.values() for body in several]

    @property
    def content(self) -> str:
        """What is computed, as text."""
        return f"{self.op}{[plan.content for plan in self.plans]}{self.attributes}"

    @property
    def nbytes(self) -> int:
        """Roughly the size of the pickle."""
        return sum(plan.nbytes for plan in self.plans)

    @property
    def space(self) -> int:
        """Bytes of the work space of one binding, and of the outputs of two."""
        return sum(plan.space + 2 * plan.memory.outputs for plan in self.plans)

    def bind(self, backend: Backend) -> Callable[[Sequence[Any], Sequence[Any]], Any]:
        """The node's kernel with memory of its own: arrays in, and arrays to fill."""
        kernel = backend.kernel(self.op)
        assert kernel.bind is not None
        return kernel.bind(self.bodies, backend, **self.attributes)


class _Body:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def bind(self, shared: Bound | None = None) -> Call:
        return self.plan.bind(buffers=None if shared is None else shared.buffers)
