"""The software that bits depend on: dagtrain, and the kernel set of the backend."""

from __future__ import annotations

from collections.abc import Mapping

from dagtrain._version import __version__
from dagtrain.backends import NUMPY, Backend

__all__ = ["other_software", "software"]


def software(backend: Backend = NUMPY) -> dict[str, str]:
    """Name → version, of this process."""
    return {"dagtrain": __version__, "backend": backend.name, **backend.software()}


def other_software(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """The differences between two machines, one text each.

    Examples
    --------
    >>> other_software({"numpy": "2.4.0"}, {"numpy": "2.4.6"})
    ['numpy: 2.4.0 there, 2.4.6 here']
    """
    return [f"{name}: {there.get(name, 'unknown')} there, {version} here" for name, version in here.items() if there.get(name) != version]
