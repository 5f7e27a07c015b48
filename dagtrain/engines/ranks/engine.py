"""The engine *lanes*: a step placed once on the workers and repeated there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from dagtrain.engines.cluster.outages import OUTAGE
from dagtrain.engines.cluster.session import ClusterEngine
from dagtrain.engines.cluster.waiting import Timeouts
from dagtrain.engines.engine import Session
from dagtrain.engines.ranks.gradients import BUCKET_BYTES
from dagtrain.engines.ranks.instructions import Patience
from dagtrain.engines.ranks.memory_limits import Bounds
from dagtrain.step.program import Program

__all__ = ["LanesEngine"]


class LanesEngine(ClusterEngine):
    """Steps on ranks: one long task on each worker, which exchange directly.

    Parameters
    ----------
    client
        A synchronous Dask client.
    patience
        Deadlines and sizes.
    silence
        Seconds without a heartbeat after which a worker counts as stopped.
    link
        Seconds after which a connection between two workers counts as cut.
    outage
        Seconds for which this process waits for the scheduler, and the scheduler for all workers at once, before they count as gone.
    channel
        The one kind of channel to use; by default the best that each pair of workers can do.
    bounds
        How much of the data may lie where; by default from the workers' limits of memory.
    bucket_bytes
        Least bytes of parameters and their gradients that go between hosts ahead of the rest.
    """

    name = "lanes"

    def __init__(
        self,
        client: Any,
        patience: Patience | None = None,
        silence: float = 10.0,
        link: float = 10.0,
        outage: float = OUTAGE,
        channel: str | None = None,
        bounds: Bounds | None = None,
        bucket_bytes: int = BUCKET_BYTES,
    ) -> None:
        self.patience = Patience() if patience is None else patience
        super().__init__(client, Timeouts(workers=self.patience.workers, progress=self.patience.news, outage=outage))
        self.silence, self.link = silence, link
        self.channel, self.bounds, self.bucket_bytes = channel, bounds, bucket_bytes

    def session(self, program: Program, source: Any) -> AbstractContextManager[Session]:
        """Begin work on the cluster."""
        from dagtrain.engines.ranks.session import LanesSession

        return LanesSession(self, program, source)
