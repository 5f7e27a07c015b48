"""The steps of a segment in one rank: the instructions of `Schedule`, executed by `RankRunner` and `Communicator`.

Between hosts, computing and sending overlap. A rank sends the parts of its partial sums as they become final, and the blocks of the
parameters as it updates them. Instead of waiting for all parameters it begins the next step, whose forward pass waits for one layer at a
time:

    Update ▶ Post(ALL_GATHER) ▶ Wait(ALL_GATHER) ▶ Copy ▶ Compute ▶ …        the schedule
                                ╰── forward ── … ─────────╯ ─ backward ─▶     its execution: no memory that peers read is written before

Where losses have different weights, those of the whole batch come first, and a step begins when all parameters are there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dagtrain.data.columns import Rows
from dagtrain.engines.ranks.arithmetic import RankRunner
from dagtrain.engines.ranks.messages import SegmentSpec
from dagtrain.engines.ranks.placement import Placement
from dagtrain.engines.ranks.schedule import Compute, Copy, Post, Reduce, Schedule, SquaredNorm, TakeSnapshot, Update, Wait, Weigh
from dagtrain.engines.ranks.times import COMPUTE, EXCHANGE, WAIT, SegmentTimes
from dagtrain.graph import Array
from dagtrain.step.state import State
from dagtrain.transport import Communicator, Phase

__all__ = ["SegmentRun", "Streams", "streams_of"]

_EXCHANGES = Post | Copy
"""Instructions whose time counts as exchange; a `Wait` computes too, and says itself when it waits."""
Counts = list[dict[int, int]]
"""For the first 0, 1, 2, … parts of a phase, the number of their spans, by peer."""


class Streams(NamedTuple):
    """How a rank's messages are cut into parts.

    Attributes
    ----------
    partial, parameters
        Of the messages that it sends to peers on other hosts.
    incoming
        Of the parameters that it receives from all owners.
    """

    partial: Counts
    parameters: Counts
    incoming: Counts


def streams_of(placement: Placement, rank: int, kinds: Mapping[int, str]) -> Streams | None:
    """How this rank's messages are cut; None if everything becomes final at once, or no channel is a socket."""
    far = [peer for peer, kind in kinds.items() if kind == "socket"]
    if not far or len(placement.buckets) == 1:
        return None
    incoming = {owner: placement.parts(owner, rank)[Phase.ALL_GATHER] for owner in placement.owners if owner != rank}
    partial, parameters = (
        {peer: placement.parts(rank, peer).get(phase, ()) for peer in far} for phase in (Phase.REDUCE_SCATTER, Phase.ALL_GATHER)
    )
    return Streams(*(_counts(parts, len(placement.buckets)) for parts in (partial, parameters, incoming)))


def _counts(parts: Mapping[int, tuple[tuple[Any, ...], ...]], buckets: int) -> Counts:
    return [{peer: sum(map(len, of_peer[:n])) for peer, of_peer in parts.items() if of_peer} for n in range(buckets + 1)]


