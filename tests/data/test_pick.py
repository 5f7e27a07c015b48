"""Where samples lie: every row from its partition to its place, whatever the partitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagtrain.data.pick import assemble, gather_plan, samples_of
from dagtrain.errors import ArgumentError


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.data())
def test_rows_that_are_put_together_as_planned_are_those_wanted(sizes, data):
    wanted = np.array(data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=60)), np.intp)
    partitions = np.split(np.arange(sum(sizes)) * 10, np.cumsum(sizes)[:-1])
    out = np.full(len(wanted), -1)
    plan = gather_plan(wanted, sizes)
    for partition, places, within, _ in plan:
        assert len(places)
        assert (np.diff(places) > 0).all()
        out[places] = partitions[partition][within]
    assert np.array_equal(out, wanted * 10)
    assert [p.partition for p in plan] == sorted({p.partition for p in plan})


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.data())
def test_consecutive_samples_are_planned_in_ranges(sizes, data):
    start = data.draw(st.integers(0, sum(sizes) - 1))
    wanted = range(start, data.draw(st.integers(start, sum(sizes))))
    plan = gather_plan(wanted, sizes)
    one_by_one = gather_plan(np.array(wanted, np.intp), sizes)
    assert [(p.partition, list(p.places), list(p.within), p.first) for p in plan] == [
        (p.partition, p.places.tolist(), p.within.tolist(), p.first) for p in one_by_one
    ]
    assert all(isinstance(p.places, range) and isinstance(p.within, range) for p in plan)


@pytest.mark.parametrize("wanted", [np.array([4, 0, 5, 1]), range(1, 5)], ids=["drawn", "in a row"])
@pytest.mark.parametrize("given_out", [True, False])
def test_rows_of_x_and_y_are_put_together(wanted, given_out):
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6) * 10
    partitions = [(x[:3], y[:3]), (x[3:], y[3:])]
    out = (np.empty((4, 2)), np.empty(4, int)) if given_out else None
    plan = gather_plan(wanted, (3, 3))
    found = assemble(plan, partitions, out)
    assert np.array_equal(found[0], x[wanted])
    assert np.array_equal(found[1], y[wanted])
    assert out is None or found is out
    assert samples_of(plan).tolist() == list(wanted)
    assert assemble(plan, [(part, None) for part, _ in partitions])[1] is None


def test_more_partitions_than_sixteen_bits_can_number():
    (found,) = gather_plan(np.array([39_999]), [1] * 40_000)
    assert (found.partition, found.within.tolist()) == (39_999, [0])


@pytest.mark.parametrize("samples", [[0, -1], [3, 6]])
def test_numbers_that_are_of_no_sample_are_refused(samples):
    with pytest.raises(ArgumentError, match="from 0 to 5"):
        gather_plan(np.array(samples), [3, 3])
