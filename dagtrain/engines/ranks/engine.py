"""The engine *lanes*: a step placed once on the workers and repeated there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from dagtrain.engines.cluster.outages import OUTAGE
from dagtrain.engines.cluster.session import ClusterEngine
from dagtrain.engines.cluster.waiting import Timeouts
from dagtrain.engines.engine import Session
from dagtrain.engines.ranks.gradients import BUCKET_BYTES
from dagtrain.engines.ranks.memory_limits import MemoryLimits
from dagtrain.engines.ranks.messages import SegmentPolicy
from dagtrain.step.program import Program

__all__ = ["LanesEngine"]


class LanesEngine(ClusterEngine):
    """Steps on ranks: one long task on each worker, which exchange directly.

    Parameters
    ----------
    client
        A synchronous Dask client.
    policy
        Deadlines and sizes.
    silence
        Seconds without a heartbeat after which a worker counts as stopped.
    link
        Seconds after which a connection between two workers counts as cut.
    outage
        Seconds for which this process waits for the scheduler, and the scheduler for all workers at once, before they count as gone.
    channel
        The one kind of channel to use; by default the best that each pair of workers can do.
    memory_limits
        How much of the data may lie where; by default from the workers' limits of memory.
    bucket_bytes
        Least bytes of parameters and their gradients that go between hosts ahead of the rest.
    """

    name = "lanes"

    def __init__(
        self,
        client: Any,
        policy: SegmentPolicy | None = None,
        silence: float = 10.0,
        link: float = 10.0,
        outage: float = OUTAGE,
        channel: str | None = None,
        memory_limits: MemoryLimits | None = None,
        bucket_bytes: int = BUCKET_BYTES,
    ) -> None:
        self.policy = SegmentPolicy() if policy is None else policy
        super().__init__(client, Timeouts(workers=self.policy.workers, progress=self.policy.news, outage=outage))
        self.silence, self.link = silence, link
        self.channel, self.memory_limits, self.bucket_bytes = channel, memory_limits, bucket_bytes

    def session(self, program: Program, source: Any) -> AbstractContextManager[Session]:
        """Begin work on the cluster."""
        from dagtrain.engines.ranks.session import LanesSession

        return LanesSession(self, program, source)
