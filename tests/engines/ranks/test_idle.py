"""Lanes without work: they stay as long as their driver does, and tell it when they do not."""

import time

import pytest
from distributed import Client

from dagtrain.engines.ranks.worker_plugin import Hall


@pytest.fixture
def threads(local_cluster):
    """A cluster within this process whose lanes soon ask whether they are wanted."""
    with local_cluster(2) as cluster, Client(cluster) as client:
        client.register_plugin(Hall(idle=0.1))
        yield client


def lanes_of(cluster):
    return {key for worker in cluster.workers.values() for key in worker.plugins["dagtrain-lanes"].lanes}


def test_a_long_pause_costs_no_lane(threads, plain, looking, monkeypatch):
    """Both lanes ask in it whether they are wanted."""
    asked, wanted = [], threads.cluster.scheduler.handlers

    def pause():
        before, steward = lanes_of(threads.cluster), threads.cluster.scheduler.plugins["dagtrain-lanes"]
        monkeypatch.setitem(wanted, "dagtrain_lanes_kept", lambda gangs: asked.append(gangs) or steward.kept(gangs))
        enough, deadline = len(asked) + 4, time.monotonic() + 30
        while len(asked) < enough:
            assert time.monotonic() < deadline, "they do not ask"
            time.sleep(0.05)
        return before == lanes_of(threads.cluster)

    looks = looking(pause)
    history = plain.fit(plain.trainer(engine="lanes"), reporter=looks)
    assert history.fingerprint == plain.inline.fingerprint
    assert looks.seen == [True] * plain.epochs
    assert history.events == []


def test_lanes_of_which_no_driver_knows_go(threads, plain, looking, eventually):
    def forget():
        threads.cluster.scheduler.handlers["dagtrain_lanes_kept"] = lambda gangs: []
        eventually(lambda: lanes_of(threads.cluster), set())
        return len(looks.seen)

    looks = looking(forget)
    history = plain.fit(plain.trainer(engine="lanes"), reporter=looks)
    assert history.fingerprint == plain.inline.fingerprint
    assert "no segment came for 0.1 s, and its driver is gone; repeated from step" in str(history.events)
