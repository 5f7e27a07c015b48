"""Predictions on a cluster: the model is sent once, futures stay on their workers, lost workers are replaced."""

import os
import signal

import dask
import dask.array as da
import numpy as np
import pytest

import dagtrain as dt

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def trained(plain):
    trainer = plain.trainer(engine="inline", threads=1)
    plain.fit(trainer, epochs=1)
    return trainer


def model_of(predictions):
    (key,) = [key for key in dict(predictions.__dask_graph__()) if str(key).startswith("model-")]
    return dict(predictions.__dask_graph__())[key]


def test_the_model_is_a_future_and_the_bits_are_those_of_arrays(client, trained, digits):
    predictions = trained.predict(da.from_array(digits.x, chunks=(200, 64)))
    assert isinstance(model_of(predictions), distributed.Future)
    blocks = dask.compute(*predictions.to_delayed().ravel())
    parts = np.split(digits.x, range(200, len(digits.x), 200))
    assert all(np.array_equal(block, trained.predict(part)) for block, part in zip(blocks, parts, strict=True))


def test_the_same_weights_are_sent_once(client, trained, digits):
    first, second = (trained.predict(da.from_array(digits.x, chunks=(n, 64))) for n in (200, 300))
    assert model_of(first).key == model_of(second).key


def test_futures_give_an_array_of_known_sizes(client, trained, digits):
    parts = np.split(digits.x, [100, 700])
    predictions = trained.predict(client.scatter(parts))
    assert predictions.chunks == ((100, 600, 737), (10,))
    assert np.array_equal(predictions.compute(), np.concatenate([trained.predict(part) for part in parts]))


def test_dask_restores_the_model_when_its_worker_dies(client, trained, digits):
    predictions = trained.predict(da.from_array(digits.x, chunks=(200, 64)))
    model = model_of(predictions)
    distributed.wait(model)
    (holder, *_) = client.who_has([model])[model.key]
    os.kill(client.run(os.getpid, workers=[holder])[holder], signal.SIGKILL)
    assert predictions.compute().shape == (1437, 10)


def test_evaluation_inline_of_data_on_the_cluster(client, trained, digits):
    x = client.scatter(np.split(digits.x, [100, 700]))
    assert trained.evaluate(x, digits.y) == trained.evaluate(digits.x, digits.y)


def test_fit_with_futures_of_pairs_has_the_same_bits(client, plain, digits, trained):
    pairs = list(zip(np.split(digits.x, [100, 700]), np.split(digits.y, [100, 700]), strict=True))
    futures = client.map(lambda i: pairs[i], range(3), pure=False)
    trainer = plain.trainer(engine="scheduler")
    history = trainer.fit(futures, epochs=1, batch_size=plain.batch_size, verbose=0)
    assert history.fingerprint == trained.history.fingerprint


def test_local_order_on_the_cluster_is_that_of_this_process(client, plain):
    def wrap(array):
        return da.from_array(array, chunks=(300, *array.shape[1:]))

    histories = [plain.fit(plain.trainer(engine=engine), wrap, epochs=1, shuffle="local") for engine in ("inline", "scheduler")]
    assert histories[0].fingerprint == histories[1].fingerprint


def test_the_trainers_client_computes_and_not_the_current_one(cluster, digits, plain, tmp_path):
    """Also data that is read before and after training."""

    def noted(block):
        (tmp_path / str(os.getpid())).touch()
        return block

    schedulers, arrays = [], (digits.x, digits.y, digits.x_validation)
    x, y, held = (da.from_array(a, chunks=(200, *a.shape[1:])).map_blocks(noted, meta=a[:0]) for a in arrays)
    with distributed.Client(cluster, set_as_default=False) as client:
        pids = {*client.run(os.getpid).values()}
        trainer = plain.trainer(engine="lanes", client=client)
        looking = dt.callbacks.LambdaCallback(on_epoch_end=lambda *_: schedulers.append(dask.config.get("scheduler", None)))
        trainer.fit(x, y, epochs=1, batch_size=256, verbose=0, validation_data=(held, digits.y_validation), callbacks=[looking])
        trainer.evaluate(held, digits.y_validation)
        predictions = client.compute(trainer.predict(held)).result()
    assert predictions.shape == (len(digits.y_validation), 10)
    assert {int(path.name) for path in tmp_path.iterdir()} <= pids
    assert schedulers == [None], "Dask's scheduler is unchanged for other threads of this process"
