"""A placement before anything runs: what `Trainer.placement` gives, to be looked at and drawn."""

from __future__ import annotations

from typing import Any

from dagtrain.engines.client import current_client
from dagtrain.engines.ranks.placement import Placement, WorkerInfo, place
from dagtrain.engines.ranks.stretch import shape_of
from dagtrain.errors import ClusterError
from dagtrain.step.program import Program

__all__ = ["placement_on"]


def placement_on(client: Any, program: Program, shards: int) -> Placement:
    """Where the engine *lanes* would put a step on the workers that are there now.

    Where there are more workers than shards, it prefers those that hold the data; which ones these are is known only once training runs.

    Parameters
    ----------
    client
        A synchronous Dask client; None for the current one.
    program
        Compiled step.
    shards
        Parts of a batch.

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
    workers = client.scheduler_info(n_workers=-1)["workers"]
    rows = program.compiled or (1,)  # what becomes final when is the same for any number of them
    return place(shape_of(program.for_workers(rows), shards), [WorkerInfo(a, w["host"], w["nthreads"]) for a, w in workers.items()])
