"""Engines, callbacks and comparisons of the tests in which workers fail, come and go."""

from dagtrain.engines.ranks import LanesEngine, SegmentPolicy
from dagtrain.train.callbacks import LambdaCallback


def ranks(client, **options):
    """An engine with segments of two steps, so that faults find several of them running."""
    return LanesEngine(client, **{"policy": SegmentPolicy(most=2), **options})


def same_weights(history, expected):
    assert history.fingerprint == expected.fingerprint
    assert history.history["loss"] == expected.history["loss"]


def at_epoch(number, do):
    """A callback that calls a function after this epoch, counted from 1."""
    return LambdaCallback(on_epoch_end=lambda epoch, logs: epoch + 1 == number and do())


def ranks_of(client):
    """The number of ranks of each worker, sorted."""
    return sorted(client.run(lambda dask_worker: len(getattr(dask_worker.plugins.get("dagtrain-lanes"), "ranks", ()))).values())
