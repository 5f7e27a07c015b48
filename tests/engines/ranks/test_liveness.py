"""Who is left out, and who is ended: by table, and by a simulation of networks that fail and processes that stop."""

import random

import pytest

from dagtrain.engines.cluster.clocks import AwakeClock
from dagtrain.engines.ranks.liveness import Ask, End, LeaveOut, Liveness

LIMIT, OUTAGE, STEP, BEAT = 10.0, 120.0, 0.5, 0.5


class World:
    """Workers on hosts, of which some are out of the scheduler's reach, stopped, or without a nanny; `told` is what was decided."""

    def __init__(self, hosts):
        self.now = 1e6
        self.clock = AwakeClock(4 * STEP, lambda: self.now)
        self.liveness = Liveness(self.clock.read(), OUTAGE)
        self.liveness.limit = LIMIT
        self.hosts = {worker: host for host, workers in hosts.items() for worker in workers}
        self.cut, self.stopped, self.frozen, self.alone = set(), set(), set(), set()
        self.told, self.waits, self.under_way, self.kills = [], set(), [], []
        for worker, host in self.hosts.items():
            self.liveness.joined(worker, host)
            self.liveness.heard(worker)

    def reached(self, worker):
        return self.hosts[worker] not in self.cut

    def run(self, seconds, until=lambda: False):
        end = self.now + seconds
        while self.now < end and not until():
            self.step()

    def step(self):
        self.now += STEP
        self.liveness.tick(self.clock.read())
        for worker in self.hosts:
            if self.reached(worker) and worker not in self.stopped:
                self.liveness.heard(worker)
        for due, worker in [answer for answer in self.under_way if answer[0] <= self.now]:
            self.under_way.remove((due, worker))
            self.liveness.answered(
                worker,
                self.reached(worker) and worker not in self.stopped,
                self.reached(worker) and worker not in self.frozen | self.alone,
            )
        for verdict in self.liveness.act():
            if isinstance(verdict, Ask):
                self.under_way.append((self.now + verdict.timeout, verdict.worker))
                continue
            self.told.append((type(verdict), verdict.worker))
            if isinstance(verdict, End):
                assert self.reached(verdict.worker), "a nanny that cannot be asked cannot end its worker"
                assert verdict.worker in self.stopped
                self.stopped.discard(verdict.worker)
                self.liveness.left(verdict.worker)
                self.liveness.joined(verdict.worker, self.hosts[verdict.worker])
                self.liveness.heard(verdict.worker)
        self.waits |= {self.liveness.waiting} - {""}


TWO = {"a": ["a1"], "b": ["b1"]}
FOUR = {"a": ["a1", "a2"], "b": ["b1"], "c": ["c1"], "d": ["d1"]}


def test_whoever_is_heard_is_left_in_peace():
    world = World(FOUR)
    world.run(600)
    assert world.told == []


@pytest.mark.parametrize("hosts", [{"a": ["a1"]}, TWO, FOUR], ids=["one", "two", "four"])
@pytest.mark.parametrize("seconds", [15, 40, 100])
def test_an_outage_of_the_scheduler_costs_nothing(hosts, seconds):
    world = World(hosts)
    world.run(20)
    world.cut = set(hosts)
    world.run(seconds)
    assert world.liveness.waiting.startswith("the scheduler has not heard from any worker")
    for host in sorted(hosts):  # one after the other is back
        world.run(3)
        world.cut.discard(host)
    world.run(20)
    assert world.told == []
    assert world.liveness.waiting == ""


def test_an_outage_that_does_not_end_is_not_waited_for_longer_than_its_bound():
    world = World(FOUR)
    world.cut = set(FOUR)
    world.run(OUTAGE + LIMIT - 1)
    assert world.told == []
    world.run(5)
    assert {kind for kind, _ in world.told} == {LeaveOut}
    assert world.liveness.absent == set(world.hosts)
    world.cut = set()
    world.run(2)
    assert world.liveness.absent == set(), "none was taken from the cluster"


def test_a_host_that_is_cut_off_is_left_out_when_its_time_is_over():
    world = World(TWO)
    world.run(20)
    world.cut = {"b"}
    began = world.now
    world.run(60, lambda: bool(world.told))
    assert world.now - began <= LIMIT + 1
    assert world.told == [(LeaveOut, "b1")]
    world.run(600)
    assert world.told == [(LeaveOut, "b1")], "and once"
    world.cut = set()
    world.run(1)
    assert world.liveness.absent == set()


def test_one_host_after_the_other_may_be_cut_off():
    world = World(FOUR)
    for host in "abc":
        world.cut.add(host)
        world.run(40)
    assert world.told == [(LeaveOut, worker) for worker in ("a1", "a2", "b1", "c1")]
    world.cut.add("d")
    world.run(40)
    assert world.liveness.waiting, "it is the only one that was left"


