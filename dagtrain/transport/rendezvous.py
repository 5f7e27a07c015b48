"""How the ranks of a group find each other: for every pair the best kind of channel that works, all pairs at once.

    shared   both try to open the other's board and write into their own whether they could; if both could, that is it
    socket   the rank with the lower number dials, the other takes the call; both prove that they know the token
    comm     the lower one sends a greeting by the courier, the other one returns it

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

from dagtrain.transport.approach import Approach, Tls, dial
from dagtrain.transport.doorbell import SLICE, Bell, Ringer
from dagtrain.transport.endpoint import Offer, common_kinds
from dagtrain.transport.errors import LinkLost, Overdue
from dagtrain.transport.proof import AsCaller, AsHost, Refused
from dagtrain.transport.shared import CAN, CANNOT, SharedLink, attach
from dagtrain.transport.shared_memory import Array, Board

__all__ = ["CALLERS", "PATIENCE", "Link", "Meeting", "Station"]

PATIENCE = 10.0
"""Seconds for a stranger to prove that he is none."""
OTHER_WAY = 5.0
"""Seconds for a call to be taken where there is another way: in these the kernel tries three times."""
CALLERS = 256
"""Connections that may be on their way at once, besides those of the peers."""


class Link(Protocol):
    """One's end of a link, whatever its kind."""

    peer: int
    lost: str | None
    """Why nothing more can come from the peer."""
    arrived: Any
    """By phase, the stamp of the last message that is complete."""

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        ...

    def incoming(self, phase: int) -> list[Array]:
        """Where the peer's pieces are found once its stamp has arrived."""
        ...

    def post(self, phase: int, stamp: int) -> bool:
        """Tell the peer that this rank's pieces are final; return whether something is left to be sent."""
        ...

    def check(self) -> None:
        """Set `lost` if the peer is gone without a word."""
        ...

    def close(self) -> None:
        """Give back what the link holds."""
        ...


@dataclass(frozen=True)
class Station:
    """What a rank has to meet others with."""

    group: bytes
    rank: int
    board: Board
    ringer: Ringer
    bell: Bell
    token: bytes
    tls: Tls | None
    listener: socket.socket | None
    silence: float
    patience: float
    callers: int


@dataclass
class _Pair:
    """How far this rank and a peer have come."""

    common: list[str]
    left: list[str]
    way: str = ""
    shared: SharedLink | None = None
    failures: list[str] = field(default_factory=list)


