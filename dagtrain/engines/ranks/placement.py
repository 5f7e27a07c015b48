"""Where the tasks of a training step go: a pure function of the step, the workers and where the data lies.

    shards      0 1 2 3 │ 4 5 6 7          each rank computes the gradients of its shards
    sum tree    ╰─┴─┴─╯ │ ╰─┴─┴─╯          and adds what lies wholly within it: a partial sum for each such subtree
                   │    ╳    │             partial sums go, cut into slices, to the ranks that own the slices
    blocks      0 1     │     2 3          each rank updates the blocks it owns, and everybody gets them

A rank is one long task on one worker. Whatever the placement, every sum is that of the fixed tree and every block is updated whole, so
the bits are the same.

Gradients come out of a network from its last layer to its first, and the next step wants the parameters from the first to the last. Between
hosts it pays to send what is there while the rest is computed. So blocks are in *buckets* that become final together, and each rank owns
a part of every bucket:

    vector      │  first layer  │  second layer   │      partial sums of bucket 0, then of bucket 1
    bucket      │       1       │        0        │      parameters  of bucket 1, then of bucket 0
    owner       │ rank 0 rank 1 │ rank 0   rank 1 │
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from dagtrain.engines.ranks.assignment import by_place, crossing, deal, in_a_row, middle, runs, share_out
from dagtrain.engines.ranks.subtrees import roots_of
from dagtrain.errors import ClusterError
from dagtrain.graph import Drawable
from dagtrain.transport import Phase, Routes, Span

__all__ = ["Edge", "Placement", "RankPlacement", "StepShape", "WorkerInfo", "place"]


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
    buckets
        Blocks whose gradients become final together, in the order in which they do; all at once by default.
    """

    shards: int
    blocks: tuple[int, ...]
    statistics: int = 0
    sums: int = 1
    slots: tuple[str, ...] = ()
    norms: int = 0
    dtype: str = "<f4"
    buckets: tuple[tuple[int, ...], ...] = ()

    @property
    def parameters(self) -> int:
        """Elements of the parameter vector."""
        return sum(self.blocks)


class WorkerInfo(NamedTuple):
    """A worker that can take a rank.

    Attributes
    ----------
    address
        As Dask names it.
    host
        What tells hosts apart: ranks of one host share memory.
    threads
        Threads that the rank may use.
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
class RankPlacement:
    """One worker's part of every step.

    Attributes
    ----------
    number
        Place among the ranks.
    worker, host, threads
        As in `WorkerInfo`.
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
    """Bytes that go from one rank to another in a phase of a step."""

    source: int
    target: int
    phase: Phase
    nbytes: int


