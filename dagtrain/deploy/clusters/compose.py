"""A cluster in containers on this machine, and a job on it: the project's docker-compose.yml, by Compose 2 or docker-compose 1.29."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dagtrain.deploy.clusters.dask_programs import check_memory
from dagtrain.deploy.clusters.launch import Ending, Launch, Plan
from dagtrain.deploy.clusters.manifests import container_mib
from dagtrain.deploy.clusters.programs import output
from dagtrain.deploy.clusters.started import Started, check_name
from dagtrain.errors import ArgumentError, ClusterError

__all__ = ["COMPOSE", "Compose"]

PROGRAMS = (["docker", "compose"], ["docker-compose"])
ABSENT = "install Docker with Compose (https://docs.docker.com/compose/install), or Debian's packages docker.io and docker-compose."
ANSWER = 30.0
"""Seconds for an answer of the Docker daemon."""
DOWN = 120.0
"""Seconds for all containers to end; a worker leaves within 40 s."""
DAEMON = ("DOCKER_HOST", "DOCKER_CONTEXT")
"""Variables that say which Docker daemon is meant; the cluster is stopped at the one where it was started."""


@dataclass(frozen=True)
class Compose:
    """A scheduler, workers and a trainer of the digits, each in a container. Only this machine can reach them.

    Parameters
    ----------
    workers
        Number of workers.
    name
        The cluster's name; Compose's project is "dagtrain-" and this name.
    memory_limit
        Of each worker, in bytes as in "2GiB"; its container gets a quarter more.
    epochs
        Of the trainer.
    port, dashboard_port
        On this machine.
    tls
        Whether to encrypt, by the profile "tls"; its dashboard is not published.
    file
        The project's docker-compose.yml.
    timeout
        Seconds until all containers run. The first start builds the image.
    """

    workers: int = 2
    name: str = "compose"
    memory_limit: str = "1GiB"
    epochs: int = 30
    port: int = 8786
    dashboard_port: int = 8787
    tls: bool = False
    file: Path = Path("docker-compose.yml")
    timeout: float = 900

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.workers < 1 or self.epochs < 1:
            raise ArgumentError(f"workers and epochs are at least 1; got {self.workers} and {self.epochs}.")
        if check_memory(self.memory_limit) is None:
            raise ArgumentError(f"in a container a memory limit is a number of bytes, as in 2GiB; got {self.memory_limit!r}.")

    @property
    def variables(self) -> dict[str, str]:
        """What docker-compose.yml reads."""
        memory = f"{container_mib(check_memory(self.memory_limit) or 0)}M"
        ports = {"TLS_SCHEDULER_PORT": self.port} if self.tls else {"SCHEDULER_PORT": self.port, "DASHBOARD_PORT": self.dashboard_port}
        return {"WORKER_MEMORY": memory, "EPOCHS": str(self.epochs), **{name: str(port) for name, port in ports.items()}}

    def project(self, program: list[str]) -> list[str]:
        """The command of Compose for this cluster."""
        profile = ["--profile", "tls"] if self.tls else []
        return [*program, "--project-name", f"dagtrain-{self.name}", "--file", str(self.file.resolve()), *profile]

    def up(self, program: list[str]) -> list[str]:
        """The command that starts it."""
        prefix = "tls-" if self.tls else ""
        return [*self.project(program), "up", "--detach", "--scale", f"{prefix}worker={self.workers}", f"{prefix}trainer"]

    def plan(self) -> Plan:
        """The command."""
        return Plan([["env", *(f"{name}={value}" for name, value in self.variables.items()), *self.up(PROGRAMS[0])]])

    def start(self) -> Started:
        """Start the containers; returns when the trainer has begun. It goes on."""
        if not self.file.is_file():
            raise ArgumentError(f"there is no file {self.file}: give the path of the project's docker-compose.yml.")
        program = compose()
        with Launch(self.name, "compose", COMPOSE) as launch:
            here = {name.lower(): os.environ[name] for name in DAEMON if name in os.environ}
            project = shlex.join(self.project(program))
            self.check_free(project)
            trainer = f"{project} logs --follow {'tls-' if self.tls else ''}trainer"
            launch.record(external={"project": project, **here, "trainer": trainer})
            output(self.up(program), self.timeout, ABSENT, self.variables, shown=True)
            if self.tls:  # clients outside the containers do not have the certificates
                return launch.up()
            return launch.up(scheduler=f"tcp://127.0.0.1:{self.port}", dashboard=f"http://127.0.0.1:{self.dashboard_port}/status")

    def check_free(self, project: str) -> None:
        """Demand a Docker daemon that answers, without containers of this project."""
        try:
            present = containers(project)
        except ClusterError as error:
            reason = str(error).splitlines()[-1].strip()
            cure = "start it, set DOCKER_HOST, or run this as root or in the group docker."
            raise ClusterError(f"the Docker daemon does not answer ({reason}): {cure}") from error
        if present:
            raise ClusterError(
                f"there already are containers of the project dagtrain-{self.name}, which this start did not make: "
                f"remove them with {project} down, or give another --name."
            )


def compose() -> list[str]:
    """The command of Compose on this machine."""
    for program in PROGRAMS:
        try:
            output([*program, "version"], ANSWER, ABSENT)
        except ClusterError as error:
            failure = error
        else:
            return program
    raise failure


def containers(project: str, daemon: Mapping[str, str] | None = None) -> list[str]:
    """The containers of a project, also ended ones: they have logs, and ports in use."""
    found = output([*shlex.split(project), "ps", "--all", "--quiet"], ANSWER, ABSENT, daemon).split()
    return [f"container {container[:12]}" for container in found]


def daemon_of(started: Started) -> dict[str, str]:
    """Variables that name the daemon of a cluster."""
    return {name: started.external[name.lower()] for name in DAEMON if name.lower() in started.external}


def running(started: Started) -> list[str]:
    """The containers of a record."""
    project = started.external.get("project")
    return [] if project is None else containers(project, daemon_of(started))


def stop(started: Started) -> None:
    """Remove the containers of a record, their network and the certificates."""
    project = started.external.get("project")
    if project is not None:
        output([*shlex.split(project), "down", "--volumes"], DOWN, ABSENT, daemon_of(started), shown=True)


COMPOSE = Ending(running, stop)
