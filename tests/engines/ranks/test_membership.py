"""Workers, clients and schedulers join and leave: the weights stay the same, or an error says how to continue."""

import dask
import pytest
from distributed import Client

from dagtrain.engines.client import wait_for_workers, workers_of
from dagtrain.engines.ranks import LanesEngine, SegmentPolicy
from dagtrain.errors import ClusterError
from dagtrain.train.callback import Callback
from tests.engines.ranks.runs import at_epoch, ranks, ranks_of, same_weights

pytestmark = pytest.mark.combined


@pytest.fixture
def threads(local_cluster):
    """A client of a cluster of three workers in this process, for one test alone."""
    with dask.config.set(scheduler=None), local_cluster(3) as cluster, Client(cluster) as client:
        yield client


def test_workers_that_join_are_used(threads, plain, eventually):
    threads.cluster.scale(1)
    eventually(lambda: len(workers_of(threads)), 1)
    seen = []

    class Reporter(Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch + 1 == 1:
                threads.cluster.scale(3)
                wait_for_workers(threads, 3, 60)
            seen.append(ranks_of(threads))

    history = plain.fit(plain.trainer(engine=ranks(threads)), callbacks=[Reporter()])
    same_weights(history, plain.inline)
    assert seen[-1] == [1, 1, 1]
    assert "workers joined" in str(history.events)


def test_workers_that_are_retired(threads, plain):
    retired = sorted(workers_of(threads))[:2]
    history = plain.fit(plain.trainer(engine=ranks(threads)), callbacks=[at_epoch(1, lambda: threads.retire_workers(retired))])
    same_weights(history, plain.inline)
    assert len(workers_of(threads)) == 1
    assert "was lost; " not in str(history.events), "the event says that it was retired"


def test_a_cluster_scaled_down(threads, plain):
    history = plain.fit(plain.trainer(engine=ranks(threads)), callbacks=[at_epoch(1, lambda: threads.cluster.scale(1))])
    same_weights(history, plain.inline)


def test_an_adaptive_cluster_may_shrink(threads, plain, eventually):
    def shrink():
        threads.cluster.adapt(minimum=1, maximum=1, interval="50ms", wait_count=1)

    history = plain.fit(plain.trainer(engine=ranks(threads)), epochs=plain.epochs, callbacks=[at_epoch(1, shrink)])
    same_weights(history, plain.inline)
    eventually(lambda: len(workers_of(threads)), 1)


def test_no_worker_at_all_is_an_error_and_not_a_wait(local_cluster, plain):
    expected = pytest.raises(ClusterError, match=r"the cluster has no workers, and none came within 0\.5 s")
    with local_cluster(0) as cluster, Client(cluster) as client, expected:
        plain.fit(plain.trainer(engine=LanesEngine(client, policy=SegmentPolicy(workers=0.5))))


# ---- gone for good


def test_a_scheduler_that_is_gone_and_a_checkpoint_on_another_cluster(client, local_cluster, plain, tmp_path):
    # A client closed while it is the current one leaves Dask's setting behind, and one that lost its scheduler tries to reconnect.
    quick = dask.config.set({"scheduler": None, "distributed.comm.timeouts.connect": "3s"})
    with quick, local_cluster(2) as cluster, Client(cluster) as other:

        def close():
            cluster.sync(cluster.scheduler.close)

        trainer = plain.trainer(engine=ranks(other))
        with pytest.raises(ClusterError, match=r"the scheduler at .* does not answer.*resume=True"):
            plain.fit(trainer, checkpoint=tmp_path, callbacks=[at_epoch(2, close)])
    history = plain.fit(plain.trainer(engine=ranks(client)), checkpoint=tmp_path, resume=True)
    same_weights(history, plain.inline)
    assert history.events[0].kind == "resume"


def test_a_client_closed_during_training_is_an_error(threads, plain):
    with Client(threads.scheduler.address, set_as_default=False) as other, pytest.raises(ClusterError):
        plain.fit(plain.trainer(engine=ranks(other)), callbacks=[at_epoch(1, other.close)])
