"""Workers die, join and leave; the weights stay the same."""

import os
import threading
import time

import dask
import numpy as np
import pytest
from distributed import Client

import dagtrain as dt
from dagtrain.data import BatchPlan, open_source
from dagtrain.engines import SchedulerEngine, Timeouts
from dagtrain.engines.client import workers_of
from dagtrain.engines.cluster.session import ClusterSession
from dagtrain.engines.commits import Commit, Idle
from dagtrain.errors import ClusterError, NotFiniteError
from dagtrain.report.records import Event
from dagtrain.step.sum_tree import add_tree
from tests.each import rarely
from tests.engines.conftest import Fault

pytestmark = pytest.mark.combined


@pytest.fixture(scope="module")
def cluster(local_cluster):
    """For these tests alone."""
    with local_cluster(3, processes=True) as cluster:
        yield cluster


class AtTask(Fault):
    """Strikes when a worker begins a task of this kind in this step."""

    def __init__(self, kind, step, mark, strike):
        super().__init__(f"fault at {kind} {step}", mark, strike)
        self.kind, self.step = kind, step

    def transition(self, key, start, finish, **kwargs):
        if finish == "executing" and isinstance(key, tuple) and key[0].startswith(f"{self.kind}-") and key[1] == self.step:
            self.strike_once()


@pytest.fixture
def kill_at(killing, plant, tmp_path):
    """``kill_at(kind, step, others=0)``: kill -9 to the worker that begins such a task in this step, and to others besides."""
    return lambda kind, step, others=0: plant(AtTask(kind, step, str(tmp_path / f"{kind}-{step}"), killing(others)))


@pytest.mark.parametrize(("kind", "step"), [("gradient", 3), rarely("total", 5), ("update", 6)])
def test_a_killed_worker(client, kill_at, mixed, kind, step):
    mark = kill_at(kind, step)
    history = mixed.fit(mixed.trainer(engine="scheduler"))
    assert os.path.exists(mark)
    assert history.fingerprint == mixed.inline.fingerprint
    assert history.history["loss"] == mixed.inline.history["loss"]


def test_two_killed_workers(client, kill_at, mixed):
    marks = [kill_at("gradient", 1), kill_at("update", 6)]
    history = mixed.fit(mixed.trainer(engine="scheduler"))
    assert all(map(os.path.exists, marks))
    assert history.fingerprint == mixed.inline.fingerprint


def test_all_workers_killed_at_once(client, kill_at, digits, mixed):
    """Their nannies start them again; Dask computes data and state again from the graph."""
    mark = kill_at("gradient", 5, others=2)
    history = mixed.fit(mixed.trainer(engine="scheduler"), validation_data=digits[2:])
    assert os.path.exists(mark)
    assert history.fingerprint == mixed.inline.fingerprint


def test_a_worker_killed_in_an_evaluation(client, kill_at, digits, mixed):
    mark = kill_at("evaluate", 0)
    history = mixed.fit(mixed.trainer(engine="scheduler"), validation_data=digits[2:])
    assert os.path.exists(mark)
    assert history.fingerprint == mixed.inline.fingerprint
    alone = mixed.fit(mixed.trainer(engine="inline"), validation_data=digits[2:])
    assert history.history["val_loss"] == alone.history["val_loss"]


def test_a_worker_joins_midway(cluster, scale, mixed):
    with Client(cluster) as client:
        scale(client, 1)
        seen = []

        class Reporter(dt.callbacks.Callback):
            def on_epoch_end(self, epoch, logs):
                if epoch + 1 == 1:
                    scale(client, 3)
                seen.append(len(workers_of(client)))

        history = mixed.fit(mixed.trainer(engine="scheduler"), callbacks=[Reporter()])
    assert seen == [3, 3]
    assert history.fingerprint == mixed.inline.fingerprint


def test_workers_leave_midway(cluster, scale, mixed):
    with Client(cluster) as client:
        scale(client, 3)

        class Reporter(dt.callbacks.Callback):
            def on_epoch_end(self, epoch, logs):
                if epoch + 1 == 1:
                    cluster.scale(1)

        history = mixed.fit(mixed.trainer(engine="scheduler"), callbacks=[Reporter()])
    assert history.fingerprint == mixed.inline.fingerprint


