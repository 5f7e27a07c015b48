"""Workers of ranks are killed, stop or fail: the weights stay the same, or an error says why training cannot continue."""

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
from dagtrain.engines.client import workers_of
from dagtrain.engines.ranks import LanesEngine, SegmentPolicy
from dagtrain.engines.ranks.arithmetic import RankRunner
from dagtrain.engines.ranks.driver import Driver
from dagtrain.engines.ranks.messages import Failed, Stopped
from dagtrain.engines.ranks.worker_plugin import RanksWorkerPlugin
from dagtrain.errors import ClusterError, ExecutionError, NotFiniteError
from tests.each import rarely
from tests.engines.ranks.runs import at_epoch, ranks, ranks_of, same_weights

pytestmark = pytest.mark.combined


@pytest.fixture(scope="module")
def cluster(local_cluster):
    """For these tests alone."""
    with local_cluster(3, processes=True) as made:
        yield made


@pytest.fixture
def threads(local_cluster):
    """A client of a cluster of three workers in this process, for one test alone."""
    with dask.config.set(scheduler=None), local_cluster(3) as cluster, Client(cluster) as client:
        yield client


# ---- killed

MOMENTS = [("_meet", None), rarely("load", 0), ("compute", 3), rarely("reduce", 8), ("update", 9), rarely("copy", 16), ("snapshot", 6)]


@pytest.mark.parametrize(("moment", "step"), MOMENTS)
def test_a_worker_killed_at_any_moment(client, kill_at, plain, moment, step):
    mark = kill_at(moment, step)
    history = plain.fit(plain.trainer(engine=ranks(client)))
    assert os.path.exists(mark)
    same_weights(history, plain.inline)
    assert "repeated from step" in str(history.events)


@pytest.mark.parametrize(("moment", "rank"), [("squared_norms", 0), rarely("update", 1), ("compute", 2)])
def test_each_rank_may_be_the_one(client, kill_at, mixed, moment, rank):
    """Two blocks, three ranks: the last one has nothing to update."""
    mark = kill_at(moment, 5, rank)
    history = mixed.fit(mixed.trainer(engine=ranks(client)))
    assert os.path.exists(mark)
    same_weights(history, mixed.inline)


@pytest.mark.parametrize("others", [1, 2], ids=["all but one", "all"])
@pytest.mark.parametrize(("moment", "step"), [("compute", 0), ("update", 7), ("snapshot", 12)])
def test_several_workers_killed_at_once(client, kill_at, plain, moment, step, others):
    """If no worker is left, training continues from this process's copy of the state."""
    mark = kill_at(moment, step, others=others)
    trainer = plain.trainer(engine=ranks(client))
    history = plain.fit(trainer)
    assert os.path.exists(mark)
    same_weights(history, plain.inline)
    trainer.ledger().verify()


def test_all_workers_killed_that_held_the_data(client, kill_at, mixed):
    """Partitions go to the workers that hold their origins, or to any if all of those are lost."""
    mark = kill_at("update", 5, others=2)
    x, y = (client.submit(lambda array: array, array[: mixed.rows], pure=False) for array in mixed.digits[:2])
    history = mixed.trainer(engine=ranks(client)).fit([x], [y], epochs=mixed.epochs, batch_size=mixed.batch_size, verbose=0)
    assert os.path.exists(mark)
    same_weights(history, mixed.inline)


def test_killed_again_and_again(client, kill_at, plain, thorough):
    marks = [kill_at("compute", step) for step in ((1, 2, 7, 13, 17) if thorough else (1, 2, 13))]
    trainer = plain.trainer(engine=ranks(client))
    history = plain.fit(trainer)
    assert all(map(os.path.exists, marks))
    same_weights(history, plain.inline)
    trainer.ledger().verify()


def test_killed_in_a_commit_of_several_epochs(client, kill_at, plain):
    mark = kill_at("update", 45)
    ends = []
    noting = dt.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(logs["seconds"]))
    trainer = plain.trainer(engine=ranks(client, policy=SegmentPolicy()))
    history = plain.fit(trainer, epochs=12, callbacks=[noting])
    assert os.path.exists(mark)
    assert len(ends) == 12
    alone = plain.fit(plain.trainer(engine="inline"), epochs=12)
    same_weights(history, alone)
    assert trainer.ledger().epochs == list(range(4, 12))
    assert all(trainer.ledger().complete(epoch) for epoch in trainer.ledger().epochs)


