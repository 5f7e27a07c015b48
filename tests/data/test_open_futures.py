"""Futures as data, what lies where, and waits that end: on a cluster whose workers come and go."""

import logging
import threading
import time

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from dagtrain.data import open_source
from dagtrain.errors import ClusterError, DataError

distributed = pytest.importorskip("distributed")
waiting = pytest.importorskip("dagtrain.cluster.waiting")

X = np.random.default_rng(0).random((60, 4)).astype("f4")
LABELS = np.arange(60) % 3


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0", memory_limit=0) as made:
        yield made


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as made:
        cluster.scale(1)
        made.wait_for_workers(1, timeout=30)
        yield made


@pytest.fixture
def empty(cluster, client):
    """A client of the cluster when it has no workers."""
    cluster.scale(0)
    deadline = time.monotonic() + 30
    while client.scheduler_info()["workers"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return client


def impatient(monkeypatch, **patience):
    monkeypatch.setattr(waiting, "PATIENCE", waiting.Patience(**{"glance": 0.1, **patience}))


def check(source, rows=20):
    assert source.sizes == (rows,) * (60 // rows)
    x, y = source.local()
    assert np.array_equal(x, X)
    assert np.array_equal(y, LABELS)


def test_futures_of_arrays(client):
    x, y = client.scatter(np.split(X, 3)), client.scatter(np.split(LABELS, 3))
    source = open_source(x, y, targets="classes", classes=3)
    assert source.resident
    assert source.origins == tuple((min(a.key, b.key), max(a.key, b.key)) for a, b in zip(x, y, strict=True))
    check(source)


def test_futures_of_pairs(client):
    futures = client.map(lambda i: (X[i : i + 20], LABELS[i : i + 20]), [0, 20, 40], pure=False)
    source = open_source(futures, targets="classes", classes=3)
    assert (source.resident, source.origins) == (True, tuple((f.key,) for f in futures))
    check(source)


def test_one_future_is_one_partition(client):
    check(open_source(client.scatter(X), LABELS, targets="classes"), 60)


def test_futures_are_held_while_the_source_lives(client):
    futures = client.scatter(np.split(X, 3))
    source = open_source(futures, LABELS, targets="classes")
    del futures
    check(source)


def test_futures_of_a_client_that_is_not_the_current_one(client, cluster):
    with distributed.Client(cluster, set_as_default=False) as other:
        futures = other.scatter(np.split(X, 3))
        with dask.config.set(scheduler="sync"):
            check(open_source(futures, LABELS, targets="classes"))


@pytest.mark.parametrize(
    ("make", "resident"),
    [
        (lambda: da.from_array(X, chunks=(20, 4)), False),
        (lambda: da.from_array(X, chunks=(20, 4)).persist(), True),
        (lambda: da.from_array(X, chunks=(20, 4)).persist() + 1, False),
        (lambda: dd.from_pandas(pd.DataFrame(X), npartitions=3), False),
        (lambda: dd.from_pandas(pd.DataFrame(X), npartitions=3).persist(), True),
        (lambda: dd.from_pandas(pd.DataFrame(X), npartitions=3).persist() * 2, False),
    ],
    ids=["array", "persisted array", "of a persisted array", "frame", "persisted frame", "of a persisted frame"],
)
def test_persisted_data_is_resident_and_what_is_computed_from_it_is_not(client, make, resident):
    x = make()
    values = np.asarray(x.compute())
    assert open_source(x, LABELS, targets="classes").resident is resident
    assert np.array_equal(open_source(x, LABELS, targets="classes").local()[0], values)
    lazy_labels = da.from_array(LABELS, chunks=20).map_blocks(lambda block: block.copy(), dtype=LABELS.dtype)
    assert open_source(x, lazy_labels, targets="classes").resident is False


def test_origins_are_the_persisted_blocks_of_each_partition(client):
    x = da.from_array(X, chunks=(10, 4)).persist()
    source = open_source((x + 1).rechunk((20, 4)), LABELS, targets="classes")
    assert np.array_equal(source.local()[0], X + 1)
    assert source.origins == tuple(((x.name, i, 0), (x.name, i + 1, 0)) for i in (0, 2, 4))


def test_only_answers_come_to_the_client(client, monkeypatch):
    gathered = []
    plain = distributed.Client.gather

    def gather(self, futures, *args, **kwargs):
        gathered.extend(f.key[0] for f in futures)
        return plain(self, futures, *args, **kwargs)

    monkeypatch.setattr(distributed.Client, "gather", gather)
    open_source(dd.from_pandas(pd.DataFrame(X), npartitions=3), da.from_array(LABELS, chunks=20), targets="classes")
    assert {name.partition("-")[0] for name in gathered} == {"look", "check"}


def test_partitions_are_let_go_after_the_check(client):
    open_source([dask.delayed(np.copy)(part) for part in np.split(X, 3)], LABELS, targets="classes")
    deadline = time.monotonic() + 20
    while held := client.run_on_scheduler(lambda dask_scheduler: [t.key for t in dask_scheduler.tasks.values() if t.state == "memory"]):
        assert time.monotonic() < deadline, held
        time.sleep(0.02)


def test_a_cluster_without_workers_is_waited_for_and_the_wait_is_told(empty, cluster, monkeypatch, caplog):
    impatient(monkeypatch, workers=60)
    x = da.from_array(X, chunks=(20, 4)).map_blocks(np.copy)
    with caplog.at_level(logging.WARNING, "dagtrain"):
        threading.Timer(0.5, cluster.scale, [1]).start()
        source = open_source(x, LABELS, targets="classes")
    assert [record.getMessage() for record in caplog.records] == ["the cluster has no workers: waiting up to 60 s for one."]
    check(source)


def test_a_cluster_that_gets_no_workers_is_an_error(empty, monkeypatch):
    impatient(monkeypatch, workers=0.3)
    with pytest.raises(ClusterError, match=r"no workers, and none came within 0\.3 s"):
        open_source(da.from_array(X, chunks=(20, 4)), LABELS, targets="classes")


def test_a_cluster_that_finishes_nothing_is_an_error_that_says_where(client, monkeypatch):
    impatient(monkeypatch, progress=0.4)
    with pytest.raises(ClusterError, match=r"no task was finished for 0.4 s: \d are left on 1 workers, .* runs on inproc://.*log"):
        open_source([dask.delayed(time.sleep)(3)], LABELS, targets="classes")


def test_as_long_as_tasks_are_finished_the_wait_goes_on(client, monkeypatch):
    impatient(monkeypatch, progress=1.5, glance=0.05)

    def slowly(i):
        time.sleep(0.5)
        return X[i : i + 10]

    began = time.monotonic()
    source = open_source([dask.delayed(slowly)(i) for i in range(0, 60, 10)], LABELS, targets="classes")
    assert time.monotonic() - began > 1.5
    assert source.samples == 60


def test_the_error_of_a_task_does_not_wait_for_the_others(client, monkeypatch):
    impatient(monkeypatch, progress=2)
    with pytest.raises(FileNotFoundError, match="part-7"):
        open_source([dask.delayed(time.sleep)(6), dask.delayed(open)("/nowhere/part-7")], LABELS, targets="classes")


def test_scattered_data_that_was_lost_with_its_worker_is_an_error(client, cluster, monkeypatch):
    impatient(monkeypatch, progress=5)
    futures = client.scatter(np.split(X, 3))
    cluster.scale(0)
    deadline = time.monotonic() + 30
    while client.scheduler_info()["workers"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    cluster.scale(1)
    client.wait_for_workers(1, timeout=30)
    with pytest.raises(ClusterError, match="scattered"):
        open_source(futures, LABELS, targets="classes")


def test_bad_values_in_futures_are_named(client):
    x = X.copy()
    x[47, 3] = np.nan
    with pytest.raises(DataError, match="row 47, column 3"):
        open_source(client.scatter(np.split(x, 3)), LABELS, targets="classes")
