"""The client's side of the engine *lanes*: a thin shell around `Coordinator`, which decides; the shell carries out its decisions with Dask.

    scheduler plugin ── what ranks and workers did ──▶ Coordinator ──▶ Begin, Submit, Commit, Abandon, … ──▶ tasks, calls, the stream

The client waits in one place only: for the next news.
"""

from __future__ import annotations

import secrets
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from dask.task_spec import DataNode, Task, TaskRef

from dagtrain.data.schedule import Schedule
from dagtrain.engines.cluster.session import SilentError
from dagtrain.engines.commits import Commit, Idle, Item, Placed, StateLostError, StateRef
from dagtrain.engines.ranks import actions
from dagtrain.engines.ranks.actions import Abandon, Begin, Fetch, GiveUp, Held, Inquire, Missing, Probe, Submit
from dagtrain.engines.ranks.background import forget_sent
from dagtrain.engines.ranks.messages import GroupSpec, SegmentDone, SegmentSpec
from dagtrain.engines.ranks.placement import WorkerInfo, place
from dagtrain.engines.ranks.rank import run_rank
from dagtrain.engines.ranks.reports import ANSWER, Reports
from dagtrain.engines.ranks.stages import shape_of
from dagtrain.errors import ClusterError
from dagtrain.graph import Array
from dagtrain.report.records import StepTimes
from dagtrain.step.state import State

if TYPE_CHECKING:
    from dagtrain.engines.ranks.session import LanesSession

__all__ = ["Driver", "Group"]

_LOOK = 0.25
"""Seconds to wait for news at a time."""
_OFTEN = 4.0
"""Computations of the data in an epoch above which a warning is given."""


class Group(NamedTuple):
    """A placement at work."""

    order: GroupSpec
    key: str
    parts_key: str
    futures: dict[tuple[int, int], Any]
    """(segment, rank) → future of the state."""


