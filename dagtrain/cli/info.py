"""`dagtrain info`: what this installation is made of; the first thing to look at when two machines do not give the same bits."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

import click

__all__ = ["facts", "info"]

PACKAGES = ("numpy", "dask", "distributed", "scikit-learn", "bokeh", "graphviz", "pygraphviz")


@click.command("info", short_help="Versions, BLAS and cores.")
def info() -> None:
    """Versions of what dagtrain works with, the BLAS and the cores of this machine."""
    found = facts()
    width = max(map(len, found))
    for name, value in found.items():
        click.echo(f"{name.ljust(width)}  {value}")


def facts() -> dict[str, str]:
    """Name → version or description."""
    from dagtrain._version import __version__
    from dagtrain.plan.blas import blas_description, cores

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
