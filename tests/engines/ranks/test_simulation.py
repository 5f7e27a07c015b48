"""The protocol under chance: any interleaving; workers that die, stop, pause, leave, join; links that are cut; the same result."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from dagtrain.engines.ranks import schedule
from dagtrain.engines.ranks.coordinator import Coordinator
from dagtrain.transport import Phase
from tests.engines.ranks.simulated_rank import reference
from tests.engines.ranks.simulation import World

pytestmark = pytest.mark.slow


def check(world: World) -> None:
    world.finish()
    assert not world.error, world.error
    assert world.result == reference(world.shape, world.first, world.steps)


def many(seeds: range, steps: int, norms: int, weights: int = 0) -> None:
    for seed in seeds:
        check(World(seed, shards=4, blocks=4, norms=norms, steps=steps, workers=3, weights=weights))


def times(examples: int, thorough: bool) -> settings:
    return settings(max_examples=10 * examples if thorough else examples, deadline=None, suppress_health_check=list(HealthCheck))


def test_any_interleaving_gives_the_same(thorough: bool) -> None:
    @times(60, thorough)
    @given(
        seed=st.integers(0, 2**32),
        shards=st.integers(1, 9),
        blocks=st.integers(1, 6),
        norms=st.integers(0, 2),
        workers=st.integers(1, 6),
        weights=st.integers(0, 1),
    )
    def run(seed: int, shards: int, blocks: int, norms: int, workers: int, weights: int) -> None:
        world = World(seed, shards, blocks, norms, 12, workers, weights)
        check(world)
        assert not world.abandoned, "nothing has happened"

    run()


@pytest.mark.parametrize("how", ["pause", "occupy"])
def test_a_worker_that_begins_nothing_any_more_does_not_hold_up_the_others(how: str) -> None:
    for seed in range(20):
        world = World(seed, shards=4, blocks=4, steps=30, workers=3)
        world.run(40 * seed)
        getattr(world, how)("w01")
        check(world)
        assert len(world.abandoned) <= 1, world.abandoned


class Mishaps(RuleBasedStateMachine):
    """Whatever befalls a cluster, in any order, as long as some worker comes back in the end."""

    @initialize(
        seed=st.integers(0, 2**32), shards=st.integers(1, 8), norms=st.integers(0, 1), workers=st.integers(1, 4), weights=st.integers(0, 1)
    )
    def begin(self, seed: int, shards: int, norms: int, workers: int, weights: int) -> None:
        self.world = World(seed, shards, 3, norms, 40, workers, weights)
        self.mishaps = 0

    @rule(moves=st.integers(1, 400))
    def time_goes_by(self, moves: int) -> None:
        self.world.run(moves)

    def _one(self, index: int) -> str | None:
        workers = sorted(self.world.alive)
        return workers[index % len(workers)] if workers else None

    @precondition(lambda self: self.mishaps < 6)
    @rule(index=st.integers(0, 9), how=st.sampled_from(["kill", "stop", "leave", "pause", "occupy"]))
    def a_worker_goes(self, index: int, how: str) -> None:
        worker = self._one(index)
        if worker is not None:
            self.mishaps += 1
            getattr(self.world, how)(worker)

    @rule(index=st.integers(0, 9))
    def a_worker_wakes(self, index: int) -> None:
        worker = self._one(index)
        if worker is not None:
            self.world.wake(worker)
            self.world.free(worker)

    @precondition(lambda self: len(self.world.alive) < 6)
    @rule()
    def a_worker_joins(self) -> None:
        self.world.join()

    @precondition(lambda self: self.mishaps < 6)
    @rule(a=st.integers(0, 9), b=st.integers(0, 9))
    def a_link_is_cut(self, a: int, b: int) -> None:
        first, second = self._one(a), self._one(b)
        if first is not None and second is not None and first != second:
            self.mishaps += 1
            self.world.part(first, second)

    @rule()
    def a_callback_changes_the_training(self) -> None:
        if self.world.result is None:
            self.world.go_on()

    @rule()
    def links_are_mended(self) -> None:
        self.world.mend()

    @invariant()
    def steps_are_committed_in_order(self) -> None:
        if hasattr(self, "world"):
            assert all(first >= 0 and steps > 0 for first, steps in self.world.commits)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            for worker in list(self.world.alive):
                self.world.wake(worker)
            check(self.world)


@pytest.mark.timeout(600)
def test_any_mishaps_give_the_same(thorough: bool) -> None:
    run_state_machine_as_test(Mishaps, settings=settings(times(25, thorough), stateful_step_count=20))


@pytest.mark.parametrize("phase", ["REDUCE_SCATTER", "ALL_GATHER", "ALL_REDUCE_NORM", "ALL_GATHER_OPTIMIZER", "ALL_GATHER_WEIGHTS"])
def test_a_barrier_that_is_left_out_is_seen(monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    """The simulation is worth something only if it fails when the protocol is broken."""
    whole = schedule.instructions

    def without(placement: Any, rank: int) -> Any:
        return tuple(
            tuple(i for i in script if not (isinstance(i, schedule.Wait) and i.phase is Phase[phase])) for script in whole(placement, rank)
        )

    monkeypatch.setattr(schedule, "instructions", without)
    with pytest.raises((AssertionError, schedule.ScheduleError, KeyError)):
        many(range(200), steps=12, norms=1, weights=1)


def test_a_segment_committed_before_all_ranks_have_done_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = Coordinator.reported

    def eager(self: Coordinator, group: int, segment: int, rank: int, seconds: float = 0.0) -> None:
        for each in range(len(self.group.workers) if self.group else 0):
            reported(self, group, segment, each, seconds)

    monkeypatch.setattr(Coordinator, "reported", eager)
    with pytest.raises(AssertionError, match="does not hold the committed state"):
        many(range(100), steps=30, norms=0)
