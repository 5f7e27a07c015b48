"""What Dask's servers do beside their work, while ranks are at it and after."""

import sys
from types import SimpleNamespace

import pytest

from dagtrain.engines.client import workers_of
from dagtrain.engines.ranks.background import BackgroundWork, nannies_here


def server(**intervals):
    return SimpleNamespace(periodic_callbacks={name: SimpleNamespace(callback_time=time) for name, time in intervals.items()})


def times(*servers):
    return [{name: callback.callback_time for name, callback in each.periodic_callbacks.items()} for each in servers]


@pytest.fixture(autouse=True)
def turns():
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-3)
    yield
    sys.setswitchinterval(before)


def test_observations_are_seldom_for_a_while():
    one, nanny = server(tick=20, profile=10, heartbeat=500, monitor=100), server(tick=20, profile=700)
    background = BackgroundWork(one, lambda: [nanny])
    background.set(True)
    background.set(True)
    assert times(one, nanny) == [{"tick": 500, "profile": 500, "heartbeat": 500, "monitor": 100}, {"tick": 500, "profile": 700}]
    background.set(False)
    assert times(one, nanny) == [{"tick": 20, "profile": 10, "heartbeat": 500, "monitor": 100}, {"tick": 20, "profile": 700}]
    assert sys.getswitchinterval() == pytest.approx(5e-3, rel=0.05)


def test_threads_take_turns_more_often_as_long_as_any_worker_of_the_process_wants_it():
    a, b = BackgroundWork(server(), turns=True), BackgroundWork(server(), turns=True)
    for background, wanted, interval in [(a, True, 5e-4), (b, True, 5e-4), (a, False, 5e-4), (a, False, 5e-4), (b, False, 5e-3)]:
        background.set(wanted)
        assert sys.getswitchinterval() == pytest.approx(interval, rel=0.05)


def test_turns_that_are_shorter_already_stay():
    sys.setswitchinterval(1e-4)
    background = BackgroundWork(server(), turns=True)
    background.set(True)
    assert sys.getswitchinterval() == pytest.approx(1e-4, rel=0.05)
    background.set(False)
    assert sys.getswitchinterval() == pytest.approx(1e-4, rel=0.05)


def test_nannies_of_this_process_are_found(client):
    assert {nanny.worker_address for nanny in nannies_here()} >= set(workers_of(client))
