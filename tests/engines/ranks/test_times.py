"""How a rank's time is divided, by a clock of the test."""

from __future__ import annotations

from itertools import count

import pytest

from dagtrain.engines.ranks.times import COMPUTE, EXCHANGE, TIMED, WAIT, SegmentTimes
from dagtrain.report.records import KINDS, StepTimes


def test_the_kinds_are_those_of_the_records() -> None:
    assert tuple(KINDS[i] for i in (COMPUTE, EXCHANGE, WAIT)) == StepTimes._fields[3:]


def test_the_whole_of_a_timed_step_is_divided() -> None:
    moments = iter([0.0, 2.0, 3.0, 7.0, 7.5])
    times = SegmentTimes(1, lambda: next(moments))
    times.begin(0)
    times.spend(EXCHANGE)
    times.spend(EXCHANGE)  # asks no clock
    times.spend(WAIT)
    times.spend(COMPUTE)
    times.end()
    times.spend(WAIT)  # after the step
    assert times.mean() == (2.5, 1.0, 4.0)


@pytest.mark.parametrize("steps", [1, TIMED, 10 * TIMED, 10 * TIMED + 7])
def test_the_clock_is_asked_as_often_in_a_long_segment_as_in_a_short_one(steps: int) -> None:
    asked = count()
    times = SegmentTimes(steps, lambda: float(next(asked)))
    for step in range(steps):
        times.begin(step)
        times.spend(WAIT)
    times.end()
    assert next(asked) <= 2 * 3 * TIMED
    assert sum(times.mean()) > 0
