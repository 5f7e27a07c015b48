"""Who does what: nothing is left out or done twice, and what one gives is what the other takes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagtrain.engines.ranks.placement import Placement, StepShape, WorkerInfo, place
from dagtrain.engines.ranks.subtrees import under
from dagtrain.errors import ClusterError
from dagtrain.transport import Phase

some = settings(max_examples=40)


def near(shards: int) -> st.SearchStrategy[dict[int, int]]:
    return st.dictionaries(st.integers(0, shards - 1), st.integers(1, 1000), max_size=shards)


@st.composite
def buckets(draw: st.DrawFn, blocks: int) -> tuple[tuple[int, ...], ...]:
    """Any division of the blocks into buckets; or none."""
    order = draw(st.permutations(range(blocks)))
    cuts = sorted(draw(st.sets(st.integers(0, blocks), max_size=4)) | {0, blocks}) if draw(st.booleans()) else []
    return tuple(tuple(sorted(order[a:b])) for a, b in pairwise(cuts))


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    shards = draw(st.integers(1, 17))
    blocks = draw(st.lists(st.integers(1, 50), min_size=1, max_size=9))
    shape = StepShape(
        shards,
        tuple(blocks),
        buckets=draw(buckets(len(blocks))),
        statistics=draw(st.integers(0, 5)),
        row=draw(st.integers(0, 5)),
        sums=draw(st.integers(2, 5)),
        slots=("first", "second")[: draw(st.integers(0, 2))],
        norms=draw(st.integers(0, 2)),
        weights=draw(st.integers(0, 3)),
    )
    affine = draw(st.booleans())
    workers = [
        WorkerInfo(
            f"tcp://w:{i:02}",
            draw(st.sampled_from("ab")),
            draw(st.integers(1, 4)),
            draw(st.integers(0, 3)),
            draw(near(shards)) if affine else {},
        )
        for i in range(draw(st.integers(1, 20)))
    ]
    return place(shape, workers, draw(st.sampled_from([0.0, 100.0, 1e6])))


def of_workers(shards: int, threads: list[int], blocks: int = 4) -> Placement:
    return place(StepShape(shards, (10,) * blocks), [WorkerInfo(f"w{i}", "", n) for i, n in enumerate(threads)])


@some
@given(placements())
def test_every_shard_is_computed_in_one_rank(placement: Placement) -> None:
    computed = [s for rank in placement.ranks for s in rank.shards]
    assert sorted(computed) == list(range(placement.shape.shards))
    assert all(rank.shards for rank in placement.ranks)


@some
@given(placements())
def test_every_block_is_owned_by_one_rank(placement: Placement) -> None:
    owned = [b for rank in placement.ranks for b in rank.blocks]
    assert sorted(owned) == list(range(len(placement.shape.blocks)))
    assert sum(placement.elements_of(o) for o in placement.owners) == placement.shape.parameters
    counts = [len(rank.blocks) for rank in placement.ranks]
    assert max(counts) - min(counts) <= 1


@some
@given(placements())
def test_blocks_are_in_buckets_where_ranks_are_on_several_hosts(placement: Placement) -> None:
    together = tuple(range(len(placement.shape.blocks)))
    several = len({rank.host for rank in placement.ranks}) > 1
    assert placement.buckets == ((several and placement.shape.buckets) or (together,))
    for bucket in placement.buckets:
        shares = [len(set(rank.blocks).intersection(bucket)) for rank in placement.ranks]
        assert max(shares) - min(shares) <= 1


@some
@given(placements())
def test_parts_of_what_one_gives_are_the_buckets(placement: Placement) -> None:
    for a in placement.ranks:
        for b in placement.ranks:
            parts = placement.parts(a.number, b.number) if a is not b else {}
            if Phase.REDUCE_SCATTER in parts:
                for part, slices in zip(parts[Phase.REDUCE_SCATTER], placement.slices_of(b.number), strict=False):
                    assert {(p.start, p.stop) for p in part} == {(s.start, s.stop) for s in slices}
                assert len(parts[Phase.REDUCE_SCATTER]) == len(placement.buckets) + 1
            if Phase.ALL_GATHER in parts:
                for part, slices in zip(parts[Phase.ALL_GATHER], reversed(placement.slices_of(a.number)), strict=True):
                    assert {(p.start, p.stop) for p in part if p.region == "parameters"} == {(s.start, s.stop) for s in slices}


def subtrees(shards: int) -> list[frozenset[int]]:
    """All subtrees of the fixed tree, written without the code under test."""
    found, width = [frozenset({s}) for s in range(shards)], 2
    while width < 2 * shards:
        found += [frozenset(range(a, min(a + width, shards))) for a in range(0, shards, width)]
        width *= 2
    return found


@some
@given(placements())
def test_each_rank_sums_the_largest_subtrees_that_are_its_own(placement: Placement) -> None:
    for rank in placement.ranks:
        own = [tree for tree in subtrees(placement.shape.shards) if tree <= set(rank.shards)]
        largest = {min(tree): tuple(sorted(tree)) for tree in own if not any(tree < other for other in own)}
        assert under(rank.roots, rank.shards, placement.shape.shards) == largest


@some
@given(placements())
def test_what_one_gives_is_what_the_other_takes(placement: Placement) -> None:
    routes = [placement.routes(rank.number) for rank in placement.ranks]
    for a in range(len(routes)):
        assert set(routes[a]) == set(range(len(routes))) - {a}
        for b, table in routes[a].items():
            assert dict(table.out) == dict(routes[b][a].into)


@some
@given(placements())
def test_pieces_lie_within_the_memory_they_are_taken_from(placement: Placement) -> None:
    for a in placement.ranks:
        regions = placement.regions(a.number)
        for b in placement.ranks:
            if a is not b:
                for spans in placement.spans(a.number, b.number).values():
                    for span in spans:
                        assert 0 <= span.start <= span.stop <= regions[span.region][1]


def owned_by(placement: Placement, rank: int) -> list[int]:
    """Elements of the parameter vector."""
    starts = placement.starts
    return [e for b in placement.ranks[rank].blocks for e in range(starts[b], starts[b + 1])]


@some
@given(placements())
def test_an_owner_gets_its_slice_of_every_partial_sum_that_is_not_its_own(placement: Placement) -> None:
    for owner in placement.owners:
        got: dict[int, list[int]] = {}
        for other in placement.ranks:
            if other.number != owner:
                for span in placement.spans(other.number, owner)[Phase.REDUCE_SCATTER]:
                    if span.region.startswith("partial") and span.stop <= placement.shape.parameters:
                        got.setdefault(int(span.region.removeprefix("partial.")), []).extend(range(span.start, span.stop))
        assert sorted(got) == sorted(r for rank in placement.ranks for r in rank.roots if rank.number != owner)
        assert all(sorted(elements) == owned_by(placement, owner) for elements in got.values())


@some
@given(placements())
def test_everybody_gets_the_whole_parameters(placement: Placement) -> None:
    for rank in placement.ranks:
        had = set(owned_by(placement, rank.number))
        for owner in placement.owners:
            if owner != rank.number:
                for span in placement.spans(owner, rank.number)[Phase.ALL_GATHER]:
                    if span.region == "parameters":
                        assert not had.intersection(range(span.start, span.stop))
                        had.update(range(span.start, span.stop))
        assert had == set(range(placement.shape.parameters))


@some
@given(placements())
def test_bytes_of_a_step_are_those_of_its_slices(placement: Placement) -> None:
    shape, ranks, owners = placement.shape, placement.ranks, placement.owners
    sums: dict[Phase, int] = {}
    for edge in placement.edges():
        sums[edge.phase] = sums.get(edge.phase, 0) + edge.nbytes
    slices = {o: placement.elements_of(o) for o in owners}
    foreign = {o: sum(len(rank.roots) for rank in ranks if rank.number != o) for o in owners}
    partial = (
        sum(foreign[o] * (4 * slices[o] + 8 * (shape.sums if o == owners[0] else 2)) for o in owners)
        + foreign[owners[0]] * shape.statistics
        + sum(len(rank.shards) for rank in ranks if rank.number != owners[0]) * shape.row
    )
    others = len(ranks) - 1
    assert sums.get(Phase.REDUCE_SCATTER, 0) == partial
    assert sums.get(Phase.ALL_GATHER, 0) == others * (4 * shape.parameters + shape.statistics + shape.shards * shape.row)
    assert sums.get(Phase.ALL_GATHER_OPTIMIZER, 0) == others * 4 * shape.parameters * len(shape.slots)
    assert sums.get(Phase.ALL_GATHER_WEIGHTS, 0) == others * 8 * shape.weights * shape.shards
    assert sums.get(Phase.ALL_REDUCE_NORM, 0) == 8 * shape.norms * len(shape.blocks) * (len(owners) - 1)


@given(st.integers(1, 40), st.lists(st.integers(1, 8), min_size=1, max_size=12))
def test_shards_are_shared_out_by_threads(shards: int, threads: list[int]) -> None:
    placement = of_workers(shards, threads)
    if len(threads) <= shards and len(set(threads)) == 1:
        counts = [len(rank.shards) for rank in placement.ranks]
        assert max(counts) - min(counts) <= 1
    assert all(rank.threads <= len(rank.shards) for rank in placement.ranks)


def test_a_worker_of_three_threads_gets_three_times_the_shards() -> None:
    assert [len(rank.shards) for rank in of_workers(8, [3, 1]).ranks] == [6, 2]


def test_seven_shards_on_three_workers() -> None:
    assert [rank.shards for rank in of_workers(7, [1, 1, 1]).ranks] == [(0, 1, 2), (3, 4), (5, 6)]


def test_workers_beyond_the_shards_are_idle_and_those_with_data_are_not() -> None:
    workers = [WorkerInfo("a", held=0), WorkerInfo("b", held=5), WorkerInfo("c", held=9), WorkerInfo("d", held=0)]
    placement = place(StepShape(2, (10,)), workers)
    assert set(placement.workers) == {"b", "c"}
    assert placement.idle == ("a", "d")


@given(st.permutations(range(5)))
def test_the_order_in_which_workers_are_named_does_not_matter(order: list[int]) -> None:
    workers = [WorkerInfo(f"w{i}", "ab"[i % 2], 1 + i % 2, i) for i in range(5)]
    shape = StepShape(9, (3, 4, 5))
    assert place(shape, [workers[i] for i in order]) == place(shape, workers)


def test_shards_go_where_their_data_lies() -> None:
    shape = StepShape(4, (10,))
    workers = [WorkerInfo("a", near={2: 100, 3: 100}), WorkerInfo("b", near={0: 100, 1: 100})]
    found = {rank.worker: rank.shards for rank in place(shape, workers, row_bytes=1e6).ranks}
    assert found == {"a": (2, 3), "b": (0, 1)}


def test_scattered_shards_stay_where_the_data_is_only_if_that_saves_bytes() -> None:
    shape = StepShape(4, (1000,))
    workers = [WorkerInfo("a", near={0: 100, 2: 100}), WorkerInfo("b", near={1: 100, 3: 100})]
    heavy = {rank.worker: rank.shards for rank in place(shape, workers, row_bytes=1e6).ranks}
    light = {rank.worker: rank.shards for rank in place(shape, workers, row_bytes=1.0).ranks}
    assert heavy == {"a": (0, 2), "b": (1, 3)}
    assert light == {"a": (0, 1), "b": (2, 3)}


def test_without_workers_there_is_no_placement() -> None:
    with pytest.raises(ClusterError, match="no worker to place a rank on"):
        place(StepShape(2, (10,)), [])
