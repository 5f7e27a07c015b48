"""The next steps as a Dask graph: computed by any scheduler, they are the steps of fit."""

import dask
import dask.array as da
import numpy as np
import pytest
from dask.base import is_dask_collection, tokenize

import dagtrain as dt
from dagtrain.data.pick import Gathered
from dagtrain.engines.scheduler.step_graph import Stepped, gradient_task
from dagtrain.step.state import State

pytestmark = [pytest.mark.slow, pytest.mark.combined]


@pytest.fixture(scope="module")
def trained(make, fit_digits):
    """A trainer after one epoch of nine steps, which tests must not train, and the history after a second epoch."""
    trainer, other = make(), make()
    fit_digits(trainer, epochs=1)
    return trainer, fit_digits(other, epochs=2)


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_computed_by_dask_it_is_the_next_epoch_of_fit(trained, scheduler):
    trainer, history = trained
    stepped = trainer.step_graph(9).compute(scheduler=scheduler)
    assert isinstance(stepped, Stepped)
    assert stepped.state.fingerprint == history.fingerprint
    assert stepped.state.step == 18
    losses = [sums[0] / sums[1] for sums in stepped.sums]
    mean = sum(loss * n for loss, n in zip(losses, [64] * 8 + [4], strict=True)) / 516
    assert mean == pytest.approx(history.history["loss"][1], rel=1e-12)


@pytest.mark.parametrize("make", ["mixed"], indirect=True)
def test_computed_by_other_processes_it_is_the_next_epoch_of_fit(trained):
    trainer, history = trained
    assert trainer.step_graph(9).compute(scheduler="processes", num_workers=2).state.fingerprint == history.fingerprint


def test_it_continues_into_the_next_epoch(make, fit_digits):
    trainer, other = make(), make()
    fit_digits(trainer, epochs=1)
    history = fit_digits(other, epochs=3)
    assert trainer.step_graph(18).compute(scheduler="sync").state.fingerprint == history.fingerprint


def test_computing_it_changes_neither_trainer_nor_graph(trained):
    trainer, _ = trained
    before = trainer.program.layout.pack(trainer.parameters)
    graph = trainer.step_graph(2)
    first, second = (graph.compute(scheduler="sync").state for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert np.array_equal(trainer.program.layout.pack(trainer.parameters), before)


def test_it_is_a_dask_collection(trained):
    graph = trained[0].step_graph()
    assert is_dask_collection(graph)
    (stepped,) = dask.compute(graph, scheduler="sync")
    (persisted,) = dask.persist(graph, scheduler="sync")
    assert persisted.compute(scheduler="sync").state.fingerprint == stepped.state.fingerprint


def test_equal_steps_have_equal_names_and_other_steps_others(make, fit_digits):
    def graph(rows=516, seed=0, steps=1):
        trainer = make(seed=seed)
        fit_digits(trainer, epochs=1, rows=rows)
        return trainer.step_graph(steps)

    one, same = graph(), graph()
    assert tokenize(one) == tokenize(same)
    assert set(one.tasks) == set(same.tasks)
    others = [graph(seed=1), graph(rows=500), graph(steps=2)]
    assert len({tokenize(g) for g in (one, *others)}) == 4


def test_other_data_gives_other_names(digits):
    """The weights are the same, because the learning rate is 0: the steps differ only in their data."""
    graphs = []
    for x in (digits.x[:64], digits.x[64:128]):
        model = dt.nn.Sequential([dt.nn.Dense(10)])
        trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.sgd(0.0), shards=2)
        trainer.fit(x, digits.y[:64], batch_size=64, verbose=0)
        graphs.append(trainer.step_graph())
    assert graphs[0].last != graphs[1].last


def test_a_task_for_each_part_of_the_step(trained):
    tasks = trained[0].step_graph().tasks
    kinds = [(key[0] if isinstance(key, tuple) else key).rsplit("-", 1)[0] for key in tasks]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"data": 1, "program": 1, "state": 1, "gradient": 8, "total": 2, "update": 1}


def test_empty_shards_have_no_tasks(trained):
    tasks = trained[0].step_graph(9).tasks
    shards = sorted(key[2] for key in tasks if isinstance(key, tuple) and key[0].startswith("gradient") and key[1] == 17)
    assert shards == [0, 1, 2, 3]


def test_only_the_data_that_is_used_is_in_the_graph(digits):
    x, y = (da.from_array(a[:120], chunks=20) for a in (digits.x, digits.y))
    model = dt.nn.Sequential([dt.nn.Dense(10)])
    trainer = dt.Trainer(model, loss="cross_entropy", shards=2)
    trainer.fit(x.rechunk({1: -1}), y, batch_size=40, shuffle=False, verbose=0)
    data = [key for key in trainer.step_graph().tasks if isinstance(key, tuple) and key[0].startswith("data")]
    assert len(data) == 2


def test_measured_in_this_process_every_task_has_a_record(trained):
    graph = trained[0].step_graph()
    records = graph.measure()
    assert set(records) == set(graph.tasks)
    for record in records.values():
        assert record.worker == "this process"
        assert record.stop >= record.start
    update = records[graph.last]
    assert update.nbytes >= trained[0].program.layout.size * 4
    assert all(records[graph.last].start >= record.stop for key, record in records.items() if key != graph.last)


def test_its_text_says_what_it_is(trained):
    graph = trained[0].step_graph()
    assert f"{len(graph)} tasks" in repr(graph)


def test_steps_are_at_least_one(trained):
    with pytest.raises(ValueError, match="steps"):
        trained[0].step_graph(0)


def test_it_can_be_drawn(trained, tmp_path):
    picture = trained[0].step_graph().visualize(str(tmp_path / "step.svg"), measure=True)
    assert picture is not None
    assert "gradient" in (tmp_path / "step.svg").read_text()


def shifted(array, offset=5):
    """The same numbers in unaligned memory, as in a message from the network."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    memory[offset : offset + array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
    copy = np.frombuffer(memory.data, array.dtype, array.size, offset).reshape(array.shape)
    assert array.dtype == np.uint8 or not copy.flags.aligned
    return copy


def test_the_alignment_of_values_changes_no_bit(digits, fit_digits):
    """BLAS uses another kernel for a matrix that NumPy must copy first."""
    layers = [dt.nn.BatchNorm(), dt.nn.Dense(256, "tanh"), dt.nn.Dense(10)]
    trainer = dt.Trainer(dt.nn.Sequential(layers), loss="cross_entropy", shards=8)
    fit_digits(trainer, epochs=1)
    program, state = trainer.program, trainer.step_graph().compute(scheduler="sync").state
    moved = State(shifted(state.parameters), shifted(state.statistics), state.slots, state.step)
    x, y = digits.x[:8], digits.y[:8]
    picks = [Gathered(0, np.arange(8), np.arange(8))]
    results = [gradient_task(program.for_workers([8]), Stepped(s, ()), 0.125, 9, 0, picks, None, (x, y)) for s in (state, moved)]
    for here, there in zip(*(result.outputs for result in results), strict=True):
        assert here.tobytes() == there.tobytes()
    score = program.for_evaluation(8).score
    expected = score(state, (x, y)).sums
    for other in (shifted(x), np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        assert np.array_equal(score(moved, (other, y)).sums, expected)
