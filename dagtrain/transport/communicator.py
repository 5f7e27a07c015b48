"""All links of one rank: the exchange that ranks run their lock step on.

    post(phase, peers, …)    my pieces are final                     wait(phase, peers, …)    theirs are, and mine may change again

A rank's loop is nothing but computing, posting and waiting. Between two posts of a phase lies a wait for those who read it, so nothing
is ever overwritten too early and nothing needs to be kept twice; only a post of *another* phase may be early.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any, Self

from dagtrain.transport.approach import Tls, listen
from dagtrain.transport.comms import CommLink, Courier
from dagtrain.transport.doorbell import SLICE, Bell, Ringer, fence
from dagtrain.transport.endpoint import KINDS, VERSION, Offer, checked
from dagtrain.transport.errors import Aborted, ChannelError, LinkLost, OutOfStep, Overdue
from dagtrain.transport.frames import HELLO, Inbox, Malformed, Outbox, read_header
from dagtrain.transport.host import can_share_memory, cores, host
from dagtrain.transport.rendezvous import CALLERS, PATIENCE, Link, Meeting, Station
from dagtrain.transport.routes import Phase, Table
from dagtrain.transport.sequence import ROUND_BITS, pack, unpack
from dagtrain.transport.shared import SharedLink, all_share
from dagtrain.transport.shared_memory import CLOSED, RANKS, Array, Board, Memory
from dagtrain.transport.sockets import SILENCE, SocketLink

__all__ = ["Links"]

_SPIN = 1e-3
"""Seconds: a rank that sleeps comes late to what others have for it, and costs them a call of the kernel (measured, with steps of 2 ms)."""
_yield = getattr(os, "sched_yield", lambda: time.sleep(0))


class Links:
    """The links of one rank to its peers, for the life of one group.

    All methods are for the rank's own thread, but for `abort`, `deliver` and `lose`.

    Parameters
    ----------
    group : str
        32 hexadecimal digits, new for each placement.
    rank : int
        Number of this rank.
    board : Board
        Of this rank; a new one for each group.
    tables : mapping of int to Table
        For each peer, what goes there and what comes from there.
    token : bytes
        Secret of the group; never sent.
    address : str
        Host name or IP at which others reach this process. The rank listens there, on a port that the kernel chooses.
    tls : (SSLContext, SSLContext), optional
        For the side that is called and the side that calls. Without it connections are plain.
    comms : Courier, optional
        The way that is left where sockets fail too.
    only : str, optional
        Restrict the rank to one kind of channel: ``"shared"``, ``"socket"`` or ``"comm"``.
    silence : float, optional
        Seconds after which a connection whose other end does not acknowledge is given up.
    patience : float, optional
        Seconds for a stranger to prove that he is none, and for a call to be taken where there is another way.
    callers : int, optional
        Connections at the port that may be on their way at once, besides those of the peers.

    Attributes
    ----------
    deadline : float
        Seconds that `wait` waits at most; 600 at first.
    slice : float
        Seconds that a rank sleeps at most before it looks whether those it waits for are still there.
    spin : float
        Seconds to look again and again before sleeping. `connect` sets it to 0 where ranks on this host outnumber the cores.
    offer : Offer
        What peers must be given.
    strangers : int
        Connections that were refused.
    refusals : mapping of int to sequence of str
        After `connect`, for each peer why better kinds of channel than that which was chosen did not come to be, as far as this rank knows.
    common : Memory or None
        After `connect`, the board of the lowest rank where every rank has every other one's in its memory: what all need alike may
        lie there once, and everybody may write his part. None in all ranks otherwise.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from dagtrain.transport import Piece
    >>> boards = [Board.create({"slice": ("float32", 4)}) for _ in range(2)]
    >>> whole = {Phase.PARAMETERS: (Piece("slice", 0, 4),)}
    >>> ranks = [Links("ab" * 16, i, boards[i], {1 - i: Table(whole, whole)}, b"secret", "127.0.0.1") for i in range(2)]
    >>> def run(i):
    ...     ranks[i].connect({j: ranks[j].offer for j in range(2)}, 10)
    ...     boards[i]["slice"][:] = i + 1
    ...     ranks[i].post(Phase.PARAMETERS, [1 - i], segment=0, step=0)
    ...     ranks[i].wait(Phase.PARAMETERS, [1 - i], segment=0, step=0)
    ...     return float(ranks[i].incoming(1 - i, Phase.PARAMETERS)[0].sum())
    >>> with ThreadPoolExecutor(2) as threads:
    ...     list(threads.map(run, range(2)))
    [8.0, 4.0]
    >>> for each in (*ranks, *boards):
    ...     each.close()
    """

    def __init__(
        self,
        group: str,
        rank: int,
        board: Board,
        tables: Mapping[int, Table],
        token: bytes,
        address: str,
        tls: Tls | None = None,
        comms: Courier | None = None,
        only: str | None = None,
        silence: float = SILENCE,
        patience: float = PATIENCE,
        callers: int = CALLERS,
    ) -> None:
        digits = len(group) == 32 and set(group) <= set("0123456789abcdef")
        if not digits or rank in tables or not all(0 <= number < RANKS for number in (rank, *tables)):
            raise ChannelError(
                f"group {group!r}, rank {rank}, peers {sorted(tables)}: want 32 hexadecimal digits, distinct ranks below {RANKS}"
            )
        if not token or (only is not None and only not in KINDS):
            raise ChannelError(f"a group needs a token, and only={only!r} must be one of {', '.join(KINDS)}")
        if board.words[0]:
            raise ChannelError("this board has served a group already: create a new one, or a late peer might read it as the old one's")
        self.group, self.rank, self.deadline, self.slice, self.spin, self.strangers = group, rank, 600.0, SLICE, _SPIN, 0
        self._group, self._board, self._tables, self._comms, self._silence = bytes.fromhex(group), board, dict(tables), comms, silence
        self.common: Memory | None = None
        self.refusals: Mapping[int, list[str]] = {}
        self._links: dict[int, Link] = {}
        self._sockets: dict[SocketLink, int] = {}
        self._sending: list[SocketLink] = []
        self._greeted: set[int] = set()
        self._aborted: str | None = None
        self._closed = False
        self._refused = 0
        can = {"shared": can_share_memory(), "socket": True, "comm": comms is not None}
        kinds = [kind for kind in KINDS if only in {None, kind} and can[kind]]
        listener = self._listen(address, kinds, only) if "socket" in kinds else None
        try:
            ringer = Ringer(rank)
            board.label(self._group, rank)
            bell = Bell(board, ringer)
        except BaseException:
            if listener is not None:
                listener.close()
            raise
        self._bell = bell
        self._station = Station(self._group, rank, board, ringer, bell, token, tls, listener, silence, patience, callers)
        self.offer = Offer(
            version=VERSION,
            group=group,
            rank=rank,
            host=host(),
            pid=os.getpid(),
            board=board.fd,
            bell=bell.pipe,
            size=board.size,
            regions=board.regions,
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
            raise ChannelError(f"listening at {address!r} would be listening everywhere; name the one address that peers use")
        return listener

    # ---- meeting

    def connect(self, offers: Mapping[int, Offer], deadline: float) -> None:
        """Meet all peers within `deadline` seconds from now; the order in which ranks come does not matter.

        Raises
        ------
        ChannelError
            If an offer is missing, or does not fit the tables; if a rank that all have in their memory does not meet the others in time.
        LinkLost, Overdue, Aborted
            If a peer cannot be reached, does not come, or `abort` was called.
        """
        missing = sorted(set(self._tables) - set(offers))
        if missing:
            raise ChannelError(f"no offers of ranks {missing}: give those of all {len(self._tables)} peers")
        self._offers = {peer: checked(offers[peer], self.group, peer) for peer in self._tables}
        until = time.monotonic() + deadline
        meeting = Meeting(self._station, self.offer, self._offers, self._make, self._greeted, self._interrupted)
        try:
            meeting.run(deadline)
        finally:
            self.strangers += meeting.strangers
            self.refusals = meeting.failures
            if self._station.listener is not None:
                self._station.listener.close()
        self._bell.by_pipe = bool(self._sockets)
        if 1 + sum(offer["host"] == self.offer["host"] for offer in self._offers.values()) > cores():
            self.spin = 0.0
        sharing = [link for link in self._links.values() if isinstance(link, SharedLink)]
        if all_share(self._board, sharing, len(sharing) == len(self._links), self._bell, self._interrupted, deadline, until):
            boards = {self.rank: self._board} | {link.peer: link.memory for link in sharing}
            self.common = boards[min(boards)]

    def _make(self, peer: int, kind: str, channel: Any) -> Link:
        table, offer = self._tables[peer], self._offers[peer]
        link: Link
        if kind == "shared":
            link = channel
            self._links[peer] = link
            channel.bind(table)
            return link
        outbox = Outbox(self._group, self._board, table.out)
        inbox = Inbox(self._group, table.into, offer["regions"], f"the board of rank {peer}")
        if kind == "socket":
            link = connected = SocketLink(peer, channel, inbox, outbox, self._silence)
            self._sockets[connected] = connected.events
            self._bell.selector.register(channel, connected.events, connected)
        else:
            assert self._comms is not None
            link = CommLink(peer, self._group, self._comms, inbox, outbox, self._bell.ring)
        self._links[peer] = link
        return link

    @property
    def kinds(self) -> dict[int, str]:
        """For each peer the kind of channel that was chosen."""
        return {peer: link.kind for peer, link in sorted(self._links.items())}

    @property
    def refused(self) -> int:
        """Number of messages that were dropped, being of other groups or not later than what had arrived."""
        return self._refused + sum(getattr(link, "refused", 0) for link in self._links.values())

    def incoming(self, peer: int, phase: Phase) -> list[Array]:
        """The peer's pieces of a phase, the same arrays for the group's life; read-only. They are valid after `wait`."""
        return self._links[peer].incoming(phase)

    # ---- stepping

    def post(self, phase: Phase, peers: Iterable[int], segment: int, step: int, round: int = 0) -> None:
        """Tell peers that this rank's pieces of a phase are final; returns without waiting for anything."""
        stamp = pack(segment, step, round)
        if self._aborted is not None:
            raise Aborted(self._aborted)
        if fence is not None:
            fence()
        links = self._links
        for peer in peers:
            link = links[peer]
            if link.post(phase, stamp) and link not in self._sending:
                assert isinstance(link, SocketLink)
                self._sending.append(link)

    def release(self, phase: Phase, counts: Mapping[int, int], segment: int, step: int) -> None:
        """Let the first so many pieces of a phase, by peer, go before the others are final; `post` follows with what is left.

        It also takes in what has come. Nothing is waited for, and what goes wrong is told by `wait`. Where memory is shared, and where a
        courier carries messages whole, there is nothing to do.
        """
        stamp = pack(segment, step, 0)
        for peer, count in counts.items():
            link = self._links[peer]
            if isinstance(link, SocketLink) and link.release(phase, stamp, count) and link not in self._sending:
                self._sending.append(link)
        self._turn()

    def wait(self, phase: Phase, peers: Iterable[int], segment: int, step: int, round: int = 0) -> None:
        """Wait until these peers have posted the phase, and all that this rank has posted is in the hands of the kernel.

        A later round of the same step stands for the earlier ones: whoever is there has been here.

        Raises
        ------
        LinkLost
            If one of the peers is gone.
        Overdue
            If one is silent for `deadline` seconds.
        OutOfStep
            If one has posted what it can only post later.
        Aborted
            If `abort` was called, or the links are closed.
        """
        wanted = pack(segment, step, round)
        if self._aborted is not None:
            raise Aborted(self._aborted)
        links = self._links
        waiting = [link for peer in peers if (link := links[peer]).arrived[phase] != wanted]
        if waiting or self._sending:
            self._block(phase, wanted, waiting, self._sending)
        if fence is not None:
            fence()

    def wait_for_pieces(self, phase: Phase, counts: Mapping[int, int], segment: int, step: int) -> None:
        """Wait until the first so many pieces of each of these peers are there, which may be before the peer's message is whole.

        Where memory is shared, and where messages come whole, that is when the peer has posted the phase. It raises what `wait` does.
        """
        wanted = pack(segment, step, 0)
        if self._aborted is not None:
            raise Aborted(self._aborted)
        self._turn()
        wants = (self._links[peer] for peer, count in counts.items() if count)
        waiting = [link for link in wants if not self._has(link, phase, wanted, counts)]
        if waiting:
            self._block(phase, wanted, waiting, [], counts)
        if fence is not None:
            fence()

    def _has(self, link: Link, phase: Phase, wanted: int, counts: Mapping[int, int] | None) -> bool:
        if _is_there(link, phase, wanted):
            return True
        return counts is not None and isinstance(link, SocketLink) and link.has(phase, wanted, counts[link.peer])

    def _block(
        self, phase: Phase, wanted: int, waiting: list[Link], sending: list[SocketLink], counts: Mapping[int, int] | None = None
    ) -> None:
        began = looked = time.monotonic()
        spin_until = began + self.spin
        self._turn()
        while True:
            mark = self._bell.mark()
            self._interrupted()
            waiting = [link for link in waiting if not self._has(link, phase, wanted, counts)]
            if sending:
                sending[:] = [link for link in sending if link.sending or link.lost is not None]
            if not waiting and not sending:
                return
            for link in (*waiting, *sending):
                if link.lost is not None:
                    raise LinkLost(link.peer, link.lost, getattr(link, "cut", False))
            now = time.monotonic()
            if now < spin_until:
                _yield()
                self._turn()
                continue
            if now - began >= self.deadline:
                raise Overdue(phase, sorted({link.peer for link in (*waiting, *sending)}), self.deadline)
            self._sleep(mark, min(self.slice, self.deadline - (now - began)))
            if now - looked >= self.slice:
                looked = now
                for link in (*waiting, *sending):
                    link.check()

    def _turn(self) -> None:
        """Read and write all connections as far as they go."""
        for link in self._sockets:
            link.pull()
            if link.sending:
                link.push()

    def _sleep(self, mark: int, seconds: float) -> None:
        for link, watched in self._sockets.items():
            events = link.events if link.lost is None else 0
            if events != watched:
                self._watch(link, events)
        for link, _ in self._bell.sleep(mark, seconds):
            link.pull()
            if link.sending:
                link.push()

    def _watch(self, link: SocketLink, events: int) -> None:
        self._sockets[link] = events
        if events:
            self._bell.selector.modify(link.sock, events, link)
        else:  # its end has been read; poll would report it for ever
            self._bell.selector.unregister(link.sock)

    def _interrupted(self) -> None:
        if self._aborted is not None:
            raise Aborted(self._aborted)

    # ---- from other threads

    def abort(self, why: str) -> None:
        """End the exchange: `connect` and `wait` raise `Aborted` within milliseconds, `post` the next time. The first reason stays."""
        self._aborted = self._aborted or why
        self._bell.ring()

    def deliver(self, peer: int, header: bytes | bytearray | memoryview, buffers: Iterable[Any]) -> None:
        """Take a message that a courier has brought."""
        link = self._links.get(peer)
        try:
            frame = read_header(header)
        except Malformed as error:
            self.lose(peer, str(error))
            return
        if frame.group != self._group or peer not in self._tables:
            self._refused += 1
        elif frame.phase != HELLO and isinstance(link, CommLink):
            link.deliver(header, buffers)
        elif frame.phase == HELLO and (link is None or isinstance(link, CommLink)):
            self._greeted.add(peer)
            self._bell.ring()
        else:
            self.lose(peer, "it turned to Dask's connections, this rank to another kind")

    def lose(self, peer: int, why: str) -> None:
        """Declare a peer unreachable, as a courier that failed does."""
        link = self._links.get(peer)
        if link is not None:
            link.lost = link.lost or why
            self._bell.ring()

    # ---- the end

    def close(self) -> None:
        """Give everything back; safe to call again.

        Arrays of `incoming` stay readable. Peers that still wait for this rank learn that it is gone.
        """
        if self._closed:
            return
        self._closed = True
        self._aborted = self._aborted or "the links of this rank were closed"
        with contextlib.suppress(ValueError):  # the board was closed first
            self._board.words[CLOSED] = 1
        self._bell.close()
        for link in self._links.values():
            if link.kind == "shared":
                link.ring()  # type: ignore[attr-defined]  # only those have it
            link.close()
        if self._station.listener is not None:
            self._station.listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_there(link: Link, phase: Phase, wanted: int) -> bool:
    seen = link.arrived[phase]
    if seen == wanted:
        return True
    if seen < wanted:
        return False
    if seen >> ROUND_BITS == wanted >> ROUND_BITS:
        return True
    raise OutOfStep(link.peer, phase, unpack(seen), unpack(wanted))
