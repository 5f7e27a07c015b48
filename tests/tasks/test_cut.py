"""Cutting a graph into groups: no cycles, no worthwhile parallel work lost, no tiny groups, in reasonable time."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagtrain.tasks.cut import cut, topological_groups

WORTH = 1.0
Reads = list[list[int]]


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[float], Reads]:
    """A random directed graph in topological order, with costs around the worth of a task."""
    count = draw(st.integers(1, 40))
    reach = draw(st.sampled_from([2, 5, 40]))
    reads = [sorted(draw(st.sets(st.integers(max(0, i - reach), i - 1), max_size=3))) if i else [] for i in range(count)]
    costs = draw(st.lists(st.sampled_from([0.0, 0.01, 0.3, 0.9, 1.5, 20.0]), min_size=count, max_size=count))
    return costs, reads


def makespan(groups: Sequence[Sequence[int]], costs: Sequence[float], reads: Reads) -> float:
    """Time on as many workers as there are groups, each beginning when all its inputs are ready."""
    group_of = {node: g for g, members in enumerate(groups) for node in members}
    end: list[float] = []
    for g, members in enumerate(groups):
        begin = max((end[group_of[s]] for node in members for s in reads[node] if group_of[s] != g), default=0.0)
        end.append(begin + sum(costs[node] for node in members))
    return max(end)


@settings(max_examples=150, deadline=None)
@given(programs())
def test_every_node_is_in_one_group_that_stands_after_those_it_reads(program: tuple[list[float], Reads]) -> None:
    costs, reads = program
    groups = cut(costs, reads, WORTH)
    assert sorted(node for members in groups for node in members) == list(range(len(costs)))
    group_of = {node: g for g, members in enumerate(groups) for node in members}
    assert all(group_of[s] <= group_of[node] for node, sources in enumerate(reads) for s in sources)
    assert all(members == sorted(members) for members in groups)


@settings(max_examples=150, deadline=None)
@given(programs())
def test_cutting_costs_little_of_the_parallel_work(program: tuple[list[float], Reads]) -> None:
    costs, reads = program
    groups = cut(costs, reads, WORTH)
    alone = [[i] for i in range(len(costs))]
    # Each node on a path waits for one sibling that is not worth a task, and for less than two such among followers and leaders.
    bound = makespan(alone, costs, reads) + 3 * WORTH * makespan(alone, [1.0] * len(costs), reads)
    assert makespan(groups, costs, reads) <= min(sum(costs), bound) + 1e-9


def test_on_average_the_time_is_near_the_critical_path() -> None:
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(60):
        reads = [sorted({int(j) for j in rng.integers(max(0, i - 10), i, rng.integers(0, 3))}) if i else [] for i in range(80)]
        costs = list(rng.choice([0.001, 0.1, 0.5, 2.0, 10.0], 80) * rng.random(80))
        groups = cut(costs, reads, WORTH)
        ratios.append(makespan(groups, costs, reads) / makespan([[i] for i in range(80)], costs, reads))
    assert np.mean(ratios) < 1.15


def test_little_work_is_one_group() -> None:
    assert cut([0.1] * 10, [[], *([i] for i in range(9))], WORTH) == [list(range(10))]
    assert cut([0.9, 0.9], [[], []], WORTH) == [[0, 1]]
    assert cut([], [], WORTH) == []


@pytest.mark.parametrize("cost", [0.01, 0.3, 5.0])
def test_a_chain_is_one_group(cost: float) -> None:
    assert len(cut([cost] * 1000, [[], *([i] for i in range(999))], WORTH)) == 1


def test_forward_and_backward_through_one_chain_is_one_group() -> None:
    n = 500
    reads = [[], *([i] for i in range(n - 1))] + [[n - 1 + i, n - 1 - i] for i in range(n)]
    assert len(cut([0.3] * 2 * n, reads, WORTH)) == 1


def test_long_branches_stay_apart_and_short_ones_do_not() -> None:
    reads: Reads = [[]]
    costs = [0.1]
    ends = []
    for cost in (0.05, 0.05, 0.001):
        for i in range(100):
            reads.append([0] if not i else [len(reads) - 1])
            costs.append(cost)
        ends.append(len(reads) - 1)
    groups = cut([*costs, 0.1], [*reads, ends], WORTH)
    group_of = {node: g for g, members in enumerate(groups) for node in members}
    assert group_of[50] != group_of[150]
    assert sum(sum([*costs, 0.1][n] for n in members) >= WORTH for members in groups) == 2
    assert len(groups) <= 4


def test_a_join_of_two_long_branches_makes_neither_wait_for_the_other() -> None:
    costs, reads = [20.0, 20.0, 0.01, 5.0, 5.0], [[], [], [0, 1], [2], [2]]
    assert makespan(cut(costs, reads, WORTH), costs, reads) <= 25.1


def test_many_small_groups_between_two_nodes_are_joined() -> None:
    n = 3000
    groups = cut([0.1] * n, [[], *([0] for _ in range(n - 2)), list(range(1, n - 1))], WORTH)
    assert 250 <= len(groups) <= 310


def test_small_groups_without_neighbours_are_joined() -> None:
    assert len(cut([0.1] * 1000, [[] for _ in range(1000)], WORTH)) <= 101


@pytest.mark.slow
def test_large_graphs_are_cut_in_time() -> None:
    n = 10_000
    rng = np.random.default_rng(0)
    tangle = [sorted({int(j) for j in rng.integers(max(0, i - 50), i, 2)}) if i else [] for i in range(n)]
    skips = [[], *([i] for i in range(n // 2 - 1))] + [[n // 2 - 1 + i, n // 2 - 1 - i] for i in range(n // 2)]
    started = time.perf_counter()
    for reads in (tangle, skips, [[] if i < 8 else [i - 8] for i in range(n)]):
        cut([0.1] * n, reads, WORTH)
    assert time.perf_counter() - started < 20


def test_the_order_of_groups_follows_their_nodes() -> None:
    assert topological_groups([1, 1, 0, 0, 2], [[], [0], [], [2], [1, 3]]) == [[0, 1], [2, 3], [4]]


def test_the_cut_is_the_same_each_time() -> None:
    rng = np.random.default_rng(1)
    reads = [sorted({int(j) for j in rng.integers(max(0, i - 20), i, 2)}) if i else [] for i in range(300)]
    costs = list(rng.random(300))
    assert cut(costs, reads, WORTH) == cut(costs, reads, WORTH)
