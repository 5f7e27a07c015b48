"""How ranks connect, and which connections they reject."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import msgpack
import pytest

from dagtrain.transport import Aborted, ChannelError, Communicator, PeerLost, PeerTimeout, Phase, Routes, Window, rendezvous, shared
from dagtrain.transport.handshake import Acceptor, HandshakeError, Initiator

pytestmark = pytest.mark.combined

TOKEN = b"token"
GROUP = bytes(range(16))


def test_endpoints_go_through_msgpack(group: Any) -> None:
    for kind in ("shared", "socket"):
        ours = group(2, only=kind)
        endpoints = msgpack.unpackb(msgpack.packb(ours.endpoints), strict_map_key=False)
        assert ours.run(lambda i, ours=ours, endpoints=endpoints: ours.communicators[i].connect(endpoints, 20)) == [None, None]
        ours.rehearse()


@pytest.mark.parametrize("kind", ["shared", "socket", "comm"])
def test_any_order_of_arrival(group: Any, kind: str) -> None:
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        ours = group(3, comms=True, only=kind)
        endpoints = ours.endpoints

        def come(i: int, ours: Any = ours, endpoints: Any = endpoints, order: Any = order) -> None:
            time.sleep(0.1 * order[i])
            ours.communicators[i].connect(endpoints, 20)

        assert ours.run(come) == [None] * 3
        ours.rehearse(segments=1, steps=2)


@pytest.fixture
def slow_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks 0 and 2 take half a second longer than others to connect."""
    really, until = rendezvous.Rendezvous._advance, time.monotonic() + 0.5

    def advance(self: Any, handshake: Any) -> None:
        if self._local_endpoint.rank != 0 or handshake.role.peer != 2 or time.monotonic() > until:
            really(self, handshake)

    monkeypatch.setattr(rendezvous.Rendezvous, "_advance", advance)


@pytest.mark.slow
def test_a_rank_that_is_connected_to_all_begins(group: Any, slow_pair: None) -> None:
    ours = group(3, only="socket")
    endpoints = ours.endpoints

    def come(i: int) -> None:
        ours.communicators[i].connect(endpoints, 20)
        ours.rehearse_rank(i, 1, 2)

    assert ours.run(come) == [None] * 3


def test_a_rank_that_dies_after_its_rendezvous_is_lost_at_once(group: Any, slow_pair: None) -> None:
    ours = group(3, only="socket")
    endpoints = ours.endpoints

    def come(i: int) -> None:
        ours.communicators[i].connect(endpoints, 20)
        if i == 1:
            ours.communicators[1].close()

    assert str(ours.run(come)[0]) == "the channel to rank 1 is lost: it closed the connection"


def test_a_peer_that_does_not_connect_times_out(group: Any) -> None:
    for kind in ("shared", "socket", "comm"):
        ours = group(3, comms=True, only=kind)
        endpoints = ours.endpoints
        errors = ours.run(lambda i, ours=ours, endpoints=endpoints: None if i == 1 else ours.communicators[i].connect(endpoints, 1.0))
        for i in (0, 2):
            assert isinstance(errors[i], PeerTimeout)
            assert (errors[i].phase, errors[i].peers_missing) == (None, (1,))


def test_abort_ends_a_rendezvous(group: Any) -> None:
    ours = group(2)
    future = ours.threads.submit(ours.communicators[0].connect, ours.endpoints, 60)
    time.sleep(0.1)
    ours.communicators[0].abort("not needed any more")
    assert isinstance(future.exception(10), Aborted)


def test_a_dead_peer_is_lost_at_once(group: Any) -> None:
    ours = group(2, only="socket")
    ours.communicators[1].close()
    with pytest.raises(PeerLost, match="Connection refused"):
        ours.communicators[0].connect(ours.endpoints, 60)


