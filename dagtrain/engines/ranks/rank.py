"""A rank: the task that a worker runs for each segment, and the object that lasts between them.

    run_rank, a Dask task ──▶ RanksWorkerPlugin.rank ──▶ Rank.segment ──▶ the state, as the task's result
                                                  SegmentRun goes through the steps

The task leaves the worker's thread pool at once, so that a waiting rank takes no thread from others: two runs on the same workers cannot
block each other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from distributed import get_worker, secede

from dagtrain.backends.blas import guard
from dagtrain.engines.ranks.arithmetic import COMMON, RankRunner
from dagtrain.engines.ranks.messages import AtStep, Begun, Erred, Failed, GroupSpec, Met, SegmentDone, SegmentSpec, StateLost, Stopped
from dagtrain.engines.ranks.schedule import Schedule
from dagtrain.engines.ranks.segment import SegmentRun, Streams, streams_of
from dagtrain.engines.ranks.worker_plugin import RanksWorkerPlugin, plugin_of
from dagtrain.errors import DagtrainError
from dagtrain.step.parts import StepParts
from dagtrain.step.software import software
from dagtrain.step.state import State
from dagtrain.transport import Aborted, ChannelError, Communicator, PeerLost, PeerTimeout, ProtocolError, Window

__all__ = ["run_rank"]

_REASON = 2.0
"""Seconds to wait for the reason why a peer is gone, before its loss is reported as the reason."""
_PROGRESS = 1.0
"""Seconds between two reports of progress."""


def run_rank(group: GroupSpec, number: int, order: SegmentSpec, parts: StepParts, before: State | Stopped | None, *data: Any) -> Any:
    """One rank's part of a segment.

    Parameters
    ----------
    group, number
        The group, and the rank's number in it.
    order
        The segment.
    parts
        Compiled step.
    before
        The state, for the first segment of a group.
    data
        Partitions or picked rows, see `RankInput`.

    Returns
    -------
    State or Stopped
        The whole state after the segment, in every rank.
    """
    worker = get_worker()
    plugin = plugin_of(worker)
    secede()
    about = group.generation, number, order.segment
    plugin.report(group.session, Begun(*about))
    if isinstance(before, Stopped):  # Dask lost the state, and repeated its task after the end of that task's group
        plugin.report(group.session, StateLost(*about))
        plugin.end(group.name, "the state to begin with was lost")
    rank = plugin.rank(group.name, number, lambda: Rank(plugin, group, number))
    if rank is None:  # otherwise a client that does not know of the end would wait
        why = plugin.why_ended(group.name) or "the group was ended"
        plugin.report(group.session, Failed(*about, why))
        return Stopped(why)
    try:
        assert not isinstance(before, Stopped), "its group was ended above"
        return rank.segment(order, parts, before, data)
    except DagtrainError as error:
        plugin.report(group.session, Erred(*about, f"{type(error).__name__}: {error}"))
        plugin.end(group.name, "a rank met an error")
        raise
    except Exception as error:
        # A peer that is gone has a reason, which it has reported itself, or the scheduler knows.
        ended = plugin.why_ended(group.name, _REASON if isinstance(error, PeerLost) else 0.0)
        if ended is None:
            why = _named(error, group.placement.workers) if isinstance(error, ChannelError) else f"{type(error).__name__}: {error}"
            plugin.report(group.session, _blame(error, Failed(*about, why)))
            plugin.end(group.name, why)
        return Stopped(ended or f"{type(error).__name__}: {error}")


def _blame(error: Exception, failed: Failed) -> Failed:
    """The report of a failure with the ranks that the error speaks against."""
    match error:
        case Aborted():
            return failed
        case PeerLost() if error.cut:
            return failed._replace(cut=(error.peer,))
        case PeerLost():
            return failed._replace(fault=(failed.rank, error.peer))
        case PeerTimeout() if error.phase is None:  # their endpoints came, and no connection
            return failed._replace(cut=error.peers_missing)
        case PeerTimeout():
            return failed._replace(silent=error.peers_missing)
        case _Absent():
            return failed._replace(silent=(error.peer,))
        case ChannelError():
            return failed._replace(final=True)
        case _:
            return failed._replace(fault=(failed.rank,))


def _named(error: ChannelError, workers: Sequence[str]) -> str:
    """The error's text with the addresses of the ranks it names: users know workers by address."""
    match error:
        case PeerLost() | ProtocolError():
            peers: tuple[int, ...] = (error.peer,)
        case PeerTimeout():
            peers = error.peers_missing
        case _:
            peers = ()
    addresses = ", ".join(f"rank {peer} is on {workers[peer]}" for peer in peers)
    return f"{error} ({addresses})" if addresses else str(error)


