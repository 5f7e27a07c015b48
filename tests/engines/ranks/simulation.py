"""A cluster in one thread: workers, communicator, a scheduler and a driver, whose every next move is drawn by chance.

The protocol under test is the real one (`Schedule`, `Coordinator`, `place`, `additions`); memory, network and clock are pretended. Numbers
are combined by a function that is neither commutative nor associative, so that any other order of sums, or any value that was read too
early or too late, gives another result.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from dagtrain.engines.ranks.actions import Abandon, Begin, Commit, Done, Fetch, GiveUp, Inquire, Probe, SegmentPolicy, StateRef, Submit
from dagtrain.engines.ranks.coordinator import Coordinator
from dagtrain.engines.ranks.placement import Placement, StepShape, WorkerInfo, place
from dagtrain.engines.ranks.schedule import Compute, Copy, Post, Reduce, Schedule, SquaredNorm, TakeSnapshot, Update, Wait
from dagtrain.engines.ranks.subtrees import additions, under
from dagtrain.step.program import tree_levels
from dagtrain.transport import Phase

SILENCE = 10.0

State = tuple[tuple[int, ...], tuple[int, ...]]
"""Parameters and slots, a number for each block."""


def mix(*numbers: int) -> int:
    return hash(numbers)  # of integers: the same in every process


def gradient(parameters: int, step: int, shard: int, block: int) -> int:
    """From all parameters mixed."""
    return mix(parameters, step, shard, block)


def samples(step: int, shards: int) -> tuple[int, ...]:
    """Samples of each shard: every fifth batch is ragged, and its last shards are empty."""
    return tuple(int(s < 1 + step % shards) for s in range(shards)) if step % 5 == 4 else (1,) * shards


def reference(shape: StepShape, state: State, steps: int) -> State:
    """The same by a loop, with the tree written out."""
    return trajectory(shape, [state], steps)[steps]


def trajectory(shape: StepShape, states: list[State], steps: int) -> list[State]:
    """States after 0, 1, … steps, at least so many as are asked for; those that are missing are appended."""
    levels = list(tree_levels(shape.shards))
    for step in range(len(states) - 1, steps):
        parameters, slots = states[-1]
        seen = mix(*parameters)
        counts = samples(step, shape.shards)
        totals = []
        for block in range(len(shape.blocks)):
            sums: list[int | None] = [gradient(seen, step, s, block) if counts[s] else None for s in range(shape.shards)]
            for level in levels:
                for left, right in level:
                    a, b = sums[left], sums[right]
                    sums[left] = b if a is None else a if b is None else mix(a, b)
            assert sums[0] is not None
            totals.append(sums[0])
        norms: list[int] = []
        for k in range(shape.norms):
            norms.append(mix(*(mix(t, k, *norms) for t in totals)))
        states.append(
            (
                tuple(mix(p, s, t, step, *norms) for p, s, t in zip(parameters, slots, totals, strict=True)),
                tuple(mix(s, t, *norms) for s, t in zip(slots, totals, strict=True)),
            )
        )
    return states


@dataclass
class View:
    """A rank's memory as another rank sees it."""

    number: int
    partial: dict[int, list[int]]
    parameters: list[int]
    slots: list[int]
    squares: list[list[int]]


@dataclass
class SimRank:
    """A rank with its memory, which its peers on the same host read in place."""

    worker: str
    group: int
    number: int
    placement: Placement
    source: StateRef
    schedule: Schedule = field(init=False)
    queue: deque[Submit] = field(default_factory=deque)
    current: Submit | None = None
    partial: dict[int, list[int]] = field(default_factory=dict)
    parameters: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    squares: list[list[int]] = field(default_factory=list)
    totals: dict[int, int] = field(default_factory=dict)
    norms: list[int] = field(default_factory=list)
    ended: bool = False
    received: dict[tuple[int, Phase], View] = field(default_factory=dict)
    """What came over sockets: a copy made when it was posted."""

    def view(self) -> View:
        """What a peer sees of it now."""
        squares = [list(s) for s in self.squares]
        return View(self.number, {r: list(v) for r, v in self.partial.items()}, list(self.parameters), list(self.slots), squares)

    def __post_init__(self) -> None:
        self.schedule = Schedule(self.placement, self.number)
        shape = self.placement.shape
        self.squares = [[0] * len(shape.blocks) for _ in range(shape.norms)]