@pytest.fixture
def threads(local_cluster):
    """A cluster within this process, for one test alone."""
    with local_cluster(1) as cluster, Client(cluster) as client:
        yield client


def test_work_that_is_always_lost_is_repeated_and_then_an_error(threads, monkeypatch, mixed):
    """The keys of every submission are cancelled."""
    lost = []
    submit = ClusterSession._submit

    def losing(self, graph, keys, **annotations):
        futures = submit(self, graph, keys, **annotations)
        if str(keys[0]).startswith("sums"):
            lost.append(keys[0])
            self.client.cancel(futures, force=True)
        return futures

    monkeypatch.setattr(ClusterSession, "_submit", losing)
    with pytest.raises(ClusterError, match=r"3 times in the steps from 0 on.*cancelled"):
        mixed.fit(mixed.trainer(engine=SchedulerEngine(threads, repeats=2)))
    assert len(lost) == 3


def test_work_lost_once_is_repeated(threads, monkeypatch, mixed):
    lost, workers = [], threads.cluster.scheduler_info
    submit = ClusterSession._submit

    def losing(self, graph, keys, **annotations):
        futures = submit(self, graph, keys, **annotations)
        if str(keys[0]).startswith("sums") and len(lost) < 1:
            lost.append(keys[0])
            self.client.cancel(futures, force=True)
        return futures

    monkeypatch.setattr(ClusterSession, "_submit", losing)
    steps = []

    class Reporter(dt.callbacks.Callback):
        def on_train_batch_end(self, batch, logs):
            steps.append(batch + 1)

    history = mixed.fit(mixed.trainer(engine="scheduler"), callbacks=[Reporter()])
    assert len(history.events) == 1
    assert history.events[0].kind == "repeated"
    assert steps == [1, 2, 3, 4] * 2
    assert history.fingerprint == mixed.inline.fingerprint
    assert threads.cluster.scheduler_info is workers, "the cluster cannot follow its workers in a list that others replace"


def test_a_client_that_is_restarted_between_steps(local_cluster, mixed):
    """Dask forgets all tasks of all clients."""

    class Reporter(dt.callbacks.Callback):
        seen = 0

        def on_train_batch_end(self, batch, logs):
            self.seen += 1
            if self.seen == 6:
                client.restart()

    with local_cluster(1, processes=True) as cluster, Client(cluster) as client:
        history = mixed.fit(mixed.trainer(engine=SchedulerEngine(client, steps=1, segment=2)), callbacks=[Reporter()])
    assert history.fingerprint == mixed.inline.fingerprint
    assert [(event.kind, event.step) for event in history.events] == [("repeated", 6)]


def test_an_error_of_a_task_that_occurs_again_ends_the_steps(threads, monkeypatch, mixed):
    def breaks(*args):
        raise ZeroDivisionError("mine")

    monkeypatch.setattr("dagtrain.engines.scheduler.step_graph.add_tree", breaks)
    session, state, steps = session_of(SchedulerEngine(threads), mixed)
    items = []
    with session, pytest.raises(ClusterError, match="the same error again in the steps from 0 on: ZeroDivisionError: mine"):
        items.extend(iter(session.run(state, steps)))
    assert [item.kind for item in items if isinstance(item, Event)] == ["repeated"]


def session_of(engine, recipe):
    trainer = recipe.trainer(engine="inline")
    recipe.fit(trainer, epochs=1)
    source = open_source(*(a[: recipe.rows] for a in recipe.digits[:2]), targets="classes")
    plan = BatchPlan(recipe.rows, recipe.batch_size, 8, seed=0)
    return engine.session(trainer.program, source), trainer.program.first_state(), plan.schedule(0, plan.steps_per_epoch)


