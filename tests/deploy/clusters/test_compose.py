"""A cluster by Docker Compose, with stand-ins for docker and docker-compose. `scripts/prove-containers` runs the true ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dagtrain.cli import main
from dagtrain.deploy.clusters import Compose, clusters, load, stop
from dagtrain.errors import ArgumentError, ClusterError

ROOT = Path(__file__).parent.parent.parent.parent

# The containers are lines of the file $CONTAINERS; $BROKEN is a verb that fails.
COMPOSE = """#!/bin/bash
[ "$(basename "$0")" = docker-compose ] || { [ "$1" = compose ] && [ -n "$PLUGIN" ] || exit 1; }
echo "$(basename "$0") $* WORKER_MEMORY=$WORKER_MEMORY SCHEDULER_PORT=$SCHEDULER_PORT DOCKER_HOST=$DOCKER_HOST" >> "$LOG"
for word in "$@"; do [ "$word" != "$BROKEN" ] || { echo "Cannot connect to the Docker daemon" >&2; exit 1; }; done
case " $* " in
  *" ps "*) [ ! -f "$CONTAINERS" ] || cat "$CONTAINERS" ;;
  *" up "*) echo 0123456789abcdef > "$CONTAINERS"; echo "Creating" ;;
  *" down "*) rm -f "$CONTAINERS" ;;
esac
"""


class Machine:
    """What a test sees of Docker."""

    def __init__(self, folder: Path) -> None:
        self.log, self.containers = folder / "log", folder / "containers"

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("docker", "docker-compose"):
        (folder / name).write_text(COMPOSE)
        (folder / name).chmod(0o755)
    seen = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    for name, value in (
        ("XDG_STATE_HOME", tmp_path / "state"),
        ("LOG", seen.log),
        ("CONTAINERS", seen.containers),
        ("DOCKER_HOST", "unix:///a"),
    ):
        monkeypatch.setenv(name, str(value))
    for name in ("BROKEN", "PLUGIN", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(ROOT)
    return seen


def test_start_and_stop_name_the_same_project_at_the_same_daemon(machine, monkeypatch, capfd):
    started = Compose(name="a", workers=4, memory_limit="2GiB", port=9786).start()
    project = f"docker-compose --project-name dagtrain-a --file {ROOT}/docker-compose.yml"
    up = f"{project} up --detach --scale worker=4 trainer WORKER_MEMORY=2560M SCHEDULER_PORT=9786 DOCKER_HOST=unix:///a"
    assert machine.calls()[-1] == up
    assert started.scheduler == "tcp://127.0.0.1:9786"
    assert started.external["trainer"] == f"{project} logs --follow trainer"
    assert "Creating" in capfd.readouterr().err  # a build can be followed
    monkeypatch.setenv("DOCKER_HOST", "unix:///b")
    assert clusters()[0][2] == "running"
    assert stop("a") == ["container 0123456789ab"]
    assert machine.calls()[-1].startswith(f"{project} down --volumes ")
    assert machine.calls()[-1].endswith("DOCKER_HOST=unix:///a")
    assert not machine.containers.exists()
    assert clusters() == []


def test_plugin_is_preferred_and_tls_is_a_profile(machine, monkeypatch):
    monkeypatch.setenv("PLUGIN", "1")
    started = Compose(name="a", tls=True).start()
    assert "docker compose --project-name dagtrain-a " in machine.calls()[-1]
    assert "--profile tls up --detach --scale tls-worker=2 tls-trainer " in machine.calls()[-1]
    assert started.scheduler == ""  # the certificates are in a volume
    stop("a")
    assert "--profile tls down --volumes" in machine.calls()[-1]


def test_start_that_fails_removes_its_containers(machine, monkeypatch):
    monkeypatch.setenv("BROKEN", "up")
    with pytest.raises(ClusterError, match="its messages are above"):
        Compose(name="a").start()
    assert " down --volumes " in machine.calls()[-1]
    assert clusters() == []


def test_daemon_that_does_not_answer_is_named(machine, monkeypatch):
    monkeypatch.setenv("BROKEN", "ps")
    with pytest.raises(ClusterError, match=r"daemon does not answer \(Cannot connect to the Docker daemon\): start it"):
        Compose(name="a").start()
    assert clusters() == []


def test_containers_of_others_are_left_alone(machine):
    machine.containers.write_text("abc\n")
    with pytest.raises(ClusterError, match="already are containers of the project dagtrain-a"):
        Compose(name="a").start()
    assert machine.containers.exists()
    assert clusters() == []


def test_record_stays_if_the_containers_cannot_be_removed(machine, monkeypatch):
    Compose(name="a").start()
    monkeypatch.setenv("BROKEN", "down")
    with pytest.raises(ClusterError, match="above"):
        stop("a")
    assert load("a").external["docker_host"] == "unix:///a"


def test_without_docker_a_plan_can_be_made_and_a_start_says_what_is_absent(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    printed = CliRunner().invoke(main, ["cluster", "compose", "--workers", "3", "--dry-run"], catch_exceptions=False).stdout
    assert printed.startswith("env WORKER_MEMORY=1280M EPOCHS=30 SCHEDULER_PORT=8786 DASHBOARD_PORT=8787 docker compose ")
    assert "--scale worker=3" in printed
    with pytest.raises(ClusterError, match=r"no program docker-compose on PATH: install Docker with Compose"):
        Compose(name="a").start()
    assert machine.calls() == []


def test_file_that_is_absent_is_named(machine, tmp_path):
    with pytest.raises(ArgumentError, match=r"no file .*absent\.yml"):
        Compose(file=tmp_path / "absent.yml").start()


@pytest.mark.parametrize(("options", "message"), [({"workers": 0}, "at least 1"), ({"memory_limit": "0.5"}, "number of bytes")])
def test_options_that_cannot_hold_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        Compose(**options)
