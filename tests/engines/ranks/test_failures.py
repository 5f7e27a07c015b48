"""Workers of ranks die, stop, come and go; the weights stay the same, and what cannot go on says why."""

import asyncio
import inspect
import os
import signal
import threading
import time

import dask
import numpy as np
import pytest
from distributed import Client
from distributed.comm import CommClosedError

import dagtrain as dt
from dagtrain.data import BatchPlan
from dagtrain.engines.ranks import LanesEngine, SegmentPolicy
from dagtrain.engines.ranks.arithmetic import RankRunner
from dagtrain.engines.ranks.messages import Failed, Stopped
from dagtrain.engines.ranks.session import LanesSession
from dagtrain.engines.ranks.stretch import Stretch
from dagtrain.engines.ranks.worker_plugin import RanksWorkerPlugin
from dagtrain.errors import ClusterError, ExecutionError, NotFiniteError

pytestmark = pytest.mark.combined


@pytest.fixture(scope="module")
def cluster(local_cluster):
    """For these tests alone."""
    with local_cluster(3, processes=True) as made:
        yield made


def ranks(client, **options):
    """Segments of two steps each, so that faults find several of them under way."""
    return LanesEngine(client, **{"policy": SegmentPolicy(most=2), **options})


def same_weights(found, wanted):
    assert found.fingerprint == wanted.fingerprint
    assert found.history["loss"] == wanted.history["loss"]


# ---- killed

MOMENTS = [("_meet", None), ("load", 0), ("compute", 3), ("reduce", 8), ("update", 9), ("copy", 16), ("keep", 6)]


@pytest.mark.parametrize(("moment", "step"), MOMENTS)
def test_a_worker_killed_at_any_moment(client, kill_at, plain, moment, step):
    mark = kill_at(moment, step)
    history = plain.fit(plain.trainer(engine=ranks(client)))
    assert os.path.exists(mark)
    same_weights(history, plain.inline)
    assert "repeated from step" in str(history.events)


@pytest.mark.parametrize(("moment", "rank"), [("square", 0), ("update", 1), ("compute", 2)])
def test_each_rank_may_be_the_one(client, kill_at, mixed, moment, rank):
    """Two blocks, three ranks: the last one has nothing to update."""
    mark = kill_at(moment, 5, rank)
    history = mixed.fit(mixed.trainer(engine=ranks(client)))
    assert os.path.exists(mark)
    same_weights(history, mixed.inline)


@pytest.mark.parametrize("others", [1, 2], ids=["all but one", "all"])
@pytest.mark.parametrize(("moment", "step"), [("compute", 0), ("update", 7), ("keep", 12)])
def test_several_workers_killed_at_once(client, kill_at, plain, moment, step, others):
    """Where no worker is left, training goes on from the copy that this process has."""
    mark = kill_at(moment, step, others=others)
    trainer = plain.trainer(engine=ranks(client))
    history = plain.fit(trainer)
    assert os.path.exists(mark)
    same_weights(history, plain.inline)
    trainer.ledger().verify()


def test_all_workers_killed_that_held_the_data(client, kill_at, mixed):
    """Its partitions go where what they are made from lies: that is of no use once all of those workers are gone."""
    mark = kill_at("update", 5, others=2)
    x, y = (client.submit(lambda array: array, array[: mixed.rows], pure=False) for array in mixed.digits[:2])
    history = mixed.trainer(engine=ranks(client)).fit([x], [y], epochs=mixed.epochs, batch_size=mixed.batch_size, verbose=0)
    assert os.path.exists(mark)
    same_weights(history, mixed.inline)


def test_killed_again_and_again(client, kill_at, plain):
    marks = [kill_at("compute", step) for step in (1, 2, 7, 13, 17)]
    trainer = plain.trainer(engine=ranks(client))
    history = plain.fit(trainer)
    assert all(map(os.path.exists, marks))
    same_weights(history, plain.inline)
    trainer.ledger().verify()


