"""A cluster on Slurm: a job of one worker on each node, with a program that trains there, or for programs elsewhere."""

from __future__ import annotations

import json
import time as clock
from dataclasses import dataclass

from dagtrain.deploy.certificates import make_certificates
from dagtrain.deploy.clusters.dask_programs import scheduler_command, worker_command
from dagtrain.deploy.clusters.launch import Launch, Plan, addresses
from dagtrain.deploy.clusters.processes import last_lines, signals_later
from dagtrain.deploy.clusters.slurm_options import SlurmOptions, seconds_of
from dagtrain.deploy.clusters.slurm_queue import JOB, SLURM, Queue, look, submit
from dagtrain.deploy.clusters.slurm_script import FILE, job_script
from dagtrain.deploy.clusters.started import Started
from dagtrain.errors import ArgumentError, ClusterError

__all__ = ["Slurm"]

BESIDES = 2 * 2**30
"""Bytes of a node besides its worker's: for the scheduler and the program, on the first."""
RESTART = 60.0
"""Seconds for which Slurm's controller may not answer while a job starts: it may be restarting."""


@dataclass(frozen=True)
class Slurm(SlurmOptions):
    """A job with a Dask cluster: one worker on each node, the scheduler on the first.

    Parameters
    ----------
    program
        What trains, with its arguments; ``{scheduler}`` stands for the scheduler's address, which is in $DASK_SCHEDULER_ADDRESS too. It
        runs in the current folder on the first node, and the job ends with it. Without a program the job lasts until it is stopped.
    signal_seconds
        How long before the time limit the program is asked to stop and save, at least; Slurm may ask a minute earlier.
    restarts
        How often the job is queued again after it was stopped by the time limit.
    options
        Those of `SlurmOptions`; each node gets 2 GiB more than its worker.
    """

    program: tuple[str, ...] = ()
    signal_seconds: int = 120
    restarts: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restarts < 0:
            raise ArgumentError(f"restarts is at least 0; got {self.restarts}.")
        limit = seconds_of(self.time)
        if self.program and not 0 < self.signal_seconds < limit - 60:
            raise ArgumentError(
                f"the program is to stop {self.signal_seconds} s before the time limit, and Slurm may ask a minute earlier: with --time "
                f"{self.time} it would hardly run. Give a longer --time, or --signal-seconds below {limit - 60} (and above 0)."
            )

    def directives(self) -> list[str]:
        """The options of sbatch."""
        lines = [f"--job-name=dagtrain-{self.name}", f"--nodes={self.nodes}", "--ntasks-per-node=1", f"--cpus-per-task={self.cpus}"]
        lines += [f"--mem={(self.memory_bytes + BESIDES) / 2**20:.0f}M", f"--time={self.time}"]
        lines += [f"--output={self.folder}/job.log", "--open-mode=append"]
        lines += [f"--{option}={value}" for option in ("partition", "account") if (value := getattr(self, option))]
        lines += [f"--signal=B:USR1@{self.signal_seconds}", "--requeue"] if self.program else ["--no-requeue"]
        return [*lines, *self.sbatch]

    def script(self) -> str:
        """The job script."""
        both = ["--scheduler-file", f"{self.folder}/starting.json"]
        both += ["--interface", self.interface] if self.interface else []
        both += ["--protocol", "tls"] if self.tls else []
        command = scheduler_command("--port", "0", "--dashboard-address", ":0", *both)
        worker = worker_command(*both, "--nthreads", str(self.cpus), "--memory-limit", f"{self.memory_bytes:.0f}")
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

    def plan(self) -> Plan:
        """The script, and its submission."""
        path = str(self.folder / "job.sh")
        return Plan([*self.certificate_commands, ["sbatch", "--parsable", path]], {path: self.script()})

    def start(self) -> Started:
        """Submit the job; returns when all workers are there, or at once without `wait`."""
        self.check_slurm()
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
                return launch.up()
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
        if queue.vain:
            raise ClusterError(f"job {job} {queue.vain}")
        if late and queue.state == "PENDING":
            raise ClusterError(
                f"job {job} still waited after {self.timeout:g} s: {queue.reason}. It was cancelled: give a longer --timeout, "
                "or --no-wait, which leaves it in the queue."
            )
        if late:
            raise ClusterError(f"job {job} ({queue.state}) was not up within {self.timeout:g} s. {log}")
