"""Which worker does which part of a training step: a pure function of the step, the workers and the location of the data.

    shards      0 1 2 3 │ 4 5 6 7          each rank computes the gradients of its shards
    sum tree    ╰─┴─┴─╯ │ ╰─┴─┴─╯          and adds them: a partial sum for each subtree that is wholly its own
                   │    ╳    │             partial sums are sent, in slices, to the ranks that own the slices
    blocks      0 1     │     2 3          each rank updates the blocks it owns, and all ranks get them

A rank is one long task on one worker. With any placement, every sum is that of the fixed tree and every block is updated whole, so the
bits are the same.

The backward pass computes gradients from the last layer to the first, and the next step needs parameters from the first layer to the last.
Between hosts it pays to send finished parts while the rest is computed. So blocks are in *buckets* that become final together, and each
rank owns a part of every bucket:

    vector      │  first layer  │  second layer   │      partial sums of bucket 0, then of bucket 1
    bucket      │       1       │        0        │      parameters  of bucket 1, then of bucket 0
    owner       │ rank 0 rank 1 │ rank 0   rank 1 │
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from dagtrain.engines.ranks.assignment import by_place, crossing, deal, in_a_row, middle, runs, share_out
from dagtrain.engines.ranks.subtrees import roots_of
from dagtrain.errors import ClusterError
from dagtrain.graph import Drawable
from dagtrain.step.figures import LOSS_PARTS
from dagtrain.transport import Phase, Routes, Span

__all__ = ["Edge", "GroupShape", "Placement", "RankPlacement", "StepShape", "WorkerInfo", "place"]


class GroupShape(NamedTuple):
    """A group of parameters: its name, its blocks, and the names of its slots."""

    name: str
    blocks: range
    slots: tuple[str, ...]


class StepShape(NamedTuple):
    """The sizes of a training step that its placement depends on.

    Attributes
    ----------
    shards
        Number of shards of a batch.
    blocks
        Elements of each block of the trained part of the parameter vector.
    statistics
        Bytes of the states of layers that are combined.
    sums
        Number of parts of loss and metrics; the first two are the loss's sum and weight.
    slots
        Names of the optimiser's vectors.
    norms
        Number of norms of the whole gradient that the update needs.
    dtype
        Of parameters and gradients.
    buckets
        Blocks whose gradients become final together, in the order in which they do; by default all at once.
    fixed
        Elements at the end of the parameter vector that are not trained.
    groups
        The groups of parameters with a name: their blocks, and the names of their slots, which only these blocks have.
    squares
        How many squares each block has for a norm; by default one.
    weights
        Number of losses whose weights in the whole batch each shard needs; 0 where losses have one weight.
    row
        Bytes of the states of one shard alone.
    """

    shards: int
    blocks: tuple[int, ...]
    statistics: int = 0
    sums: int = LOSS_PARTS
    slots: tuple[str, ...] = ()
    norms: int = 0
    dtype: str = "<f4"
    buckets: tuple[tuple[int, ...], ...] = ()
    fixed: int = 0
    groups: tuple[GroupShape, ...] = ()
    weights: int = 0
    squares: tuple[int, ...] = ()
    row: int = 0

    @property
    def squares_at(self) -> tuple[int, ...]:
        """The place of each block's squares among those of all blocks, and the number of all."""
        return (0, *accumulate(self.squares or (1,) * len(self.blocks)))

    @property
    def states(self) -> int:
        """Bytes of all states of layers."""
        return self.statistics + self.shards * self.row

    @property
    def parameters(self) -> int:
        """Elements of the trained part of the parameter vector."""
        return sum(self.blocks)

    @property
    def vector(self) -> int:
        """Elements of the parameter vector."""
        return self.parameters + self.fixed

    @property
    def slot_places(self) -> dict[str, slice]:
        """The part of the parameter vector that each slot belongs to."""
        places = dict.fromkeys(self.slots, slice(0, self.parameters))
        for group in self.groups:
            start = sum(self.blocks[: group.blocks.start])
            places |= dict.fromkeys(group.slots, slice(start, start + sum(self.blocks[group.blocks.start : group.blocks.stop])))
        return places


