"""Futures as data, and where data is."""

import time

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from dagtrain.data import open_source
from dagtrain.errors import DataError

distributed = pytest.importorskip("distributed")

X = np.random.default_rng(0).random((60, 4)).astype("f4")
LABELS = np.arange(60) % 3


@pytest.fixture
def client(threads):
    return threads


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


def test_futures_of_a_client_that_is_not_the_current_one(client):
    with distributed.Client(client.cluster, set_as_default=False) as other:
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
def test_persisted_data_is_resident_and_results_of_it_are_not(client, make, resident):
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


def test_the_client_gathers_only_answers(client, monkeypatch):
    gathered = []
    plain = distributed.Client.gather

    def gather(self, futures, *args, **kwargs):
        gathered.extend(f.key[0] for f in futures)
        return plain(self, futures, *args, **kwargs)

    monkeypatch.setattr(distributed.Client, "gather", gather)
    open_source(dd.from_pandas(pd.DataFrame(X), npartitions=3), da.from_array(LABELS, chunks=20), targets="classes")
    assert {name.partition("-")[0] for name in gathered} == {"look", "check"}


def test_partitions_are_released_after_the_check(client):
    open_source([dask.delayed(np.copy)(part) for part in np.split(X, 3)], LABELS, targets="classes")
    deadline = time.monotonic() + 20
    while held := client.run_on_scheduler(lambda dask_scheduler: [t.key for t in dask_scheduler.tasks.values() if t.state == "memory"]):
        assert time.monotonic() < deadline, held
        time.sleep(0.02)


def test_bad_values_in_futures_are_named(client):
    x = X.copy()
    x[47, 3] = np.nan
    with pytest.raises(DataError, match="row 47, column 3"):
        open_source(client.scatter(np.split(x, 3)), LABELS, targets="classes")
