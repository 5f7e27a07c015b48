"""The schedule of a step: what a rank does, in which order, and what it waits for. A state machine without I/O.

    every step      Compute ▶ Post and Wait(REDUCE_SCATTER) ▶ Reduce ▶ [SquaredNorm ▶ Post and Wait(ALL_REDUCE_NORM)]
                            ▶ Update ▶ Post and Wait(ALL_GATHER) ▶ Copy(ALL_GATHER)
    a segment's end Post and Wait(ALL_GATHER_OPTIMIZER) ▶ Copy(ALL_GATHER_OPTIMIZER) ▶ TakeSnapshot

The two waits of a step are barriers: a rank writes partial sums only after every owner has posted the parameters of the step before, and an
owner changes its slice only after every rank has posted its partial sums. So nothing is overwritten that a peer still reads, and buffers
need no second copy. A rank that owns no block skips what owners do.

The instructions are data made from the placement alone. `Schedule` holds a rank's place in them; its user does what they say and reports
what arrived.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dagtrain.engines.ranks.placement import Placement
from dagtrain.transport import Phase

__all__ = [
    "Compute",
    "Copy",
    "Instruction",
    "Post",
    "Reduce",
    "Schedule",
    "ScheduleError",
    "SquaredNorm",
    "TakeSnapshot",
    "Update",
    "Wait",
    "instructions",
]


class Compute(NamedTuple):
    """The rank's shards, and the sums of its subtrees."""


class Post(NamedTuple):
    """Tell these ranks that a phase's spans are final."""

    phase: Phase
    peers: tuple[int, ...]
    round: int = 0


class Wait(NamedTuple):
    """Go on when these ranks have posted."""

    phase: Phase
    peers: tuple[int, ...]
    round: int = 0


class Reduce(NamedTuple):
    """All partial sums of the own slice, by the fixed tree."""


class SquaredNorm(NamedTuple):
    """The own blocks' squares, for the norm of this number."""

    round: int


class Update(NamedTuple):
    """The own blocks."""


class Copy(NamedTuple):
    """What the owners have posted, into the rank's own vectors."""

    phase: Phase
    peers: tuple[int, ...]


class TakeSnapshot(NamedTuple):
    """The state as the segment's result."""


Instruction = Compute | Post | Wait | Reduce | SquaredNorm | Update | Copy | TakeSnapshot


class ScheduleError(Exception):
    """A message that cannot be: the ranks no longer do the same."""


def instructions(placement: Placement, rank: int) -> tuple[tuple[Instruction, ...], tuple[Instruction, ...]]:
    """What a rank does in every step, and at the end of a segment.

    Examples
    --------
    >>> from dagtrain.engines.ranks.placement import WorkerInfo, StepShape, place
    >>> step, end = instructions(place(StepShape(2, (10,)), [WorkerInfo("a"), WorkerInfo("b")]), 1)  # one block, which rank 0 owns
    >>> [type(i).__name__ for i in step]
    ['Compute', 'Post', 'Wait', 'Copy']
    """
    others = tuple(other.number for other in placement.ranks if other.number != rank)
    owners = tuple(owner for owner in placement.owners if owner != rank)
    owns = bool(placement.ranks[rank].blocks)
    step: list[Instruction] = [Compute()]
    end: list[Instruction] = []
    if owners:
        step.append(Post(Phase.REDUCE_SCATTER, owners))
    if owns:
        if others:
            step.append(Wait(Phase.REDUCE_SCATTER, others))
        step.append(Reduce())
        for k in range(placement.shape.norms):
            step.append(SquaredNorm(k))
            if owners:
                step += [Post(Phase.ALL_REDUCE_NORM, owners, k), Wait(Phase.ALL_REDUCE_NORM, owners, k)]
        step.append(Update())
        if others:
            step.append(Post(Phase.ALL_GATHER, others))
            end.append(Post(Phase.ALL_GATHER_OPTIMIZER, others))
    if owners:
        step += [Wait(Phase.ALL_GATHER, owners), Copy(Phase.ALL_GATHER, owners)]
        end += [Wait(Phase.ALL_GATHER_OPTIMIZER, owners), Copy(Phase.ALL_GATHER_OPTIMIZER, owners)]
    return tuple(step), (*end, TakeSnapshot())


