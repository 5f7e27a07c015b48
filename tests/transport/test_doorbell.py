"""A notification between a rank's look and its sleep wakes it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dagtrain.transport import PeerTimeout, Phase, Window
from dagtrain.transport import doorbell as doorbells


@pytest.mark.parametrize("by_pipe", [True, False])
def test_a_notify_before_the_sleep_prevents_it(by_pipe: bool) -> None:
    if not by_pipe and doorbells.FUTEX is None:
        pytest.skip("ranks sleep in poll here")
    window = Window.create({})
    doorbell = doorbells.Doorbell(window, doorbells.Notifier(3))
    doorbell.by_pipe = by_pipe
    mark = doorbell.mark()
    doorbell.notify()
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(doorbell.sleep, mark, 60.0).result(10) == []
    doorbell.close()
    window.close()


def test_numbers_of_ranks_are_never_the_same() -> None:
    notifiers = [doorbells.Notifier(rank) for rank in (0, 1, 1023)]
    numbers = [notifier.number() for notifier in notifiers for _ in range(100)]
    assert len(set(numbers)) == 300
    assert max(numbers) < 1 << 32


def test_without_a_futex_ranks_sleep_in_poll(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorbells, "FUTEX", None)
    ours = group(3, only="shared").connect()
    ours.rehearse()
    ours.communicators[0].deadline = 1.0
    before = time.thread_time()
    with pytest.raises(PeerTimeout, match="sent no ALL_GATHER_OPTIMIZER"):
        ours.communicators[0].wait(Phase.ALL_GATHER_OPTIMIZER, [1], 0, 0)
    assert time.thread_time() - before < 0.3


def test_weakly_ordered_processors_take_the_fence(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("dagtrain.transport.communicator.fence", lambda: calls.append(doorbells._barrier()))
    group(2, only="shared").connect().rehearse(segments=1, steps=2)
    assert len(calls) == 2 * 2 * 2 * 2  # ranks, steps, phases; before each post and after each wait
