"""Mean and variance of data where it lies: exact, and the same bits whatever the partitions."""

from fractions import Fraction

import dask.array as da
import numpy as np
import pytest

from dagtrain.data import moments
from dagtrain.data.moments import Moments
from dagtrain.errors import ArgumentError, DataError, ShapeError

X = np.random.default_rng(0).normal(5.0, 2.0, size=(20_000, 6)).astype("f4")


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_partitions_change_no_bit():
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    table = pd.DataFrame(X, columns=list("abcdef"))
    whole = moments(X)
    exact = X.astype("f8")
    np.testing.assert_allclose(whole.mean, exact.mean(0), rtol=1e-14)
    np.testing.assert_allclose(whole.variance, exact.var(0), rtol=1e-13)
    assert whole.size == 20_000
    for other in (
        da.from_array(X, chunks=(7000, 3)),
        da.from_array(X, chunks=(999, 6)),
        table,
        dd.from_pandas(table, npartitions=7),
        np.asfortranarray(X),
    ):
        assert same(moments(other), whole)


def test_each_partition_is_read_once():
    reads = []

    def read(block, block_id=None):
        reads.append(block_id)
        return block

    lazy = da.from_array(X, chunks=(3000, 6)).map_blocks(read, dtype=X.dtype, meta=np.empty((0, 0), X.dtype))
    assert same(moments(lazy), moments(X))
    assert sorted(reads) == [(i, 0) for i in range(7)]


def test_a_large_mean_costs_no_digits():
    x = 1e6 + np.arange(30_000.0).reshape(-1, 1) % 7
    assert moments(x, dtype="f8").variance == pytest.approx(x.var(), rel=1e-12)


def test_they_are_exact():
    wide = np.random.default_rng(1).normal(size=(999, 2)) * np.exp(np.random.default_rng(2).normal(scale=30, size=(999, 2)))
    for x in (wide, np.array([[1e100], [1.0], [-1e100]]), np.array([[1e-300], [3e-300]])):
        statistics = moments(x, dtype="f8")
        for i, column in enumerate(x.T):
            numbers = list(map(Fraction, column.tolist()))
            mean = sum(numbers) / len(numbers)
            assert statistics.mean[i] == float(mean)
            if abs(x).max() > 1e-100:  # smaller squares are none in float64
                assert statistics.variance[i] == float(sum((number - mean) ** 2 for number in numbers) / len(numbers))
    with pytest.raises(DataError, match="whose square is none in float64"):
        moments(np.array([[1e200], [1.0]]), dtype="f8")


def test_axes_and_nests():
    pictures = X.reshape(1000, 5, 8, 3)
    np.testing.assert_allclose(moments(pictures).mean, pictures.astype("f8").mean((0, 1, 2)), rtol=1e-12)
    statistics = moments(pictures, axis=(1, 2, 3))
    assert statistics.mean.shape == (5, 8, 3)
    assert statistics.size == 1000
    one = moments(pictures, axis=None)
    assert (one.mean.shape, one.size) == ((), pictures.size)
    assert one.variance == pytest.approx(X.astype("f8").var(), rel=1e-12)
    both = moments({"a": X, "b": da.from_array(pictures.reshape(20_000, 6), chunks=(600, 6))})
    assert isinstance(both["a"], Moments)
    assert same(both["a"], both["b"])
    assert moments(np.arange(10, dtype="u1").reshape(5, 2)).mean.tolist() == [4.0, 5.0]


def test_mistakes():
    with pytest.raises(ShapeError, match=r"x has the axes 0 \(the samples\) to 1, and its samples not each of \(2,\) once"):
        moments(X, axis=2)
    with pytest.raises(ShapeError, match="once"):
        moments(X, axis=0)
    with pytest.raises(ArgumentError, match="axis is a whole number, several, or None"):
        moments(X, axis="features")
    with pytest.raises(DataError, match="x holds nan"):
        moments(np.array([[1.0], [np.nan]]))
    with pytest.raises(DataError, match=r"x holds nan: .*row 1"):
        moments(da.from_array(np.array([[1.0], [np.nan], [2.0]]), chunks=1))
