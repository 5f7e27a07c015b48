"""Clusters by `dask ssh`: plans, lists of hosts, and what the check of hosts says, with a stand-in for the program `ssh`."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import dask
import pytest
from distributed import Security

from dagtrain.deploy.clusters import Ssh, Started, clusters
from dagtrain.deploy.clusters.processes import Process, end
from dagtrain.deploy.clusters.remote_hosts import MARK, Login, check_hosts, end_marked, parse_hosts
from dagtrain.deploy.clusters.ssh import SSH
from dagtrain.errors import ArgumentError, ClusterError

CLUSTER = f"test-{os.getpid()}"
"""Tests that run at the same time look for other marks."""

# Fails as $SSH_SAYS tells, else runs the last word by this machine's shell, as a host that is this machine.
PROGRAM = """#!/bin/sh
if [ -n "$SSH_SAYS" ]; then echo "$SSH_SAYS" >&2; exit "${SSH_STATUS:-255}"; fi
for word; do last=$word; done
exec sh -c "$last"
"""


@pytest.fixture(autouse=True)
def ssh(tmp_path, monkeypatch):
    """The stand-in, and a function that makes it fail."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(PROGRAM)
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def says(text, status=255):
        monkeypatch.setenv("SSH_SAYS", text)
        monkeypatch.setenv("SSH_STATUS", str(status))

    return says


def login(python=sys.executable):
    return Login.of("me", 2222, Path("/keys/mine"), Path("/keys/known"), python)


def check(python=sys.executable, port=0, files=()):
    check_hosts(login(python), CLUSTER, {"node1": port}, files)


def test_hosts_are_one_a_line_with_comments():
    assert parse_hosts("node1 # first\n\n  10.0.0.2\n#\n") == ("node1", "10.0.0.2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no hosts are listed"),
        ("a\nb\na\n", "the host a is listed twice"),
        ("me@node1", "user and port are options"),
        ("node1:22", "user and port are options"),
        ("node1 node2", "write one host on each line"),
        ("-oProxyCommand=x", "is not a name or an IPv4 address"),
    ],
)
def test_list_that_cannot_be_used_says_why(text, message):
    with pytest.raises(ArgumentError, match=message):
        parse_hosts(text)


def test_plan_is_the_check_of_all_hosts_and_dask_ssh():
    *checks, command_line = Ssh(("n1", "n2"), user="me", scheduler="head", remote_python="/opt/python").plan().commands
    assert [command[-2] for command in checks] == ["head", "n1", "n2"]
    for command in checks:
        assert command[:3] == ["ssh", "-F", "none"]
        assert "StrictHostKeyChecking=yes" in command
        assert "BatchMode=yes" in command
    assert command_line[1:3] == ["-m", "dagtrain.deploy.clusters.verified_ssh"]
    assert command_line[-2:] == ["n1", "n2"]
    assert command_line[command_line.index("--scheduler") + 1] == "head"
    preload = "DASK_DISTRIBUTED__SCHEDULER__PRELOAD=dagtrain.dashboard"
    assert command_line[command_line.index("--remote-python") + 1] == f"env {MARK}=ssh {preload} /opt/python"


def test_tls_travels_in_the_environment_of_the_remote_python():
    command_line = Ssh(("n1",), certificates=Path("/certs")).dask_ssh()
    python = command_line[command_line.index("--remote-python") + 1].split()
    assert python[0] == "env"
    settings = dict(word.split("=") for word in python[1:-1])
    with dask.config.set(dask.config.merge(dask.config.config, dask.config.collect_env(settings))):
        security = Security()
        assert dask.config.get("distributed.comm.default-scheme") == "tls"
        assert dask.config.get("distributed.scheduler.preload") == "dagtrain.dashboard"
    assert security.require_encryption
    assert security.tls_ca_file == "/certs/ca.pem"
    assert security.tls_scheduler_cert == "/certs/scheduler.pem"
    assert security.tls_worker_key == "/certs/worker-key.pem"


