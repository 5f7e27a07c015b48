"""Dask clusters started, listed and stopped: what `dagtrain cluster` does.

    options ─ plan() ─▶ commands and files ─ start() ─▶ Started, a record on disk ─ stop(name) ─▶ nothing runs

dagtrain works with any Dask cluster; these are the usual ones, with few options. Each kind of cluster is one module.
"""

from dagtrain.deploy.clusters.compose import Compose
from dagtrain.deploy.clusters.kinds import KINDS, clusters, stop
from dagtrain.deploy.clusters.kubernetes import Kubernetes
from dagtrain.deploy.clusters.launch import Ending, Kind, Launch, Plan, wait_for_workers
from dagtrain.deploy.clusters.local import Local
from dagtrain.deploy.clusters.slurm import Slurm
from dagtrain.deploy.clusters.slurm_jobs import SlurmJobs
from dagtrain.deploy.clusters.ssh import Ssh
from dagtrain.deploy.clusters.started import Started, load

__all__ = [
    "KINDS",
    "Compose",
    "Ending",
    "Kind",
    "Kubernetes",
    "Launch",
    "Local",
    "Plan",
    "Slurm",
    "SlurmJobs",
    "Ssh",
    "Started",
    "clusters",
    "load",
    "stop",
    "wait_for_workers",
]
