"""The engine *scheduler* gives the bits of the engine *inline*, on any workers and from any chunks."""

import dask.array as da
import numpy as np
import pytest
from distributed import Client

import dagtrain as dt
from dagtrain.data import BatchPlan, open_source
from dagtrain.engines import SchedulerEngine
from dagtrain.engines.engine import InlineEngine, Unwatched

pytestmark = pytest.mark.combined


def same_run(found, wanted):
    """Equal weights, and the same loss and metrics on the way, to the last bit."""
    assert found.fingerprint == wanted.fingerprint
    assert found.history["loss"] == wanted.history["loss"]
    assert found.history["accuracy"] == wanted.history["accuracy"]
    assert found.events == []


@pytest.mark.parametrize("workers", [3, 2, 1])
def test_any_number_of_workers(cluster, scale, recipe, workers):
    with Client(cluster) as client:
        scale(client, workers)
        history = recipe.fit(recipe.trainer(engine="scheduler"))
    assert history.info["workers"] == workers
    same_run(history, recipe.inline)


@pytest.mark.parametrize("processes", [True, False], ids=["process", "thread"])
def test_a_worker_of_two_threads(local_cluster, recipe, processes):
    with local_cluster(1, 2, processes) as cluster, Client(cluster):
        same_run(recipe.fit(recipe.trainer(engine="scheduler")), recipe.inline)


@pytest.mark.parametrize(("chunks", "persisted"), [((50, 64), True), (((100, 1, 95), (60, 4)), False)], ids=["persisted", "lazy"])
def test_any_chunks(client, mixed, chunks, persisted):
    def wrap(array):
        found = da.from_array(array, chunks=chunks[: array.ndim])
        return found.persist() if persisted else found

    same_run(mixed.fit(mixed.trainer(engine="scheduler"), wrap), mixed.inline)


def test_a_client_is_found(client, mixed):
    history = mixed.fit(mixed.trainer(engine="auto"))
    assert history.info["engine"] == "lanes"
    same_run(history, mixed.inline)


def test_inline_stays_inline_beside_a_client(client, mixed):
    history = mixed.fit(mixed.trainer(engine="inline"))
    assert history.info["engine"] == "inline"
    same_run(history, mixed.inline)


def test_engines_may_take_turns(client, mixed):
    """One epoch here, one there: the state is all that goes on."""
    trainer = mixed.trainer(engine="scheduler")
    mixed.fit(trainer, epochs=1)
    trainer.engine = "inline"
    assert mixed.fit(trainer, epochs=1).fingerprint == mixed.inline.fingerprint


@pytest.mark.parametrize("segment", [1, 3])
def test_where_the_chain_is_cut_changes_nothing(client, mixed, segment):
    same_run(mixed.fit(mixed.trainer(engine=SchedulerEngine(client, segment=segment))), mixed.inline)


class Seen(Unwatched):
    """Notes what it is told, and stops after some looks."""

    def __init__(self, stop_at=None):
        self.steps, self.rows, self.looks, self.stop_at = [], [], 0, stop_at

    def step(self, i, sums):
        self.steps.append(i)

    def used(self, i, shard, rows):
        self.rows.append((i, shard, rows.tolist()))

    def stop(self):
        self.looks += 1
        return self.stop_at is not None and self.looks >= self.stop_at


@pytest.mark.parametrize("steps", [1, 3])
def test_how_many_steps_are_submitted_changes_nothing(client, mixed, steps):
    trainer = mixed.trainer(engine="inline")
    mixed.fit(trainer, epochs=1)
    program = trainer.program
    source = open_source(*(a[: mixed.rows] for a in mixed.digits[:2]), targets="classes")
    plan = BatchPlan(mixed.rows, mixed.batch_size, 8, seed=0)
    watch = Seen()
    with SchedulerEngine(client, steps=steps).session(program, source) as session:
        state = program.first_state()
        for epoch in range(mixed.epochs):
            batches = [plan.step(epoch, i) for i in range(plan.steps_per_epoch)]
            state, done = session.run(state, batches, watch)
            assert done == 4
    assert state.fingerprint == mixed.inline.fingerprint
    assert watch.steps == [0, 1, 2, 3] * 2


def open_session(engine, mixed):
    trainer = mixed.trainer(engine="inline")
    mixed.fit(trainer, epochs=1)
    source = open_source(*(da.from_array(a[: mixed.rows], chunks=50) for a in mixed.digits[:2]), targets="classes")
    plan = BatchPlan(mixed.rows, mixed.batch_size, 8, seed=0)
    batches = [plan.step(0, i) for i in range(plan.steps_per_epoch)]
    return engine.session(trainer.program, source), trainer.program.first_state(), batches


