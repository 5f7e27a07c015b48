"""A channel through memory that two ranks of one host share: a post writes a sequence into its rank's window and notifies the peer.

The peer's spans are read in the peer's window; nothing is copied and nothing is sent.
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
    """One end of a channel to a peer on this host.

    Parameters
    ----------
    group, rank
        Of this rank.
    window : Window
        Of this rank.
    endpoint : Endpoint
        Of the peer.
    notifier : Notifier
        Of this rank.

    Raises
    ------
    OSError
        If the peer's memory cannot be opened, or is not its window.
    """

    kind = "shared"

    def __init__(self, group: bytes, rank: int, window: Window, endpoint: Endpoint, notifier: Notifier) -> None:
        self.peer = endpoint["rank"]
        self.lost: str | None = None
        self.process = Process(endpoint["pid"])  # before its files are opened, so that they belong to this very process
        self._pipe = -1
        self.memory: MappedWindow | None = None
        try:
            fd = _open(endpoint["pid"], endpoint["window"], os.O_RDWR)
            try:
                if os.fstat(fd).st_size != endpoint["size"]:
                    raise OSError("its size is not that of the endpoint")
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
    def maps_all(self) -> int:
        """Whether the peer maps the windows of all ranks: 0 (not known yet), `CAN` or `CANNOT`."""
        assert self.memory is not None
        return self.memory.words[TOGETHER]

    def post(self, phase: int, sequence: int) -> bool:
        """Tell the peer; nothing is left to send."""
        self.sequences[phase] = sequence
        self.notify()
        return False

    def check(self) -> None:
        """Set `lost` if the peer has closed its channels or its process has ended."""
        if self.memory is not None and self.memory.words[CLOSED]:
            self.lost = self.lost or "it closed its channels"
        elif not self.process.alive():
            self.lost = self.lost or "its process has ended"

    def close(self) -> None:
        """Unmap the peer's memory; safe to call again."""
        self.process.close()
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if self.memory is not None:
            for name in ("sequences", "verdict", "arrived", "answer"):
                with contextlib.suppress(AttributeError):
                    getattr(self, name).release()
            self.notify = _no_peer
            self._arrays = []
            self.memory.close()
            self.memory = None


def _no_peer() -> None:
    """Notify no peer: the channel is closed."""


def attach(group: bytes, rank: int, window: Window, endpoint: Endpoint, notifier: Notifier) -> SharedChannel | str:
    """A channel to a peer's window, or why there is none. This rank's window gets the verdict, for the peer."""
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
    complete: bool,
    doorbell: Doorbell,
    interrupted: Callable[[], None],
    seconds: float,
    until: float,
) -> bool:
    """Whether every rank maps the windows of all others: the same answer in each of them.

    Each rank writes into its window whether it does; only ranks that do read the others' answers.

    Parameters
    ----------
    window, channels, doorbell
        Of this rank.
    complete
        Whether `channels` lead to all other ranks.
    interrupted
        Raises if the wait is to end.
    seconds, until
        How long to wait, and the same deadline as a value of ``time.monotonic()``.

    Raises
    ------
    PeerLost, ChannelError
        If a rank is lost, or has not connected to all others in time.
    """
    window.words[TOGETHER] = CAN if complete else CANNOT
    for channel in channels:
        channel.notify()
    while complete:
        mark = doorbell.mark()
        interrupted()
        answers = {channel.peer: channel.maps_all for channel in channels}
        if all(answers.values()):
            return set(answers.values()) <= {CAN}
        for channel in channels:
            channel.check()
            if channel.lost is not None:
                raise PeerLost(channel.peer, channel.lost)
        if time.monotonic() > until:
            late = min(peer for peer, answer in answers.items() if not answer)
            raise ChannelError(f"rank {late} has not met all others after {seconds:g} s")
        doorbell.sleep(mark, SLICE)
    return False


CAN, CANNOT = 1, 2
"""Whether memory can be shared: with one peer, in its row of a window, or with all peers, in the header."""
