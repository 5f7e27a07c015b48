"""The client's side of the engine *lanes*: a thin shell around `Coordinator`, which decides; the shell carries out its decisions with Dask.

    scheduler plugin ── what ranks and workers did ──▶ Coordinator ──▶ Begin, Submit, Commit, Abandon, … ──▶ tasks, calls, `Watch`

The client waits in one place only: for the next news.
"""

from __future__ import annotations

import secrets
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from dask.task_spec import DataNode, Task, TaskRef

from dagtrain.engines.cluster.session import SilentError
from dagtrain.engines.engine import Watch
from dagtrain.engines.ranks.actions import Abandon, Begin, Commit, Done, Fetch, GiveUp, Inquire, Missing, Probe, StateRef, Submit
from dagtrain.engines.ranks.background import forget_sent
from dagtrain.engines.ranks.coordinator import Coordinator
from dagtrain.engines.ranks.messages import GroupSpec, SegmentSpec
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

__all__ = ["Group", "Reached", "Stretch"]

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


class Reached(NamedTuple):
    """The end of the last call: its state, its coordinator, and the steps submitted beyond."""

    state: State
    coordinator: Coordinator
    following: Any


class Stretch:
    """One call of `run`: from a state to the state after some steps."""

    def __init__(
        self,
        session: LanesSession,
        state: State,
        batches: Sequence[Sequence[Array]],
        watch: Watch,
        following: Sequence[Sequence[Array]],
    ) -> None:
        self.session, self.state, self.watch, self.following = session, state, watch, following
        self.batches = [*batches, *following]
        self.safe, self.base, self.shards = state, state.step, len(batches[0])
        counts: dict[tuple[int, ...], tuple[int, ...]] = {}
        self.counts = [counts.setdefault(c, c) for c in (tuple(len(s) for s in batch) for batch in self.batches)]
        self.parts = session.program.for_workers(n for counts in self.counts for n in counts)
        self.shape = shape_of(self.parts, self.shards, session.bucket_bytes)
        self.reported = self.lost = 0
        self.why_lost = "all workers that held it are gone"
        self.news = session.begin(self.shards)  # also of segments begun before this call
        self.pipeline = session.pipeline()
        most = self.pipeline.most_steps(max(sum(c) for c in self.counts), max(1, min(len(session.workers), self.shards)))
        policy = session.policy if most is None else session.policy._replace(most=min(most, session.policy.most))
        self.coordinator = Coordinator(
            len(batches), self.shards, session.clock.read(), policy, session.step_time, len(following), session.membership, self.base
        )
        self.reports = Reports(session, self.coordinator, watch)
        self._go_on(batches)
        self._warn_of_readings(batches, policy.most)

    def _warn_of_readings(self, batches: Sequence[Sequence[Array]], segment: int) -> None:
        """Warn once if data that exceeds the memory is computed many times in an epoch."""
        if self.session.told_readings or self.pipeline.kind != "streamed":
            return
        self.session.told_readings = True
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

    def _go_on(self, batches: Sequence[Sequence[Array]]) -> None:
        """Keep the group of the last call where it holds the very state to begin with and has begun no other steps."""
        session, reached = self.session, self.session.reached
        session.reached = None
        if reached is not None:
            assert reached.coordinator.group is not None, "a group is reached"
            group = session.groups[reached.coordinator.group.generation]
            begun = bool(reached.coordinator.group.under_way)
            fits = not begun or (batches is reached.following and self.state.learning_rate_scale == reached.state.learning_rate_scale)
            fits = fits and self.state.parameters is reached.state.parameters and group.order.placement.shape == self.shape
            if fits and group.parts_key == self._parts_key():
                self.coordinator.continue_from(reached.coordinator)
                return
        self.abandon_all("other steps are trained on")  # also a group that began too late for the last call
        self.coordinator.generations = session.begun

    def _parts_key(self) -> str:
        return self.session._program(f"program-{self.parts.key[:8]}", self.parts)

    # ---- the loop

    def drive(self) -> tuple[State, int]:
        """Run until all steps are done, or a stop."""
        news = self.news
        while True:
            self.reports.take(news)
            for action in self.coordinator.act():
                try:
                    if (result := self._do(action)) is not None:
                        return result
                except SilentError as error:
                    if group := self.coordinator.group:
                        self.coordinator.failed(group.generation, str(error))
            if self.coordinator.committed.step and self.watch.stop():
                self.coordinator.stop()
            news = self.session.look(_LOOK)

    def _do(self, action: Any) -> tuple[State, int] | None:
        match action:
            case Begin(generation, workers):
                self._begin(generation, workers)
            case Submit():
                if (group := self.coordinator.group) and not group.broken:  # by earlier actions
                    self._submit(action)
            case Commit():
                self._commit(action)
            case Fetch(held):
                self._fetch(held)
            case Probe(pairs):
                self.session.call("probe", session=self.session.session_id, pairs=pairs)
            case Inquire(generation, segment):
                futures = self.session.groups[generation].futures
                keys = [futures[segment, rank].key for rank in sorted(rank for s, rank in futures if s == segment)]
                answer = self.session.inquire(keys)
                self.coordinator.inquired(generation, answer.waiting, answer.unfinished, answer.hindered)
            case Abandon(generation, why, failure, workers):
                self._abandon(generation, why)
                what = f"repeated from step {self.coordinator.step}" if failure else "placed anew"
                self.watch.event(f"{why}; {what}", "repeated" if failure else "placed anew", workers)
            case Missing(workers):
                self.watch.event(f"gone before they took part: {', '.join(workers)}; placed without them", "placed anew", workers)
            case Done(held):
                return self._finish(held)
            case GiveUp(why):
                raise ClusterError(f"training cannot go on: {why.rstrip('.')}.{self._hint(why)}")
        return None

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

    def _begin(self, generation: int, workers: Sequence[str]) -> None:
        session = self.session
        session.renew()
        apart = session.channel not in (None, "shared")
        placement = place(self.shape, self._worker_infos(workers), self.pipeline.row_bytes(self.batches[0]), apart)
        self.coordinator.placed(generation, placement.workers)
        session.placements.append(placement)
        self.watch.placed(placement)
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
        session.begun = generation + 1  # tasks of a repeated generation might still be known to the scheduler

    def _worker_infos(self, workers: Sequence[str]) -> list[WorkerInfo]:
        """The workers, with the bytes of data that each holds, in all and by shard."""
        states, near = self.session.workers, self.pipeline.near(self.batches, self.shards)
        return [
            WorkerInfo(a, states[a].host, states[a].threads, sum(near.get(a, {}).values()), near.get(a, {})) for a in workers if a in states
        ]

    def _submit(self, segment: Submit) -> None:
        session, group = self.session, self.session.groups[segment.generation]
        placement = group.order.placement
        batches = self.batches[segment.first : segment.first + segment.steps]
        counts = tuple(self.counts[segment.first : segment.first + segment.steps])
        first = self.base + segment.first
        opens = not group.futures
        graph, deliveries = self.pipeline.deliver(placement, batches, opens)
        # Held until the ranks' tasks depend on them.
        rows = session._submit(graph, [key for delivery in deliveries for key in delivery.keys]) if graph else []
        before = self._source(segment.source) if opens and segment.source.generation != segment.generation else None
        tasks, where = {}, {}
        for rank, delivery in zip(placement.ranks, deliveries, strict=True):
            key = (f"rank-{session.session_id}-{segment.generation}", segment.segment, rank.number)
            order = SegmentSpec(str(key), segment.segment, first, counts, self.state.learning_rate_scale, delivery.input)
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

    def _source(self, held: StateRef) -> Any:
        """Key of the state with which a group begins."""
        if held.generation < 0:
            return self.session._hold(f"state-{self.session.session_id}-{uuid.uuid4().hex[:8]}", self.safe)
        group = self.session.groups[held.generation]
        at_work = self.coordinator.group.workers if self.coordinator.group is not None else ()
        holder = next((w for w in held.workers if w in at_work), held.workers[0])
        return group.futures[held.segment, group.order.placement.workers.index(holder)].key

    def _commit(self, segment: Commit) -> None:
        session, group = self.session, self.session.groups[segment.generation]
        records = session.records.pop((segment.generation, segment.segment))
        session.step_time = self.coordinator.step_time
        owner = group.order.placement.owners[0]
        sums = np.frombuffer(records[owner].sums).reshape(segment.steps, -1)
        for i, row in enumerate(sums, segment.first):
            if i >= self.reported:  # repeated steps give the same
                self.watch.step(i, row.copy())
        if segment.first + segment.steps > self.reported:
            for record in records.values():
                self._tell_used(segment.first, record.used)
            last, workers = self.base + segment.first + segment.steps, group.order.placement.workers
            self.watch.spent([StepTimes(workers[r], r, last, *record.times) for r, record in sorted(records.items()) if any(record.times)])
        self.reported = max(self.reported, segment.first + segment.steps)
        for old in [k for k in group.futures if k[0] < segment.segment]:
            group.futures.pop(old).release()
        for generation in [n for n in session.groups if n < segment.generation]:
            self._forget(generation)
        session.client.loop.add_callback(forget_sent, session.client.scheduler_comm)

    def _tell_used(self, first: int, used: Mapping[str, bytes]) -> None:
        rows = np.frombuffer(used["rows"], "<i8")
        at = 0
        for i, shard, count in np.frombuffer(used["cuts"], "<i4").reshape(-1, 3).tolist():
            if first + i >= self.reported:
                self.watch.used(first + i, shard, rows[at : at + count])
            at += count

    def _fetch(self, held: StateRef) -> State | None:
        """A committed state from any holder; None if there is none."""
        group = self.session.groups[held.generation]
        for worker in held.workers:
            if worker not in self.session.workers:
                continue
            state = self._receive(group.futures[held.segment, group.order.placement.workers.index(worker)], worker)
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
        seconds = ANSWER * 2**self.lost  # a large state may just take long
        for again in (True, False):
            try:
                answer = client.sync(client.scheduler.gather, keys=[future.key], callback_timeout=seconds)
            except Exception as error:
                self.reports.take(self.session.look(0.0))  # waits for the scheduler, if it did not answer
                self.why_lost = f"it did not come from {worker} within {seconds:g} s: {type(error).__name__}: {error}"
                if worker not in self.session.workers or not again:
                    break
            else:
                self.why_lost = f"{worker} does not hold it any more"
                return answer["data"][future.key] if answer["status"] == "OK" else None
        self.watch.event(f"a state was lost: {self.why_lost}", "state lost", (worker,))
        return None

    def _finish(self, held: StateRef) -> tuple[State, int] | None:
        state: State | None = self.safe if held.generation < 0 else self._fetch(held)
        if state is None:
            self.lost += 1
            if self.lost >= self.coordinator.policy.failures:
                raise ClusterError(
                    f"the state of step {self.base + held.step} was computed {self.lost} times and no worker has it; the last "
                    f"time: {self.why_lost}. Look at the workers' logs; go on from the last checkpoint with "
                    "fit(..., checkpoint=..., resume=True)."
                )
            self.coordinator.lost()
            if self.coordinator.group is not None:
                self.coordinator.failed(self.coordinator.group.generation, f"no worker has the state any more: {self.why_lost}")
            return None
        current = self.coordinator.group
        if current is not None and held.generation == current.generation:
            self.session.reached = Reached(state, self.coordinator, self.following)
        return state, held.step

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

    def abandon_all(self, why: str) -> None:
        """End all groups of this session."""
        for generation, group in list(self.session.groups.items()):
            with suppress(ClusterError):  # the first error says more
                self.session.call("end", session=self.session.session_id, group=group.order.name, why=why)
            self._forget(generation)
