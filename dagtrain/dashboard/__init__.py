"""The page of dagtrain on Dask's dashboard, and its metrics for Prometheus.

    dask scheduler --preload dagtrain.dashboard          a scheduler in a process of its own
    import dagtrain.dashboard                            before distributed.LocalCluster, whose scheduler is in this process

Every fit on the cluster then shows at ``/dagtrain``, and in ``/metrics`` where prometheus_client is installed.

    fit ── records, a few times a second ──▶ handler of the scheduler ──▶ Runs ──▶ page, collector
"""

from dagtrain.dashboard.scheduler import dask_setup, prepare
from dagtrain.dashboard.state import Run, Runs

__all__ = ["Run", "Runs", "dask_setup"]

prepare()
