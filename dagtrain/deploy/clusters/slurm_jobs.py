"""A cluster on Slurm by dask-jobqueue: a job for each worker, and the scheduler in a process on this machine."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import sys
import time as clock
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from dagtrain.deploy.certificates import make_certificates, security
from dagtrain.deploy.clusters.launch import Launch, Plan, scheduler_of_file, wait_for_workers
from dagtrain.deploy.clusters.processes import last_lines
from dagtrain.deploy.clusters.slurm_options import SlurmOptions
from dagtrain.deploy.clusters.slurm_queue import JOBS, SLURM, look_named, refusal
from dagtrain.deploy.clusters.started import Started
from dagtrain.errors import ClusterError, MissingDependencyError

__all__ = ["SlurmJobs"]

NANNY = 2**29
"""Bytes of a job besides its worker's limit: for the worker's nanny."""
REFUSAL = re.compile(r"Command exited with non-zero exit code(?:.*\n)+?stderr:\n((?:.+\n)+)")
"""How dask-jobqueue says that sbatch refused a job."""

_SCRIPT = '''\
"""A cluster of dask-jobqueue, written by `dagtrain cluster slurm --jobqueue`."""

import signal

import dagtrain.dashboard  # adds the page /dagtrain to schedulers that begin after it
from dask_jobqueue import SLURMCluster

options = {options}


def stop(number, frame):
    raise SystemExit


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    with SLURMCluster(**options) as cluster:
        cluster.adapt(minimum_jobs={nodes}, maximum_jobs={nodes})  # unlike `scale`, it replaces jobs that were lost
        while True:
            signal.pause()
'''


@dataclass(frozen=True)
class SlurmJobs(SlurmOptions):
    """A `SLURMCluster` with a job for each worker, for programs on this machine."""

    @property
    def scheduler_file(self) -> str:
        """Where the scheduler writes its address."""
        return str(self.folder / "scheduler.json")

    def script(self, jobs: str) -> str:
        """A program that keeps the cluster, whose jobs have the name `jobs`."""
        options: dict[str, Any] = {
            "cores": self.cpus,
            "processes": 1,
            "memory": f"{self.memory_bytes:.0f}",
            "job_mem": f"{(self.memory_bytes + NANNY) / 2**20:.0f}M",
            "walltime": self.time,
            "job_name": jobs,
            "death_timeout": 60,
            "log_directory": str(self.folder),
            "job_extra_directives": list(self.sbatch),
            "job_script_prologue": [*self.setup, *(f"export {name}={shlex.quote(value)}" for name, value in self.variables().items())],
            "scheduler_options": {"dashboard_address": ":0", "scheduler_file": self.scheduler_file},
        }
        named = {"queue": self.partition, "account": self.account, "interface": self.interface, "protocol": "tls" if self.tls else ""}
        options |= {option: value for option, value in named.items() if value}
        return _SCRIPT.format(options=json.dumps(options, indent=4), nodes=self.nodes)

    def command(self) -> list[str]:
        """What runs the program."""
        return [sys.executable, str(self.folder / "cluster.py")]

    def plan(self) -> Plan:
        """The program, and its start."""
        settings = ["env", *(f"{name}={value}" for name, value in self.variables().items())] if self.tls else []
        program, path = self.command()
        return Plan([*self.certificate_commands, [*settings, program, path]], {path: self.script(f"dagtrain-{self.name}-ID")})

    def start(self) -> Started:
        """Start the scheduler, and submit the jobs; returns when all workers are there, or, without `wait`, once they are submitted."""
        if find_spec("dask_jobqueue") is None:
            raise MissingDependencyError.of("dask-jobqueue", "a job for each worker", "slurm")
        self.check_slurm()
        until = clock.monotonic() + self.timeout
        jobs = f"dagtrain-{self.name}-{secrets.token_hex(4)}"
        look_named(jobs)  # Slurm answers
        with Launch(self.name, "slurm", SLURM) as launch:
            if self.certificates is not None:
                make_certificates(self.certificates)
            (self.folder / "cluster.py").write_text(self.script(jobs))
            launch.record(external={JOBS: jobs}, certificates=str(self.certificates or ""))
            child = launch.run(self.command(), "scheduler", self.variables())
            address, dashboard = scheduler_of_file(self.folder / "scheduler.json", until, lambda: launch.check(child, "scheduler"))
            launch.record(scheduler=address)

            def check() -> None:
                launch.check(child, "scheduler")
                self.check(jobs)

            if self.wait:
                secure = None if self.certificates is None else security(self.certificates)
                wait_for_workers(address, self.nodes, secure, until - clock.monotonic(), check)
            while len(look_named(jobs)) < self.nodes:
                check()
                if clock.monotonic() > until:
                    raise ClusterError(f"{self.nodes} jobs were not submitted within {self.timeout:g} s. {launch.end_of('scheduler')}")
                clock.sleep(0.5)
            return launch.up(dashboard=dashboard)

    def check(self, name: str) -> None:
        """Raise a `ClusterError` if waiting for the jobs of a name is in vain."""
        if refused := REFUSAL.search((self.folder / "scheduler.log").read_text(errors="replace")):
            raise refusal("a job", refused[1])
        for job, queue in look_named(name).items():
            if queue.vain:
                raise ClusterError(f"job {job} {queue.vain}")
            if queue.ended:
                log = self.folder / f"{name}-{job}.err"
                end = f"The end of {log}:\n{last_lines(log)}"
                raise ClusterError(f"job {job} ended before the cluster was up: {queue.state} ({queue.reason}). {end}")
