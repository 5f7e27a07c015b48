"""Workers that are asked to leave: retired, at the end of their lifetime, or by SIGTERM. No step is repeated, and the bits are the same."""

import asyncio
import os
import signal
import threading
from types import SimpleNamespace

import pytest
from distributed import Client

from dagtrain.engines.client import workers_of
from dagtrain.engines.ranks import LanesEngine, SegmentPolicy
from dagtrain.engines.ranks.leaving import LeavingNanny
from dagtrain.train.callbacks import LambdaCallback
from tests.each import rarely

pytestmark = [pytest.mark.cluster, pytest.mark.fault]


@pytest.fixture
def three(local_cluster):
    """A cluster for one test: it loses workers for good."""
    with local_cluster(3, processes=True) as cluster, Client(cluster) as made:
        yield made


def by_the_client(client, worker):
    client.retire_workers([worker])


def by_the_nanny(client, worker):
    """What `dask worker` does on SIGTERM, as from Kubernetes."""
    nanny = next(nanny for nanny in client.cluster.workers.values() if nanny.worker_address == worker)
    client.cluster.sync(nanny.close, timeout=10, reason="signal-15")


def by_a_signal(client, worker):
    """What Slurm does, which signals all processes."""
    (pid,) = client.run(os.getpid, workers=[worker]).values()
    os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("how", [by_the_client, rarely(by_the_nanny), by_a_signal])
def test_a_worker_leaves_between_two_segments(three, plain, how):
    worker = min(workers_of(three))
    thread = threading.Thread(target=how, args=(three, worker))

    def leave_then_stop(epoch, logs):
        if epoch == 1:
            thread.start()
        elif epoch > 1 and not thread.is_alive() and worker not in workers_of(three):
            trainer.stop()

    trainer = plain.trainer(engine=LanesEngine(three, policy=SegmentPolicy(most=1)))
    history = plain.fit(trainer, epochs=1000, callbacks=[LambdaCallback(on_epoch_end=leave_then_stop)])
    assert f"workers leave: {worker}; placed anew" in str(history.events)
    assert "repeated from step" not in str(history.events)
    assert history.fingerprint == plain.fit(plain.trainer(engine="inline"), epochs=history.epochs).fingerprint


def test_where_all_leave_a_fit_reaches_its_boundary(three, plain):
    """As where a job system ends workers and client at once."""

    def signal_then_stop(epoch, logs):
        if epoch == 1:
            for pid in three.run(os.getpid).values():
                os.kill(pid, signal.SIGTERM)
        elif epoch == 4:
            trainer.stop()

    trainer = plain.trainer(engine=LanesEngine(three, policy=SegmentPolicy(most=1)))
    history = plain.fit(trainer, epochs=1000, callbacks=[LambdaCallback(on_epoch_end=signal_then_stop)])
    assert (history.stopped, history.epochs) == ("stopped", 5)
    assert "repeated from step" not in str(history.events)
    assert history.fingerprint == plain.fit(plain.trainer(engine="inline"), epochs=5).fingerprint


def test_a_nanny_does_not_wait_for_a_worker_that_has_ended():
    """As where all processes receive SIGTERM and the cluster is closed: the worker's address answers no more."""

    async def close():
        answer, no_answer, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()
        answer.set()
        worker = SimpleNamespace(dagtrain_lanes_hello=answer.wait, dagtrain_lanes_leave=no_answer.wait)
        nanny = SimpleNamespace(process=SimpleNamespace(stopped=stopped), worker_address="w", address="n", rpc=lambda address: worker)
        asyncio.get_running_loop().call_soon(stopped.set)
        await asyncio.wait_for(LeavingNanny().teardown(nanny), 10)

    asyncio.run(close())
