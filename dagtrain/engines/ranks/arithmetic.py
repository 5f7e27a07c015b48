"""The arithmetic of a rank: its shards' gradients, the sums of its subtrees, and the update of the blocks it owns.

    shards ── ShardRunner ──▶ buffers ── additions within a subtree ──▶ partial.<root>     (memory that peers read)
    partial sums of all ranks, own slice ── additions across ──▶ gradient, own slice ── update ──▶ parameters, own slice

It sends no messages. Every addition is one of the fixed tree, so the bits are those of any other engine.
If blocks are in buckets (see `placement`), it reports which parts of its messages are final while it computes the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dagtrain.data.columns import Rows
from dagtrain.engines.ranks.gradients import SPACE, Final, Gradients, Needs
from dagtrain.engines.ranks.placement import Placement
from dagtrain.engines.ranks.snapshot import Snapshot, SnapshotPool
from dagtrain.engines.ranks.subtrees import Add, additions, under
from dagtrain.graph import Array
from dagtrain.step.heads import scales_of
from dagtrain.step.parts import StepParts, weight_of
from dagtrain.step.state import State
from dagtrain.step.tracking import Following
from dagtrain.transport import Phase, Span

__all__ = ["COMMON", "RankRunner"]

Incoming = Callable[[int, Phase], Sequence[Array]]
COMMON = ("parameters", "statistics")
"""Regions that are equal in all ranks. Ranks that share memory have them once: by the barriers of a step, each owner writes its slice while
no rank reads it, and there is nothing to copy."""


class RankRunner:
    """Computes one rank's part of a step.

    Parameters
    ----------
    parts
        Compiled plans.
    placement, rank
        The rank's part of the step.
    window
        The rank's own memory by region; see `Placement.regions`.
    incoming
        ``incoming(peer, phase)``: arrays that hold the peer's spans once they have arrived.
    common
        Whether the regions `COMMON` of the window are the same memory in all ranks.
    in_stages
        Whether `compute` calls `final` and `needs` while it computes, for each part.
    space
        See `Gradients`.
    """

    def __init__(
        self,
        parts: StepParts,
        placement: Placement,
        rank: int,
        window: Mapping[str, Array],
        incoming: Incoming,
        common: bool = False,
        in_stages: bool = False,
        space: int = SPACE,
    ) -> None:
        self.placement, self.rank = placement, placement.ranks[rank]
        shape = placement.shape
        self.state = State(window["parameters"], window["statistics"], {n: window[f"slot.{n}"] for n in shape.slots})
        self._parameters = parts.layout.views(self.state.parameters)
        self._statistics = {shard: parts.statistics_layout.leaves(self.state.statistics, shard) for shard in self.rank.shards}
        self._weights = _Weights(parts, placement, rank, window["weights"], incoming) if shape.weights else None
        self._snapshots = SnapshotPool()
        self._gradients = Gradients(parts, placement, rank, window, in_stages, space)
        self._slice = _Slice(parts, placement, rank, window, self.state, incoming) if self.rank.blocks else None
        peers = [other.number for other in placement.ranks if other.number != rank]
        self._in_place = common or all(owner == rank for owner in placement.owners)
        """Whether owners move the parameters that follow theirs; otherwise each rank does, once all parameters have arrived."""
        sources = [slice(placement.starts[i], placement.starts[i + 1]) for i in self.rank.blocks] if self._in_place else None
        self._following = Following(parts.followed, self.state.parameters, sources)
        self._step = 0
        """The step whose parameters arrive."""
        self._copies: dict[Phase, list[list[tuple[Array, Array]]]] = {Phase.ALL_GATHER: [], Phase.ALL_GATHER_OPTIMIZER: []}
        """For each phase and each of its parts, pairs of target and source arrays."""
        for phase, copies in self._copies.items():
            copies += [[] for _ in range(max((len(placement.parts(peer, rank).get(phase, ())) for peer in peers), default=0))]
            for peer in peers:
                arrays = iter(incoming(peer, phase))
                for part, spans in zip(copies, placement.parts(peer, rank).get(phase, ()), strict=False):
                    for span, array in zip(spans, arrays, strict=False):
                        if not (common and span.region in COMMON):
                            part.append((window[span.region][span.start : span.stop], array))

    @property
    def sums(self) -> Array | None:
        """The parts of loss and metrics of the step, whole in the first owner; None in a rank that owns no block."""
        return None if self._slice is None else self._slice.sums

    def load(self, state: State) -> None:
        """Copy a state into the rank's memory."""
        self.state.assign(state)

    def weigh(self, rows: Mapping[int, Rows]) -> None:
        """Compute the weights of the losses in the rank's shards, in memory that peers read."""
        assert self._weights is not None, "losses with one weight need no weights beforehand"
        self._weights.compute(rows)

    def compute(self, rows: Mapping[int, Rows], counts: Sequence[int], final: Final | None = None, needs: Needs | None = None) -> None:
        """Compute the rank's partial sums of a step.

        Parameters
        ----------
        rows
            Rows of the rank's shards that have samples.
        counts
            Number of samples of every shard of the batch, those of other ranks too.
        final
            Called in the caller's own thread with the number of parts of the partial sums that are final.
        needs
            Called in the caller's own thread with the number of parts of the parameters that must have arrived; by default all have.
        """
        scales = None if self._weights is None else self._weights.scales(counts)
        self._gradients.run(self._parameters, self._statistics, rows, counts, self.state.step, final, needs, scales)
        self._step = self.state.step

    def reduce(self, counts: Sequence[int]) -> None:
        """Add over all shards: loss and metrics, and its slice of the gradient if a norm needs it before the update."""
        self._owned.reduce(tuple(counts))

    def squared_norms(self, k: int) -> None:
        """Compute the squared norm `k` of each own block, in memory that peers read."""
        self._owned.squared_norms(k)

    def update(self, final: Final | None = None) -> None:
        """Update its slices of parameters and optimiser state, and the statistics if this rank owns them.

        `final` is called with the number of parts of the parameters that are final.
        """
        self._owned.update(final)
        if self._in_place:
            self._following.move(self.state.step)

    def copy(self, phase: Phase, first: int = 0, last: int | None = None) -> None:
        """Copy the owners' slices into the rank's own vectors: parts `first` to `last` (exclusive), by default all."""
        for part in self._copies[phase][first:last]:
            for target, source in part:
                np.copyto(target, source)
        if phase is Phase.ALL_GATHER and not self._in_place and (last is None or last == len(self._copies[phase])):
            self._following.move(self._step)

    def advance(self) -> None:
        """Count the step."""
        self.state.step += 1

    def snapshot(self) -> Snapshot:
        """A copy of the state in memory that no one else refers to."""
        return self._snapshots.of(self.state)

    def close(self) -> None:
        """End the threads."""
        self._gradients.close()

    @property
    def _owned(self) -> _Slice:
        assert self._slice is not None, "only owners reduce and update"
        return self._slice


