"""However the rows come to the ranks, the weights are the same, and every sample is used once."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest

import dagtrain as dt
from dagtrain.data.columns import Columns
from dagtrain.engines import LanesEngine, MemoryLimits
from dagtrain.engines.client import workers_of
from dagtrain.engines.ranks.input_pipeline import InputPipeline
from dagtrain.errors import ClusterError
from dagtrain.graph import Spec

ROWS = 600
LIMITS = {
    "resident": MemoryLimits(1 << 30, 1 << 30, 1 << 20),
    "picked": MemoryLimits(0, 1 << 30, 40_000),
    "streamed": MemoryLimits(0, 0, 40_000),
}


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    draw = np.random.default_rng(5)
    x = draw.normal(size=(ROWS, 13)).astype("f4")  # rows of 52 bytes: most begin at no round address
    return x, (x[:, 0] > 0).astype("i8")


def fitted(engine: Any, x: Any, y: Any, shuffle: Any = True, epochs: int = 2, **options: Any) -> Any:
    model = dt.nn.Sequential([dt.nn.Dense(32, "tanh"), dt.nn.Dense(2)])
    trainer = dt.Trainer(model, loss="cross_entropy", metrics=["accuracy"], shards=4, seed=3, engine=engine, **options)
    trainer.fit(x, y, epochs=epochs, batch_size=64, shuffle=shuffle, verbose=0)
    trainer.ledger().verify()
    assert all(trainer.ledger().complete(epoch) for epoch in range(epochs))
    return trainer.history


@pytest.mark.combined
@pytest.mark.filterwarnings("default:the data .* does not fit:UserWarning")
@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("memory_limits", LIMITS)
def test_one_result_however_rows_are_brought(client: Any, data: Any, memory_limits: str, lazy: bool) -> None:
    x, y = data
    if lazy:
        x, y = da.from_array(x, chunks=(170, 13)), da.from_array(y, chunks=170)
    history, wanted = fitted(LanesEngine(client, memory_limits=LIMITS[memory_limits]), x, y), fitted("inline", *data)
    assert history.fingerprint == wanted.fingerprint
    assert history.history["loss"] == wanted.history["loss"]


@pytest.mark.parametrize("memory_limits", ["picked", "streamed"])
def test_shards_that_keep_to_their_partitions(client: Any, data: Any, memory_limits: str) -> None:
    x, y = da.from_array(data[0], chunks=(100, 13)), da.from_array(data[1], chunks=100)
    wanted = fitted("inline", x, y, shuffle="local")
    assert fitted(LanesEngine(client, memory_limits=LIMITS[memory_limits]), x, y, shuffle="local").fingerprint == wanted.fingerprint
    assert fitted("inline", x, y, shuffle=True).fingerprint != wanted.fingerprint


def test_ranks_lie_where_the_partitions_of_their_shards_do(client: Any, data: Any) -> None:
    """Four partitions, each of one shard and persisted on a worker of its own choice, here the last one first."""
    workers = sorted(workers_of(client))[:2]
    x, y = da.from_array(data[0], chunks=(150, 13)), da.from_array(data[1], chunks=150)
    parts = [client.persist(da.concatenate([p]), workers=[workers[1 - i // 2]]) for a in (x, y) for i, p in enumerate(a.blocks)]
    x, y = da.concatenate(parts[:4]), da.concatenate(parts[4:])
    seen = {}

    class Looking(LanesEngine):
        def session(self, program: Any, source: Any, exact: bool = False) -> Any:
            made = super().session(program, source, exact)
            seen["session"] = made
            return made

    fitted(Looking(client, memory_limits=LIMITS["picked"]), x, y, shuffle="local", epochs=1)
    session = seen["session"]
    near = {rank.worker: rank.shards for rank in session.placements[-1].ranks}
    assert set(near[workers[1]]) & {0, 1}
    assert set(near[workers[0]]) & {2, 3}


def test_segments_are_as_short_as_their_rows_demand(client: Any, data: Any) -> None:
    """A bound of one row still trains, a step at a time."""
    tight = LanesEngine(client, memory_limits=MemoryLimits(0, 0, 1))
    assert fitted(tight, *data, epochs=1).fingerprint == fitted("inline", *data, epochs=1).fingerprint


def part(folder: str, number: int) -> np.ndarray[Any, Any]:
    """A partition that can be computed once."""
    try:
        (Path(folder) / str(number)).touch(exist_ok=False)
    except FileExistsError:
        raise ValueError("it is there no more") from None
    return np.full((100, 13), number, "f4")


@pytest.mark.filterwarnings("default:the data .* does not fit:UserWarning")
def test_a_partition_that_breaks_when_it_is_computed_again_ends_the_fit(client: Any, tmp_path: Path) -> None:
    x = da.concatenate([da.from_delayed(dask.delayed(part)(str(tmp_path), i), (100, 13), "f4") for i in range(3)])
    trainer = dt.Trainer(
        lambda w, x: np.mean(x @ w),
        parameters=np.zeros(13, "f4"),
        shards=2,
        coupled=True,  # no check whether the cost adds up, which would compute a partition
        engine=LanesEngine(client, memory_limits=LIMITS["streamed"]),
    )
    with pytest.raises(ClusterError, match=r"the data of rank \d cannot be computed: ValueError: it is there no more"):
        trainer.fit(x, batch_size=50, verbose=0)


def test_scattered_data_that_is_lost_is_said_to_be(local_cluster: Any) -> None:
    with local_cluster(1) as cluster, distributed.Client(cluster) as client:
        x = client.scatter(np.split(np.ones((64, 13), "f4"), 4))

        class Loses(dt.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any) -> None:
                lost = set(workers_of(client))
                deadline = time.monotonic() + 60
                cluster.scale(0)
                while set(workers_of(client)) & lost and time.monotonic() < deadline:
                    time.sleep(0.02)
                cluster.scale(1)

        engine = LanesEngine(client, memory_limits=LIMITS["picked"])
        trainer = dt.Trainer(lambda w, x: np.mean(x @ w), parameters=np.zeros(13, "f4"), shards=2, engine=engine)
        with pytest.raises(ClusterError, match=r"the cluster no longer holds what this needs: 4 of 4 partitions.* Scattered data is lost"):
            trainer.fit(x, epochs=3, batch_size=32, verbose=0, callbacks=[Loses()])


def held(sizes: tuple[int, ...], *workers: str) -> InputPipeline:
    """A pipeline of partitions with rows of 8 bytes that lie with these workers."""
    source = SimpleNamespace(
        nbytes=8 * sum(sizes),
        held_bytes=8 * sum(sizes),
        row_bytes=8,
        sizes=sizes,
        resident=True,
        columns=Columns.of(Spec((2,), np.dtype("f4"))),
    )
    return InputPipeline(source, MemoryLimits(80, 0, 1), lambda source: list(sizes), lambda keys: [(worker,) for worker in workers])


def test_what_one_task_picks_from_is_bounded() -> None:
    """It has ten rows in its memory, or one partition."""
    assert held((4, 6, 1, 30, 2), *"aaaaa").groups() == {0: 0, 1: 0, 2: 1, 3: 2, 4: 3}
    assert held((4, 4, 4), *"aba").groups() == {0: 0, 2: 0, 1: 1}


def test_shards_that_keep_to_partitions_are_seen() -> None:
    pipeline = held((4, 4, 4), *"aaa")
    local = [[np.array([0, 5]), np.array([11, 7])], [np.array([1, 4]), np.array([6, 8])]]
    assert pipeline.is_local(local)
    assert not pipeline.is_local([[np.array([0, 5, 9]), np.array([1, 7, 11])]])


def block(number: int, rows: int) -> np.ndarray[Any, Any]:
    """Rows of 8 KB whose first feature tells their label."""
    found = np.zeros((rows, 2048), "f4")
    found[:, :8] = np.random.default_rng(number).normal(size=(rows, 8))
    return found


def most_memory() -> float:
    """The most that this process ever held, in bytes; `getrusage` would count its parent's from before it was started."""
    return 1024.0 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


