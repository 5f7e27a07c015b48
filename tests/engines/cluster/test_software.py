"""Workers whose processor has other features for NumPy."""

import asyncio

import dask
import numpy as np
import pytest
from distributed import Client
from distributed.protocol import to_serialize

import dagtrain as dt
from dagtrain.engines import SchedulerEngine, Timeouts
from dagtrain.errors import ClusterError

TARGETS = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
X = np.random.default_rng(0).normal(size=(64, 8)).astype("f4")


def fit(engine, **options):
    trainer = dt.Trainer(
        lambda w, x: np.mean(np.exp(x @ w)), parameters=np.linspace(-1, 1, 512, dtype="f4").reshape(8, 64), shards=2, engine=engine
    )
    return trainer.fit(X, batch_size=32, verbose=0, **options).fingerprint


@pytest.fixture(scope="module")
def other(local_cluster):
    if not TARGETS:
        pytest.skip("NumPy uses no processor features here that could be disabled")
    # NumPy reads its environment at import: so the worker must not be forked from a process that has imported it.
    spawned = dask.config.set({"distributed.worker.multiprocessing-method": "spawn"})
    with pytest.MonkeyPatch.context() as patch, spawned:
        patch.setenv("NPY_DISABLE_CPU_FEATURES", " ".join(TARGETS))
        with local_cluster(1, processes=True) as cluster, Client(cluster) as client:
            yield client


@pytest.mark.parametrize("engine", ["lanes", "scheduler"])
def test_other_bits_are_a_warning_and_with_exact_an_error(other, engine):
    if engine == "scheduler":  # without exact, it does not wait for the answer of a slow worker
        engine = SchedulerEngine(other, timeouts=Timeouts(glance=60))
    with pytest.warns(UserWarning, match=r"worker tcp://.* has other software .*functions: .* there"):
        assert fit(engine) != fit("inline"), "the bits differ"
    with pytest.raises(ClusterError, match=r"functions: .* leave out exact=True"):
        fit(engine, exact=True)


def test_a_worker_that_does_not_answer_does_not_hide_the_software_of_others(threads):
    one, other = threads.cluster.workers.values()
    before = other.handlers["run"]

    async def no_answer(**message):
        await asyncio.sleep(60)

    async def answer(**message):
        return {"status": "OK", "result": to_serialize({"numpy": "1.0"})}

    one.handlers["run"], other.handlers["run"] = no_answer, answer
    try:
        with pytest.raises(ClusterError, match=r"numpy: 1.0 there"):
            fit(SchedulerEngine(threads, timeouts=Timeouts(answer=1)), exact=True)
    finally:
        one.handlers["run"] = other.handlers["run"] = before
