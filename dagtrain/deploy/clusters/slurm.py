"""A cluster on Slurm: a job of one worker on each node, with a program that trains there, or for programs elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import time as clock
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dagtrain.deploy.certificates import AUTHORITY, make_certificates
from dagtrain.deploy.clusters.dask_programs import check_memory, scheduler_command, worker_command
from dagtrain.deploy.clusters.launch import Launch, Plan
from dagtrain.deploy.clusters.processes import last_lines, signals_later
from dagtrain.deploy.clusters.slurm_queue import JOB, SLURM, Queue, look, submit
from dagtrain.deploy.clusters.slurm_script import FILE, job_script
from dagtrain.deploy.clusters.started import Started, check_name, files_of
from dagtrain.errors import ArgumentError, ClusterError

__all__ = ["Slurm"]

BESIDES = 2 * 2**30
"""Bytes of a node besides its worker's: for the scheduler and the program, on the first."""
RESTART = 60.0
"""Seconds for which Slurm's controller may not answer while a job starts: it may be restarting."""
_NEVER = {
    "PartitionTimeLimit": "give a shorter --time, or another --partition",
    "PartitionConfig": "ask for less (--nodes, --cpus, --memory, --time), or give another --partition",
    "PartitionNodeLimit": "lower --nodes, or give another --partition",
    "PartitionDown": "give another --partition",
    "BadConstraints": "no node has what --sbatch asks for",
    "JobHeldUser": "it is held: look at it with scontrol show job",
    "JobHeldAdmin": "it is held: look at it with scontrol show job",
}
"""Reasons for which a job waits in vain, with their cures."""


