"""What the scheduler plugin knows of workers: nothing is kept for ever, and one that fails costs no answer about the others."""

import asyncio
import threading
import time
from types import SimpleNamespace

import dask.array as da
import pytest
from distributed import Client

from dagtrain.engines.ranks import LanesEngine, MemoryLimits
from dagtrain.engines.ranks import scheduler_plugin as module
from dagtrain.engines.ranks.heartbeats import HeartbeatMonitor
from dagtrain.engines.ranks.inquiry import probe_pairs
from dagtrain.engines.ranks.session import LanesSession
from dagtrain.engines.ranks.worker_plugin import RanksWorkerPlugin


@pytest.fixture(scope="module")
def three(local_cluster):
    with local_cluster(3) as cluster, Client(cluster) as client:
        client.register_plugin(module.RanksSchedulerPlugin())
        client.register_plugin(RanksWorkerPlugin())
        yield client


@pytest.fixture
def scheduler_plugin(three):
    return three.cluster.scheduler.plugins["dagtrain-lanes"]


def test_pairs_are_probed_though_one_worker_has_not_the_plugin(three):
    a, b, c = three.cluster.workers.values()
    handlers = {name: c.handlers.pop(name) for name in list(c.handlers) if name.startswith("dagtrain")}
    try:
        pairs = [(x.address, y.address) for x, y in ((a, b), (a, c), (b, c))]
        assert three.sync(probe_pairs, three.cluster.scheduler, pairs) == (pairs[:1], []), "nothing is said of the one that cannot answer"
    finally:
        c.handlers |= handlers
    assert three.sync(probe_pairs, three.cluster.scheduler, pairs) == (pairs, [])


def test_a_worker_that_does_not_answer_keeps_ranks_from_what_they_wait_for(three, scheduler_plugin, cut_off, monkeypatch):
    cut_off()
    absent, scheduler = three.cluster.workers[0].address, three.cluster.scheduler
    before = three.submit(abs, -1, workers=[absent], pure=False)
    rank = three.submit(abs, before, workers=[three.cluster.workers[1].address], pure=False)
    monkeypatch.setattr(type(scheduler_plugin._monitor), "absent", {absent})
    deadline = time.monotonic() + 30
    while rank.key not in scheduler.tasks:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    answer = three.sync(three.scheduler.dagtrain_lanes_inquire, keys=[rank.key])
    assert list(answer["waiting"]) == [0]
    assert answer["hindered"] == {absent: "it does not answer"}


def test_why_a_worker_is_gone_is_told_of_a_few_and_of_what_is_not_over(scheduler_plugin, monkeypatch):
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    for worker in "abc":
        scheduler_plugin._give_up(worker, "it was silent", False)
    assert scheduler_plugin._gone == {"b": "it was silent", "c": "it was silent"}
    scheduler_plugin.remove_worker(scheduler_plugin.scheduler, "b", stimulus_id="its process ended")
    scheduler_plugin.remove_worker(scheduler_plugin.scheduler, "c", stimulus_id="retire-workers-1")
    assert scheduler_plugin._gone == {"c": "it was retired"}, "silence was not the end of b"


def test_a_worker_whose_setting_up_failed_is_asked_again(three, scheduler_plugin, monkeypatch):
    async def fail(**_):
        raise ValueError("for no reason known")

    worker = three.cluster.workers[0].address

    async def furnish():
        with pytest.raises(ValueError, match="no reason"):
            await scheduler_plugin._furnish(RanksWorkerPlugin.name, scheduler_plugin.scheduler.workers[worker])

    with monkeypatch.context() as patch:
        patch.setattr(scheduler_plugin.scheduler, "broadcast", fail)
        three.sync(furnish)
    assert worker not in scheduler_plugin._furnishing
    scheduler_plugin._bare.add(worker)
    assert three.sync(three.scheduler.dagtrain_lanes_furnish, name=RanksWorkerPlugin.name, plugin=b"", timeout=30)["left"] == []


def test_a_driver_that_is_not_known_any_more_learns_it_when_it_looks(three):
    ask = three.scheduler
    three.sync(ask.dagtrain_lanes_want, session="forgotten", ranks=2)
    three.sync(ask.dagtrain_lanes_group, session="forgotten", group="g", workers=[])
    assert three.sync(ask.dagtrain_lanes_look, session="forgotten", seen=0, timeout=0) is None


def test_a_look_at_the_workers_that_fails_is_not_the_last_one(caplog):
    class Workers(dict):
        looks = 0

        def values(self):
            Workers.looks += 1
            if Workers.looks == 2:  # the first one is of those that are there already
                raise RuntimeError("for no reason known")
            return super().values()

    scheduler = SimpleNamespace(workers=Workers(), periodic_callbacks={}, stream_comms={}, client_comms={})

    async def look():
        heartbeats, deadline = HeartbeatMonitor(scheduler, print, print), time.monotonic() + 30
        while Workers.looks < 3:
            assert time.monotonic() < deadline, "nobody looks any more"
            await asyncio.sleep(0.05)
        heartbeats.close()

    asyncio.run(look())
    assert "for no reason known" in caplog.text


@pytest.fixture
def cut_off(three):
    """A call that makes a worker silent, which also does nothing any more; it comes to itself when the test is over."""
    worker, over = three.cluster.workers[0], threading.Event()
    handlers, todo = dict(worker.handlers), worker.stream_handlers["compute-task"]

    async def no_answer(**message):
        await asyncio.to_thread(over.wait, 60)

    def begin():
        worker.loop.add_callback(worker.periodic_callbacks["heartbeat"].stop)
        worker.handlers |= {"identity": no_answer, "get_data": no_answer}
        worker.stream_handlers["compute-task"] = lambda **message: None

    yield begin
    worker.handlers |= handlers
    worker.stream_handlers["compute-task"] = todo
    over.set()
    worker.loop.add_callback(worker.periodic_callbacks["heartbeat"].start)


def test_an_evaluation_goes_on_without_a_worker_that_does_not_answer(three, plain, cut_off, monkeypatch):
    """Dask itself would take it for lost after minutes."""
    trainer, evaluate, began = plain.trainer(engine=LanesEngine(three, silence=1)), LanesSession._evaluate, []
    plain.fit(trainer, epochs=1)
    x, y = (da.from_array(array, chunks=(100, *array.shape[1:])) for array in plain.digits[:2])
    wanted = trainer.evaluate(x, y)

    def evaluate_without(session, source, state):
        if not began:
            cut_off()
        began.append(time.monotonic())
        return evaluate(session, source, state)

    monkeypatch.setattr(LanesSession, "_evaluate", evaluate_without)
    assert trainer.evaluate(x, y) == wanted
    assert len(began) == 2
    assert began[1] - began[0] < 30


def test_data_is_computed_without_a_worker_that_does_not_answer(three, plain, cut_off, monkeypatch):
    begin = LanesSession.begin

    def begin_without(session, ranks):
        cut_off()
        return begin(session, ranks)

    monkeypatch.setattr(LanesSession, "begin", begin_without)
    picked, began = LanesEngine(three, silence=1, memory_limits=MemoryLimits(1000, 1 << 30, 1 << 20)), time.monotonic()
    history = plain.fit(plain.trainer(engine=picked), wrap=lambda array: da.from_array(array, chunks=(100, *array.shape[1:])), epochs=1)
    monkeypatch.undo()
    assert history.fingerprint == plain.fit(plain.trainer(engine="inline"), epochs=1).fingerprint
    assert "does not answer; repeated from step 0" in str(history.events)
    assert time.monotonic() - began < 60