class _Absent(ChannelError):  # noqa: N818  # a name that says what is the matter
    """A peer did not begin."""

    def __init__(self, peer: int, why: str) -> None:
        super().__init__(peer, why)
        self.peer, self.why = peer, why

    def __str__(self) -> str:
        return self.why


class _FallbackTransport:
    """Dask's connections, for pairs of ranks without another channel."""

    def __init__(self, plugin: RanksWorkerPlugin, group: GroupSpec, number: int) -> None:
        self.plugin, self.group, self.number = plugin, group, number
        self.communicator: Any = None

    def send(self, rank: int, header: bytes, buffers: list[Any]) -> None:
        """Send a frame; returns at once."""
        address = self.group.placement.workers[rank]
        copies = [bytes(b) for b in buffers]
        sending = self.plugin.send_frame(address, self.group.name, rank, self.number, header, copies)
        sending.add_done_callback(lambda done: self._sent(rank, done))

    def _sent(self, rank: int, done: Any) -> None:
        error = done.exception()
        if error is not None and self.communicator is not None:
            self.communicator.lose(rank, f"Dask's channel failed: {type(error).__name__}: {error}")


class Rank:
    """One rank of a group, from its first segment to its end."""

    def __init__(self, plugin: RanksWorkerPlugin, group: GroupSpec, number: int) -> None:
        self.plugin, self.group, self.number = plugin, group, number
        self.schedule = Schedule(group.placement, number)
        self._turn = threading.Condition()
        self._done = -1
        self._busy = False
        self._ended = ""
        self._used = time.monotonic()
        self._window: Window | None = None
        self._communicator: Communicator | None = None
        self._runner: RankRunner | None = None
        self._inputs: dict[str, Any] = {}
        self._streams: Streams | None = None
        self._told = time.monotonic()

    # ---- for other threads

    def end(self, why: str) -> None:
        """Stop waiting and end; a running segment closes its resources itself."""
        with self._turn:
            self._ended = why
            communicator, busy = self._communicator, self._busy
            self._turn.notify_all()
        if communicator is not None:
            communicator.abort(why)
        if not busy:
            self._close()

    def deliver(self, source: int, header: bytes, buffers: list[Any]) -> None:
        """Take a frame that came by Dask's connections."""
        if self._communicator is not None:
            self._communicator.deliver(source, header, [memoryview(b) for b in buffers])

    def idle_for(self) -> float:
        """Seconds since its last segment; 0 while it runs one."""
        return 0.0 if self._busy else time.monotonic() - self._used

    # ---- the task

    def segment(self, order: SegmentSpec, parts: StepParts, before: State | None, data: Sequence[Any]) -> Any:
        """Run one segment; segments run in order, whichever task begins first."""
        with self._turn:
            # The client ends a group that cannot go on; this deadline is for a client that is gone.
            if not self._turn.wait_for(lambda: self._ended or (self._done == order.segment - 1 and not self._busy), self.group.deadline):
                raise TimeoutError(f"segment {order.segment} waited for the one before it for {self.group.deadline:g} s")
            if self._ended:
                return Stopped(self._ended)
            self._busy = True
        done = self._done  # after a failed segment the next one waits for the end of the group, which has the reason
        try:
            with guard():
                if self._runner is None:
                    self._meet(parts)
                result = self._run(order, before, data)
            done = order.segment
        finally:
            with self._turn:
                self._busy, self._used, self._done = False, time.monotonic(), done
                ended = self._ended
                self._turn.notify_all()
            if ended:
                self._close()
        return result

    def _meet(self, parts: StepParts) -> None:
        """Open channels to all peers, and bind the arithmetic to the shared memory."""
        group, worker = self.group, self.plugin.worker
        deadline = time.monotonic() + group.start
        placement = group.placement
        window = Window.create(placement.regions(self.number))
        fallback = _FallbackTransport(self.plugin, group, self.number)
        host = worker.address.partition("://")[2].rpartition(":")[0].strip("[]") or "127.0.0.1"
        communicator = Communicator(
            group.name,
            self.number,
            window,
            placement.routes(self.number),
            group.token,
            "127.0.0.1" if worker.address.startswith("inproc") else host,
            tls=_tls_of(worker),
            comms=fallback,
            only=group.channel,
            silence=group.link,
        )
        fallback.communicator = communicator
        communicator.deadline = group.deadline
        with self._turn:
            self._window, self._communicator = window, communicator
            if self._ended:
                communicator.abort(self._ended)
        self.plugin.publish(group.name, self.number, communicator.endpoint)
        asked = {
            rank.number: self.plugin.fetch_endpoint(rank.worker, group.name, rank.number, max(deadline - time.monotonic(), 0.1))
            for rank in placement.ranks
            if rank.number != self.number
        }
        endpoints: dict[int, Any] = {}
        for other, answer in asked.items():
            try:
                endpoint = self._patiently(answer, deadline)
            except (OSError, TimeoutError) as error:
                raise PeerLost(other, f"its worker does not answer: {type(error).__name__}: {error}", cut=True) from error
            if endpoint is None:
                raise _Absent(other, f"rank {other} on {placement.workers[other]} did not begin within {group.start:g} s")
            by_comm = (min(self.number, other), max(self.number, other)) in group.by_comm
            endpoints[other] = {**endpoint, "address": None} if by_comm else endpoint
        communicator.connect(endpoints, max(deadline - time.monotonic(), 0.1))
        memory = {name: window[name] for name in placement.regions(self.number)}
        common = communicator.common
        if common is not None:
            memory |= {name: common[name] for name in COMMON}
        self._streams = streams_of(placement, self.number, communicator.kinds)
        in_stages = self._streams is not None
        self._runner = RankRunner(parts, placement, self.number, memory, communicator.incoming, common is not None, in_stages)
        refused = [(p, "; ".join(why)) for p, why in communicator.refusals.items() if communicator.kinds[p] == "comm" and why]
        self.plugin.report(group.session, Met(group.generation, self.number, tuple(refused), software()))

    def _patiently(self, answer: Any, deadline: float) -> Any:
        """The value of a future, unless the group ends first."""
        while True:
            try:
                return answer.result(timeout=0.05)
            except TimeoutError:
                if answer.done() or self._ended or time.monotonic() > deadline + 2:
                    answer.cancel()
                    if self._ended:
                        raise ChannelError(self._ended) from None
                    raise

    def _run(self, order: SegmentSpec, before: State | None, data: Sequence[Any]) -> Any:
        runner, communicator = self._runner, self._communicator
        assert runner is not None
        assert communicator is not None
        if self.schedule.segment < 0:
            assert before is not None, "a group's first segment has a state"
            runner.load(before)
        batches = order.input.open(data, self._inputs)
        segment = SegmentRun(order, self.number, self.schedule, runner, communicator, self._streams, batches, self._progress)
        kept = segment.run()
        self._report(segment)
        return kept

    def _progress(self, order: SegmentSpec, at: int) -> None:
        """Report the step now and then."""
        now = time.monotonic()
        if self.number == 0 and now - self._told > _PROGRESS:
            self._told = now
            self.plugin.report(self.group.session, AtStep(self.group.generation, 0, order.segment, order.first + at))

    def _report(self, done: SegmentRun) -> None:
        """Report a finished segment; the report precedes the end of the task in the same stream."""
        sums = b"".join(s.tobytes() for s in done.sums)
        about = self.group.generation, self.number, done.spec.segment
        self.plugin.report(self.group.session, SegmentDone(*about, done.seconds, done.ending, sums, done.batches.used(), done.times.mean()))

    def _close(self) -> None:
        """Release memory, sockets and threads."""
        runner, self._runner = self._runner, None
        communicator, window = self._communicator, self._window
        self._inputs.clear()
        if runner is not None:
            runner.close()
        del runner
        if communicator is not None:
            communicator.close()
        if window is not None:
            window.close()


def _tls_of(worker: Any) -> Any:
    """The cluster's TLS contexts for listening and for connecting; None without TLS."""
    listen = worker.security.get_listen_args("worker").get("ssl_context")
    connect = worker.security.get_connection_args("worker").get("ssl_context")
    return (listen, connect) if listen is not None and connect is not None else None
