"""Where samples lie: every row from its partition to its place, whatever the partitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagtrain.data.pick import gather_plan
from dagtrain.errors import ArgumentError


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.data())
def test_rows_that_are_put_together_as_planned_are_those_wanted(sizes, data):
    wanted = np.array(data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=60)), np.intp)
    partitions = np.split(np.arange(sum(sizes)) * 10, np.cumsum(sizes)[:-1])
    out = np.full(len(wanted), -1)
    plan = gather_plan(wanted, sizes)
    for partition, places, within in plan:
        assert len(places)
        assert (np.diff(places) > 0).all()
        out[places] = partitions[partition][within]
    assert np.array_equal(out, wanted * 10)
    assert [p for p, _, _ in plan] == sorted({p for p, _, _ in plan})


def test_more_partitions_than_sixteen_bits_can_number():
    (found,) = gather_plan(np.array([39_999]), [1] * 40_000)
    assert (found.partition, found.within.tolist()) == (39_999, [0])


@pytest.mark.parametrize("samples", [[0, -1], [3, 6]])
def test_numbers_that_are_of_no_sample_are_refused(samples):
    with pytest.raises(ArgumentError, match="from 0 to 5"):
        gather_plan(np.array(samples), [3, 3])
