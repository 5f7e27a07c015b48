"""`dagtrain cluster`: start a Dask cluster of some kind in the background, list what was started, stop it. One file for each kind."""

from dagtrain.cli.clusters.group import cluster

__all__ = ["cluster"]
