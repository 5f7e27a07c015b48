"""Programs of other systems, such as kubectl and docker: what they print, with a deadline; a failure is a `ClusterError`."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from dagtrain.deploy.clusters.processes import Process, end, signals_later
from dagtrain.errors import ClusterError

__all__ = ["call", "output"]

LEAVE = 5.0
"""Seconds for a program that received SIGTERM, before it and its descendants are killed."""


def output(command: Sequence[str], timeout: float, absent: str, variables: Mapping[str, str] | None = None, shown: bool = False) -> str:
    """The standard output of a command; parameters as those of `call`.

    Raises
    ------
    ClusterError
        If the program is absent, fails or takes too long; the message has the end of its own.
    """
    done = call(command, timeout, absent, variables, shown)
    if shown and done.returncode:
        raise ClusterError(f"{shlex.join(command)} failed with status {done.returncode}: its messages are above.")
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "(no message)").splitlines()
        distinct = dict.fromkeys(f"    {line}" for line in lines if not re.match(r"[EWI]\d{4} ", line))  # kubectl's log of each attempt
        raise ClusterError("\n".join([f"{shlex.join(command)} failed with status {done.returncode}:", *list(distinct)[-4:]]))
    return "" if shown else done.stdout.strip()


def call(
    command: Sequence[str], timeout: float, absent: str, variables: Mapping[str, str] | None = None, shown: bool = False, late: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its status.

    Parameters
    ----------
    command
        The program and its arguments.
    timeout
        Seconds until it is ended, with its descendants.
    absent
        What to do if the program is absent.
    variables
        Additions to its environment.
    shown
        Whether what it prints goes to standard error instead, for a command that takes minutes.
    late
        What to do if it takes too long.

    Raises
    ------
    ClusterError
        If the program is absent or takes too long.
    """
    try:
        child = subprocess.Popen(
            command,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=2 if shown else subprocess.PIPE,
            stderr=2 if shown else subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"there is no program {command[0]} on PATH: {absent}") from error
    except OSError as error:
        raise ClusterError(f"{command[0]} cannot be started: {error.strerror or error}.") from error
    try:
        printed, messages = child.communicate(timeout=max(timeout, 1))
    except BaseException as error:  # Ctrl-C and SIGTERM too
        with signals_later():
            end([Process.of(child.pid)], LEAVE)
        with child:  # closes its pipes
            pass
        if isinstance(error, subprocess.TimeoutExpired):
            raise ClusterError(f"{shlex.join(command)} took longer than {timeout:g} s. {late}".rstrip()) from error
        raise
    return subprocess.CompletedProcess(command, child.returncode, printed, messages)