def test_killed_among_epochs_that_are_run_together(client, kill_at, plain, monkeypatch):
    calls, run = [], LanesSession.run

    def noted(session, state, batches, *others):
        calls.append(len(batches))
        return run(session, state, batches, *others)

    monkeypatch.setattr(LanesSession, "run", noted)
    monkeypatch.setattr("dagtrain.train.loop._TOGETHER", 60.0)
    mark = kill_at("update", 45)
    trainer = plain.trainer(engine=ranks(client))
    history = plain.fit(trainer, epochs=12)
    assert os.path.exists(mark)
    assert max(calls) > 6, "an epoch has six steps"
    alone = plain.fit(plain.trainer(engine="inline"), epochs=12)
    same_weights(history, alone)
    assert trainer.ledger().epochs == list(range(4, 12))
    assert all(trainer.ledger().complete(epoch) for epoch in trainer.ledger().epochs)


def test_a_cluster_restarted_in_the_midst(client, plain):
    """Dask forgets all tasks and results; what can be made anew from this process is."""
    epochs = []

    class Reporter:
        start = finish = step = staticmethod(lambda *told: None)

        def epoch(self, row):
            epochs.append(row["epoch"])
            if len(epochs) == 2:
                client.restart(wait_for_workers=False)

    trainer = plain.trainer(engine=ranks(client))
    history = plain.fit(trainer, reporter=Reporter())
    same_weights(history, plain.inline)
    trainer.ledger().verify()
    assert any(event.endswith("repeated from step 12") for event in history.events), history.events
    assert len(history.events) < 8, "it has not tried again and again"


def test_data_that_a_restarted_cluster_had_alone_is_said_to_be_gone(client, plain):
    def restart():
        client.restart(wait_for_workers=False)

    x, y = (client.scatter(array[: plain.rows]) for array in plain.digits[:2])
    with pytest.raises(ClusterError, match=r"at step 6: .*The data is made of what was scattered or persisted on the cluster") as caught:
        plain.trainer(engine=ranks(client)).fit([x], [y], epochs=3, batch_size=256, verbose=0, reporter=at_epoch(1, restart))
    assert "give it again" in str(caught.value)


def test_a_worker_killed_in_an_evaluation(client, kill_at, digits, mixed):
    mark = kill_at("score")
    history = mixed.fit(mixed.trainer(engine=ranks(client)), validation_data=digits[2:])
    assert os.path.exists(mark)
    same_weights(history, mixed.inline)
    alone = mixed.fit(mixed.trainer(engine="inline"), validation_data=digits[2:])
    assert history.history["val_loss"] == alone.history["val_loss"]


def test_a_worker_lost_while_the_ranks_are_set_up(threads, monkeypatch, plain):
    """Dask then may break off the connection that asked for it."""
    register, seen = Client.register_plugin, []

    def lose_one(self, plugin):
        seen.append(plugin.name)
        if len(seen) == 1:
            raise CommClosedError("it was another worker's connection")
        return register(self, plugin)

    monkeypatch.setattr(Client, "register_plugin", lose_one)
    same_weights(plain.fit(plain.trainer(engine=ranks(threads))), plain.inline)
    assert len(seen) == 2


def test_a_worker_that_does_not_answer_when_a_run_begins(threads, plain, eventually):
    """It is left out, stays on the cluster, and has a rank as soon as it answers."""
    cluster, heard = threads.cluster, threading.Event()
    worker = cluster.workers[0]

    def beat(yes):
        callback = worker.periodic_callbacks["heartbeat"]
        worker.loop.add_callback(callback.start if yes else callback.stop)

    def deaf(handler):
        async def wait(**message):
            await asyncio.to_thread(heard.wait, 60)
            answer = handler(**message)
            return await answer if inspect.isawaitable(answer) else answer

        return wait

    def recover():
        assert set(cluster.scheduler.workers) == {each.address for each in cluster.workers.values()}
        seen.append(ranks_of(threads))
        heard.set()
        beat(True)
        scheduler_plugin = cluster.scheduler.plugins["dagtrain-lanes"]
        eventually(lambda: worker.address in scheduler_plugin._bare | scheduler_plugin._monitor.absent, False)

    seen = []
    beat(False)
    worker.handlers |= {name: deaf(worker.handlers[name]) for name in ("identity", "plugin-add")}
    looks = at_epoch(1, recover)
    history = plain.fit(plain.trainer(engine=ranks(threads, silence=1)), reporter=looks)
    same_weights(history, plain.inline)
    assert seen == [[0, 1, 1]]
    assert f"workers joined: {worker.address}" in str(history.events)


