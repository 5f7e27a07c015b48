"""The plan of a cluster on this machine, and what is refused before anything starts."""

import socket

import pytest

from dagtrain.deploy.clusters import Local, clusters
from dagtrain.errors import ArgumentError, ClusterError


def test_plan_binds_everything_to_loopback_and_makes_nothing(state):
    state.rmdir()
    scheduler, workers = Local(workers=3, nthreads=2, memory_limit="1GiB").plan().commands
    assert "distributed.cli.dask_scheduler --preload dagtrain.dashboard" in " ".join(scheduler)
    assert scheduler[scheduler.index("--host") + 1] == "127.0.0.1"
    assert scheduler[scheduler.index("--dashboard-address") + 1] == "127.0.0.1:0"
    assert workers[workers.index("--host") + 1] == "127.0.0.1"
    assert workers[workers.index("--dashboard-address") + 1] == "127.0.0.1:0"
    assert "--nworkers 3 --nthreads 2 --memory-limit 1GiB" in " ".join(workers)
    assert not state.exists()


def test_plan_with_tls_makes_certificates_first_and_all_of_it_encrypts(state):
    certificates, *commands = Local(tls=True, name="x").plan().commands
    assert certificates == ["dagtrain", "certs", str(state / "x" / "certificates")]
    for command, role in zip(commands, ("scheduler", "worker"), strict=True):
        assert command[command.index("--protocol") + 1] == "tls"
        assert command[command.index("--tls-key") + 1] == str(state / "x" / "certificates" / f"{role}-key.pem")


@pytest.mark.parametrize("limit", ["1PiB", "2000000000000000", "0.4"])
def test_memory_beyond_the_machine_is_refused(limit):
    with pytest.raises(ArgumentError, match=rf"3 workers with {limit} each take .* GiB, and this machine has .* GiB: lower --memory-limit"):
        Local(workers=3, memory_limit=limit).start()
    assert clusters() == []


@pytest.mark.parametrize("limit", ["much", "-1", "2 apples", "100", "1MiB"])
def test_memory_limit_that_is_none_is_refused(limit):
    with pytest.raises(ArgumentError, match="a memory limit is auto, bytes as in 2GiB"):
        Local(memory_limit=limit)


@pytest.mark.parametrize("limit", ["auto", "0", "0.5", "1.0", "1GiB", "3e9"])
def test_memory_limits_of_dask_are_accepted(limit):
    assert Local(memory_limit=limit).memory_limit == limit


@pytest.mark.parametrize("option", ["port", "dashboard_port"])
def test_port_in_use_is_refused(option):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            ClusterError, match=rf"port {port} of 127.0.0.1 cannot be used: .*Give another --{option.replace('_', '-')}, or 0"
        ):
            Local(**{option: port}).start()
    assert clusters() == []


def test_no_workers_are_refused():
    with pytest.raises(ArgumentError, match="workers and nthreads are at least 1; got 0 and 1"):
        Local(workers=0)
