"""Networks that fail: how long connections survive, and how often requests to the scheduler are repeated."""

import socket
from types import SimpleNamespace

import pytest

from dagtrain.engines.cluster.outages import endure, insist
from dagtrain.errors import ClusterError


@pytest.fixture
def comm():
    with socket.socket() as sock:
        yield SimpleNamespace(stream=SimpleNamespace(socket=sock, closed=lambda: False))


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such option")
def test_a_connection_survives_an_outage_of_this_length(comm):
    def timeout():
        return comm.stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000

    endure(comm, 120)
    assert timeout() == 120
    endure(comm)
    assert timeout() == 30
    endure(comm, 11)
    assert timeout() == 30, "no less than Dask's setting"


def test_connections_without_a_socket_are_left_unchanged():
    endure(SimpleNamespace())
    endure(None)


def client_of(*answers):
    """A client, a request that returns or raises these answers in turn, and the answers that are left."""
    left = list(answers)

    def ask():
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer()
        return answer

    client = SimpleNamespace(status="running", scheduler=SimpleNamespace(address="tcp://here"))
    return client, ask, left


def test_a_request_is_repeated():
    client, ask, _ = client_of(TimeoutError(), OSError("broken"), "yes")
    messages = []
    assert insist(client, ask, say=messages.append) == "yes"
    assert messages == ["the scheduler at tcp://here does not answer: waiting up to 120 s for it"]


def test_a_request_is_not_repeated_for_ever():
    client, ask, left = client_of(*[TimeoutError()] * 100)
    with pytest.raises(ClusterError, match=r"the scheduler at tcp://here does not answer \(TimeoutError"):
        insist(client, ask, 1.0)
    assert left


def test_a_client_that_has_lost_its_connection_does_not_repeat_a_request():
    def lose():
        client.status = "connecting"
        raise OSError("broken")

    client, ask, left = client_of(lose, "yes")
    with pytest.raises(ClusterError, match="does not answer"):
        insist(client, ask)
    assert left == ["yes"]


def test_an_error_of_the_request_is_raised_at_once():
    client, ask, left = client_of(ValueError("wrong"), "yes")
    with pytest.raises(ClusterError, match="wrong"):
        insist(client, ask)
    assert left == ["yes"]
