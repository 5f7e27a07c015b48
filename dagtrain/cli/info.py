"""`dagtrain info`: the versions of this installation; the first thing to compare when two machines give different bits."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

import click

__all__ = ["info", "installation"]

PACKAGES = ("numpy", "dask", "distributed", "scikit-learn", "bokeh", "graphviz", "pygraphviz")


@click.command("info", short_help="Versions, BLAS and cores.")
def info() -> None:
    """Versions of dagtrain and its dependencies, the BLAS and the cores of this machine."""
    versions = installation()
    width = max(map(len, versions))
    for name, value in versions.items():
        click.echo(f"{name.ljust(width)}  {value}")


def installation() -> dict[str, str]:
    """Name → version or description."""
    from dagtrain._version import __version__
    from dagtrain.backends.blas import blas_description, cores

    return {
        "dagtrain": __version__,
        "Python": f"{platform.python_version()} ({sys.executable})",
        **{name: _version(name) for name in PACKAGES},
        "dot": shutil.which("dot") or "not found (pygraphviz draws without it)",
        "BLAS": blas_description(),
        "cores": str(cores()),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