def test_a_cluster_without_workers_is_an_error_and_not_a_wait(local_cluster):
    with local_cluster(0) as cluster, Client(cluster) as client:
        digits = dt.data.load_digits()
        model = dt.nn.Sequential([dt.nn.Dense(10)])
        trainer = dt.Trainer(model, loss="cross_entropy", shards=2, engine="inline")
        trainer.fit(digits.x[:64], digits.y[:64], batch_size=64, verbose=0)
        source = open_source(digits.x[:64], digits.y[:64], targets="classes")
        session = SchedulerEngine(client, timeouts=Timeouts(workers=0.5, glance=0.1)).session(trainer.program, source)
        began = time.monotonic()
        with session, pytest.raises(ClusterError, match=r"no workers in the steps from 0 on, and none came within 0\.5 s"):
            list(session.run(trainer.program.first_state(), BatchPlan(64, 64, 2, seed=0).schedule(0, 1)))
        assert time.monotonic() - began < 20


def test_a_stop_does_not_wait_for_workers_that_are_gone(local_cluster, mixed):
    """Ctrl-C in a terminal also kills the workers of a cluster started there: meanwhile the stream may be closed."""
    with local_cluster(0) as cluster, Client(cluster) as client:
        session, state, steps = session_of(SchedulerEngine(client, timeouts=Timeouts(glance=0.2)), mixed)
        with session:
            stream = session.run(state, steps)
            assert isinstance(next(stream), Idle)
            stream.close()


def test_a_worker_that_hangs_is_named(threads, monkeypatch, mixed):
    """A task does not end, as on a worker whose disk or network hangs."""
    session, state, steps = session_of(SchedulerEngine(threads, timeouts=Timeouts(progress=1.0, glance=0.2)), mixed)
    end = threading.Event()
    monkeypatch.setattr("dagtrain.engines.scheduler.step_graph.add_tree", lambda *args: end.wait(30))
    (address,) = workers_of(threads)
    try:
        with session, pytest.raises(ClusterError, match=rf"-.* runs on {address}"):
            list(session.run(state, steps))
    finally:
        end.set()


def test_a_long_run_is_no_hang(threads, monkeypatch, mixed):
    """Each task is quick; all together take longer than the deadline for one."""
    session, state, steps = session_of(SchedulerEngine(threads, timeouts=Timeouts(progress=1.5, glance=0.2)), mixed)

    def slow(*args):
        time.sleep(0.1)
        return add_tree(*args)

    monkeypatch.setattr("dagtrain.engines.scheduler.step_graph.add_tree", slow)
    began = time.monotonic()
    with session:
        *_, last = (item for item in session.run(state, steps) if isinstance(item, Commit))
    assert last.state.step == 4
    assert time.monotonic() - began > 1.5


def test_a_scheduler_that_is_gone_is_an_error(local_cluster, mixed):
    # A client closed while it is the current one leaves Dask's setting behind.
    with dask.config.set(scheduler=None), local_cluster(1) as cluster, Client(cluster) as client:

        class Reporter(dt.callbacks.Callback):
            def on_epoch_end(self, epoch, logs):
                client.close()

        trainer = mixed.trainer(engine=SchedulerEngine(client, segment=4))
        with pytest.raises(ClusterError):
            mixed.fit(trainer, callbacks=[Reporter()])
    assert (trainer.progress.place, trainer.state.step, trainer.history.epochs) == ((1, 0), 4, 1)
    trainer.ledger().verify()


@pytest.mark.parametrize("engine", ["inline", "scheduler"])
def test_a_loss_that_breaks_is_explained_by_any_engine(threads, engine):
    def cost(w, x):
        return np.mean(np.log(x @ w))

    x = np.ones((48, 3), "f4")
    x[20] = -1
    plan = BatchPlan(48, 16, 4, seed=0)
    ((step, shard),) = [(i, s) for i in range(3) for s, rows in enumerate(plan.step(0, i)) if 20 in rows]
    trainer = dt.Trainer(cost, optimizer=dt.optim.sgd(1e-3), parameters=np.ones(3, "f4"), shards=4, engine=engine)
    with pytest.raises(NotFiniteError, match=rf"step {step}, shard {shard} .*'log'.*test_failures\.py:\d+ in cost"):
        trainer.fit(x, batch_size=16, verbose=0)
