"""The session of the engine *lanes*: what lasts between two calls of `run`, and its calls to the cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from distributed.comm import CommClosedError
from distributed.protocol.pickle import dumps

from dagtrain.data.schedule import Schedule
from dagtrain.engines.cluster.clocks import AwakeClock, WallClock, catch_up
from dagtrain.engines.cluster.outages import endure, insist
from dagtrain.engines.cluster.session import ClusterSession, SilentError
from dagtrain.engines.cluster.waiting import Standing, no_workers, wait_for, warn_of_no_workers, what_was_lost
from dagtrain.engines.commits import Item, StateRef
from dagtrain.engines.ranks.actions import SegmentPolicy
from dagtrain.engines.ranks.coordinator import Coordinator
from dagtrain.engines.ranks.driver import Driver, Group
from dagtrain.engines.ranks.input_pipeline import InputPipeline, MemoryLimits
from dagtrain.engines.ranks.membership import Membership
from dagtrain.engines.ranks.messages import Inquiry, News, SegmentDone, WorkerState
from dagtrain.engines.ranks.placement import Placement
from dagtrain.engines.ranks.scheduler_plugin import RanksSchedulerPlugin
from dagtrain.engines.ranks.worker_plugin import RanksWorkerPlugin
from dagtrain.errors import ClusterError
from dagtrain.report.records import Event
from dagtrain.step.state import State

__all__ = ["LanesSession"]

log = logging.getLogger("dagtrain")

_ASKED = 10.0
"""Seconds after which a call to the scheduler is repeated."""
_LISTENED = 5.0
"""A longer pause between two looks counts as this many seconds: reports of progress may have waited meanwhile."""
_ATTEMPTS = 5
"""Attempts to install the plugins."""
_UNLIMITED = 4 << 30
"""Bytes that count as the limit of a worker without one."""


def _futures_in(held: Any) -> Sequence[Any]:
    return held[1] if isinstance(held, tuple) else held  # type: ignore[no-any-return]  # held values are of all kinds


class LanesSession(ClusterSession):
    """Steps on ranks; see `dagtrain.engines.engine.Session`."""

    def __init__(self, engine: Any, program: Any, source: Any, exact: bool = False) -> None:
        super().__init__(engine, program, source, exact)
        self.policy: SegmentPolicy = engine.policy
        self.silence, self.link = engine.silence, engine.link
        self.channel, self.memory_limits, self.bucket_bytes = engine.channel, engine.memory_limits, engine.bucket_bytes
        self.clock = AwakeClock(_LISTENED)
        self._wall = WallClock()
        self._gone = ""
        """Why the scheduler is gone, as the first call that it did not answer said."""
        self.membership = Membership(self.policy.cut, self.policy.again)
        self.coordinator = Coordinator(self.clock.read(), self.policy, self.membership)
        self.by_comm: set[frozenset[str]] = set()
        """Pairs of workers that exchange by Dask's connections, since they could open no socket."""
        self._pipeline: InputPipeline | None = None
        self.groups: dict[int, Group] = {}
        self._wanted = 0
        self._home: tuple[str, ...] = ()
        self.records: dict[tuple[int, int], dict[int, SegmentDone]] = {}
        self._seen = 0
        self.workers: dict[str, WorkerState] = {}
        self.told_readings = False
        self.apart: list[str] = []
        """Workers that do not answer."""
        self._waited_for = ""
        self.placements: list[Placement] = []
        """All placements so far, in order."""

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self._register(RanksSchedulerPlugin())
            self.call("open", session=self.session_id, client=self.client.id, silence=self.silence, outage=self.timeouts.outage)
            self.client.loop.add_callback(endure, self.client.scheduler_comm.comm, self.timeouts.outage)
            self._furnish(RanksWorkerPlugin(self.timeouts.outage))
        except BaseException as error:
            self.__exit__()
            if isinstance(error, ClusterError) or not isinstance(error, Exception):
                raise
            raise ClusterError(
                f"the ranks could not be set up on the cluster: {type(error).__name__}: {error}. The scheduler and the workers "
                "need the same dagtrain as this process: install it there."
            ) from error
        return self

    def _register(self, plugin: Any) -> None:
        """Install the scheduler plugin; again if a worker dies meanwhile, which makes Dask close the connection."""
        for left in reversed(range(_ATTEMPTS)):
            try:
                self.client.register_plugin(plugin)
            except CommClosedError:
                if not left or self.client.status != "running":
                    raise
            else:
                return

    def _furnish(self, plugin: Any) -> None:
        """Install the worker plugin on every worker that can be reached."""
        deadline = self.clock.read() + self.timeouts.progress
        while True:
            answer = self.call("furnish", wait=1.0, name=plugin.name, plugin=dumps(plugin), timeout=1.0)
            if answer["refusals"]:
                raise RuntimeError("; ".join(f"{worker}: {why}" for worker, why in answer["refusals"].items()))
            if not answer["left"]:
                return
            if self.clock.read() > deadline:
                raise TimeoutError(f"no answer for {self.timeouts.progress:g} s from {', '.join(answer['left'])}")

    def __exit__(self, *details: object) -> None:
        with suppress(ClusterError):  # a scheduler that is gone has ended all ranks
            self.call("close", session=self.session_id)
        self.groups.clear()
        super().__exit__(*details)

    # ---- steps

    def run(self, start: State | StateRef, steps: Schedule) -> Iterator[Item]:
        """See `dagtrain.engines.engine.Session.run`."""
        driver = Driver(self, start, steps)
        try:
            yield from driver.drive()
        except GeneratorExit:
            if self.coordinator.group is not None and self.coordinator.group.under_way:
                with suppress(ClusterError):  # whoever closes the stream learns of it when it goes on
                    driver.drop_ahead()
            raise
        except BaseException:
            driver.abandon_all("the client stopped")
            raise

    def call(self, verb: str, wait: float = 0.0, **arguments: Any) -> Any:
        """Call the scheduler plugin."""
        if self._gone:  # it did not answer for `outage` seconds
            raise ClusterError(self._gone)
        client, name = self.client, f"dagtrain_lanes_{verb}"
        try:
            return insist(
                client,
                lambda: client.sync(getattr(client.scheduler, name), callback_timeout=wait + _ASKED, **arguments),
                self.timeouts.outage,
                self.say,
            )
        except ClusterError as error:
            self._gone = str(error) if isinstance(error.__cause__, OSError) else ""
            raise

    def say(self, text: str) -> None:
        """Log what holds up the run, and record it as an event."""
        log.warning("%s", text)
        self.note("waiting", text)

    def note(self, kind: str, why: str, workers: Sequence[str] = ()) -> None:
        """Record an event at the last committed step."""
        self.events.append(Event(kind, why, self.coordinator.committed.step, tuple(workers)))

    def inquire(self, keys: Sequence[Any]) -> Inquiry:
        """What the tasks with these keys wait for."""
        return Inquiry(**self.call("inquire", keys=keys))

    def look(self, wait: float) -> News:
        """News since the last time."""
        if self._wall.was_set_back():
            self.client.loop.add_callback(catch_up, list(self.client._periodic_callbacks.values()), [self.client.scheduler_comm])
        news = self._ask_for_news(wait)
        if news is None:
            raise ClusterError("the scheduler no longer knows this run: it lost the connection to this client. Go on from a checkpoint.")
        if news.reports:
            self._seen = news.reports[-1][0]
        self.workers, self.apart = news.present, news.apart
        if news.waiting:
            self.clock.skip()
            if not self._waited_for:
                self.say(news.waiting)
        self._waited_for = news.waiting
        return news

    def _ask_for_news(self, wait: float) -> News | None:
        answer = self.call("look", wait=wait, session=self.session_id, seen=self._seen, timeout=wait)
        return None if answer is None else News.of(answer)

    def _see(self, standing: Standing) -> None:
        """Resubmit pending work without workers that do not answer: Dask would wait for them for minutes."""
        news = self._ask_for_news(0.0)  # the next call of `run` reads the reports
        apart = set() if news is None else set(news.apart)
        if news is not None and apart and news.present and not (self._home and apart.isdisjoint(self._home)):
            self.pin_to(tuple(sorted(news.present)), cut=True)
            raise SilentError(f"{' and '.join(sorted(apart))} does not answer")

    def begin(self, ranks: int) -> News:
        """News once there is a worker; asks an adaptive cluster for enough workers for these ranks."""
        if ranks != self._wanted:
            self.call("want", session=self.session_id, ranks=ranks)
            self._wanted = ranks
        news, deadline = self.look(0.0), self.clock.read() + self.timeouts.workers
        if not news.present:
            warn_of_no_workers(self.timeouts)
        while not news.present:
            if self.clock.read() > deadline:
                raise ClusterError(no_workers(self.timeouts))
            earlier, news = news.reports, self.look(self.timeouts.glance)
            news = news._replace(reports=[*earlier, *news.reports])
        return news

    def pipeline(self) -> InputPipeline:
        """The input pipeline of the source, with limits from the memory of the workers."""
        if self._pipeline is None or self._pipeline.source is not self.source:
            limits = [w.memory or _UNLIMITED for w in self.workers.values()] or [_UNLIMITED]
            self._pipeline = InputPipeline(self.source, self.memory_limits or MemoryLimits.of(limits), self._data, self._locate)
        return self._pipeline

    def _locate(self, keys: Sequence[Any]) -> list[tuple[str, ...]]:
        """The holders of each key of the data, once all of it is computed."""
        futures = self._held[f"data {id(self.source)}"][1]
        wait_for(self.client, futures, self.timeouts, " in the data", self._see)
        lost = [future.key for future in futures if future.cancelled()]
        if lost:
            raise ClusterError(what_was_lost(f"{len(lost)} of {len(futures)} partitions, such as {lost[0]}."))
        holders = self.ask("who_has", keys=keys)
        return [tuple(sorted(holders.get(key, ()))) for key in keys]

    def pin_to(self, workers: tuple[str, ...], cut: bool) -> None:
        """Pin later submissions to `workers`, without the other present workers; an empty tuple lifts the pin.

        Unfinished values are computed again under other names, since the other workers might hold them up. After a partition of the
        network (`cut`) so are finished ones, which only the other workers may hold.
        """
        if workers and workers != self._home:
            self._let_go(lambda future: cut or future.status != "finished")
        self._home = workers

    def renew(self) -> None:
        """Release values that were cancelled (as by `client.restart()`) or have failed, so that they are computed again."""
        self._let_go(lambda future: future.status in ("cancelled", "error", "lost"))

    def _let_go(self, is_lost: Callable[[Any], bool]) -> None:
        """Release values whose futures are lost, so that they are submitted again."""
        held = {key: value for key, value in self._held.items() if key.startswith("group-") or not any(map(is_lost, _futures_in(value)))}
        if len(held) < len(self._held):
            self._failures += 1  # names change
            for key in self._held.keys() - held.keys():
                for future in _futures_in(self._held[key]):
                    future.release()  # its dependencies have names of their own, and would go on where they are
        self._held = held

    def is_by_comm(self, workers: Sequence[str], ranks: tuple[int, int]) -> bool:
        """Whether two ranks could open no socket."""
        return frozenset(workers[rank] for rank in ranks) in self.by_comm

    def _submit(self, graph: dict[Any, Any], keys: list[Any], **annotations: Any) -> list[Any]:
        if self._home:
            annotations |= {"workers": list(self._home), "allow_other_workers": True}
        return super()._submit(graph, keys, **annotations)

    def submit_to(self, graph: dict[Any, Any], workers: Mapping[Any, str]) -> list[Any]:
        """Submit tasks, each to one worker."""
        where = {key: [address] for key, address in workers.items()}
        return super()._submit(graph, list(graph), workers=where.get, priority=10)
