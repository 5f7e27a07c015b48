"""What both engines on a Dask cluster need: the client, data on the workers, waiting with deadlines, outages of the network."""
