"""However the rows come to the lanes, the weights are the same, and every sample is used once."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest

import dagtrain as dt
from dagtrain.cluster import Bounds, LanesEngine

ROWS = 600
BOUNDS = {
    "resident": Bounds(1 << 30, 1 << 30, 1 << 20),
    "picked": Bounds(0, 1 << 30, 40_000),
    "streamed": Bounds(0, 0, 40_000),
}


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    draw = np.random.default_rng(5)
    x = draw.normal(size=(ROWS, 13)).astype("f4")  # rows of 52 bytes: most begin at no round address
    return x, (x[:, 0] > 0).astype("i8")


def fitted(engine: Any, x: Any, y: Any, shuffle: Any = True, **options: Any) -> Any:
    model = dt.nn.Sequential([dt.nn.Dense(32, "tanh"), dt.nn.Dense(2)])
    trainer = dt.Trainer(model, loss="cross_entropy", metrics=["accuracy"], shards=4, seed=3, engine=engine, **options)
    trainer.fit(x, y, epochs=3, batch_size=64, shuffle=shuffle, verbose=0)
    trainer.ledger().verify()
    assert all(trainer.ledger().complete(epoch) for epoch in range(3))
    return trainer.history


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("bounds", BOUNDS)
def test_one_result_however_rows_are_brought(client: Any, data: Any, bounds: str, lazy: bool) -> None:
    x, y = data
    if lazy:
        x, y = da.from_array(x, chunks=(170, 13)), da.from_array(y, chunks=170)
    history = fitted(LanesEngine(client, bounds=BOUNDS[bounds]), x, y)
    assert history.fingerprint == fitted("inline", *data).fingerprint
    assert history.history["loss"] == fitted("inline", *data).history["loss"]


@pytest.mark.parametrize("bounds", ["picked", "streamed"])
def test_shards_that_keep_to_their_partitions(client: Any, data: Any, bounds: str) -> None:
    x, y = da.from_array(data[0], chunks=(100, 13)), da.from_array(data[1], chunks=100)
    wanted = fitted("inline", x, y, shuffle="local")
    assert fitted(LanesEngine(client, bounds=BOUNDS[bounds]), x, y, shuffle="local").fingerprint == wanted.fingerprint
    assert fitted("inline", x, y, shuffle=True).fingerprint != wanted.fingerprint


def test_lanes_lie_where_the_partitions_of_their_shards_do(client: Any, data: Any) -> None:
    """Four partitions, each of one shard and persisted on a worker of its own choice, here the last one first."""
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"])[:2]
    x, y = da.from_array(data[0], chunks=(150, 13)), da.from_array(data[1], chunks=150)
    parts = [client.persist(da.concatenate([p]), workers=[workers[1 - i // 2]]) for a in (x, y) for i, p in enumerate(a.blocks)]
    x, y = da.concatenate(parts[:4]), da.concatenate(parts[4:])
    seen = {}

    class Looking(LanesEngine):
        def session(self, program: Any, source: Any) -> Any:
            made = super().session(program, source)
            seen["session"] = made
            return made

    fitted(Looking(client, bounds=BOUNDS["picked"]), x, y, shuffle="local")
    session = seen["session"]
    near = {lane.worker: lane.shards for lane in session.placements[-1].lanes}
    assert set(near[workers[1]]) & {0, 1}
    assert set(near[workers[0]]) & {2, 3}


def test_segments_are_as_short_as_their_rows_demand(client: Any, data: Any) -> None:
    """A bound of one row still trains, a step at a time."""
    tight = Bounds(0, 0, 1)
    assert fitted(LanesEngine(client, bounds=tight), *data).fingerprint == fitted("inline", *data).fingerprint
