"""How a rank sleeps, and how its peers wake it.

A rank whose channels all use shared memory sleeps in the kernel on the doorbell word of its own window (a futex). A rank with sockets
sleeps in poll; then peers that write its doorbell also write a byte into its pipe. Threads of this process (an abort, a frame from Dask)
wake it in the same way.

    peer:  data, sequence, doorbell = a number never used before, barrier, wake if asleep
    rank:  mark = doorbell, look at sequences, asleep = 1, barrier, sleep unless doorbell ≠ mark

Peers write the doorbell without a lock. No notification is lost, because each value is new: any write after the rank took its mark makes
the word differ from the mark. No sleeper is overlooked: rank and peer each write one word, pass a barrier and read the other's word, so
at least one of them sees the other's write.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import platform
import selectors
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from dagtrain.transport.host import strongly_ordered
from dagtrain.transport.shared_memory import ASLEEP, BY_PIPE, MappedWindow

__all__ = ["FUTEX", "SLICE", "Doorbell", "Notifier", "fence"]

SLICE = 0.05
"""Seconds that a rank sleeps at most before it checks deadlines and whether its peers are alive."""

_WAIT, _WAKE, _ALL = 0, 1, 2**31 - 1
_COUNT_BITS = 22  # the rest of the doorbell word is the number of the rank that notifies
_LOCK = threading.Lock()
Selector: Any = getattr(selectors, "PollSelector", selectors.DefaultSelector)


class Futex:
    """The system call by which processes sleep and wake each other on a word of shared memory."""

    def __init__(self, number: int) -> None:
        self._number = ctypes.c_long(number)
        self._sleep: Any = ctypes.CDLL(None).syscall  # releases the GIL
        self._wake: Any = ctypes.PyDLL(None).syscall  # keeps the GIL: the call is shorter than a switch of threads
        self._operations = ctypes.c_int(_WAIT), ctypes.c_int(_WAKE), ctypes.c_int(_ALL)

    def waker(self, address: int) -> Callable[[], Any]:
        """A function that wakes all sleepers on the word at the address."""
        number, (_, wake, everyone), call, word = self._number, self._operations, self._wake, ctypes.c_void_p(address)
        return lambda: call(number, word, wake, everyone)

    def sleeper(self, address: int) -> Callable[[int, float], Any]:
        """A function ``sleep(mark, seconds)`` that sleeps at most so long, and returns at once if the word differs from the mark."""
        number, (wait, _, _), call, word = self._number, self._operations, self._sleep, ctypes.c_void_p(address)

        def sleep(mark: int, seconds: float) -> None:
            limit = (ctypes.c_long * 2)(int(seconds), int(seconds % 1 * 1e9))
            call(number, word, wait, ctypes.c_uint(mark), limit)

        return sleep


def _futex() -> Futex | None:
    number = {"x86_64": 202, "aarch64": 98}.get(platform.machine())
    return Futex(number) if sys.platform == "linux" and number and ctypes.sizeof(ctypes.c_void_p) == 8 else None


FUTEX = _futex()
"""None where the number of the system call is unknown; all ranks then sleep in poll."""


def _barrier() -> None:
    """Order memory accesses before it before those after it: releasing a lock and acquiring it again does that."""
    with _LOCK:
        pass
    with _LOCK:
        pass


fence: Callable[[], None] | None = None if strongly_ordered() else _barrier
"""Call it between data and sequence; None where the processor keeps the order of writes."""


class Notifier:
    """Writes doorbells, those of peers and this rank's own, each time with a new number."""

    def __init__(self, rank: int) -> None:
        self._rank, self._count = rank << _COUNT_BITS, itertools.count(1)

    def number(self) -> int:
        """A value that no doorbell holds yet."""
        return self._rank | next(self._count) & ((1 << _COUNT_BITS) - 1)

    def of(self, memory: MappedWindow, pipe: int) -> Callable[[], None]:
        """A function that notifies the doorbell of a window whose rank reads from the other end of a pipe."""
        doorbell, words, number = memory.doorbell, memory.words, self.number
        wake = FUTEX.waker(memory.address) if FUTEX is not None else None

        def notify() -> None:
            doorbell[0] = number()
            _barrier()
            if not words[ASLEEP]:
                return
            if wake is not None:
                wake()
            if words[BY_PIPE]:
                with contextlib.suppress(OSError):  # full: the rank is awake; broken: the rank is gone, which `check` finds
                    os.write(pipe, b"\0")

        return notify


class Doorbell:
    """The doorbell of this rank, and its sleep.

    Parameters
    ----------
    memory : MappedWindow
        The rank's window.
    notifier : Notifier
        Of this rank.
    """

    def __init__(self, memory: MappedWindow, notifier: Notifier) -> None:
        self._memory = memory
        self._local: tuple[socket.socket, socket.socket] | None = None
        if os.name == "posix":
            self._read, self.pipe = os.pipe()
        else:  # poll takes only sockets there, and no peer shares memory
            self._local = socket.socketpair()
            self._read, self.pipe = self._local[0].fileno(), self._local[1].fileno()
        for fd in (self._read, self.pipe):
            os.set_blocking(fd, False)
        self.selector = Selector()
        self.selector.register(self._read, selectors.EVENT_READ, None)
        self.by_pipe = True
        self._lock = threading.Lock()
        self._notify: Callable[[], None] | None = notifier.of(memory, self.pipe)
        self._sleep = FUTEX.sleeper(memory.address) if FUTEX is not None else None

    @property
    def by_pipe(self) -> bool:
        """Whether the rank sleeps in poll, so that a notification must write into its pipe."""
        return bool(self._memory.words[BY_PIPE])

    @by_pipe.setter
    def by_pipe(self, value: bool) -> None:
        self._memory.words[BY_PIPE] = value or FUTEX is None

    def notify(self) -> None:
        """Wake the rank; from any thread, also after `close`."""
        with self._lock:
            if self._notify is not None:
                self._notify()

    def mark(self) -> int:
        """The doorbell's value: take it before looking at sequence numbers, and pass it to `sleep`."""
        return self._memory.doorbell[0]

    def sleep(self, mark: int, seconds: float) -> list[tuple[Any, int]]:
        """Sleep until a notification comes or a registered file is ready; return the data of ready files and their events."""
        words = self._memory.words
        words[ASLEEP] = 1
        _barrier()
        try:
            return self._doze(mark, seconds)
        finally:
            words[ASLEEP] = 0

    def _doze(self, mark: int, seconds: float) -> list[tuple[Any, int]]:
        if self._sleep is not None and not self._memory.words[BY_PIPE]:
            self._sleep(mark, seconds)
            return []
        ready = []
        if self.mark() != mark:
            seconds = 0.0
        for key, events in self.selector.select(seconds):
            if key.data is None:
                self._drain()
            else:
                ready.append((key.data, events))
        return ready

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if self._local is not None:
                self._local[0].recv(4096)
            else:
                os.read(self._read, 4096)

    def close(self) -> None:
        """Close the file descriptors; safe to call again."""
        with self._lock:
            if self._notify is None:
                return
            self._notify = None
        self.selector.close()
        if self._local is not None:
            for end in self._local:
                end.close()
        else:
            os.close(self._read)
            os.close(self.pipe)