class WorkerInfo(NamedTuple):
    """A worker that can take a rank.

    Attributes
    ----------
    address
        Dask's address of the worker.
    host
        Name of the host: ranks of one host share memory.
    threads
        Threads that the rank may use.
    held
        Bytes of the data's partitions in its memory.
    near
        The same for each shard that has partitions of its own.
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
        Index among the ranks.
    worker, host, threads
        As in `WorkerInfo`.
    shards
        The shards it computes.
    roots
        Roots of the subtrees of the sum tree that consist of these shards alone: one partial sum each.
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
    """Bytes that one rank sends to another in a phase of a step."""

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
        Workers without a rank: there are at most as many ranks as shards.
    buckets
        Those of the shape if ranks send messages, otherwise one bucket of all blocks.
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
        """Ranks that own blocks; the first of them also owns the states of layers."""
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
        return [
            tuple(
                tuple(slice(self.starts[r.start], self.starts[r.stop]) for r in runs(set(rank.blocks).intersection(bucket)))
                for bucket in self.buckets
            )
            for rank in self.ranks
        ]

    def elements_of(self, rank: int) -> int:
        """Number of parameters that a rank owns."""
        return sum(self.shape.blocks[b] for b in self.ranks[rank].blocks)

    def sums_of(self, rank: int) -> int:
        """Number of sums that an owner adds up: the first one all of them, others the loss's, whose weight their update needs."""
        return self.shape.sums if rank == self.owners[0] else LOSS_PARTS

    def regions(self, rank: int) -> dict[str, tuple[str, int]]:
        """The regions of a rank's window: dtype and elements by name."""
        shape, regions = self.shape, {}
        for root in self.ranks[rank].roots:
            regions[f"partial.{root}"] = (shape.dtype, shape.parameters)
            regions[f"sums.{root}"] = ("<f8", shape.sums)
            regions[f"states.{root}"] = ("|u1", shape.statistics + shape.row)
        regions["parameters"] = (shape.dtype, shape.vector)
        regions["rows"] = ("|u1", shape.shards * shape.row)
        regions["statistics"] = ("|u1", shape.states)
        regions["squared_norms"] = ("<f8", shape.norms * shape.squares_at[-1])
        if shape.weights:
            regions["weights"] = ("<f8", shape.shards * shape.weights)
        for name, place in shape.slot_places.items():
            regions[f"slot.{name}"] = (shape.dtype, place.stop - place.start)
        return regions

    def spans(self, source: int, target: int) -> dict[Phase, tuple[Span, ...]]:
        """Spans that a rank sends to another one in each phase, in the order of sending."""
        return {phase: tuple(span for part in parts for span in part) for phase, parts in self.parts(source, target).items()}

    def parts(self, source: int, target: int) -> dict[Phase, tuple[tuple[Span, ...], ...]]:
        """Spans that a rank sends to another one in each phase, in parts that become final one after the other.

        Partial sums have a part for each bucket and one for the metrics; parameters have one for each bucket, from the last to the first.
        """
        shape, sender, receiver = self.shape, self.ranks[source], self.ranks[target]
        parts: dict[Phase, tuple[tuple[Span, ...], ...]] = {}
        if shape.weights:
            each = (Span("weights", run.start * shape.weights, run.stop * shape.weights) for run in runs(sender.shards))
            parts[Phase.ALL_GATHER_WEIGHTS] = (tuple(each),)
        if receiver.blocks:
            partial = [
                [Span(f"partial.{root}", s.start, s.stop) for root in sender.roots for s in bucket] for bucket in self.slices_of(target)
            ]
            metrics = [Span(f"sums.{root}", 0, self.sums_of(target)) for root in sender.roots]
            if target == self.owners[0] and shape.statistics:
                metrics += [Span(f"states.{root}", 0, shape.statistics) for root in sender.roots]
            if target == self.owners[0] and shape.row:
                metrics += [Span("rows", run.start * shape.row, run.stop * shape.row) for run in runs(sender.shards)]
            parts[Phase.REDUCE_SCATTER] = (*map(tuple, partial), tuple(metrics))
        if sender.blocks:
            slices = self.slices_of(source)
            parameters = [[Span("parameters", s.start, s.stop) for s in bucket] for bucket in reversed(slices)]
            if source == self.owners[0] and shape.states:
                parameters[0].insert(0, Span("statistics", 0, shape.states))
            parts[Phase.ALL_GATHER] = tuple(map(tuple, parameters))
            parts[Phase.ALL_GATHER_OPTIMIZER] = (
                tuple(
                    Span(f"slot.{name}", max(s.start, place.start) - place.start, min(s.stop, place.stop) - place.start)
                    for name, place in shape.slot_places.items()
                    for bucket in slices
                    for s in bucket
                    if s.start < place.stop and place.start < s.stop
                ),
            )
            if shape.norms and receiver.blocks:
                # Each round has memory of its own: peers may read one while the next is written.
                at = shape.squares_at
                rounds = (k * at[-1] for k in range(shape.norms))
                parts[Phase.ALL_REDUCE_NORM] = tuple(
                    tuple(Span("squared_norms", start + at[run.start], start + at[run.stop]) for run in runs(sender.blocks))
                    for start in rounds
                )
        return parts

    def routes(self, rank: int) -> dict[int, Routes]:
        """The routes between a rank and each other one."""
        others = [other.number for other in self.ranks if other.number != rank]
        return {other: Routes(self.spans(rank, other), self.spans(other, rank)) for other in others}

    def edges(self) -> list[Edge]:
        """Every exchange of one step, with its bytes; the optimiser's vectors are exchanged once a segment."""
        sizes = {"sums": 8, "squared_norms": 8, "weights": 8, "states": 1, "rows": 1, "statistics": 1}
        item = int(self.shape.dtype[-1])
        edges = []
        for a in self.ranks:
            for b in self.ranks:
                if a.number != b.number:
                    for phase, spans in self.spans(a.number, b.number).items():
                        nbytes = sum((p.stop - p.start) * sizes.get(p.region.partition(".")[0], item) for p in spans)
                        edges.append(Edge(a.number, b.number, phase, nbytes))
        return edges

    def diagram(self, **options: Any) -> Any:
        """The ranks as columns and their exchanges as edges; see `dagtrain.engines.ranks.picture.placement_diagram`."""
        from dagtrain.engines.ranks.picture import placement_diagram

        return placement_diagram(self, **options)