# ---- stopped, or failing


def test_a_worker_that_stops_without_a_word(client, strike_at, plain, eventually):
    before = client.run(os.getpid)
    mark = strike_at("compute", 9, lambda: os.kill(os.getpid(), signal.SIGSTOP))
    history = plain.fit(plain.trainer(engine=ranks(client, silence=4)))
    assert os.path.exists(mark)
    same_weights(history, plain.inline)
    assert "silent for 4 s" in str(history.events)
    eventually(lambda: len(before.keys() & client.scheduler_info(n_workers=-1)["workers"].keys()), 2)
    assert len(before.keys() & client.run(os.getpid).keys()) == 2, "the worker that stopped is gone"


@pytest.fixture
def furnished(client, plain):
    """The client, whose workers have set up what ranks need; one that is yet to do it is given longer than others."""
    plain.fit(plain.trainer(engine="lanes"), epochs=1)
    return client


@pytest.mark.parametrize("moment", ["before a run begins", "when it ends"])
def test_a_worker_that_stopped_is_not_waited_for(furnished, plain, looking, moment):
    """Of what asks all workers, nothing waits until Dask itself takes the worker for lost, which is after five minutes."""
    client, pids = furnished, furnished.run(os.getpid)
    stopped = sorted(pids)[-1]
    if moment == "when it ends":
        looks = looking(lambda: len(looks.seen) == plain.epochs - 1 and os.kill(pids[stopped], signal.SIGSTOP))
        history = plain.fit(plain.trainer(engine=LanesEngine(client, silence=4)), reporter=looks)
    else:
        os.kill(pids[stopped], signal.SIGSTOP)
        history = plain.fit(plain.trainer(engine=LanesEngine(client, silence=4)))
    same_weights(history, plain.inline)
    deadline = time.monotonic() + 10
    while stopped in client.scheduler_info(n_workers=-1)["workers"]:
        assert time.monotonic() < deadline, "the worker that stopped is still there"
        time.sleep(0.05)


def test_a_worker_that_was_only_slow_is_started_again(cluster, furnished, plain):
    """Told to close, it would have its nanny close, too: the cluster would have one worker fewer for ever."""
    client, pids = furnished, furnished.run(os.getpid)
    slow = sorted(pids)[-1]

    def wake():
        while slow not in cluster.scheduler.plugins["dagtrain-lanes"]._gone:
            time.sleep(0.001)
        os.kill(pids[slow], signal.SIGCONT)

    waking = threading.Thread(target=wake, daemon=True)
    os.kill(pids[slow], signal.SIGSTOP)
    waking.start()
    same_weights(plain.fit(plain.trainer(engine=LanesEngine(client, silence=4))), plain.inline)
    waking.join(30)
    assert not waking.is_alive()
    deadline = time.monotonic() + 30
    while len(client.scheduler_info(n_workers=-1)["workers"]) < 3:
        assert time.monotonic() < deadline, "it did not come back"
        time.sleep(0.05)


def test_a_link_that_breaks(client, strike_at, plain):
    """All of a worker's connections to other ranks are shut from within."""

    def strike():
        from distributed import get_worker

        for rank in get_worker().plugins["dagtrain-lanes"].ranks.values():
            for link in rank._communicator._communicator.values():
                link._sock.shutdown(2)

    mark = strike_at("compute", 9, strike)
    history = plain.fit(plain.trainer(engine=ranks(client, policy=SegmentPolicy(most=2, cut=0.5), channel="socket")))
    assert os.path.exists(mark)
    same_weights(history, plain.inline)


