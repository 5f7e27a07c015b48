"""Shared by both engines on a Dask cluster: data on the workers, waiting with deadlines, outages of the network."""
