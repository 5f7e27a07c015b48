"""Where the tasks of a training step go: a pure function of the step, the workers and where the data lies.

    shards      0 1 2 3 │ 4 5 6 7          each lane computes the gradients of its shards
    sum tree    ╰─┴─┴─╯ │ ╰─┴─┴─╯          and adds what lies wholly within it: a partial sum for each such subtree
                   │    ╳    │             partial sums go, cut into slices, to the lanes that own the slices
    blocks      0 1     │     2 3          each lane updates the blocks it owns, and everybody gets them

A lane is one long task on one worker. Whatever the placement, every sum is that of the fixed tree and every block is updated whole, so
the bits are the same.

Gradients come out of a network from its last layer to its first, and the next step wants the parameters from the first to the last. Between
hosts it pays to send what is there while the rest is computed. So blocks are in *groups* that become final together, and each lane owns
a part of every group:

    vector      │  first layer  │  second layer   │      partial sums of group 0, then of group 1
    group       │       1       │        0        │      parameters  of group 1, then of group 0
    owner       │ lane 0 lane 1 │ lane 0   lane 1 │
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from dagtrain.engines.ranks.shares import by_place, crossing, deal, in_a_row, middle, runs, share_out
from dagtrain.engines.ranks.subtrees import roots_of
from dagtrain.errors import ClusterError
from dagtrain.transport import Phase, Piece, Table

__all__ = ["Candidate", "Edge", "Lane", "Placement", "StepShape", "place"]


class StepShape(NamedTuple):
    """What a placement must know of a training step.

    Attributes
    ----------
    shards
        Parts of a batch.
    blocks
        Elements of each block of the parameter vector.
    statistics
        Elements of the running statistics.
    sums
        Numbers that are summed beside the gradient: the loss and the metrics.
    slots
        Names of the optimiser's vectors.
    norms
        Norms of the whole gradient that the update asks for.
    dtype
        Of parameters, gradients and statistics.
    groups
        Blocks whose gradients become final together, in the order in which they do; all at once by default.
    """

    shards: int
    blocks: tuple[int, ...]
    statistics: int = 0
    sums: int = 1
    slots: tuple[str, ...] = ()
    norms: int = 0
    dtype: str = "<f4"
    groups: tuple[tuple[int, ...], ...] = ()

    @property
    def parameters(self) -> int:
        """Elements of the parameter vector."""
        return sum(self.blocks)


class Candidate(NamedTuple):
    """A worker that can take a lane.

    Attributes
    ----------
    address
        As Dask names it.
    host
        What tells hosts apart: lanes of one host share memory.
    threads
        Threads that the lane may use.
    held
        Bytes of the data's partitions that lie there.
    near
        The same by shard, where a shard has partitions of its own.
    """

    address: str
    host: str = ""
    threads: int = 1
    held: int = 0
    near: Mapping[int, int] = {}


@dataclass(frozen=True)
class Lane:
    """One worker's part of every step.

    Attributes
    ----------
    number
        Place among the lanes.
    worker, host, threads
        As in `Candidate`.
    shards
        The shards it computes.
    roots
        Roots of the subtrees of the sum tree that lie wholly in these shards: one partial sum each.
    blocks
        The blocks it owns.
    """

    number: int
    worker: str
    host: str
    threads: int
    shards: tuple[int, ...]
    roots: tuple[int, ...]
    blocks: tuple[int, ...]


class Edge(NamedTuple):
    """Bytes that go from one lane to another in a phase of a step."""

    source: int
    target: int
    phase: Phase
    nbytes: int


@dataclass(frozen=True)
class Placement:
    """Lanes, and what they exchange.

    Attributes
    ----------
    shape
        The step that was placed.
    lanes
        In the order of their numbers.
    idle
        Workers that are left over: there are no more lanes than shards.
    groups
        Those of the shape where something is sent between lanes, else one of all blocks.
    """

    shape: StepShape
    lanes: tuple[Lane, ...]
    idle: tuple[str, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    starts: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        starts = [0]
        for length in self.shape.blocks:
            starts.append(starts[-1] + length)
        object.__setattr__(self, "starts", tuple(starts))
        object.__setattr__(self, "groups", self.groups or (tuple(range(len(self.shape.blocks))),))

    @property
    def owners(self) -> tuple[int, ...]:
        """Lanes that own blocks; the first of them also owns the running statistics."""
        return tuple(lane.number for lane in self.lanes if lane.blocks)

    @property
    def workers(self) -> tuple[str, ...]:
        """Addresses, in the order of the lanes."""
        return tuple(lane.worker for lane in self.lanes)

    def slices_of(self, lane: int) -> tuple[tuple[slice, ...], ...]:
        """The parts of the parameter vector that a lane owns, by group."""
        return self._slices[lane]

    @cached_property
    def _slices(self) -> list[tuple[tuple[slice, ...], ...]]:
        owned = [set(lane.blocks) for lane in self.lanes]
        return [
            tuple(tuple(slice(self.starts[r.start], self.starts[r.stop]) for r in runs(own.intersection(group))) for group in self.groups)
            for own in owned
        ]

    def elements_of(self, lane: int) -> int:
        """How many parameters a lane owns."""
        return sum(self.shape.blocks[b] for b in self.lanes[lane].blocks)

    def regions(self, lane: int) -> dict[str, tuple[str, int]]:
        """The memory of a lane that others read: dtype and elements by name."""
        shape, mine = self.shape, self.lanes[lane]
        found = {}
        for root in mine.roots:
            found[f"partial.{root}"] = (shape.dtype, shape.parameters + shape.statistics)
            found[f"sums.{root}"] = ("<f8", shape.sums)
        found["parameters"] = (shape.dtype, shape.parameters)
        found["statistics"] = (shape.dtype, shape.statistics)
        found["squares"] = ("<f8", shape.norms * len(shape.blocks))
        for name in shape.slots:
            found[f"slot.{name}"] = (shape.dtype, shape.parameters)
        return found

    def pieces(self, source: int, target: int) -> dict[Phase, tuple[Piece, ...]]:
        """What a lane gives to another one in each phase, in the order in which it is sent."""
        return {phase: tuple(piece for part in parts for piece in part) for phase, parts in self.parts(source, target).items()}

    def parts(self, source: int, target: int) -> dict[Phase, tuple[tuple[Piece, ...], ...]]:
        """What a lane gives to another one in each phase, in parts that become final one after the other.

        Those of partial sums are the groups, and what is summed beside the gradient; those of the parameters the groups from the last to
        the first.
        """
        shape, gives, takes = self.shape, self.lanes[source], self.lanes[target]
        total = shape.parameters
        found: dict[Phase, tuple[tuple[Piece, ...], ...]] = {}
        if takes.blocks:
            wanted = self.slices_of(target)
            partial = [[Piece(f"partial.{root}", s.start, s.stop) for root in gives.roots for s in group] for group in wanted]
            beside = [Piece(f"sums.{root}", 0, shape.sums) for root in gives.roots]
            if target == self.owners[0] and shape.statistics:
                beside += [Piece(f"partial.{root}", total, total + shape.statistics) for root in gives.roots]
            found[Phase.PARTIAL] = (*map(tuple, partial), tuple(beside))
        if gives.blocks:
            own = self.slices_of(source)
            after = [[Piece("parameters", s.start, s.stop) for s in group] for group in reversed(own)]
            if source == self.owners[0] and shape.statistics:
                after[0].insert(0, Piece("statistics", 0, shape.statistics))
            found[Phase.PARAMETERS] = tuple(map(tuple, after))
            found[Phase.SLOTS] = (tuple(Piece(f"slot.{name}", s.start, s.stop) for name in shape.slots for group in own for s in group),)
            if shape.norms and takes.blocks:
                rounds = (
                    k * len(shape.blocks) for k in range(shape.norms)
                )  # each has memory of its own: one may be read while the next is written
                found[Phase.SQUARES] = tuple(
                    tuple(Piece("squares", at + run.start, at + run.stop) for run in runs(gives.blocks)) for at in rounds
                )
        return found

    def tables(self, lane: int) -> dict[int, Table]:
        """What a lane gives to and takes from each other one."""
        others = [other.number for other in self.lanes if other.number != lane]
        return {other: Table(self.pieces(lane, other), self.pieces(other, lane)) for other in others}

    def edges(self) -> list[Edge]:
        """Every exchange of one step, with its bytes; that of the optimiser's vectors is once a segment."""
        sizes = {"sums": 8, "squares": 8}
        item = int(self.shape.dtype[-1])
        found = []
        for a in self.lanes:
            for b in self.lanes:
                if a.number != b.number:
                    for phase, pieces in self.pieces(a.number, b.number).items():
                        nbytes = sum((p.stop - p.start) * sizes.get(p.region.partition(".")[0], item) for p in pieces)
                        found.append(Edge(a.number, b.number, phase, nbytes))
        return found

    def visualize(self, filename: Any = None, **options: Any) -> Any:
        """Draw the lanes as columns and their exchanges as edges; see `dagtrain.engines.ranks.picture`."""
        from dagtrain.engines.ranks.picture import draw

        return draw(self, filename, **options)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        from dagtrain.engines.ranks.picture import draw

        return draw(self)._repr_mimebundle_(**kwargs)


