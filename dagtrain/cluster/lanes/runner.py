"""A lane's arithmetic: its shards' gradients, the sums of its subtrees, and the update of the blocks it owns.

    shards ── ShardRunner ──▶ buffers ── additions within a subtree ──▶ partial.<root>     (memory that others read)
    partial sums of all lanes, own slice ── additions across ──▶ gradient, own slice ── update ──▶ parameters, own slice

It knows nothing of messages. Every addition is one of the fixed tree's, so the bits are those of any other engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from dagtrain.cluster.channels import Phase
from dagtrain.cluster.lanes.handed import Copies, HandedState
from dagtrain.cluster.lanes.placement import Placement
from dagtrain.cluster.lanes.subtrees import Add, Buffer, Schedule, additions, schedule, under
from dagtrain.train.state import State
from dagtrain.train.step import ShardRunner, StepParts

__all__ = ["COMMON", "LaneRunner", "Rows"]

Array = np.ndarray[Any, Any]
Incoming = Callable[[int, Phase], Sequence[Array]]
COMMON = ("parameters", "statistics")
"""Regions that all lanes hold alike. Lanes that have each other's memory hold them once: each owner writes its slice when, by the barriers
of a step, nobody reads, and there is nothing to copy."""


class Rows(NamedTuple):
    """The rows of one shard."""

    x: Array
    y: Array | None


class LaneRunner:
    """Computes one lane's part of a step.

    Parameters
    ----------
    parts
        Compiled plans.
    placement, lane
        Which part.
    board
        The lane's own memory by region; see `Placement.regions`.
    incoming
        ``incoming(peer, phase)``: arrays that hold the peer's pieces once they have arrived.
    common
        Whether the regions `COMMON` of the board are the same memory in all lanes.
    """

    def __init__(
        self, parts: StepParts, placement: Placement, lane: int, board: Mapping[str, Array], incoming: Incoming, common: bool = False
    ) -> None:
        self.placement, self.lane = placement, placement.lanes[lane]
        shape = placement.shape
        self.state = State(board["parameters"], board["statistics"], {n: board[f"slot.{n}"] for n in shape.slots})
        self._parameters = parts.layout.views(self.state.parameters)
        self._statistics = parts.statistics_layout.views(self.state.statistics)
        self._handed = Copies()
        self._gradients = _Gradients(parts, placement, lane, board)
        self._slice = _Slice(parts, placement, lane, board, self.state, incoming) if self.lane.blocks else None
        peers = [other.number for other in placement.lanes if other.number != lane]
        self._copies: dict[Phase, list[tuple[Array, Array]]] = {
            phase: [
                (board[piece.region][piece.start : piece.stop], array)
                for peer in peers
                for piece, array in zip(placement.pieces(peer, lane).get(phase, ()), incoming(peer, phase), strict=True)
                if not (common and piece.region in COMMON)
            ]
            for phase in (Phase.PARAMETERS, Phase.SLOTS)
        }

    @property
    def sums(self) -> Array | None:
        """Loss and metrics of the step, as means over its samples; None in a lane that owns nothing."""
        return None if self._slice is None else self._slice.sums

    def load(self, state: State) -> None:
        """Begin from a state."""
        self.state.assign(state)

    def compute(self, rows: Mapping[int, Rows], counts: Sequence[int]) -> None:
        """The lane's partial sums of a step.

        Parameters
        ----------
        rows
            The lane's shards that have samples.
        counts
            Samples of every shard of the batch, those of other lanes too.
        """
        self._gradients.run(self._parameters, self._statistics, rows, counts, self.state.step)

    def reduce(self, counts: Sequence[int]) -> None:
        """The sums of all shards: loss and metrics, and the gradient's own slice where a norm needs it before the update."""
        self._owned.reduce(tuple(counts))

    def square(self, k: int) -> None:
        """The own blocks' squares of norm `k`, where others read them."""
        self._owned.square(k)

    def update(self) -> None:
        """The own slice of parameters and optimiser state, and the statistics where they are this lane's."""
        self._owned.update()

    def copy(self, phase: Phase) -> None:
        """What the owners have posted, into the lane's own vectors."""
        for target, source in self._copies[phase]:
            np.copyto(target, source)

    def advance(self) -> None:
        """The step is done."""
        self.state.step += 1

    def keep(self) -> HandedState:
        """The state in memory that nobody else has."""
        return self._handed.of(self.state)

    def close(self) -> None:
        """End the threads."""
        self._gradients.close()

    @property
    def _owned(self) -> _Slice:
        assert self._slice is not None, "only owners reduce and update"
        return self._slice