class World:
    """Everything, and chance.

    Parameters
    ----------
    seed
        Of the draws.
    shards, blocks, norms, steps
        The step, and how many of them.
    workers
        How many at first.
    """

    def __init__(self, seed: int, shards: int = 8, blocks: int = 4, norms: int = 0, steps: int = 30, workers: int = 3) -> None:
        self.draw = random.Random(seed)
        self.shape = StepShape(shards, (1,) * blocks, norms=norms, slots=("m",))
        self.first: State = (tuple(range(1, blocks + 1)), (0,) * blocks)
        self.steps = steps
        self.now = 0.0
        self.born = 0
        self.alive: dict[str, bool] = {}
        """Worker → whether it runs; one that is stopped is there until it was silent for too long."""
        self.seen_alive: dict[str, float] = {}
        self.leaving: set[str] = set()
        self.paused: set[str] = set()
        self.busy: set[str] = set()
        """Workers whose threads others have taken: like those that are paused, they begin no segment, and go on with one that is begun."""
        self.cut: set[frozenset[str]] = set()
        self.ranks: dict[tuple[str, int], SimRank] = {}
        self.kept: dict[tuple[str, int, int], State] = {}
        self.safe = self.first
        self.wanted = [self.first]
        """Of a run without any mishap, as far as somebody asked."""
        self.mail: list[tuple[Any, ...]] = []
        """Posts on their way; those between two ranks arrive in order, but for duplicates."""
        self.news: deque[tuple[Any, ...]] = deque()
        """Reports on their way to the driver."""
        self.coordinator = Coordinator(
            steps, shards, 0.0, SegmentPolicy(start=20, news=60, workers=1e9, cut=30, failures=12, ahead=3, segment=1.0, most=4)
        )
        self.placements: dict[int, Placement] = {}
        self.result: State | None = None
        self.error = ""
        self.commits: list[tuple[int, int]] = []
        self.abandoned: list[str] = []
        """Why groups were given up."""
        self.moves = 0
        for _ in range(workers):
            self.join()

    # ---- what can befall it

    def join(self) -> None:
        name = f"w{self.born:02d}"
        self.born += 1
        self.alive[name], self.seen_alive[name] = True, self.now

    def kill(self, worker: str) -> None:
        self.alive.pop(worker, None)
        for marks in (self.leaving, self.paused, self.busy):
            marks.discard(worker)
        self.kept = {key: state for key, state in self.kept.items() if key[0] != worker}
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
        """Cut the link between two workers; what is on its way is lost."""
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
        """Some moves, each drawn from those that are possible."""
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
        """Let it come to its end without further mishap, workers enough, and links whole."""
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
        # A link that is cut is noticed by the kernel after some time.
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
        communicator = {(m[1], m[2], m[3]) for m in self.mail}
        link = self.draw.choice(sorted(communicator))
        at = next(i for i, m in enumerate(self.mail) if (m[1], m[2], m[3]) == link)
        message = self.mail[at]
        if self.draw.random() < 0.15:  # a duplicate stays behind
            self.mail.append(message)
        else:
            self.mail.pop(at)
        group, _, target, phase, sender, stamp, content = message
        rank = self.ranks.get((target, group))
        if rank is None or rank.ended:  # of another group, or too late
            return
        refused = rank.schedule.refused
        rank.schedule.arrived(phase, (sender,), *stamp)
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
        todo = step.next()
        if todo is None:
            if not step.running and not step.missing:
                self.news.append(("done", rank.group, step.segment, rank.number))
                rank.current = None
            return
        self._obey(rank, todo)

    def _load(self, rank: SimRank) -> bool:
        held = rank.source
        state = (
            self.safe
            if held.generation < 0
            else next(
                (self.kept[w, held.generation, held.segment] for w in held.workers if (w, held.generation, held.segment) in self.kept), None
            )
        )
        if state is None:
            self.news.append(("failed", rank.group, "the state is gone"))
            self._end_group(rank.group)
            return False
        rank.parameters, rank.slots = list(state[0]), list(state[1])
        return True

    def _obey(self, rank: SimRank, todo: Any) -> None:
        shape, me = self.shape, rank.placement.ranks[rank.number]
        step = rank.schedule.step
        match todo:
            case Compute():
                counts = samples(step, shape.shards)
                for root, shards in under(me.roots, me.shards, shape.shards).items():
                    there = [s for s in shards if counts[s]]
                    rank.partial[root] = [self._sum(mix(*rank.parameters), step, there, b) for b in range(len(shape.blocks))]
            case Post(phase, peers, turn):
                for peer in peers:
                    target = rank.placement.workers[peer]
                    if frozenset((rank.worker, target)) not in self.cut:
                        stamp = (rank.schedule.segment, step, turn)
                        content = None if self._share_memory(rank.worker, target) else rank.view()
                        self.mail.append((rank.group, rank.worker, target, phase, rank.number, stamp, content))
            case Reduce():
                counts = samples(step, shape.shards)
                rank.norms = []
                for block in me.blocks:
                    found = {
                        root: owner.partial[root][block]
                        for owner in self._group(rank, Phase.REDUCE_SCATTER)
                        for root, shards in under(
                            rank.placement.ranks[owner.number].roots, rank.placement.ranks[owner.number].shards, shape.shards
                        ).items()
                        if any(counts[s] for s in shards)
                    }
                    adds = additions(sorted(found), shape.shards)
                    for add in adds:
                        found[add.left] = mix(found[add.left], found.pop(add.right))
                    (rank.totals[block],) = found.values()
            case SquaredNorm(k):
                self._take_norms(rank, k)
                for block in me.blocks:
                    rank.squares[k][block] = mix(rank.totals[block], k, *rank.norms)
            case Update():
                self._take_norms(rank, shape.norms)
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
                self.kept[rank.worker, rank.group, rank.schedule.segment] = (tuple(rank.parameters), tuple(rank.slots))
            case Wait():
                pass

    def _share_memory(self, a: str, b: str) -> bool:
        """Workers with numbers of the same half live on one host."""
        return int(a[1:]) % 4 // 2 == int(b[1:]) % 4 // 2

    def _group(self, rank: SimRank, phase: Phase) -> list[View | SimRank]:
        """All ranks of a group, as one of them sees them; the memory of one that was killed can still be read by those who mapped it."""
        found: list[View | SimRank] = []
        for other in self.memory[rank.group]:
            if other is rank or self._share_memory(rank.worker, other.worker):
                found.append(other)
            elif (other.number, phase) in rank.received:
                found.append(rank.received[other.number, phase])
        return found

    def _sum(self, parameters: int, step: int, shards: list[int], block: int) -> int:
        if not shards:
            return 0
        sums = {s: gradient(parameters, step, s, block) for s in shards}
        for add in additions(shards, self.shape.shards):
            sums[add.left] = mix(sums[add.left], sums.pop(add.right))
        (found,) = sums.values()
        return found

    def _take_norms(self, rank: SimRank, count: int) -> None:
        while len(rank.norms) < count:
            k = len(rank.norms)
            squares = [0] * len(self.shape.blocks)
            for owner in self._group(rank, Phase.ALL_REDUCE_NORM):
                for block in rank.placement.ranks[owner.number].blocks:
                    squares[block] = owner.squares[k][block]
            rank.norms.append(mix(*squares))

    # ---- the driver

    memory: dict[int, list[SimRank]]

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

    def _act(self, action: Any) -> None:
        match action:
            case Begin(group, workers):
                placement = place(self.shape, [WorkerInfo(w) for w in workers])
                self.coordinator.placed(group, placement.workers)
                self.placements[group] = placement
                self.memory = {} if not hasattr(self, "memory") else self.memory
                self.memory[group] = []
            case Submit(group=group, segment=segment):
                placement = self.placements[group]
                for rank in placement.ranks:
                    if segment == 0:
                        made = SimRank(rank.worker, group, rank.number, placement, action.source)
                        self.memory[group].append(made)
                        if rank.worker in self.alive:
                            self.ranks[rank.worker, group] = made
                        else:
                            self._end_group(group)
                    there = self.ranks.get((rank.worker, group))
                    if there is not None:
                        there.queue.append(action)
            case Commit(group, segment, first, steps):
                self.commits.append((first, steps))
                held = self.coordinator.committed
                for worker in held.workers:
                    state = self.kept.get((worker, group, segment))
                    assert state is not None or worker not in self.alive, "a rank does not hold what was committed"
                    wanted = trajectory(self.shape, self.wanted, first + steps)[first + steps]
                    assert state is None or state == wanted, "a committed state has other bits"
            case Fetch(held):
                state = next(
                    (self.kept[w, held.generation, held.segment] for w in held.workers if (w, held.generation, held.segment) in self.kept),
                    None,
                )
                if state is not None:
                    self.safe = state
                    self.coordinator.fetched(held)
            case Probe(pairs):
                self.news.append(("probe", -1, pairs))
            case Inquire(group):
                self.coordinator.inquired(group, (), 0, {})
            case Abandon(group, why):
                self.abandoned.append(why)
                self._end_group(group)
                for key in [k for k in self.ranks if k[1] == group]:
                    del self.ranks[key]
            case Done(held):
                state = (
                    self.safe
                    if held.generation < 0
                    else next(
                        (
                            self.kept[w, held.generation, held.segment]
                            for w in held.workers
                            if (w, held.generation, held.segment) in self.kept
                        ),
                        None,
                    )
                )
                if state is None:
                    self.coordinator.lost()
                    if self.coordinator.group is not None:
                        self.coordinator.failed(self.coordinator.group.generation, "no worker has the state")
                else:
                    self.result = state
            case GiveUp(why):
                self.error = why
