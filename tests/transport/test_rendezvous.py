"""How ranks find each other, and who is not let in."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import msgpack
import pytest

from dagtrain.transport import Aborted, Board, ChannelError, LinkLost, Links, Overdue, Phase, Table, rendezvous, shared
from dagtrain.transport.proof import AsCaller, AsHost, Refused

pytestmark = pytest.mark.combined

TOKEN = b"token"
GROUP = bytes(range(16))


def test_offers_go_through_msgpack(group: Any) -> None:
    for kind in ("shared", "socket"):
        ours = group(2, only=kind)
        offers = msgpack.unpackb(msgpack.packb(ours.offers), strict_map_key=False)
        assert ours.run(lambda i, ours=ours, offers=offers: ours.links[i].connect(offers, 20)) == [None, None]
        ours.rehearse()


@pytest.mark.parametrize("kind", ["shared", "socket", "comm"])
def test_any_order_of_arrival(group: Any, kind: str) -> None:
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        ours = group(3, comms=True, only=kind)
        offers = ours.offers

        def come(i: int, ours: Any = ours, offers: Any = offers, order: Any = order) -> None:
            time.sleep(0.1 * order[i])
            ours.links[i].connect(offers, 20)

        assert ours.run(come) == [None] * 3
        ours.rehearse(segments=1, steps=2)


@pytest.fixture
def slow_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks 0 and 2 take half a second longer than others to meet."""
    really, until = rendezvous.Meeting._advance, time.monotonic() + 0.5

    def advance(self: Any, approach: Any) -> None:
        if self._station.rank != 0 or approach.role.peer != 2 or time.monotonic() > until:
            really(self, approach)

    monkeypatch.setattr(rendezvous.Meeting, "_advance", advance)


def test_who_has_met_everybody_begins(group: Any, slow_pair: None) -> None:
    ours = group(3, only="socket")
    offers = ours.offers

    def come(i: int) -> None:
        ours.links[i].connect(offers, 20)
        ours.rehearse_rank(i, 1, 2)

    assert ours.run(come) == [None] * 3


def test_who_has_met_everybody_and_dies_is_lost_at_once(group: Any, slow_pair: None) -> None:
    ours = group(3, only="socket")
    offers = ours.offers

    def come(i: int) -> None:
        ours.links[i].connect(offers, 20)
        if i == 1:
            ours.links[1].close()

    assert str(ours.run(come)[0]) == "the link to rank 1 is lost: it closed the connection"


def test_a_peer_that_does_not_come_is_overdue(group: Any) -> None:
    for kind in ("shared", "socket", "comm"):
        ours = group(3, comms=True, only=kind)
        offers = ours.offers
        errors = ours.run(lambda i, ours=ours, offers=offers: None if i == 1 else ours.links[i].connect(offers, 1.0))
        for i in (0, 2):
            assert isinstance(errors[i], Overdue)
            assert (errors[i].phase, errors[i].peers_missing) == (None, (1,))


def test_abort_ends_a_meeting(group: Any) -> None:
    ours = group(2)
    future = ours.threads.submit(ours.links[0].connect, ours.offers, 60)
    time.sleep(0.1)
    ours.links[0].abort("not needed any more")
    assert isinstance(future.exception(10), Aborted)


def test_a_dead_peer_is_lost_at_once(group: Any) -> None:
    ours = group(2, only="socket")
    ours.links[1].close()
    with pytest.raises(LinkLost, match="Connection refused"):
        ours.links[0].connect(ours.offers, 60)