@pytest.mark.parametrize("one_sided", [[0], [1], [0, 1]])
def test_memory_that_cannot_be_opened_gives_way_to_sockets(group: Any, one_sided: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    really = shared.SharedChannel

    class Barred(really):  # type: ignore[misc, valid-type]
        def __init__(self, group: bytes, rank: int, *others: Any) -> None:
            if rank in one_sided:
                raise PermissionError("not yours")
            super().__init__(group, rank, *others)

    monkeypatch.setattr(shared, "SharedChannel", Barred)
    ours = group(2).connect()
    assert [communicator.kinds for communicator in ours.communicators] == [{1: "socket"}, {0: "socket"}]
    ours.rehearse()


def test_a_port_that_cannot_be_reached_gives_way_to_the_fallback(group: Any) -> None:
    ours = group(2, comms=True)
    ours.separate_hosts(0)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        ours.communicators[1].endpoint["address"] = closed.getsockname()
    ours.connect()
    assert [communicator.kinds for communicator in ours.communicators] == [{1: "comm"}, {0: "comm"}]
    ours.rehearse()


def test_a_port_that_does_not_answer_gives_way_to_the_fallback(group: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ours = group(2, comms=True, handshake_timeout=0.5)
        ours.separate_hosts(0)
        ours.communicators[1].endpoint["address"] = silent.getsockname()
        ours.connect()
    assert [communicator.kinds for communicator in ours.communicators] == [{1: "comm"}, {0: "comm"}]
    ours.rehearse()


def test_ranks_without_a_common_kind_of_channel_raise(group: Any) -> None:
    ours = group(2, only=["shared", "socket"])
    assert "no kind of channel in common" in str(ours.run(lambda i: ours.communicators[i].connect(ours.endpoints, 5))[0])
    mixed = group(2)
    mixed.separate_hosts(0)
    mixed.communicators[0].endpoint["secure"] = 1  # TLS at one end alone
    assert "no kind of channel in common" in str(mixed.run(lambda i: mixed.communicators[i].connect(mixed.endpoints, 5))[1])


def test_unauthenticated_connections_do_no_harm(group: Any) -> None:
    ours = group(3, only="socket")
    pending = []
    for kind in range(60):
        connection = socket.create_connection(ours.communicators[2].endpoint["address"])
        if kind % 3 == 1:
            connection.sendall(os.urandom(500))
        elif kind % 3 == 2:
            connection.close()
        pending.append(connection)
    began = time.monotonic()
    ours.connect()
    assert time.monotonic() - began < rendezvous.HANDSHAKE_TIMEOUT
    assert ours.communicators[2].rejected >= 40
    ours.rehearse()
    for connection in pending:
        connection.close()


def test_more_unauthenticated_connections_than_pending_slots(group: Any) -> None:
    ours = group(2, only="socket", pending=4)
    pending = [socket.create_connection(ours.communicators[1].endpoint["address"]) for _ in range(40)]
    ours.connect()
    assert ours.communicators[1].rejected >= 30
    for connection in pending:
        connection.close()


def test_unauthenticated_connections_do_no_harm_to_tls(group: Any, tls: Any) -> None:
    ours = group(2, only="socket", tls=tls)
    pending = [socket.create_connection(ours.communicators[1].endpoint["address"]) for _ in range(6)]
    for connection in pending[::2]:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    ours.connect()
    ours.rehearse()
    for connection in pending:
        connection.close()


def test_a_wrong_token_is_refused(group: Any) -> None:
    ours = group(3, only="socket", token=[b"one", b"one", b"another"])
    errors = ours.run(lambda i: ours.communicators[i].connect(ours.endpoints, 2))
    assert all(isinstance(error, PeerLost) for error in errors[:2])
    refused = [error for error in errors[:2] if error.peer == 2 and "another token" in error.why]
    assert refused, errors
    assert len(refused) == 2 or errors[refused[0] is errors[0]].peer != 2, "the other one lost the one that gave up, if not rank 2"
    assert isinstance(errors[2], PeerTimeout)
    assert "refused" in str(errors[2])
    assert len(refused) <= ours.communicators[2].rejected <= 2, "one that lost the other first may not have dialled rank 2"


def test_the_token_is_never_sent() -> None:
    secret = b"a long and secret token of the group"
    acceptor, initiator = Acceptor(GROUP, 1, {0}, secret), Initiator(GROUP, 0, 1, secret)
    answer = initiator.receive(acceptor.greeting)
    welcome = acceptor.receive(answer)
    assert initiator.receive(welcome) == b""
    assert (acceptor.peer, acceptor.wanted, initiator.wanted) == (0, 0, 0)
    assert all(secret[:8] not in message for message in (acceptor.greeting, answer, welcome))


def test_proofs_cannot_be_replayed_reflected_or_moved() -> None:
    acceptor, initiator = Acceptor(GROUP, 1, {0}, TOKEN), Initiator(GROUP, 0, 1, TOKEN)
    answer = initiator.receive(acceptor.greeting)
    with pytest.raises(HandshakeError, match="token"):
        Acceptor(GROUP, 1, {0}, TOKEN).receive(answer)  # of an earlier connection
    with pytest.raises(HandshakeError, match="token"):
        initiator.receive(answer[-32:])  # the initiator's own proof
    with pytest.raises(HandshakeError, match="not expected"):
        Acceptor(GROUP, 2, {0}, TOKEN).receive(answer)
    with pytest.raises(HandshakeError, match="not expected"):
        Acceptor(bytes(16), 1, {0}, TOKEN).receive(answer)
    with pytest.raises(HandshakeError, match="not expected"):
        Acceptor(GROUP, 1, {3}, TOKEN).receive(answer)
    with pytest.raises(HandshakeError, match="does not speak"):
        Initiator(GROUP, 0, 1, TOKEN).receive(b"HTTP/1.1" + bytes(Initiator(GROUP, 0, 1, TOKEN).wanted - 8))


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_listening_everywhere_is_refused(address: str) -> None:
    window = Window.create({})
    with pytest.raises(ChannelError, match="at all addresses"):
        Communicator("0" * 32, 0, window, {}, TOKEN, address)
    window.close()


def test_an_address_of_another_machine_excludes_sockets() -> None:
    window = Window.create({})
    with Communicator("0" * 32, 0, window, {}, TOKEN, "192.0.2.1") as communicator:
        assert "socket" not in communicator.endpoint["kinds"]
    with pytest.raises(ChannelError, match="cannot listen"):
        Communicator("0" * 32, 0, Window.create({}), {}, TOKEN, "192.0.2.1", only="socket")
    window.close()


def test_a_rank_listens_only_at_its_address(group: Any) -> None:
    communicator = group(2).communicators[0]
    assert communicator.endpoint["address"][0] == "127.0.0.1"
    assert group(2, only="shared").communicators[0].endpoint["address"] is None


def test_endpoints_are_checked(group: Any) -> None:
    a, b = group(2).communicators
    with pytest.raises(ChannelError, match="no endpoints of ranks"):
        a.connect({}, 1)
    with pytest.raises(ChannelError, match="version 9"):
        a.connect({1: {**b.endpoint, "version": 9}}, 1)
    with pytest.raises(ChannelError, match="of rank 0 of group"):
        a.connect({1: a.endpoint}, 1)


def test_arguments_of_a_communicator_are_checked() -> None:
    window = Window.create({})
    for group, rank, routes, token in (("x", 0, {}, TOKEN), ("g" * 32, 0, {}, TOKEN), ("0" * 32, 1024, {}, TOKEN)):
        with pytest.raises(ChannelError, match="hexadecimal"):
            Communicator(group, rank, window, routes, token, "127.0.0.1")
    with pytest.raises(ChannelError, match="distinct ranks"):
        Communicator("0" * 32, 0, window, {0: Routes()}, TOKEN, "127.0.0.1")
    with pytest.raises(ChannelError, match="needs a token"):
        Communicator("0" * 32, 0, window, {}, b"", "127.0.0.1")
    with Communicator("0" * 32, 0, window, {}, TOKEN, "127.0.0.1"), pytest.raises(ChannelError, match="create a new one"):
        Communicator("0" * 32, 0, window, {}, TOKEN, "127.0.0.1")
    window.close()


def test_memory_of_another_group_is_not_taken_for_the_peers(group: Any) -> None:
    ours, stale = group(2), group(2)
    for key in ("window", "doorbell"):
        ours.communicators[1].endpoint[key] = stale.communicators[1].endpoint[key]
    ours.connect()
    assert ours.communicators[0].kinds == {1: "socket"}
    ours.communicators[0].post(Phase.ALL_REDUCE_NORM, [1], 0, 0)
    ours.communicators[1].wait(Phase.ALL_REDUCE_NORM, [0], 0, 0)


def test_ranks_that_all_share_memory_have_a_common_window(group: Any) -> None:
    ours = group(3).connect()
    name = next(iter(ours.plan.regions))
    ours.communicators[2].common[name][0] = 7
    assert {float(communicator.common[name][0]) for communicator in ours.communicators} == {7.0} == {float(ours.windows[0][name][0])}


def test_ranks_that_do_not_all_share_memory_have_no_common_window(group: Any) -> None:
    ours = group(3)
    ours.separate_hosts(2)
    ours.connect()
    assert ours.communicators[0].kinds == {1: "shared", 2: "socket"}
    assert [communicator.common for communicator in ours.communicators] == [None] * 3


def test_a_rank_that_is_connected_to_all_waits_for_the_others(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    really = shared.all_share

    def late(window: Any, channels: Any, *others: Any) -> bool:
        time.sleep(0.5 * ({channel.peer for channel in channels} == {0, 1}))
        return really(window, channels, *others)

    monkeypatch.setattr("dagtrain.transport.communicator.all_share", late)
    assert None not in [communicator.common for communicator in group(3).connect().communicators]
    ours = group(3)
    errors = ours.run(lambda i: ours.communicators[i].connect(ours.endpoints, 0.3))
    assert [str(error) for error in errors[:2]] == ["rank 2 has not met all others after 0.3 s"] * 2
