"""Whatever ranks and threads there are, what they add is the fixed tree: sums as text, in buffers that hold one text at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagtrain.engines.ranks.subtrees import Buffer, additions, roots_of, shard_order, under
from dagtrain.step.sum_tree import add_tree


class Text(str):
    """A summand that remembers how it was added; NumPy arrays of these behave as vectors."""

    __slots__ = ()

    def __add__(self, other: str) -> Text:
        return Text(f"({self!s}+{other!s})")


def tree(texts: Sequence[str | None]) -> str | None:
    """The fixed tree over these; None is an empty shard."""
    total = add_tree([None if t is None else np.array([Text(t)], object) for t in texts])
    return None if total is None else str(total[0])


class Memory:
    """Buffers of a rank; a sum that nobody has taken in yet may not be written over."""

    def __init__(self) -> None:
        self.held: dict[Buffer, str] = {}

    def compute(self, shard: int, buffer: Buffer) -> None:
        assert buffer not in self.held, f"shard {shard} overwrites {self.held.get(buffer)}, which is still needed"
        self.held[buffer] = str(shard)

    def add(self, left: Buffer, right: Buffer) -> None:
        assert left != right
        self.held[left] = f"({self.held[left]}+{self.held.pop(right)})"


def run(trees: Mapping[int, Sequence[int]], count: int, threads: int) -> dict[int, str]:
    """Do what the order says, a thread after the other; the sums that others read."""
    made = shard_order(trees, count, threads)
    memory = Memory()
    for number, chain in enumerate(made.threads):
        mine: set[Buffer] = set()
        for link in chain:
            memory.compute(link.shard, link.buffer)
            mine.add(link.buffer)
            assert link.buffer[0] == "partial" or link.buffer[1] == number
            for left, right in link.adds:
                assert {left, right} <= mine, "a thread touches memory that another one may be writing"
                memory.add(left, right)
    for left, right in made.joins:
        memory.add(left, right)
    assert all(kind == "partial" for kind, _, _ in memory.held), "a sum was left over"
    return {root: text for (_, root, _), text in memory.held.items()}


def check(shares: Sequence[Sequence[int]], count: int, present: Sequence[int], threads: int) -> None:
    """All ranks' partial sums, added as owners add them, are the tree over what is present."""
    partial: dict[int, str] = {}
    for shards in shares:
        roots = roots_of(shards, count)
        trees = {root: [s for s in some if s in present] for root, some in under(roots, shards, count).items()}
        if any(trees.values()):
            found = run(trees, count, threads)
            assert set(found) == {root for root, some in trees.items() if some}
            partial |= found
    for add in additions(sorted(partial), count):
        partial[add.left] = f"({partial[add.left]}+{partial.pop(add.right)})"
    (total,) = partial.values()
    assert total == tree([str(s) if s in present else None for s in range(count)])


def subsets(count: int) -> Iterator[tuple[int, ...]]:
    for size in range(1, count + 1):
        yield from combinations(range(count), size)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", range(1, 9))
def test_one_rank_adds_the_tree_whatever_is_present(count: int, threads: int) -> None:
    for present in subsets(count):
        check([range(count)], count, present, threads)


@pytest.mark.parametrize("count", range(2, 8))
def test_two_ranks_add_the_tree_however_the_shards_are_shared(count: int) -> None:
    for first in subsets(count - 1):
        rest = [s for s in range(count) if s not in first]
        for threads in (1, 2):
            check([first, rest], count, range(count), threads)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[int]], int, list[int], int]:
    count = draw(st.integers(1, 40))
    ranks = draw(st.integers(1, 6))
    owner = draw(st.lists(st.integers(0, ranks - 1), min_size=count, max_size=count))
    shares = [[s for s in range(count) if owner[s] == rank] for rank in range(ranks)]
    present = sorted(draw(st.sets(st.integers(0, count - 1), min_size=1)))
    return [share for share in shares if share], count, present, draw(st.integers(1, 5))


@given(cases())
def test_any_ranks_add_the_tree(case: tuple[list[list[int]], int, list[int], int]) -> None:
    check(*case)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 16, 64, 100])
def test_a_thread_needs_no_more_memory_than_the_tree_is_deep(count: int) -> None:
    made = shard_order({0: range(count)}, count)
    own = {link.buffer for link in made.threads[0] if link.buffer[0] == "own"}
    assert len(own) <= max(count - 1, 1).bit_length()


@given(st.integers(1, 40), st.integers(1, 6))
def test_threads_share_a_ranks_shards_evenly(count: int, threads: int) -> None:
    lengths = [len(chain) for chain in shard_order({0: range(count)}, count, threads).threads]
    assert len(lengths) == threads
    assert max(lengths) - min(lengths) <= 1


def test_roots_are_the_least_of_their_shards() -> None:
    for count in range(1, 18):
        for first in range(count):
            for last in range(first + 1, count + 1):
                shards = list(range(first, last))
                found = under(roots_of(shards, count), shards, count)
                assert sorted(s for some in found.values() for s in some) == shards
                assert all(root == min(some) for root, some in found.items())


@given(st.integers(2, 130).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_the_additions_need_no_more_memory_than_the_tree_is_deep(case: tuple[int, set[int]]) -> None:
    count, present = case
    sums: set[int] = set()  # results that are not yet taken in; what is added first lies elsewhere
    for left, right in additions(present, count):
        sums -= {left, right}
        sums.add(left)
        assert len(sums) <= count.bit_length() - 1
