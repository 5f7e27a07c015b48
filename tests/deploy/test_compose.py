"""docker-compose.yml and Dockerfile, without Docker. `scripts/prove-containers` runs them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from dask.utils import parse_bytes
from distributed.cli.dask_scheduler import main as scheduler
from distributed.cli.dask_worker import main as worker

from dagtrain.cli.train import digits
from dagtrain.deploy.clusters.dask_programs import SCHEDULER

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_RUNNING = [name for name in SERVICES if name.endswith(("scheduler", "worker"))]
COMMANDS = {"dask scheduler": scheduler, "dask worker": worker, "dagtrain train digits": digits}
WORKERS = [name for name in SERVICES if name.endswith("worker")]


def defaults(text: str) -> str:
    """The text as Compose reads it without variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def option(service: str, name: str) -> str:
    return defaults(SERVICES[service]["command"]).split(f"{name} ")[1].split()[0]


def test_files_need_nothing_that_one_version_of_compose_refuses():
    assert not {"name", "version"} & set(COMPOSE)


def test_the_image_is_built_of_all_that_the_wheel_has():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {"pyproject.toml", "README.md", "LICENSE", *build["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert needed <= set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))


def test_ports_are_bound_to_loopback_and_none_twice():
    ports = [defaults(port) for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.rsplit(":", 1)[0] for port in ports}) == len(ports)


def test_images_have_versions_and_users_are_not_root():
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", bases[0])
    assert f"--python-version {bases[0].split(':')[1].split('-')[0]} " in DOCKERFILE
    assert re.findall(r"^USER (\w+)", DOCKERFILE, re.MULTILINE) == ["dagtrain"]
    for service in SERVICES.values():
        assert not service["image"].endswith(":latest")
        assert ":" in service["image"]
        assert service["cap_drop"] == ["ALL"]
        assert "user" not in service


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_services_start_again_and_receive_sigterm_in_time_to_leave(service):
    assert SERVICES[service]["restart"] == "always"
    assert SERVICES[service]["init"] is True
    assert int(SERVICES[service]["stop_grace_period"].removesuffix("s")) >= 30


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_health_is_asked_at_the_port_of_the_dashboard(service):
    _, python, _, program = SERVICES[service]["healthcheck"]["test"]
    assert python == "python"
    compile(program, "healthcheck", "exec")
    assert f"127.0.0.1{option(service, '--dashboard-address')}/health" in program


@pytest.mark.parametrize("service", WORKERS)
def test_workers_limit_leaves_room_for_the_nanny_in_its_container(service):
    container = parse_bytes(defaults(SERVICES[service]["deploy"]["resources"]["limits"]["memory"]) + "iB")
    fraction = float(option(service, "--memory-limit"))  # of the container's limit
    assert 0.5 <= fraction < 1
    assert (1 - fraction) * container >= parse_bytes("200MiB")


def test_every_service_has_a_memory_limit():
    assert all(service["deploy"]["resources"]["limits"]["memory"] for service in SERVICES.values())


def test_tls_is_a_profile_and_all_of_it_encrypts():
    tls = {name: service for name, service in SERVICES.items() if service.get("profiles") == ["tls"]}
    assert set(tls) == {"certificates", "tls-scheduler", "tls-worker", "tls-trainer"}
    assert "tcp://" not in " ".join(service["command"] for service in tls.values())
    for name in ("tls-scheduler", "tls-worker"):
        assert "--protocol tls" in tls[name]["command"]
    assert "--certs /certificates" in tls["tls-trainer"]["command"]


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "certificates"])
def test_commands_have_only_options_that_exist(service):
    words = defaults(SERVICES[service]["command"]).split()
    command = COMMANDS[" ".join(words[: 2 if words[0] == "dask" else 3])]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known


def test_schedulers_have_what_every_scheduler_has():
    for service in ("scheduler", "tls-scheduler"):
        assert f"dask scheduler {' '.join(SCHEDULER)} " in SERVICES[service]["command"]


def test_build_reads_only_what_the_package_needs():
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in ignored
    for name in ("dagtrain", "pyproject.toml", "README.md", "LICENSE"):
        assert f"!{name}" in ignored
        assert (ROOT / name).exists()


def test_proof_names_what_it_needs_before_it_starts_anything():
    command = [sys.executable, ROOT / "scripts" / "prove-containers", "--compose", "/absent/docker-compose"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "/absent/docker-compose (package docker-compose)" in done.stderr
    assert "Cleaning up" not in done.stderr
