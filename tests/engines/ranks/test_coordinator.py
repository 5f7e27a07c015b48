"""Sizes of segments; what else the conductor decides is seen in the simulation."""

from dagtrain.engines.ranks.coordinator import Conductor
from dagtrain.engines.ranks.instructions import Begin, Commit, Done, Patience

PACE = 1e-3


def call(before, steps, beyond=0, ending=0.0):
    """One stretch on two workers that do whatever is submitted at once; the conductor, and the steps of its segments."""
    conductor = Conductor(steps, 4, 0.0, Patience(), before and before.pace, beyond)
    if before is not None:
        conductor.continue_from(before)
    sizes = []
    conductor.most_under_way = 0
    while True:
        conductor.workers(["a", "b"])
        actions = conductor.act()
        for action in actions:
            if isinstance(action, Begin):
                conductor.placed(action.group, action.workers)
                conductor.started(action.group)
            elif isinstance(action, Commit):
                sizes.append(action.steps)
            elif isinstance(action, Done):
                return conductor, sizes
        conductor.most_under_way = len(conductor.group.under_way)
        for segment in list(conductor.group.under_way):
            for rank in range(2):
                conductor.reported(segment.group, segment.segment, rank, segment.steps * PACE + ending, ending)


def test_segments_grow_to_the_length_that_is_wanted():
    _, sizes = call(None, 3000)
    assert sizes[0] == 2
    assert max(sizes) == round(Patience().segment / PACE)
    assert all(b <= 4 * max([2, *sizes[: i + 1]]) for i, b in enumerate(sizes[1:]))


def test_a_short_end_of_a_stretch_does_not_make_the_next_one_begin_anew():
    conductor, sizes = call(None, 101)
    for _ in range(2):
        conductor, sizes = call(conductor, 101)
    assert sizes == [101]


def test_segments_are_longer_where_their_end_takes_long():
    """An end of 0.1 s is to be 5 % of the time; but what a failure may cost is bounded."""
    conductor, sizes = call(None, 20_000, ending=0.1)
    assert max(sizes) == round(0.1 / 0.05 / PACE)
    assert conductor.most_under_way <= 2, "whoever stops waits for them"
    conductor, _ = call(None, 20_000)
    assert conductor.most_under_way > 0
    _, sizes = call(None, 40_000, ending=5.0)
    assert max(sizes) == min(round(Patience().longest / PACE), Patience().most)


def test_an_end_that_was_held_up_once_makes_no_long_segment():
    conductor, _ = call(None, 3000, ending=1e-3)
    conductor, _ = call(conductor, 1, ending=5.0)
    _, sizes = call(conductor, 3000, ending=1e-3)
    assert max(sizes) == round(Patience().segment / PACE)
