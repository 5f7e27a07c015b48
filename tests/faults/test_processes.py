"""Processes are killed or stopped from outside, at random moments: the weights stay the same, or an error says how to continue."""

import os
import random
import signal
import threading
import time

import pytest

from dagtrain.engines.ranks import LanesEngine, SegmentPolicy
from dagtrain.train.callback import Callback
from tests.faults.machines import train


class Slow(Callback):
    """A callback that waits after each epoch, so that a run lasts as long as its faults do."""

    def __init__(self, begun, end, last):
        self.begun, self.end, self.last = begun, end, last

    def on_epoch_end(self, epoch, logs):
        self.begun.set()
        self.end.wait(60 if epoch + 1 == self.last else 0.1)


@pytest.fixture(scope="module")
def cluster(local_cluster):
    """For these tests alone."""
    with local_cluster(3, processes=True) as cluster:
        yield cluster


def strike(client, rng, signals, times, begun, end):
    """Send signals, each in its turn, to workers drawn at random, at random moments."""
    begun.wait(60)
    try:
        for i in range(times):
            time.sleep(rng.uniform(0.1, 0.8))
            pids = client.run_on_scheduler(lambda dask_scheduler: [w.pid for w in dask_scheduler.workers.values()])
            if pids:
                os.kill(rng.choice(pids), signals[i % len(signals)])
    finally:
        end.set()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGKILL, signal.SIGSTOP]], ids=["killed", "killed or stopped"])
def test_workers_struck_at_random(client, expected, thorough, seed, signals):
    if (seed or len(signals) < 2) and not thorough:
        pytest.skip("the short form has one seed and each signal once; scripts/soak runs all")
    begun, end = threading.Event(), threading.Event()
    striking = threading.Thread(target=strike, args=(client, random.Random(seed), signals, 4 if thorough else 2, begun, end))
    striking.start()
    try:
        history = train(LanesEngine(client, policy=SegmentPolicy(most=2), silence=3, bucket_bytes=0), Slow(begun, end, 12), epochs=12)
    finally:
        striking.join()
    assert history.fingerprint == expected(12)
    assert history.events, "no fault occurred"


@pytest.mark.timeout(120)
def test_two_runs_at_once_while_a_worker_is_killed(client, expected):
    begun, end, fingerprints = threading.Event(), threading.Event(), []

    def run():
        fingerprints.append(train(LanesEngine(client, policy=SegmentPolicy(most=2), bucket_bytes=0), Slow(begun, end, 8)).fingerprint)

    runs = [threading.Thread(target=run) for _ in range(2)]
    for each in runs:
        each.start()
    strike(client, random.Random(0), [signal.SIGKILL], 1, begun, end)
    for each in runs:
        each.join()
    assert fingerprints == [expected()] * 2


@pytest.mark.timeout(180)
def test_another_driver_continues_after_a_killed_one(machines, expected, tmp_path):
    machines.scheduler()
    machines.worker()
    first = machines.driver(checkpoint=str(tmp_path))
    first.until(3)
    first.signal(signal.SIGKILL)
    result = machines.driver(checkpoint=str(tmp_path)).end()
    assert result["fingerprint"] == expected()
    assert "went on from" in str(result["events"])


@pytest.mark.timeout(180)
def test_a_killed_scheduler_is_an_error_that_says_how_to_continue(machines, expected, tmp_path):
    scheduler = machines.scheduler()
    machines.worker()
    driver = machines.driver(checkpoint=str(tmp_path), connect="5s")  # it tries to reconnect for so long
    driver.until(3)
    scheduler.signal(signal.SIGKILL)
    assert "resume=True" in driver.end()["error"]
    machines.scheduler()
    machines.worker()
    assert machines.driver(checkpoint=str(tmp_path)).end()["fingerprint"] == expected()
