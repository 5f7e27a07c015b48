"""The steps of a segment in one rank: what `Schedule` says, done by `RankRunner` and `Communicator`.

Between hosts a rank does not wait for what it does not need yet. While it computes, the parts of its partial sums that are final are sent,
and so are the blocks of the parameters as it updates them. When it would wait for the parameters, it begins with the next step, whose
forward pass takes each layer's as they come:

    Update ▶ Post(PARAMETERS) ▶ Wait(PARAMETERS) ▶ Copy ▶ Compute ▶ …        what the script says
                                ╰── forward ── … ─────────╯ ─ backward ─▶     when it is done: nothing that others read is written before
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dagtrain.engines.ranks.arithmetic import RankRunner, Rows
from dagtrain.engines.ranks.messages import SegmentSpec
from dagtrain.engines.ranks.placement import Placement
from dagtrain.engines.ranks.schedule import Compute, Copy, Post, Reduce, Schedule, SquaredNorm, TakeSnapshot, Update, Wait
from dagtrain.graph import Array
from dagtrain.step.state import State
from dagtrain.transport import Communicator, Phase

__all__ = ["SegmentRun", "Streams", "streams_of"]

Counts = list[dict[int, int]]
"""For 0, 1, 2, … parts of a phase, how many spans that is, by peer."""


class Streams(NamedTuple):
    """How a rank's messages go in parts.

    Attributes
    ----------
    partial, parameters
        Of what it sends, to peers on other hosts.
    coming
        Of the parameters that it gets, from all owners.
    """

    partial: Counts
    parameters: Counts
    coming: Counts


def streams_of(placement: Placement, rank: int, kinds: Mapping[int, str]) -> Streams | None:
    """What is sent in parts; None where all is final at once, or nothing is sent by sockets."""
    far = [peer for peer, kind in kinds.items() if kind == "socket"]
    if not far or len(placement.buckets) == 1:
        return None
    coming = {owner: placement.parts(owner, rank)[Phase.ALL_GATHER] for owner in placement.owners if owner != rank}
    partial, parameters = (
        {peer: placement.parts(rank, peer).get(phase, ()) for peer in far} for phase in (Phase.REDUCE_SCATTER, Phase.ALL_GATHER)
    )
    return Streams(*(_counts(parts, len(placement.buckets)) for parts in (partial, parameters, coming)))


def _counts(parts: Mapping[int, tuple[tuple[Any, ...], ...]], buckets: int) -> Counts:
    return [{peer: sum(map(len, own[:n])) for peer, own in parts.items() if own} for n in range(buckets + 1)]


class SegmentRun:
    """One segment of one rank.

    Parameters
    ----------
    order
        Which steps.
    rank
        Its number.
    schedule, runner, communicator, streams
        Of the rank.
    batches
        Where rows come from.
    progress
        Called with the order and the number of the step that begins.

    Attributes
    ----------
    sums
        Of each step, where this rank is the first owner.
    seconds, ending
        How long it took, and how long what comes after the last step.
    """

    def __init__(
        self,
        order: SegmentSpec,
        rank: int,
        schedule: Schedule,
        runner: RankRunner,
        communicator: Communicator,
        streams: Streams | None,
        batches: Any,
        progress: Callable[[SegmentSpec, int], None],
    ) -> None:
        self.order, self.schedule, self.runner, self.communicator, self.streams = order, schedule, runner, communicator, streams
        self.batches, self._progress = batches, progress
        self.sums: list[Array] = []
        self._sums_wanted = rank == runner.placement.owners[0]
        self.seconds = self.ending = 0.0
        self._at = 0
        self._steps = len(order.counts)
        self._rows: dict[int, Rows] = {}
        self._kept: State | None = None

    def run(self) -> State:
        """The whole state after the segment."""
        self.runner.state.learning_rate_scale = self.order.learning_rate_scale
        began = self._stepped = time.perf_counter()
        self.schedule.begin(self.order.segment, self.order.first, self._steps)
        while (todo := self.schedule.next()) is not None:
            self._do(todo)
        ended = time.perf_counter()
        self.seconds, self.ending = ended - began, ended - self._stepped
        assert self._kept is not None
        return self._kept

    def _do(self, todo: Any) -> None:
        schedule, runner, order = self.schedule, self.runner, self.order
        match todo:
            case Compute():
                if self._at != schedule.step - order.first:
                    self._next_step()
                rows, self._rows = self._rows or self.batches.step(self._at), {}
                runner.compute(rows, order.counts[self._at], self._releasing(Phase.REDUCE_SCATTER))
            case Post(phase, peers, turn):
                self.communicator.post(phase, peers, order.segment, schedule.step, turn)
            case Wait(phase, peers, turn):
                if phase is Phase.ALL_GATHER and self._at + 1 < self._steps:
                    self._rows = self.batches.step(self._at + 1)  # while the others are still at work
                    if self.streams is not None:
                        self._compute_ahead(todo)
                        return
                self._wait(todo)
            case Reduce():
                runner.reduce(order.counts[self._at])
                if self._sums_wanted:
                    assert runner.sums is not None
                    self.sums.append(runner.sums.copy())
            case SquaredNorm(k):
                runner.square(k)
            case Update():
                runner.update(self._releasing(Phase.ALL_GATHER))
                self._stepped = time.perf_counter()
            case Copy(phase, _):
                runner.copy(phase)
                if phase is Phase.ALL_GATHER:
                    self._stepped = time.perf_counter()
            case TakeSnapshot():
                runner.advance()
                self._kept = runner.keep()

    def _next_step(self) -> None:
        self.runner.advance()
        self._at += 1
        self._progress(self.order, self._at)

    def _wait(self, wait: Wait) -> None:
        phase, peers, turn = wait
        self.communicator.wait(phase, peers, self.order.segment, self.schedule.step, turn)
        self.schedule.arrived(phase, peers, self.order.segment, self.schedule.step, turn)

    def _compute_ahead(self, wait: Wait) -> None:
        """The next step's shards, as far as parameters are there; the script goes on when all are."""
        assert self.streams is not None
        coming, step, came = self.streams.coming, self.schedule.step, 0
        every = len(coming) - 1

        def needs(parts: int) -> None:
            nonlocal came
            if parts < every:
                self.communicator.wait_for_spans(Phase.ALL_GATHER, coming[parts], self.order.segment, step)
            else:
                self._wait(wait)
            self.runner.copy(Phase.ALL_GATHER, came, parts)
            came = parts
            if came == every:
                copy, compute = self.schedule.next(), self.schedule.next()
                assert isinstance(copy, Copy), "what has come is copied"
                assert isinstance(compute, Compute), "and what is being computed is the next step"

        self._next_step()
        rows, self._rows = self._rows, {}
        self.runner.compute(rows, self.order.counts[self._at], self._releasing(Phase.REDUCE_SCATTER, ahead=1), needs)
        assert came == every, "whoever computes, and whoever has no samples, asks for all"

    def _releasing(self, phase: Phase, ahead: int = 0) -> Any:
        """What sends the parts of a phase that are final; None where nothing goes in parts."""
        if self.streams is None:
            return None
        counts = self.streams.partial if phase is Phase.REDUCE_SCATTER else self.streams.parameters
        step = self.schedule.step + ahead
        return lambda parts: self.communicator.release(phase, counts[parts], self.order.segment, step)
