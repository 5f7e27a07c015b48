"""Processes that outlive the command that starts them: a PID with its start time, by which a later command ends the right ones."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dagtrain.deploy.hosts import host_key
from dagtrain.errors import ClusterError

__all__ = ["Process", "end", "in_background", "last_lines", "signals_later"]

GRACE = 40.0
"""Seconds for a process that received SIGTERM: a worker leaves its group first, within 25 s."""
KILLED = 5.0
"""Seconds until a process that received SIGKILL is gone."""
_children: list[subprocess.Popen[bytes]] = []
"""Those of this process that ran when last looked at: Python warns of a forgotten one."""


class Process(NamedTuple):
    """A process, told apart from a later one with the same PID by its start."""

    pid: int
    start: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this PID now; the start of an ended one is empty."""
        return cls(pid, start_of(pid))

    def runs(self) -> bool:
        """Whether this very process runs."""
        return bool(self.start) and start_of(self.pid) == self.start


def start_of(pid: int) -> str:
    """When a process has started, in the words of the system; empty if it has ended."""
    if sys.platform == "linux":  # psutil's time changes with the machine's clock
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else f"{host_key()} {fields[19]}"
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return ""


def in_background(command: Sequence[str], log: Path, variables: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process that a closed terminal and its Ctrl-C do not end; standard output and error go to `log`."""
    with log.open("ab") as file:
        try:
            child = subprocess.Popen(
                command, env={**os.environ, **(variables or {})}, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        except OSError as error:
            raise ClusterError(f"{command[0]} cannot be started: {error.strerror or error}.") from error
    _children[:] = [child, *(other for other in _children if other.poll() is None)]
    return child


def end(processes: Sequence[Process], grace: float = GRACE) -> None:
    """End processes one after another, each with its descendants: by SIGTERM, and by SIGKILL after `grace` seconds.

    Raises
    ------
    ClusterError
        If one runs on.
    """
    import psutil

    for process in processes:
        if not process.runs():
            continue
        try:
            children = [Process.of(child.pid) for child in psutil.Process(process.pid).children(recursive=True)]
        except psutil.Error:
            children = []
        signal_to([process], signal.SIGTERM)
        if gone([process], grace):
            gone(children, KILLED)  # they notice by themselves
        signal_to([process, *children], getattr(signal, "SIGKILL", signal.SIGTERM))
        if not gone([process, *children], KILLED):
            raise ClusterError(f"process {process.pid} runs on {KILLED:g} s after SIGKILL: look at it with: ps -fp {process.pid}")


def signal_to(processes: Sequence[Process], number: int) -> None:
    """Send a signal to those that run."""
    for process in processes:
        if process.runs():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)


def gone(processes: Sequence[Process], seconds: float) -> bool:
    """Wait until none runs; False if one still does."""
    until = time.monotonic() + seconds
    while any(process.runs() for process in processes):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def last_lines(log: Path, count: int = 8) -> str:
    """The end of a log, indented."""
    try:
        lines = log.read_text(errors="replace").rstrip().splitlines()[-count:]
    except OSError as error:
        lines = [f"{log} cannot be read: {error.strerror}"]
    return "\n".join(f"    {line}" for line in lines or ["(nothing)"])


@contextlib.contextmanager
def signals_later() -> Iterator[None]:
    """Defer Ctrl-C, SIGTERM and SIGHUP to the end of a block that is not to end halfway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in numbers
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])
