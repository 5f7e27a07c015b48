"""Networks that fail: what connections bear, and how often the scheduler is asked."""

import socket
from types import SimpleNamespace

import pytest

from dagtrain.engines.cluster.outages import endure, insist
from dagtrain.errors import ClusterError


@pytest.fixture
def comm():
    with socket.socket() as sock:
        yield SimpleNamespace(stream=SimpleNamespace(socket=sock, closed=lambda: False))


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system cannot say")
def test_a_connection_bears_an_outage_for_a_while(comm):
    def borne():
        return comm.stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000

    endure(comm, 120)
    assert borne() == 120
    endure(comm)
    assert borne() == 30
    endure(comm, 11)
    assert borne() == 30, "no less than Dask is set to"


def test_what_has_no_socket_is_left_as_it_is():
    endure(SimpleNamespace())
    endure(None)


def client_of(*answers):
    """A client whose scheduler answers, breaks off, or is silent, in turn."""
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


def test_the_scheduler_is_asked_again():
    client, ask, _ = client_of(TimeoutError(), OSError("broken"), "yes")
    told = []
    assert insist(client, ask, say=told.append) == "yes"
    assert told == ["the scheduler at tcp://here does not answer: waiting up to 120 s for it"]


def test_it_is_not_asked_for_ever():
    client, ask, left = client_of(*[TimeoutError()] * 100)
    with pytest.raises(ClusterError, match=r"the scheduler at tcp://here does not answer \(TimeoutError"):
        insist(client, ask, 1.0)
    assert left


def test_it_is_not_asked_again_by_a_client_that_has_lost_it():
    def lose():
        client.status = "connecting"
        raise OSError("broken")

    client, ask, left = client_of(lose, "yes")
    with pytest.raises(ClusterError, match="does not answer"):
        insist(client, ask)
    assert left == ["yes"]


def test_an_error_is_told_at_once():
    client, ask, left = client_of(ValueError("wrong"), "yes")
    with pytest.raises(ClusterError, match="wrong"):
        insist(client, ask)
    assert left == ["yes"]
