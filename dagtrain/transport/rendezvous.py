"""How the ranks of a group find each other: for every pair the best kind of channel that works, all pairs at once.

    shared   both try to open the other's window and write into their own whether they could; if both could, that is it
    socket   the rank with the lower number dials, the other takes the call; both prove that they know the token
    comm     the lower one sends a greeting by the fallback, the other one returns it

Where one kind fails, the pair goes on to the next. One loop with deadlines does it all, in the rank's own thread, so the order in
which ranks arrive does not matter, and a stranger at the port costs nothing but the place he stands on.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Mapping, MutableSet
from dataclasses import dataclass, field
from typing import Any, Protocol

from dagtrain.transport.doorbell import SLICE, Doorbell, Notifier
from dagtrain.transport.endpoint import Endpoint, common_kinds
from dagtrain.transport.errors import PeerLost, PeerTimeout
from dagtrain.transport.handshake import Acceptor, Handshake, HandshakeError, Initiator, Tls, dial
from dagtrain.transport.shared import CAN, CANNOT, SharedChannel, attach
from dagtrain.transport.shared_memory import Array, Window

__all__ = ["HANDSHAKE_TIMEOUT", "PENDING", "Channel", "LocalEndpoint", "Rendezvous"]

HANDSHAKE_TIMEOUT = 10.0
"""Seconds for a stranger to prove that he is none."""
OTHER_WAY = 5.0
"""Seconds for a call to be taken where there is another way: in these the kernel tries three times."""
PENDING = 256
"""Connections that may be on their way at once, besides those of the peers."""


class Channel(Protocol):
    """One's end of a channel, whatever its kind."""

    peer: int
    lost: str | None
    """Why nothing more can come from the peer."""
    arrived: Any
    """By phase, the sequence of the last message that is complete."""

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        ...

    def incoming(self, phase: int) -> list[Array]:
        """Where the peer's spans are found once its sequence has arrived."""
        ...

    def post(self, phase: int, sequence: int) -> bool:
        """Tell the peer that this rank's spans are final; return whether something is left to be sent."""
        ...

    def check(self) -> None:
        """Set `lost` if the peer is gone without a word."""
        ...

    def close(self) -> None:
        """Give back what the channel holds."""
        ...


@dataclass(frozen=True)
class LocalEndpoint:
    """What a rank has to meet others with."""

    group: bytes
    rank: int
    window: Window
    notifier: Notifier
    doorbell: Doorbell
    token: bytes
    tls: Tls | None
    listener: socket.socket | None
    silence: float
    handshake_timeout: float
    pending: int


@dataclass
class _Pair:
    """How far this rank and a peer have come."""

    common: list[str]
    left: list[str]
    way: str = ""
    shared: SharedChannel | None = None
    failures: list[str] = field(default_factory=list)


