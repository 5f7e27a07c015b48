"""Slurm's own commands: a job is submitted, looked at and ended by them, with deadlines and errors that name the cure."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dagtrain.deploy.clusters import programs
from dagtrain.deploy.clusters.launch import Ending, end_processes, processes_running
from dagtrain.deploy.clusters.started import Started
from dagtrain.errors import ClusterError

__all__ = ["JOB", "JOBS", "SLURM", "Queue", "end_job", "look", "look_named", "refusal", "submit"]

JOB = "job"
"""Key of the job's number in `Started.external`."""
JOBS = "jobs"
"""Key of the name that several jobs have, in `Started.external`."""
ANSWER = 60.0
"""Seconds for one command of Slurm."""
SAVE, KILL = 60.0, 90.0
"""Seconds for a job to save and end by itself; and to end after `scancel`, which kills after Slurm's KillWait (30 s by default)."""

ENDED = frozenset(
    ["BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"]
)
"""States of a job that neither runs nor waits."""
_CURES = {
    "configuration source": "Slurm is not set up on this machine: use a login node of the cluster.",
    "contact slurm controller": "Is it up? scontrol ping tells.",
    "account": "Give --account, and --partition if the account may use only some.",
    "partition": "Give --partition; sinfo lists them.",
    "time limit": "Give a shorter --time; sinfo --format='%P %l' lists the limits.",
    "Memory": "Lower --memory.",
    "CPU count": "Lower --cpus.",
    "qos": "Give --sbatch=--qos=NAME.",
    "Node count": "Lower --nodes.",
    "processors": "Lower --cpus or --nodes.",
    "node configuration": "Lower --nodes, --cpus or --memory; sinfo --format='%P %D %c %m' lists what there is.",
}
"""Words of sbatch's messages, and what to change."""
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


class Queue(NamedTuple):
    """A job's state in Slurm's words, empty if Slurm has forgotten the job; and the reason why it waits or has ended."""

    state: str
    reason: str

    @property
    def ended(self) -> bool:
        """Whether the job neither runs nor waits."""
        return self.state in ENDED or not self.state

    @property
    def vain(self) -> str:
        """Why it will never run, with the cure; empty if it may."""
        cure = _NEVER.get(self.reason) if self.state == "PENDING" else None
        return "" if cure is None else f"would wait for ever: {self.reason}. It was cancelled: {cure}."


def call(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm."""
    absent = "use a login node of the cluster, or load Slurm's module."
    return programs.call(words, ANSWER, absent, late="Is Slurm's controller up? scontrol ping tells.")


def submit(script: Path) -> str:
    """Submit a job script; return the job's number.

    Raises
    ------
    ClusterError
        If sbatch refuses it: with sbatch's message, and the option to change.
    """
    done = call("sbatch", "--parsable", str(script))
    job = done.stdout.strip().partition(";")[0]
    if done.returncode or not job.isdigit():
        raise refusal(str(script), (done.stderr or done.stdout) or f"status {done.returncode}")
    return job


def refusal(script: str, words: str) -> ClusterError:
    """The error for a job that sbatch refuses in these words."""
    message = " ".join(words.split())
    cure = next((cure for word, cure in _CURES.items() if word.lower() in message.lower()), "Its options are at the top of the script.")
    return ClusterError(f"sbatch refused {script}: {message}. {cure}")


def look(job: str) -> Queue:
    """The state of a job now."""
    return next(iter(queued(f"--jobs={job}").values()), Queue("", ""))


def look_named(name: str) -> dict[str, Queue]:
    """The states now of all jobs with a name."""
    return queued(f"--name={name}")


def queued(selection: str) -> dict[str, Queue]:
    """Job → its state."""
    done = call("squeue", "--noheader", "--states=all", selection, "--format=%A|%T|%r")
    if done.returncode:
        if "Invalid job id" in done.stderr:
            return {}
        raise ClusterError(f"squeue failed with status {done.returncode}: {' '.join(done.stderr.split())}. Is Slurm's controller up?")
    return {job: Queue(state, reason) for job, state, reason in (line.split("|", 2) for line in done.stdout.splitlines() if "|" in line)}


def running(started: Started) -> list[str]:
    """The processes and jobs of a record that run or wait."""
    job, name = started.external.get(JOB), started.external.get(JOBS)
    jobs = {} if name is None else look_named(name)
    if job is not None:
        jobs[job] = look(job)
    return [*processes_running(started), *(f"job {job}, {queue.state}" for job, queue in jobs.items() if not queue.ended)]


def stop(started: Started) -> None:
    """End the processes and jobs of a record."""
    end_processes(started)
    if JOB in started.external:
        end_job(started.external[JOB])
    if JOBS in started.external:
        end_named(started.external[JOBS])


def end_named(name: str) -> None:
    """End all jobs with a name, which the process that submitted them has not ended itself."""

    def ended() -> bool:
        return all(queue.ended for queue in look_named(name).values())

    if not ended():
        message = call("scancel", f"--name={name}").stderr.strip()
        if not becomes(ended, KILL):
            raise ClusterError(f"jobs named {name} still run {KILL:g} s after scancel. {message or 'Ask the administrators.'}")


def end_job(job: str, save: float = SAVE, kill: float = KILL) -> None:
    """End a job within `save` seconds, in which its program can save, and `kill` seconds after that.

    Raises
    ------
    ClusterError
        If it runs on.
    """
    queue = look(job)
    if queue.state == "RUNNING":
        call("scancel", "--batch", "--signal=TERM", job)  # to the script alone: scheduler and workers stay until the program has saved
        if becomes(lambda: look(job).ended, save):
            return
    if not queue.ended:
        message = call("scancel", job).stderr.strip()
        if not becomes(lambda: look(job).ended, kill):
            raise ClusterError(f"job {job} is still {look(job).state} {kill:g} s after scancel. {message or 'Ask the administrators.'}")


def becomes(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds; False if it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


SLURM = Ending(running, stop)
