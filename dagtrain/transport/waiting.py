"""How a rank waits: it reads and writes its connections, polls for a moment, then sleeps on its doorbell.

Every wait ends: with the sequences that it waits for, with a peer that is lost, with an abort, or at its deadline.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from dagtrain.transport.doorbell import Doorbell
from dagtrain.transport.errors import PeerLost, PeerTimeout, ProtocolError
from dagtrain.transport.rendezvous import Channel
from dagtrain.transport.routes import Phase
from dagtrain.transport.sequence import ROUND_BITS, unpack
from dagtrain.transport.sockets import SocketChannel

__all__ = ["SPIN", "WaitLoop", "arrived"]

SPIN = 1e-3
"""Seconds to poll: a rank that sleeps wakes late, and waking it costs its peers a system call (measured, with steps of 2 ms)."""
_yield = getattr(os, "sched_yield", lambda: time.sleep(0))


class WaitLoop:
    """The connections of a rank and its sleep.

    Parameters
    ----------
    doorbell : Doorbell
        Of this rank.
    interrupted : callable
        Raises if the wait is to end.
    """

    def __init__(self, doorbell: Doorbell, interrupted: Callable[[], None]) -> None:
        self._doorbell, self._interrupted = doorbell, interrupted
        self._sockets: dict[SocketChannel, int] = {}

    def add(self, channel: SocketChannel) -> None:
        """Read and write this connection from now on."""
        self._sockets[channel] = channel.events
        self._doorbell.selector.register(channel.sock, channel.events, channel)

    @property
    def has_sockets(self) -> bool:
        """Whether a connection must wake the rank."""
        return bool(self._sockets)

    def transfer(self) -> None:
        """Read and write all connections as far as the kernel lets them."""
        for channel in self._sockets:
            channel.pull()
            if channel.sending:
                channel.push()

    def run(
        self,
        phase: Phase,
        sequence: int,
        waiting: list[Channel],
        sending: list[SocketChannel],
        counts: Mapping[int, int] | None,
        *,
        spin: float,
        slice: float,
        deadline: float,
    ) -> None:
        """Wait until all of `waiting` have the sequence, or its first ``counts[peer]`` spans, and `sending` have sent everything."""
        began = looked = time.monotonic()
        self.transfer()
        while True:
            mark = self._doorbell.mark()
            self._interrupted()
            waiting = [channel for channel in waiting if not arrived(channel, phase, sequence, counts)]
            if sending:
                sending[:] = [channel for channel in sending if channel.sending or channel.lost is not None]
            if not waiting and not sending:
                return
            for channel in (*waiting, *sending):
                if channel.lost is not None:
                    raise PeerLost(channel.peer, channel.lost, getattr(channel, "cut", False))
            now = time.monotonic()
            if now < began + spin:
                _yield()
                self.transfer()
                continue
            if now - began >= deadline:
                raise PeerTimeout(phase, sorted({channel.peer for channel in (*waiting, *sending)}), deadline)
            self._sleep(mark, min(slice, deadline - (now - began)))
            if now - looked >= slice:
                looked = now
                for channel in (*waiting, *sending):
                    channel.check()

    def _sleep(self, mark: int, seconds: float) -> None:
        for channel, registered in self._sockets.items():
            events = channel.events if channel.lost is None else 0
            if events != registered:
                self._register(channel, events)
        for channel, _ in self._doorbell.sleep(mark, seconds):
            channel.pull()
            if channel.sending:
                channel.push()

    def _register(self, channel: SocketChannel, events: int) -> None:
        self._sockets[channel] = events
        if events:
            self._doorbell.selector.modify(channel.sock, events, channel)
        else:  # its end has been read; poll would report it for ever
            self._doorbell.selector.unregister(channel.sock)


def arrived(channel: Channel, phase: Phase, sequence: int, counts: Mapping[int, int] | None = None) -> bool:
    """Whether the peer has posted this sequence, or the first ``counts[peer]`` spans of it are here; raises `ProtocolError`."""
    latest = channel.arrived[phase]
    if latest == sequence:
        return True
    if latest < sequence:
        return counts is not None and isinstance(channel, SocketChannel) and channel.has(phase, sequence, counts[channel.peer])
    if latest >> ROUND_BITS == sequence >> ROUND_BITS:
        return True
    raise ProtocolError(channel.peer, phase, unpack(latest), unpack(sequence))
