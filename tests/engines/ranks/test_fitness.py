"""Workers that cannot take tasks are left out within seconds, named, and used again when they can; the weights stay the same."""

import time
import uuid
from functools import partial

import pytest
from dask.task_spec import Task
from distributed import Client, Event
from distributed.core import Status

from dagtrain.engines.client import workers_of
from dagtrain.engines.cluster.waiting import Timeouts, submit, wait_for
from dagtrain.engines.ranks import LanesEngine, SegmentPolicy
from dagtrain.errors import ClusterError
from dagtrain.transport import communicator, rendezvous

QUICK = SegmentPolicy(begin=0.5, workers=1, again=0, most=1)


@pytest.fixture(scope="module")
def three(local_cluster):
    """A client of three workers of one thread within this process, without limits of memory, which would end a pause."""
    with local_cluster(3) as cluster, Client(cluster) as client:
        yield client


def set_status(client, status, *workers):
    def change(dask_worker):
        dask_worker.status = status

    client.run(change, workers=list(workers))
    expected = dict.fromkeys(workers, status.name)

    def known(dask_scheduler):
        return {worker: dask_scheduler.workers[worker].status.name for worker in expected}

    until(lambda: client.run_on_scheduler(known) == expected)


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


def wait_for_event(name):
    Event(name).wait()


class Busy:
    """A task that takes the thread of a worker until it is told to end."""

    def __init__(self, client, worker):
        self.client, self.worker = client, worker
        self.event = Event(uuid.uuid4().hex, client=client)
        self.task = client.submit(wait_for_event, self.event.name, workers=[worker], pure=False)
        until(self.is_seen)

    def is_seen(self):
        from dagtrain.engines.cluster.busy import busy_with

        worker = self.worker
        return "wait_for_event" in self.client.run_on_scheduler(lambda dask_scheduler: busy_with(dask_scheduler.workers[worker]))

    def end(self):
        self.event.set()
        self.task.result(timeout=30)
        until(lambda: not self.is_seen())


@pytest.fixture
def busy(three):
    """``busy(worker)``: a `Busy`, which ends with the test."""
    made = []

    def make(worker):
        made.append(Busy(three, worker))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def workers(three):
    """Their addresses; none is paused afterwards."""
    addresses = sorted(workers_of(three))
    yield addresses
    set_status(three, Status.running, *addresses)


@pytest.fixture
def at_epochs(looking):
    """``at_epochs({0: call, …})``: a callback that calls functions at the ends of epochs."""

    def make(calls):
        def look():
            calls.get(len(made.seen), bool)()

        made = looking(look)
        return made

    return make


@pytest.fixture(scope="module")
def fit(three, plain):
    """``fit(callbacks=[…])``: a fit of six epochs, which gives what it should; its events."""
    inline = plain.fit(plain.trainer(engine="inline", threads=1), epochs=6)

    def run(**options):
        history = plain.fit(plain.trainer(engine=LanesEngine(three, policy=QUICK)), epochs=6, **options)
        assert history.fingerprint == inline.fingerprint
        return history.events

    return run


def test_a_paused_worker_has_no_part(three, workers, fit):
    set_status(three, Status.paused, workers[0])
    events = fit()
    assert events == []


def test_a_worker_that_pauses_in_the_midst_and_resumes(three, workers, fit, at_epochs):
    pause, resume = (partial(set_status, three, status, workers[0]) for status in (Status.paused, Status.running))
    events = fit(callbacks=[at_epochs({0: pause, 3: resume})])
    told = str(events)
    assert f"{workers[0]} (it is paused" in told or f"worker {workers[0]} does not begin its part: it is paused" in told
    assert f"workers joined: {workers[0]}" in told


def test_a_busy_worker_is_left_out_and_used_again(three, workers, fit, busy, at_epochs):
    task = busy(workers[0])
    events = fit(callbacks=[at_epochs({2: task.end})])
    told = str(events)
    assert f"worker {workers[0]} does not begin its part: it is busy with wait_for_event" in told
    assert f"workers joined: {workers[0]}" in told


def test_a_worker_that_becomes_busy_in_the_midst(three, workers, fit, busy, at_epochs):
    events = fit(callbacks=[at_epochs({0: partial(busy, workers[1])})])
    assert f"worker {workers[1]} does not begin its part: it is busy with wait_for_event" in str(events)


@pytest.fixture
def no_stealing(three):
    """Dask moves no tasks, as it does not move those that it knows to be short."""
    balancing = three.cluster.scheduler.periodic_callbacks["stealing"]
    three.sync(three.cluster.scheduler.extensions["stealing"].stop)
    yield
    three.cluster.scheduler.periodic_callbacks["stealing"] = balancing
    three.loop.add_callback(balancing.start)


def test_a_task_that_waits_behind_others_is_done_elsewhere(three, workers, busy, no_stealing):
    """As those of the data, which are to run where lies what they are made of."""
    busy(workers[0])
    futures = submit(three, {"zero": Task("zero", int)}, ["zero"], workers=[workers[0]], allow_other_workers=True)
    wait_for(three, futures, Timeouts(glance=0.1, progress=20))
    assert futures[0].result(timeout=10) == 0


def test_where_no_worker_can_take_a_task_each_is_named(three, workers, fit, busy):
    set_status(three, Status.paused, workers[0])
    for worker in workers[1:]:
        busy(worker)
    with pytest.raises(ClusterError, match="no worker can take a task") as caught:
        fit()
    assert f"{workers[0]}: it is paused" in str(caught.value)
    for worker in workers[1:]:
        assert f"{worker}: it is busy with wait_for_event" in str(caught.value)


def test_workers_between_which_only_dasks_port_is_open(fit, monkeypatch):
    """Their exchange goes by Dask's connections; it is told once, and the next group does not try again."""
    dialled = []

    def refuse(address):
        dialled.append(address)
        raise ConnectionRefusedError(111, "refused by a firewall")

    monkeypatch.setattr(rendezvous, "dial", refuse)
    monkeypatch.setattr(communicator, "can_share_memory", lambda: False)
    events = fit()
    assert len(events) == 3
    assert all("exchange by Dask's connections" in event.text and "refused by a firewall" in event.why for event in events)
    assert len(dialled) == 3