def place(shape: StepShape, workers: Sequence[WorkerInfo], row_bytes: float = 0.0, apart: bool = False) -> Placement:
    """Assign shards and blocks to each worker.

    The number of a worker's shards follows its threads, at least one. If there are more workers than shards, those with most of the data
    get one each. A shard with partitions of its own goes to a worker that holds them, unless the partial sums of a scattered subtree cost
    more bytes than the rows that this saves.

    Parameters
    ----------
    shape
        The step.
    workers
        Workers that can take a rank, in any order.
    row_bytes
        Bytes of the rows of one shard in one step.
    apart
        Whether ranks of one host send messages too, instead of sharing memory.

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
    by_data = sorted(workers, key=lambda worker: (-worker.held, worker.address))
    chosen, idle = by_data[: shape.shards], tuple(sorted(worker.address for worker in by_data[shape.shards :]))
    chosen.sort(key=lambda worker: (middle(worker.near), worker.host, worker.address))
    counts = share_out(shape.shards, [worker.threads for worker in chosen], favoured=[worker.held for worker in chosen])
    in_order = in_a_row(counts)
    best = in_order
    if any(worker.near for worker in chosen):
        nears = [worker.near for worker in chosen]
        vector = shape.parameters * int(shape.dtype[-1])
        best = min((in_order, by_place(counts, nears)), key=lambda shards_of: crossing(shards_of, shape.shards, vector, nears, row_bytes))
    sends = len(chosen) > 1 and (apart or len({worker.host for worker in chosen}) > 1)
    buckets = shape.buckets if sends else ()
    owned = deal(buckets or [range(len(shape.blocks))], len(chosen))
    ranks = []
    for number, (worker, shards, blocks) in enumerate(zip(chosen, best, owned, strict=True)):
        roots = roots_of(shards, shape.shards)
        threads = max(1, min(worker.threads, len(shards)))
        ranks.append(RankPlacement(number, worker.address, worker.host, threads, shards, roots, blocks))
    return Placement(shape, tuple(ranks), idle, buckets)