class _Gradients:
    """The shards of a lane, by one thread or several, into the sums of its subtrees."""

    def __init__(self, parts: StepParts, placement: Placement, lane: int, board: Mapping[str, Array]) -> None:
        self.parts, me = parts, placement.lanes[lane]
        self.count, self.threads = placement.shape.shards, me.threads
        self._under = under(me.roots, me.shards, self.count)
        self._board = board
        self._memory: dict[Buffer, tuple[Array, Array]] = {}
        # By thread too, for the sake of its work space: where other shards are empty, another thread fills the same memory.
        self._runners: dict[tuple[int, Buffer], ShardRunner] = {}
        self._spaces: list[dict[int, list[Array]]] = [{} for _ in range(self.threads)]
        self._schedules: dict[tuple[int, ...], Schedule] = {}
        self._pool = ThreadPoolExecutor(self.threads, "dagtrain-lane", np.seterr, ("ignore",)) if self.threads > 1 else None

    def run(
        self, parameters: Sequence[Array], statistics: Sequence[Array], rows: Mapping[int, Rows], counts: Sequence[int], step: int
    ) -> None:
        """All shards, and all additions within the lane."""
        samples = sum(counts)
        present = tuple(rows)
        order = self._schedules.get(present)
        if order is None:
            order = self._schedules[present] = self._prepare(present)

        def work(thread: int) -> None:
            for shard, buffer, adds in order.threads[thread]:
                x, y = rows[shard]
                self._runners[thread, buffer].run(parameters, statistics, x, y, len(x) / samples, step, shard)
                for left, right in adds:
                    self._add(left, right)

        if self._pool is None:
            work(0)
        else:
            futures = [self._pool.submit(work, thread) for thread in range(1, self.threads)]
            try:
                work(0)
            finally:
                errors = [f.exception() for f in futures]
            for error in errors:
                if error is not None:
                    raise error
        for left, right in order.joins:
            self._add(left, right)

    def _prepare(self, present: tuple[int, ...]) -> Schedule:
        subtrees = {root: [s for s in shards if s in present] for root, shards in self._under.items()}
        made = schedule(subtrees, self.count, self.threads)
        for thread, chain in enumerate(made.threads):
            for link in chain:
                if (thread, link.buffer) not in self._runners:
                    self._runners[thread, link.buffer] = self._runner(link.buffer, thread)
        return made

    def _runner(self, buffer: Buffer, thread: int) -> ShardRunner:
        if buffer not in self._memory:
            kind, root, _ = buffer
            of_others = kind == "partial"
            out = self._board[f"partial.{root}"] if of_others else np.empty(self.parts.width, self.parts.layout.dtype)
            self._memory[buffer] = out, self._board[f"sums.{root}"] if of_others else np.zeros(self.parts.sums)
        out, sums = self._memory[buffer]
        made = ShardRunner(self.parts, out, self._spaces[thread])
        made.sums = sums
        return made

    def _add(self, left: Buffer, right: Buffer) -> None:
        for into, other in zip(self._memory[left], self._memory[right], strict=True):
            np.add(into, other, out=into)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


