"""A link through memory that two ranks of one host share: posting is a stamp in one's own board and a ring at the peer's door.

The peer's pieces are read where the peer wrote them; nothing is copied and nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dagtrain.transport.doorbell import SLICE, Bell, Ringer
from dagtrain.transport.endpoint import Offer
from dagtrain.transport.errors import ChannelError, LinkLost
from dagtrain.transport.host import Process
from dagtrain.transport.routes import Phase, Table
from dagtrain.transport.shared_memory import CLOSED, TOGETHER, Array, Board, Memory, row

__all__ = ["SharedLink", "all_share", "attach"]


def _open(pid: int, fd: int, flags: int) -> int:
    return os.open(Path(f"/proc/{pid}/fd/{fd}"), flags | os.O_CLOEXEC)


class SharedLink:
    """One's end of a link to a peer on this host.

    Parameters
    ----------
    board : Board
        This rank's.
    offer : Offer
        The peer's.
    ringer : Ringer
        This rank's.

    Raises
    ------
    OSError
        If the peer's memory cannot be opened, or is not its board.
    """

    kind = "shared"

    def __init__(self, group: bytes, rank: int, board: Board, offer: Offer, ringer: Ringer) -> None:
        self.peer = offer["rank"]
        self.lost: str | None = None
        self.process = Process(offer["pid"])  # before its files are opened, so that this is the process that has them
        self._pipe = -1
        self.memory: Memory | None = None
        try:
            fd = _open(offer["pid"], offer["board"], os.O_RDWR)
            try:
                if os.fstat(fd).st_size != offer["size"]:
                    raise OSError("it is of another size than was offered")
                self.memory = Memory(fd, offer["size"], offer["regions"])
            finally:
                os.close(fd)
            if not self.memory.is_of(group, self.peer):
                raise OSError("it is not the board of that rank")
            self._pipe = _open(offer["pid"], offer["bell"], os.O_WRONLY | os.O_NONBLOCK)
        except BaseException:
            self.close()
            raise
        mine, theirs = row(self.peer), row(rank)
        self.stamps = board.words[mine + 1 : mine + 1 + len(Phase)]
        self.verdict = board.words[mine : mine + 1]
        self.arrived: Any = self.memory.words[theirs + 1 : theirs + 1 + len(Phase)]
        self.answer = self.memory.words[theirs : theirs + 1]
        self.ring: Callable[[], None] = ringer.of(self.memory, self._pipe)
        self._arrays: list[list[Array]] = [[] for _ in Phase]

    def bind(self, table: Table) -> None:
        """Find the peer's pieces in its board."""
        assert self.memory is not None
        for phase, pieces in table.into.items():
            for piece in pieces:
                array = self.memory.piece(piece, f"the board of rank {self.peer}")
                array.flags.writeable = False
                self._arrays[phase].append(array)

    def incoming(self, phase: int) -> list[Array]:
        """The peer's pieces of a phase."""
        return list(self._arrays[phase])

    @property
    def said(self) -> int:
        """The peer's word on whether it has all ranks in its memory; 0 until it has given it."""
        assert self.memory is not None
        return self.memory.words[TOGETHER]

    def post(self, phase: int, stamp: int) -> bool:
        """Tell the peer; nothing is ever left to send."""
        self.stamps[phase] = stamp
        self.ring()
        return False

    def check(self) -> None:
        """See whether the peer is still there."""
        if self.memory is not None and self.memory.words[CLOSED]:
            self.lost = self.lost or "it closed its links"
        elif not self.process.alive():
            self.lost = self.lost or "its process has ended"

    def close(self) -> None:
        """Let the peer's memory go; safe to call again."""
        self.process.close()
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if self.memory is not None:
            for name in ("stamps", "verdict", "arrived", "answer"):
                with contextlib.suppress(AttributeError):
                    getattr(self, name).release()
            self.ring = _nobody
            self._arrays = []
            self.memory.close()
            self.memory = None


def _nobody() -> None:
    """Ring nowhere."""


def attach(group: bytes, rank: int, board: Board, offer: Offer, ringer: Ringer) -> SharedLink | str:
    """A link to a peer's board, or why there cannot be one. The answer is written into this rank's board, where the peer looks for it."""
    try:
        link = SharedLink(group, rank, board, offer, ringer)
    except (OSError, ValueError) as error:  # ValueError: the file is too small to be mapped
        board.words[row(offer["rank"])] = CANNOT
        return f"its memory cannot be opened ({error})"
    link.verdict[0] = CAN
    link.ring()
    return link


def all_share(
    board: Board, links: Sequence[SharedLink], everybody: bool, bell: Bell, interrupted: Callable[[], None], seconds: float, until: float
) -> bool:
    """Whether all ranks have all others in their memory: the same answer in each of them.

    Each says it in its board, where only those look who have everybody.

    Parameters
    ----------
    board, links, bell
        This rank's.
    everybody
        Whether `links` lead to all other ranks.
    interrupted
        Raises if the wait is to end.
    seconds, until
        How long to wait, and when that is over by ``time.monotonic``.

    Raises
    ------
    LinkLost, ChannelError
        If a rank goes, or has not met all others in time.
    """
    board.words[TOGETHER] = CAN if everybody else CANNOT
    for link in links:
        link.ring()
    while everybody:
        mark = bell.mark()
        interrupted()
        said = {link.peer: link.said for link in links}
        if all(said.values()):
            return set(said.values()) <= {CAN}
        for link in links:
            link.check()
            if link.lost is not None:
                raise LinkLost(link.peer, link.lost)
        if time.monotonic() > until:
            late = min(peer for peer, word in said.items() if not word)
            raise ChannelError(f"rank {late} has not met all others after {seconds:g} s")
        bell.sleep(mark, SLICE)
    return False


CAN, CANNOT = 1, 2
"""What is said of sharing memory, in a row of a board of one peer, and of all of them."""
