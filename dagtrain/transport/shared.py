"""A channel through memory that two ranks of one host share: posting is a sequence in one's own window and a notify at the peer's door.

The peer's spans are read where the peer wrote them; nothing is copied and nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dagtrain.transport.doorbell import SLICE, Doorbell, Notifier
from dagtrain.transport.endpoint import Endpoint
from dagtrain.transport.errors import ChannelError, PeerLost
from dagtrain.transport.host import Process
from dagtrain.transport.routes import Phase, Routes
from dagtrain.transport.shared_memory import CLOSED, TOGETHER, Array, MappedWindow, Window, row

__all__ = ["SharedChannel", "all_share", "attach"]


def _open(pid: int, fd: int, flags: int) -> int:
    return os.open(Path(f"/proc/{pid}/fd/{fd}"), flags | os.O_CLOEXEC)


class SharedChannel:
    """One's end of a channel to a peer on this host.

    Parameters
    ----------
    window : Window
        This rank's.
    endpoint : Endpoint
        The peer's.
    notifier : Notifier
        This rank's.

    Raises
    ------
    OSError
        If the peer's memory cannot be opened, or is not its window.
    """

    kind = "shared"

    def __init__(self, group: bytes, rank: int, window: Window, endpoint: Endpoint, notifier: Notifier) -> None:
        self.peer = endpoint["rank"]
        self.lost: str | None = None
        self.process = Process(endpoint["pid"])  # before its files are opened, so that this is the process that has them
        self._pipe = -1
        self.memory: MappedWindow | None = None
        try:
            fd = _open(endpoint["pid"], endpoint["window"], os.O_RDWR)
            try:
                if os.fstat(fd).st_size != endpoint["size"]:
                    raise OSError("it is of another size than was published")
                self.memory = MappedWindow(fd, endpoint["size"], endpoint["regions"])
            finally:
                os.close(fd)
            if not self.memory.is_of(group, self.peer):
                raise OSError("it is not the window of that rank")
            self._pipe = _open(endpoint["pid"], endpoint["doorbell"], os.O_WRONLY | os.O_NONBLOCK)
        except BaseException:
            self.close()
            raise
        mine, theirs = row(self.peer), row(rank)
        self.sequences = window.words[mine + 1 : mine + 1 + len(Phase)]
        self.verdict = window.words[mine : mine + 1]
        self.arrived: Any = self.memory.words[theirs + 1 : theirs + 1 + len(Phase)]
        self.answer = self.memory.words[theirs : theirs + 1]
        self.notify: Callable[[], None] = notifier.of(self.memory, self._pipe)
        self._arrays: list[list[Array]] = [[] for _ in Phase]

    def bind(self, routes: Routes) -> None:
        """Find the peer's spans in its window."""
        assert self.memory is not None
        for phase, spans in routes.into.items():
            for span in spans:
                array = self.memory.span(span, f"the window of rank {self.peer}")
                array.flags.writeable = False
                self._arrays[phase].append(array)

    def incoming(self, phase: int) -> list[Array]:
        """The peer's spans of a phase."""
        return list(self._arrays[phase])

    @property
    def said(self) -> int:
        """The peer's word on whether it has all ranks in its memory; 0 until it has given it."""
        assert self.memory is not None
        return self.memory.words[TOGETHER]

    def post(self, phase: int, sequence: int) -> bool:
        """Tell the peer; nothing is ever left to send."""
        self.sequences[phase] = sequence
        self.notify()
        return False

    def check(self) -> None:
        """See whether the peer is still there."""
        if self.memory is not None and self.memory.words[CLOSED]:
            self.lost = self.lost or "it closed its channels"
        elif not self.process.alive():
            self.lost = self.lost or "its process has ended"

    def close(self) -> None:
        """Let the peer's memory go; safe to call again."""
        self.process.close()
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if self.memory is not None:
            for name in ("sequences", "verdict", "arrived", "answer"):
                with contextlib.suppress(AttributeError):
                    getattr(self, name).release()
            self.notify = _nobody
            self._arrays = []
            self.memory.close()
            self.memory = None


def _nobody() -> None:
    """Notify no one."""


def attach(group: bytes, rank: int, window: Window, endpoint: Endpoint, notifier: Notifier) -> SharedChannel | str:
    """A channel to a peer's window, or why there is none. The answer is written into this rank's window, where the peer reads it."""
    try:
        channel = SharedChannel(group, rank, window, endpoint, notifier)
    except (OSError, ValueError) as error:  # ValueError: the file is too small to be mapped
        window.words[row(endpoint["rank"])] = CANNOT
        return f"its memory cannot be opened ({error})"
    channel.verdict[0] = CAN
    channel.notify()
    return channel


def all_share(
    window: Window,
    channels: Sequence[SharedChannel],
    everybody: bool,
    doorbell: Doorbell,
    interrupted: Callable[[], None],
    seconds: float,
    until: float,
) -> bool:
    """Whether all ranks have all others in their memory: the same answer in each of them.

    Each says it in its window, where only those look who have everybody.

    Parameters
    ----------
    window, channels, doorbell
        This rank's.
    everybody
        Whether `channels` lead to all other ranks.
    interrupted
        Raises if the wait is to end.
    seconds, until
        How long to wait, and when that is over by ``time.monotonic``.

    Raises
    ------
    PeerLost, ChannelError
        If a rank goes, or has not met all others in time.
    """
    window.words[TOGETHER] = CAN if everybody else CANNOT
    for channel in channels:
        channel.notify()
    while everybody:
        mark = doorbell.mark()
        interrupted()
        said = {channel.peer: channel.said for channel in channels}
        if all(said.values()):
            return set(said.values()) <= {CAN}
        for channel in channels:
            channel.check()
            if channel.lost is not None:
                raise PeerLost(channel.peer, channel.lost)
        if time.monotonic() > until:
            late = min(peer for peer, word in said.items() if not word)
            raise ChannelError(f"rank {late} has not met all others after {seconds:g} s")
        doorbell.sleep(mark, SLICE)
    return False


CAN, CANNOT = 1, 2
"""What is said of sharing memory, in a row of a window of one peer, and of all of them."""