@dataclass(frozen=True)
class Placement(Drawable):
    """Ranks, and what they exchange.

    Attributes
    ----------
    shape
        The step that was placed.
    ranks
        In the order of their numbers.
    idle
        Workers that are left over: there are no more ranks than shards.
    buckets
        Those of the shape where something is sent between ranks, else one of all blocks.
    """

    shape: StepShape
    ranks: tuple[RankPlacement, ...]
    idle: tuple[str, ...] = ()
    buckets: tuple[tuple[int, ...], ...] = ()
    starts: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        starts = [0]
        for length in self.shape.blocks:
            starts.append(starts[-1] + length)
        object.__setattr__(self, "starts", tuple(starts))
        object.__setattr__(self, "buckets", self.buckets or (tuple(range(len(self.shape.blocks))),))

    @property
    def owners(self) -> tuple[int, ...]:
        """Ranks that own blocks; the first of them also owns the running statistics."""
        return tuple(rank.number for rank in self.ranks if rank.blocks)

    @property
    def workers(self) -> tuple[str, ...]:
        """Addresses, in the order of the ranks."""
        return tuple(rank.worker for rank in self.ranks)

    def slices_of(self, rank: int) -> tuple[tuple[slice, ...], ...]:
        """The parts of the parameter vector that a rank owns, by bucket."""
        return self._slices[rank]

    @cached_property
    def _slices(self) -> list[tuple[tuple[slice, ...], ...]]:
        owned = [set(rank.blocks) for rank in self.ranks]
        return [
            tuple(
                tuple(slice(self.starts[r.start], self.starts[r.stop]) for r in runs(own.intersection(bucket))) for bucket in self.buckets
            )
            for own in owned
        ]

    def elements_of(self, rank: int) -> int:
        """How many parameters a rank owns."""
        return sum(self.shape.blocks[b] for b in self.ranks[rank].blocks)

    def regions(self, rank: int) -> dict[str, tuple[str, int]]:
        """The memory of a rank that others read: dtype and elements by name."""
        shape, mine = self.shape, self.ranks[rank]
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

    def spans(self, source: int, target: int) -> dict[Phase, tuple[Span, ...]]:
        """What a rank gives to another one in each phase, in the order in which it is sent."""
        return {phase: tuple(span for part in parts for span in part) for phase, parts in self.parts(source, target).items()}

    def parts(self, source: int, target: int) -> dict[Phase, tuple[tuple[Span, ...], ...]]:
        """What a rank gives to another one in each phase, in parts that become final one after the other.

        Those of partial sums are the buckets, and what is summed beside the gradient; those of the parameters the buckets from the last to
        the first.
        """
        shape, gives, takes = self.shape, self.ranks[source], self.ranks[target]
        total = shape.parameters
        found: dict[Phase, tuple[tuple[Span, ...], ...]] = {}
        if takes.blocks:
            wanted = self.slices_of(target)
            partial = [[Span(f"partial.{root}", s.start, s.stop) for root in gives.roots for s in bucket] for bucket in wanted]
            beside = [Span(f"sums.{root}", 0, shape.sums) for root in gives.roots]
            if target == self.owners[0] and shape.statistics:
                beside += [Span(f"partial.{root}", total, total + shape.statistics) for root in gives.roots]
            found[Phase.REDUCE_SCATTER] = (*map(tuple, partial), tuple(beside))
        if gives.blocks:
            own = self.slices_of(source)
            after = [[Span("parameters", s.start, s.stop) for s in bucket] for bucket in reversed(own)]
            if source == self.owners[0] and shape.statistics:
                after[0].insert(0, Span("statistics", 0, shape.statistics))
            found[Phase.ALL_GATHER] = tuple(map(tuple, after))
            found[Phase.ALL_GATHER_OPTIMIZER] = (
                tuple(Span(f"slot.{name}", s.start, s.stop) for name in shape.slots for bucket in own for s in bucket),
            )
            if shape.norms and takes.blocks:
                rounds = (
                    k * len(shape.blocks) for k in range(shape.norms)
                )  # each has memory of its own: one may be read while the next is written
                found[Phase.ALL_REDUCE_NORM] = tuple(
                    tuple(Span("squares", at + run.start, at + run.stop) for run in runs(gives.blocks)) for at in rounds
                )
        return found

    def routes(self, rank: int) -> dict[int, Routes]:
        """What a rank gives to and takes from each other one."""
        others = [other.number for other in self.ranks if other.number != rank]
        return {other: Routes(self.spans(rank, other), self.spans(other, rank)) for other in others}

    def edges(self) -> list[Edge]:
        """Every exchange of one step, with its bytes; that of the optimiser's vectors is once a segment."""
        sizes = {"sums": 8, "squares": 8}
        item = int(self.shape.dtype[-1])
        found = []
        for a in self.ranks:
            for b in self.ranks:
                if a.number != b.number:
                    for phase, spans in self.spans(a.number, b.number).items():
                        nbytes = sum((p.stop - p.start) * sizes.get(p.region.partition(".")[0], item) for p in spans)
                        found.append(Edge(a.number, b.number, phase, nbytes))
        return found

    def diagram(self, **options: Any) -> Any:
        """The ranks as columns and their exchanges as edges; see `dagtrain.engines.ranks.picture.placement_diagram`."""
        from dagtrain.engines.ranks.picture import placement_diagram

        return placement_diagram(self, **options)


def place(shape: StepShape, workers: Sequence[WorkerInfo], row_bytes: float = 0.0, apart: bool = False) -> Placement:
    """Give each worker its shards and its blocks.

    Workers get shards by their threads, at least one each; where there are more workers than shards, those that hold most of the data.
    Where shards have partitions of their own, a shard goes to a worker that holds them, unless the partial sums that a scattered
    subtree costs are more bytes than the rows it saves.

    Parameters
    ----------
    shape
        The step.
    workers
        Workers that can take a rank, in any order.
    row_bytes
        Bytes of the rows of one shard in one step.
    apart
        Whether ranks send what they exchange even where they are on one host.

    Raises
    ------
    ClusterError
        If there is no worker.

    Examples
    --------
    >>> shape = StepShape(shards=8, blocks=(100, 100, 50))
    >>> [(rank.shards, rank.blocks) for rank in place(shape, [WorkerInfo("a"), WorkerInfo("b"), WorkerInfo("c")]).ranks]
    [((0, 1, 2), (0,)), ((3, 4, 5), (1,)), ((6, 7), (2,))]

    On two hosts, each rank owns a part of every bucket of blocks:

    >>> shape = StepShape(shards=2, blocks=(100,) * 8, buckets=((4, 5, 6, 7), (0, 1, 2, 3)))
    >>> [rank.blocks for rank in place(shape, [WorkerInfo("a", host="1"), WorkerInfo("b", host="2")]).ranks]
    [(0, 1, 4, 5), (2, 3, 6, 7)]
    """
    if not workers:
        raise ClusterError("there is no worker to place a rank on. Start workers, or wait for them with client.wait_for_workers(1).")
    by_data = sorted(workers, key=lambda c: (-c.held, c.address))
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
    buckets = shape.buckets if sends else ()
    owned = deal(buckets or [range(len(shape.blocks))], len(chosen))
    ranks = []
    for number, (worker, shards, blocks) in enumerate(zip(chosen, best, owned, strict=True)):
        roots = roots_of(shards, shape.shards)
        threads = max(1, min(worker.threads, len(shards)))
        ranks.append(RankPlacement(number, worker.address, worker.host, threads, shards, roots, blocks))
    return Placement(shape, tuple(ranks), idle, buckets)
