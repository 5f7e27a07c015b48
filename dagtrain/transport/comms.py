"""A channel through the workers' existing connections, for peers whose memory and port cannot be reached."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from dagtrain.transport.frames import HELLO, Frame, Inbox, Malformed, Outbox, write_header
from dagtrain.transport.shared_memory import Array

__all__ = ["CommChannel", "FallbackTransport"]


class FallbackTransport(Protocol):
    """Carries messages to other ranks without reading them.

    The other end calls ``communicator.deliver(sender, header, buffers)`` of the group and rank the message is for, from any thread;
    messages may overtake each other. A message that cannot be delivered is reported by ``communicator.lose(rank, why)``.
    """

    def send(self, rank: int, header: bytes, buffers: list[memoryview]) -> None:
        """Begin to send, and return at once.

        Buffers are views of the window. The order of the phases keeps their content until the receiver has it.
        """
        ...


class CommChannel:
    """One end of a channel over a fallback."""

    kind = "comm"

    def __init__(
        self, peer: int, group: bytes, fallback: FallbackTransport, inbox: Inbox, outbox: Outbox, wake: Callable[[], None]
    ) -> None:
        self.peer = peer
        self.lost: str | None = None
        self.arrived = inbox.arrived
        self._group, self._fallback, self._inbox, self._outbox, self._wake = group, fallback, inbox, outbox, wake
        self._lock = threading.Lock()  # a fallback may deliver from several threads

    def incoming(self, phase: int) -> list[Array]:
        """Where the peer's spans of a phase arrive."""
        return list(self._inbox.arrays[phase])

    @property
    def refused(self) -> int:
        """Number of frames that were dropped."""
        return self._inbox.refused

    def greet(self) -> None:
        """Tell the peer that this kind of channel was chosen."""
        self._send(write_header(HELLO, 0, 0, self._group), [])

    def post(self, phase: int, sequence: int) -> bool:
        """Pass the message to the fallback; nothing is left to send."""
        self._send(self._outbox.header(phase, sequence), list(self._outbox.spans[phase]))
        return False

    def _send(self, header: bytes, buffers: list[memoryview]) -> None:
        try:
            self._fallback.send(self.peer, header, buffers)
        except Exception as error:  # a fallback may raise anything
            self.lost = self.lost or f"the message could not be sent: {error!r}"

    def deliver(self, header: bytes | bytearray | memoryview, buffers: Iterable[Any]) -> None:
        """Take a message; from any thread."""
        with self._lock:
            if self.lost is not None:
                return
            try:
                frame, target = self._inbox.begin(header)
                if target is not None:
                    _fill(target, buffers, frame)
                    self._inbox.finish(frame)
            except Malformed as error:
                self.lost = str(error)
        self._wake()

    def check(self) -> None:
        """Do nothing: the fallback reports a lost peer."""

    def close(self) -> None:
        """Release the window; safe to call again."""
        with self._lock:
            self.lost = self.lost or "this rank closed the channel"
            self._inbox.close()
            self._outbox.close()


def _fill(target: memoryview, buffers: Iterable[Any], frame: Frame) -> None:
    parts = [memoryview(buffer).cast("B") for buffer in buffers]
    if sum(map(len, parts)) != frame.length:
        raise Malformed(f"a message of {sum(map(len, parts))} bytes that announced {frame.length}")
    for part in parts:
        target[: len(part)] = part
        target = target[len(part) :]
