"""How the ranks of a group connect: for every pair the best kind of channel that works, all pairs at once.

    shared   both try to open the other's window and write into their own whether they could; it is chosen if both could
    socket   the rank with the lower number dials, the other accepts; both prove that they have the token
    comm     the lower rank sends a greeting through the fallback, the other returns it

Where one kind fails, the pair tries the next. All of it runs in one loop with deadlines, in the rank's own thread, so the order in which
ranks arrive does not matter. An unauthenticated connection costs one pending slot for at most `HANDSHAKE_TIMEOUT`.
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
"""Seconds for a connection to authenticate itself."""
OTHER_WAY = 5.0
"""Seconds for a dialled peer to accept where another kind of channel is left: the kernel tries three times in them."""
PENDING = 256
"""Unauthenticated connections at once, besides those of the peers."""


class Channel(Protocol):
    """One end of a channel of any kind."""

    peer: int
    lost: str | None
    """Why the peer can send no more."""
    arrived: Any
    """By phase, the sequence of the last message that is complete."""

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        ...

    def incoming(self, phase: int) -> list[Array]:
        """Arrays that hold the peer's spans once its sequence has arrived."""
        ...

    def post(self, phase: int, sequence: int) -> bool:
        """Tell the peer that this rank's spans are final; return whether bytes are left to send."""
        ...

    def check(self) -> None:
        """Set `lost` if the peer is gone without a message."""
        ...

    def close(self) -> None:
        """Release memory and file descriptors."""
        ...


@dataclass(frozen=True)
class LocalEndpoint:
    """What this rank needs to connect to its peers."""

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
    """The state of the rendezvous with one peer."""

    common: list[str]
    untried: list[str]
    kind: str = ""
    shared: SharedChannel | None = None
    failures: list[str] = field(default_factory=list)