def test_a_cluster_restarted_during_training(client, plain):
    """Dask forgets all tasks and results; this process submits its own again."""
    epochs = []

    class Reporter(dt.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            epochs.append(epoch)
            if len(epochs) == 2:
                client.restart(wait_for_workers=False)

    trainer = plain.trainer(engine=ranks(client))
    history = plain.fit(trainer, callbacks=[Reporter()])
    same_weights(history, plain.inline)
    trainer.ledger().verify()
    assert any(event.kind == "repeated" for event in history.events), history.events
    assert len(history.events) < 8, "too many attempts"


def test_data_that_a_restarted_cluster_had_alone_is_said_to_be_gone(client, plain):
    def restart():
        client.restart(wait_for_workers=False)

    x, y = (client.scatter(array[: plain.rows]) for array in plain.digits[:2])
    with pytest.raises(ClusterError, match=r"at step \d+: .*The data is made of what was scattered or persisted on the cluster") as caught:
        plain.trainer(engine=ranks(client)).fit([x], [y], epochs=3, batch_size=256, verbose=0, callbacks=[at_epoch(1, restart)])
    assert "give it again" in str(caught.value)


def test_a_worker_killed_in_an_evaluation(client, kill_at, digits, mixed):
    mark = kill_at("score")
    history = mixed.fit(mixed.trainer(engine=ranks(client)), validation_data=digits[2:])
    assert os.path.exists(mark)
    same_weights(history, mixed.inline)
    alone = mixed.fit(mixed.trainer(engine="inline"), validation_data=digits[2:])
    assert history.history["val_loss"] == alone.history["val_loss"]


def test_a_worker_lost_while_the_ranks_are_set_up(threads, monkeypatch, plain):
    """Dask may then close the connection of the request."""
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
    """It is left out, stays on the cluster, and gets a rank as soon as it answers."""
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
    history = plain.fit(plain.trainer(engine=ranks(threads, silence=1)), callbacks=[looks])
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
    eventually(lambda: len(before.keys() & workers_of(client).keys()), 2)
    assert len(before.keys() & client.run(os.getpid).keys()) == 2, "the worker that stopped is gone"


@pytest.fixture
def furnished(client, plain):
    """A client whose workers have set up the ranks' plugin: until then a worker has more time to answer."""
    plain.fit(plain.trainer(engine="lanes"), epochs=1)
    return client


@pytest.mark.parametrize("moment", ["before a run begins", "when it ends"])
def test_a_worker_that_stopped_is_not_waited_for(furnished, plain, looking, moment):
    """No broadcast waits until Dask itself declares the worker lost, after five minutes."""
    client, pids = furnished, furnished.run(os.getpid)
    stopped = sorted(pids)[-1]
    if moment == "when it ends":
        looks = looking(lambda: len(looks.seen) == plain.epochs - 1 and os.kill(pids[stopped], signal.SIGSTOP))
        history = plain.fit(plain.trainer(engine=LanesEngine(client, silence=4)), callbacks=[looks])
    else:
        os.kill(pids[stopped], signal.SIGSTOP)
        history = plain.fit(plain.trainer(engine=LanesEngine(client, silence=4)))
    same_weights(history, plain.inline)
    deadline = time.monotonic() + 10
    while stopped in workers_of(client):
        assert time.monotonic() < deadline, "the worker that stopped is still there"
        time.sleep(0.05)


def test_a_worker_that_was_only_slow_is_started_again(cluster, furnished, plain):
    """If it were asked to close, its nanny would close too, and the cluster would have one worker fewer for ever."""
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
    while len(workers_of(client)) < 3:
        assert time.monotonic() < deadline, "it did not come back"
        time.sleep(0.05)


def test_connections_that_break(client, strike_at, plain):
    """A worker shuts down all its connections to other ranks."""

    def strike():
        from distributed import get_worker

        for rank in get_worker().plugins["dagtrain-lanes"].ranks.values():
            for channel in rank._communicator._channels.values():
                channel.sock.shutdown(2)

    mark = strike_at("compute", 9, strike)
    history = plain.fit(plain.trainer(engine=ranks(client, policy=SegmentPolicy(most=2, cut=0.5), channel="socket")))
    assert os.path.exists(mark)
    same_weights(history, plain.inline)
    assert "the channel to rank" in str(history.events)


def test_an_unknown_failure_of_a_rank_is_repeated(client, strike_at, plain):
    def strike():
        raise MemoryError("no memory at this moment")

    mark = strike_at("update", 9, strike)
    history = plain.fit(plain.trainer(engine=ranks(client)))
    assert os.path.exists(mark)
    same_weights(history, plain.inline)
    assert "no memory at this moment" in str(history.events)


def test_a_state_that_is_lost_by_its_holders(threads, monkeypatch, plain):
    """Dask repeats the task of the state, whose result is then that its group is over."""
    update, source, seen = RankRunner.update, Driver._source, []

    def fail_once(self, final):
        if self.state.step == 9 and not seen:
            seen.append("failed")
            raise MemoryError("no memory at this moment")
        update(self, final)

    def stale_once(self, held):
        if held.generation < 0 or seen != ["failed"]:
            return source(self, held)
        seen.append("stale")
        return self.session._hold("stale", Stopped("its group is over"))

    monkeypatch.setattr(RankRunner, "update", fail_once)
    monkeypatch.setattr(Driver, "_source", stale_once)
    trainer = plain.trainer(engine=ranks(threads))
    history = plain.fit(trainer)
    assert seen == ["failed", "stale"]
    same_weights(history, plain.inline)
    trainer.ledger().verify()
    assert "the state was lost where it lay" in str(history.events)


def test_a_failure_that_occurs_at_every_attempt_is_an_error(threads, monkeypatch, plain):
    def fail(*args):
        raise MemoryError("there never is any")

    monkeypatch.setattr("dagtrain.engines.ranks.arithmetic.RankRunner.update", fail)
    with pytest.raises(ClusterError, match=r"3 attempts failed in a row at step 0; the last time: rank \d on .*there never is any"):
        plain.fit(plain.trainer(engine=LanesEngine(threads, policy=SegmentPolicy(failures=3))))


def test_a_segment_does_not_begin_after_one_that_failed(threads, monkeypatch, plain):
    """Also if the report of the failure is slow: the error names the first failure."""

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


def test_an_error_of_the_computation_is_raised_at_once(client, strike_at, plain):
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
