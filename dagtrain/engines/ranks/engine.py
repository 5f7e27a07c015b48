"""The engine *lanes* as users meet it: the engine, and a placement before anything runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from dagtrain.engines.client import current_client, workers_of
from dagtrain.engines.cluster.outages import OUTAGE
from dagtrain.engines.cluster.session import ClusterEngine
from dagtrain.engines.cluster.waiting import Timeouts
from dagtrain.engines.engine import Session
from dagtrain.engines.ranks.actions import SegmentPolicy
from dagtrain.engines.ranks.input_pipeline import MemoryLimits
from dagtrain.engines.ranks.placement import Placement, WorkerInfo, place
from dagtrain.engines.ranks.stages import BUCKET_BYTES, shape_of
from dagtrain.errors import ClusterError
from dagtrain.step.program import Program

__all__ = ["LanesEngine", "placement_on"]


class LanesEngine(ClusterEngine):
    """Steps on ranks: one long task on each worker; ranks exchange data directly.

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
        Seconds for which the client waits for the scheduler, and the scheduler for all workers at once, before they count as lost.
    channel
        The only kind of channel to use; by default the best that each pair of workers can open.
    memory_limits
        Bytes of data in each place; by default derived from the workers' memory limits.
    bucket_bytes
        Least bytes of a bucket: of the parameters and gradients that are sent between hosts ahead of the rest.
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

    def session(self, program: Program, source: Any, exact: bool = False) -> AbstractContextManager[Session]:
        """Open a session on the cluster."""
        from dagtrain.engines.ranks.session import LanesSession

        return LanesSession(self, program, source, exact)


def placement_on(client: Any, program: Program, shards: int) -> Placement:
    """How the engine *lanes* would place a step on the present workers.

    With more workers than shards, training prefers workers that hold the data; which these are is known only once it runs.

    Parameters
    ----------
    client
        A synchronous Dask client; None for the current one.
    program
        Compiled step.
    shards
        Number of shards of a batch.

    Raises
    ------
    ClusterError
        If there is no client, or no worker.
    """
    client = client if client is not None else current_client()
    if client is None:
        raise ClusterError(
            "a placement needs the workers of a Dask cluster and there is no client. "
            "Create one first, as in client = distributed.Client(), or pass client= to the trainer."
        )
    workers = workers_of(client)
    rows = program.compiled or (1,)  # the order of final blocks does not depend on it
    return place(shape_of(program.for_workers(rows), shards), [WorkerInfo(a, w["host"], w["nthreads"]) for a, w in workers.items()])
