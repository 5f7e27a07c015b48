"""The command lines of Dask's scheduler and workers: what all kinds of clusters have in common stands here alone."""

from __future__ import annotations

import sys
from pathlib import Path

from dagtrain.deploy.certificates import AUTHORITY
from dagtrain.errors import ArgumentError

__all__ = ["PRELOAD", "SCHEDULER", "WORKER", "check_memory", "scheduler_command", "tls_arguments", "worker_command"]

PRELOAD = "dagtrain.dashboard"
"""The module that every scheduler imports: the page /dagtrain on its dashboard."""
SCHEDULER: tuple[str, ...] = ("--preload", PRELOAD)
"""Arguments of every scheduler."""
WORKER: tuple[str, ...] = ("--nanny", "--death-timeout", "60")
"""Arguments of every worker: a nanny starts a worker that was killed again; one that finds no scheduler ends."""


def scheduler_command(*arguments: str, python: str = sys.executable) -> list[str]:
    """The command of a scheduler. It needs no program on PATH."""
    return [python, "-m", "distributed.cli.dask_scheduler", *SCHEDULER, *arguments]


def worker_command(*arguments: str, python: str = sys.executable) -> list[str]:
    """The command of a worker, or of several."""
    return [python, "-m", "distributed.cli.dask_worker", *WORKER, *arguments]


def tls_arguments(folder: Path | None, role: str) -> list[str]:
    """The arguments of a scheduler or worker that has its certificates in a folder; none without one."""
    if folder is None:
        return []
    files = {"--tls-ca-file": AUTHORITY, "--tls-cert": f"{role}.pem", "--tls-key": f"{role}-key.pem"}
    return ["--protocol", "tls", *(word for option, file in files.items() for word in (option, str(folder / file)))]


def check_memory(limit: str) -> float | None:
    """The bytes of a worker's memory limit; None if it depends on the worker's machine: "auto", a fraction, or 0 for no limit."""
    from dask.utils import parse_bytes

    try:
        if limit == "auto" or 0 <= float(limit) <= 1:
            return None
    except ValueError:
        pass
    try:
        size = float(parse_bytes(limit))
    except ValueError:
        size = 0
    if size < 2**26:
        raise ArgumentError(f"a memory limit is auto, bytes as in 2GiB, a fraction of the machine's memory, or 0 for none; got {limit!r}.")
    return size