class SegmentRun:
    """One segment of one rank.

    Parameters
    ----------
    spec
        The steps.
    rank
        Its number.
    schedule, runner, communicator, streams
        Of the rank.
    batches
        The rows; ``batches.step(i)`` returns those of step i.
    progress
        Called with the spec and the index of the step that begins.

    Attributes
    ----------
    sums
        Loss and metrics of each step, if this rank is the first owner.
    seconds, ending
        Seconds that the segment took, and those after its last step.
    times
        How it spent the time of its steps.
    """

    def __init__(
        self,
        spec: SegmentSpec,
        rank: int,
        schedule: Schedule,
        runner: RankRunner,
        communicator: Communicator,
        streams: Streams | None,
        batches: Any,
        progress: Callable[[SegmentSpec, int], None],
    ) -> None:
        self.spec, self.schedule, self.runner, self.communicator, self.streams = spec, schedule, runner, communicator, streams
        self.batches, self._progress = batches, progress
        self.sums: list[Array] = []
        self.times = SegmentTimes(len(spec.counts))
        self._is_first_owner = rank == runner.placement.owners[0]
        self.seconds = self.ending = 0.0
        self._at = 0
        self._steps = len(spec.counts)
        self._rows: dict[int, Rows] = {}
        self._snapshot: State | None = None

    def run(self) -> State:
        """Run the segment; return the whole state after it."""
        self.runner.state.learning_rate_scale = self.spec.learning_rate_scale
        began = self._stepped = time.perf_counter()
        times, schedule, end = self.times, self.schedule, self.spec.first + self._steps
        schedule.begin(self.spec.segment, self.spec.first, self._steps)
        times.begin(0)
        while (instruction := schedule.next()) is not None:
            if times.timing:
                if schedule.step == end:
                    times.end()
                else:
                    times.spend(EXCHANGE if isinstance(instruction, _EXCHANGES) else COMPUTE)
            self._execute(instruction)
        ended = time.perf_counter()
        self.seconds, self.ending = ended - began, ended - self._stepped
        assert self._snapshot is not None
        return self._snapshot

    def _execute(self, instruction: Any) -> None:
        schedule, runner, spec = self.schedule, self.runner, self.spec
        match instruction:
            case Weigh():
                self._begin_step()
                runner.weigh(self._rows)
            case Compute():
                self._begin_step()
                rows, self._rows = self._rows, {}
                runner.compute(rows, spec.counts[self._at], self._releasing(Phase.REDUCE_SCATTER))
            case Post(phase, peers, round):
                self.communicator.post(phase, peers, spec.segment, schedule.step, round)
            case Wait(phase, peers, _):
                if phase is Phase.ALL_GATHER and self._at + 1 < self._steps:
                    self._rows = self.batches.step(self._at + 1)  # while peers still compute
                    if self.streams is not None and not runner.placement.shape.weights:
                        self._compute_ahead(instruction)
                        return
                self._wait(instruction)
            case Reduce():
                runner.reduce(spec.counts[self._at])
                if self._is_first_owner:
                    assert runner.sums is not None
                    self.sums.append(runner.sums.copy())
            case SquaredNorm(k):
                runner.squared_norms(k)
            case Update():
                runner.update(self._releasing(Phase.ALL_GATHER))
                self._stepped = time.perf_counter()
            case Copy(phase, _):
                runner.copy(phase)
                if phase is Phase.ALL_GATHER:
                    self._stepped = time.perf_counter()
            case TakeSnapshot():
                runner.advance()
                self._snapshot = runner.snapshot()

    def _begin_step(self) -> None:
        """Take the rows of the step, unless they are there."""
        if self._at != self.schedule.step - self.spec.first:
            self._next_step()
        self._rows = self._rows or self.batches.step(self._at)

    def _next_step(self) -> None:
        self.runner.advance()
        self._at += 1
        self.times.begin(self._at)
        self._progress(self.spec, self._at)

    def _wait(self, wait: Wait) -> None:
        phase, peers, round = wait
        self.times.spend(WAIT)
        self.communicator.wait(phase, peers, self.spec.segment, self.schedule.step, round)
        self.schedule.arrived(phase, peers, self.spec.segment, self.schedule.step, round)

    def _compute_ahead(self, wait: Wait) -> None:
        """Compute the next step's shards while parameters arrive; the schedule advances when all have."""
        assert self.streams is not None
        incoming, step, copied = self.streams.incoming, self.schedule.step, 0
        every = len(incoming) - 1

        def needs(parts: int) -> None:
            nonlocal copied
            self.times.spend(WAIT)
            if parts < every:
                self.communicator.wait_for_spans(Phase.ALL_GATHER, incoming[parts], self.spec.segment, step)
            else:
                self._wait(wait)
            self.times.spend(EXCHANGE)
            self.runner.copy(Phase.ALL_GATHER, copied, parts)
            self.times.spend(COMPUTE)
            copied = parts
            if copied == every:
                copy, compute = self.schedule.next(), self.schedule.next()
                assert isinstance(copy, Copy), "the parameters are copied already"
                assert isinstance(compute, Compute), "the next step is being computed"

        self._next_step()
        rows, self._rows = self._rows, {}
        self.runner.compute(rows, self.spec.counts[self._at], self._releasing(Phase.REDUCE_SCATTER, ahead=1), needs)
        assert copied == every, "a rank waits for all parameters, also without samples"

    def _releasing(self, phase: Phase, ahead: int = 0) -> Any:
        """A function that sends the parts of a phase that are final; None if messages are not cut into parts."""
        if self.streams is None:
            return None
        counts = self.streams.partial if phase is Phase.REDUCE_SCATTER else self.streams.parameters
        step = self.schedule.step + ahead

        def release(parts: int) -> None:
            self.times.spend(EXCHANGE)
            self.communicator.release(phase, counts[parts], self.spec.segment, step)
            self.times.spend(COMPUTE)

        return release
