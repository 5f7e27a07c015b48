"""Wall clocks that are set back under callbacks and streams of messages that use them."""

import asyncio
import time

import pytest
from distributed.batched import BatchedSend
from tornado.ioloop import IOLoop, PeriodicCallback

from dagtrain.engines.cluster.clocks import WallClock, catch_up


@pytest.fixture
def set_back(monkeypatch):
    """``set_back()`` sets this process's wall clock back by an hour."""
    now = time.time

    def step():
        monkeypatch.setattr(time, "time", lambda: now() - 3600)
        monkeypatch.setattr("distributed.batched.time", lambda: now() - 3600)

    return step


class Comm:
    def __init__(self):
        self.sent = []

    def closed(self):
        return False

    def abort(self):
        pass

    async def write(self, payload, **options):
        self.sent += payload
        return 1


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def test_callbacks_and_streams_catch_up(set_back):
    async def main():
        calls, comm, stream = [], Comm(), BatchedSend(interval="100ms")
        callback = PeriodicCallback(lambda: calls.append(1), 10)
        callback.start()
        stream.start(comm)
        await until(lambda: calls)
        stream.send("before")
        await until(lambda: comm.sent)
        set_back()
        stream.send("after")
        await asyncio.sleep(0.2)
        stalled = len(calls)
        await asyncio.sleep(0.2)
        assert (len(calls), comm.sent) == (stalled, ["before"]), "there is nothing to mend"
        catch_up([callback], [stream])
        await until(lambda: len(calls) > stalled + 1 and comm.sent == ["before", "after"])
        callback.stop()
        stream.abort()

    IOLoop(make_current=False).run_sync(main)


def test_a_clock_is_set_back_only_if_it_is(set_back):
    clock = WallClock()
    assert not clock.was_set_back()
    set_back()
    assert clock.was_set_back()
    assert not clock.was_set_back()
