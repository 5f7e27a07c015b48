"""Real data that needs no download: the 1,797 handwritten digits of 8 x 8 grey pixels that come with scikit-learn."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dagtrain.data.batches import epoch_order
from dagtrain.errors import MissingDependencyError

__all__ = ["Split", "load_digits"]

_FILE = "datasets/data/digits.csv.gz"
_HELD_OUT = 5
_BRIGHTEST = 16.0
_PARTITION = 256


class Split(NamedTuple):
    """Data to train on and data held out."""

    x: Any
    y: Any
    x_validation: Any
    y_validation: Any


def load_digits(as_dask: bool = False, seed: int = 0) -> Split:
    """Scikit-learn's handwritten digits, split into 1,437 samples for training and 360 held out.

    Every fifth sample of each class is held out, drawn from the seed; each set keeps the order of the original.

    Parameters
    ----------
    as_dask
        Give dask arrays in partitions of 256 samples instead of NumPy arrays.
    seed
        Seed of the samples held out.

    Returns
    -------
    Split
        ``x`` (1437, 64) and ``x_validation`` (360, 64) hold the pixels as float32 from 0 to 1, ``y`` (1437,) and ``y_validation`` (360,)
        the digits 0 to 9 as int64.

    Raises
    ------
    MissingDependencyError
        If scikit-learn is not installed.

    References
    ----------
    E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998 (its test set).

    Examples
    --------
    >>> x, y, x_validation, y_validation = load_digits()
    >>> x.shape, x_validation.shape, str(x.dtype), float(x.max())
    ((1437, 64), (360, 64), 'float32', 1.0)
    """
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise MissingDependencyError.of("scikit-learn", "the digits data set", "sklearn")
    table = np.loadtxt(Path(package.submodule_search_locations[0], _FILE), delimiter=",")  # importing sklearn takes seconds
    x, y = (table[:, :-1] / _BRIGHTEST).astype(np.float32), table[:, -1].astype(np.int64)
    order = epoch_order(len(y), seed, epoch=0)
    by_class = order[np.argsort(y[order], kind="stable")]
    held_out = np.zeros(len(y), bool)
    held_out[by_class[::_HELD_OUT]] = True
    parts = (x[~held_out], y[~held_out], x[held_out], y[held_out])
    if as_dask:
        import dask.array as da

        return Split(*(da.from_array(part, chunks=(_PARTITION, *part.shape[1:])) for part in parts))
    return Split(*parts)
