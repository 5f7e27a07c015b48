"""Reports of ranks, the scheduler's view of workers and the fate of tasks, as events of the coordinator."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker

from dagtrain.engines.ranks.messages import AtStep, Begun, Erred, Failed, Met, News, Probed, SegmentDone, StateLost, decode
from dagtrain.errors import ClusterError, DagtrainError

if TYPE_CHECKING:
    from dagtrain.engines.ranks.session import LanesSession

__all__ = ["ANSWER", "Reports"]

ANSWER = 30.0
"""Seconds for the scheduler to answer."""


class Reports:
    """Passes the scheduler plugin's news to the coordinator of a session."""

    def __init__(self, session: LanesSession) -> None:
        self.session, self.coordinator = session, session.coordinator

    def take(self, news: News) -> None:
        """Pass the news on as events."""
        coordinator = self.coordinator
        coordinator.tick(self.session.clock.read())
        for _, worker, message in news.reports:
            match decode(message):
                case Begun(generation, rank, segment):
                    coordinator.begun(generation, segment, rank)
                case Met(generation, _, refused, software):
                    self.session.compare(worker, software)
                    self._tell_of_channels(generation, worker, refused)
                    coordinator.started(generation)
                case AtStep(generation):
                    coordinator.news(generation)
                case SegmentDone(generation, rank, segment, seconds, ending) as done:
                    self.session.records.setdefault((generation, segment), {})[rank] = done
                    coordinator.reported(generation, segment, rank, seconds, ending)
                case Probed(reached, cut):
                    coordinator.probed([(a, b) for a, b in reached], [(a, b) for a, b in cut])
                case StateLost(generation):
                    coordinator.stateless(generation)
                case Failed() as failed:
                    self._fail(worker, failed)
                case Erred() as erred:
                    self._raise(worker, erred)
        paused = [worker for worker, state in news.present.items() if state.paused]
        busy = {worker: state.busy for worker, state in news.present.items() if state.busy}
        coordinator.workers(news.present, news.leaving, news.gone, paused, busy)
        self._look_at_tasks()

    def _workers(self, generation: int) -> tuple[str, ...]:
        return self.session.groups[generation].order.placement.workers if generation in self.session.groups else ()

    def _fail(self, worker: str, failed: Failed) -> None:
        workers = self._workers(failed.generation)
        if not workers:  # of a forgotten group
            return
        self.coordinator.failed(
            failed.generation,
            f"rank {failed.rank} on {worker}: {failed.why}",
            cut=[(worker, workers[peer]) for peer in failed.cut],
            silent=[workers[peer] for peer in failed.silent],
            fault=[workers[rank] for rank in failed.fault],
            final=failed.final,
        )

    def _tell_of_channels(self, generation: int, worker: str, refused: Sequence[tuple[int, str]]) -> None:
        """Record which workers can exchange only by Dask's connections; the next group uses these at once."""
        workers = self._workers(generation)
        for peer, why in refused if workers else ():
            pair = frozenset((worker, workers[peer]))
            if pair not in self.session.by_comm:
                self.session.by_comm.add(pair)
                self.session.note("slow channel", why, sorted(pair))

    def _look_at_tasks(self) -> None:
        """Look for tasks that ended in a way that no rank can report."""
        current = self.coordinator.group
        if current is None or current.generation not in self.session.groups:
            return
        futures = self.session.groups[current.generation].futures
        ended = [(key, future) for key, future in futures.items() if future.status in ("error", "cancelled", "lost")]
        if not ended:
            return
        (_, rank), future = next((item for item in ended if item[1].status == "error"), ended[0])
        if future.status == "error":
            self._learn_from(current.generation, rank, future)
        else:
            origins = sorted({origin for origins in self.session.source.origins for origin in origins}, key=str)
            gone = self.session.inquire(origins).missing if origins else 0
            why = f"the tasks were {future.status}: the cluster was restarted, or what they need is gone"
            if gone:
                why += (
                    ". The data is made of what was scattered or persisted on the cluster, which does not have it any more: give it again"
                )
            self.coordinator.failed(current.generation, why, fault="the tasks", final=bool(gone))
            self.coordinator.lost()

    def _learn_from(self, generation: int, rank: int, future: Any) -> None:
        """A task's exception outside a rank: its worker cannot run ranks, or a dependency failed."""
        error = future.exception(timeout=ANSWER)
        if isinstance(error, DagtrainError):
            raise error
        blamed = self.session.inquire([future.key]).blamed
        what = f"{type(error).__name__}: {error}"
        if blamed in ("", str(future.key)):
            worker = self._workers(generation)[rank]
            self.coordinator.failed(generation, f"rank {rank} on {worker}: {what}", fault=[worker])
        elif self.session.comes_again(error):
            raise ClusterError(f"the data of rank {rank} cannot be computed: {what}") from error
        else:
            final = isinstance(error, KilledWorker)
            self.coordinator.failed(generation, f"the task {blamed}, for which ranks wait, failed: {what}", fault="the data", final=final)

    def _raise(self, worker: str, erred: Erred) -> None:
        """Raise an error of the computation itself, which would recur wherever the step is repeated."""
        group = self.session.groups.get(erred.generation)
        future = group.futures.get((erred.segment, erred.rank)) if group is not None else None
        error = None
        if future is not None:
            with suppress(Exception):  # the report has the reason
                error = future.exception(timeout=ANSWER)
        if isinstance(error, DagtrainError):
            raise error
        raise ClusterError(f"rank {erred.rank} on {worker} met an error: {erred.why}")
