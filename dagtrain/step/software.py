"""The software that bits depend on: dagtrain, NumPy, its BLAS with the kernel that BLAS chose, and NumPy's functions.

NumPy chooses code for exp, log, tanh and others by the processor's features, and takes others from the system's C library: another
processor or system may give other last bits with the same versions. So a digest of computed values is compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache

import numpy as np

from dagtrain._version import __version__
from dagtrain.plan.blas import blas_description

__all__ = ["functions_description", "other_software", "software"]

_FUNCTIONS = ["exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "cbrt", "sin", "cos", "tan", "arctan", "sinh", "cosh", "tanh"]


def software() -> dict[str, str]:
    """Name → version, of this process."""
    return {"dagtrain": __version__, "numpy": np.__version__, "blas": blas_description(), "functions": functions_description()}


@cache
def functions_description() -> str:
    """The processor targets of the functions that NumPy chose here, and a digest of their results; takes 2 ms, once."""
    digest = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        x = np.linspace(0.01, 9.99, 997).astype(dtype)
        for result in (*(getattr(np, name)(x) for name in _FUNCTIONS), np.power(x, x[::-1]), np.arctan2(x, x[::-1]), x.sum()):
            digest.update(result.tobytes())
    infos = np.lib.introspect.opt_func_info(func_name=f"^({'|'.join(_FUNCTIONS)})$", signature="float(32|64)")
    targets = sorted({kind["current"] for kinds in infos.values() for kind in kinds.values()})
    return f"{' and '.join(targets)}, results {digest.hexdigest()[:8]}"


def other_software(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """The differences between two machines, one text each.

    Examples
    --------
    >>> other_software({"numpy": "2.4.0"}, {"numpy": "2.4.6"})
    ['numpy: 2.4.0 there, 2.4.6 here']
    """
    return [f"{name}: {there.get(name, 'unknown')} there, {version} here" for name, version in here.items() if there.get(name) != version]
