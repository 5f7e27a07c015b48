"""The schema reads what it writes, and writes what it read byte for byte."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dagtrain.checkpoint.groups import GroupEntry
from dagtrain.checkpoint.schema import Manifest, TensorFile, parse
from dagtrain.data.columns import Columns
from dagtrain.data.ledger import Entry
from dagtrain.graph import Spec
from dagtrain.step.layout import VectorLayout
from dagtrain.step.state import EpochProgress
from dagtrain.step.statistics import StatisticsLayout

FLOAT = Spec((), np.dtype("f4"))
BATCHES: dict[str, int | str] = {"samples": 40, "batch_size": 8, "shards": 2, "shuffle": "local"}
FULL = Manifest(
    step=7,
    epochs=1,
    seed=3,
    shards="auto",
    batches=BATCHES,
    fingerprint="0" * 64,
    slots=("first", "second"),
    keys={"shard": "a", "update": "b"},
    versions={"dagtrain": "1"},
    rows=Columns.of({"b": FLOAT, "a": (FLOAT, Spec((5,), np.dtype("u1")))}, Spec((), np.dtype("i8")), FLOAT, {"x.a.1": tuple("vwxyz")}),
    parameters=VectorLayout.of({"dense": {"kernel": np.zeros((5, 2)), "bias": np.zeros(2)}}),
    statistics=StatisticsLayout.of({"bins": np.zeros(3, "i8"), "queue": np.zeros((2, 2), "f4")}, {"bins": "sum", "queue": "shard"}, 2),
    objective={"kind": "cost"},
    optimizer={"python": "user.schedule"},
    begun=EpochProgress(2, (math.inf, 0.1), 1.5, BATCHES),
    rate_scale=0.5,
    ledger=(Entry(0, 40, True, ()), Entry(1, 40, False, ((3, 0), (9, 2)))),
    history={"loss": [1.0, math.nan]},
    tensors=TensorFile.of(1000, "1" * 64),
)
GROUPS = (GroupEntry("*.bias", ("dense.bias",), (), True), GroupEntry("*", ("dense.kernel",), ("first", "second"), True))
GROUPED = replace(FULL, groups=GROUPS, starts={"*": 4}, parameters=FULL.parameters.grouped([g.parameters for g in GROUPS]))
SMALL = replace(FULL, batches=None, shards=2, rows=Columns.of(FLOAT), begun=None, ledger=(), history={}, slots=(), keys={})


@pytest.mark.parametrize("manifest", [FULL, GROUPED, SMALL], ids=["full", "grouped", "small"])
def test_what_is_written_is_read(manifest: Manifest) -> None:
    data = manifest.to_json()
    again = parse(data, "here")
    assert again.to_json() == data
    assert again.differences(manifest) == []
    assert (again.begun, again.ledger, again.rows, again.tensors) == (
        manifest.begun,
        manifest.ledger,
        manifest.rows,
        manifest.tensors,
    )
    assert again.parameters.tree(np.arange(12.0)).keys() == {"dense.kernel", "dense.bias"}
