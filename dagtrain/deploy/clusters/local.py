"""A cluster on this machine, which only programs on this machine can reach."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path

from dagtrain.deploy.certificates import make_certificates, security
from dagtrain.deploy.clusters.dask_programs import check_memory, scheduler_command, tls_arguments, worker_command
from dagtrain.deploy.clusters.launch import PROCESSES, Launch, Plan, scheduler_of_file, wait_for_workers
from dagtrain.deploy.clusters.started import Started, check_name, files_of
from dagtrain.errors import ArgumentError, ClusterError

__all__ = ["Local"]

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Local:
    """A scheduler and workers on this machine, bound to its loopback interface.

    Parameters
    ----------
    workers
        Number of worker processes.
    name
        The cluster's name.
    nthreads
        Threads of each worker.
    memory_limit
        Of each worker: bytes as in "2GiB", a fraction of the machine's memory, "auto" for its part by cores, "0" for none.
    port, dashboard_port
        Of the scheduler; 0 takes free ones.
    tls
        Whether to encrypt, with new certificates. Without, other users of this machine can use the cluster.
    timeout
        Seconds until all workers are there.
    """

    workers: int = 2
    name: str = "local"
    nthreads: int = 1
    memory_limit: str = "auto"
    port: int = 0
    dashboard_port: int = 0
    tls: bool = False
    timeout: float = 120

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.workers < 1 or self.nthreads < 1:
            raise ArgumentError(f"workers and nthreads are at least 1; got {self.workers} and {self.nthreads}.")
        check_memory(self.memory_limit)

    @property
    def certificates(self) -> Path | None:
        """Where certificates are made."""
        return files_of(self.name) / "certificates" if self.tls else None

    def scheduler(self) -> list[str]:
        """The command of the scheduler."""
        ports = ["--host", HOST, "--port", str(self.port), "--dashboard-address", f"{HOST}:{self.dashboard_port}"]
        return scheduler_command(*ports, "--scheduler-file", str(self.scheduler_file), *tls_arguments(self.certificates, "scheduler"))

    def worker(self) -> list[str]:
        """The command of the workers. Their pages are bound to loopback too, which is not the default."""
        address = ["--scheduler-file", str(self.scheduler_file), "--host", HOST, "--dashboard-address", f"{HOST}:0"]
        size = ["--nworkers", str(self.workers), "--nthreads", str(self.nthreads), "--memory-limit", self.memory_limit]
        return worker_command(*address, *size, *tls_arguments(self.certificates, "worker"))

    @property
    def scheduler_file(self) -> Path:
        """Where the scheduler writes its address."""
        return files_of(self.name) / "scheduler.json"

    def plan(self) -> Plan:
        """The commands."""
        first = [] if self.certificates is None else [["dagtrain", "certs", str(self.certificates)]]
        return Plan([*first, self.scheduler(), self.worker()])

    def start(self) -> Started:
        """Start the cluster; returns when all workers are there."""
        self.check_machine()
        until = time.monotonic() + self.timeout
        with Launch(self.name, "local", PROCESSES) as launch:
            if self.certificates is not None:
                make_certificates(self.certificates)
            scheduler = launch.run(self.scheduler(), "scheduler")
            address, _ = scheduler_of_file(self.scheduler_file, until, lambda: launch.check(scheduler, "scheduler"))
            launch.record(scheduler=address, certificates=str(self.certificates or ""))
            workers = launch.run(self.worker(), "workers")

            def check() -> None:
                launch.check(scheduler, "scheduler")
                launch.check(workers, "workers")

            secure = None if self.certificates is None else security(self.certificates)
            dashboard = wait_for_workers(address, self.workers, secure, until - time.monotonic(), check)
            return launch.up(dashboard=dashboard)

    def check_machine(self) -> None:
        """Name what this machine lacks, before anything starts."""
        from distributed.system import MEMORY_LIMIT

        limit = check_memory(self.memory_limit)
        if limit is None and self.memory_limit != "auto":
            limit = float(self.memory_limit) * MEMORY_LIMIT
        if limit is not None and limit * self.workers > MEMORY_LIMIT:
            total, gib = limit * self.workers, 2**30
            raise ArgumentError(
                f"{self.workers} workers with {self.memory_limit} each take {total / gib:.1f} GiB, and this machine has "
                f"{MEMORY_LIMIT / gib:.1f} GiB: lower --memory-limit or --workers."
            )
        for option, port in (("--port", self.port), ("--dashboard-port", self.dashboard_port)):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise ClusterError(f"port {port} of {HOST} cannot be used: {error.strerror}. Give another {option}, or 0.") from error
