"""The batch plan: every sample once an epoch, the sizes of shards, and an order that depends on seed and epoch alone."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagtrain.data import BatchPlan, auto_shards
from dagtrain.data.batches import epoch_order
from dagtrain.errors import ArgumentError, DataError


@st.composite
def plans(draw):
    samples = draw(st.integers(1, 300))
    batch_size = draw(st.integers(1, 400))
    shards = draw(st.one_of(st.just("auto"), st.integers(1, min(samples, batch_size, 20))))
    return BatchPlan(samples, batch_size, shards, draw(st.integers(0, 2**64 - 1)), draw(st.booleans()))


@settings(max_examples=200, deadline=None)
@given(plans(), st.integers(0, 2**63))
def test_every_sample_is_in_one_shard_of_one_step_of_an_epoch(plan, epoch):
    taken = np.concatenate([shard for i in range(plan.steps_per_epoch) for shard in plan.step(epoch, i)])
    assert sorted(taken) == list(range(plan.samples))


@settings(max_examples=200, deadline=None)
@given(plans(), st.data())
def test_shards_of_a_step_differ_by_one_sample_at_most_and_the_longer_come_first(plan, data):
    i = data.draw(st.integers(0, plan.steps_per_epoch - 1))
    n = min(plan.batch_size, plan.samples - i * plan.batch_size)
    sizes = [len(shard) for shard in plan.step(0, i)]
    assert sizes == [n // plan.shards + (s < n % plan.shards) for s in range(plan.shards)]


def test_last_batch_smaller_than_the_shards_leaves_some_empty():
    assert [len(shard) for shard in BatchPlan(9, 8, 4, 0).step(0, 1)] == [1, 0, 0, 0]


def test_order_is_the_same_in_every_process():
    assert epoch_order(12, seed=3, epoch=5).tolist() == [10, 1, 5, 4, 2, 9, 3, 0, 7, 6, 11, 8]


def test_order_changes_with_the_epoch_and_with_the_seed():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_epochs_out_of_order_equal_those_of_a_fresh_plan():
    used, fresh = BatchPlan(100, 10, 2, 1), BatchPlan(100, 10, 2, 1)
    for epoch in (0, 7, 3):
        used.step(epoch, 4)
    assert all(np.array_equal(a, b) for a, b in zip(used.step(7, 2), fresh.step(7, 2), strict=True))


def test_the_order_of_an_epoch_is_drawn_once():
    plan = BatchPlan(100, 10, 2, 1)
    assert plan.order(2) is plan.order(2)


def test_the_order_cannot_be_changed_through_a_shard():
    with pytest.raises(ValueError, match="read-only"):
        BatchPlan(10, 5, 1, 0).step(0, 0)[0][0] = 3


def test_without_shuffle_the_order_is_kept():
    plan = BatchPlan(7, 3, 1, 0, shuffle=False)
    assert [plan.step(4, i)[0].tolist() for i in range(3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_plan_pickles_small_and_equal():
    plan = BatchPlan(100_000, 256, 8, 1)
    plan.step(0, 0)
    packed = pickle.dumps(plan)
    assert len(packed) < 300
    assert pickle.loads(packed) == plan


def test_auto_shards_depend_on_the_batch_alone_and_grow_with_it():
    counts = [auto_shards(n) for n in range(1, 5000)]
    assert counts == sorted(counts)
    assert all(n // shards >= 32 for n, shards in enumerate(counts, 1) if shards > 1)
    assert set(counts) <= {1, 2, 4, 8, 16}


def test_auto_shards_of_few_samples_follow_the_samples():
    assert BatchPlan(4, 256, "auto", 0).shards == 1


def test_steps_beyond_the_epoch_are_refused():
    with pytest.raises(ArgumentError, match="steps 0 to 2"):
        BatchPlan(10, 4, 1, 0).step(0, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((0, 4, 1, 0), DataError, "empty"),
        ((10, 4, 5, 0), ArgumentError, "5 shards are more than batch_size=4"),
        ((3, 8, 4, 0), DataError, "4 shards are more than the 3 samples"),
        ((10, 0, 1, 0), ArgumentError, "batch_size must be a whole number from 1 up, got 0"),
        ((10, 2.5, 1, 0), ArgumentError, "batch_size"),
        ((10, 4, 0, 0), ArgumentError, "shards must be a whole number"),
        ((10, 4, "many", 0), ArgumentError, '"auto"'),
        ((10, 4, 1, -1), ArgumentError, "seed"),
        ((10, 4, 1, 2**64), ArgumentError, "2\\*\\*64"),
    ],
)
def test_sizes_that_make_no_plan_are_refused(arguments, error, says):
    with pytest.raises(error, match=says):
        BatchPlan(*arguments)
