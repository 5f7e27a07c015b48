"""All kinds of clusters, and what can be done with each: a closed table."""

from __future__ import annotations

from dagtrain.deploy.clusters.compose import COMPOSE
from dagtrain.deploy.clusters.kubernetes import KUBERNETES
from dagtrain.deploy.clusters.launch import PROCESSES, Ending
from dagtrain.deploy.clusters.slurm_queue import SLURM
from dagtrain.deploy.clusters.ssh import SSH
from dagtrain.deploy.clusters.started import Started, load, names
from dagtrain.errors import ClusterError, DagtrainError

__all__ = ["KINDS", "clusters", "state_of", "stop"]

KINDS: dict[str, Ending] = {
    "local": PROCESSES,
    "kubernetes": KUBERNETES,
    "slurm": SLURM,
    "ssh": SSH,
    "compose": COMPOSE,
}


def ending_of(started: Started) -> Ending:
    """How a cluster is ended from here."""
    import socket

    if started.kind not in KINDS:
        raise ClusterError(f"the cluster {started.name!r} is of kind {started.kind!r}, which this version of dagtrain does not know.")
    if started.processes and started.host != socket.gethostname():
        raise ClusterError(f"the cluster {started.name!r} was started on the host {started.host}: stop it there.")
    return KINDS[started.kind]


def stop(name: str) -> list[str]:
    """End all that was started under a name; return what was still running.

    Raises
    ------
    ArgumentError
        If nothing was.
    ClusterError
        If something cannot be ended; the record stays.
    """
    started = load(name)
    if started.launcher.runs() and not started.up:
        raise ClusterError(f"the cluster {name!r} is being started by process {started.launcher.pid}: end that one with Ctrl-C.")
    ending = ending_of(started)
    running = ending.running(started)
    ending.stop(started)
    started.forget()
    return running


def clusters() -> list[tuple[str, Started | None, str]]:
    """Each record's name, the record, and its state in a word or a sentence."""
    rows: list[tuple[str, Started | None, str]] = []
    for name in names():
        started = None
        try:
            started = load(name)
            state = state_of(started)
        except DagtrainError as error:
            state = str(error)
        rows.append((name, started, state))
    return rows


def state_of(started: Started) -> str:
    """In one word: starting, running, or ended."""
    if not started.up and started.launcher.runs():
        return "starting"
    return "running" if ending_of(started).running(started) else "ended"
