"""The order in which shards are added depends on their number alone, in every engine."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagtrain.engines.scheduler.step_graph import ShardResult, step_tasks, total_task
from dagtrain.step.parts import ShardOutputs
from dagtrain.step.statistics import StatisticsLayout
from dagtrain.step.sum_tree import add_tree, tree_levels


def written(shards, present):
    """The sum as text, by another recursion: a node of width w has two halves of width w / 2; an empty half is left out."""

    def node(first, width):
        if first >= shards:
            return None
        if width == 1:
            return str(first) if first in present else None
        left, right = node(first, width // 2), node(first + width // 2, width // 2)
        return f"({left}+{right})" if left and right else left or right

    width = 1
    while width < shards:
        width *= 2
    return node(0, width)


class Written:
    """A summand that records its additions; NumPy arrays of these behave like vectors."""

    def __init__(self, text):
        self.text = text

    def __add__(self, other):
        return Written(f"({self.text}+{other.text})")


def vectors(shards, present):
    return [np.array([Written(str(s))], object) if s in present else None for s in range(shards)]


cut = st.integers(1, 17).flatmap(lambda shards: st.tuples(st.just(shards), st.sets(st.integers(0, shards - 1), min_size=1)))


@given(cut)
def test_the_tree_adds_halves_of_powers_of_two(case):
    shards, present = case
    assert add_tree(vectors(shards, present))[0].text == written(shards, present)


@pytest.mark.parametrize("shards", range(1, 18))
def test_every_shard_but_the_first_is_added_once(shards):
    taken = [right for level in tree_levels(shards) for _, right in level]
    assert sorted(taken) == list(range(1, shards))


def test_summands_do_not_change():
    parts = [np.full(3, float(s)) for s in range(5)]
    before = [p.copy() for p in parts]
    total = add_tree(parts)
    total += 1
    alone = add_tree([None, parts[1], None])
    alone += 1
    assert np.array_equal(parts, before)


def test_the_sum_is_written_to_out():
    out = np.empty(2)
    assert add_tree([np.ones(2), None, np.ones(2)], out) is out
    assert out.tolist() == [2, 2]


def test_nothing_adds_up_to_nothing():
    assert add_tree([None, None, None]) is None


@given(cut)
def test_the_tasks_of_a_step_group_the_sum_as_the_tree_does(case):
    shards, present = case
    batch = [np.arange(1) if s in present else np.arange(0) for s in range(shards)]
    tasks, last = step_tasks("t", "program", "state", ["data"], [1], [batch], 0)
    done = {
        key: ShardResult(ShardOutputs(*[vectors(shards, present)[key[2]]] * 2, b"", [key[2]])) for key in tasks if key[0] == "gradient-t"
    }
    done["program"] = SimpleNamespace(statistics_layout=StatisticsLayout.of({}, {}))
    done |= {key: task(done) for key, task in tasks.items() if task.func is total_task}
    _, _, places, width, *subtotals = tasks[last].args
    values = [None] * width
    for place, subtotal in zip(places(), subtotals, strict=True):
        values[place] = done[subtotal.key].outputs.gradient
    assert add_tree(values)[0].text == written(shards, present)