@pytest.mark.parametrize("one_sided", [[0], [1], [0, 1]])
def test_memory_that_cannot_be_opened_gives_way_to_sockets(group: Any, one_sided: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    really = shared.SharedLink

    class Barred(really):  # type: ignore[misc, valid-type]
        def __init__(self, group: bytes, rank: int, *others: Any) -> None:
            if rank in one_sided:
                raise PermissionError("not yours")
            super().__init__(group, rank, *others)

    monkeypatch.setattr(shared, "SharedLink", Barred)
    ours = group(2).connect()
    assert [links.kinds for links in ours.links] == [{1: "socket"}, {0: "socket"}]
    ours.rehearse()


def test_a_port_that_cannot_be_reached_gives_way_to_the_courier(group: Any) -> None:
    ours = group(2, comms=True)
    ours.elsewhere(0)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        ours.links[1].offer["address"] = closed.getsockname()
    ours.connect()
    assert [links.kinds for links in ours.links] == [{1: "comm"}, {0: "comm"}]
    ours.rehearse()


def test_a_port_that_swallows_calls_gives_way_to_the_courier(group: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ours = group(2, comms=True, patience=0.5)
        ours.elsewhere(0)
        ours.links[1].offer["address"] = silent.getsockname()
        ours.connect()
    assert [links.kinds for links in ours.links] == [{1: "comm"}, {0: "comm"}]
    ours.rehearse()


def test_nothing_in_common_is_said(group: Any) -> None:
    ours = group(2, only=["shared", "socket"])
    assert "no kind of channel in common" in str(ours.run(lambda i: ours.links[i].connect(ours.offers, 5))[0])
    mixed = group(2)
    mixed.elsewhere(0)
    mixed.links[0].offer["secure"] = 1  # TLS at one end alone
    assert "no kind of channel in common" in str(mixed.run(lambda i: mixed.links[i].connect(mixed.offers, 5))[1])


def test_strangers_at_the_port_do_no_harm(group: Any) -> None:
    ours = group(3, only="socket")
    callers = []
    for kind in range(60):
        caller = socket.create_connection(ours.links[2].offer["address"])
        if kind % 3 == 1:
            caller.sendall(os.urandom(500))
        elif kind % 3 == 2:
            caller.close()
        callers.append(caller)
    began = time.monotonic()
    ours.connect()
    assert time.monotonic() - began < rendezvous.PATIENCE
    assert ours.links[2].strangers >= 40
    ours.rehearse()
    for caller in callers:
        caller.close()


def test_more_strangers_than_there_is_room_for(group: Any) -> None:
    ours = group(2, only="socket", callers=4)
    callers = [socket.create_connection(ours.links[1].offer["address"]) for _ in range(40)]
    ours.connect()
    assert ours.links[1].strangers >= 30
    for caller in callers:
        caller.close()


def test_strangers_do_no_harm_to_tls(group: Any, tls: Any) -> None:
    ours = group(2, only="socket", tls=tls)
    callers = [socket.create_connection(ours.links[1].offer["address"]) for _ in range(6)]
    for caller in callers[::2]:
        caller.sendall(b"GET / HTTP/1.0\r\n\r\n")
    ours.connect()
    ours.rehearse()
    for caller in callers:
        caller.close()


def test_a_wrong_token_is_refused(group: Any) -> None:
    ours = group(3, only="socket", token=[b"one", b"one", b"another"])
    errors = ours.run(lambda i: ours.links[i].connect(ours.offers, 2))
    assert all(isinstance(error, LinkLost) for error in errors[:2])
    refused = [error for error in errors[:2] if error.peer == 2 and "another token" in error.why]
    assert refused, errors
    assert len(refused) == 2 or errors[refused[0] is errors[0]].peer != 2, "the other one lost the one that gave up, if not rank 2"
    assert isinstance(errors[2], Overdue)
    assert "refused" in str(errors[2])
    assert ours.links[2].strangers == 2


def test_the_token_never_travels() -> None:
    secret = b"a long and secret token of the group"
    host, caller = AsHost(GROUP, 1, {0}, secret), AsCaller(GROUP, 0, 1, secret)
    answer = caller.receive(host.greeting)
    welcome = host.receive(answer)
    assert caller.receive(welcome) == b""
    assert (host.peer, host.wanted, caller.wanted) == (0, 0, 0)
    assert all(secret[:8] not in message for message in (host.greeting, answer, welcome))


def test_proofs_cannot_be_replayed_reflected_or_moved() -> None:
    host, caller = AsHost(GROUP, 1, {0}, TOKEN), AsCaller(GROUP, 0, 1, TOKEN)
    answer = caller.receive(host.greeting)
    with pytest.raises(Refused, match="token"):
        AsHost(GROUP, 1, {0}, TOKEN).receive(answer)  # of an earlier connection
    with pytest.raises(Refused, match="token"):
        caller.receive(answer[-32:])  # the caller's own proof
    with pytest.raises(Refused, match="not expected"):
        AsHost(GROUP, 2, {0}, TOKEN).receive(answer)
    with pytest.raises(Refused, match="not expected"):
        AsHost(bytes(16), 1, {0}, TOKEN).receive(answer)
    with pytest.raises(Refused, match="not expected"):
        AsHost(GROUP, 1, {3}, TOKEN).receive(answer)
    with pytest.raises(Refused, match="does not speak"):
        AsCaller(GROUP, 0, 1, TOKEN).receive(b"HTTP/1.1" + bytes(AsCaller(GROUP, 0, 1, TOKEN).wanted - 8))


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_listening_everywhere_is_refused(address: str) -> None:
    board = Board.create({})
    with pytest.raises(ChannelError, match="everywhere"):
        Links("0" * 32, 0, board, {}, TOKEN, address)
    board.close()


def test_an_address_of_another_machine_offers_no_sockets() -> None:
    board = Board.create({})
    with Links("0" * 32, 0, board, {}, TOKEN, "192.0.2.1") as links:
        assert "socket" not in links.offer["kinds"]
    with pytest.raises(ChannelError, match="cannot listen"):
        Links("0" * 32, 0, Board.create({}), {}, TOKEN, "192.0.2.1", only="socket")
    board.close()


def test_only_the_given_address_is_listened_at(group: Any) -> None:
    links = group(2).links[0]
    assert links.offer["address"][0] == "127.0.0.1"
    assert group(2, only="shared").links[0].offer["address"] is None


def test_offers_are_checked(group: Any) -> None:
    a, b = group(2).links
    with pytest.raises(ChannelError, match="no offers of ranks"):
        a.connect({}, 1)
    with pytest.raises(ChannelError, match="version 9"):
        a.connect({1: {**b.offer, "version": 9}}, 1)
    with pytest.raises(ChannelError, match="of rank 0 of group"):
        a.connect({1: a.offer}, 1)


def test_links_are_checked() -> None:
    board = Board.create({})
    for group, rank, tables, token in (("x", 0, {}, TOKEN), ("g" * 32, 0, {}, TOKEN), ("0" * 32, 1024, {}, TOKEN)):
        with pytest.raises(ChannelError, match="hexadecimal"):
            Links(group, rank, board, tables, token, "127.0.0.1")
    with pytest.raises(ChannelError, match="distinct ranks"):
        Links("0" * 32, 0, board, {0: Table()}, TOKEN, "127.0.0.1")
    with pytest.raises(ChannelError, match="needs a token"):
        Links("0" * 32, 0, board, {}, b"", "127.0.0.1")
    with Links("0" * 32, 0, board, {}, TOKEN, "127.0.0.1"), pytest.raises(ChannelError, match="create a new one"):
        Links("0" * 32, 0, board, {}, TOKEN, "127.0.0.1")
    board.close()


def test_memory_of_another_group_is_not_taken_for_the_peers(group: Any) -> None:
    ours, stale = group(2), group(2)
    for key in ("board", "bell"):
        ours.links[1].offer[key] = stale.links[1].offer[key]
    ours.connect()
    assert ours.links[0].kinds == {1: "socket"}
    ours.links[0].post(Phase.SQUARES, [1], 0, 0)
    ours.links[1].wait(Phase.SQUARES, [0], 0, 0)


def test_ranks_that_all_share_memory_have_one_board_in_common(group: Any) -> None:
    ours = group(3).connect()
    name = next(iter(ours.plan.regions))
    ours.links[2].common[name][0] = 7
    assert {float(links.common[name][0]) for links in ours.links} == {7.0} == {float(ours.boards[0][name][0])}


def test_ranks_of_which_some_do_not_share_memory_have_no_board_in_common(group: Any) -> None:
    ours = group(3)
    ours.elsewhere(2)
    ours.connect()
    assert ours.links[0].kinds == {1: "shared", 2: "socket"}
    assert [links.common for links in ours.links] == [None] * 3


def test_who_has_met_everybody_waits_until_all_have(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    really = shared.all_share

    def late(board: Any, links: Any, *others: Any) -> bool:
        time.sleep(0.5 * ({link.peer for link in links} == {0, 1}))
        return really(board, links, *others)

    monkeypatch.setattr("dagtrain.transport.communicator.all_share", late)
    assert None not in [links.common for links in group(3).connect().links]
    ours = group(3)
    errors = ours.run(lambda i: ours.links[i].connect(ours.offers, 0.3))
    assert [str(error) for error in errors[:2]] == ["rank 2 has not met all others after 0.3 s"] * 2