@dataclass(frozen=True)
class Slurm:
    """A job with a Dask cluster: one worker on each node, the scheduler on the first.

    Parameters
    ----------
    program
        What trains, with its arguments; ``{scheduler}`` stands for the scheduler's address, which is in $DASK_SCHEDULER_ADDRESS too. It
        runs in the current folder on the first node, and the job ends with it. Without a program the job lasts until it is stopped.
    name
        The cluster's name.
    nodes
        Number of nodes, each with one worker.
    cpus
        Processors of each node, and threads of its worker.
    memory
        Memory limit of each worker; 2 GiB more are asked for on each node.
    time
        Time limit in Slurm's words: minutes, hours:minutes:seconds, or days-hours.
    partition, account
        Of the job; empty for the user's default.
    interface
        Network interface of the nodes; empty for that of the default route.
    setup
        Lines of bash that make dagtrain's Python run on the nodes, such as ``module load python``.
    sbatch
        Further options of sbatch, such as ``--qos=high``.
    signal_seconds
        How long before the time limit the program is asked to stop and save, at least; Slurm may ask a minute earlier.
    restarts
        How often the job is queued again after it was stopped by the time limit.
    tls
        Whether to encrypt, with new certificates. Without, other users of the network can use the cluster.
    wait
        Whether `start` waits until the job runs and all workers are there.
    timeout
        Seconds until then.
    """

    program: tuple[str, ...] = ()
    name: str = "slurm"
    nodes: int = 2
    cpus: int = 1
    memory: str = "2GiB"
    time: str = "1:00:00"
    partition: str = ""
    account: str = ""
    interface: str = ""
    setup: tuple[str, ...] = ()
    sbatch: tuple[str, ...] = ()
    signal_seconds: int = 120
    restarts: int = 20
    tls: bool = False
    wait: bool = True
    timeout: float = 600

    def __post_init__(self) -> None:
        check_name(self.name)
        for option, number, least in (("nodes", self.nodes, 1), ("cpus", self.cpus, 1), ("restarts", self.restarts, 0)):
            if number < least:
                raise ArgumentError(f"{option} is at least {least}; got {number}.")
        if check_memory(self.memory) is None:
            raise ArgumentError(f"Slurm grants a fixed memory: give bytes as in 4GiB; got {self.memory!r}.")
        for option in ("partition", "account", "interface"):
            if not re.fullmatch(r"[\w.,:@+-]*", getattr(self, option)):
                raise ArgumentError(f"{option} is a name of letters, digits and . , : @ + - _; got {getattr(self, option)!r}.")
        for directive in self.sbatch:
            if not re.fullmatch(r"--?[a-zA-Z][^\n]*", directive):
                raise ArgumentError(f"an option of sbatch looks like --qos=high; got {directive!r}.")
        if not re.fullmatch(r"[\w./@+=,-]+", str(self.folder)):  # sbatch gives % and \ a meaning
            raise ArgumentError(f"Slurm cannot write to {str(self.folder)!r}: set XDG_STATE_HOME to a path of letters, digits and . _ -")
        limit = seconds_of(self.time)
        if self.program and not 0 < self.signal_seconds < limit - 60:
            raise ArgumentError(
                f"the program is to stop {self.signal_seconds} s before the time limit, and Slurm may ask a minute earlier: with --time "
                f"{self.time} it would hardly run. Give a longer --time, or --signal-seconds below {limit - 60} (and above 0)."
            )

    @property
    def folder(self) -> Path:
        """Logs, addresses and the script, which all nodes see."""
        return files_of(self.name)

    @property
    def certificates(self) -> Path | None:
        """Where certificates are made."""
        return self.folder / "certificates" if self.tls else None

    def directives(self) -> list[str]:
        """The options of sbatch."""
        limit = check_memory(self.memory) or 0
        lines = [f"--job-name=dagtrain-{self.name}", f"--nodes={self.nodes}", "--ntasks-per-node=1", f"--cpus-per-task={self.cpus}"]
        lines += [f"--mem={(limit + BESIDES) / 2**20:.0f}M", f"--time={self.time}", f"--output={self.folder}/job.log", "--open-mode=append"]
        lines += [f"--{option}={value}" for option in ("partition", "account") if (value := getattr(self, option))]
        lines += [f"--signal=B:USR1@{self.signal_seconds}", "--requeue"] if self.program else ["--no-requeue"]
        return [*lines, *self.sbatch]

    def script(self) -> str:
        """The job script."""
        both = ["--scheduler-file", f"{self.folder}/starting.json"]
        both += ["--interface", self.interface] if self.interface else []
        both += ["--protocol", "tls"] if self.tls else []
        command = scheduler_command("--port", "0", "--dashboard-address", ":0", *both)
        worker = worker_command(*both, "--nthreads", str(self.cpus), "--memory-limit", f"{check_memory(self.memory):.0f}")
        return job_script(
            directives=self.directives(),
            setup=self.setup,
            variables=self.variables(),
            folder=self.folder,
            python=command[0],
            scheduler=command,
            worker=worker,
            cpus=self.cpus,
            nodes=self.nodes,
            program=self.program,
            restarts=self.restarts,
        )

    def variables(self) -> dict[str, str]:
        """Settings by which Dask finds certificates: scheduler, workers, and clients in the job. As arguments they exclude --interface."""
        if self.certificates is None:
            return {}
        files = {"CA_FILE": AUTHORITY}
        for role in ("scheduler", "worker", "client"):
            files |= {f"{role.upper()}__CERT": f"{role}.pem", f"{role.upper()}__KEY": f"{role}-key.pem"}
        return {f"DASK_DISTRIBUTED__COMM__TLS__{name}": f"{self.certificates}/{file}" for name, file in files.items()}

    def plan(self) -> Plan:
        """The script, and its submission."""
        first = [] if self.certificates is None else [["dagtrain", "certs", str(self.certificates)]]
        path = str(self.folder / "job.sh")
        return Plan([*first, ["sbatch", "--parsable", path]], {path: self.script()})

    def start(self) -> Started:
        """Submit the job; returns when all workers are there, or at once without `wait`."""
        for program in ("sbatch", "squeue", "scancel"):
            if not shutil.which(program):
                raise ClusterError(f"Slurm's command {program} is not on PATH: use a login node of the cluster, or load Slurm's module.")
        until = clock.monotonic() + self.timeout
        with Launch(self.name, "slurm", SLURM) as launch:
            if self.certificates is not None:
                make_certificates(self.certificates)
            path = self.folder / "job.sh"
            path.write_text(self.script())
            with signals_later():
                job = submit(path)
                launch.record(external={JOB: job}, certificates=str(self.certificates or ""))
            if not self.wait:
                return launch.started
            address, dashboard = self.wait_until_up(job, until)
            return launch.up(scheduler=address, dashboard=dashboard)

    def wait_until_up(self, job: str, until: float) -> tuple[str, str]:
        """The addresses of scheduler and dashboard, once all workers are there."""
        answered = clock.monotonic()
        while True:
            now = clock.monotonic()
            try:
                queue = look(job)
            except ClusterError:
                if now > min(until, answered + RESTART):
                    raise
            else:
                answered = now
                if (self.folder / FILE).exists():
                    return addresses(json.loads((self.folder / FILE).read_text()))
                self.check(job, queue, now > until)
            clock.sleep(0.5)

    def check(self, job: str, queue: Queue, late: bool) -> None:
        """Raise a `ClusterError` if waiting for the job is in vain."""
        log = f"The end of {self.folder}/job.log:\n{last_lines(self.folder / 'job.log')}"
        if queue.ended:
            raise ClusterError(f"job {job} ended before the cluster was up: {queue.state} ({queue.reason}). {log}")
        if queue.state == "PENDING" and queue.reason in _NEVER:
            raise ClusterError(f"job {job} would wait for ever: {queue.reason}. It was cancelled: {_NEVER[queue.reason]}.")
        if late and queue.state == "PENDING":
            raise ClusterError(
                f"job {job} still waited after {self.timeout:g} s: {queue.reason}. It was cancelled: give a longer --timeout, "
                "or --no-wait, which leaves it in the queue."
            )
        if late:
            raise ClusterError(f"job {job} ({queue.state}) was not up within {self.timeout:g} s. {log}")


def addresses(file: dict[str, object]) -> tuple[str, str]:
    """Scheduler and dashboard in a file that a scheduler has written."""
    address, services = str(file["address"]), file.get("services")
    port = services.get("dashboard") if isinstance(services, dict) else None
    return address, "" if port is None else f"http://{urlsplit(address).hostname}:{port}/status"


def seconds_of(limit: str) -> int:
    """A time limit in Slurm's words, in seconds.

    Examples
    --------
    >>> seconds_of("90"), seconds_of("1:30:00"), seconds_of("1-12"), seconds_of("5:30")
    (5400, 5400, 129600, 330)
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", limit)
    if match is None:
        raise ArgumentError(f"a time limit is minutes, hours:minutes:seconds, or days-hours; got {limit!r}.")
    days, first, second, third = (None if part is None else int(part) for part in match.groups())
    if days is None and third is None:  # minutes, or minutes:seconds
        hours, minutes, seconds = 0, first or 0, second or 0
    else:
        hours, minutes, seconds = first or 0, second or 0, third or 0
    return (((days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
