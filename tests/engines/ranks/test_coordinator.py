"""Sizes of segments; what else the coordinator decides is seen in the simulation."""

from dagtrain.engines.ranks.actions import Begin, Commit, SegmentPolicy
from dagtrain.engines.ranks.coordinator import Coordinator

STEP_TIME = 1e-3


def call(coordinator, steps, ending=0.0):
    """Some steps on two workers that do whatever is submitted at once; the coordinator, and the steps of its segments."""
    coordinator = coordinator or Coordinator(0.0, SegmentPolicy())
    coordinator.train(coordinator.committed, coordinator.committed.step + steps, 4)
    sizes = []
    coordinator.most_under_way = 0
    while True:
        coordinator.workers(["a", "b"])
        for action in coordinator.act():
            if isinstance(action, Begin):
                coordinator.placed(action.generation, action.workers)
                coordinator.started(action.generation)
            elif isinstance(action, Commit):
                sizes.append(action.steps)
        if coordinator.finished:
            return coordinator, sizes
        coordinator.most_under_way = max(coordinator.most_under_way, len(coordinator.group.under_way))
        for segment in list(coordinator.group.under_way):
            for rank in range(2):
                coordinator.reported(segment.generation, segment.segment, rank, segment.steps * STEP_TIME + ending, ending)


def test_segments_grow_to_the_length_that_is_wanted():
    _, sizes = call(None, 3000)
    assert sizes[0] == 2
    assert max(sizes) == round(SegmentPolicy().segment / STEP_TIME)
    assert all(b <= 4 * max([2, *sizes[: i + 1]]) for i, b in enumerate(sizes[1:]))


def test_a_few_last_steps_do_not_make_the_next_ones_begin_anew():
    coordinator, sizes = call(None, 101)
    for _ in range(2):
        coordinator, sizes = call(coordinator, 101)
    assert sizes == [101]


def test_segments_are_longer_where_their_end_takes_long():
    """An end of 0.1 s is to be 5 % of the time; but what a failure may cost is bounded."""
    coordinator, sizes = call(None, 20_000, ending=0.1)
    assert max(sizes) == round(0.1 / 0.05 / STEP_TIME)
    assert coordinator.most_under_way <= 3, "what is submitted may be dropped"
    coordinator, _ = call(None, 20_000)
    assert coordinator.most_under_way > 0
    _, sizes = call(None, 40_000, ending=5.0)
    assert max(sizes) == min(round(SegmentPolicy().longest / STEP_TIME), SegmentPolicy().most)


def test_an_end_that_was_held_up_once_makes_no_long_segment():
    coordinator, _ = call(None, 3000, ending=1e-3)
    coordinator, _ = call(coordinator, 1, ending=5.0)
    _, sizes = call(coordinator, 3000, ending=1e-3)
    assert max(sizes) == round(SegmentPolicy().segment / STEP_TIME)
