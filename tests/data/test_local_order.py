"""The order "local": every sample once an epoch, and each shard within few partitions of its own at a time."""

import pickle
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dagtrain.data import BatchPlan
from dagtrain.data.local import LocalOrder
from dagtrain.errors import ArgumentError, UnknownNameError


@st.composite
def plans(draw):
    """Plans with partitions of any sizes, empty ones too, and any batches and shards."""
    sizes = draw(st.lists(st.integers(0, 40), min_size=1, max_size=12))
    samples = sum(sizes)
    assume(samples)
    batch_size = draw(st.integers(1, 100))
    shards = draw(st.integers(1, min(samples, batch_size, 12)))
    return BatchPlan(samples, batch_size, shards, draw(st.integers(0, 2**64 - 1)), "local", sizes)


def partitions_of(plan, rows):
    return np.searchsorted(np.cumsum(plan.sizes), rows, side="right")


@given(plans(), st.integers(0, 2**63))
def test_every_sample_is_in_one_shard_of_one_step_of_an_epoch(plan, epoch):
    taken = np.concatenate([shard for i in range(plan.steps_per_epoch) for shard in plan.step(epoch, i)])
    assert sorted(taken) == list(range(plan.samples))


@given(plans())
def test_a_shard_takes_its_own_samples_alone(plan):
    for i in range(plan.steps_per_epoch):
        for s, rows in enumerate(plan.step(1, i)):
            assert all(s * plan.samples // plan.shards <= n < (s + 1) * plan.samples // plan.shards for n in rows)


@given(plans())
def test_every_full_batch_is_full_and_its_shards_have_two_sizes_at_most(plan):
    batches = [[len(rows) for rows in plan.step(0, i)] for i in range(plan.steps_per_epoch)]
    full = plan.samples // plan.batch_size
    each = plan.batch_size // plan.shards
    assert [sum(batch) for batch in batches[:full]] == [plan.batch_size] * full
    assert {n for batch in batches[:full] for n in batch} <= {each, -(-plan.batch_size // plan.shards)}
    assert all(max(batch) - min(batch) <= 1 for batch in batches)


@given(plans(), st.data())
def test_a_shard_reads_whole_partitions_one_after_the_other(plan, data):
    shard = data.draw(st.integers(0, plan.shards - 1))
    read = partitions_of(plan, np.concatenate([plan.rows(0, i, shard) for i in range(plan.steps_per_epoch)]))
    begun = read[np.concatenate([[True], np.diff(read) != 0])]
    assert len(set(begun)) == len(begun)


@pytest.mark.parametrize("batch_size", [64, 63])
def test_some_steps_read_few_partitions(batch_size):
    plan = BatchPlan(10_000, batch_size, 8, 3, "local", [100] * 100)
    for first in range(0, plan.steps_per_epoch - 10, 7):
        for shard in range(8):
            rows = np.concatenate([plan.rows(2, i, shard) for i in range(first, first + 10)])
            assert len(set(partitions_of(plan, rows))) <= 3  # 80 rows, pieces of 50 and 100


def test_orders_differ_by_epoch_seed_and_shard_and_are_the_same_in_every_process():
    def order(seed, epoch, shard):
        return tuple(LocalOrder((30, 30, 30, 30), 8, 2, seed).shard(epoch, shard) % 60)

    assert len({order(seed, epoch, shard) for seed in range(3) for epoch in range(3) for shard in range(2)}) == 18
    assert LocalOrder((3, 2, 4), 3, 2, seed=5).shard(2, 1).tolist() == [4, 8, 6, 5, 7]


def test_rows_within_a_partition_and_the_partitions_are_both_shuffled():
    order = BatchPlan(1000, 10, 1, 0, "local", [100] * 10).order(0)
    blocks = order.reshape(10, 100)
    assert {tuple(sorted(block)) for block in blocks} == {tuple(range(a, a + 100)) for a in range(0, 1000, 100)}
    assert not np.array_equal(blocks[:, 0] // 100, np.arange(10))
    assert not any(np.array_equal(block, np.sort(block)) for block in blocks)


@settings(max_examples=50, deadline=None)
@given(plans())
def test_partitions_without_rows_change_nothing(plan):
    bare = BatchPlan(plan.samples, plan.batch_size, plan.shards, plan.seed, "local", [n for n in plan.sizes if n])
    assert np.array_equal(plan.order(3), bare.order(3))


def test_a_plan_draws_only_the_orders_of_requested_shards():
    plan = BatchPlan(1000, 10, 4, 0, "local", [100] * 10)
    plan.rows(0, 0, 2)
    assert list(plan._orders[0]) == [2]


def test_two_epochs_are_kept():
    plan = BatchPlan(100, 10, 2, 1, "local", [50, 50])
    for epoch in (0, 1, 2):
        plan.step(epoch, 0)
    assert plan.rows(1, 0, 0).base is plan._orders[1][0]
    assert list(plan._orders) == [1, 2]


def test_a_plan_pickles_equal():
    plan = BatchPlan(100, 10, 2, 1, "local", [50, 50])
    plan.step(0, 0)
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan
    assert np.array_equal(again.order(4), plan.order(4))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 5))
def test_pieces_are_intersections_of_partitions_and_shards(sizes, shards):
    samples = sum(sizes)
    assume(samples >= shards)
    order = LocalOrder(tuple(sizes), shards, shards, 0)
    ends = list(accumulate(sizes))
    for s in range(shards):
        shard = set(range(s * samples // shards, (s + 1) * samples // shards))
        common = [shard & set(range(end - n, end)) for n, end in zip(sizes, ends, strict=True)]
        assert [set(piece) for piece in order.pieces(s)] == [part for part in common if part]


def test_names_of_orders():
    assert [BatchPlan(8, 4, 1, 0, name).shuffle for name in (True, False, "global", "none")] == ["global", "none", "global", "none"]
    assert BatchPlan(8, 4, 1, 0, True) == BatchPlan(8, 4, 1, 0, "global", sizes=[4, 4])
    with pytest.raises(UnknownNameError, match=r"unknown shuffle .*'locale'\. Did you mean 'local'.*Known: global, local, none"):
        BatchPlan(8, 4, 1, 0, "locale")
    with pytest.raises(UnknownNameError, match=r"unknown shuffle .*None"):
        BatchPlan(8, 4, 1, 0, None)


def test_order_names_differ_for_other_partitions():
    names = [BatchPlan(8, 4, 1, 0, "local", sizes).order_name for sizes in ([4, 4], [5, 3], [8])]
    assert len(set(names)) == 3
    assert all(name.startswith("local over ") for name in names)
    assert BatchPlan(8, 4, 1, 0, False, [4, 4]).order_name == "none"


def test_local_needs_the_partitions_of_the_data():
    with pytest.raises(ArgumentError, match="give the rows of each as sizes"):
        BatchPlan(8, 4, 1, 0, "local")
    with pytest.raises(ArgumentError, match="the 2 partitions hold 7 samples, not 8"):
        BatchPlan(8, 4, 1, 0, "local", [4, 3])
    with pytest.raises(ArgumentError, match="the size of partition 1 must be a whole number from 0 up, got -1"):
        BatchPlan(8, 4, 1, 0, "local", [9, -1])


def test_a_shard_out_of_range_is_refused():
    with pytest.raises(ArgumentError, match="shards 0 to 1"):
        BatchPlan(8, 4, 2, 0).rows(0, 0, 2)
