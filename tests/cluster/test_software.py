"""Workers whose processor, as NumPy sees it, is another one."""

import dask
import numpy as np
import pytest
from distributed import Client

import dagtrain as dt
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
        pytest.skip("NumPy has nothing here that could be switched off")
    # NumPy looks at its environment when it is imported: by a worker that is not forked from a process that has done so.
    spawned = dask.config.set({"distributed.worker.multiprocessing-method": "spawn"})
    with pytest.MonkeyPatch.context() as patch, spawned:
        patch.setenv("NPY_DISABLE_CPU_FEATURES", " ".join(TARGETS))
        with local_cluster(1, processes=True) as cluster, Client(cluster) as client:
            yield client


@pytest.mark.parametrize("engine", ["lanes", "scheduler"])
def test_other_bits_are_warned_of_and_refused_where_they_must_be_exact(other, engine):
    with pytest.warns(UserWarning, match=r"worker tcp://.* has other software .*functions: .* there"):
        assert fit(engine) != fit("inline"), "the bits are other ones indeed"
    with pytest.raises(ClusterError, match=r"functions: .* leave out exact=True"):
        fit(engine, exact=True)
