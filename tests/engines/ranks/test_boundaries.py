"""Callbacks that change the rate, stop, restore weights, look or raise at any boundary: as a loop that never runs ahead would do it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import dagtrain as dt
from dagtrain.backends.blas import guard
from dagtrain.data import BatchPlan
from dagtrain.engines import InlineEngine, LanesEngine, SchedulerEngine, SegmentPolicy
from dagtrain.engines.inline import StepRunner
from dagtrain.engines.ranks.actions import Commit

EPOCHS, STEPS, SHARDS = 6, 3, 2
X = np.random.default_rng(0).normal(size=(40, 5)).astype("f4")
Y = (X.sum(1) > 0).astype("i8")
ACTIONS = ("rate", "stop", "raise", "restore", "look", "save")


class Place(NamedTuple):
    """After so many steps of training: within the moment of the step, or of the end or the beginning of an epoch."""

    step: int
    moment: str


def places() -> st.SearchStrategy[Place]:
    within = st.builds(Place, st.integers(1, EPOCHS * STEPS), st.just("batch"))
    ends = st.builds(Place, st.integers(1, EPOCHS).map(lambda epoch: epoch * STEPS), st.just("end"))
    begins = st.builds(Place, st.integers(0, EPOCHS - 1).map(lambda epoch: epoch * STEPS), st.just("begin"))
    return st.one_of(ends, begins, within)


PLANS = st.dictionaries(places(), st.sampled_from(ACTIONS), max_size=4)


def new(engine: Any) -> dt.Trainer:
    model = dt.nn.Sequential([dt.nn.BatchNorm(), dt.nn.Dense(6, "tanh"), dt.nn.Dropout(0.2), dt.nn.Dense(2)])
    return dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(0.05), metrics=["accuracy"], shards=SHARDS, engine=engine)


class Undisturbed(NamedTuple):
    """What a plain loop gives: the losses of the epochs, and the fingerprints of all boundaries."""

    losses: list[float]
    fingerprints: dict[Place, str]


def by_a_plain_loop(plan: dict[Place, str]) -> Undisturbed:
    """Each step by itself, and what is planned after it."""
    trainer = new("inline")
    trainer.fit(X, Y, batch_size=16, verbose=0)
    program, batches = trainer.program, BatchPlan(len(X), 16, SHARDS, 0)
    losses, first, fingerprints = [], program.first_state(), dict[Place, str]()
    columns = (X, Y)
    with guard(), StepRunner(program.for_workers(batches.lengths), first.copy(), SHARDS) as runner:

        def act(place: Place) -> None:
            match plan.get(place):
                case "rate":
                    runner.state.learning_rate_scale *= 0.5
                case "restore":
                    runner.state.parameters[...], runner.state.statistics[...] = first.parameters, first.statistics
            fingerprints[place] = runner.state.fingerprint

        for epoch in range(EPOCHS):
            act(Place(epoch * STEPS, "begin"))
            sums = np.zeros(program.sums)
            for i in range(STEPS):
                sums += runner.step([tuple(column[rows] for column in columns) for rows in batches.step(epoch, i)])
                act(Place(epoch * STEPS + i + 1, "batch"))
            losses.append(program.numbers(program.values(tuple(sums.tolist())))["loss"])
            act(Place((epoch + 1) * STEPS, "end"))
    return Undisturbed(losses, fingerprints)


class MineError(Exception):
    """Of the callback."""


class Planned(dt.callbacks.Callback):
    """Does what is planned, and records what it sees."""

    def __init__(self, plan: dict[Place, str], folder: Any) -> None:
        self.plan, self.folder, self.done, self.looked = plan, folder, set[Place](), dict[Place, str]()
        self.first: Any = None
        self.step, self.place = 0, Place(0, "begin")
        self.seen: list[int] = []

    def on_train_begin(self) -> None:
        if self.first is None:
            self.first = self.trainer.state

    def on_epoch_begin(self, epoch: int) -> None:
        self._act("begin")

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        self.step += 1
        self.seen.append(batch)
        self._act("batch")

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        self._act("end")

    def _act(self, moment: str) -> None:
        place, trainer = Place(self.step, moment), self.trainer
        if place in self.done:  # the beginning of an epoch is called again in the next fit
            return
        self.done.add(place)
        self.place = place
        match self.plan.get(place):
            case "rate":
                trainer.learning_rate_scale *= 0.5
            case "restore":
                trainer.restore_weights(self.first)
            case "stop":
                trainer.stop("planned")
            case "raise":
                raise MineError
            case "look":
                self.looked[place] = trainer.state.fingerprint
            case "save":
                trainer.save(self.folder)
                self.looked[place] = dt.load(self.folder, engine="inline").state.fingerprint


def check(engine: Any, plan: dict[Place, str], folder: Any, disturbed: bool = False) -> None:
    """Fit as often as it takes; all is as by the plain loop."""
    wanted, trainer, callback = by_a_plain_loop(plan), new(engine), Planned(plan, folder)
    losses: list[float] = []
    for _ in range(len(plan) + 1):
        left = EPOCHS - trainer.progress.epochs
        try:
            if left:
                trainer.fit(X, Y, batch_size=16, epochs=left, verbose=0, callbacks=[callback])
        except MineError:
            pass
        assert trainer.history is not None
        assert disturbed or {event.kind for event in trainer.history.events} <= {"stop"}
        losses += trainer.history.history.get("loss", []) if left else []
        assert trainer.progress.place == divmod(callback.step, STEPS)
        if callback.step:
            assert trainer.state.step == callback.step
            assert trainer.state.fingerprint == wanted.fingerprints[callback.place]
        trainer.ledger().verify()
    assert losses == wanted.losses
    assert callback.seen == [*range(STEPS)] * EPOCHS
    assert [place for place, found in callback.looked.items() if found != wanted.fingerprints[place]] == []
    assert [e for e in trainer.ledger().epochs if trainer.ledger().complete(e)] == list(range(EPOCHS))


ENGINES = {
    "inline": lambda client: InlineEngine(2),
    "inline, short commits": lambda client: InlineEngine(1, commit=1e-3),
    "lanes": lambda client: LanesEngine(client, SegmentPolicy(most=5)),
    "scheduler": lambda client: SchedulerEngine(client, steps=2, segment=7),
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("engine", "examples"), [("inline", 5), ("inline, short commits", 8), ("lanes", 6), ("scheduler", 3)])
def test_anything_at_any_boundary(threads: Any, engine: str, examples: int, thorough: bool, tmp_path: Any) -> None:
    @given(plan=PLANS)
    @settings(
        max_examples=examples * 10 if thorough else examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def run(plan: dict[Place, str]) -> None:
        check(ENGINES[engine](threads), plan, tmp_path)

    run()


@pytest.mark.combined
def test_with_workers_that_are_killed_in_between(client: Any, kill_at: Any, tmp_path: Any) -> None:
    plan = {
        Place(4, "batch"): "look",
        Place(6, "end"): "rate",
        Place(8, "batch"): "stop",
        Place(12, "end"): "restore",
        Place(15, "end"): "raise",
    }
    for step, others in ((2, 0), (7, 2), (12, 0)):
        kill_at("update", step, others=others)
    check(ENGINES["lanes"](client), plan, tmp_path, disturbed=True)


class Noting(LanesEngine):
    """Something happens whenever steps are committed."""

    def session(self, program: Any, source: Any, exact: bool = False) -> Any:
        session: Any = super().session(program, source, exact)
        act = session.coordinator.act

        def noting() -> Any:
            actions = act()
            if any(isinstance(action, Commit) for action in actions):
                session.note("noted", "it happened")
            return actions

        session.coordinator.act = noting
        return session


def test_steps_that_are_committed_when_something_happens_are_not_lost(threads: Any) -> None:
    """A callback stops at the event that comes with them; the group is beyond them already."""
    trainer, steps = new(Noting(threads, SegmentPolicy(most=2))), 0

    def stop(event: Any) -> None:
        if event.kind == "noted" and trainer.progress.place != began:
            trainer.stop("it happened")

    for _ in range(2):
        began = trainer.progress.place
        trainer.fit(X, Y, batch_size=16, epochs=EPOCHS, verbose=0, callbacks=[dt.callbacks.LambdaCallback(on_event=stop)])
        assert trainer.state.step > steps
        steps = trainer.state.step
        trainer.ledger().verify()
    trainer.engine = "inline"
    trainer.fit(X, Y, batch_size=16, epochs=EPOCHS - trainer.progress.epochs, verbose=0)
    inline = new("inline")
    assert trainer.state.fingerprint == inline.fit(X, Y, batch_size=16, epochs=EPOCHS, verbose=0).fingerprint
