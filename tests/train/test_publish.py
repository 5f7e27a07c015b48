"""What a fit tells the dashboard, without a cluster: the records, and their way to a scheduler that may be absent, slow or broken."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.engines.cluster.sender import LONGEST, MARK, Sender
from dagtrain.report.records import Drawn, EpochEnd, Event, Progress, Started, StepTimes, decode
from dagtrain.train.publish import KEPT, RANKS, UNWATCHED, Publisher, timed_graph

STARTED = Started("Net", "lanes", 2, 2, 1000, 70, 25, 2, 9, 10)
"""Resumed with 25 updates: two epochs of ten steps, and five steps of the third."""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(publisher: Publisher, kind: type[Any]) -> list[Any]:
    return [record for record in decode(publisher.take()) if isinstance(record, kind)]


def test_progress_is_the_mean_loss_since_the_last_message() -> None:
    clock = Clock()
    publisher = Publisher(STARTED, begun=5, clock=clock)
    assert taken(publisher, Started) == [STARTED]
    assert taken(publisher, Progress) == [], "no step, no progress"
    clock.now = 1.0
    publisher.step(26, 3.0)
    publisher.step(27, 1.0)
    assert taken(publisher, Progress) == [Progress(27, 2, 2.0, 200.0, 1.0)]
    clock.now = 2.0
    publisher.step(28, 5.0)
    assert taken(publisher, Progress) == [Progress(28, 2, 5.0, 150.0, 2.0)]


def test_an_epoch_is_at_the_number_of_updates_after_it() -> None:
    publisher = Publisher(STARTED, begun=5)
    publisher.epoch(0, {"loss": 1.0})
    publisher.epoch(2, {"loss": 0.5})
    assert [(end.epoch, end.step) for end in taken(publisher, EpochEnd)] == [(1, 10), (3, 30)]


def test_records_that_nobody_takes_are_bounded() -> None:
    publisher = Publisher(STARTED)
    for i in range(2 * KEPT):
        publisher.add(Event("stop", step=i))
        publisher.spent([StepTimes("w", rank, i, 1.0, 0.0, 0.0) for rank in (0, i)])
    records = decode(publisher.take())
    assert len(records) <= 1 + KEPT + RANKS
    assert [r.step for r in records if isinstance(r, StepTimes) and r.rank == 0] == [2 * KEPT - 1], "the latest times count"


def test_the_first_record_is_in_every_message_and_alone_until_an_answer() -> None:
    publisher = Publisher(STARTED)
    for i in range(2 * KEPT):
        publisher.epoch(i, {"loss": 1.0})
    assert decode(publisher.take())[0] == STARTED, "also of a fit with many earlier epochs"
    assert decode(publisher.take()) == [STARTED], "the first message may have been lost"
    publisher.hear(False)
    assert publisher.take() == []
    publisher.step(26, 3.0)
    assert [type(record) for record in decode(publisher.take())] == [Started, Progress]


def test_pictures_are_drawn_once_somebody_looks() -> None:
    drawn = threading.Event()

    def broken() -> str:
        drawn.set()
        raise RuntimeError("no Graphviz")

    publisher = Publisher(STARTED, pictures={"graph": broken})
    publisher.take()
    assert publisher._drawing is None, "a fit that nobody looks at draws nothing at first"
    publisher.hear(True)
    publisher.take()
    assert drawn.wait(30)
    assert publisher._drawing is not None
    publisher._drawing.join(30)
    assert taken(publisher, Drawn) == [Drawn("graph", "", "The picture could not be drawn: no Graphviz")]


def test_a_long_fit_draws_for_those_who_look_later() -> None:
    clock = Clock()
    publisher = Publisher(STARTED, pictures={"graph": lambda: "<svg></svg>"}, clock=clock)
    clock.now = UNWATCHED + 1
    publisher.take()
    assert publisher._drawing is not None


def test_the_graph_has_the_seconds_of_its_ops() -> None:
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy", shards=1, engine="inline")
    trainer.fit(np.eye(4, dtype="f4"), np.array([0, 1, 0, 1]), batch_size=4, verbose=0)
    assert trainer.progress.state is not None
    svg = timed_graph(trainer.program, trainer.progress.state, 4)
    assert "ms · " in svg


def test_a_graph_of_large_values_is_not_timed() -> None:
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(64)]), loss="cross_entropy", shards=1, engine="inline")
    trainer.fit(np.eye(4, dtype="f4"), np.array([0, 1, 0, 1]), batch_size=4, verbose=0)
    assert trainer.progress.state is not None
    with pytest.raises(ValueError, match=r"takes .* for a shard of 1000000 rows; at most 256 MB are used"):
        timed_graph(trainer.program, trainer.progress.state, 10**6)


# ---- the way to the scheduler


class Scheduler:
    """Answers like a scheduler with or without the page, after some questions that get no answer."""

    address = "tcp://scheduler"

    def __init__(self, has_page: bool = True, fault: Callable[[], Any] | None = None, deaf: int = 0) -> None:
        self.has_page, self.fault, self.deaf, self.questions, self.messages = has_page, fault, deaf, 0, list[Any]()

    async def get_metadata(self, keys: list[str], default: Any) -> Any:
        self.questions += 1
        if self.questions <= self.deaf:
            raise OSError("cut")
        return self.has_page if keys == [MARK] else default

    def __getattr__(self, name: str) -> Any:
        assert name == MARK
        return self._take

    async def _take(self, run: str, client: str, records: list[Any]) -> bool:
        self.messages.append(records)
        if self.fault is not None and (waiting := self.fault()) is not None:
            await waiting
        return True


class Client:
    """As much of a client as sends: its event loop in a thread."""

    id = "client"

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler, self.loop = scheduler, self
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def add_callback(self, function: Callable[[], Any]) -> None:
        def call() -> None:
            result = function()
            if asyncio.iscoroutine(result):
                self._tasks = [*getattr(self, "_tasks", []), self._loop.create_task(result)]

        self._loop.call_soon_threadsafe(call)

    def close(self) -> None:
        for task in getattr(self, "_tasks", []):
            self._loop.call_soon_threadsafe(task.cancel)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


class Impatient(Sender):
    """Notes its pauses, and makes short ones."""

    def __init__(self, *arguments: Any, every: float) -> None:
        self.pauses = list[float]()
        super().__init__(*arguments, every=every)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await super().pause(0.001)


@pytest.fixture
def connect() -> Iterator[Callable[[Scheduler], Client]]:
    clients = []

    def make(scheduler: Scheduler) -> Client:
        clients.append(Client(scheduler))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_records_are_sent_while_the_fit_runs_and_the_last_at_its_end(connect: Any) -> None:
    waiting, heard = [["first"]], list[bool]()
    scheduler = Scheduler()

    def take() -> list[Any]:
        records, waiting[:] = list(waiting), []
        return records

    sender = Sender(connect(scheduler), take, heard.append, every=0.01)
    eventually(lambda: scheduler.messages == [[["first"]]])
    waiting.append(["last"])
    sender.finish()
    assert scheduler.messages == [[["first"]], [["last"]]]
    assert (scheduler.questions, heard) == (1, [True, True])


def test_a_scheduler_without_the_page_is_asked_once_and_sent_nothing(connect: Any) -> None:
    scheduler, taken = Scheduler(has_page=False), list[int]()
    sender = Sender(connect(scheduler), lambda: [taken.append(1)], lambda answer: None, every=0.01)
    eventually(sender._done.is_set)
    sender.finish()
    assert (scheduler.questions, scheduler.messages, taken) == (1, [], [])


def test_lost_messages_come_more_and_more_seldom(connect: Any) -> None:
    def fail() -> None:
        if len(scheduler.messages) <= 5:
            raise OSError("cut")

    scheduler = Scheduler(fault=fail, deaf=1)
    sender = Impatient(connect(scheduler), lambda: [["record"]], lambda answer: None, every=0.5)
    eventually(lambda: len(sender.pauses) > 6)
    sender.finish()
    assert sender.pauses[:7] == [1.0, 2.0, 4.0, 8.0, LONGEST, LONGEST, 0.5], "a question, five messages, and one that arrives"


def test_a_fit_does_not_wait_for_a_scheduler_that_hangs(connect: Any) -> None:
    scheduler = Scheduler(fault=lambda: asyncio.sleep(3600))
    sender = Sender(connect(scheduler), lambda: [["record"]], lambda answer: None, every=0.01)
    eventually(lambda: scheduler.messages)
    began = time.monotonic()
    sender.finish()
    assert time.monotonic() - began < 4
    assert len(scheduler.messages) == 1, "one message at a time"
