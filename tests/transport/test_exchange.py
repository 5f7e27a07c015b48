"""Posted spans arrive, with every kind of channel and any routes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from dagtrain.transport import ChannelError, Communicator, PeerLost, PeerTimeout, Phase, Routes, Span, Window
from dagtrain.transport.host import cores

pytestmark = pytest.mark.combined


@pytest.mark.parametrize("kind", ["shared", "socket", "comm"])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_random_routes(group: Any, kind: str, ranks: int) -> None:
    ours = group(ranks, seed=ranks, comms=kind == "comm", only=kind).connect()
    assert {k for communicator in ours.communicators for k in communicator.kinds.values()} == {kind}
    ours.rehearse(segments=3, steps=10)
    assert not any(communicator.refused for communicator in ours.communicators)


@pytest.mark.parametrize("seed", range(3))
def test_each_pair_of_ranks_has_the_kind_of_channel_that_works(group: Any, seed: int) -> None:
    ours = group(4, seed=seed, comms=True)
    ours.separate_hosts(0, 2)
    ours.communicators[2].endpoint["address"] = None  # it has no port
    ours.connect()
    assert ours.communicators[0].kinds == {1: "socket", 2: "comm", 3: "socket"}
    assert ours.communicators[1].kinds == {0: "socket", 2: "comm", 3: "shared"}
    assert ours.communicators[3].kinds == {0: "socket", 1: "shared", 2: "comm"}
    ours.rehearse(segments=3, steps=10)


@pytest.mark.parametrize("elements", [50, 300_000])
def test_tls(group: Any, tls: Any, elements: int) -> None:
    ours = group(3, elements=elements, tls=tls, only="socket").connect()
    assert all("TLS" in channel.sock.version() for channel in ours.communicators[0]._channels.values())
    ours.rehearse()


@pytest.mark.slow
def test_more_than_the_kernel_takes_at_once(group: Any) -> None:
    group(2, elements=3_000_000, only="socket").connect().rehearse(segments=1, steps=2)


def test_processes_agree_and_do_not_warn(ranks: Any) -> None:
    ours = ranks(3, only=[None, None, "socket"])
    assert ours.kinds == [{1: "shared", 2: "socket"}, {0: "shared", 2: "socket"}, {0: "socket", 1: "socket"}]
    for i in range(3):
        ours.tell(i, ("rehearse", 2, 100))
    assert all(isinstance(ours.hear(i), float) for i in range(3))
    assert ours.end() == ["", "", ""]
    assert [process.returncode for process in ours.processes] == [0, 0, 0]


def test_more_ranks_than_cores(ranks: Any) -> None:
    count = min(cores() + 1, 8)
    ours = ranks(count, only="shared")
    for i in range(count):
        ours.tell(i, ("rehearse", 1, 50))
    assert all(isinstance(ours.hear(i), float) for i in range(count))


@pytest.mark.parametrize("kinds", [["shared", "shared"], ["socket", "socket"], [None, None]])
def test_a_rank_that_waits_sleeps(group: Any, kinds: list[str | None]) -> None:
    ours = group(2, comms=True, only=kinds).connect()
    ours.communicators[0].deadline = 1.0
    before = time.thread_time()
    with pytest.raises(PeerTimeout):
        ours.communicators[0].wait(Phase.REDUCE_SCATTER, [1], 0, 0)
    assert time.thread_time() - before < 0.3  # seconds of processor time, within 1 s of waiting


def test_arrays_are_bound_once_aligned_and_read_only(group: Any) -> None:
    for kind in ("shared", "socket"):
        ours = group(2, seed=3, only=kind).connect()
        before = ours.communicators[0].incoming(1, Phase.REDUCE_SCATTER)
        ours.rehearse()
        after = ours.communicators[0].incoming(1, Phase.REDUCE_SCATTER)
        assert before
        assert all(a is b for a, b in zip(before, after, strict=True))
        assert not any(array.flags.writeable for array in before)
        if kind == "socket":
            assert all(array.ctypes.data % 64 == 0 for array in before if array.size)


def test_a_phase_without_spans_is_a_signal_that_may_be_early(group: Any) -> None:
    for kind in ("shared", "socket", "comm"):
        a, b = group(2, comms=True, only=kind).connect().communicators
        for phase in (Phase.ALL_GATHER_OPTIMIZER, Phase.ALL_GATHER, Phase.ALL_REDUCE_NORM):
            a.post(phase, [1], 2, 7) if phase != Phase.ALL_GATHER else a.post(phase, [1], 2, 8)
        b.wait(Phase.ALL_REDUCE_NORM, [0], 2, 7)
        b.wait(Phase.ALL_GATHER, [0], 2, 8)
        b.wait(Phase.ALL_GATHER_OPTIMIZER, [0], 2, 7)


def test_rounds_of_one_step(group: Any) -> None:
    for kind in ("shared", "socket"):
        a, b = group(2, only=kind).connect().communicators
        for number in range(3):
            a.post(Phase.ALL_REDUCE_NORM, [1], 0, 0, number)
        b.wait(Phase.ALL_REDUCE_NORM, [0], 0, 0, 2)
        b.wait(Phase.ALL_REDUCE_NORM, [0], 0, 0, 1)  # round 2 implies round 1


def test_only_the_peers_of_a_post_see_it(group: Any) -> None:
    ours = group(3, only="shared").connect()
    ours.communicators[0].post(Phase.ALL_REDUCE_NORM, [1], 0, 0)
    ours.communicators[1].wait(Phase.ALL_REDUCE_NORM, [0], 0, 0)
    ours.communicators[2].deadline = 0.2
    with pytest.raises(ChannelError, match="rank 0 sent no ALL_REDUCE_NORM"):
        ours.communicators[2].wait(Phase.ALL_REDUCE_NORM, [0], 0, 0)


def test_a_rank_without_peers_has_nothing_to_wait_for() -> None:
    window = Window.create({})
    with Communicator("0" * 32, 0, window, {}, b"token", "127.0.0.1") as communicator:
        communicator.connect({}, 1)
        communicator.post(Phase.REDUCE_SCATTER, [], 0, 0)
        communicator.wait(Phase.REDUCE_SCATTER, [], 0, 0)
    window.close()


def test_routes_with_spans_outside_the_window_are_refused() -> None:
    for span in (Span("lost", 0, 1), Span("there", 2, 5)):
        windows = [Window.create({"there": ("float32", 4)}) for _ in range(2)]
        routes = [{1: Routes()}, {0: Routes(into={Phase.REDUCE_SCATTER: (span,)})}]
        communicators = [Communicator("0" * 32, i, windows[i], routes[i], b"token", "127.0.0.1", only="shared") for i in range(2)]
        with ThreadPoolExecutor(1) as thread:
            other = thread.submit(communicators[0].connect, {1: communicators[1].endpoint}, 5)
            with pytest.raises(ChannelError, match=r"window of rank 0.*region"):
                communicators[1].connect({0: communicators[0].endpoint}, 5)
            communicators[0].abort("enough")
            other.exception()
        for each in (*communicators, *windows):
            each.close()


@pytest.mark.parametrize(
    ("kind", "encrypted"),
    [("shared", False), ("comm", False), ("socket", False), ("socket", True)],
    ids=["shared", "comm", "socket", "tls"],
)
@pytest.mark.parametrize("elements", [1, 700_000])
def test_released_spans_arrive_before_the_rest(request: pytest.FixtureRequest, kind: str, encrypted: bool, elements: int) -> None:
    """Over sockets a peer has them before the whole message is final; with every kind they are complete when `wait_for_spans` returns."""
    spans = tuple(Span("slice", i * elements, (i + 1) * elements) for i in (2, 0, 1))
    routes = {Phase.REDUCE_SCATTER: spans}
    options = {"tls": request.getfixturevalue("tls")} if encrypted else {}
    group = request.getfixturevalue("group")(2, comms=True, only=kind, routes=[{1: Routes(routes)}, {0: Routes({}, routes)}], **options)
    a, b = group.connect().communicators
    a.deadline = b.deadline = 20.0
    whole = group.windows[0]["slice"]
    arrays = b.incoming(0, Phase.REDUCE_SCATTER)
    for step in range(3):
        for n, span in enumerate(spans):
            whole[span.start : span.stop] = 10 * step + n
            a.release(Phase.REDUCE_SCATTER, {1: n + 1}, 0, step)
            if kind == "socket" and n < 2:
                received = group.threads.submit(b.wait_for_spans, Phase.REDUCE_SCATTER, {0: n + 1}, 0, step)
                while not received.done():
                    a.release(Phase.REDUCE_SCATTER, {1: n + 1}, 0, step)  # sends as much as the kernel takes
                assert received.exception() is None
                assert arrays[n][0] == arrays[n][-1] == 10 * step + n
        posted = group.threads.submit(
            lambda step=step: (a.post(Phase.REDUCE_SCATTER, [1], 0, step), a.wait(Phase.REDUCE_SCATTER, [], 0, step))
        )
        b.wait_for_spans(Phase.REDUCE_SCATTER, {0: 3}, 0, step)
        b.wait(Phase.REDUCE_SCATTER, [0], 0, step)
        assert posted.exception(10) is None
        assert [array[-1] for array in arrays] == [10 * step, 10 * step + 1, 10 * step + 2]


def test_a_peer_that_closes_within_a_message_is_lost(group: Any) -> None:
    routes = {Phase.REDUCE_SCATTER: (Span("slice", 0, 10), Span("slice", 10, 20))}
    ours = group(2, only="socket", routes=[{1: Routes(routes)}, {0: Routes({}, routes)}])
    a, b = ours.connect().communicators
    a.release(Phase.REDUCE_SCATTER, {1: 1}, 0, 0)
    b.wait_for_spans(Phase.REDUCE_SCATTER, {0: 1}, 0, 0)
    a.close()
    with pytest.raises(PeerLost, match="in the middle of a frame"):
        b.wait_for_spans(Phase.REDUCE_SCATTER, {0: 2}, 0, 0)


def test_sequences_out_of_range_are_refused(group: Any) -> None:
    a = group(2, only="shared").connect().communicators[0]
    for segment, step, number in ((-1, 0, 0), (0, 1 << 28, 0), (0, 0, 1024), (1 << 26, 0, 0)):
        with pytest.raises(ChannelError, match="no sequence"):
            a.post(Phase.REDUCE_SCATTER, [1], segment, step, number)


def test_windows_hold_numbers_of_any_dtype_and_nothing_else() -> None:
    window = Window.create({"none": ("float64", 0), "one": ("int8", 1), "pair": (np.dtype("complex64").str, 2)})
    assert window["none"].shape == (0,)
    assert window["pair"].dtype == np.complex64
    assert all(window[name].ctypes.data % 64 == 0 for name in ("one", "pair"))
    window.close()
    window.close()
    with pytest.raises(ChannelError, match="cannot be shared"):
        Window.create({"text": ("object", 3)})
