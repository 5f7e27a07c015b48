"""A worker without enough memory for its part is killed at every attempt: an error says so, and nothing hangs."""

import numpy as np
import pytest
from distributed import Client

import dagtrain as dt
from dagtrain.engines.ranks import LanesEngine, SegmentPolicy
from dagtrain.errors import ClusterError


@pytest.mark.timeout(150)
def test_a_network_that_does_not_fit_is_an_error(local_cluster):
    """Twelve million parameters are 48 MB; with their gradient and Adam's slots, several times as much."""
    model = dt.nn.Sequential([dt.nn.Dense(6_000, "relu"), dt.nn.Dense(2_000)])
    x, y = np.ones((32, 10), "f4"), np.arange(32) % 2_000
    with local_cluster(1, processes=True, memory_limit="250MB") as cluster, Client(cluster) as client:
        engine = LanesEngine(client, policy=SegmentPolicy(failures=2, start=5, workers=10))
        trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(), shards=2, engine=engine)
        with pytest.raises(ClusterError) as caught:
            trainer.fit(x, y, epochs=3, verbose=0)
    assert "memory" in str(caught.value)