class Schedule:
    """One rank's place in its instructions.

    Parameters
    ----------
    placement
        What was placed.
    rank
        Which of its ranks this is.

    Attributes
    ----------
    segment, step
        Where it is; the step counts from the beginning of training.
    refused
        Messages that came twice or too late.
    """

    def __init__(self, placement: Placement, rank: int) -> None:
        self.rank = rank
        self._step_script, self._end_script = instructions(placement, rank)
        self.segment = -1
        self.step = 0
        self.refused = 0
        self._until = 0
        self._position = 0
        self._running = False
        self._missing: set[int] = set()
        self._awaited: Wait | None = None
        self._came: dict[tuple[Phase, int], tuple[int, int, int]] = {}

    @property
    def running(self) -> bool:
        """Whether a segment is under way."""
        return self._running

    @property
    def waiting(self) -> Wait | None:
        """What it waits for, if anything."""
        return self._awaited if self._missing else None

    @property
    def missing(self) -> tuple[int, ...]:
        """The ranks that it waits for."""
        return tuple(sorted(self._missing))

    def begin(self, segment: int, first_step: int, steps: int) -> None:
        """Start on a segment; segments follow each other within the life of a placement."""
        if self._running:
            raise ScheduleError(f"segment {segment} begins in rank {self.rank} while segment {self.segment} is not done.")
        if segment <= self.segment:
            raise ScheduleError(f"segment {segment} begins in rank {self.rank} after segment {self.segment}.")
        if self.segment >= 0 and (segment != self.segment + 1 or first_step != self.step):
            raise ScheduleError(
                f"segment {segment} begins at step {first_step} in rank {self.rank}, but {self.segment} ended at step {self.step}."
            )
        self.segment, self.step, self._until = segment, first_step, first_step + steps
        self._position, self._running = 0, True

    def next(self) -> Instruction | None:
        """What to do now; None while ranks are missing, and at the end of a segment."""
        if self._missing or not self._running:
            return None
        if self.step < self._until:
            script = self._step_script
            if self._position == len(script):
                self.step += 1
                self._position = 0
                if self.step == self._until:
                    script = self._end_script
        else:
            script = self._end_script
        if self._position == len(script):
            self._running = False
            return None
        instruction = script[self._position]
        self._position += 1
        if isinstance(instruction, Wait):
            self._awaited = instruction
            self._missing = {p for p in instruction.peers if not self._is_there(self._came.get((instruction.phase, p)), instruction)}
        return instruction

    def _is_there(self, stamp: tuple[int, int, int] | None, wait: Wait) -> bool:
        """Whether a post is what is waited for; a later round of the same step stands for the earlier ones."""
        return stamp is not None and stamp[:2] == (self.segment, self.step) and stamp[2] >= wait.round

    def arrived(self, phase: Phase, peers: Iterable[int], segment: int, step: int, round: int = 0) -> None:
        """These ranks have posted.

        Raises
        ------
        ScheduleError
            For a message from further ahead than the barriers let a rank be.
        """
        stamp = (segment, step, round)
        for peer in peers:
            if stamp <= self._came.get((phase, peer), (-1, -1, -1)):
                self.refused += 1
                continue
            if self.segment >= 0 and (segment > self.segment + 1 or step > self.step + 1):
                raise ScheduleError(
                    f"rank {peer} has posted {phase.name} of step {step} (segment {segment}) while rank {self.rank} is at step "
                    f"{self.step} (segment {self.segment})."
                )
            self._came[phase, peer] = stamp
            awaited = self._awaited
            if awaited is not None and phase is awaited.phase and self._is_there(stamp, awaited):
                self._missing.discard(peer)
