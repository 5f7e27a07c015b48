"""What Dask itself takes for dead, where clocks are stepped and machines suspended."""

import time

import pytest
from distributed import Client

from dagtrain.engines.ranks.scheduler_plugin import RanksSchedulerPlugin

pytestmark = pytest.mark.cluster


def test_heartbeats_are_as_old_as_they_are(local_cluster):
    """Dask compares them with the wall clock every few minutes, and ends all workers whose last one seems too old."""
    with local_cluster(2) as cluster, Client(cluster) as client:
        scheduler = cluster.scheduler
        client.register_plugin(RanksSchedulerPlugin())
        seen = scheduler.plugins["dagtrain-lanes"]._monitor._seen
        deadline = time.monotonic() + 30
        while len(seen) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        before = set(scheduler.workers)

        async def judge():
            for worker in scheduler.workers.values():
                worker.last_seen -= 3600
            await scheduler.periodic_callbacks["worker-ttl"].callback()
            return set(scheduler.workers)

        assert client.sync(judge) == before
