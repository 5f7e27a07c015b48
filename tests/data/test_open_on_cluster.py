"""Sources on a Dask cluster: the check runs there, persisted blocks stay, and a partition lost with its worker is recomputed."""

import gc
import os
import signal

import dask.array as da
import numpy as np
import pytest

from dagtrain.data import open_source
from dagtrain.errors import DataError

distributed = pytest.importorskip("distributed")

X = np.random.default_rng(0).random((60, 4)).astype("f4")
LABELS = np.arange(60) % 3


def computed(client, source):
    return client.get(*source.tasks(), sync=False)


def test_the_check_runs_on_the_cluster_and_names_the_row(client):
    x = X.copy()
    x[47, 3] = np.nan
    with pytest.raises(DataError, match="row 47, column 3"):
        open_source(da.from_array(x, chunks=(20, 2)), LABELS, targets="classes")
    assert any(name.startswith("check") for name in client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes)))


def test_persisted_blocks_stay_while_the_source_lives(client):
    x = da.from_array(X, chunks=(20, 4)).persist()
    distributed.wait(x)
    source = open_source(x, LABELS, targets="classes")
    del x
    gc.collect()
    assert [part.shape for part, _ in client.gather(computed(client, source))] == [(20, 4)] * 3
    assert np.array_equal(source.local()[0], X)


@pytest.mark.parametrize("x", [X, da.from_array(X, chunks=(20, 4))], ids=["array", "chunks"])
def test_a_partition_lost_with_its_worker_comes_back(client, x):
    source = open_source(x, LABELS, targets="classes")
    futures = computed(client, source)
    distributed.wait(futures)
    (holder, *_) = client.who_has(futures[:1])[futures[0].key]
    os.kill(client.run(os.getpid, workers=[holder])[holder], signal.SIGKILL)
    parts = client.gather(futures)
    assert np.array_equal(np.concatenate([part for part, _ in parts]), X)
    assert np.array_equal(np.concatenate([labels for _, labels in parts]), LABELS)
