"""The engine *lanes* gives the bits of the engine *inline*, on any workers and over any channels."""

import threading

import dask.array as da
import pytest
from distributed import Client

import dagtrain as dt
from dagtrain.engines.ranks import LanesEngine, SegmentPolicy
from dagtrain.engines.ranks.driver import Driver
from dagtrain.engines.ranks.rank import Rank
from dagtrain.engines.ranks.worker_plugin import RanksWorkerPlugin
from dagtrain.transport import communicator
from tests.each import rarely
from tests.step.remembering import Remembers

pytestmark = pytest.mark.combined


def same_run(found, wanted):
    """Equal weights, and the same loss and metrics on the way, to the last bit."""
    assert found.info["engine"] == "lanes"
    assert found.fingerprint == wanted.fingerprint
    assert found.history["loss"] == wanted.history["loss"]
    assert found.history["accuracy"] == wanted.history["accuracy"]
    assert found.history["f1"] == wanted.history["f1"]
    assert found.events == []


def test_threads_of_this_process_change_nothing(recipe):
    assert recipe.fit(recipe.trainer(engine="inline", threads=4)).fingerprint == recipe.inline.fingerprint


@pytest.mark.parametrize("workers", [3, 2, 1])
def test_any_number_of_workers(cluster, scale, recipe, workers):
    with Client(cluster) as client:
        scale(client, workers)
        history = recipe.fit(recipe.trainer(engine="lanes"))
    assert history.info["workers"] == workers
    same_run(history, recipe.inline)


@pytest.mark.parametrize("channel", ["shared", "socket", "comm"])
def test_any_channel(client, kinds, looking, recipe, channel):
    look = looking(lambda: kinds(client))
    same_run(recipe.fit(recipe.trainer(engine=LanesEngine(client, channel=channel)), callbacks=[look]), recipe.inline)
    assert look.seen == [{channel}] * recipe.epochs


def test_groups_of_parameters_on_every_engine(client, digits, thorough):
    """Two optimisers, a frozen layer and one that follows, norms of all, of a group and by parameter; also in parts that go ahead."""
    within = dt.optim.chain(dt.optim.clip_by_global_norm(0.2), dt.optim.adam(1e-2))
    follows = {"dense_4.*": dt.optim.track("dense_3.*", 0.1)}
    rules = {**follows, "*.bias": dt.optim.sgd(0.1, momentum=0.9), "dense_2.*": dt.optim.frozen(), "*": within}
    optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(0.5), dt.optim.by_name(rules))

    def fit(engine):
        layers = [dt.nn.Dense(48, "tanh"), dt.nn.BatchNorm(), dt.nn.Dense(40, "tanh"), dt.nn.Dense(40), dt.nn.Dense(40), dt.nn.Dense(10)]
        trainer = dt.Trainer(dt.nn.Sequential(layers), loss="cross_entropy", optimizer=optimizer, shards=8, engine=engine)
        trainer.fit(digits.x[:196], digits.y[:196], epochs=1, batch_size=64, verbose=0)
        others = {"dense_1.*": dt.optim.lamb(1e-3), "*.bias": dt.optim.every(2, dt.optim.adam(1e-3)), "*": within}
        trainer.optimizer = dt.optim.by_name({**follows, **others})
        return trainer.fit(digits.x[:196], digits.y[:196], epochs=1, batch_size=64, verbose=0).fingerprint, trainer.state.slots

    fingerprint, slots = fit("inline")
    for engine in (*["lanes"] * thorough, LanesEngine(client, channel="socket", bucket_bytes=0), "scheduler"):
        found = fit(engine)
        assert found[0] == fingerprint
        assert {name: slot.tobytes() for name, slot in found[1].items()} == {name: slot.tobytes() for name, slot in slots.items()}


def test_several_losses_with_different_weights_on_every_engine(cluster, scale, digits, monkeypatch, thorough):
    """The weights of a batch come before its gradients, also where messages are cut into parts; the last batch has four samples."""
    monkeypatch.setattr("dagtrain.step.group_update.BLOCK", 256)
    x, labels = digits.x[:196], digits.y[:196]
    y = {"kind": labels, "size": labels.astype("f4")}
    weights = {"kind": (labels < 7).astype("f4"), "size": (labels % 3).astype("f4")}

    def fit(engine):
        inputs = dt.nn.Input((64,), name="x")
        h = dt.nn.Dense(16, "tanh")(inputs)
        model = dt.nn.Model(inputs, {"kind": dt.nn.Dense(10)(h), "size": dt.nn.Dense(1)(h)})
        loss = {"kind": "cross_entropy", "size": "mean_squared_error"}
        trainer = dt.Trainer(model, loss=loss, loss_weights={"size": 0.1}, metrics={"kind": ["accuracy"]}, shards=8, engine=engine)
        history = trainer.fit(x, y, sample_weight=weights, epochs=2, batch_size=64, verbose=0)
        assert trainer.program.weight_count == 2
        assert history.events == []
        return history.fingerprint, history.history["loss"], history.history["kind_accuracy"]

    expected = fit("inline")
    with Client(cluster) as client:
        for workers in (1, 2, 3) if thorough else (3,):
            scale(client, workers)
            assert fit("lanes") == expected
        assert fit(LanesEngine(client, channel="socket", bucket_bytes=0)) == expected
        assert fit("scheduler") == expected