class _Slice:
    """The blocks that a lane owns: their sums over all lanes, and their update."""

    def __init__(
        self, parts: StepParts, placement: Placement, lane: int, board: Mapping[str, Array], state: State, incoming: Incoming
    ) -> None:
        self.parts, self.placement, self.state = parts, placement, state
        shape, me = placement.shape, placement.lanes[lane]
        self.blocks, self.own = me.blocks, placement.slice_of(lane)
        self.sums = np.zeros(shape.sums)
        self._norms: list[Any] = []
        self._has_statistics = bool(shape.statistics) and lane == placement.owners[0]
        peers = [other.number for other in placement.lanes if other.number != lane]
        self._vectors = {root: board[f"partial.{root}"][self.own] for root in me.roots}
        self._sums = {root: board[f"sums.{root}"] for root in me.roots}
        self._statistics = {root: board[f"partial.{root}"][shape.parameters :] for root in me.roots}
        for peer in peers:
            arrays, roots = incoming(peer, Phase.PARTIAL), placement.lanes[peer].roots
            n = len(roots)
            self._vectors |= zip(roots, arrays[:n], strict=True)
            self._sums |= zip(roots, arrays[n : 2 * n], strict=True)
            if self._has_statistics:
                self._statistics |= zip(roots, arrays[2 * n :], strict=True)
        self._squares = board["squares"].reshape(shape.norms, len(shape.blocks))
        self._squares_of = [
            (placement.lanes[p].blocks, incoming(p, Phase.SQUARES)) for p in peers if shape.norms and placement.lanes[p].blocks
        ]
        self._alone = len(self._vectors) == 1  # nothing to add: the only partial sum is the gradient
        self._gradient = board[f"partial.{me.roots[0]}"][: shape.parameters] if self._alone else np.empty(shape.parameters, shape.dtype)
        self._ranges = [slice(a, b) for a, b in zip(placement.starts, placement.starts[1:], strict=False)]
        self._bound = parts.update.bind(state, self._gradient, blocks=self.blocks)
        self._under = {root: shards for other in placement.lanes for root, shards in under(other.roots, other.shards, shape.shards).items()}
        self._orders: dict[tuple[int, ...], tuple[int, list[Add]]] = {}
        self._order: tuple[int, list[Add]] = (0, [])
        self._scratch = [np.empty(max(shape.blocks), shape.dtype) for _ in range(max(shape.shards.bit_length(), 1))]

    def reduce(self, counts: tuple[int, ...]) -> None:
        """The sums of loss and metrics; the gradient too where norms are wanted."""
        self._norms = []
        order = self._orders.get(counts)
        if order is None:
            present = sorted(root for root, shards in self._under.items() if any(counts[s] for s in shards))
            order = self._orders[counts] = present[0], additions(present, len(counts))
        self._order = order
        self._sum(self._sums, self.sums)
        if self.placement.shape.norms:
            for i in self.blocks:
                self._total(i)

    def square(self, k: int) -> None:
        """Squares of norm `k` of the own blocks; those of the norms before it have arrived."""
        self._take_norms(k)
        for i in self.blocks:
            self._squares[k, i] = self.parts.update.squares(k, self._ranges[i], self.state, self._gradient, self._norms)

    def update(self) -> None:
        """Every own block."""
        self._take_norms(self.placement.shape.norms)
        scalars = self.parts.update.scalar_values(self.state.step, self._norms, self.state.rate_scale)
        for i in self.blocks:
            if not self.placement.shape.norms:  # added just before it is used, while it lies in the cache
                self._total(i)
            self._bound.block(i, scalars)
        if self._has_statistics:
            self._sum(self._statistics, self.state.statistics)

    def _take_norms(self, count: int) -> None:
        """The norms whose squares have arrived."""
        while len(self._norms) < count:
            k = len(self._norms)
            squares = self._squares[k].copy()
            for blocks, arrays in self._squares_of:
                squares[blocks.start : blocks.stop] = arrays[k]
            self._norms.append(self.parts.update.norm(squares))

    def _total(self, i: int) -> None:
        if not self._alone:
            block, offset = self._ranges[i], self.own.start
            self._sum(self._vectors, self._gradient[block], slice(block.start - offset, block.stop - offset))

    def _sum(self, sources: Mapping[int, Array], out: Array, part: slice = slice(None)) -> None:
        """The tree's sum of a part of what is present; the sources are left as they are."""
        first, adds = self._order
        if not adds:
            np.copyto(out, sources[first][part])
            return
        scratch: list[Array] = []
        if len(adds) > 1:
            fits = out.dtype == self._scratch[0].dtype and len(out) <= len(self._scratch[0])
            scratch = [s[: len(out)] if fits else np.empty_like(out) for s in self._scratch]
        made: dict[int, Array] = {}
        for add in adds:
            left, right = made.get(add.left), made.pop(add.right, None)
            target = out if add is adds[-1] else left if left is not None else right if right is not None else scratch.pop()
            np.add(sources[add.left][part] if left is None else left, sources[add.right][part] if right is None else right, out=target)
            if right is not None and right is not target:
                scratch.append(right)
            made[add.left] = target