class Driver:
    """Drives the ranks of a session from a state through a schedule: one for each call of `run`."""

    def __init__(self, session: LanesSession, start: State | StateRef, steps: Schedule) -> None:
        self.session, self.steps, self.coordinator = session, steps, session.coordinator
        self.safe = start.get() if isinstance(start, StateRef) else start
        self.first, self.scale = start.step, start.learning_rate_scale
        self.shards = len(steps.at(0))
        self.parts = session.program.for_workers(steps.lengths)
        self.shape = shape_of(self.parts, self.shards, session.bucket_bytes)
        self.reported = self.first
        self.why_lost = "all workers that held it are gone"
        self.news = session.begin(self.shards)  # also of segments begun before this call
        self.pipeline = session.pipeline()
        most = self.pipeline.most_steps(steps.rows, max(1, min(len(session.workers), self.shards)))
        policy = session.policy
        self.coordinator.policy = policy if most is None else policy._replace(most=min(most, policy.most))
        self.coordinator.tick(session.clock.read())
        self.reports = Reports(session)
        held = self._holder() if isinstance(start, StateRef) else Held(start.step)
        if held.generation < 0:
            self.abandon_all("other steps are trained on")
        self.coordinator.train(held, self.first + len(steps), self.shards, lambda step: self.first + steps.until(step - self.first))
        self._warn_of_readings(self.coordinator.policy.most)

    def _holder(self) -> Held:
        """Who holds the last committed state; the group at work goes on if it can, otherwise it is given up."""
        session, held, current = self.session, self.coordinator.committed, self.coordinator.group
        if held.generation not in session.groups or held.step != self.first:
            return Held(self.first)
        group = None if current is None or current.under_way else session.groups.get(current.generation)
        if group is None or group.order.placement.shape != self.shape or group.parts_key != self._parts_key():
            self.drop_ahead()
        return held

    def _warn_of_readings(self, segment: int) -> None:
        """Warn once if data that exceeds the memory is computed many times in an epoch."""
        if self.session.told_readings or self.pipeline.kind != "streamed":
            return
        self.session.told_readings = True
        batches = self.steps.sample()
        times = self.pipeline.readings(batches, segment)
        if times > _OFTEN:
            size = self.pipeline.source.nbytes / 2**30
            if self.pipeline.is_local(batches):
                why, cure = "its partitions are larger than what is read at a time", "Cut it into smaller partitions"
            else:
                why = "the order of the samples takes each step from all over it"
                cure = "With fit(..., shuffle='local') it is computed about once"
            warnings.warn(
                f"the data ({size:.1f} GiB) does not fit into the memory of the cluster, and {why}, so that it is computed about "
                f"{times:.0f} times an epoch. {cure}; or give the workers more memory.",
                UserWarning,
                stacklevel=2,
            )

    def _parts_key(self) -> str:
        return self.session._program(f"program-{self.parts.key[:8]}", self.parts)

    # ---- the loop

    def drive(self) -> Iterator[Item]:
        """Go on until all steps are committed."""
        session, news = self.session, self.news
        while not self.coordinator.finished:
            self.reports.take(news)
            items: list[Item] = []
            for action in self.coordinator.act():
                try:
                    items += self._do(action)
                except SilentError as error:
                    if group := self.coordinator.group:
                        self.coordinator.failed(group.generation, str(error))
            yield from items  # a commit first: the group is beyond its steps
            yield from session.untold()
            if self.coordinator.finished:
                return
            news = session.look(0.0 if items else _LOOK)
            if not news.reports:
                yield Idle()

    def _do(self, action: actions.Action) -> list[Item]:
        session = self.session
        match action:
            case Begin(generation, workers):
                return [Placed(self._begin(generation, workers))]
            case Submit():
                if (group := self.coordinator.group) and not group.broken:  # by earlier actions
                    self._submit(action)
            case actions.Commit():
                return self._commit(action)
            case Fetch(held):
                self._fetch(held)
            case Probe(pairs):
                session.call("probe", session=session.session_id, pairs=pairs)
            case Inquire(generation, segment):
                futures = session.groups[generation].futures
                keys = [futures[segment, rank].key for rank in sorted(rank for s, rank in futures if s == segment)]
                answer = session.inquire(keys)
                self.coordinator.inquired(generation, answer.waiting, answer.unfinished, answer.hindered)
            case Abandon(generation, why, failure, workers):
                self._abandon(generation, why)
                session.note("repeated" if failure else "placed anew", why, workers)
            case Missing(workers):
                session.note("missing", "", workers)
            case GiveUp(why):
                raise ClusterError(f"training cannot go on: {why.rstrip('.')}.{self._hint(why)}")
        return []

    def _hint(self, why: str) -> str:
        """What the user can do about it."""
        hints = {
            "is paused": "Give workers that are paused more memory, or smaller partitions.",
            "is busy with": "End what keeps workers busy, give them more threads, or start more of them.",
            "do not reach each other": "Is there a firewall between them? Workers must reach each other, not the scheduler alone.",
            "was lost": "See the workers' logs: a nanny ends a worker that exceeds its limit of memory.",
        }
        return "".join(f" {hint}" for sign, hint in hints.items() if sign in why)

    # ---- actions

    def _begin(self, generation: int, workers: Sequence[str]) -> Any:
        session = self.session
        session.renew()
        apart = session.channel not in (None, "shared")
        placement = place(self.shape, self._worker_infos(workers), self.pipeline.row_bytes(self.steps.at(0)), apart)
        self.coordinator.placed(generation, placement.workers)
        session.placements.append(placement)
        cut = session.membership.is_cut_off(placement.workers) or bool(session.apart)
        session.pin_to(placement.workers if cut or session.membership.is_without(placement.workers) else (), cut)
        name = uuid.uuid4().hex
        policy = self.coordinator.policy
        order = GroupSpec(
            session.session_id,
            name,
            generation,
            placement,
            secrets.token_bytes(32),
            policy.start,
            policy.news,
            session.link,
            session.channel,
            tuple(pair for pair in combinations(range(len(placement.workers)), 2) if session.is_by_comm(placement.workers, pair)),
        )
        session.call("group", session=session.session_id, group=name, workers=list(placement.workers))
        key = f"group-{name}"
        session._held[key] = session.submit_to({key: DataNode(key, order)}, {key: placement.workers[0]})
        session.groups[generation] = Group(order, key, self._parts_key(), {})
        return placement

    def _worker_infos(self, workers: Sequence[str]) -> list[WorkerInfo]:
        """The workers, with the bytes of data that each holds, in all and by shard."""
        states = self.session.workers
        near = self.pipeline.near(self.steps.sample(), self.shards) if self.pipeline.kind == "picked" else {}
        return [
            WorkerInfo(a, states[a].host, states[a].threads, sum(near.get(a, {}).values()), near.get(a, {})) for a in workers if a in states
        ]

    def _submit(self, segment: Submit) -> None:
        session, group = self.session, self.session.groups[segment.generation]
        placement = group.order.placement
        first = segment.first - self.first
        batches = self.steps.cut(first, first + segment.steps)
        alike: dict[tuple[int, ...], tuple[int, ...]] = {}
        counts = tuple(alike.setdefault(c, c) for c in (tuple(len(shard) for shard in batch) for batch in batches))
        opens = not group.futures
        graph, deliveries = self.pipeline.deliver(placement, batches, self.pipeline.generation != segment.generation)
        self.pipeline.generation = segment.generation
        # Held until the ranks' tasks depend on them.
        rows = session._submit(graph, [key for delivery in deliveries for key in delivery.keys]) if graph else []
        before = self._source(segment.source) if opens and segment.source.generation != segment.generation else None
        tasks, where = {}, {}
        for rank, delivery in zip(placement.ranks, deliveries, strict=True):
            key = (f"rank-{session.session_id}-{segment.generation}", segment.segment, rank.number)
            order = SegmentSpec(str(key), segment.segment, segment.first, counts, self.scale, delivery.input)
            tasks[key] = Task(
                key,
                run_rank,
                TaskRef(group.key),
                rank.number,
                DataNode(None, order),
                TaskRef(group.parts_key),
                None if before is None else TaskRef(before),
                *(TaskRef(k) for k in delivery.keys),
            )
            where[key] = rank.worker
        for key, future in zip(tasks, session.submit_to(tasks, where), strict=True):
            group.futures[segment.segment, key[2]] = future
        del rows

    def _source(self, held: Held) -> Any:
        """Key of the state with which a group begins."""
        if held.generation < 0:
            return self.session._hold(f"state-{self.session.session_id}-{uuid.uuid4().hex[:8]}", self.safe)
        group = self.session.groups[held.generation]
        at_work = self.coordinator.group.workers if self.coordinator.group is not None else ()
        holder = next((w for w in held.workers if w in at_work), held.workers[0])
        return group.futures[held.segment, group.order.placement.workers.index(holder)].key

    def _commit(self, segment: actions.Commit) -> list[Item]:
        """The commit of a segment, without the steps that were reported before a repetition, which gives the same."""
        session, group = self.session, self.session.groups[segment.generation]
        records = session.records.pop((segment.generation, segment.segment))
        for old in [k for k in group.futures if k[0] < segment.segment]:
            group.futures.pop(old).release()
        for generation in [n for n in session.groups if n < segment.generation]:
            self._forget(generation)
        session.client.loop.add_callback(forget_sent, session.client.scheduler_comm)
        last, known = segment.first + segment.steps, max(0, self.reported - segment.first)
        if known >= segment.steps:
            return []
        self.reported = last
        placement = group.order.placement
        sums = np.frombuffer(records[placement.owners[0]].sums).reshape(segment.steps, -1)[known:]
        times = [StepTimes(placement.workers[r], r, last, *record.times) for r, record in sorted(records.items()) if any(record.times)]
        state = StateRef(last, self.scale, partial(self._bring, self.coordinator.committed), self.safe.step == last)
        return [Commit(segment.first + known, list(sums), _used(segment.steps, records)[known:], state, times)]

    def _bring(self, held: Held, ref: StateRef) -> State:
        state = self.safe if self.safe.step == ref.step else self._fetch(held)
        if state is None:
            raise StateLostError(f"no worker has the state of step {ref.step} any more: {self.why_lost}")
        return state

    def _fetch(self, held: Held) -> State | None:
        """A committed state from any holder; None if there is none."""
        group = self.session.groups.get(held.generation)
        for worker in held.workers:
            if worker not in self.session.workers or group is None:
                continue
            future = group.futures.get((held.segment, group.order.placement.workers.index(worker)))
            state = None if future is None else self._receive(future, worker)
            if isinstance(state, State):
                self.safe = state.copy()  # the message's memory may be read-only
                self.coordinator.fetched(held)
                return self.safe
        return None

    def _receive(self, future: Any, worker: str) -> Any:
        """The value of a task that a rank reported as done, through the scheduler; None if its holder is gone.

        `Future.result` would wait for a lost task to be repeated, which is impossible; and abandoning it while it gathers can leave
        the client unable to gather anything afterwards.
        """
        client, clock = self.session.client, self.session.clock
        deadline = clock.read() + ANSWER
        while not future.done():  # the report precedes the task's end
            if worker not in self.session.workers or clock.read() > deadline:
                self.why_lost = f"{worker} was lost, or did not end its task within {ANSWER:g} s"
                return None
            with suppress(TimeoutError):
                future.exception(timeout=_LOOK)
                break
            self.reports.take(self.session.look(0.0))
        if future.status != "finished":
            self.why_lost = f"its task on {worker} is {future.status}"
            return None
        seconds = ANSWER
        for again in (True, False):
            try:
                answer = client.sync(client.scheduler.gather, keys=[future.key], callback_timeout=seconds)
            except Exception as error:
                self.reports.take(self.session.look(0.0))  # waits for the scheduler, if it did not answer
                self.why_lost = f"it did not come from {worker} within {seconds:g} s: {type(error).__name__}: {error}"
                if worker not in self.session.workers or not again:
                    break
                seconds *= 4  # a large state may just take long
            else:
                self.why_lost = f"{worker} does not hold it any more"
                return answer["data"][future.key] if answer["status"] == "OK" else None
        self.session.note("state lost", self.why_lost, (worker,))
        return None

    def _abandon(self, generation: int, why: str) -> None:
        group = self.session.groups.get(generation)
        if group is None:
            return
        self.session.call("end", session=self.session.session_id, group=group.order.name, why=why)
        committed = self.coordinator.committed
        for key in [k for k in group.futures if committed.generation != generation or k[0] != committed.segment]:
            group.futures.pop(key).release()

    def _forget(self, generation: int) -> None:
        self.session.records = {key: record for key, record in self.session.records.items() if key[0] != generation}
        group = self.session.groups.pop(generation)
        for future in group.futures.values():
            future.release()
        self.session._held.pop(group.key, None)

    def drop_ahead(self) -> None:
        """Give up the group with what it has begun after the last commit."""
        if (dropped := self.coordinator.drop()) is not None:
            self._abandon(dropped.generation, dropped.why)

    def abandon_all(self, why: str) -> None:
        """End all groups of this session."""
        self.coordinator.drop()
        for generation, group in list(self.session.groups.items()):
            with suppress(ClusterError):  # the first error says more
                self.session.call("end", session=self.session.session_id, group=group.order.name, why=why)
            self._forget(generation)


def _used(steps: int, records: Mapping[int, SegmentDone]) -> list[list[tuple[int, Array]]]:
    """For each step the shards, with the samples in each, that the ranks have taken."""
    used: list[list[tuple[int, Array]]] = [[] for _ in range(steps)]
    for _, record in sorted(records.items()):
        rows, at = np.frombuffer(record.used["rows"], "<i8"), 0
        for i, shard, count in np.frombuffer(record.used["cuts"], "<i4").reshape(-1, 3).tolist():
            used[i].append((shard, rows[at : at + count]))
            at += count
    return used
