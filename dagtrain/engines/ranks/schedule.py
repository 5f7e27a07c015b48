"""The schedule of a step: what a rank does, in which order, and which posts it waits for. A state machine without I/O.

    every step      Compute ▶ Post and Wait(REDUCE_SCATTER) ▶ Reduce ▶ [SquaredNorm ▶ Post and Wait(ALL_REDUCE_NORM)]
                            ▶ Update ▶ Post and Wait(ALL_GATHER) ▶ Copy(ALL_GATHER)
    a segment's end Post and Wait(ALL_GATHER_OPTIMIZER) ▶ Copy(ALL_GATHER_OPTIMIZER) ▶ TakeSnapshot

The two waits of a step are barriers: a rank writes partial sums only after every owner has posted the parameters of the step before, and an
owner changes its slice only after every rank has posted its partial sums. So no rank overwrites data that a peer still reads, and buffers
need no second copy. A rank that owns no block skips the instructions of owners.

The instructions are data made from the placement alone. `Schedule` holds a rank's position in them; its user executes them and reports
posts that arrived.
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
    "Weigh",
    "instructions",
]


class Weigh(NamedTuple):
    """Compute the weights of the losses in the rank's shards."""


class Compute(NamedTuple):
    """Compute the rank's shards, and the sums of its subtrees."""


class Post(NamedTuple):
    """Tell these ranks that a phase's spans are final."""

    phase: Phase
    peers: tuple[int, ...]
    round: int = 0


class Wait(NamedTuple):
    """Continue when these ranks have posted."""

    phase: Phase
    peers: tuple[int, ...]
    round: int = 0


class Reduce(NamedTuple):
    """Add the partial sums of all ranks in the rank's own slice, by the fixed tree."""


class SquaredNorm(NamedTuple):
    """Compute the squared norm of each of the rank's own blocks, for the norm of this number."""

    round: int


class Update(NamedTuple):
    """Update the rank's own blocks."""


class Copy(NamedTuple):
    """Copy the owners' slices into the rank's own vectors."""

    phase: Phase
    peers: tuple[int, ...]


class TakeSnapshot(NamedTuple):
    """Copy the state, as the segment's result."""


Instruction = Weigh | Compute | Post | Wait | Reduce | SquaredNorm | Update | Copy | TakeSnapshot


class ScheduleError(Exception):
    """A message that the schedule does not allow: the ranks no longer run the same steps."""


def instructions(placement: Placement, rank: int) -> tuple[tuple[Instruction, ...], tuple[Instruction, ...]]:
    """The instructions of a rank for every step, and for the end of a segment.

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
    step: list[Instruction] = []
    end: list[Instruction] = []
    if placement.shape.weights:
        step.append(Weigh())
        if others:
            step += [Post(Phase.ALL_GATHER_WEIGHTS, others), Wait(Phase.ALL_GATHER_WEIGHTS, others)]
    step.append(Compute())
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
    """One rank's position in its instructions.

    Parameters
    ----------
    placement
        Of the step.
    rank
        Number of this rank in it.

    Attributes
    ----------
    segment, step
        Current ones; the step counts from the beginning of training.
    refused
        Number of messages that arrived twice or too late.
    """

    def __init__(self, placement: Placement, rank: int) -> None:
        self.rank = rank
        self._step_instructions, self._end_instructions = instructions(placement, rank)
        self.segment = -1
        self.step = 0
        self.refused = 0
        self._until = 0
        self._position = 0
        self._running = False
        self._missing: set[int] = set()
        self._awaited: Wait | None = None
        self._latest: dict[tuple[Phase, int], tuple[int, int, int]] = {}

    @property
    def running(self) -> bool:
        """Whether a segment is running."""
        return self._running

    @property
    def waiting(self) -> Wait | None:
        """The wait that is not over yet, if any."""
        return self._awaited if self._missing else None

    @property
    def missing(self) -> tuple[int, ...]:
        """The ranks whose posts are missing."""
        return tuple(sorted(self._missing))

    def begin(self, segment: int, first_step: int, steps: int) -> None:
        """Begin a segment; within the life of a placement each continues the one before."""
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
        """The next instruction; None while posts are missing, and at the end of a segment."""
        if self._missing or not self._running:
            return None
        if self.step < self._until:
            current = self._step_instructions
            if self._position == len(current):
                self.step += 1
                self._position = 0
                if self.step == self._until:
                    current = self._end_instructions
        else:
            current = self._end_instructions
        if self._position == len(current):
            self._running = False
            return None
        instruction = current[self._position]
        self._position += 1
        if isinstance(instruction, Wait):
            self._awaited = instruction
            self._missing = {p for p in instruction.peers if not self._satisfies(self._latest.get((instruction.phase, p)), instruction)}
        return instruction

    def _satisfies(self, sequence: tuple[int, int, int] | None, wait: Wait) -> bool:
        """Whether a post ends this wait; a later round of the same step implies the earlier ones."""
        return sequence is not None and sequence[:2] == (self.segment, self.step) and sequence[2] >= wait.round

    def arrived(self, phase: Phase, peers: Iterable[int], segment: int, step: int, round: int = 0) -> None:
        """Take note that these ranks have posted.

        Raises
        ------
        ScheduleError
            If a message is further ahead than the barriers allow.
        """
        sequence = (segment, step, round)
        for peer in peers:
            if sequence <= self._latest.get((phase, peer), (-1, -1, -1)):
                self.refused += 1
                continue
            if self.segment >= 0 and (segment > self.segment + 1 or step > self.step + 1):
                raise ScheduleError(
                    f"rank {peer} has posted {phase.name} of step {step} (segment {segment}) while rank {self.rank} is at step "
                    f"{self.step} (segment {self.segment})."
                )
            self._latest[phase, peer] = sequence
            awaited = self._awaited
            if awaited is not None and phase is awaited.phase and self._satisfies(sequence, awaited):
                self._missing.discard(peer)
