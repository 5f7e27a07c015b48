"""Waiting for workers: an end also where the scheduler does not answer."""

import asyncio
import socket
import time

import pytest

from dagtrain.deploy.clusters import wait_for_workers
from dagtrain.errors import ClusterError


def fine():
    """A check that finds nothing."""


def test_present_workers_are_found_and_absent_ones_counted(local_cluster):
    with local_cluster(1) as cluster:
        address = cluster.scheduler_address
        assert wait_for_workers(address, 1, None, 60, fine) in ("", cluster.dashboard_link)
        with pytest.raises(ClusterError, match=f"1 of 2 workers came to {address} within 1 s"):
            wait_for_workers(address, 2, None, 1, fine)


def test_scheduler_that_keeps_its_connection_and_does_not_answer_is_an_error_in_time(local_cluster):
    with local_cluster(1) as cluster:
        checks = []

        async def silent(**_):
            await asyncio.sleep(600)

        def check():
            checks.append(1)
            if len(checks) == 2:  # the client is connected
                cluster.scheduler.handlers["identity"] = silent

        began = time.monotonic()
        with pytest.raises(ClusterError, match=r"0 of 1 workers came to .* At last it did not answer"):
            wait_for_workers(cluster.scheduler_address, 1, None, 2, check)
        assert time.monotonic() < began + 60


def test_port_that_accepts_and_is_silent_is_an_error_in_time():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(ClusterError, match=r"within 1 s: it accepts connections, and is silent\."),
    ):
        wait_for_workers(f"tcp://127.0.0.1:{listener.getsockname()[1]}", 1, None, 1, fine)
