"""Which host this is, as far as memory and processes are concerned, and whether a process on it is alive.

Two ranks can share memory if each can open the other's files under /proc: same kernel, same user, same PID namespace. The network
namespace counts as well: processes in different ones are meant to be on different hosts.
"""

from __future__ import annotations

import contextlib
import os
import platform
import select
import sys
import time
from pathlib import Path
from typing import TypedDict

__all__ = ["Host", "Process", "can_share_memory", "cores", "host", "strongly_ordered"]

_GLANCE = 1.0
"""Seconds between two looks at a process in /proc, where no pidfd reports its end."""


class Host(TypedDict):
    """Two ranks with equal values of this are on one host."""

    boot: str
    pid_namespace: int
    network_namespace: int
    user: int


def host() -> Host:
    """The host of this process.

    Examples
    --------
    >>> host() == host()
    True
    """
    if sys.platform != "linux":
        return Host(boot=platform.node(), pid_namespace=0, network_namespace=0, user=0)
    return Host(
        boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        pid_namespace=os.stat("/proc/self/ns/pid").st_ino,
        network_namespace=os.stat("/proc/self/ns/net").st_ino,
        user=os.getuid(),
    )


def can_share_memory() -> bool:
    """Whether other processes can open memory of this one that has no name."""
    return sys.platform == "linux" and hasattr(os, "memfd_create")


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def strongly_ordered() -> bool:
    """Whether all cores see the writes of one core in program order."""
    return platform.machine().lower() in {"x86_64", "amd64", "i686"}


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None if there is none, or it is a zombie."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] not in "ZX":
            return fields[19]
    return None


class Process:
    """A process of this host; safe against another process that gets the same PID later.

    Examples
    --------
    >>> import os
    >>> process = Process(os.getpid())
    >>> process.alive()
    True
    >>> process.close()
    """

    def __init__(self, pid: int) -> None:
        self._pid, self._fd, self._looked = pid, -1, 0.0
        self._began = _started(pid)
        self._living = self._began is not None
        with contextlib.suppress(OSError, AttributeError):  # an old kernel, or a sandbox that has no such call
            self._fd = os.pidfd_open(pid)
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLIN)

    def alive(self) -> bool:
        """Whether it has not ended; costs about 1 µs."""
        if self._fd >= 0:
            self._living = self._living and not self._poll.poll(0)
        elif self._living and time.monotonic() - self._looked > _GLANCE:
            self._living = self._began == _started(self._pid)
            self._looked = time.monotonic()
        return self._living

    def close(self) -> None:
        """Close the file descriptor; safe to call again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
