"""A cluster on hosts that one can log in to, started by `dask ssh`.

`dask ssh` says little and checks nothing, so all hosts are checked first. It has options for neither TLS nor preloads: these travel as
settings of Dask in the environment of the remote Python, before whose path `env NAME=VALUE …` stands.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dagtrain.deploy.certificates import AUTHORITY, security
from dagtrain.deploy.clusters.dask_programs import PRELOAD, check_memory
from dagtrain.deploy.clusters.launch import Ending, Launch, Plan, end_processes, processes_running, wait_for_workers
from dagtrain.deploy.clusters.remote_hosts import MARK, Login, check_hosts, end_marked
from dagtrain.deploy.clusters.started import Started, check_name, record_of
from dagtrain.errors import ArgumentError, ClusterError, MissingDependencyError

__all__ = ["SSH", "Ssh"]

KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
FAILURE = re.compile(r"remote process exited with exit status|Traceback \(most recent|SSH reported this exception")


@dataclass(frozen=True)
class Ssh:
    """A scheduler on one host, and workers on all of them.

    Parameters
    ----------
    hosts
        Names or addresses, at which they reach each other. A worker listens at the address under which its host is listed.
    name
        The cluster's name.
    user
        Who logs in; this user, if None.
    port
        Of the hosts' SSH servers.
    identity
        File of the private key; those of ~/.ssh and of the agent, if None.
    known_hosts
        File of host keys; ~/.ssh/known_hosts and the system's, if None.
    remote_python
        Path of a Python on the hosts that has dagtrain.
    scheduler
        Host of the scheduler; the first one, if None.
    scheduler_port
        Port of the scheduler.
    workers
        Workers of each host.
    nthreads
        Threads of each worker.
    memory_limit
        Of each worker: bytes as in "2GiB", a fraction of its host's memory, "auto" for its part by cores, "0" for none.
    certificates
        Folder of certificates, with the same path on this machine and on all hosts; without it, nothing is encrypted.
    timeout
        Seconds until all workers are there.
    """

    hosts: tuple[str, ...]
    name: str = "ssh"
    user: str | None = None
    port: int = 22
    identity: Path | None = None
    known_hosts: Path | None = None
    remote_python: str = sys.executable
    scheduler: str | None = None
    scheduler_port: int = 8786
    workers: int = 1
    nthreads: int = 1
    memory_limit: str = "auto"
    certificates: Path | None = None
    timeout: float = 120

    def __post_init__(self) -> None:
        check_name(self.name)
        check_memory(self.memory_limit)
        if self.workers < 1 or self.nthreads < 1:
            raise ArgumentError(f"workers and nthreads are at least 1; got {self.workers} and {self.nthreads}.")
        for what, word in (("remote_python", self.remote_python), ("certificates", str(self.certificates or ""))):
            if re.search(r"[^-\w./+@%:,=]", word):  # dask ssh puts it between single quotes of a shell
                raise ArgumentError(f"{what} has a character that dask ssh cannot pass on: {word!r}. Make a link without it on the hosts.")
        if is_loopback(self.scheduler_host) and not all(map(is_loopback, self.hosts)):
            raise ArgumentError(f"other hosts cannot reach a scheduler at {self.scheduler_host}: list this host by its address.")

    @property
    def scheduler_host(self) -> str:
        """The scheduler's host."""
        return self.scheduler or self.hosts[0]

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return f"{'tls' if self.certificates else 'tcp'}://{self.scheduler_host}:{self.scheduler_port}"

    @property
    def login(self) -> Login:
        """How to log in to the hosts."""
        return Login.of(self.user, self.port, self.identity, self.known_hosts, self.remote_python)

    def settings(self) -> dict[str, str]:
        """The environment of schedulers and workers."""
        settings = {MARK: self.name, "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": PRELOAD}
        if self.certificates is not None:
            tls = {"CA_FILE": AUTHORITY}
            for role in ("scheduler", "worker"):
                tls |= {f"{role.upper()}__CERT": f"{role}.pem", f"{role.upper()}__KEY": f"{role}-key.pem"}
            settings |= {f"DASK_DISTRIBUTED__COMM__TLS__{key}": str(self.certificates.absolute() / file) for key, file in tls.items()}
            settings |= {"DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME": "tls", "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"}
        return settings

    def dask_ssh(self) -> list[str]:
        """The command of `dask ssh`, with host keys verified."""
        files = [str(self.known_hosts.absolute())] if self.known_hosts else [str(Path(file).expanduser()) for file in KNOWN_HOSTS]
        python = " ".join(["env", *(f"{name}={value}" for name, value in self.settings().items()), self.remote_python])
        options = {
            "--scheduler": self.scheduler_host,
            "--scheduler-port": self.scheduler_port,
            "--ssh-port": self.port,
            "--ssh-username": self.user,
            "--ssh-private-key": self.identity and self.identity.absolute(),
            "--nworkers": self.workers,
            "--nthreads": self.nthreads,
            "--memory-limit": self.memory_limit,
            "--remote-python": python,
        }
        words = [word for option, value in options.items() if value is not None for word in (option, str(value))]
        return [sys.executable, "-m", "dagtrain.deploy.clusters.verified_ssh", ":".join(files), *words, *self.hosts]

    def plan(self) -> Plan:
        """The logins that check the hosts, and `dask ssh`."""
        return Plan([*(self.login.command(host) for host in self.all_hosts()), self.dask_ssh()])

    def all_hosts(self) -> list[str]:
        """The scheduler's host, and the workers'."""
        return list(dict.fromkeys([self.scheduler_host, *self.hosts]))

    def start(self) -> Started:
        """Check all hosts, start the cluster; returns when all workers are there."""
        if find_spec("paramiko") is None:
            raise MissingDependencyError.of("paramiko", "dask ssh", "ssh")
        for path in (self.identity, self.known_hosts):
            if path is not None and not path.is_file():
                raise ArgumentError(f"there is no file {path}.")
        secure = None if self.certificates is None else security(self.certificates)
        until = time.monotonic() + self.timeout
        with Launch(self.name, "ssh", SSH) as launch:
            check_hosts(self.login, self.name, self.ports(), self.files())
            hosts = {"hosts": " ".join(self.all_hosts()), "ssh": shlex.join(self.login.words), "python": self.remote_python}
            launch.record(scheduler=self.address, certificates=str(self.certificates or ""), external=hosts)
            child = launch.run(self.dask_ssh(), "dask-ssh", {"PYTHONUNBUFFERED": "1"})

            def check() -> None:
                launch.check(child, "dask-ssh")
                if FAILURE.search((launch.files / "dask-ssh.log").read_text(errors="replace")):
                    raise ClusterError(f"dask ssh reports a failure. {launch.end_of('dask-ssh')}")

            count = len(self.hosts) * self.workers
            try:
                dashboard = wait_for_workers(self.address, count, secure, until - time.monotonic(), check)
            except ClusterError as error:
                if launch.started.processes and "The end of" not in str(error):
                    raise ClusterError(f"{error} {launch.end_of('dask-ssh')}") from error
                raise
            return launch.up(dashboard=dashboard)

    def ports(self) -> dict[str, int]:
        """Host → the port that has to be free there."""
        return {host: self.scheduler_port if host == self.scheduler_host else 0 for host in self.all_hosts()}

    def files(self) -> list[str]:
        """The files that each host has to have."""
        if self.certificates is None:
            return []
        names = [AUTHORITY, *(f"{role}{end}.pem" for role in ("scheduler", "worker") for end in ("", "-key"))]
        return [str(self.certificates.absolute() / name) for name in names]


def is_loopback(host: str) -> bool:
    """Whether a host is listed as the machine that reads the list."""
    return host == "localhost" or host.startswith("127.")


def end_everywhere(started: Started) -> None:
    """End the processes on the hosts first: `dask ssh` would wait for them one after another."""
    try:
        if started.external:
            login = Login(tuple(shlex.split(started.external["ssh"])), started.external["python"])
            try:
                end_marked(login, started.name, started.external["hosts"].split())
            except ClusterError as error:
                raise ClusterError(f"{error}\nStop again when they answer; if they never will, delete {record_of(started.name)}") from error
    finally:
        end_processes(started)


SSH = Ending(processes_running, end_everywhere)