class Rendezvous:
    """Makes all channels of a rank.

    Parameters
    ----------
    local_endpoint : LocalEndpoint
        Of this rank: its window, doorbell and listener.
    mine : Endpoint
        Of this rank, as its peers see it.
    endpoints : mapping of int to Endpoint
        Of its peers.
    make : callable
        ``make(peer, kind, opened)`` makes a channel of a mapped window or a connected socket, and stores it.
    greeted : set of int
        Peers whose greeting the fallback has delivered; another thread adds them and notifies.
    interrupted : callable
        Raises if the rendezvous is to end.
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
        self._local_endpoint, self._endpoints, self._make = local_endpoint, endpoints, make
        self._greeted, self._interrupted = greeted, interrupted
        self._pairs: dict[int, _Pair] = {}
        for peer, endpoint in endpoints.items():
            common = common_kinds(mine, endpoint)
            self._pairs[peer] = _Pair(common, list(common))
        self._initiators = {peer for peer, pair in self._pairs.items() if "socket" in pair.common and peer < local_endpoint.rank}
        self._handshakes: dict[int, Handshake] = {}
        self.rejected = 0
        self.failures: dict[int, list[str]] = {peer: pair.failures for peer, pair in self._pairs.items()}

    def run(self, seconds: float) -> None:
        """Connect to all peers within `seconds`; raises `PeerLost`, `PeerTimeout` or what `interrupted` raises."""
        selector, listener = self._local_endpoint.doorbell.selector, self._local_endpoint.listener
        self._until = time.monotonic() + seconds
        if listener is not None:
            selector.register(listener, 1, self)
        try:
            for peer in sorted(self._pairs):
                self._try_next(peer)
            while True:
                mark = self._local_endpoint.doorbell.mark()
                self._interrupted()
                self._read_answers()
                if not self._pairs:
                    return
                now = time.monotonic()
                if now > self._until:
                    raise PeerTimeout(None, sorted(self._pairs), seconds, self._remarks())
                for handshake in [each for each in self._handshakes.values() if now > each.until]:
                    self._failed(handshake, "it did not answer in time")
                for ready, _ in self._local_endpoint.doorbell.sleep(mark, SLICE / 2):
                    if ready is self:
                        self._accept()
                    elif not isinstance(ready, Handshake):
                        self._receive(ready)
                    elif ready.fd in self._handshakes:
                        self._advance(ready)
        finally:
            if listener is not None:
                selector.unregister(listener)
            for handshake in list(self._handshakes.values()):
                self._drop(handshake)
            for pair in self._pairs.values():
                if pair.shared is not None:
                    pair.shared.close()

    def _remarks(self) -> str:
        remarks = [f"; rank {peer}: {', '.join(pair.failures)}" for peer, pair in sorted(self._pairs.items()) if pair.failures]
        if self.rejected:
            remarks.append(f"; {self.rejected} connections at the port were refused: not of this group, or with another token")
        return "".join(remarks)

    def _try_next(self, peer: int) -> None:
        """Begin to try the best kind that is left."""
        pair, local_endpoint = self._pairs[peer], self._local_endpoint
        while pair.untried:
            pair.kind = pair.untried.pop(0)
            if pair.kind == "shared":
                channel = attach(
                    local_endpoint.group, local_endpoint.rank, local_endpoint.window, self._endpoints[peer], local_endpoint.notifier
                )
                if isinstance(channel, SharedChannel):
                    pair.shared = channel
                    return
                pair.failures.append(channel)
            elif local_endpoint.rank > peer:
                return  # the peer begins
            elif pair.kind == "socket":
                if self._dial(peer):
                    return
            else:
                self._make(peer, "comm", None).greet()
                return
        why = "; ".join(pair.failures) or "the two have no kind of channel in common"
        raise PeerLost(peer, why)

    def _done(self, peer: int, kind: str, opened: Any) -> None:
        self._make(peer, kind, opened)
        del self._pairs[peer]
        self._initiators.discard(peer)

    def _read_answers(self) -> None:
        """Read greetings and the peers' verdicts on shared memory."""
        for peer, pair in list(self._pairs.items()):
            if peer in self._greeted and "comm" in pair.common:
                if pair.shared is not None:
                    pair.shared.close()
                if self._local_endpoint.rank > peer:
                    self._make(peer, "comm", None).greet()
                del self._pairs[peer]
                self._initiators.discard(peer)
            elif pair.shared is not None:
                self._read_verdict(peer, pair, pair.shared)

    def _read_verdict(self, peer: int, pair: _Pair, shared: SharedChannel) -> None:
        verdict = shared.answer[0]
        if verdict == CAN:
            pair.shared = None
            self._done(peer, "shared", shared)
        elif verdict == CANNOT:
            pair.shared = None
            shared.close()
            pair.failures.append("it cannot open the memory of this rank")
            self._try_next(peer)
        else:
            shared.check()
            if shared.lost is not None:
                raise PeerLost(peer, shared.lost)

    # ---- connections

    def _receive(self, channel: Any) -> None:
        """Read the first messages of a peer that has finished its rendezvous before this rank has."""
        channel.pull()
        if channel.lost is not None:
            raise PeerLost(channel.peer, channel.lost, channel.cut)

    def _dial(self, peer: int) -> bool:
        """Dial a peer; return False if that fails at once."""
        local_endpoint, pair = self._local_endpoint, self._pairs[peer]
        address = self._endpoints[peer]["address"]
        assert address is not None  # `common_kinds` has "socket" only with an address
        until = time.monotonic() + min(local_endpoint.handshake_timeout, OTHER_WAY) if pair.untried else self._until
        try:
            sock = dial(address)
        except OSError as error:
            pair.failures.append(f"{address[0]}:{address[1]} cannot be dialled: {error.strerror or error}")
            return False
        role = Initiator(local_endpoint.group, local_endpoint.rank, peer, local_endpoint.token)
        self._begin(Handshake(sock, role, local_endpoint.tls, local_endpoint.silence, until))
        return True

    def _accept(self) -> None:
        local_endpoint = self._local_endpoint
        assert local_endpoint.listener is not None
        while len(self._handshakes) < local_endpoint.pending + len(self._endpoints):
            try:
                sock, _ = local_endpoint.listener.accept()
            except OSError:  # no more connections, or the initiator has closed, or this process is out of descriptors
                return
            role = Acceptor(local_endpoint.group, local_endpoint.rank, self._initiators, local_endpoint.token)
            until = min(self._until, time.monotonic() + local_endpoint.handshake_timeout)
            self._begin(Handshake(sock, role, local_endpoint.tls, local_endpoint.silence, until))
        self._failed(next(each for each in self._handshakes.values() if isinstance(each.role, Acceptor)), "too many pending")

    def _begin(self, handshake: Handshake) -> None:
        self._handshakes[handshake.fd] = handshake
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
            self._failed(handshake, "this peer is connected already")
            return
        self._forget(handshake)
        if pair.shared is not None:  # the peer could not open this rank's memory, and dialled before this rank read that verdict
            pair.shared.close()
        self._done(peer, "socket", handshake.sock)

    def _failed(self, handshake: Handshake, why: str) -> None:
        self._drop(handshake)
        if isinstance(handshake.role, Acceptor):
            self.rejected += 1
        elif handshake.role.peer in self._pairs:
            address = self._endpoints[handshake.role.peer]["address"]
            self._pairs[handshake.role.peer].failures.append(f"no connection to {address}: {why}")
            self._try_next(handshake.role.peer)

    def _forget(self, handshake: Handshake) -> None:
        del self._handshakes[handshake.fd]
        with contextlib.suppress(KeyError, ValueError):
            self._local_endpoint.doorbell.selector.unregister(handshake.fd)

    def _drop(self, handshake: Handshake) -> None:
        self._forget(handshake)
        handshake.close()