@pytest.mark.parametrize("engine", ["inline", "scheduler"])
def test_each_shard_tells_which_samples_it_took(client, mixed, engine):
    session, state, batches = open_session(InlineEngine(2) if engine == "inline" else SchedulerEngine(client), mixed)
    watch = Seen()
    with session:
        session.run(state, batches, watch)
    wanted = [(i, s, rows.tolist()) for i, batch in enumerate(batches) for s, rows in enumerate(batch) if len(rows)]
    assert sorted(watch.rows) == wanted


@pytest.mark.parametrize(("engine", "done"), [("inline", 2), ("scheduler, cut short", 2), ("scheduler, between segments", 3)])
def test_a_stop_ends_at_the_next_boundary(client, mixed, engine, done):
    segment = 1 if engine.endswith("segments") else 192
    made = InlineEngine(2) if engine == "inline" else SchedulerEngine(client, steps=1, segment=segment)
    session, state, batches = open_session(made, mixed)
    watch = Seen(stop_at=done)
    with session:
        after, count = session.run(state, batches, watch)
        assert (count, after.step, watch.steps) == (done, done, list(range(done)))
        assert {i for i, _, _ in watch.rows} == set(range(done))
        rest, _ = session.run(after, batches[done:], Unwatched())
        whole, _ = session.run(state, batches, Unwatched())
    assert rest.fingerprint == whole.fingerprint


def test_evaluate_agrees_between_engines(client, digits, plain):
    trainer = plain.trainer(engine="inline")
    plain.fit(trainer, epochs=1)
    wanted = trainer.evaluate(digits.x_validation, digits.y_validation)
    trainer.engine = "scheduler"
    assert trainer.evaluate(digits.x_validation, digits.y_validation) == wanted
    chunks = [da.from_array(a, chunks=100) for a in digits[2:]]
    assert trainer.evaluate(*chunks) == pytest.approx(wanted, rel=1e-6)


def test_validation_agrees_between_engines(client, digits, mixed):
    found = [mixed.fit(mixed.trainer(engine=e), validation_data=digits[2:]).history for e in ("inline", "scheduler")]
    assert found[0]["val_loss"] == found[1]["val_loss"]
    assert found[0]["val_accuracy"] == found[1]["val_accuracy"]


def test_predictions_are_computed_on_the_cluster(client, digits, mixed):
    trainer = mixed.trainer(engine="scheduler")
    mixed.fit(trainer)
    lazy = trainer.predict(da.from_array(digits.x_validation, chunks=(90, 64)))
    np.testing.assert_allclose(lazy.compute(), trainer.predict(digits.x_validation), rtol=1e-5, atol=1e-6)


def test_a_plain_cost_of_x_alone(client):
    def cost(centre, x):
        return np.mean(np.sum((x - centre) ** 2, axis=1))

    x = np.random.default_rng(0).normal(size=(90, 3))
    found = []
    for engine in ("inline", "scheduler"):
        trainer = dt.Trainer(cost, optimizer=dt.optim.sgd(0.25), parameters=np.zeros(3, "f4"), shards=3, engine=engine)
        found.append(trainer.fit(x, epochs=5, batch_size=40, verbose=0))
    assert found[0].fingerprint == found[1].fingerprint
    assert found[0].history["loss"] == found[1].history["loss"]


def test_the_step_graph_is_the_next_epoch_of_fit(client, mixed):
    trainer = mixed.trainer(engine="inline")
    mixed.fit(trainer, epochs=1)
    graph = trainer.step_graph(4)
    assert graph.compute().state.fingerprint == mixed.inline.fingerprint
    assert mixed.fit(trainer, epochs=1).fingerprint == mixed.inline.fingerprint


def test_measuring_a_step_tells_worker_and_time_of_every_task(client, mixed):
    trainer = mixed.trainer(engine="inline")
    mixed.fit(trainer, epochs=1)
    graph = trainer.step_graph()
    records = graph.measure()
    workers = set(client.scheduler_info(n_workers=-1)["workers"])
    assert set(records) == set(graph.tasks)
    assert {r.worker for r in records.values()} <= workers
    assert all(r.stop >= r.start for r in records.values())
    assert records[graph.last].nbytes >= trainer.program.layout.size * 4
    assert set(graph.measure()) == set(graph.tasks), "a second measurement is not answered from the first"
