"""What the bits depend on besides model, data, seed and shards: dagtrain, NumPy, and its BLAS with the kernel that it chose."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dagtrain._version import __version__
from dagtrain.plan.blas import blas_description

__all__ = ["other_software", "software"]


def software() -> dict[str, str]:
    """Name → version, of this process."""
    return {"dagtrain": __version__, "numpy": np.__version__, "blas": blas_description()}


def other_software(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Where two of them differ.

    Examples
    --------
    >>> other_software({"numpy": "2.4.0"}, {"numpy": "2.4.6"})
    ['numpy: 2.4.0 there, 2.4.6 here']
    """
    return [f"{name}: {there.get(name)} there, {version} here" for name, version in here.items() if there.get(name) != version]