@pytest.fixture
def layered(digits, monkeypatch):
    """``layered(engine)``: history of a network whose gradients become final in many parts; with and without a norm."""

    def fit(engine, norm=True, block=512, **options):
        monkeypatch.setattr("dagtrain.step.group_update.BLOCK", block)
        layers = [dt.nn.Dense(48, "tanh"), dt.nn.BatchNorm(), Remembers(), dt.nn.Dense(40, "tanh"), dt.nn.Dropout(0.2)]
        model = dt.nn.Sequential([*layers, dt.nn.Dense(32, "relu"), dt.nn.Dense(10)])
        optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(0.5), dt.optim.adam(1e-2)) if norm else dt.optim.adam(1e-2)
        trainer = dt.Trainer(model, loss="cross_entropy", metrics=["accuracy", "f1"], optimizer=optimizer, shards=8, engine=engine)
        return trainer.fit(digits.x[:196], digits.y[:196], epochs=3, batch_size=64, verbose=0, **options)

    return fit


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "no norm"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("channel", ["socket", "comm"])
def test_parts_that_go_ahead(local_cluster, layered, looking, norm, threads, channel):
    """What is sent goes layer by layer: partial sums while the rest is computed, parameters while the next step begins."""
    parts = []

    def look():
        parts.extend(len(rank._streams.parameters) for rank in ranks_of(worker))

    with local_cluster(3, threads) as cluster, Client(cluster) as client:
        worker = next(iter(cluster.workers.values()))
        engine = LanesEngine(client, channel=channel, bucket_bytes=0)
        found = layered(engine, norm, callbacks=[looking(look if channel == "socket" else lambda: None)])
        same_run(found, layered("inline", norm))
    assert channel == "comm" or min(parts) > 3


@pytest.mark.parametrize(("hosts", "block"), [("AABB", 512), ("ABAB", 4096), ("AAAAB", 4096)])
@pytest.mark.parametrize("threads", [1, 2])
def test_ranks_of_several_hosts_with_several_ranks_each(local_cluster, monkeypatch, looking, layered, hosts, block, threads):
    """Some are read in place while others are sent to; where there are few blocks, the last rank owns none."""
    host_of, here = {}, threading.local()
    meet, worker_infos, host = Rank._meet, Driver._worker_infos, communicator.host

    def meet_on_a_host(self, parts):
        here.name = host_of[self.plugin.worker.address]
        meet(self, parts)

    def on_hosts(self, workers):
        return [info._replace(host=host_of[info.address]) for info in worker_infos(self, workers)]

    monkeypatch.setattr(Rank, "_meet", meet_on_a_host)
    monkeypatch.setattr(communicator, "host", lambda: {**host(), "network_namespace": ord(here.name)})
    monkeypatch.setattr(Driver, "_worker_infos", on_hosts)
    with local_cluster(len(hosts), threads) as cluster, Client(cluster) as client:
        workers = sorted(worker.address for worker in cluster.workers.values())
        host_of.update(zip(workers, hosts, strict=True))
        look = looking(lambda: [sorted(rank._communicator.kinds.values()) for w in cluster.workers.values() for rank in ranks_of(w)])
        same_run(layered(LanesEngine(client, bucket_bytes=0), block=block, callbacks=[look]), layered("inline", block=block))
    assert {kind for kinds in look.seen[0] for kind in kinds} == {"shared", "socket"}


def ranks_of(worker):
    return worker.plugins[RanksWorkerPlugin.name].ranks.values()


def test_parts_that_go_ahead_encrypted(encrypted, layered, kinds, looking):
    with Client(encrypted) as client:
        look = looking(lambda: kinds(client))
        same_run(layered(LanesEngine(client, channel="socket", bucket_bytes=0), callbacks=[look]), layered("inline"))
    assert look.seen == [{"socket"}] * 3