@pytest.mark.timeout(400)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_data_larger_than_all_workers_may_hold(local_cluster: Any, thorough: bool) -> None:
    """Two workers and data two and a half times their memory, or one worker and a little more; a few large partitions cost least."""
    workers, limit, times, rows = (2, 384 << 20, 5, 1024) if thorough else (1, 256 << 20, 1, 2048)
    count = times * limit // (rows * 8192) + 1
    blocks = [da.from_delayed(dask.delayed(block)(i, rows), (rows, 2048), "f4") for i in range(count)]
    x = da.concatenate(blocks)
    y = (x[:, 0] > 0).astype("i8")
    assert x.nbytes > workers * limit
    with local_cluster(workers, processes=True, memory_limit=limit) as cluster, distributed.Client(cluster) as client:
        pids = client.run(os.getpid)
        model = dt.nn.Sequential([dt.nn.Dense(8, "tanh"), dt.nn.Dense(2)])
        trainer = dt.Trainer(model, loss="cross_entropy", metrics=["accuracy"], optimizer=dt.optim.adam(1e-2), shards=2, engine="lanes")
        history = trainer.fit(x, y, epochs=1, batch_size=rows, shuffle="local", verbose=0)
        assert client.run(os.getpid) == pids, "a worker was ended for its memory"
        assert max(client.run(most_memory).values()) < limit
    trainer.ledger().verify()
    assert trainer.ledger().complete(0)
    assert history.history["accuracy"][0] > 0.8


def test_an_order_that_reads_large_data_again_and_again_is_warned_of(client: Any, data: Any) -> None:
    x, y = da.from_array(data[0], chunks=(100, 13)), da.from_array(data[1], chunks=100)
    with pytest.warns(UserWarning, match=r"computed about 1\d times an epoch.*shuffle=.local."):
        fitted(LanesEngine(client, memory_limits=MemoryLimits(0, 0, 1)), x, y, epochs=1)
