"""All channels of one rank: the exchange on which ranks run their steps.

    post(phase, peers, …)    my spans are final                     wait(phase, peers, …)    theirs are, and mine may change again

A rank computes, posts and waits. It waits for all readers of a phase before posting that phase again; so nothing is overwritten too
early, and buffers need no second copy. Only a post of *another* phase may be early.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any, Self

from dagtrain.transport.comms import CommChannel, FallbackTransport
from dagtrain.transport.doorbell import SLICE, Doorbell, Notifier, fence
from dagtrain.transport.endpoint import KINDS, VERSION, Endpoint, checked
from dagtrain.transport.errors import Aborted, ChannelError
from dagtrain.transport.frames import HELLO, Inbox, Malformed, Outbox, read_header
from dagtrain.transport.handshake import Tls, listen
from dagtrain.transport.host import can_share_memory, cores, host
from dagtrain.transport.rendezvous import HANDSHAKE_TIMEOUT, PENDING, Channel, LocalEndpoint, Rendezvous
from dagtrain.transport.routes import Phase, Routes
from dagtrain.transport.sequence import pack
from dagtrain.transport.shared import SharedChannel, all_share
from dagtrain.transport.shared_memory import CLOSED, RANKS, Array, MappedWindow, Window
from dagtrain.transport.sockets import SILENCE, SocketChannel
from dagtrain.transport.waiting import SPIN, WaitLoop, arrived

__all__ = ["Communicator"]


class Communicator:
    """The channels of one rank to its peers, for the life of one group.

    All methods are for the rank's own thread, except `abort`, `deliver` and `lose`.

    Parameters
    ----------
    group : str
        32 hexadecimal digits, new for each placement.
    rank : int
        Number of this rank.
    window : Window
        Of this rank; a new one for each group.
    routes : mapping of int to Routes
        For each peer, the spans that it gets and those that it sends.
    token : bytes
        Secret of the group; never sent.
    address : str
        Host name or IP at which peers reach this process. The rank listens there, on a port that the kernel chooses.
    tls : (SSLContext, SSLContext), optional
        For the side that accepts and the side that dials. Without it connections are plain.
    comms : FallbackTransport, optional
        Carries messages where sockets fail too.
    only : str, optional
        Restrict the rank to one kind of channel: ``"shared"``, ``"socket"`` or ``"comm"``.
    silence : float, optional
        Seconds without an acknowledgement after which a connection is lost.
    handshake_timeout : float, optional
        Seconds for a connection to authenticate itself, and for a dialled peer to accept where another kind of channel is left.
    pending : int, optional
        Unauthenticated connections at the port at once, besides those of the peers.

    Attributes
    ----------
    deadline : float
        Seconds that `wait` waits at most; 600 by default.
    slice : float
        Seconds that a rank sleeps at most before it checks whether the peers it waits for are alive.
    spin : float
        Seconds to poll before sleeping. `connect` sets it to 0 where ranks on this host outnumber the cores.
    endpoint : Endpoint
        Of this rank, for its peers' `connect`.
    rejected : int
        Connections that were refused.
    refusals : mapping of int to sequence of str
        After `connect`, for each peer why better kinds of channel failed, as far as this rank knows.
    common : MappedWindow or None
        After `connect`, the window of the lowest rank if every rank maps every other rank's window: one copy there serves all ranks, and
        each may write its part of it. None in all ranks otherwise.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from dagtrain.transport import Span
    >>> windows = [Window.create({"slice": ("float32", 4)}) for _ in range(2)]
    >>> whole = {Phase.ALL_GATHER: (Span("slice", 0, 4),)}
    >>> ranks = [Communicator("ab" * 16, i, windows[i], {1 - i: Routes(whole, whole)}, b"secret", "127.0.0.1") for i in range(2)]
    >>> def run(i):
    ...     ranks[i].connect({j: ranks[j].endpoint for j in range(2)}, 10)
    ...     windows[i]["slice"][:] = i + 1
    ...     ranks[i].post(Phase.ALL_GATHER, [1 - i], segment=0, step=0)
    ...     ranks[i].wait(Phase.ALL_GATHER, [1 - i], segment=0, step=0)
    ...     return float(ranks[i].incoming(1 - i, Phase.ALL_GATHER)[0].sum())
    >>> with ThreadPoolExecutor(2) as threads:
    ...     list(threads.map(run, range(2)))
    [8.0, 4.0]
    >>> for each in (*ranks, *windows):
    ...     each.close()
    """

    def __init__(
        self,
        group: str,
        rank: int,
        window: Window,
        routes: Mapping[int, Routes],
        token: bytes,
        address: str,
        tls: Tls | None = None,
        comms: FallbackTransport | None = None,
        only: str | None = None,
        silence: float = SILENCE,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        pending: int = PENDING,
    ) -> None:
        digits = len(group) == 32 and set(group) <= set("0123456789abcdef")
        if not digits or rank in routes or not all(0 <= number < RANKS for number in (rank, *routes)):
            raise ChannelError(
                f"group {group!r}, rank {rank}, peers {sorted(routes)}: use 32 hexadecimal digits and distinct ranks below {RANKS}"
            )
        if not token or (only is not None and only not in KINDS):
            raise ChannelError(f"a group needs a token, and only={only!r} must be one of {', '.join(KINDS)}")
        if window.words[0]:
            raise ChannelError("this window has served a group already: create a new one, or a late peer of that group might read it")
        self.group, self.rank, self.deadline, self.slice, self.spin, self.rejected = group, rank, 600.0, SLICE, SPIN, 0
        self._group, self._window, self._routes, self._comms, self._silence = bytes.fromhex(group), window, dict(routes), comms, silence
        self.common: MappedWindow | None = None
        self.refusals: Mapping[int, list[str]] = {}
        self._channels: dict[int, Channel] = {}
        self._sending: list[SocketChannel] = []
        self._greeted: set[int] = set()
        self._aborted: str | None = None
        self._closed = False
        self._refused = 0
        can = {"shared": can_share_memory(), "socket": True, "comm": comms is not None}
        kinds = [kind for kind in KINDS if only in {None, kind} and can[kind]]
        listener = self._listen(address, kinds, only) if "socket" in kinds else None
        try:
            notifier = Notifier(rank)
            window.label(self._group, rank)
            doorbell = Doorbell(window, notifier)
        except BaseException:
            if listener is not None:
                listener.close()
            raise
        self._doorbell = doorbell
        self._loop = WaitLoop(doorbell, self._interrupted)
        self._local_endpoint = LocalEndpoint(
            self._group, rank, window, notifier, doorbell, token, tls, listener, silence, handshake_timeout, pending
        )
        self.endpoint = Endpoint(
            version=VERSION,
            group=group,
            rank=rank,
            host=host(),
            pid=os.getpid(),
            window=window.fd,
            doorbell=doorbell.pipe,
            size=window.size,
            regions=window.regions,
            address=None if listener is None else listener.getsockname()[:2],
            secure=int(tls is not None),
            kinds=tuple(kinds),
        )

    def _listen(self, address: str, kinds: list[str], only: str | None) -> socket.socket | None:
        try:
            listener = listen(address)
        except OSError as error:
            if only == "socket":
                raise ChannelError(f"cannot listen at {address!r}: {error}; name an address of this machine") from error
            kinds.remove("socket")
            return None
        if ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_unspecified:
            listener.close()
            raise ChannelError(f"{address!r} would listen at all addresses of this machine; name the one address that peers use")
        return listener

    # ---- rendezvous

    def connect(self, endpoints: Mapping[int, Endpoint], deadline: float) -> None:
        """Connect to all peers within `deadline` seconds from now; the order in which ranks call this does not matter.

        Raises
        ------
        ChannelError
            If an endpoint is missing, or does not fit the routes; if a rank whose window all others map does not connect in time.
        PeerLost, PeerTimeout, Aborted
            If a peer cannot be reached, does not connect, or `abort` was called.
        """
        missing = sorted(set(self._routes) - set(endpoints))
        if missing:
            raise ChannelError(f"no endpoints of ranks {missing}: pass those of all {len(self._routes)} peers")
        self._endpoints = {peer: checked(endpoints[peer], self.group, peer) for peer in self._routes}
        until = time.monotonic() + deadline
        rendezvous = Rendezvous(self._local_endpoint, self.endpoint, self._endpoints, self._make, self._greeted, self._interrupted)
        try:
            rendezvous.run(deadline)
        finally:
            self.rejected += rendezvous.rejected
            self.refusals = rendezvous.failures
            if self._local_endpoint.listener is not None:
                self._local_endpoint.listener.close()
        self._doorbell.by_pipe = self._loop.has_sockets
        if 1 + sum(endpoint["host"] == self.endpoint["host"] for endpoint in self._endpoints.values()) > cores():
            self.spin = 0.0
        sharing = [channel for channel in self._channels.values() if isinstance(channel, SharedChannel)]
        if all_share(self._window, sharing, len(sharing) == len(self._channels), self._doorbell, self._interrupted, deadline, until):
            windows = {self.rank: self._window} | {channel.peer: channel.memory for channel in sharing}
            self.common = windows[min(windows)]

    def _make(self, peer: int, kind: str, opened: Any) -> Channel:
        routes, endpoint = self._routes[peer], self._endpoints[peer]
        channel: Channel
        if kind == "shared":
            channel = opened
            self._channels[peer] = channel
            opened.bind(routes)
            return channel
        outbox = Outbox(self._group, self._window, routes.out)
        inbox = Inbox(self._group, routes.into, endpoint["regions"], f"the window of rank {peer}")
        if kind == "socket":
            channel = connected = SocketChannel(peer, opened, inbox, outbox, self._silence)
            self._loop.add(connected)
        else:
            assert self._comms is not None
            channel = CommChannel(peer, self._group, self._comms, inbox, outbox, self._doorbell.notify)
        self._channels[peer] = channel
        return channel

    @property
    def kinds(self) -> dict[int, str]:
        """For each peer the kind of channel that was chosen."""
        return {peer: channel.kind for peer, channel in sorted(self._channels.items())}

    @property
    def refused(self) -> int:
        """Number of messages that were dropped: of other groups, or not later than the last that arrived."""
        return self._refused + sum(getattr(channel, "refused", 0) for channel in self._channels.values())

    def incoming(self, peer: int, phase: Phase) -> list[Array]:
        """The peer's spans of a phase, the same arrays for the group's life; read-only. They hold its data after `wait`."""
        return self._channels[peer].incoming(phase)

    # ---- stepping

    def post(self, phase: Phase, peers: Iterable[int], segment: int, step: int, round: int = 0) -> None:
        """Tell peers that this rank's spans of a phase are final; returns without waiting."""
        sequence = pack(segment, step, round)
        if self._aborted is not None:
            raise Aborted(self._aborted)
        if fence is not None:
            fence()
        channels = self._channels
        for peer in peers:
            channel = channels[peer]
            if channel.post(phase, sequence) and channel not in self._sending:
                assert isinstance(channel, SocketChannel)
                self._sending.append(channel)

    def release(self, phase: Phase, counts: Mapping[int, int], segment: int, step: int) -> None:
        """Send the first ``counts[peer]`` spans of a phase to each peer before the others are final; `post` sends the rest.

        It also receives what has arrived. It does not wait, and leaves errors to `wait`. Shared memory and fallbacks, which carry whole
        messages, have nothing to send early.
        """
        sequence = pack(segment, step, 0)
        for peer, count in counts.items():
            channel = self._channels[peer]
            if isinstance(channel, SocketChannel) and channel.release(phase, sequence, count) and channel not in self._sending:
                self._sending.append(channel)
        self._loop.transfer()

    def wait(self, phase: Phase, peers: Iterable[int], segment: int, step: int, round: int = 0) -> None:
        """Wait until these peers have posted the phase, and the kernel has taken everything that this rank has posted.

        A later round of the same step implies the earlier ones.

        Raises
        ------
        PeerLost
            If one of the peers is gone.
        PeerTimeout
            If one posts nothing for `deadline` seconds.
        ProtocolError
            If one has posted a sequence that it can only post later.
        Aborted
            If `abort` was called, or the channels are closed.
        """
        sequence = pack(segment, step, round)
        if self._aborted is not None:
            raise Aborted(self._aborted)
        channels = self._channels
        waiting = [channel for peer in peers if (channel := channels[peer]).arrived[phase] != sequence]
        if waiting or self._sending:
            self._block(phase, sequence, waiting, self._sending, None)
        if fence is not None:
            fence()

    def wait_for_spans(self, phase: Phase, counts: Mapping[int, int], segment: int, step: int) -> None:
        """Wait until the first ``counts[peer]`` spans of each of these peers are here, perhaps before the peer's whole message is.

        With shared memory and fallbacks that is when the peer has posted the phase. It raises what `wait` raises.
        """
        sequence = pack(segment, step, 0)
        if self._aborted is not None:
            raise Aborted(self._aborted)
        self._loop.transfer()
        channels = (self._channels[peer] for peer, count in counts.items() if count)
        waiting = [channel for channel in channels if not arrived(channel, phase, sequence, counts)]
        if waiting:
            self._block(phase, sequence, waiting, [], counts)
        if fence is not None:
            fence()

    def _block(
        self, phase: Phase, sequence: int, waiting: list[Channel], sending: list[SocketChannel], counts: Mapping[int, int] | None
    ) -> None:
        self._loop.run(phase, sequence, waiting, sending, counts, spin=self.spin, slice=self.slice, deadline=self.deadline)

    def _interrupted(self) -> None:
        if self._aborted is not None:
            raise Aborted(self._aborted)

    # ---- from other threads

    def abort(self, why: str) -> None:
        """End the exchange: `connect` and `wait` raise `Aborted` within milliseconds, `post` at its next call. The first reason stays."""
        self._aborted = self._aborted or why
        self._doorbell.notify()

    def deliver(self, peer: int, header: bytes | bytearray | memoryview, buffers: Iterable[Any]) -> None:
        """Take a message from a fallback."""
        channel = self._channels.get(peer)
        try:
            frame = read_header(header)
        except Malformed as error:
            self.lose(peer, str(error))
            return
        if frame.group != self._group or peer not in self._routes:
            self._refused += 1
        elif frame.phase != HELLO and isinstance(channel, CommChannel):
            channel.deliver(header, buffers)
        elif frame.phase == HELLO and (channel is None or isinstance(channel, CommChannel)):
            self._greeted.add(peer)
            self._doorbell.notify()
        else:
            self.lose(peer, "it chose Dask's connections, this rank another kind of channel")

    def lose(self, peer: int, why: str) -> None:
        """Declare a peer unreachable, for a fallback that failed."""
        channel = self._channels.get(peer)
        if channel is not None:
            channel.lost = channel.lost or why
            self._doorbell.notify()

    # ---- the end

    def close(self) -> None:
        """Close all channels; safe to call again.

        Arrays of `incoming` stay readable. A peer that waits for this rank raises `PeerLost`.
        """
        if self._closed:
            return
        self._closed = True
        self._aborted = self._aborted or "the channels of this rank were closed"
        with contextlib.suppress(ValueError):  # the window was closed first
            self._window.words[CLOSED] = 1
        self._doorbell.close()
        for channel in self._channels.values():
            if channel.kind == "shared":
                channel.notify()  # type: ignore[attr-defined]  # only those have it
            channel.close()
        if self._local_endpoint.listener is not None:
            self._local_endpoint.listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