def place(shape: StepShape, candidates: Sequence[Candidate], row_bytes: float = 0.0, apart: bool = False) -> Placement:
    """Give each worker its shards and its blocks.

    Workers get shards by their threads, at least one each; where there are more workers than shards, those that hold most of the data.
    Where shards have partitions of their own, a shard goes to a worker that holds them, unless the partial sums that a scattered
    subtree costs are more bytes than the rows it saves.

    Parameters
    ----------
    shape
        The step.
    candidates
        Workers that can take a lane, in any order.
    row_bytes
        Bytes of the rows of one shard in one step.
    apart
        Whether lanes send what they exchange even where they are on one host.

    Raises
    ------
    ClusterError
        If there is no worker.

    Examples
    --------
    >>> shape = StepShape(shards=8, blocks=(100, 100, 50))
    >>> [(lane.shards, lane.blocks) for lane in place(shape, [Candidate("a"), Candidate("b"), Candidate("c")]).lanes]
    [((0, 1, 2), (0,)), ((3, 4, 5), (1,)), ((6, 7), (2,))]

    On two hosts, each lane owns a part of every group of blocks:

    >>> shape = StepShape(shards=2, blocks=(100,) * 8, groups=((4, 5, 6, 7), (0, 1, 2, 3)))
    >>> [lane.blocks for lane in place(shape, [Candidate("a", host="1"), Candidate("b", host="2")]).lanes]
    [(0, 1, 4, 5), (2, 3, 6, 7)]
    """
    if not candidates:
        raise ClusterError("there is no worker to place a lane on. Start workers, or wait for them with client.wait_for_workers(1).")
    by_data = sorted(candidates, key=lambda c: (-c.held, c.address))
    chosen, idle = by_data[: shape.shards], tuple(sorted(c.address for c in by_data[shape.shards :]))
    chosen.sort(key=lambda c: (middle(c.near), c.host, c.address))
    counts = share_out(shape.shards, [c.threads for c in chosen], favoured=[c.held for c in chosen])
    in_order = in_a_row(counts)
    best = in_order
    if any(c.near for c in chosen):
        nears = [c.near for c in chosen]
        vector = shape.parameters * int(shape.dtype[-1])
        best = min((in_order, by_place(counts, nears)), key=lambda taken: crossing(taken, shape.shards, vector, nears, row_bytes))
    sends = len(chosen) > 1 and (apart or len({c.host for c in chosen}) > 1)
    groups = shape.groups if sends else ()
    owned = deal(groups or [range(len(shape.blocks))], len(chosen))
    lanes = []
    for number, (candidate, shards, blocks) in enumerate(zip(chosen, best, owned, strict=True)):
        roots = roots_of(shards, shape.shards)
        threads = max(1, min(candidate.threads, len(shards)))
        lanes.append(Lane(number, candidate.address, candidate.host, threads, shards, roots, blocks))
    return Placement(shape, tuple(lanes), idle, groups)