class Meeting:
    """Makes all links of a rank.

    Parameters
    ----------
    station : Station
        This rank.
    mine : Offer
        Of this rank.
    offers : mapping of int to Offer
        Of its peers.
    make : callable
        ``make(peer, kind, channel)`` makes a link of what was opened, and keeps it.
    greeted : set of int
        Peers whose greeting came by the courier; filled by another thread, which rings.
    interrupted : callable
        Raises when there is no use in going on.
    """

    def __init__(
        self,
        station: Station,
        mine: Offer,
        offers: Mapping[int, Offer],
        make: Callable[[int, str, Any], Any],
        greeted: MutableSet[int],
        interrupted: Callable[[], None],
    ) -> None:
        self._station, self._offers, self._make, self._greeted, self._interrupted = station, offers, make, greeted, interrupted
        self._pairs: dict[int, _Pair] = {}
        for peer, offer in offers.items():
            common = common_kinds(mine, offer)
            self._pairs[peer] = _Pair(common, list(common))
        self._callers = {peer for peer, pair in self._pairs.items() if "socket" in pair.common and peer < station.rank}
        self._approaches: dict[int, Approach] = {}
        self.strangers = 0
        self.failures: dict[int, list[str]] = {peer: pair.failures for peer, pair in self._pairs.items()}

    def run(self, seconds: float) -> None:
        """Meet all peers within some seconds; raises `LinkLost`, `Overdue` or what `interrupted` does."""
        selector, listener = self._station.bell.selector, self._station.listener
        self._until = time.monotonic() + seconds
        if listener is not None:
            selector.register(listener, 1, self)
        try:
            for peer in sorted(self._pairs):
                self._next_way(peer)
            while True:
                mark = self._station.bell.mark()
                self._interrupted()
                self._look()
                if not self._pairs:
                    return
                now = time.monotonic()
                if now > self._until:
                    raise Overdue(None, sorted(self._pairs), seconds, self._remarks())
                for approach in [a for a in self._approaches.values() if now > a.until]:
                    self._failed(approach, "it did not answer in time")
                for what, _ in self._station.bell.sleep(mark, SLICE / 2):
                    if what is self:
                        self._take_calls()
                    elif not isinstance(what, Approach):
                        self._take_in(what)
                    elif what.fd in self._approaches:
                        self._advance(what)
        finally:
            if listener is not None:
                selector.unregister(listener)
            for approach in list(self._approaches.values()):
                self._drop(approach)
            for pair in self._pairs.values():
                if pair.shared is not None:
                    pair.shared.close()

    def _remarks(self) -> str:
        found = [f"; rank {peer}: {', '.join(pair.failures)}" for peer, pair in sorted(self._pairs.items()) if pair.failures]
        if self.strangers:
            found.append(f"; {self.strangers} callers at the port were refused, as strangers or for another token")
        return "".join(found)

    def _next_way(self, peer: int) -> None:
        """Begin to try the best kind that is left."""
        pair, station = self._pairs[peer], self._station
        while pair.left:
            pair.way = pair.left.pop(0)
            if pair.way == "shared":
                made = attach(station.group, station.rank, station.board, self._offers[peer], station.ringer)
                if isinstance(made, SharedLink):
                    pair.shared = made
                    return
                pair.failures.append(made)
            elif station.rank > peer:
                return  # the peer begins
            elif pair.way == "socket":
                if self._call(peer):
                    return
            else:
                self._make(peer, "comm", None).greet()
                return
        why = "; ".join(pair.failures) or "the two have no kind of channel in common"
        raise LinkLost(peer, why)

    def _done(self, peer: int, kind: str, channel: Any) -> None:
        self._make(peer, kind, channel)
        del self._pairs[peer]
        self._callers.discard(peer)

    def _look(self) -> None:
        """See what came to pass without a connection: verdicts, greetings, and too long a wait."""
        for peer, pair in list(self._pairs.items()):
            if peer in self._greeted and "comm" in pair.common:
                if pair.shared is not None:
                    pair.shared.close()
                if self._station.rank > peer:
                    self._make(peer, "comm", None).greet()
                del self._pairs[peer]
                self._callers.discard(peer)
            elif pair.shared is not None:
                self._look_at(peer, pair, pair.shared)

    def _look_at(self, peer: int, pair: _Pair, shared: SharedLink) -> None:
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
                raise LinkLost(peer, shared.lost)

    # ---- connections

    def _take_in(self, link: Any) -> None:
        """What a peer sends that has met everybody, while this rank has not."""
        link.pull()
        if link.lost is not None:
            raise LinkLost(link.peer, link.lost, link.cut)

    def _call(self, peer: int) -> bool:
        """Dial a peer; return False where that is hopeless."""
        station, pair = self._station, self._pairs[peer]
        address = self._offers[peer]["address"]
        assert address is not None  # or the two would not have sockets in common
        until = time.monotonic() + min(station.patience, OTHER_WAY) if pair.left else self._until
        try:
            sock = dial(address)
        except OSError as error:
            pair.failures.append(f"{address[0]}:{address[1]} cannot be dialled: {error.strerror or error}")
            return False
        role = AsCaller(station.group, station.rank, peer, station.token)
        self._begin(Approach(sock, role, station.tls, station.silence, until))
        return True

    def _take_calls(self) -> None:
        station = self._station
        assert station.listener is not None
        while len(self._approaches) < station.callers + len(self._offers):
            try:
                sock, _ = station.listener.accept()
            except OSError:  # none left, or the caller has hung up, or there are no descriptors just now
                return
            role = AsHost(station.group, station.rank, self._callers, station.token)
            until = min(self._until, time.monotonic() + station.patience)
            self._begin(Approach(sock, role, station.tls, station.silence, until))
        self._failed(next(a for a in self._approaches.values() if isinstance(a.role, AsHost)), "too many callers")

    def _begin(self, approach: Approach) -> None:
        self._approaches[approach.fd] = approach
        self._station.bell.selector.register(approach.fd, approach.events, approach)
        self._advance(approach)

    def _advance(self, approach: Approach) -> None:
        before = approach.events
        try:
            done = approach.advance()
        except (Refused, ssl.SSLError) as error:
            self._failed(approach, str(error))
        except OSError as error:
            self._failed(approach, error.strerror or str(error))
        else:
            if done:
                self._arrived(approach)
            elif approach.events != before:
                self._station.bell.selector.modify(approach.fd, approach.events, approach)

    def _arrived(self, approach: Approach) -> None:
        peer = approach.role.peer
        pair = None if peer is None else self._pairs.get(peer)
        if peer is None or pair is None:
            self._failed(approach, "it has come already")
            return
        self._forget(approach)
        if pair.shared is not None:  # it could not open this rank's memory, and called before this rank saw that
            pair.shared.close()
        self._done(peer, "socket", approach.sock)

    def _failed(self, approach: Approach, why: str) -> None:
        self._drop(approach)
        if isinstance(approach.role, AsHost):
            self.strangers += 1
        elif approach.role.peer in self._pairs:
            address = self._offers[approach.role.peer]["address"]
            self._pairs[approach.role.peer].failures.append(f"no connection to {address}: {why}")
            self._next_way(approach.role.peer)

    def _forget(self, approach: Approach) -> None:
        del self._approaches[approach.fd]
        with contextlib.suppress(KeyError, ValueError):
            self._station.bell.selector.unregister(approach.fd)

    def _drop(self, approach: Approach) -> None:
        self._forget(approach)
        approach.close()