def test_a_rank_that_fails_for_no_reason_known_is_repeated(client, strike_at, plain):
    def strike():
        raise MemoryError("just now there is none")

    mark = strike_at("update", 9, strike)
    history = plain.fit(plain.trainer(engine=ranks(client)))
    assert os.path.exists(mark)
    same_weights(history, plain.inline)
    assert "just now there is none" in str(history.events)


def test_a_state_that_is_lost_where_it_lies(threads, monkeypatch, plain):
    """Dask repeats the task whose result it was, and gets from it that its group is over."""
    update, source, seen = RankRunner.update, Stretch._source, []

    def fail_once(self, final):
        if self.state.step == 9 and not seen:
            seen.append("failed")
            raise MemoryError("just now there is none")
        update(self, final)

    def stale_once(self, held):
        if held.generation < 0 or seen != ["failed"]:
            return source(self, held)
        seen.append("stale")
        return self.session._hold("stale", Stopped("its group is over"))

    monkeypatch.setattr(RankRunner, "update", fail_once)
    monkeypatch.setattr(Stretch, "_source", stale_once)
    trainer = plain.trainer(engine=ranks(threads))
    history = plain.fit(trainer)
    assert seen == ["failed", "stale"]
    same_weights(history, plain.inline)
    trainer.ledger().verify()
    assert "the state was lost where it lay" in str(history.events)


def test_a_failure_that_comes_again_and_again_is_given_up(threads, monkeypatch, plain):
    def fail(*args):
        raise MemoryError("there never is any")

    monkeypatch.setattr("dagtrain.engines.ranks.arithmetic.RankRunner.update", fail)
    with pytest.raises(ClusterError, match=r"3 attempts failed in a row at step 0; the last time: rank \d on .*there never is any"):
        plain.fit(plain.trainer(engine=LanesEngine(threads, policy=SegmentPolicy(failures=3))))


def test_a_segment_does_not_begin_after_one_that_failed(threads, monkeypatch, plain):
    """However long it takes to tell of the failure: what is told is why the first of them failed."""

    def fail(*args):
        raise MemoryError("there never is any")

    def late(self, session, report):
        if isinstance(report, Failed):
            time.sleep(0.3)
        reports.append(report)
        send(self, session, report)

    reports, send = [], RanksWorkerPlugin.report
    monkeypatch.setattr(RanksWorkerPlugin, "report", late)
    monkeypatch.setattr("dagtrain.engines.ranks.arithmetic.RankRunner.update", fail)
    with pytest.raises(ClusterError, match="there never is any"):
        plain.fit(plain.trainer(engine=LanesEngine(threads, policy=SegmentPolicy(failures=1))))
    assert "ProtocolError" not in str(reports)


def test_an_error_of_the_computation_comes_at_once(client, strike_at, plain):
    """It is not repeated: this one strikes only once."""

    def strike():
        raise ExecutionError("the kernel of op 'mine' failed")

    mark = strike_at("compute", 9, strike)
    with pytest.raises(ExecutionError, match="op 'mine'"):
        plain.fit(plain.trainer(engine=ranks(client)))
    assert os.path.exists(mark)
    same_weights(plain.fit(plain.trainer(engine=ranks(client))), plain.inline)


def test_a_loss_that_breaks_is_explained(client):
    def cost(w, x):
        return np.mean(np.log(x @ w))

    x = np.ones((48, 3), "f4")
    x[20] = -1
    plan = BatchPlan(48, 16, 4, seed=0)
    ((step, shard),) = [(i, s) for i in range(3) for s, rows in enumerate(plan.step(0, i)) if 20 in rows]
    trainer = dt.Trainer(cost, optimizer=dt.optim.sgd(1e-3), parameters=np.ones(3, "f4"), shards=4, engine=ranks(client))
    with pytest.raises(NotFiniteError, match=rf"step {step}, shard {shard} .*'log'.*test_failures\.py:\d+ in cost"):
        trainer.fit(x, batch_size=16, verbose=0)


# ---- come and go


@pytest.fixture
def threads(local_cluster):
    """A cluster within this process, for one test alone."""
    with dask.config.set(scheduler=None), local_cluster(3) as cluster, Client(cluster) as client:
        yield client


