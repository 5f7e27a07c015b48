"""Ranks without work: they stay as long as their driver does, and tell it when they do not."""

import time

import pytest
from distributed import Client

from dagtrain.engines.ranks.worker_plugin import RanksWorkerPlugin


@pytest.fixture
def threads(local_cluster):
    """A cluster within this process whose ranks soon ask whether they are wanted."""
    with local_cluster(2) as cluster, Client(cluster) as client:
        client.register_plugin(RanksWorkerPlugin(idle=0.1))
        yield client


def ranks_of(cluster):
    return {key for worker in cluster.workers.values() for key in worker.plugins["dagtrain-lanes"].ranks}


def test_a_long_pause_costs_no_rank(threads, plain, looking, monkeypatch):
    """Both ranks ask in it whether they are wanted."""
    asked, wanted = [], threads.cluster.scheduler.handlers

    def pause():
        before, scheduler_plugin = ranks_of(threads.cluster), threads.cluster.scheduler.plugins["dagtrain-lanes"]
        monkeypatch.setitem(wanted, "dagtrain_lanes_kept", lambda groups: asked.append(groups) or scheduler_plugin.kept(groups))
        enough, deadline = len(asked) + 4, time.monotonic() + 30
        while len(asked) < enough:
            assert time.monotonic() < deadline, "they do not ask"
            time.sleep(0.05)
        return before == ranks_of(threads.cluster)

    looks = looking(pause)
    history = plain.fit(plain.trainer(engine="lanes"), callbacks=[looks])
    assert history.fingerprint == plain.inline.fingerprint
    assert looks.seen == [True] * plain.epochs
    assert history.events == []


def test_ranks_of_which_no_driver_knows_go(threads, plain, looking, eventually):
    def forget():
        threads.cluster.scheduler.handlers["dagtrain_lanes_kept"] = lambda groups: []
        eventually(lambda: ranks_of(threads.cluster), set())
        return len(looks.seen)

    looks = looking(forget)
    history = plain.fit(plain.trainer(engine="lanes"), callbacks=[looks])
    assert history.fingerprint == plain.inline.fingerprint
    assert "no segment came for 0.1 s, and its client is gone; repeated from step" in str(history.events)
