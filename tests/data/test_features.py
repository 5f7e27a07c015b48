"""Columns of tables as numbers: learnt to the last bit whatever the partitions, and encoded by stated codes."""

from __future__ import annotations

from itertools import pairwise

import dask
import dask.array as da
import numpy as np
import pytest

from dagtrain.data import Category, Features, Number
from dagtrain.errors import ArgumentError, DataError, ShapeError, UnknownNameError

pd = pytest.importorskip("pandas")
dd = pytest.importorskip("dask.dataframe")


def table(rows: int = 1000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    income = np.where(rng.random(rows) < 0.1, np.nan, np.exp(rng.normal(8, 3, rows)))
    city = pd.array(rng.choice(["Ulm", "Bonn", "Köln"], rows), dtype="string").copy()
    city[rng.random(rows) < 0.2] = pd.NA
    return pd.DataFrame({"age": rng.integers(18, 80, rows), "income": income, "city": city, "kind": rng.integers(0, 4, rows)})


def test_partitions_change_no_bit() -> None:
    whole = table()
    features = Features.learn(whole, categories=["kind"])
    incomes = whole["income"].dropna().to_numpy()
    assert features.columns[1].mean == pytest.approx(incomes.mean(), rel=1e-14)
    assert features.columns[1].variance == pytest.approx(incomes.var(), rel=1e-13)
    assert [column.values for column in features.categories] == [("Bonn", "Köln", "Ulm"), (0, 1, 2, 3)]
    cuts = [0, 1, 10, 600, 1000]
    parts = [whole[a:b] for a, b in pairwise(cuts)]
    for other in (
        dd.from_pandas(whole, npartitions=3),
        dd.from_pandas(whole.sample(frac=1, random_state=0).reset_index(drop=True), npartitions=7),
        [dask.delayed(part) for part in parts],
        [dask.delayed((part, part["age"])) for part in parts],
        dd.from_pandas(whole.astype({"city": "category"}), npartitions=2),
    ):
        assert Features.learn(other, categories=["kind"]) == features
    encoded = features.encode(whole)
    for lazy in (
        features.encode(dd.from_pandas(whole, npartitions=3)).compute(),
        pd.concat(dask.compute(*features.encode([dask.delayed(whole)]))),
    ):
        pd.testing.assert_frame_equal(lazy, encoded)


def test_each_partition_is_read_once() -> None:
    reads = []

    def read(number: int) -> pd.DataFrame:
        reads.append(number)
        return table(10 + number)

    assert Features.learn(dd.from_map(read, range(4), meta=table(1)[:0])) == Features.learn(pd.concat(map(table, range(10, 14))))
    assert sorted(reads) == [0, 1, 2, 3]


def test_codes_and_fills() -> None:
    features = Features(
        (Number("age", 40.0, 100.0, 50.0, False), Number("income", 0.0, 4.0, 0.0, True), Category("city", ("Bonn", "Ulm"), True))
    )
    new = pd.DataFrame({"city": ["Ulm", "Oz", None, "Bonn"], "age": [30, None, 50, 40], "income": [2, 4, None, 0]})
    assert features.encode(new).to_dict("list") == {
        "age": [-1, 1, 1, 0],
        "income": [1, 2, 0, 0],
        "income is missing": [0, 0, 1, 0],
        "city": [3, 1, 0, 2],
    }
    learnt = Features.learn(pd.DataFrame({"city": list("aabbc"), "size": [1, 2, 3, None, 4]}), least=2, fill={"size": 0})
    assert learnt.columns == (Category("city", ("a", "b"), False), Number("size", 2.5, 1.25, 0.0, True))
    amounts = pd.DataFrame({"amount": np.expm1([0.0, 2.0, 4.0])})
    logarithms = Features.learn(amounts, log=["amount"])
    assert logarithms.columns[0].mean == pytest.approx(2.0)
    np.testing.assert_allclose(logarithms.encode(amounts)["amount"], np.array([-1, 0, 1]) * 1.5**0.5, atol=1e-12)
    with pytest.raises(DataError, match=r"has no log\(1 \+ x\): row 1"):
        Features.learn(pd.DataFrame({"amount": [0.0, -1.0]}), log=["amount"])


def test_arrays() -> None:
    x = np.array([[1.0, 3], [2, np.nan], [6, 5]])
    features = Features.learn(x, categories=["1"])
    assert features == Features.learn(da.from_array(x, chunks=(2, 1)), categories=["1"])
    assert features.columns[1] == Category("1", (3, 5), True)
    assert features.encode(x)[:, 1].tolist() == [2, 0, 3]
    np.testing.assert_array_equal(features.encode(da.from_array(x, chunks=1)).compute(), features.encode(x))


def test_objects_that_are_numbers_are_numbers() -> None:
    frame = pd.DataFrame({"n": [1.0, None, 2.0], "c": ["a", "b", "a"]})
    features = Features.learn(frame)
    assert Features.learn(frame.astype(object)) == features
    person = pd.DataFrame({"n": [None], "c": [None]})  # both columns are objects
    assert features.encode(person).iloc[0].tolist() == [0.0, 1.0, 0.0]
    assert features.encode(frame.iloc[2].to_frame().T)["n"].item() == features.encode(frame)["n"][2]


def test_partitions_may_hold_gaps_alone() -> None:
    frame = pd.DataFrame({"n": [1.0, 2.0], "c": ["a", "b"]})
    gaps = pd.DataFrame({"n": [None, None], "c": [np.nan, np.nan]})  # objects, and floats
    parts = [dask.delayed(frame), dask.delayed(gaps)]
    features = Features.learn(parts)
    assert features == Features.learn(pd.concat([frame, gaps.astype({"n": float, "c": object})]))
    assert dask.compute(*features.encode(parts))[1].to_dict("list") == {"n": [0, 0], "n is missing": [1, 1], "c": [0, 0]}


def test_mistakes() -> None:
    frame = pd.DataFrame({"n": [1.0, 2.0], "c": ["a", "b"]})
    features = Features.learn(frame)
    for wrong, says in (
        (frame[["n"]], r"comes without 'c'"),
        (frame.assign(c=1), r"'c' of the table holds 1, and held text"),
        (frame.assign(n="a"), r"'n' of the table has dtype .*, and held numbers"),
    ):
        with pytest.raises(DataError, match=says):
            features.encode(wrong)
    infinite = dd.from_pandas(pd.DataFrame({"n": [0.0, 1, 2, 3, np.inf, 5]}), npartitions=3)
    for wrong, says in (
        (infinite, "'n' of the table holds a number that is infinite: row 4"),
        (frame.assign(n=np.nan), "'n' of the table holds no values"),
        (frame.assign(n=pd.Timestamp(0)), "Turn dates into numbers"),
        (frame.assign(c=[0.5, "a"]), "holds 0.5: categories are text or whole numbers"),
        ([dask.delayed(frame), dask.delayed(frame.assign(n="a"))], "numbers in some partitions and categories in others"),
        (frame["n"], "without columns"),
        (frame.assign(n=1e200), "whose square is none in float64"),
    ):
        with pytest.raises(DataError, match=says):
            Features.learn(wrong)
    with pytest.raises(ArgumentError, match="fill are for columns of numbers, and 'c' is none"):
        Features.learn(frame, fill={"c": 1.0})
    for fill, says in ((0, "a dict of numbers by column"), ({"n": -2.0}, "'n' has no log")):
        with pytest.raises(ArgumentError, match=says):
            Features.learn(frame, fill=fill, log=["n"])
    with pytest.raises(ShapeError, match="a number for each of n, c, got \\(2, 3\\)"):
        features.by_column(np.ones((2, 3)))
    with pytest.raises(UnknownNameError, match="'d'"):
        Features.learn(frame, categories=["d"])
