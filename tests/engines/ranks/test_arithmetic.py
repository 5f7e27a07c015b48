"""The arithmetic of any number of ranks, in one process and without messages: always the bits of one."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.data.columns import Rows
from dagtrain.engines.inline import StepRunner
from dagtrain.engines.ranks.arithmetic import COMMON, RankRunner
from dagtrain.engines.ranks.placement import WorkerInfo, place
from dagtrain.engines.ranks.stages import shape_of
from dagtrain.step.update import Update
from dagtrain.transport import Phase
from tests.step.remembering import Remembers

pytestmark = [pytest.mark.slow, pytest.mark.combined]

SHARDS, STEPS = 16, 3


def optimizer() -> Any:
    return dt.optim.chain(dt.optim.clip_by_global_norm(0.1), dt.optim.adam(1e-2))


@pytest.fixture(scope="module")
def program() -> dt.step.Program:
    """A network of 1,186 parameters with states by each reduction, and an optimiser that asks for the norm of the gradient."""
    return compiled(optimizer())


def compiled(rule: Any, block: int | None = None, widths: tuple[int, ...] = (24,)) -> dt.step.Program:
    hidden = [dt.nn.Dense(width, "tanh") for width in widths]
    model = dt.nn.Sequential([dt.nn.Dense(32, "tanh"), dt.nn.BatchNorm(), Remembers(), *hidden, dt.nn.Dense(2)])
    objective = dt.step.ModelObjective(model, "cross_entropy", ["accuracy"])
    columns = dt.data.Columns.of(dt.Spec((8,), np.dtype("f4")), dt.Spec((), np.dtype("i8")))
    return dt.step.Program(objective, rule, columns, seed=0, block=block, shards=SHARDS)


@pytest.fixture(scope="module")
def batches() -> list[list[Rows]]:
    """In the last step, every third shard is empty."""
    draw = np.random.default_rng(0)
    sizes = [[2] * SHARDS, [3] * SHARDS, [0 if s % 3 == 2 else 2 for s in range(SHARDS)]]
    return [[(draw.standard_normal((n, 8), np.float32), draw.integers(0, 2, n)) for n in step] for step in sizes]


def inline(program: dt.step.Program, batches: list[list[Rows]]) -> Any:
    with StepRunner(program.for_workers([2, 3]), program.first_state(), SHARDS, 1) as runner:
        for batch in batches:
            runner.step([rows if len(rows[0]) else None for rows in batch])
        return runner.state


def ranks(program: dt.step.Program, batches: list[list[Rows]], count: int, threads: int, common: bool) -> list[Any]:
    parts = program.for_workers([2, 3])
    placement = place(shape_of(parts, SHARDS), [WorkerInfo(f"w{i:02}", "", threads) for i in range(count)])
    windows = [{name: np.zeros(n, dtype) for name, (dtype, n) in placement.regions(i).items()} for i in range(count)]

    if common:
        for window in windows:
            window.update({name: windows[0][name] for name in COMMON})

    def incoming(me: int) -> Any:
        def of(peer: int, phase: Phase) -> list[Any]:
            spans = placement.spans(peer, me).get(phase, ())
            if common and phase is Phase.ALL_GATHER:  # nobody copies what all hold once
                return [np.full(p.stop - p.start, np.nan) for p in spans]
            return [windows[peer][p.region][p.start : p.stop] for p in spans]

        return of

    runners = [RankRunner(parts, placement, i, windows[i], incoming(i), common) for i in range(count)]
    owners = [runners[i] for i in placement.owners]
    for runner in runners:
        runner.load(program.first_state())
    for batch in batches:
        counts = tuple(len(rows[0]) for rows in batch)
        rows = [{s: batch[s] for s in rank.shards if counts[s]} for rank in placement.ranks]
        if placement.shape.weights:
            for runner, of_rank in zip(runners, rows, strict=True):
                runner.weigh(of_rank)
        for runner, of_rank in zip(runners, rows, strict=True):
            runner.compute(of_rank, counts)
        for runner in owners:
            runner.reduce(counts)
        for k in range(placement.shape.norms):
            for runner in owners:
                runner.squared_norms(k)
        for runner in owners:
            runner.update()
        for runner in runners:
            runner.copy(Phase.ALL_GATHER)
        for runner in runners:
            runner.advance()
    for runner in runners:
        runner.copy(Phase.ALL_GATHER_OPTIMIZER)
        runner.close()
    return [runner.snapshot() for runner in runners]


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_losses_with_different_weights_have_the_same_bits_too(batches: list[list[Rows]], count: int) -> None:
    x = dt.nn.Input((8,), name="x")
    model = dt.nn.Model(x, {"kind": dt.nn.Dense(2)(dt.nn.Dense(16, "tanh")(x)), "size": dt.nn.Dense(1)(x)})
    objective = dt.step.ModelObjective(model, {"kind": "cross_entropy", "size": "mean_squared_error"}, {})
    one = dt.Spec((), np.dtype("f4"))
    specs = dt.Spec((8,), np.dtype("f4")), {"kind": dt.Spec((), np.dtype("i8")), "size": one}, {"kind": one, "size": one}
    program = dt.step.Program(objective, optimizer(), dt.data.Columns.of(*specs), seed=0)
    draw = np.random.default_rng(1)
    wide = [[(x, y, *draw.uniform(0, 2, (3, len(y))).astype("f4")) for x, y in step] for step in batches]
    want = inline(program, wide)
    assert want.parameters.tobytes() != program.first_state().parameters.tobytes()
    for state in ranks(program, wide, count, 1, True):
        assert state.parameters.tobytes() == want.parameters.tobytes()


GROUPS = {
    "dense_3.*": dt.optim.track("dense_2.*", 0.25, every=2),
    "dense_4.*": dt.optim.track("dense_2.*", 1.0),
    "dense_1.kernel": dt.optim.frozen(),
    "dense_5.*": dt.optim.lamb(0.1),
    "*.bias": dt.optim.every(2, dt.optim.sgd(0.1, momentum=0.9)),
    "*": optimizer(),
}


@pytest.mark.parametrize("count", [1, 2, 5, 16])
@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize(
    "rule", [dt.optim.by_name(GROUPS), dt.optim.chain(optimizer(), dt.optim.by_name(GROUPS))], ids=["groups", "chained"]
)
def test_groups_have_the_same_bits_too(batches: list[list[Rows]], rule: Any, count: int, common: bool) -> None:
    program = compiled(rule, 100, (32, 32, 32))
    want, first = inline(program, batches), program.first_state()
    before, after = (program.layout.tree(state.parameters) for state in (first, want))
    assert before["dense_1"]["kernel"].tobytes() == after["dense_1"]["kernel"].tobytes()
    assert before["dense_3"]["kernel"].tobytes() != after["dense_3"]["kernel"].tobytes()
    assert after["dense_4"]["kernel"].tobytes() == after["dense_2"]["kernel"].tobytes()
    for state in ranks(program, batches, count, 1, common):
        assert state.parameters.tobytes() == want.parameters.tobytes()
        assert state.statistics.tobytes() == want.statistics.tobytes()
        assert {n: v.tobytes() for n, v in state.slots.items()} == {n: v.tobytes() for n, v in want.slots.items()}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 11, 16])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("block", [65536, 100])
@pytest.mark.parametrize("common", [False, True])
def test_any_number_of_ranks_has_the_bits_of_one(
    program: dt.step.Program,
    batches: list[list[Rows]],
    count: int,
    threads: int,
    block: int,
    common: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if block != 65536:
        monkeypatch.setattr(program, "update", Update(optimizer(), program.layout.size, program.layout.dtype, block))
    want = inline(program, batches)
    for state in ranks(program, batches, count, threads, common):
        assert state.step == STEPS
        assert state.parameters.tobytes() == want.parameters.tobytes()
        assert state.statistics.tobytes() == want.statistics.tobytes()
        assert {n: v.tobytes() for n, v in state.slots.items()} == {n: v.tobytes() for n, v in want.slots.items()}


def test_states_that_are_handed_out_have_memory_that_nobody_else_has(program: dt.step.Program) -> None:
    parts = program.for_workers([2])
    placement = place(shape_of(parts, 1), [WorkerInfo("w")])
    window = {name: np.zeros(n, dtype) for name, (dtype, n) in placement.regions(0).items()}
    runner = RankRunner(parts, placement, 0, window, lambda peer, phase: [])

    def where(state: Any) -> int:
        return int(state.parameters.ctypes.data)

    runner.state.parameters[...] = 1.0
    first = runner.snapshot()
    span, buffer = first.parameters[3:5], memoryview(next(iter(first.slots.values())))
    places = [where(first)]
    del first
    runner.state.parameters[...] = 2.0
    places.append(where(runner.snapshot()))
    assert places[0] != places[1], "an array that lies in the first one is still there"
    assert where(runner.snapshot()) == places[1], "nobody has the second one"
    assert span.tolist() == [1.0, 1.0]
    del span
    assert where(runner.snapshot()) == places[1], "a buffer of the first one is still there"
    del buffer
    runner.state.parameters[...] = 3.0
    third = runner.snapshot()
    assert where(third) == places[0]
    assert np.all(third.parameters == 3.0)
    gone = weakref.ref(runner.snapshot())
    assert gone() is None, "Dask would take it for the one that it wrote to disk"
    held = [third, *[runner.snapshot() for _ in range(5)]]
    assert len(set(map(where, held))) == 6
