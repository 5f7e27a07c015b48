"""When a message was posted, as one number in one word of memory: it is read and written whole, and grows with time.

    bits  63 ─────────── 38 │ 37 ──────────── 10 │ 9 ────── 0
          segment + 1       │ step               │ round           0: nothing was posted yet

The parts are wide enough for runs of months.
"""

from __future__ import annotations

from dagtrain.transport.errors import ChannelError

__all__ = ["NONE", "ROUND_BITS", "pack", "unpack"]

ROUND_BITS, STEP_BITS, SEGMENT_BITS = 10, 28, 26
ROUNDS, STEPS, SEGMENTS = 1 << ROUND_BITS, 1 << STEP_BITS, (1 << SEGMENT_BITS) - 1
NONE = 0


def pack(segment: int, step: int, round: int = 0) -> int:
    """The sequence number of a segment, a step and a round.

    Examples
    --------
    >>> unpack(pack(3, 14, 1))
    (3, 14, 1)
    >>> NONE < pack(0, 0) < pack(0, 0, 1) < pack(0, 1) < pack(1, 0)
    True
    """
    if 0 <= step < STEPS and 0 <= round < ROUNDS and 0 <= segment < SEGMENTS:
        return (segment + 1) << (STEP_BITS + ROUND_BITS) | step << ROUND_BITS | round
    raise ChannelError(
        f"no sequence number for segment {segment}, step {step}, round {round}: "
        f"they must be at least 0, and below {SEGMENTS}, {STEPS} and {ROUNDS}"
    )


def unpack(sequence: int) -> tuple[int, int, int]:
    """Segment, step and round of a sequence; segment -1 where nothing was posted."""
    return (sequence >> (STEP_BITS + ROUND_BITS)) - 1, sequence >> ROUND_BITS & (STEPS - 1), sequence & (ROUNDS - 1)
