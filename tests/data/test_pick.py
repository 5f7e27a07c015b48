"""Gathering samples: every row goes from its partition to its place, for any partitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagtrain.data.pick import assemble, gather_plan, samples_of
from dagtrain.errors import ArgumentError


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.data())
def test_rows_assembled_by_the_plan_are_the_samples(sizes, data):
    samples = np.array(data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=60)), np.intp)
    partitions = np.split(np.arange(sum(sizes)) * 10, np.cumsum(sizes)[:-1])
    out = np.full(len(samples), -1)
    plan = gather_plan(samples, sizes)
    for partition, places, within, _ in plan:
        assert len(places)
        assert (np.diff(places) > 0).all()
        out[places] = partitions[partition][within]
    assert np.array_equal(out, samples * 10)
    assert [p.partition for p in plan] == sorted({p.partition for p in plan})


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.data())
def test_consecutive_samples_are_planned_in_ranges(sizes, data):
    start = data.draw(st.integers(0, sum(sizes) - 1))
    samples = range(start, data.draw(st.integers(start, sum(sizes))))
    plan = gather_plan(samples, sizes)
    one_by_one = gather_plan(np.array(samples, np.intp), sizes)
    assert [(p.partition, list(p.places), list(p.within), p.first) for p in plan] == [
        (p.partition, p.places.tolist(), p.within.tolist(), p.first) for p in one_by_one
    ]
    assert all(isinstance(p.places, range) and isinstance(p.within, range) for p in plan)


@pytest.mark.parametrize("samples", [np.array([4, 0, 5, 1]), range(1, 5)], ids=["drawn", "consecutive"])
@pytest.mark.parametrize("has_out", [True, False])
def test_rows_of_x_and_y_are_assembled(samples, has_out):
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6) * 10
    partitions = [(x[:3], y[:3]), (x[3:], y[3:])]
    out = (np.empty((4, 2)), np.empty(4, int)) if has_out else None
    plan = gather_plan(samples, (3, 3))
    rows = assemble(plan, partitions, out)
    assert np.array_equal(rows[0], x[samples])
    assert np.array_equal(rows[1], y[samples])
    assert out is None or rows is out
    assert samples_of(plan).tolist() == list(samples)
    assert len(assemble(plan, [(part,) for part, _ in partitions])) == 1


def test_more_partitions_than_sixteen_bits_can_number():
    (pick,) = gather_plan(np.array([39_999]), [1] * 40_000)
    assert (pick.partition, pick.within.tolist()) == (39_999, [0])


@pytest.mark.parametrize("samples", [[0, -1], [3, 6]])
def test_numbers_that_are_of_no_sample_are_refused(samples):
    with pytest.raises(ArgumentError, match="from 0 to 5"):
        gather_plan(np.array(samples), [3, 3])