def test_most_hosts_at_once_are_waited_for_a_while():
    world = World(FOUR)
    world.cut = {"b", "c", "d"}
    world.run(LIMIT + 5)
    assert world.told == []
    assert "3 of 4 hosts" in world.liveness.waiting
    world.run(3 * LIMIT)
    assert world.told == [(LeaveOut, worker) for worker in ("b1", "c1", "d1")]


@pytest.mark.parametrize("hosts", [{"a": ["a1"]}, {"a": ["a1", "a2"]}, TWO, FOUR], ids=str)
def test_a_worker_that_stopped_is_ended_by_its_nanny(hosts):
    world = World(hosts)
    world.run(20)
    world.stopped = {"a1"}
    began = world.now
    world.run(60, lambda: bool(world.told))
    assert world.now - began <= LIMIT + 1
    assert world.told == [(End, "a1")]


def test_workers_that_all_stopped_are_ended():
    """Their nannies answer: the network is well."""
    world = World(FOUR)
    world.stopped = set(world.hosts)
    world.run(LIMIT + 2)
    assert sorted(world.told) == sorted((End, worker) for worker in world.hosts)


@pytest.mark.parametrize("how", ["frozen", "alone"])
def test_a_worker_whose_nanny_does_not_answer_is_left_out(how):
    world = World({"a": ["a1", "a2"]})
    world.stopped = {"a1"}
    getattr(world, how).add("a1")
    world.run(LIMIT + 1)
    assert world.told == [(LeaveOut, "a1")]
    world.stopped = set()
    world.run(LIMIT)
    assert world.liveness.absent == set()


def test_a_worker_that_sends_no_heartbeats_but_answers_is_alive():
    world = World({"a": ["a1"]})
    world.liveness.heard = lambda worker: None  # as with a clock that was set back there
    heard = Liveness.heard
    for _ in range(200):
        world.now += STEP
        world.liveness.tick(world.clock.read())
        for verdict in world.liveness.act():
            assert isinstance(verdict, Ask)
            world.liveness.answered(verdict.worker, False, True)
            heard(world.liveness, verdict.worker)


def test_a_nanny_that_failed_to_end_its_worker_is_asked_again():
    world = World(TWO)
    liveness, kinds = world.liveness, []
    for _ in range(80):
        world.now += STEP
        liveness.tick(world.clock.read())
        liveness.heard("b1")
        for verdict in liveness.act():
            if isinstance(verdict, Ask):
                liveness.answered("a1", False, True)
            else:
                kinds.append(type(verdict))
                liveness.stayed("a1")
    assert len(kinds) > 1
    assert set(kinds) == {End}


@pytest.mark.parametrize("new", [True, False])
def test_a_worker_that_sets_itself_up_is_given_time(new):
    """It imports what it needs, and does nothing else meanwhile."""
    world = World(TWO)
    if new:
        world.liveness.left("a1")
        world.liveness.joined("a1", "a")
    else:
        world.liveness.furnished("a1", False)
    world.stopped = {"a1"}
    world.run(LIMIT + 1)
    assert world.told == [(LeaveOut, "a1")]
    world.run(30)
    assert world.told == [(LeaveOut, "a1")]
    world.run(30)
    assert world.told == [(LeaveOut, "a1"), (End, "a1")], "but not for ever"


def test_a_suspended_machine():
    """All that it has on its clock when it wakes is one long moment, in which nobody could speak."""
    world = World(FOUR)
    world.run(20)
    world.now += 3600
    world.run(60)
    assert world.told == []
    assert world.waits == set()


def test_nobody_is_judged_while_nobody_cares():
    world = World(TWO)
    world.liveness.limit = None
    world.cut = {"a"}
    world.run(100)
    assert world.told == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_whatever_fails_in_turn_nobody_is_ended_who_runs_and_all_come_back(seed):
    rng = random.Random(seed)
    world = World(FOUR)
    for _ in range(30):
        what = rng.random()
        if what < 0.3:
            world.cut = set(rng.sample(sorted(FOUR), rng.randint(1, 4)))
        elif what < 0.5:
            world.stopped |= {rng.choice(sorted(world.hosts))}
        elif what < 0.6:
            world.frozen = set(rng.sample(sorted(world.hosts), 2))
        elif what < 0.7:
            world.now += rng.choice([5.0, 1000.0])
        else:
            world.cut = set()
        world.run(rng.uniform(1, 60))
    world.cut, world.frozen = set(), set()
    world.run(4 * LIMIT)
    assert world.liveness.absent == set()
    assert world.stopped == set()
    assert world.liveness.waiting == ""
