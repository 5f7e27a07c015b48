"""Ranks that are far from each other: shards in stages, parts that leave early and parts that come late; always the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.data.columns import Rows
from dagtrain.engines.inline import StepRunner
from dagtrain.engines.ranks.arithmetic import RankRunner
from dagtrain.engines.ranks.gradients import SPACE
from dagtrain.engines.ranks.placement import Placement, WorkerInfo, place
from dagtrain.engines.ranks.stages import buckets_of, shape_of, stages_of
from dagtrain.transport import Phase, Span
from tests.step.remembering import Remembers

pytestmark = [pytest.mark.slow, pytest.mark.combined]

SHARDS, STEPS = 8, 3
NOTHING = 255
"""Each byte of what has not come: all floats of such bytes are not numbers."""


@pytest.fixture
def program(request: pytest.FixtureRequest) -> dt.step.Program:
    """Three layers and states by each reduction, in blocks of at most 64 parameters; with a norm, or groups, where asked for."""
    kind = getattr(request, "param", "norm")
    layers = [dt.nn.Dense(24, "tanh"), dt.nn.BatchNorm(), Remembers(), dt.nn.Dense(16, "tanh"), dt.nn.Dropout(0.2), dt.nn.Dense(2)]
    if kind == "groups":
        layers[:0] = [dt.nn.Dense(8, "tanh", name=name) for name in ("first", "follower", "copy")]
    objective = dt.step.ModelObjective(dt.nn.Sequential(layers), "cross_entropy", ["accuracy"])
    adam = dt.optim.adam(1e-2)
    clipped = dt.optim.chain(dt.optim.clip_by_global_norm(0.1), adam)
    groups = {
        "follower.*": dt.optim.track("first.*", 0.5, every=2),
        "copy.*": dt.optim.track("first.*", 1.0),
        "*.bias": dt.optim.every(2, dt.optim.sgd(0.1, momentum=0.9)),
        "dense_2.*": dt.optim.frozen(),
        "dense_3.*": dt.optim.lamb(0.01),
        "*": clipped,
    }
    optimizer = {"norm": clipped, "no norm": adam, "groups": dt.optim.chain(dt.optim.clip_by_global_norm(0.2), dt.optim.by_name(groups))}[
        kind
    ]
    columns = dt.data.Columns.of(dt.Spec((8,), np.dtype("f4")), dt.Spec((), np.dtype("i8")))
    return dt.step.Program(objective, optimizer, columns, seed=0, block=64, shards=SHARDS)


def mean_square(outputs: Any, y: Any) -> Any:
    return np.mean((outputs - np.stack([y.astype("f4"), 1 - y.astype("f4")], axis=1)) ** 2)


def equal_gradients(p: Any, x: Any, y: Any) -> Any:
    """Two biases of one sum have one gradient."""
    h = np.tanh(x @ p["a"])
    h = np.tanh(h @ p["b"] + p["bias 1"] + (x @ p["c"] + p["bias 2"]))
    return mean_square(np.tanh(h @ p["d"] + np.sum(p["empty"])) @ p["e"], y)


def gradient_of_a_gradient(p: Any, x: Any, y: Any) -> Any:
    """The gradient of a matrix is made of that of a bias."""
    h = np.tanh(x @ p["a"])
    h = np.tanh(h + np.mean(h @ p["b"], axis=0) + p["bias 1"])
    return mean_square(np.tanh(h @ p["d"] + p["bias 3"]) @ p["e"], y)


def recurrent(p: Any, x: Any, y: Any) -> Any:
    """A loop gives several gradients at once."""
    steps = np.moveaxis(x.reshape(-1, 4, 2), 1, 0)
    first = np.zeros((x.shape[0], 24), "f4")
    last, _ = dt.scan(lambda h, s: (np.tanh(np.tanh(h @ p["b"]) @ p["f"] + s @ p["g"]),) * 2, first, steps)
    return mean_square(np.tanh(last @ p["d"]) @ p["e"], y)


SHAPES = {"a": (8, 24), "b": (24, 24), "c": (8, 24), "d": (24, 16), "e": (16, 2), "f": (24, 24), "g": (2, 24)}
SHAPES |= {"bias 1": (24,), "bias 2": (24,), "bias 3": (16,), "empty": (0, 3)}
COSTS = {
    equal_gradients: ["a", "bias 1", "b", "bias 2", "c", "empty", "d", "e"],
    gradient_of_a_gradient: ["a", "b", "bias 1", "d", "bias 3", "e"],
    recurrent: ["g", "f", "b", "d", "e"],
}


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize(("count", "threads"), [(2, 1), (3, 2), (2, 3), (8, 1)])
@pytest.mark.parametrize("space", [1, 1 << 28], ids=["one by one", "side by side"])
def test_any_cost_function(cost: Any, count: int, threads: int, space: int) -> None:
    draw = np.random.default_rng(1)
    first = {name: 0.3 * draw.standard_normal(SHAPES[name]).astype("f4") for name in COSTS[cost]}
    specs = dt.Spec((8,), np.dtype("f4")), dt.Spec((), np.dtype("i8"))
    made = dt.step.Program(dt.step.CostObjective(cost, first), dt.optim.adam(1e-2), dt.data.Columns.of(*specs), seed=0, block=64)
    wanted = inline(made)
    for state in Wire(made, count, threads, space).train(made):
        assert state.parameters.tobytes() == wanted.parameters.tobytes()


def batches() -> list[list[Rows]]:
    """In the last step, every third shard is empty."""
    draw = np.random.default_rng(0)
    sizes = [[2] * SHARDS, [3] * SHARDS, [0 if s % 3 == 2 else 2 for s in range(SHARDS)]]
    return [[(draw.standard_normal((n, 8), np.float32), draw.integers(0, 2, n)) for n in step] for step in sizes]


def inline(program: dt.step.Program) -> Any:
    with StepRunner(program.for_workers([2, 3]), program.first_state(), SHARDS, 1) as runner:
        for batch in batches():
            runner.step([rows if len(rows[0]) else None for rows in batch])
        return runner.state


class Wire:
    """Ranks in one process that get what another one has said to be final, and not before.

    What has not come is not a number; what was final must not change until the step is done.
    """

    def __init__(self, program: dt.step.Program, count: int, threads: int, space: int = SPACE) -> None:
        self.parts = program.for_workers([2, 3])
        hosts = [WorkerInfo(f"w{i}", f"host {i}", threads) for i in range(count)]
        self.placement: Placement = place(shape_of(self.parts, SHARDS, bucket_bytes=0), hosts)
        self.windows = [{name: np.zeros(n, dtype) for name, (dtype, n) in self.placement.regions(i).items()} for i in range(count)]
        self.inbox: dict[tuple[int, int, Phase], list[np.ndarray]] = {
            (a, b, phase): [self.read(a, span).copy() for span in spans]
            for a in range(count)
            for b in range(count)
            if a != b
            for phase, spans in self.placement.spans(a, b).items()
        }
        self.runners = [
            RankRunner(self.parts, self.placement, i, self.windows[i], self.incoming(i), in_stages=True, space=space) for i in range(count)
        ]
        self.early = 0

    def incoming(self, me: int) -> Any:
        return lambda peer, phase: self.inbox.get((peer, me, phase), [])

    def read(self, rank: int, span: Span) -> np.ndarray:
        found: np.ndarray = self.windows[rank][span.region][span.start : span.stop]
        return found

    def send(self, phase: Phase, rank: int, parts: int | None = None) -> None:
        """So many parts, or all."""
        for other in range(len(self.windows)):
            if other != rank and (rank, other, phase) in self.inbox:
                spans = [p for part in self.placement.parts(rank, other)[phase][:parts] for p in part]
                for span, array in zip(spans, self.inbox[rank, other, phase], strict=False):
                    found = self.read(rank, span)
                    assert np.all(array.view(np.uint8) == NOTHING) or array.tobytes() == found.tobytes(), "what was final has changed"
                    array[...] = found
                    self.early += parts is not None

    def forget(self, phase: Phase) -> None:
        for (_, _, some), arrays in self.inbox.items():
            if some is phase:
                for array in arrays:
                    array.view(np.uint8)[...] = NOTHING

    def train(self, program: dt.step.Program) -> list[Any]:
        placement, runners = self.placement, self.runners
        buckets = len(placement.buckets)
        owners = [runners[i] for i in placement.owners]
        for runner in runners:
            runner.load(program.first_state())
        for step, batch in enumerate(batches()):
            counts = tuple(len(rows[0]) for rows in batch)
            self.forget(Phase.REDUCE_SCATTER)
            for runner, rank in zip(runners, placement.ranks, strict=True):
                me = rank.number
                came = 0

                def needs(parts: int, runner: RankRunner = runner) -> None:
                    nonlocal came
                    assert parts > came
                    runner.copy(Phase.ALL_GATHER, came, parts)
                    came = parts

                if step:
                    fixed = slice(placement.shape.parameters, placement.shape.vector)  # no one sends these
                    own = [*(s for bucket in placement.slices_of(me) for s in bucket), fixed]
                    kept = [runner.state.parameters[s].copy() for s in own]
                    runner.state.parameters[...] = np.nan
                    for s, values in zip(own, kept, strict=True):
                        runner.state.parameters[s] = values
                rows = {s: batch[s] for s in rank.shards if counts[s]}
                runner.compute(rows, counts, lambda parts, me=me: self.send(Phase.REDUCE_SCATTER, me, parts), needs if step else None)
                assert not step or came == buckets
            for i in range(len(runners)):
                self.send(Phase.REDUCE_SCATTER, i)
            for runner in owners:
                runner.reduce(counts)
            for k in range(placement.shape.norms):
                for i in placement.owners:
                    runners[i].squared_norms(k)
                for i in placement.owners:
                    self.inbox_squares(i)
            self.forget(Phase.ALL_GATHER)
            for i in placement.owners:
                runners[i].update(lambda parts, i=i: self.send(Phase.ALL_GATHER, i, parts))
                self.send(Phase.ALL_GATHER, i)
            for runner in runners:
                runner.advance()
        for runner in runners:
            runner.copy(Phase.ALL_GATHER)
        for i in placement.owners:
            self.forget(Phase.ALL_GATHER_OPTIMIZER) if i == placement.owners[0] else None
            self.send(Phase.ALL_GATHER_OPTIMIZER, i)
        for runner in runners:
            runner.copy(Phase.ALL_GATHER_OPTIMIZER)
            runner.close()
        return [runner.snapshot() for runner in runners]

    def inbox_squares(self, rank: int) -> None:
        for other in range(len(self.windows)):
            spans = self.placement.spans(rank, other).get(Phase.ALL_REDUCE_NORM, ()) if other != rank else ()
            for span, array in zip(spans, self.inbox.get((rank, other, Phase.ALL_REDUCE_NORM), ()), strict=True):
                array[...] = self.read(rank, span)


@pytest.mark.parametrize("program", ["norm", "no norm", "groups"], indirect=True)
@pytest.mark.parametrize(("count", "threads"), [(2, 1), (2, 3), (3, 2), (5, 1), (5, 3), (8, 2)])
@pytest.mark.parametrize("space", [1 << 28, 1], ids=["side by side", "one by one"])
def test_ranks_far_apart_have_the_bits_of_one(program: dt.step.Program, count: int, threads: int, space: int) -> None:
    wanted = inline(program)
    wire = Wire(program, count, threads, space)
    assert len(wire.placement.buckets) > 2
    for state in wire.train(program):
        assert state.parameters.tobytes() == wanted.parameters.tobytes()
        assert state.statistics.tobytes() == wanted.statistics.tobytes()
        assert {n: v.tobytes() for n, v in state.slots.items()} == {n: v.tobytes() for n, v in wanted.slots.items()}
    assert wire.early > 0


def test_buckets_are_final_from_the_last_layer_to_the_first(program: dt.step.Program) -> None:
    parts = program.for_workers([2])
    buckets = buckets_of(parts, bucket_bytes=0)
    assert sorted(b for bucket in buckets for b in bucket) == list(range(len(parts.update.blocks)))
    assert [min(bucket) for bucket in buckets] == sorted((min(bucket) for bucket in buckets), reverse=True)


def test_small_buckets_are_put_together(program: dt.step.Program) -> None:
    assert len(buckets_of(program.for_workers([2]), bucket_bytes=1 << 20)) == 1


def test_stages_take_each_layer_when_it_is_there_and_give_each_bucket_when_it_is_final(program: dt.step.Program) -> None:
    parts = program.for_workers([2])
    placement = place(shape_of(parts, SHARDS, bucket_bytes=0), [WorkerInfo("a", "1"), WorkerInfo("b", "2")])
    stages = stages_of(parts, 2, placement)
    buckets = len(placement.buckets)
    assert [s.needs for s in stages] == sorted(s.needs for s in stages)
    assert stages[-1].needs == buckets
    assert stages[-1].buckets == buckets
    assert len([s for s in stages if s.needs < buckets]) > 1, "the forward pass begins before all parameters are there"
    first = next(i for i, s in enumerate(stages) if s.written)
    assert all(s.needs == buckets for s in stages[first:]), "nothing is written before"
    written = sorted((part.start, part.stop) for s in stages for part in s.written)
    assert [a for a, _ in written[1:]] == [b for _, b in written[:-1]], "every part is written once"
    assert written[-1][1] == parts.layout.trained
    assert [s.last for s in stages] == [False] * (len(stages) - 1) + [True]


def test_who_waits_for_parameters_in_vain_is_told_why(program: dt.step.Program) -> None:
    """Also the other threads of the rank end."""
    wire = Wire(program, 2, 3)
    runner, rank = wire.runners[0], wire.placement.ranks[0]
    runner.load(program.first_state())
    rows = {s: batches()[0][s] for s in rank.shards}

    def needs(parts: int) -> None:
        if parts > 1:
            raise ConnectionError("the other rank is gone")

    with pytest.raises(ConnectionError, match="the other rank is gone"):
        runner.compute(rows, (2,) * SHARDS, None, needs)
    for each in wire.runners:
        each.close()