@pytest.mark.parametrize("channel", [None, "socket", "comm"])
def test_a_cluster_that_talks_tls(encrypted, kinds, looking, mixed, channel):
    with Client(encrypted) as client:
        look = looking(lambda: kinds(client))
        same_run(mixed.fit(mixed.trainer(engine=LanesEngine(client, channel=channel)), callbacks=[look]), mixed.inline)
    assert look.seen == [{channel or "shared"}] * mixed.epochs


@pytest.mark.parametrize("processes", [True, False], ids=["process", "thread"])
def test_workers_of_two_threads(local_cluster, recipe, processes):
    with local_cluster(2, 2, processes) as cluster, Client(cluster):
        same_run(recipe.fit(recipe.trainer(engine="lanes")), recipe.inline)


@pytest.mark.parametrize("channel", ["shared", "socket", "comm"])
def test_workers_within_this_process(local_cluster, mixed, channel):
    with local_cluster(3) as cluster, Client(cluster) as client:
        same_run(mixed.fit(mixed.trainer(engine=LanesEngine(client, channel=channel))), mixed.inline)


@pytest.mark.parametrize("shards", [1, rarely(2), 5, rarely(7)])
def test_shards_that_workers_cannot_share_evenly(client, mixed, shards):
    """Of three workers, some are left over where there are fewer shards."""
    wanted = mixed.fit(mixed.trainer(engine="inline", shards=shards))
    same_run(mixed.fit(mixed.trainer(engine="lanes", shards=shards)), wanted)


OPTIMIZERS = {
    "no vectors": lambda: dt.optim.sgd(0.1),
    "one vector": lambda: dt.optim.sgd(0.1, momentum=0.9),
    "a norm before": lambda: dt.optim.chain(dt.optim.clip_by_global_norm(0.1), dt.optim.sgd(0.1)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("units", [8, 1200], ids=["one block", "blocks"])
def test_any_state_of_an_optimizer(client, digits, optimizer, units):
    def fit(engine):
        model = dt.nn.Sequential([dt.nn.Dense(units, "relu"), dt.nn.Dense(10)])
        trainer = dt.Trainer(model, loss="cross_entropy", metrics=["accuracy", "f1"], optimizer=optimizer(), shards=8, engine=engine)
        return trainer.fit(digits.x[:196], digits.y[:196], epochs=2, batch_size=64, verbose=0)

    same_run(fit("lanes"), fit("inline"))


@pytest.mark.parametrize("most", [1, 3])
def test_where_segments_end_changes_nothing(client, plain, most):
    same_run(plain.fit(plain.trainer(engine=LanesEngine(client, policy=SegmentPolicy(most=most)))), plain.inline)


@pytest.mark.parametrize("persisted", [True, False], ids=["persisted", "lazy"])
def test_any_chunks(client, mixed, persisted):
    def wrap(array):
        found = da.from_array(array, chunks=((100, 1, 95), (60, 4))[: array.ndim])
        return found.persist() if persisted else found

    same_run(mixed.fit(mixed.trainer(engine="lanes"), wrap), mixed.inline)


def test_validation_and_evaluation_agree_between_engines(client, digits, mixed):
    found = []
    for engine in ("inline", "lanes"):
        trainer = mixed.trainer(engine=engine)
        history = mixed.fit(trainer, validation_data=digits[2:]).history
        found.append((history["val_loss"], history["val_accuracy"], trainer.evaluate(*digits[2:])))
    assert found[0] == found[1]


def test_engines_may_take_turns(client, mixed):
    """One epoch here, one there: the state is all that goes on."""
    trainer = mixed.trainer(engine="lanes")
    mixed.fit(trainer, epochs=1)
    trainer.engine = "scheduler"
    assert mixed.fit(trainer, epochs=1).fingerprint == mixed.inline.fingerprint
    trainer = mixed.trainer(engine="inline")
    mixed.fit(trainer, epochs=1)
    trainer.engine = "lanes"
    assert mixed.fit(trainer, epochs=1).fingerprint == mixed.inline.fingerprint


def test_a_checkpoint_is_gone_on_with_by_another_number_of_workers(cluster, client, scale, tmp_path, mixed):
    mixed.fit(mixed.trainer(engine="lanes"), epochs=1, checkpoint=tmp_path)
    scale(client, 2)
    history = mixed.fit(mixed.trainer(engine="lanes"), checkpoint=tmp_path, resume=True)
    assert history.info["workers"] == 2
    assert history.fingerprint == mixed.inline.fingerprint
