"""The engine *scheduler*: K steps unrolled as one Dask graph, every task placed by the Dask scheduler."""