class _Weights:
    """The weights of the losses in all shards."""

    def __init__(self, parts: StepParts, placement: Placement, rank: int, memory: Array, incoming: Incoming) -> None:
        self._parts, self._weights = parts, memory.reshape(placement.shape.shards, -1)
        phase = Phase.ALL_GATHER_WEIGHTS
        self._copies = [
            (memory[span.start : span.stop], array)
            for peer in (other.number for other in placement.ranks if other.number != rank)
            for span, array in zip(placement.spans(peer, rank)[phase], incoming(peer, phase), strict=True)
        ]

    def compute(self, rows: Mapping[int, Rows]) -> None:
        for shard, columns in rows.items():
            self._weights[shard] = self._parts.weights(columns)

    def scales(self, counts: Sequence[int]) -> Array:
        """The scales of the batch, once the weights of all shards have arrived."""
        for target, source in self._copies:
            np.copyto(target, source)
        return scales_of([weights if n else None for weights, n in zip(self._weights, counts, strict=True)], sum(counts))


class _Slice:
    """The blocks that a rank owns: their sums over all ranks, and their update."""

    def __init__(
        self, parts: StepParts, placement: Placement, rank: int, window: Mapping[str, Array], state: State, incoming: Incoming
    ) -> None:
        self.parts, self.placement, self.state = parts, placement, state
        shape, me = placement.shape, placement.ranks[rank]
        self.blocks = me.blocks
        self._turns = [[b for b in bucket if b in me.blocks] for bucket in reversed(placement.buckets)]
        """The blocks in the order of their update: by buckets, first the one that the next step needs first."""
        self.sums = np.zeros(placement.sums_of(rank))
        """In the first owner the parts of loss and metrics, in the others those of the loss, whose weight the update needs."""
        self._norms: list[Any] = []
        self._has_statistics = bool(shape.states) and rank == placement.owners[0]
        peers = [other.number for other in placement.ranks if other.number != rank]
        self._ranges = [slice(a, b) for a, b in pairwise(placement.starts)]
        self._vectors = {i: {root: window[f"partial.{root}"][self._ranges[i]] for root in me.roots} for i in self.blocks}
        self._sums = {root: window[f"sums.{root}"][: len(self.sums)] for root in me.roots}
        self._states = {root: window[f"states.{root}"] for root in me.roots}
        rows = window["rows"].reshape(shape.shards, shape.row)
        self._rows = {shard: rows[shard] for shard in (me.shards if shape.row else range(shape.shards))}  # nothing is sent of empty rows
        for peer in peers:
            self._bind(placement.spans(peer, rank)[Phase.REDUCE_SCATTER], incoming(peer, Phase.REDUCE_SCATTER))
        statistics, self._contributed = parts.statistics_layout, np.empty(shape.statistics, np.uint8)
        parts_of = {root: statistics.parts(states) for root, states in self._states.items()} if self._has_statistics else {}
        self._regions = [
            ({root: parts[i] for root, parts in parts_of.items()}, out, region.rule.combine)
            for i, (region, out) in enumerate(zip(statistics.regions, statistics.parts(self._contributed), strict=True))
        ]
        """For each region of the states, those of all roots, the memory of the total, and how they are combined."""
        self._squared_norms = window["squared_norms"].reshape(shape.norms, shape.squares_at[-1])
        self._squared_norms_of_peers = [
            (span, array)
            for p in peers
            for span, array in zip(placement.spans(p, rank).get(Phase.ALL_REDUCE_NORM, ()), incoming(p, Phase.ALL_REDUCE_NORM), strict=True)
        ]
        roots = len(self._sums)
        self._one_root = roots == 1  # nothing to add: the only partial sum is the gradient
        self._gradient = window[f"partial.{me.roots[0]}"][: shape.parameters] if self._one_root else np.empty(shape.parameters, shape.dtype)
        self._bound = parts.update.bind(state, self._gradient, blocks=self.blocks)
        self._under = {root: shards for other in placement.ranks for root, shards in under(other.roots, other.shards, shape.shards).items()}
        self._orders: dict[tuple[int, ...], tuple[int, list[Add]]] = {}
        self._order: tuple[int, list[Add]] = (0, [])
        self._present: list[int] = []
        self._scratch = [np.empty(max(shape.blocks), shape.dtype) for _ in range(max(shape.shards.bit_length(), 1))]

    def _bind(self, spans: Sequence[Span], arrays: Sequence[Array]) -> None:
        """Find each root's part of each own block, and its metrics, in the arrays of a peer."""
        starts = self.placement.starts
        for span, array in zip(spans, arrays, strict=True):
            kind, _, root = span.region.partition(".")
            if kind == "sums":
                self._sums[int(root)] = array
            elif kind == "states":
                self._states[int(root)] = array
            elif kind == "rows":
                row = self.placement.shape.row
                self._rows |= {first // row: array[first - span.start :][:row] for first in range(span.start, span.stop, row)}
            else:
                for i in self.blocks:
                    if span.start <= starts[i] < span.stop:
                        self._vectors[i][int(root)] = array[starts[i] - span.start : starts[i + 1] - span.start]

    def reduce(self, counts: tuple[int, ...]) -> None:
        """Add loss and metrics, and the gradient too if the update needs norms."""
        self._norms = []
        order = self._orders.get(counts)
        if order is None:
            present = sorted(root for root, shards in self._under.items() if any(counts[s] for s in shards))
            order = self._orders[counts] = present[0], additions(present, len(counts))
        self._order, self._present = order, [shard for shard, count in enumerate(counts) if count]
        self._sum(self._sums, self.sums)
        if self.placement.shape.norms:
            for i in self.blocks:
                self._total(i)

    def squared_norms(self, k: int) -> None:
        """Compute the squared norm `k` of each own block; all squared norms before `k` have arrived."""
        self._finish_norms(k)
        at, weight = self.placement.shape.squares_at, weight_of(self.sums)
        for i in self.blocks:
            squares = self.parts.update.squares(k, i, self.state, self._gradient, weight, self._norms)
            self._squared_norms[k, at[i] : at[i + 1]] = squares

    def update(self, final: Final | None = None) -> None:
        """Update every own block."""
        self._finish_norms(self.placement.shape.norms)
        weight = weight_of(self.sums)
        scalars = self.parts.update.scalar_values(self.state, weight, self._norms, self.blocks) if weight else ()
        if self._has_statistics:
            for sources, out, combine in self._regions:
                self._sum(sources, out, combine)
            rows = [self._rows[shard] for shard in self._present]
            self.parts.statistics_layout.advance(self.state.statistics, self._contributed, self._present, rows)
        for turn, blocks in enumerate(self._turns):
            for i in blocks if weight else ():
                if not self.placement.shape.norms:  # added just before its use, so that it is in the cache
                    self._total(i)
                self._bound.block(i, scalars)
            if final is not None:
                final(turn + 1)

    def _finish_norms(self, count: int) -> None:
        """Compute the first `count` norms from the squared norms of all blocks."""
        size = self.placement.shape.squares_at[-1]
        while len(self._norms) < count:
            k = len(self._norms)
            squared_norms = self._squared_norms[k].copy()
            for span, array in self._squared_norms_of_peers:
                if span.start // size == k:
                    squared_norms[span.start - k * size : span.stop - k * size] = array
            self._norms.append(self.parts.update.norm(k, squared_norms))

    def _total(self, i: int) -> None:
        if not self._one_root:
            self._sum(self._vectors[i], self._gradient[self._ranges[i]])

    def _sum(self, sources: Mapping[int, Array], out: Array, add: Callable[..., Array] = np.add) -> None:
        """Write the tree's sum of the sources that are present; it does not change them."""
        first, adds = self._order
        if not adds:
            np.copyto(out, sources[first])
            return
        scratch: list[Array] = []
        if len(adds) > 1:
            fits = out.dtype == self._scratch[0].dtype and len(out) <= len(self._scratch[0])
            scratch = [s[: len(out)] if fits else np.empty_like(out) for s in self._scratch]
        results: dict[int, Array] = {}
        for each in adds:
            left, right = results.get(each.left), results.pop(each.right, None)
            target = out if each is adds[-1] else left if left is not None else right if right is not None else scratch.pop()
            add(sources[each.left] if left is None else left, sources[each.right] if right is None else right, out=target)
            if right is not None and right is not target:
                scratch.append(right)
            results[each.left] = target
