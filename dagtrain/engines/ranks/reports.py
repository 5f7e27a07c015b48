"""What ranks report, what the scheduler knows of workers, and what became of tasks: as events of the coordinator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker

from dagtrain.engines.engine import Watch
from dagtrain.engines.ranks.coordinator import Coordinator
from dagtrain.errors import ClusterError, DagtrainError

if TYPE_CHECKING:
    from dagtrain.engines.ranks.session import LanesSession

__all__ = ["ANSWER", "Reports"]

ANSWER = 30.0
"""Seconds for the scheduler to answer a question."""


class Reports:
    """Reads the scheduler plugin's news for a stretch."""

    def __init__(self, session: LanesSession, coordinator: Coordinator, watch: Watch) -> None:
        self.session, self.coordinator, self.watch = session, coordinator, watch

    def take(self, news: Mapping[str, Any]) -> None:
        """What happened, as events."""
        coordinator = self.coordinator
        coordinator.tick(self.session.clock.read())
        for _, report in news["reports"]:
            group, rank = report["group"], report["rank"]
            match report["kind"]:
                case "begun":
                    coordinator.begun(group, report["segment"], rank)
                case "met":
                    self.session.compare(report["worker"], report["software"], self.watch)
                    self._tell_of_channels(group, report)
                    coordinator.started(group)
                case "step":
                    coordinator.news(group)
                case "done":
                    self.session.records.setdefault((group, report["segment"]), {})[rank] = report
                    coordinator.reported(group, report["segment"], rank, report["seconds"], report["ending"])
                case "probed":
                    coordinator.probed(report["reached"], report["cut"])
                case "stateless":
                    coordinator.stateless(group)
                case "failed":
                    self._fail(group, report)
                case "error":
                    self._raise(group, report)
        present = news["present"]
        paused = [worker for worker, facts in present.items() if facts["paused"]]
        busy = {worker: facts["busy"] for worker, facts in present.items() if facts["busy"]}
        coordinator.workers(present, news["leaving"], news["gone"], paused, busy)
        self._look_at_tasks()

    def _workers(self, group: int) -> tuple[str, ...]:
        return self.session.groups[group].order.placement.workers if group in self.session.groups else ()

    def _fail(self, group: int, report: Mapping[str, Any]) -> None:
        workers = self._workers(group)
        if not workers:  # it is forgotten
            return
        self.coordinator.failed(
            group,
            f"rank {report['rank']} on {report['worker']}: {report['why']}",
            cut=[(report["worker"], workers[peer]) for peer in report["cut"]],
            silent=[workers[peer] for peer in report["silent"]],
            fault=[workers[rank] for rank in report["fault"]],
            final=report["final"],
        )

    def _tell_of_channels(self, group: int, report: Mapping[str, Any]) -> None:
        """Tell which workers exchange by Dask's connections since nothing better came to be; the next group does so at once."""
        workers = self._workers(group)
        for peer, why in report["refused"].items() if workers else ():
            pair = frozenset((report["worker"], workers[int(peer)]))
            if pair not in self.session.by_comm:
                self.session.by_comm.add(pair)
                self.watch.event(f"workers {' and '.join(sorted(pair))} exchange by Dask's connections, which are slower: {why}")

    def _look_at_tasks(self) -> None:
        """Tasks that ended in a way of which no rank could report."""
        current = self.coordinator.group
        if current is None or current.number not in self.session.groups:
            return
        futures = self.session.groups[current.number].futures
        ended = [(key, future) for key, future in futures.items() if future.status in ("error", "cancelled", "lost")]
        if not ended:
            return
        (_, rank), future = next((item for item in ended if item[1].status == "error"), ended[0])
        if future.status == "error":
            self._learn_from(current.number, rank, future)
        else:
            origins = sorted({origin for origins in self.session.source.origins for origin in origins}, key=str)
            gone = self.session.call("inquire", keys=origins)["missing"] if origins else 0
            why = f"the tasks were {future.status}: the cluster was restarted, or what they need is gone"
            if gone:
                why += (
                    ". The data is made of what was scattered or persisted on the cluster, which does not have it any more: give it again"
                )
            self.coordinator.failed(current.number, why, fault="the tasks", final=bool(gone))
            self.coordinator.lost()

    def _learn_from(self, group: int, rank: int, future: Any) -> None:
        """An exception where no rank could be: on a worker that cannot run one, or in a task that it waits for."""
        error = future.exception(timeout=ANSWER)
        if isinstance(error, DagtrainError):
            raise error
        blamed = self.session.call("inquire", keys=[future.key])["blamed"]
        what = f"{type(error).__name__}: {error}"
        if blamed in ("", str(future.key)):
            worker = self._workers(group)[rank]
            self.coordinator.failed(group, f"rank {rank} on {worker}: {what}", fault=[worker])
        elif self.session.comes_again(error):
            raise ClusterError(f"the data of rank {rank} cannot be computed: {what}") from error
        else:
            final = isinstance(error, KilledWorker)
            self.coordinator.failed(group, f"the task {blamed}, for which ranks wait, failed: {what}", fault="the data", final=final)

    def _raise(self, group: int, report: Mapping[str, Any]) -> None:
        """An error of the computation itself: it would come again wherever the step is repeated."""
        future = self.session.groups[group].futures.get((report["segment"], report["rank"])) if group in self.session.groups else None
        error = None
        if future is not None:
            try:
                error = future.exception(timeout=ANSWER)
            except Exception:  # the report says what it was
                error = None
        if isinstance(error, DagtrainError):
            raise error
        raise ClusterError(f"rank {report['rank']} on {report['worker']} met an error: {report['why']}")
