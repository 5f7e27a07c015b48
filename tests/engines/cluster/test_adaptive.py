"""A cluster that starts workers when tasks need them, and closes them."""

import time

import numpy as np
import pytest
from distributed import Client

import dagtrain as dt
from dagtrain.engines.client import workers_of
from dagtrain.train.callbacks import Callback

X = np.random.default_rng(0).normal(size=(64, 8)).astype("f4")


@pytest.fixture(scope="module")
def client(local_cluster):
    """A client of a cluster that starts up to two workers when tasks need them."""
    with local_cluster(0) as cluster, Client(cluster) as client:
        cluster.adapt(minimum=0, maximum=2, interval="50ms", wait_count=2)
        yield client


def count_of(client):
    return len(workers_of(client))


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Grown(Callback):
    """Waits after the first epoch until the cluster has its maximum of workers."""

    def __init__(self, client):
        self.client = client

    def on_epoch_end(self, epoch, logs):
        if epoch == 0:
            until(lambda: count_of(self.client) == 2)


def fit(engine, **options):
    trainer = dt.Trainer(lambda w, x: np.mean(np.exp(x @ w)), parameters=np.full(8, 0.1, "f4"), shards=2, engine=engine)
    return trainer.fit(X, batch_size=16, epochs=3, verbose=0, **options)


@pytest.mark.parametrize("engine", ["lanes", "scheduler"])
def test_a_fit_starts_its_workers_and_lets_it_close_them(client, engine):
    for _ in range(2):
        until(lambda: count_of(client) == 0)
        history = fit(engine, callbacks=[Grown(client)] if engine == "lanes" else [])
        assert history.fingerprint == fit("inline").fingerprint
    until(lambda: count_of(client) == 0)