def at_epoch(number, do):
    """A reporter that does something after an epoch."""

    class Reporter:
        start = finish = step = staticmethod(lambda *told: None)

        def epoch(self, row):
            if row["epoch"] == number:
                do()

    return Reporter()


def ranks_of(client):
    """How many ranks each worker has."""
    return sorted(client.run(lambda dask_worker: len(getattr(dask_worker.plugins.get("dagtrain-lanes"), "ranks", ()))).values())


def test_workers_that_join_are_used(threads, plain, eventually):
    threads.cluster.scale(1)
    eventually(lambda: len(threads.scheduler_info(n_workers=-1)["workers"]), 1)
    seen = []

    class Reporter:
        start = finish = step = staticmethod(lambda *told: None)

        def epoch(self, row):
            if row["epoch"] == 1:
                threads.cluster.scale(3)
                threads.wait_for_workers(3, timeout=60)
            seen.append(ranks_of(threads))

    history = plain.fit(plain.trainer(engine=ranks(threads)), reporter=Reporter())
    same_weights(history, plain.inline)
    assert seen[-1] == [1, 1, 1]
    assert "workers joined" in str(history.events)


def test_workers_that_are_retired(threads, plain):
    retired = sorted(threads.scheduler_info(n_workers=-1)["workers"])[:2]
    history = plain.fit(plain.trainer(engine=ranks(threads)), reporter=at_epoch(1, lambda: threads.retire_workers(retired)))
    same_weights(history, plain.inline)
    assert len(threads.scheduler_info(n_workers=-1)["workers"]) == 1
    assert "was lost; " not in str(history.events), "that it was retired is told"


def test_a_cluster_scaled_down(threads, plain):
    history = plain.fit(plain.trainer(engine=ranks(threads)), reporter=at_epoch(1, lambda: threads.cluster.scale(1)))
    same_weights(history, plain.inline)


def test_an_adaptive_cluster_may_shrink(threads, plain, eventually):
    def shrink():
        threads.cluster.adapt(minimum=1, maximum=1, interval="50ms", wait_count=1)

    history = plain.fit(plain.trainer(engine=ranks(threads)), epochs=plain.epochs, reporter=at_epoch(1, shrink))
    same_weights(history, plain.inline)
    eventually(lambda: len(threads.scheduler_info(n_workers=-1)["workers"]), 1)


def test_no_worker_at_all_is_an_error_and_not_a_wait(local_cluster, plain):
    expected = pytest.raises(ClusterError, match=r"the cluster has no workers, and none came within 0\.5 s")
    with local_cluster(0) as cluster, Client(cluster) as client, expected:
        plain.fit(plain.trainer(engine=LanesEngine(client, policy=SegmentPolicy(workers=0.5))))


# ---- gone for good


def test_a_scheduler_that_is_gone_and_a_checkpoint_on_another_cluster(client, local_cluster, plain, tmp_path):
    # A client closed while it is the current one leaves Dask's setting behind; and one that lost its scheduler looks for it so long.
    quick = dask.config.set({"scheduler": None, "distributed.comm.timeouts.connect": "3s"})
    with quick, local_cluster(2) as cluster, Client(cluster) as other:

        def close():
            cluster.sync(cluster.scheduler.close)

        trainer = plain.trainer(engine=ranks(other))
        with pytest.raises(ClusterError, match=r"the scheduler at .* does not answer.*resume=True"):
            plain.fit(trainer, checkpoint=tmp_path, reporter=at_epoch(2, close))
    history = plain.fit(plain.trainer(engine=ranks(client)), checkpoint=tmp_path, resume=True)
    same_weights(history, plain.inline)
    assert history.events[0].kind == "resume"


def test_a_client_closed_in_the_midst_is_an_error(threads, plain):
    with Client(threads.scheduler.address, set_as_default=False) as other, pytest.raises(ClusterError):
        plain.fit(plain.trainer(engine=ranks(other)), reporter=at_epoch(1, other.close))
