"""Fits inside of Dask tasks, and within the user's annotations."""

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, get_client, worker_client

import dagtrain as dt
from tests.each import rarely

pytestmark = pytest.mark.combined

X = np.random.default_rng(0).normal(size=(64, 8)).astype("f4")


def new(engine, **options):
    return dt.Trainer(lambda w, x: np.mean(np.exp(x @ w)), parameters=np.full(8, 0.1, "f4"), shards=2, engine=engine, **options)


def fit(engine="auto", mode="", x=X):
    """Name of the engine used, and the fingerprint."""
    client = get_client() if mode in ("current", "given") else None
    trainer = new(engine, client=client if mode == "given" else None)
    if mode == "worker_client":
        with worker_client():
            history = trainer.fit(x, batch_size=32, verbose=0)
    else:
        history = trainer.fit(x, batch_size=32, verbose=0)
    return history.info["engine"], history.fingerprint


@pytest.fixture(scope="module")
def inline():
    return fit("inline")[1]


@pytest.fixture(scope="module", params=["processes", "threads"])
def client(request, local_cluster):
    """Two workers of one thread: four tasks that kept their threads would wait for each other."""
    with local_cluster(2, processes=request.param == "processes") as cluster, Client(cluster) as client:
        yield client


@pytest.mark.parametrize(
    ("engine", "mode", "used"),
    [
        ("auto", "", "inline"),
        rarely("auto", "current", "inline"),
        ("auto", "worker_client", "inline"),
        ("auto", "given", "lanes"),
        ("lanes", "", "lanes"),
        rarely("lanes", "worker_client", "lanes"),
        ("scheduler", "current", "scheduler"),
    ],
)
def test_as_many_fits_as_there_are_tasks(client, inline, engine, mode, used):
    futures = client.map(fit, [engine] * 4, [mode] * 4, pure=False)
    assert [future.result(timeout=120) for future in futures] == [(used, inline)] * 4


@pytest.mark.parametrize("engine", ["auto", "lanes"])
def test_data_of_the_cluster_in_a_task(client, inline, engine):
    futures = client.map(lambda i: fit(engine, x=da.from_array(X, chunks=(16, 8)))[1], range(3), pure=False)
    assert [future.result(timeout=120) for future in futures] == [inline] * 3


def test_trainers_that_are_mapped_over(client, inline):
    futures = client.map(lambda trainer: trainer.fit(X, batch_size=32, verbose=0).fingerprint, [new("auto") for _ in range(3)], pure=False)
    assert [future.result(timeout=120) for future in futures] == [inline] * 3


def test_a_delayed_fit(client, inline):
    assert dask.delayed(fit)().compute() == ("inline", inline)


def test_steps_are_measured_in_a_task(client):
    def measure():
        trainer = new("auto")
        trainer.fit(X, batch_size=32, verbose=0)
        return len(trainer.step_graph(1).measure())

    futures = [client.submit(measure, pure=False) for _ in range(2)]
    assert min(future.result(timeout=60) for future in futures) > 0


@pytest.mark.parametrize("engine", ["lanes", "scheduler"])
def test_the_users_annotations_do_not_apply_to_the_tasks_of_a_fit(client, inline, engine):
    with dask.annotate(resources={"none has it": 1}, workers=["tcp://127.0.0.1:1"], allow_other_workers=False, retries=2):
        trainer = new(engine)
        assert trainer.fit(da.from_array(X, chunks=(16, 8)), batch_size=32, verbose=0).fingerprint == inline
        trainer.evaluate(X)
        assert dask.get_annotations()["retries"] == 2
