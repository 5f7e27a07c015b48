"""The engine *scheduler* has the bits of the engine *inline*, on any workers and from any chunks."""

import dask.array as da
import numpy as np
import pytest
from distributed import Client

import dagtrain as dt
from dagtrain.data import BatchPlan, open_source
from dagtrain.engines import SchedulerEngine
from dagtrain.engines.client import workers_of
from dagtrain.engines.commits import Commit
from dagtrain.engines.engine import InlineEngine
from tests.each import rarely

pytestmark = pytest.mark.combined


@pytest.fixture(scope="module")
def client(threads):
    """Of workers in this process, which cost half: other processes are in `test_any_number_of_workers`."""
    return threads


def same_run(history, expected):
    """Assert equal weights, losses and metrics, to the last bit, and no events."""
    assert history.fingerprint == expected.fingerprint
    assert history.history["loss"] == expected.history["loss"]
    assert history.history["accuracy"] == expected.history["accuracy"]
    assert history.history["f1"] == expected.history["f1"]
    assert history.events == []


@pytest.mark.parametrize("workers", [3, rarely(2), 1])
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
        collection = da.from_array(array, chunks=chunks[: array.ndim])
        return collection.persist() if persisted else collection

    same_run(mixed.fit(mixed.trainer(engine="scheduler"), wrap), mixed.inline)


def test_auto_uses_the_current_client(client, mixed):
    history = mixed.fit(mixed.trainer(engine="auto"))
    assert history.info["engine"] == "lanes"
    same_run(history, mixed.inline)


def test_inline_stays_inline_with_a_client(client, mixed):
    history = mixed.fit(mixed.trainer(engine="inline"))
    assert history.info["engine"] == "inline"
    same_run(history, mixed.inline)


def test_engines_may_take_turns(client, mixed):
    """One epoch with each: the next engine continues from the state alone."""
    trainer = mixed.trainer(engine="scheduler")
    mixed.fit(trainer, epochs=1)
    trainer.engine = "inline"
    assert mixed.fit(trainer, epochs=1).fingerprint == mixed.inline.fingerprint


@pytest.mark.parametrize("segment", [1, 3])
def test_the_length_of_a_segment_changes_nothing(client, mixed, segment):
    same_run(mixed.fit(mixed.trainer(engine=SchedulerEngine(client, segment=segment))), mixed.inline)


def taken(stream):
    """The commits of a stream."""
    return [item for item in stream if isinstance(item, Commit)]


@pytest.mark.parametrize("steps", [1, 3])
def test_the_number_of_steps_in_a_submission_changes_nothing(client, mixed, steps):
    trainer = mixed.trainer(engine="inline")
    mixed.fit(trainer, epochs=1)
    program = trainer.program
    source = open_source(*(a[: mixed.rows] for a in mixed.digits[:2]), targets="classes")
    plan = BatchPlan(mixed.rows, mixed.batch_size, 8, seed=0)
    with SchedulerEngine(client, steps=steps).session(program, source) as session:
        schedule = plan.schedule(0, mixed.epochs * plan.steps_per_epoch, plan.steps_per_epoch)
        commits = taken(session.run(program.first_state(), schedule))
        assert [len(commit.sums) for commit in commits] == {1: [1] * 8, 3: [3, 1] * 2}[steps]
        assert commits[-1].state.get().fingerprint == mixed.inline.fingerprint


def open_session(engine, mixed):
    trainer = mixed.trainer(engine="inline")
    mixed.fit(trainer, epochs=1)
    source = open_source(*(da.from_array(a[: mixed.rows], chunks=50) for a in mixed.digits[:2]), targets="classes")
    plan = BatchPlan(mixed.rows, mixed.batch_size, 8, seed=0)
    return engine.session(trainer.program, source), trainer.program.first_state(), plan


ENGINES = {"inline": lambda client: InlineEngine(2, commit=0.0), "scheduler": lambda client: SchedulerEngine(client, steps=1)}


