"""States on their way through Dask."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from distributed.protocol import deserialize, serialize

from dagtrain.engines.ranks.snapshot import SnapshotPool
from dagtrain.step import State

READER = """
import pickle, sys
from distributed.protocol import deserialize
assert not any(name.startswith("dagtrain") for name in sys.modules)
state = deserialize(*pickle.load(sys.stdin.buffer))
print([type(state).__name__, state.parameters.tolist(), state.step])
"""


@pytest.fixture
def handed():
    draw = np.random.default_rng(0)
    slots = {name: draw.standard_normal(5).astype(np.float32) for name in ("m", "v")}
    return SnapshotPool().of(State(draw.standard_normal(5).astype(np.float32), np.empty(0, np.float32), slots, 7, 0.25, {"*": 3}, (1, 0)))


def vectors(state):
    return [state.parameters, state.statistics, *state.slots.values()]


@pytest.mark.parametrize("protocol", [4, 5])
def test_numbers_are_not_copied_on_their_way_out(handed, protocol):
    header, frames = serialize(handed, context={"pickle-protocol": protocol})
    assert [len(frame) for frame in frames] == [20, 20, 20]
    assert np.shares_memory(np.frombuffer(frames[0], np.uint8), handed.parameters)
    assert len(pickle.dumps(header)) < 1000


def test_they_arrive_as_they_were(handed):
    header, frames = serialize(handed)
    found = deserialize({**header, "sub-header": json.loads(json.dumps(header["sub-header"]))}, [bytes(frame) for frame in frames])
    assert (found.step, found.learning_rate_scale, list(found.slots)) == (7, 0.25, ["m", "v"])
    assert (found.starts, found.order) == ({"*": 3}, (1, 0))
    for a, b in zip(vectors(found), vectors(handed), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()
    assert type(found.copy()) is State


def test_a_process_that_knows_nothing_of_ranks_can_read_them(handed):
    header, frames = serialize(handed)
    message = pickle.dumps((header, [bytes(frame) for frame in frames]))
    found = subprocess.run([sys.executable, "-c", READER], input=message, capture_output=True, check=True, timeout=60)
    assert found.stdout.decode().strip() == str(["Snapshot", handed.parameters.tolist(), 7])