class Rendezvous:
    """Makes all channels of a rank.

    Parameters
    ----------
    local_endpoint : LocalEndpoint
        This rank.
    mine : Endpoint
        Of this rank.
    endpoints : mapping of int to Endpoint
        Of its peers.
    make : callable
        ``make(peer, kind, opened)`` makes a channel of what was opened, and keeps it.
    greeted : set of int
        Peers whose greeting came by the fallback; filled by another thread, which notifies.
    interrupted : callable
        Raises when there is no use in going on.
    """

    def __init__(
        self,
        local_endpoint: LocalEndpoint,
        mine: Endpoint,
        endpoints: Mapping[int, Endpoint],
        make: Callable[[int, str, Any], Any],
        greeted: MutableSet[int],
        interrupted: Callable[[], None],
    ) -> None:
        self._local_endpoint, self._endpoints, self._make, self._greeted, self._interrupted = (
            local_endpoint,
            endpoints,
            make,
            greeted,
            interrupted,
        )
        self._pairs: dict[int, _Pair] = {}
        for peer, endpoint in endpoints.items():
            common = common_kinds(mine, endpoint)
            self._pairs[peer] = _Pair(common, list(common))
        self._callers = {peer for peer, pair in self._pairs.items() if "socket" in pair.common and peer < local_endpoint.rank}
        self._handshakees: dict[int, Handshake] = {}
        self.rejected = 0
        self.failures: dict[int, list[str]] = {peer: pair.failures for peer, pair in self._pairs.items()}

    def run(self, seconds: float) -> None:
        """Meet all peers within some seconds; raises `PeerLost`, `PeerTimeout` or what `interrupted` does."""
        selector, listener = self._local_endpoint.doorbell.selector, self._local_endpoint.listener
        self._until = time.monotonic() + seconds
        if listener is not None:
            selector.register(listener, 1, self)
        try:
            for peer in sorted(self._pairs):
                self._next_way(peer)
            while True:
                mark = self._local_endpoint.doorbell.mark()
                self._interrupted()
                self._look()
                if not self._pairs:
                    return
                now = time.monotonic()
                if now > self._until:
                    raise PeerTimeout(None, sorted(self._pairs), seconds, self._remarks())
                for handshake in [a for a in self._handshakees.values() if now > a.until]:
                    self._failed(handshake, "it did not answer in time")
                for what, _ in self._local_endpoint.doorbell.sleep(mark, SLICE / 2):
                    if what is self:
                        self._take_calls()
                    elif not isinstance(what, Handshake):
                        self._take_in(what)
                    elif what.fd in self._handshakees:
                        self._advance(what)
        finally:
            if listener is not None:
                selector.unregister(listener)
            for handshake in list(self._handshakees.values()):
                self._drop(handshake)
            for pair in self._pairs.values():
                if pair.shared is not None:
                    pair.shared.close()

    def _remarks(self) -> str:
        found = [f"; rank {peer}: {', '.join(pair.failures)}" for peer, pair in sorted(self._pairs.items()) if pair.failures]
        if self.rejected:
            found.append(f"; {self.rejected} pending at the port were refused, as rejected or for another token")
        return "".join(found)

    def _next_way(self, peer: int) -> None:
        """Begin to try the best kind that is left."""
        pair, local_endpoint = self._pairs[peer], self._local_endpoint
        while pair.left:
            pair.way = pair.left.pop(0)
            if pair.way == "shared":
                made = attach(
                    local_endpoint.group, local_endpoint.rank, local_endpoint.window, self._endpoints[peer], local_endpoint.notifier
                )
                if isinstance(made, SharedChannel):
                    pair.shared = made
                    return
                pair.failures.append(made)
            elif local_endpoint.rank > peer:
                return  # the peer begins
            elif pair.way == "socket":
                if self._call(peer):
                    return
            else:
                self._make(peer, "comm", None).greet()
                return
        why = "; ".join(pair.failures) or "the two have no kind of channel in common"
        raise PeerLost(peer, why)

    def _done(self, peer: int, kind: str, opened: Any) -> None:
        self._make(peer, kind, opened)
        del self._pairs[peer]
        self._callers.discard(peer)

    def _look(self) -> None:
        """See what came to pass without a connection: verdicts, greetings, and too long a wait."""
        for peer, pair in list(self._pairs.items()):
            if peer in self._greeted and "comm" in pair.common:
                if pair.shared is not None:
                    pair.shared.close()
                if self._local_endpoint.rank > peer:
                    self._make(peer, "comm", None).greet()
                del self._pairs[peer]
                self._callers.discard(peer)
            elif pair.shared is not None:
                self._look_at(peer, pair, pair.shared)

    def _look_at(self, peer: int, pair: _Pair, shared: SharedChannel) -> None:
        verdict = shared.answer[0]
        if verdict == CAN:
            pair.shared = None
            self._done(peer, "shared", shared)
        elif verdict == CANNOT:
            pair.shared = None
            shared.close()
            pair.failures.append("it cannot open the memory of this rank")
            self._next_way(peer)
        else:
            shared.check()
            if shared.lost is not None:
                raise PeerLost(peer, shared.lost)

    # ---- connections

    def _take_in(self, channel: Any) -> None:
        """What a peer sends that has met everybody, while this rank has not."""
        channel.pull()
        if channel.lost is not None:
            raise PeerLost(channel.peer, channel.lost, channel.cut)

    def _call(self, peer: int) -> bool:
        """Dial a peer; return False where that is hopeless."""
        local_endpoint, pair = self._local_endpoint, self._pairs[peer]
        address = self._endpoints[peer]["address"]
        assert address is not None  # or the two would not have sockets in common
        until = time.monotonic() + min(local_endpoint.handshake_timeout, OTHER_WAY) if pair.left else self._until
        try:
            sock = dial(address)
        except OSError as error:
            pair.failures.append(f"{address[0]}:{address[1]} cannot be dialled: {error.strerror or error}")
            return False
        role = Initiator(local_endpoint.group, local_endpoint.rank, peer, local_endpoint.token)
        self._begin(Handshake(sock, role, local_endpoint.tls, local_endpoint.silence, until))
        return True

    def _take_calls(self) -> None:
        local_endpoint = self._local_endpoint
        assert local_endpoint.listener is not None
        while len(self._handshakees) < local_endpoint.pending + len(self._endpoints):
            try:
                sock, _ = local_endpoint.listener.accept()
            except OSError:  # none left, or the caller has hung up, or there are no descriptors just now
                return
            role = Acceptor(local_endpoint.group, local_endpoint.rank, self._callers, local_endpoint.token)
            until = min(self._until, time.monotonic() + local_endpoint.handshake_timeout)
            self._begin(Handshake(sock, role, local_endpoint.tls, local_endpoint.silence, until))
        self._failed(next(a for a in self._handshakees.values() if isinstance(a.role, Acceptor)), "too many pending")

    def _begin(self, handshake: Handshake) -> None:
        self._handshakees[handshake.fd] = handshake
        self._local_endpoint.doorbell.selector.register(handshake.fd, handshake.events, handshake)
        self._advance(handshake)

    def _advance(self, handshake: Handshake) -> None:
        before = handshake.events
        try:
            done = handshake.advance()
        except (HandshakeError, ssl.SSLError) as error:
            self._failed(handshake, str(error))
        except OSError as error:
            self._failed(handshake, error.strerror or str(error))
        else:
            if done:
                self._arrived(handshake)
            elif handshake.events != before:
                self._local_endpoint.doorbell.selector.modify(handshake.fd, handshake.events, handshake)

    def _arrived(self, handshake: Handshake) -> None:
        peer = handshake.role.peer
        pair = None if peer is None else self._pairs.get(peer)
        if peer is None or pair is None:
            self._failed(handshake, "it has come already")
            return
        self._forget(handshake)
        if pair.shared is not None:  # it could not open this rank's memory, and called before this rank saw that
            pair.shared.close()
        self._done(peer, "socket", handshake.sock)

    def _failed(self, handshake: Handshake, why: str) -> None:
        self._drop(handshake)
        if isinstance(handshake.role, Acceptor):
            self.rejected += 1
        elif handshake.role.peer in self._pairs:
            address = self._endpoints[handshake.role.peer]["address"]
            self._pairs[handshake.role.peer].failures.append(f"no connection to {address}: {why}")
            self._next_way(handshake.role.peer)

    def _forget(self, handshake: Handshake) -> None:
        del self._handshakees[handshake.fd]
        with contextlib.suppress(KeyError, ValueError):
            self._local_endpoint.doorbell.selector.unregister(handshake.fd)

    def _drop(self, handshake: Handshake) -> None:
        self._forget(handshake)
        handshake.close()
