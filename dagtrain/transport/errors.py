"""What can go wrong between ranks. The driver turns these into the errors that users see; users never meet them.

    ChannelError            also: a table, an offer or a stamp that cannot be used
    ├── LinkLost            a peer is gone, or what came from it is no frame
    ├── Aborted             somebody else ended the group
    ├── Overdue             a peer is there and silent
    └── OutOfStep           a peer is where it cannot be

Each keeps its plain arguments, so that it survives pickling between processes.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagtrain.transport.routes import Phase

__all__ = ["Aborted", "ChannelError", "LinkLost", "OutOfStep", "Overdue"]


class ChannelError(Exception):
    """Root of what the exchange between ranks raises."""


class LinkLost(ChannelError):  # noqa: N818  # a name that says what is the matter
    """The link to a peer is broken, or never came to be; `cut` where it is the network between them that fails, and not the peer.

    Examples
    --------
    >>> str(LinkLost(3, "its process has ended"))
    'the link to rank 3 is lost: its process has ended'
    """

    def __init__(self, peer: int, why: str, cut: bool = False) -> None:
        super().__init__(peer, why, cut)
        self.peer, self.why, self.cut = peer, why, cut

    def __str__(self) -> str:
        return f"the link to rank {self.peer} is lost: {self.why}"


class Aborted(ChannelError):  # noqa: N818  # a name that says what is the matter
    """The group was ended from outside while this rank was at work."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the group was ended: {self.why}"


class Overdue(ChannelError):  # noqa: N818  # a name that says what is the matter
    """Peers kept silent until the deadline; `phase` is None while the ranks were meeting.

    Examples
    --------
    >>> str(Overdue(Phase.PARTIAL, (1, 4), 600.0))
    'ranks 1, 4 sent no PARTIAL within 600 s: they hang, or compute for longer than the deadline allows'
    """

    def __init__(self, phase: Phase | None, peers_missing: Sequence[int], seconds: float, note: str = "") -> None:
        super().__init__(phase, tuple(peers_missing), seconds, note)
        self.phase, self.peers_missing, self.seconds, self.note = phase, tuple(peers_missing), seconds, note

    def __str__(self) -> str:
        who = f"rank{'s' if len(self.peers_missing) > 1 else ''} {', '.join(map(str, self.peers_missing))}"
        if self.phase is None:
            return f"no channel to {who} after {self.seconds:g} s of trying{self.note}"
        return f"{who} sent no {self.phase.name} within {self.seconds:g} s: they hang, or compute for longer than the deadline allows"


class OutOfStep(ChannelError):  # noqa: N818  # a name that says what is the matter
    """A peer of this group is at a step that it can reach only if the protocol is broken; stamps are (segment, step, round)."""

    def __init__(self, peer: int, phase: Phase, seen: tuple[int, int, int], wanted: tuple[int, int, int]) -> None:
        super().__init__(peer, phase, seen, wanted)
        self.peer, self.phase, self.seen, self.wanted = peer, phase, seen, wanted

    def __str__(self) -> str:
        return (
            f"rank {self.peer} is at {self.phase.name} of (segment, step, round) {self.seen} while this rank waits for {self.wanted}: "
            "the ranks do not run the same plan"
        )