@pytest.mark.parametrize("options", [{"remote_python": "/my python"}, {"remote_python": "/p'; rm -r x'"}, {"certificates": Path("/a b")}])
def test_paths_that_the_shell_of_dask_ssh_would_split_are_refused(options):
    with pytest.raises(ArgumentError, match="a character that dask ssh cannot pass on"):
        Ssh(("n1",), **options)


def test_scheduler_that_others_cannot_reach_is_refused():
    with pytest.raises(ArgumentError, match=r"cannot reach a scheduler at 127\.0\.0\.1"):
        Ssh(("127.0.0.1", "n2"))
    assert Ssh(("localhost",)).address == "tcp://localhost:8786"


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("Host key verification failed.", 255, "node1: its host key is not known. Connect once by hand .*: ssh -i /keys/mine -l me"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", 255, "its host key is not the known one"),
        ("me@node1: Permission denied (publickey).", 255, "accepts no key of this user .*ssh-copy-id"),
        ("ssh: connect to host node1 port 2222: Connection refused", 255, "no connection: .*Connection refused .*config is not read"),
        ("ssh: Could not resolve hostname node1: Name or service not known", 255, "no connection: .*Name or service not known"),
        ("bash: line 1: /opt/python: No such file or directory", 127, "there is no Python /opt/python .*--remote-python"),
        ("bash: line 1: /opt/python: Permission denied", 126, "there is no Python /opt/python"),
        ("Fatal Python error", 1, "/opt/python failed with status 1: Fatal Python error"),
    ],
)
def test_host_that_cannot_be_used_is_named_with_the_cure(ssh, text, status, message):
    ssh(text, status)
    with pytest.raises(ClusterError, match=rf"(?s)1 of 1 hosts cannot be used; nothing was started.*{message}"):
        check("/opt/python")


def test_host_that_has_all_is_accepted(tmp_path):
    check(files=[__file__])


def test_absent_program_ssh_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="the program ssh was not found: install OpenSSH"):
        check()


def test_certificates_that_a_host_lacks_are_named():
    with pytest.raises(ClusterError, match=r"cannot read /absent/ca\.pem: copy the certificates"):
        check(files=["/absent/ca.pem"])


@pytest.mark.parametrize("package", ["dagtrain", "distributed"])
def test_other_versions_are_named(monkeypatch, package):
    here = importlib.metadata.version(package)
    monkeypatch.setattr("dagtrain.deploy.clusters.remote_hosts.versions", lambda: {package: "0.0"})
    with pytest.raises(ClusterError, match=f"it has {package} {here} and this machine 0.0: install the same on both"):
        check()


@pytest.mark.slow
def test_marked_processes_are_found_and_ended_with_their_children():
    sleep = "import time; time.sleep(600)"
    program = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {sleep!r}]); print(p.pid, flush=True); p.wait()"
    parent = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, MARK: CLUSTER}, stdout=subprocess.PIPE, text=True)
    child = Process.of(int(parent.stdout.readline()))
    other = subprocess.Popen([sys.executable, "-c", sleep], env={**os.environ, MARK: f"{CLUSTER}-other"})
    try:
        with pytest.raises(ClusterError, match=f"an earlier cluster of this name run there: end them with kill .*{parent.pid}"):
            check()
        end_marked(login(), CLUSTER, ["node1"])
        assert parent.wait(10) < 0
        assert not child.runs()
        assert other.poll() is None
    finally:
        end([child], grace=0)
        for process in (parent, other):
            process.kill()
            process.communicate()


def test_stop_says_on_which_hosts_processes_may_run_on(ssh):
    started = Started(CLUSTER, "ssh", external={"hosts": "n1 n2", "ssh": "ssh -p 22", "python": sys.executable})
    SSH.stop(started)
    ssh("ssh: connect to host n1 port 22: No route to host")
    with pytest.raises(
        ClusterError, match=r"(?s)not known whether all processes on 2 of 2 hosts have ended.*n2: no connection.*delete .*/test-.*\.json"
    ):
        SSH.stop(started)


def test_refused_hosts_leave_no_record(ssh):
    ssh("Host key verification failed.")
    with pytest.raises(ClusterError, match="nothing was started"):
        Ssh(("n1",)).start()
    assert clusters() == []
