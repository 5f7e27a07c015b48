"""Files through dask: Parquet and Zarr, read on the workers."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from dagtrain.data import open_source
from dagtrain.errors import DataError

X = np.random.default_rng(0).random((50, 4))
LABELS = np.arange(50) % 3

# dask 2026.8 reads Parquet with arguments that pandas 3.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")
FRAME = pd.DataFrame(X, columns=list("abcd")).assign(label=LABELS)


def written(frame, folder):
    """A folder of three Parquet files, opened."""
    pytest.importorskip("pyarrow")
    folder.mkdir()
    for i, start in enumerate((0, 17, 34)):
        frame[start : start + 17].reset_index(drop=True).to_parquet(folder / f"part-{i}.parquet", index=False)
    return dd.read_parquet(folder)


@pytest.fixture
def parquet(tmp_path):
    return written(FRAME, tmp_path / "data")


def test_parquet(parquet):
    source = open_source(parquet[["a", "b", "c", "d"]], parquet["label"], targets="classes", classes=3)
    assert source.sizes == (17, 17, 16)
    assert np.array_equal(source.local()[0], X.astype("f4"))
    assert np.array_equal(source.local()[1], LABELS)


def test_arithmetic_on_columns_of_parquet(parquet):
    source = open_source(parquet[["a"]] * 2, parquet["label"] * 0.5, targets="like_outputs")
    assert np.array_equal(source.local()[0], (FRAME[["a"]] * 2).to_numpy("f4"))


def test_rows_of_parquet_that_are_filtered_have_unknown_sizes(parquet):
    filtered = parquet[parquet["label"] > 0]
    source = open_source(filtered[["a", "b"]], filtered["label"], targets="classes")
    assert source.samples == (LABELS > 0).sum()
    assert np.array_equal(source.local()[0], X[LABELS > 0, :2].astype("f4"))


def test_text_in_parquet_is_refused_by_its_column(tmp_path):
    x = written(FRAME.assign(town="Bonn"), tmp_path / "data")
    with pytest.raises(DataError, match="column 'town' of x has dtype str"):
        open_source(x, LABELS, targets="classes")


def test_zarr(tmp_path):
    pytest.importorskip("zarr")
    da.from_array(X, chunks=(20, 2)).to_zarr(str(tmp_path / "x.zarr"))
    source = open_source(da.from_zarr(str(tmp_path / "x.zarr")), LABELS, targets="classes")
    assert source.sizes == (20, 20, 10)
    assert np.array_equal(source.local()[0], X.astype("f4"))


def test_arrays_saved_by_blocks(tmp_path):
    da.to_npy_stack(tmp_path / "x", da.from_array(X, chunks=(20, 4)))
    source = open_source(da.from_npy_stack(tmp_path / "x"), LABELS, targets="classes")
    assert (source.sizes, source.resident) == ((20, 20, 10), False)
    assert np.array_equal(source.local()[0], X.astype("f4"))
