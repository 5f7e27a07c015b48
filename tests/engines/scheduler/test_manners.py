"""The engine *scheduler* leaves nothing on the cluster, and submits nothing if the user's arguments are wrong."""

import asyncio
import gc
import time
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
from distributed import Client, wait

import dagtrain as dt
from dagtrain.errors import ArgumentError, ClusterError, DataError, NotScalarError, UnknownNameError


def tasks_on(client):
    return client.run_on_scheduler(lambda dask_scheduler: sorted(map(str, dask_scheduler.tasks)))


def data_on(client):
    keys_of = client.run(lambda dask_worker: sorted(map(str, dask_worker.data)))
    return sorted({key for keys in keys_of.values() for key in keys})


def eventually(look, expected, seconds=10):
    """Wait until ``look()`` returns this: futures are released in the background."""
    deadline = time.monotonic() + seconds
    while look() != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    assert look() == expected


def is_empty(client):
    gc.collect()
    eventually(lambda: sorted(map(str, client.futures)), [])
    eventually(lambda: tasks_on(client), [])
    eventually(lambda: data_on(client), [])


def test_nothing_is_left_behind(threads, digits, mixed):
    trainer = mixed.trainer(engine="scheduler")
    mixed.fit(trainer, validation_data=digits[2:])
    trainer.evaluate(*digits[2:])
    trainer.step_graph(2).compute()
    trainer.step_graph().measure()
    is_empty(threads)


def test_nothing_is_left_behind_by_chunks(threads, digits, mixed):
    trainer = mixed.trainer(engine="scheduler")
    mixed.fit(trainer, lambda array: da.from_array(array, chunks=50))
    trainer.predict(da.from_array(digits.x_validation, chunks=100)).compute()
    is_empty(threads)


def test_nothing_is_left_behind_by_an_error(threads, mixed):
    class Reporter(dt.callbacks.Callback):
        def on_train_batch_end(self, batch, logs):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        mixed.fit(mixed.trainer(engine="scheduler"), callbacks=[Reporter()])
    is_empty(threads)
    assert caught.value.__traceback__ is not None, "the error keeps its frames alive"


def test_the_users_own_data_stays(threads, mixed):
    x, y = (da.from_array(a[: mixed.rows], chunks=(50, 64)[: a.ndim]).persist() for a in mixed.digits[:2])
    other = threads.submit(lambda: np.arange(3), pure=False)
    wait([x, y, other])
    before = data_on(threads)
    assert len(before) == 9
    trainer = mixed.trainer(engine="scheduler")
    history = trainer.fit(x, y, epochs=mixed.epochs, batch_size=mixed.batch_size, verbose=0)
    assert history.fingerprint == mixed.inline.fingerprint
    eventually(lambda: data_on(threads), before)
    assert np.array_equal(y.compute(), mixed.digits.y[: mixed.rows])
    assert other.result().tolist() == [0, 1, 2]
    del x, y, other, trainer
    is_empty(threads)


def test_two_trainings_at_once_do_not_disturb_each_other(threads, mixed):
    with ThreadPoolExecutor(2) as pool:
        histories = list(pool.map(lambda _: mixed.fit(mixed.trainer(engine="scheduler", client=threads)), range(2)))
    assert {history.fingerprint for history in histories} == {mixed.inline.fingerprint}
    is_empty(threads)


def test_large_data_in_this_process_brings_no_warning(threads):
    """16 MB, more than Dask accepts in a graph without a warning; warnings are errors in these tests."""
    x = np.zeros((20_000, 200), "f4")
    trainer = dt.Trainer(lambda w, x: np.mean(x @ w), parameters=np.zeros(200, "f4"), shards=2, engine="scheduler")
    trainer.fit(x, batch_size=20_000, verbose=0)
    is_empty(threads)


X = np.random.default_rng(0).random((40, 6)).astype("f4")
LABELS = np.arange(40) % 3


def network(**options):
    model = dt.nn.Sequential([dt.nn.Dense(4), dt.nn.Dense(3)])
    return dt.Trainer(model, **{"loss": "cross_entropy", "shards": 4, "engine": "scheduler", **options})


def with_nan():
    x = X.copy()
    x[30, 2] = np.nan
    return x


WRONG = {
    "NaN": (DataError, lambda: network().fit(with_nan(), LABELS, verbose=0)),
    "labels": (DataError, lambda: network().fit(X, LABELS + 1, verbose=0)),
    "lengths": (DataError, lambda: network().fit(X, LABELS[:-1], verbose=0)),
    "empty": (DataError, lambda: network().fit(X[:0], LABELS[:0], verbose=0)),
    "validation": (DataError, lambda: network().fit(X, LABELS, validation_data=(X[:, :5], LABELS), verbose=0)),
    "shards": (ArgumentError, lambda: network().fit(da.from_array(X, chunks=9), LABELS, batch_size=3, verbose=0)),
    "samples": (DataError, lambda: network(shards=50).fit(X, LABELS, batch_size=64, verbose=0)),
    "epochs": (ArgumentError, lambda: network().fit(da.from_array(X, chunks=9), LABELS, epochs=0, verbose=0)),
    "metric": (UnknownNameError, lambda: network(metrics=["acuracy"]).fit(X, LABELS, verbose=0)),
    "dtype": (DataError, lambda: network().fit(da.from_array(X.astype("c8"), chunks=9), LABELS, verbose=0)),
    "cost": (
        NotScalarError,
        lambda: dt.Trainer(lambda w, x: w * np.mean(x), parameters=np.zeros(6, "f4"), engine="scheduler", shards=2).fit(X, verbose=0),
    ),
    "a bug in a cost": (
        KeyError,
        lambda: dt.Trainer(lambda w, x: w["none"], parameters={"w": np.zeros(6, "f4")}, engine="scheduler", shards=2).fit(X, verbose=0),
    ),
}


@pytest.mark.parametrize(("error", "use"), WRONG.values(), ids=WRONG)
def test_errors_come_before_any_task(threads, error, use):
    def seen():
        return threads.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)

    is_empty(threads)
    before = seen()
    with pytest.raises(error):
        use()
    assert seen() == before


def test_an_asynchronous_client_is_refused(threads):
    async def fit():
        async with Client(threads.scheduler.address, asynchronous=True) as client:
            network(client=client).fit(X, LABELS, verbose=0)

    with pytest.raises(ClusterError, match="asynchronous"):
        asyncio.run(fit())


def test_a_closed_client_is_refused(threads):
    client = Client(threads.scheduler.address, set_as_default=False)
    client.close()
    for x in (X, da.from_array(X, chunks=8)):
        with pytest.raises(ClusterError, match="the client is closed: make a new one"):
            network(client=client).fit(x, LABELS, verbose=0)


def test_the_trainers_client_precedes_the_current_one(threads, local_cluster, mixed):
    with local_cluster(1) as cluster, Client(cluster):
        history = mixed.fit(mixed.trainer(client=threads, engine="scheduler"))
    assert history.info["workers"] == 2
    assert history.fingerprint == mixed.inline.fingerprint


def test_keys_of_tasks_can_be_read(threads, mixed):
    mixed.fit(mixed.trainer(engine="scheduler"), epochs=1)
    prefixes = threads.run_on_scheduler(lambda dask_scheduler: set(dask_scheduler.task_prefixes))
    assert {"data", "state", "gradient", "total", "update", "sums", "begin"} <= prefixes
