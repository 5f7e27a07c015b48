"""`dagtrain cluster`, as a user types it."""

import json
import signal
import socket
import time
from urllib.request import urlopen

import pytest

from dagtrain.deploy.clusters import clusters


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def dead(address):
    """Whether nothing listens at an address such as tcp://127.0.0.1:8786."""
    host, port = address.rpartition("/")[2].split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_local_cluster_trains_and_is_stopped_by_its_name(command):
    started = command("cluster", "local", "--workers", "1", "--name", "mine")
    assert started.exit_code == 0, started.output
    try:
        lines = dict(line.split(maxsplit=1) for line in started.stdout.splitlines()[2:] if line)
        assert lines["stop"].endswith("dagtrain cluster stop mine")
        assert lines["dashboard"].startswith("http://127.0.0.1:")

        again = command("cluster", "local", "--name", "mine")
        assert again.exit_code == 2
        assert "a cluster 'mine' is running" in again.stderr

        assert [row["state"] for row in json.loads(command("cluster", "list", "--json").stdout)] == ["running"]
        trained = command("train", "digits", "--scheduler", lines["scheduler"], "--epochs", "1", "--no-pictures")
        assert "lanes engine, 1 worker" in trained.stdout
        page, metrics = (urlopen(lines["dashboard"].replace("status", name), timeout=60).read() for name in ("dagtrain", "metrics"))
        assert b'<a href="dagtrain">' in page
        assert b"dagtrain_running{" in metrics

        examined = json.loads(command("doctor", "--scheduler", lines["scheduler"], "--json").stdout)
        groups = {"security", "life", "tools"}  # the machine's load decides on others
        assert {line["name"] for line in examined["checks"] if line["level"] and line["group"] in groups} <= {"pictures", "checkpoint"}
    finally:
        stopped = command("cluster", "stop")
    assert stopped.stdout == "mine: stopped.\n"
    assert dead(lines["scheduler"])
    assert clusters() == []


@pytest.mark.cluster
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_start_leaves_nothing(process, number, status):
    start = process("cluster", "local")
    until = time.monotonic() + 60
    while not (rows := clusters()) or not rows[0][1].processes:
        assert start.poll() is None, start.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    begun = rows[0][1].processes
    start.send_signal(number)
    output, _ = start.communicate(timeout=60)
    assert start.returncode == status, output
    assert not any(child.runs() for child in begun)
    assert clusters() == []


def test_stop_without_a_cluster_says_so(command):
    stopped = command("cluster", "stop")
    assert stopped.exit_code == 2
    assert "no cluster was started: nothing to stop" in stopped.stderr


def test_list_without_a_cluster_is_empty(command):
    assert "No cluster was started" in command("cluster", "list").stderr
    assert json.loads(command("cluster", "list", "--json").stdout) == []


def test_dry_run_prints_the_commands_and_starts_nothing(command, state):
    planned = command("cluster", "local", "--workers", "3", "--dry-run")
    assert planned.exit_code == 0
    assert "--nworkers 3" in planned.stdout
    assert not state.exists()


def test_dry_run_of_ssh_needs_no_host(command, tmp_path):
    (tmp_path / "hosts").write_text("node1\nnode2\n")
    planned = command("cluster", "ssh", "hosts", "--dry-run", "--user", "me")
    assert planned.exit_code == 0
    assert planned.stdout.splitlines()[-1].endswith(" node1 node2")


def test_absent_list_of_hosts_is_named(command):
    assert "the list of hosts absent cannot be read: No such file or directory" in command("cluster", "ssh", "absent").stderr
