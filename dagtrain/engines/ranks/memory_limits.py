"""How much of the data may lie where, from the workers' limits of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["MemoryLimits"]


class MemoryLimits(NamedTuple):
    """How many bytes may lie where.

    Attributes
    ----------
    resident
        Of data that every rank has whole, and of partitions from which one task picks rows.
    held
        Of data that lies on the cluster while training lasts.
    segment
        Of the rows of one segment in one rank.
    """

    resident: int
    held: int
    segment: int

    @classmethod
    def of(cls, limits: Sequence[int]) -> MemoryLimits:
        """Limits for workers with these limits of memory.

        Examples
        --------
        >>> MemoryLimits.of([2**30, 2**30])
        MemoryLimits(resident=134217728, held=858993459, segment=33554432)
        """
        least = min(limits)
        return cls(min(least // 8, 1 << 30), sum(limits) * 2 // 5, max(min(least // 32, 256 << 20), 1 << 20))
