"""The options that a job of Slurm with a whole cluster and a job for each worker have in common."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from dagtrain.deploy.certificates import AUTHORITY
from dagtrain.deploy.clusters.dask_programs import check_memory
from dagtrain.deploy.clusters.started import check_name, files_of
from dagtrain.errors import ArgumentError, ClusterError

__all__ = ["SlurmOptions", "seconds_of"]


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What is asked of Slurm.

    Parameters
    ----------
    name
        The cluster's name.
    nodes
        Number of nodes, each with one worker.
    cpus
        Processors of each node, and threads of its worker.
    memory
        Memory limit of each worker.
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
    tls
        Whether to encrypt, with new certificates. Without, other users of the network can use the cluster.
    wait
        Whether `start` waits until all workers are there.
    timeout
        Seconds until then.
    """

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
    tls: bool = False
    wait: bool = True
    timeout: float = 600

    def __post_init__(self) -> None:
        check_name(self.name)
        for option, number in (("nodes", self.nodes), ("cpus", self.cpus)):
            if number < 1:
                raise ArgumentError(f"{option} is at least 1; got {number}.")
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
        seconds_of(self.time)

    @property
    def folder(self) -> Path:
        """Logs, addresses and the script, which all nodes see."""
        return files_of(self.name)

    @property
    def certificates(self) -> Path | None:
        """Where certificates are made."""
        return self.folder / "certificates" if self.tls else None

    @property
    def certificate_commands(self) -> list[list[str]]:
        """What makes the certificates, for `plan`."""
        return [] if self.certificates is None else [["dagtrain", "certs", str(self.certificates)]]

    @property
    def memory_bytes(self) -> float:
        """The memory limit of each worker."""
        return check_memory(self.memory) or 0

    def variables(self) -> dict[str, str]:
        """Settings by which Dask finds certificates: scheduler, workers, and clients in the job. As arguments they exclude --interface."""
        if self.certificates is None:
            return {}
        files = {"CA_FILE": AUTHORITY}
        for role in ("scheduler", "worker", "client"):
            files |= {f"{role.upper()}__CERT": f"{role}.pem", f"{role.upper()}__KEY": f"{role}-key.pem"}
        return {f"DASK_DISTRIBUTED__COMM__TLS__{name}": f"{self.certificates}/{file}" for name, file in files.items()}

    def check_slurm(self) -> None:
        """Name Slurm's commands that are absent."""
        for program in ("sbatch", "squeue", "scancel"):
            if not shutil.which(program):
                raise ClusterError(f"Slurm's command {program} is not on PATH: use a login node of the cluster, or load Slurm's module.")


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
