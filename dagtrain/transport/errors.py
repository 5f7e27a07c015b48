"""What can go wrong between ranks. The engine turns these into the errors that users see.

    ChannelError            also: routes, an endpoint or a sequence that cannot be used
    ├── PeerLost            a peer is gone, or sent bytes that are no frame
    ├── Aborted             another process ended the group
    ├── PeerTimeout         a peer is connected but posts nothing
    └── ProtocolError       a peer is at a step that the protocol does not allow

Each keeps its plain arguments, so that it survives pickling between processes.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagtrain.transport.routes import Phase

__all__ = ["Aborted", "ChannelError", "PeerLost", "PeerTimeout", "ProtocolError"]


class ChannelError(Exception):
    """Base class of all errors between ranks."""


class PeerLost(ChannelError):  # noqa: N818  # a name that says what is the matter
    """The channel to a peer is broken, or was never made; `cut` if the network between them failed and not the peer.

    Examples
    --------
    >>> str(PeerLost(3, "its process has ended"))
    'the channel to rank 3 is lost: its process has ended'
    """

    def __init__(self, peer: int, why: str, cut: bool = False) -> None:
        super().__init__(peer, why, cut)
        self.peer, self.why, self.cut = peer, why, cut

    def __str__(self) -> str:
        return f"the channel to rank {self.peer} is lost: {self.why}"


class Aborted(ChannelError):  # noqa: N818  # a name that says what is the matter
    """The group was ended from outside while this rank was running."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the group was ended: {self.why}"


class PeerTimeout(ChannelError):  # noqa: N818  # a name that says what is the matter
    """Peers posted nothing until the deadline; `phase` is None during the rendezvous.

    Examples
    --------
    >>> str(PeerTimeout(Phase.REDUCE_SCATTER, (1, 4), 600.0))
    'ranks 1, 4 sent no REDUCE_SCATTER within 600 s: they hang, or compute for longer than the deadline allows'
    """

    def __init__(self, phase: Phase | None, peers_missing: Sequence[int], seconds: float, note: str = "") -> None:
        super().__init__(phase, tuple(peers_missing), seconds, note)
        self.phase, self.peers_missing, self.seconds, self.note = phase, tuple(peers_missing), seconds, note

    def __str__(self) -> str:
        who = f"rank{'s' if len(self.peers_missing) > 1 else ''} {', '.join(map(str, self.peers_missing))}"
        if self.phase is None:
            return f"no channel to {who} after {self.seconds:g} s of trying{self.note}"
        return f"{who} sent no {self.phase.name} within {self.seconds:g} s: they hang, or compute for longer than the deadline allows"


class ProtocolError(ChannelError):
    """A peer of this group is at a step that it can reach only if the protocol is broken; sequences are (segment, step, round)."""

    def __init__(self, peer: int, phase: Phase, seen: tuple[int, int, int], wanted: tuple[int, int, int]) -> None:
        super().__init__(peer, phase, seen, wanted)
        self.peer, self.phase, self.seen, self.wanted = peer, phase, seen, wanted

    def __str__(self) -> str:
        return (
            f"rank {self.peer} is at {self.phase.name} of (segment, step, round) {self.seen} while this rank waits for {self.wanted}: "
            "the ranks do not run the same plan"
        )
