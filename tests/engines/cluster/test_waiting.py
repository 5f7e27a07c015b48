"""Waits for a cluster end: with the results, or with an error that says what is missing."""

import logging
import os
import threading
import time

import numpy as np
import pytest
from dask.task_spec import Task, TaskRef
from distributed import Client

from dagtrain.data import open_source
from dagtrain.engines.client import wait_for_workers
from dagtrain.engines.cluster.waiting import Standing, Timeouts, gather, wait_for
from dagtrain.errors import ClusterError


@pytest.fixture(scope="module")
def cluster(local_cluster):
    """A cluster with one worker, which tests remove."""
    with local_cluster(1, 2) as cluster:
        yield cluster


@pytest.fixture
def client(cluster, scale):
    with Client(cluster) as client:
        scale(client, 1)
        yield client


@pytest.fixture
def empty(client, scale):
    """A client of the cluster without workers."""
    scale(client, 0)
    return client


def results(client, *calls, **timeouts):
    """The results of these calls, each a function and its arguments."""
    graph = {f"call {i}": Task(f"call {i}", *call) for i, call in enumerate(calls)}
    return gather(client, graph, list(graph), Timeouts(**{"glance": 0.1, **timeouts}))


def test_the_wait_for_a_first_worker_is_logged(empty, cluster, caplog):
    with caplog.at_level(logging.WARNING, "dagtrain"):
        threading.Timer(0.5, cluster.scale, [1]).start()
        assert results(empty, (abs, -1), (abs, -2), workers=60) == [1, 2]
    messages = [record.getMessage() for record in caplog.records if record.name == "dagtrain"]  # Dask's servers of this process log, too
    assert messages == ["the cluster has no workers: waiting up to 60 s for one."]


def test_a_cluster_that_gets_no_workers_is_an_error(empty):
    with pytest.raises(ClusterError, match=r"no workers, and none came within 0\.3 s"):
        results(empty, (abs, -1), workers=0.3)


def test_a_task_that_no_worker_may_take_is_named_with_its_restrictions(client, caplog):
    stuck = client.submit(abs, -1, resources={"GPU": 1})
    graph = {"call": Task("call", abs, TaskRef(stuck.key))}
    with pytest.raises(ClusterError, match=r"no worker may take .* within 0\.3 s: abs-.* asks for resources \{'GPU': 1\}"):
        gather(client, graph, ["call"], Timeouts(workers=0.3, glance=0.1))
    assert any(message.startswith("no worker may take the tasks that are left: waiting up to 0.3 s") for message in caplog.messages)


def test_a_cluster_that_finishes_no_task_is_an_error_that_names_the_worker(client):
    with pytest.raises(ClusterError, match=r"no task was finished for 0.4 s: \d are left on 1 workers, .* runs on inproc://.*log"):
        results(client, (time.sleep, 2), progress=0.4)


def test_the_wait_goes_on_while_tasks_finish(client):
    began = time.monotonic()
    results(client, *[(time.sleep, 0.8)] * 6, progress=2, glance=0.05)
    assert time.monotonic() - began > 2


def wait_for_file(path):
    deadline = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.05)


def test_the_error_of_a_task_does_not_wait_for_the_others(client, tmp_path):
    with pytest.raises(FileNotFoundError, match="part-7"):
        results(client, (wait_for_file, str(tmp_path / "end")), (open, "/nowhere/part-7"))
    (tmp_path / "end").touch()


def test_scattered_data_that_was_lost_with_its_worker_is_an_error(client, scale):
    futures = client.scatter(np.split(np.ones((60, 4)), 3))
    scale(client, 0)
    scale(client, 1)
    with pytest.raises(ClusterError, match="Scattered data is lost"):
        open_source(futures, np.arange(60) % 3, targets="classes")


class Mute:
    """A client whose scheduler does not answer its first requests, and also its only future, which is done after the first answer."""

    key = "mine"

    def __init__(self, silences):
        self.silences, self.requests = silences, 0

    def sync(self, call, callback_timeout):
        self.requests += 1
        if self.requests <= self.silences:
            raise TimeoutError
        return Standing(1, [], [], 1)

    def done(self):
        return self.requests > self.silences

    status, scheduler = "running", None

    def exception(self, timeout):
        raise TimeoutError


def test_requests_that_the_scheduler_does_not_answer_are_repeated():
    mute = Mute(3)
    wait_for(mute, [mute], Timeouts(workers=60))
    assert mute.requests == 4


def test_a_scheduler_that_never_answers_is_an_error():
    mute = Mute(10**9)
    with pytest.raises(ClusterError, match=r"the scheduler at .* does not answer"):
        wait_for(mute, [mute], Timeouts(outage=0.05))


def test_workers_are_awaited(client):
    wait_for_workers(client, 1, 20)
    with pytest.raises(TimeoutError, match="does not have 2 running workers after 0 s"):
        wait_for_workers(client, 2, 0)
