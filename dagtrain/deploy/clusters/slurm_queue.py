"""Slurm's own commands: a job is submitted, looked at and ended by them, with deadlines and errors that name the cure."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from dagtrain.deploy.clusters.launch import Ending
from dagtrain.deploy.clusters.started import Started
from dagtrain.errors import ClusterError

__all__ = ["JOB", "SLURM", "Queue", "end_job", "look", "submit"]

JOB = "job"
"""Key of the job's number in `Started.external`."""
ANSWER = 60.0
"""Seconds for one command of Slurm."""
SAVE, KILL = 60.0, 90.0
"""Seconds for a job to save and end by itself; and to end after `scancel`, which kills after Slurm's KillWait (30 s by default)."""

ENDED = frozenset(
    ["BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"]
)
"""States of a job that neither runs nor waits."""
_CURES = {
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


class Queue(NamedTuple):
    """A job's state in Slurm's words, empty if Slurm has forgotten the job; and the reason why it waits or has ended."""

    state: str
    reason: str

    @property
    def ended(self) -> bool:
        """Whether the job neither runs nor waits."""
        return self.state in ENDED or not self.state


def call(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm."""
    try:
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER, check=False)
    except OSError as error:
        raise ClusterError(
            f"Slurm's command {words[0]} cannot be run ({error.strerror}): use a login node of the cluster, with Slurm's programs on PATH."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{words[0]} did not answer within {ANSWER:g} s. Is Slurm's controller up? scontrol ping tells.") from error


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
        message = " ".join((done.stderr or done.stdout).split()) or f"status {done.returncode}"
        cure = next((cure for word, cure in _CURES.items() if word.lower() in message.lower()), "Its options are at the top of the script.")
        raise ClusterError(f"sbatch refused {script}: {message}. {cure}")
    return job


def look(job: str) -> Queue:
    """The state of a job now."""
    done = call("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T|%r")
    if done.returncode:
        if "Invalid job id" in done.stderr:
            return Queue("", "")
        raise ClusterError(f"squeue failed with status {done.returncode}: {' '.join(done.stderr.split())}")
    state, _, reason = done.stdout.strip().partition("|")
    return Queue(state, reason)


def running(started: Started) -> list[str]:
    """The job of a record, if it runs or waits."""
    job = started.external.get(JOB)
    if job is None:
        return []
    queue = look(job)
    return [] if queue.ended else [f"job {job}, {queue.state}"]


def stop(started: Started) -> None:
    """End the job of a record."""
    if JOB in started.external:
        end_job(started.external[JOB])


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
        if has_ended(job, save):
            return
    if not queue.ended:
        message = call("scancel", job).stderr.strip()
        if not has_ended(job, kill):
            raise ClusterError(f"job {job} is still {look(job).state} {kill:g} s after scancel. {message or 'Ask the administrators.'}")


def has_ended(job: str, seconds: float) -> bool:
    """Wait until a job has ended; False if it has not in time."""
    until = time.monotonic() + seconds
    while not look(job).ended:
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


SLURM = Ending(running, stop)
