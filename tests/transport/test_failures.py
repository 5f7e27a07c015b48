"""Every fault of a peer or of its messages raises an error that names it, and nothing hangs."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import threading
import time
from typing import Any

import pytest

from dagtrain.transport import Aborted, PeerLost, PeerTimeout, Phase, ProtocolError
from dagtrain.transport import frames as wire
from dagtrain.transport.sequence import pack

pytestmark = pytest.mark.combined

KINDS = ["shared", "socket"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_process_is_a_lost_peer(ranks: Any, kind: str) -> None:
    ours = ranks(2, only=kind)
    ours.tell(0, ("wait", 60))
    time.sleep(0.3)
    ours.processes[1].kill()
    error = ours.hear(0)
    assert isinstance(error, PeerLost)
    assert error.peer == 1
    assert ("process has ended" if kind == "shared" else "onnection") in error.why


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_process_times_out(ranks: Any, kind: str) -> None:
    ours = ranks(2, only=kind)
    ours.processes[1].send_signal(signal.SIGSTOP)
    ours.tell(0, ("wait", 1.0))
    error = ours.hear(0)
    assert isinstance(error, PeerTimeout)
    assert (error.phase, error.peers_missing, error.seconds) == (Phase.ALL_REDUCE_NORM, (1,), 1.0)


def test_bytes_that_a_peer_does_not_read_time_out(group: Any) -> None:
    a, b = group(2, seed=3, elements=8_000_000, only="socket").connect().communicators
    b.post(Phase.REDUCE_SCATTER, [0], 0, 0)
    a.deadline = 1.0
    a.post(Phase.REDUCE_SCATTER, [1], 0, 0)
    with pytest.raises(PeerTimeout, match="rank 1"):
        a.wait(Phase.REDUCE_SCATTER, [], 0, 0)


def test_a_peer_that_computes_for_longer_than_the_silence_is_not_lost(group: Any) -> None:
    ours = group(2, seed=3, elements=8_000_000, only="socket", silence=1.0).connect()
    a, b = ours.communicators
    a.post(Phase.REDUCE_SCATTER, [1], 0, 0)
    assert a._sending, "the message is too small to fill the buffers"

    def compute() -> None:
        time.sleep(4)  # with TCP_USER_TIMEOUT the kernel would end the connection after 1 or 2 seconds
        b.wait(Phase.REDUCE_SCATTER, [0], 0, 0)
        b.post(Phase.REDUCE_SCATTER, [0], 0, 0)
        b.wait(Phase.REDUCE_SCATTER, [], 0, 0)

    assert ours.run(lambda i: a.wait(Phase.REDUCE_SCATTER, [1], 0, 0) if i == 0 else compute()) == [None, None]


@pytest.mark.parametrize("kinds", [["shared"] * 3, ["socket"] * 3, ["comm"] * 3, [None, "shared", "socket"]])
def test_abort_wakes_a_rank_that_waits(group: Any, kinds: list[str | None]) -> None:
    ours = group(3, comms="comm" in kinds, only=None)
    if kinds[0] is None:
        ours.separate_hosts(2)
    for communicator, kind in zip(ours.communicators, kinds, strict=True):
        if len(set(kinds)) == 1:
            communicator.endpoint["kinds"] = (kind,)
    ours.connect()
    communicator = ours.communicators[0]
    woken = []

    def wait() -> None:
        try:
            communicator.wait(Phase.REDUCE_SCATTER, [1, 2], 0, 0)
        except Aborted as error:
            woken.append((error.why, time.monotonic()))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    communicator.abort("a worker left")
    communicator.abort("later")
    thread.join(10)
    assert woken[0][0] == "a worker left"
    assert woken[0][1] - began < 5
    with pytest.raises(Aborted, match="a worker left"):
        communicator.post(Phase.REDUCE_SCATTER, [1], 0, 0)


def test_abort_ends_a_sleep_without_a_limit_too(group: Any) -> None:
    for kind in ("shared", "socket", "comm"):
        ours = group(2, comms=True, only=kind).connect()
        ours.communicators[0].slice = 60.0
        sleeper = ours.threads.submit(ours.communicators[0].wait, Phase.REDUCE_SCATTER, [1], 0, 0)
        time.sleep(0.3)
        ours.communicators[0].abort("enough")
        assert isinstance(sleeper.exception(10), Aborted)


@pytest.mark.parametrize("kind", ["shared", "socket", "comm"])
def test_a_post_ends_a_sleep_without_a_limit(group: Any, kind: str) -> None:
    ours = group(2, comms=True, only=kind).connect()
    ours.communicators[0].slice = 60.0
    sleeper = ours.threads.submit(ours.communicators[0].wait, Phase.ALL_REDUCE_NORM, [1], 0, 0)
    time.sleep(0.3)
    ours.communicators[1].post(Phase.ALL_REDUCE_NORM, [0], 0, 0)
    assert sleeper.exception(10) is None


def test_a_peer_with_shared_memory_wakes_a_rank_that_has_sockets_too(group: Any) -> None:
    ours = group(3)
    ours.separate_hosts(2)
    ours.connect()
    ours.communicators[0].slice = 60.0
    assert ours.communicators[0].kinds == {1: "shared", 2: "socket"}
    sleeper = ours.threads.submit(ours.communicators[0].wait, Phase.ALL_REDUCE_NORM, [1], 0, 0)
    time.sleep(0.3)
    ours.communicators[1].post(Phase.ALL_REDUCE_NORM, [0], 0, 0)
    assert sleeper.exception(10) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_that_closes_is_lost_to_ranks_that_wait_for_it(group: Any, kind: str) -> None:
    ours = group(3, only=kind).connect()
    ours.communicators[2].post(Phase.ALL_REDUCE_NORM, [0, 1], 0, 0)
    ours.communicators[2].close()
    ours.communicators[1].post(Phase.REDUCE_SCATTER, [0], 0, 0)
    ours.communicators[0].wait(Phase.ALL_REDUCE_NORM, [2], 0, 0)  # its posts stay valid
    ours.communicators[0].wait(Phase.REDUCE_SCATTER, [1], 0, 0)
    with pytest.raises(PeerLost, match=r"rank 2 is lost: it closed"):
        ours.communicators[0].wait(Phase.ALL_GATHER, [1, 2], 0, 0)


@pytest.mark.parametrize("kind", ["shared", "socket", "comm"])
@pytest.mark.parametrize("seen", [(0, 6, 0), (1, 0, 0)])
def test_a_sequence_that_can_only_be_posted_later_is_a_protocol_error(group: Any, kind: str, seen: tuple[int, int, int]) -> None:
    a, b = group(2, comms=True, only=kind).connect().communicators
    a.post(Phase.ALL_GATHER_OPTIMIZER, [1], *seen)
    with pytest.raises(ProtocolError, match="rank 0 is at ALL_GATHER_OPTIMIZER") as caught:
        b.wait(Phase.ALL_GATHER_OPTIMIZER, [0], 0, 5)
    assert (caught.value.seen, caught.value.wanted) == (seen, (0, 5, 0))


@pytest.mark.parametrize("kind", ["shared", "socket", "comm"])
def test_an_older_sequence_does_not_end_a_wait(group: Any, kind: str) -> None:
    a, b = group(2, comms=True, only=kind).connect().communicators
    a.post(Phase.ALL_GATHER_OPTIMIZER, [1], 3, 4)
    b.deadline = 0.2
    with pytest.raises(PeerTimeout):
        b.wait(Phase.ALL_GATHER_OPTIMIZER, [0], 3, 5)


def length(communicator: Any, peer: int, phase: Phase) -> int:
    return len(communicator._channels[peer]._inbox._buffers[phase])


def test_duplicates_and_frames_of_other_groups_are_dropped_and_counted(group: Any) -> None:
    ours = group(2, seed=3, only="socket").connect()
    ours.rehearse(segments=1, steps=2)
    a, b = ours.communicators
    before = [array.copy() for array in b.incoming(0, Phase.REDUCE_SCATTER)]
    size = length(b, 0, Phase.REDUCE_SCATTER)
    assert size
    this_group, other_group = bytes.fromhex(ours.id), os.urandom(16)
    sock = a._channels[1].sock
    sock.sendall(wire.write_header(Phase.REDUCE_SCATTER, pack(0, 1), size, this_group) + bytes(size))
    sock.sendall(wire.write_header(Phase.REDUCE_SCATTER, pack(0, 0), size, this_group) + bytes(size))
    sock.sendall(wire.write_header(Phase.REDUCE_SCATTER, pack(9, 9), 100_000, other_group) + bytes(100_000))
    a.post(Phase.ALL_REDUCE_NORM, [1], 0, 2)
    b.wait(Phase.ALL_REDUCE_NORM, [0], 0, 2)
    assert b.refused == 3
    assert all((x == y).all() for x, y in zip(before, b.incoming(0, Phase.REDUCE_SCATTER), strict=True))


def test_messages_of_a_fallback_are_dropped_or_refused_too(group: Any) -> None:
    ours = group(2, seed=3, comms=True, only="comm").connect()
    ours.rehearse(segments=1, steps=2)
    b, size = ours.communicators[1], length(ours.communicators[1], 0, Phase.REDUCE_SCATTER)
    this_group = bytes.fromhex(ours.id)
    b.deliver(0, wire.write_header(Phase.REDUCE_SCATTER, pack(0, 1), size, this_group), [bytes(size)])
    b.deliver(0, wire.write_header(Phase.REDUCE_SCATTER, pack(5, 1), size, os.urandom(16)), [bytes(size)])
    b.deliver(7, wire.write_header(Phase.REDUCE_SCATTER, pack(5, 1), size, this_group), [bytes(size)])
    assert b.refused == 3
    b.deliver(0, wire.write_header(Phase.REDUCE_SCATTER, pack(0, 2), size, this_group), [bytes(size - 1)])
    with pytest.raises(PeerLost, match="announced"):
        b.wait(Phase.REDUCE_SCATTER, [0], 0, 2)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda group, size: wire.write_header(Phase.REDUCE_SCATTER, pack(0, 0), size + 8, group), "bytes where the routes say"),
        (lambda group, size: wire.write_header(17, pack(0, 0), size, group), "phase 17"),
        (lambda group, size: os.urandom(wire.HEADER), "where a frame should begin"),
        (lambda group, size: b"dgrk" + struct.pack("<H", 99) + bytes(wire.HEADER - 6), "version 99"),
    ],
)
def test_bytes_that_are_no_frame_of_the_routes_end_the_channel(group: Any, change: Any, why: str) -> None:
    ours = group(2, seed=3, only="socket").connect()
    a, b = ours.communicators
    a._channels[1].sock.sendall(change(bytes.fromhex(ours.id), length(b, 0, Phase.REDUCE_SCATTER)))
    with pytest.raises(PeerLost, match=why):
        b.wait(Phase.REDUCE_SCATTER, [0], 0, 0)


@pytest.mark.parametrize("part", [20, 60])
def test_a_connection_that_ends_within_a_frame(group: Any, part: int) -> None:
    ours = group(2, seed=3, only="socket").connect()
    a, b = ours.communicators
    size = length(b, 0, Phase.REDUCE_SCATTER)
    whole = wire.write_header(Phase.REDUCE_SCATTER, pack(0, 0), size, bytes.fromhex(ours.id)) + bytes(size)
    assert part < len(whole)
    a._channels[1].sock.sendall(whole[:part])
    a.close()
    with pytest.raises(PeerLost, match="in the middle of a frame"):
        b.wait(Phase.REDUCE_SCATTER, [0], 0, 0)


def test_a_tls_connection_that_ends_within_a_frame(group: Any, tls: Any) -> None:
    ours = group(2, seed=3, only="socket", tls=tls).connect()
    ours.communicators[0]._channels[1].sock.send(b"dgrk")
    ours.communicators[0].close()
    with pytest.raises(PeerLost, match="in the middle of a frame"):
        ours.communicators[1].wait(Phase.REDUCE_SCATTER, [0], 0, 0)


def test_a_fallback_that_fails_is_a_lost_peer(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = group(2, comms=True, only="comm").connect()
    a = ours.communicators[0]
    sleeper = ours.threads.submit(a.wait, Phase.REDUCE_SCATTER, [1], 0, 0)
    a.lose(1, "no route")
    assert str(sleeper.exception(10)) == "the channel to rank 1 is lost: no route"
    b = ours.communicators[1]
    monkeypatch.setattr(b._comms, "send", lambda *_: 1 / 0)
    b.post(Phase.REDUCE_SCATTER, [0], 0, 0)
    with pytest.raises(PeerLost, match="could not be sent: ZeroDivisionError"):
        b.wait(Phase.REDUCE_SCATTER, [0], 0, 0)


def test_errors_survive_pickling() -> None:
    for error in (
        PeerLost(3, "gone"),
        Aborted("enough"),
        PeerTimeout(Phase.REDUCE_SCATTER, (1, 2), 5.0),
        PeerTimeout(None, [1], 5.0, "; a note"),
        ProtocolError(1, Phase.ALL_GATHER_OPTIMIZER, (0, 1, 0), (0, 0, 0)),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.__dict__) == (type(error), str(error), error.__dict__)
