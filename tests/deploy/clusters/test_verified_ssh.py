"""`dask ssh` with verified host keys, against a server of SSH in this process."""

import socket
import threading

import pytest

from dagtrain.deploy.clusters.verified_ssh import verifying

paramiko = pytest.importorskip("paramiko", reason="dask ssh needs paramiko")


@pytest.fixture(scope="module")
def key():
    return paramiko.ECDSAKey.generate()


@pytest.fixture
def port(key):
    """The port of a server that lets nobody log in."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transports = []

        def serve():
            connection, _ = listener.accept()
            transports.append(paramiko.Transport(connection))
            transports[0].add_server_key(key)
            transports[0].start_server(threading.Event(), paramiko.ServerInterface())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
        for transport in transports:
            transport.close()


def connect(port, file):
    """Connect as dask ssh does."""
    with verifying(["/absent", str(file)])() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect("127.0.0.1", port, username="me", password="x", look_for_keys=False, allow_agent=False)


def line(port, key):
    return f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n"


def test_host_of_the_list_is_accepted(port, key, tmp_path):
    (tmp_path / "known").write_text(line(port, key))
    with pytest.raises(paramiko.AuthenticationException):  # the server lets nobody log in
        connect(port, tmp_path / "known")


def test_host_that_is_not_on_the_list_is_refused(port, tmp_path):
    (tmp_path / "known").write_text("")
    with pytest.raises(paramiko.SSHException, match="not found in known_hosts"):
        connect(port, tmp_path / "known")


def test_host_with_another_key_is_refused(port, tmp_path):
    (tmp_path / "known").write_text(line(port, paramiko.ECDSAKey.generate()))
    with pytest.raises(paramiko.BadHostKeyException):
        connect(port, tmp_path / "known")
