"""A rank of the simulation: its memory, and the arithmetic of a step, with the expected states.

Numbers are combined by a function that is neither commutative nor associative, so that any other order of sums, or any value read too
early or too late, gives another result.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from dagtrain.engines.ranks.actions import Held, Submit
from dagtrain.engines.ranks.placement import Placement, StepShape
from dagtrain.engines.ranks.schedule import Schedule
from dagtrain.step.sum_tree import tree_levels
from dagtrain.transport import Phase

State = tuple[tuple[int, ...], tuple[int, ...]]
"""Parameters and slots, a number for each block."""


def mix(*numbers: int) -> int:
    return hash(numbers)  # of integers: the same in every process


def gradient(parameters: int, step: int, shard: int, block: int) -> int:
    """A number that depends on all parameters, mixed into `parameters`."""
    return mix(parameters, step, shard, block)


def weight(step: int, shard: int) -> int:
    """The number that stands for the weights of the losses in a shard."""
    return mix(-1, step, shard)


def tree_sum(numbers: list[int | None]) -> int:
    """The sum by the tree written out; None adds nothing."""
    sums = list(numbers)
    for level in tree_levels(len(sums)):
        for left, right in level:
            a, b = sums[left], sums[right]
            sums[left] = b if a is None else a if b is None else mix(a, b)
    assert sums[0] is not None
    return sums[0]


def samples(step: int, shards: int) -> tuple[int, ...]:
    """Number of samples of each shard: every fifth batch is ragged, and its last shards are empty."""
    return tuple(int(s < 1 + step % shards) for s in range(shards)) if step % 5 == 4 else (1,) * shards


def reference(shape: StepShape, state: State, steps: int) -> State:
    """The state after these steps, computed by a loop with the tree written out."""
    return trajectory(shape, [state], steps)[steps]


def trajectory(shape: StepShape, states: list[State], steps: int) -> list[State]:
    """Append to `states`, which are those after 0, 1, … steps, until the one after `steps` is there."""
    for step in range(len(states) - 1, steps):
        parameters, slots = states[-1]
        mixed = mix(*parameters)
        counts = samples(step, shape.shards)
        if shape.weights:
            mixed = mix(mixed, tree_sum([weight(step, s) if counts[s] else None for s in range(shape.shards)]))
        totals = [
            tree_sum([gradient(mixed, step, s, block) if counts[s] else None for s in range(shape.shards)])
            for block in range(len(shape.blocks))
        ]
        norms: list[int] = []
        for k in range(shape.norms):
            norms.append(mix(*(mix(t, k, *norms) for t in totals)))
        states.append(
            (
                tuple(mix(p, s, t, step, *norms) for p, s, t in zip(parameters, slots, totals, strict=True)),
                tuple(mix(s, t, *norms) for s, t in zip(slots, totals, strict=True)),
            )
        )
    return states


@dataclass
class View:
    """A rank's memory as another rank sees it."""

    number: int
    partial: dict[int, list[int]]
    parameters: list[int]
    slots: list[int]
    squared_norms: list[list[int]]
    weights: dict[int, int]


@dataclass
class SimRank:
    """A rank with its memory, which peers on the same host read in place."""

    worker: str
    group: int
    number: int
    placement: Placement
    source: Held
    schedule: Schedule = field(init=False)
    queue: deque[Submit] = field(default_factory=deque)
    current: Submit | None = None
    partial: dict[int, list[int]] = field(default_factory=dict)
    parameters: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    squared_norms: list[list[int]] = field(default_factory=list)
    weights: dict[int, int] = field(default_factory=dict)
    totals: dict[int, int] = field(default_factory=dict)
    norms: list[int] = field(default_factory=list)
    ended: bool = False
    received: dict[tuple[int, Phase], View] = field(default_factory=dict)
    """Messages received over sockets: copies made by the post."""

    def view(self) -> View:
        """A copy of the memory that peers read."""
        squared_norms = [list(s) for s in self.squared_norms]
        partial = {root: list(sums) for root, sums in self.partial.items()}
        return View(self.number, partial, list(self.parameters), list(self.slots), squared_norms, dict(self.weights))

    def __post_init__(self) -> None:
        self.schedule = Schedule(self.placement, self.number)
        shape = self.placement.shape
        self.squared_norms = [[0] * len(shape.blocks) for _ in range(shape.norms)]
