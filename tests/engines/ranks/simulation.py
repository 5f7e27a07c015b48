"""A cluster in one thread: workers, messages, a scheduler and a driver, with every move drawn at random.

The protocol under test is the real one (`Schedule`, `Coordinator`, `place`, `additions`); memory, network and clock are simulated.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from dagtrain.engines.ranks.actions import Abandon, Begin, Commit, Fetch, GiveUp, Held, Inquire, Probe, SegmentPolicy, Submit
from dagtrain.engines.ranks.coordinator import Coordinator
from dagtrain.engines.ranks.placement import Placement, StepShape, WorkerInfo, place
from dagtrain.engines.ranks.schedule import Compute, Copy, Post, Reduce, SquaredNorm, TakeSnapshot, Update, Wait, Weigh
from dagtrain.engines.ranks.subtrees import additions, under
from dagtrain.transport import Phase
from tests.engines.ranks.simulated_rank import SimRank, State, View, gradient, mix, samples, trajectory, tree_sum, weight

SILENCE = 10.0


class World:
    """The state of the whole cluster, and its random moves.

    Parameters
    ----------
    seed
        Of the draws.
    shards, blocks, norms, steps, weights, workers
        Shape and number of the steps; number of workers at the beginning.
    """

    def __init__(self, seed: int, shards: int = 8, blocks: int = 4, norms: int = 0, steps: int = 30, workers: int = 3, weights: int = 0):
        self.draw = random.Random(seed)
        self.shape = StepShape(shards, (1,) * blocks, norms=norms, slots=("m",), weights=weights)
        self.first: State = (tuple(range(1, blocks + 1)), (0,) * blocks)
        self.steps = steps
        self.now = 0.0
        self.born = 0
        self.alive: dict[str, bool] = {}
        """Worker → whether it runs; one that is stopped is removed after `SILENCE` seconds."""
        self.seen_alive: dict[str, float] = {}
        self.leaving: set[str] = set()
        self.paused: set[str] = set()
        self.busy: set[str] = set()
        """Workers whose threads run other tasks: like paused ones, they begin no segment, but continue one that has begun."""
        self.cut: set[frozenset[str]] = set()
        self.ranks: dict[tuple[str, int], SimRank] = {}
        self.memory: dict[int, list[SimRank]] = {}
        """Group → its ranks, also those whose worker was killed: peers that mapped their memory can still read it."""
        self.snapshots: dict[tuple[str, int, int], State] = {}
        """(worker, group, segment) → state."""
        self.fetched = self.first
        """The state that the driver has."""
        self.expected = [self.first]
        """States of a run without faults, as far as they were needed."""
        self.mail: list[tuple[Any, ...]] = []
        """Posts that have not arrived yet; those between two ranks arrive in order, except duplicates."""
        self.news: deque[tuple[Any, ...]] = deque()
        """Reports that the driver has not read yet."""
        policy = SegmentPolicy(start=20, news=60, workers=1e9, cut=30, failures=12, ahead=3, segment=1.0, most=4)
        self.coordinator = Coordinator(0.0, policy)
        self.coordinator.train(Held(0), steps, shards)
        self.placements: dict[int, Placement] = {}
        self.result: State | None = None
        self.error = ""
        self.commits: list[tuple[int, int]] = []
        self.abandoned: list[str] = []
        """Reasons for which groups were abandoned."""
        self.moves = 0
        for _ in range(workers):
            self.join()

    # ---- faults

    def join(self) -> None:
        name = f"w{self.born:02d}"
        self.born += 1
        self.alive[name], self.seen_alive[name] = True, self.now

    def kill(self, worker: str) -> None:
        self.alive.pop(worker, None)
        for marks in (self.leaving, self.paused, self.busy):
            marks.discard(worker)
        self.snapshots = {key: state for key, state in self.snapshots.items() if key[0] != worker}
        for key in [k for k in self.ranks if k[0] == worker]:
            rank = self.ranks.pop(key)
            self._end_group(rank.group)

    def stop(self, worker: str) -> None:
        self.alive[worker] = False

    def wake(self, worker: str) -> None:
        if worker in self.alive:
            self.alive[worker] = True

    def leave(self, worker: str) -> None:
        self.leaving.add(worker)

    def pause(self, worker: str) -> None:
        self.paused.add(worker)

    def occupy(self, worker: str) -> None:
        self.busy.add(worker)

    def free(self, worker: str) -> None:
        self.paused.discard(worker)
        self.busy.discard(worker)

    def part(self, a: str, b: str) -> None:
        """Cut the link between two workers; posts that have not arrived are lost."""
        self.cut.add(frozenset((a, b)))
        self.mail = [m for m in self.mail if frozenset((m[1], m[2])) not in self.cut]

    def mend(self) -> None:
        self.cut.clear()

    def _end_group(self, group: int) -> None:
        for rank in self.ranks.values():
            if rank.group == group:
                rank.ended = True

    # ---- moves

    def run(self, moves: int) -> None:
        """Do this number of moves, each drawn from the possible ones."""
        for _ in range(moves):
            if self.result is not None or self.error:
                return
            self.moves += 1
            possible = [rank for rank in self.ranks.values() if self.alive.get(rank.worker) and not rank.ended and self._can_move(rank)]
            kinds = ["tick", "drive", "drive"]
            if self.mail:
                kinds += ["mail"] * 6
            if possible:
                kinds += ["rank"] * 12
            match self.draw.choice(kinds):
                case "rank":
                    self._move(self.draw.choice(possible))
                case "mail":
                    self._deliver()
                case "tick":
                    busy = bool(possible or self.mail or self.news)
                    self._tick(self.draw.choice([0.001, 0.01] if busy else [0.1, 1.0, 5.0]))
                case "drive":
                    self._drive()

    def finish(self) -> None:
        """Run to the end without further faults, with a worker that is free, and all links whole."""
        if not any(self.alive.values()):
            self.join()
        self.mend()
        if not self.alive.keys() - self.paused - self.busy:
            self.free(min(self.alive))
        limit = self.moves + 200_000
        while self.result is None and not self.error:
            self.run(500)
            assert self.moves < limit, f"no end in sight: {self._describe()}"

    def _describe(self) -> str:
        ranks = [
            (k, rank.schedule.segment, rank.schedule.step, rank.schedule.waiting, rank.schedule.missing) for k, rank in self.ranks.items()
        ]
        return f"committed {self.coordinator.committed}, group {self.coordinator.group}, ranks {ranks}"

    def _can_move(self, rank: SimRank) -> bool:
        begins = bool(rank.queue) and rank.worker not in self.paused | self.busy
        return (bool(rank.current) or begins) and not rank.schedule.missing

    def _tick(self, seconds: float) -> None:
        self.now += seconds
        for worker, runs in self.alive.items():
            if runs:
                self.seen_alive[worker] = self.now
        for worker in [w for w in self.alive if self.now - self.seen_alive[w] > SILENCE]:
            self.kill(worker)
        # The kernel notices a link that is cut with a delay.
        for rank in list(self.ranks.values()):
            if rank.ended or not self.alive.get(rank.worker):
                continue
            for peer in rank.schedule.missing:
                other = rank.placement.workers[peer]
                if frozenset((rank.worker, other)) in self.cut and self.draw.random() < 0.2:
                    self.news.append(("failed", rank.group, f"rank {rank.number} lost rank {peer}", [(rank.worker, other)]))
                    self._end_group(rank.group)
                    break

    def _deliver(self) -> None:
        channels = {(m[1], m[2], m[3]) for m in self.mail}
        channel = self.draw.choice(sorted(channels))
        index = next(i for i, m in enumerate(self.mail) if (m[1], m[2], m[3]) == channel)
        message = self.mail[index]
        if self.draw.random() < 0.15:  # it will arrive once more
            self.mail.append(message)
        else:
            self.mail.pop(index)
        group, _, target, phase, sender, sequence, content = message
        rank = self.ranks.get((target, group))
        if rank is None or rank.ended:  # of another group, or too late
            return
        refused = rank.schedule.refused
        rank.schedule.arrived(phase, (sender,), *sequence)
        if rank.schedule.refused == refused and content is not None:
            rank.received[sender, phase] = content

    def _move(self, rank: SimRank) -> None:
        step = rank.schedule
        if rank.current is None:
            rank.current = rank.queue.popleft()
            self.news.append(("begun", rank.group, rank.current.segment, rank.number))
            if step.segment < 0 and not self._load(rank):
                return
            step.begin(rank.current.segment, rank.current.first, rank.current.steps)
        instruction = step.next()
        if instruction is None:
            if not step.running and not step.missing:
                self.news.append(("done", rank.group, step.segment, rank.number))
                rank.current = None
            return
        self._execute(rank, instruction)

    def _state_of(self, ref: Held) -> State | None:
        """The state that this refers to; None if all its holders are lost."""
        if ref.generation < 0:
            return self.fetched
        keys = [(worker, ref.generation, ref.segment) for worker in ref.workers]
        return next((self.snapshots[key] for key in keys if key in self.snapshots), None)

    def _load(self, rank: SimRank) -> bool:
        state = self._state_of(rank.source)
        if state is None:
            self.news.append(("failed", rank.group, "the state is gone"))
            self._end_group(rank.group)
            return False
        rank.parameters, rank.slots = list(state[0]), list(state[1])
        return True

    def _execute(self, rank: SimRank, instruction: Any) -> None:
        shape, me = self.shape, rank.placement.ranks[rank.number]
        step = rank.schedule.step
        match instruction:
            case Weigh():
                rank.weights = {s: weight(step, s) for s in me.shards}
            case Compute():
                counts = samples(step, shape.shards)
                mixed = mix(*rank.parameters)
                if shape.weights:
                    weights: dict[int, int] = {}
                    for other in self._group(rank, Phase.ALL_GATHER_WEIGHTS):
                        weights |= other.weights
                    mixed = mix(mixed, tree_sum([weights[s] if n else None for s, n in enumerate(counts)]))
                for root, shards in under(me.roots, me.shards, shape.shards).items():
                    present = [s for s in shards if counts[s]]
                    rank.partial[root] = [self._sum({s: gradient(mixed, step, s, b) for s in present}) for b in range(len(shape.blocks))]
            case Post(phase, peers, round):
                for peer in peers:
                    target = rank.placement.workers[peer]
                    if frozenset((rank.worker, target)) not in self.cut:
                        sequence = (rank.schedule.segment, step, round)
                        content = None if self._share_memory(rank.worker, target) else rank.view()
                        self.mail.append((rank.group, rank.worker, target, phase, rank.number, sequence, content))
            case Reduce():
                counts = samples(step, shape.shards)
                rank.norms = []
                for block in me.blocks:
                    sums = {
                        root: owner.partial[root][block]
                        for owner in self._group(rank, Phase.REDUCE_SCATTER)
                        for root, shards in under(
                            rank.placement.ranks[owner.number].roots, rank.placement.ranks[owner.number].shards, shape.shards
                        ).items()
                        if any(counts[s] for s in shards)
                    }
                    rank.totals[block] = self._sum(sums)
            case SquaredNorm(k):
                self._finish_norms(rank, k)
                for block in me.blocks:
                    rank.squared_norms[k][block] = mix(rank.totals[block], k, *rank.norms)
            case Update():
                self._finish_norms(rank, shape.norms)
                for block in me.blocks:
                    before, slot, total = rank.parameters[block], rank.slots[block], rank.totals[block]
                    rank.parameters[block] = mix(before, slot, total, step, *rank.norms)
                    rank.slots[block] = mix(slot, total, *rank.norms)
            case Copy(phase, peers):
                for other in self._group(rank, phase):
                    if other.number in peers:
                        for block in rank.placement.ranks[other.number].blocks:
                            if phase is Phase.ALL_GATHER:
                                rank.parameters[block] = other.parameters[block]
                            else:
                                rank.slots[block] = other.slots[block]
            case TakeSnapshot():
                self.snapshots[rank.worker, rank.group, rank.schedule.segment] = (tuple(rank.parameters), tuple(rank.slots))
            case Wait():
                pass

    def _share_memory(self, a: str, b: str) -> bool:
        """Whether two workers are on one host."""
        return int(a[1:]) % 4 // 2 == int(b[1:]) % 4 // 2

    def _group(self, rank: SimRank, phase: Phase) -> list[View | SimRank]:
        """All ranks of a group, as one of them sees them."""
        views: list[View | SimRank] = []
        for other in self.memory[rank.group]:
            if other is rank or self._share_memory(rank.worker, other.worker):
                views.append(other)
            elif (other.number, phase) in rank.received:
                views.append(rank.received[other.number, phase])
        return views

    def _sum(self, sums: dict[int, int]) -> int:
        """The tree's sum of these, by shard or root; 0 of none."""
        for add in additions(sorted(sums), self.shape.shards) if sums else ():
            sums[add.left] = mix(sums[add.left], sums.pop(add.right))
        return next(iter(sums.values()), 0)

    def _finish_norms(self, rank: SimRank, count: int) -> None:
        while len(rank.norms) < count:
            k = len(rank.norms)
            squared_norms = [0] * len(self.shape.blocks)
            for owner in self._group(rank, Phase.ALL_REDUCE_NORM):
                for block in rank.placement.ranks[owner.number].blocks:
                    squared_norms[block] = owner.squared_norms[k][block]
            rank.norms.append(mix(*squared_norms))

    # ---- the driver

    def _drive(self) -> None:
        coordinator = self.coordinator
        coordinator.tick(self.now)
        for _ in range(self.draw.randint(0, len(self.news))):
            kind, group, *rest = self.news.popleft()
            if kind == "probe":
                apart = [pair for pair in rest[0] if frozenset(pair) in self.cut]
                coordinator.probed([pair for pair in rest[0] if pair not in apart], apart)
            elif kind == "begun":
                coordinator.begun(group, *rest)
            elif kind == "done":
                coordinator.reported(group, *rest, seconds=self.draw.choice([0.0, 0.5, 2.0]))
            else:
                coordinator.failed(group, *rest)
        coordinator.workers(self.alive, self.leaving, None, self.paused, dict.fromkeys(self.busy, "others' tasks"))
        for action in coordinator.act():
            self._act(action)
        if coordinator.finished and not self.error:
            self.result = self._state_of(coordinator.committed)
            if self.result is None:
                self.go_on()

    def go_on(self) -> None:
        """Whoever takes the commits drops what ran ahead, and goes on from the last one, or from the state that it has."""
        coordinator, held = self.coordinator, self.coordinator.committed
        state = self._state_of(held)
        if state is None:
            held = Held(coordinator.safe.step)
        else:
            self.fetched = state
        if coordinator.group is not None and (state is None or coordinator.group.under_way):
            self._act(coordinator.drop())
        coordinator.train(held, self.steps, self.shape.shards)

    def _act(self, action: Any) -> None:
        match action:
            case Begin(group, workers):
                placement = place(self.shape, [WorkerInfo(w) for w in workers])
                self.coordinator.placed(group, placement.workers)
                self.placements[group] = placement
                self.memory[group] = []
            case Submit(generation=group, segment=segment):
                placement = self.placements[group]
                for rank in placement.ranks:
                    if segment == 0:
                        new = SimRank(rank.worker, group, rank.number, placement, action.source)
                        self.memory[group].append(new)
                        if rank.worker in self.alive:
                            self.ranks[rank.worker, group] = new
                        else:
                            self._end_group(group)
                    running = self.ranks.get((rank.worker, group))
                    if running is not None:
                        running.queue.append(action)
            case Commit(group, segment, first, steps):
                self.commits.append((first, steps))
                for worker in self.coordinator.committed.workers:
                    state = self.snapshots.get((worker, group, segment))
                    assert state is not None or worker not in self.alive, "a rank does not hold the committed state"
                    expected = trajectory(self.shape, self.expected, first + steps)[first + steps]
                    assert state is None or state == expected, "a committed state has other bits"
            case Fetch(ref):
                state = self._state_of(ref)
                if state is not None:
                    self.fetched = state
                    self.coordinator.fetched(ref)
            case Probe(pairs):
                self.news.append(("probe", -1, pairs))
            case Inquire(group):
                self.coordinator.inquired(group, (), 0, {})
            case Abandon(group, why):
                self.abandoned.append(why)
                self._end_group(group)
                for key in [k for k in self.ranks if k[1] == group]:
                    del self.ranks[key]
            case GiveUp(why):
                self.error = why