@pytest.mark.parametrize("engine", ENGINES)
def test_each_shard_reports_its_samples(client, mixed, engine):
    session, state, plan = open_session(ENGINES[engine](client), mixed)
    with session:
        commits = taken(session.run(state, plan.schedule(0, 4)))
    for i, commit in enumerate(commits):
        (used,) = commit.used
        assert [(s, rows.tolist()) for s, rows in used] == [(s, rows.tolist()) for s, rows in enumerate(plan.step(0, i)) if len(rows)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_that_is_closed_goes_on_from_its_last_commit(client, mixed, engine):
    session, state, plan = open_session(ENGINES[engine](client), mixed)
    with session:
        stream = session.run(state, plan.schedule(0, 4))
        commits = [next(item for item in stream if isinstance(item, Commit)) for _ in range(2)]
        stream.close()
        assert [(commit.first, len(commit.sums), commit.state.step) for commit in commits] == [(0, 1, 1), (1, 1, 2)]
        rest = taken(session.run(commits[-1].state, plan.schedule(2, 4)))[-1].state.get()
        scaled = taken(session.run(state, plan.schedule(0, 1)))[-1].state.with_scale(0.5)
        assert taken(session.run(scaled, plan.schedule(1, 2)))[-1].state.get().learning_rate_scale == 0.5
        whole = taken(session.run(state, plan.schedule(0, 4)))[-1].state.get()
    assert rest.fingerprint == whole.fingerprint


def test_evaluate_agrees_between_engines(client, digits, plain):
    trainer = plain.trainer(engine="inline")
    plain.fit(trainer, epochs=1)
    expected = trainer.evaluate(digits.x_validation, digits.y_validation)
    trainer.engine = "scheduler"
    assert trainer.evaluate(digits.x_validation, digits.y_validation) == expected
    chunks = [da.from_array(a, chunks=100) for a in digits[2:]]
    assert trainer.evaluate(*chunks) == pytest.approx(expected, rel=1e-6)


def test_validation_agrees_between_engines(client, digits, mixed):
    inline, scheduler = (mixed.fit(mixed.trainer(engine=e), validation_data=digits[2:]).history for e in ("inline", "scheduler"))
    assert inline["val_loss"] == scheduler["val_loss"]
    assert inline["val_accuracy"] == scheduler["val_accuracy"]


def test_predictions_are_computed_on_the_cluster(client, digits, mixed):
    trainer = mixed.trainer(engine="scheduler")
    mixed.fit(trainer)
    lazy = trainer.predict(da.from_array(digits.x_validation, chunks=(90, 64)))
    np.testing.assert_allclose(lazy.compute(), trainer.predict(digits.x_validation), rtol=1e-5, atol=1e-6)


def test_a_plain_cost_of_x_alone(client):
    def cost(centre, x):
        return np.mean(np.sum((x - centre) ** 2, axis=1))

    x = np.random.default_rng(0).normal(size=(90, 3))
    histories = []
    for engine in ("inline", "scheduler"):
        trainer = dt.Trainer(cost, optimizer=dt.optim.sgd(0.25), parameters=np.zeros(3, "f4"), shards=3, engine=engine)
        histories.append(trainer.fit(x, epochs=5, batch_size=40, verbose=0))
    assert histories[0].fingerprint == histories[1].fingerprint
    assert histories[0].history["loss"] == histories[1].history["loss"]


def test_the_step_graph_is_the_next_epoch_of_fit(client, mixed):
    trainer = mixed.trainer(engine="inline")
    mixed.fit(trainer, epochs=1)
    graph = trainer.step_graph(4)
    assert graph.compute().state.fingerprint == mixed.inline.fingerprint
    assert mixed.fit(trainer, epochs=1).fingerprint == mixed.inline.fingerprint


def test_measuring_a_step_records_worker_and_time_of_every_task(client, mixed):
    trainer = mixed.trainer(engine="inline")
    mixed.fit(trainer, epochs=1)
    graph = trainer.step_graph()
    records = graph.measure()
    workers = set(workers_of(client))
    assert set(records) == set(graph.tasks)
    assert {r.worker for r in records.values()} <= workers
    assert all(r.stop >= r.start for r in records.values())
    assert records[graph.last].nbytes >= trainer.program.layout.size * 4
    assert set(graph.measure()) == set(graph.tasks), "a second measurement runs the tasks again"
