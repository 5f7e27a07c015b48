"""Gathering for real: in this process, in one without dagtrain, and on a cluster."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dagtrain.cli import main
from dagtrain.deploy import examine
from dagtrain.deploy.check import Check, Level, Place, Verdict
from dagtrain.deploy.checks import CHECKS
from dagtrain.deploy.checks.memory import cgroup
from dagtrain.deploy.gather import ByValue, collect, gather_here, job_of, jobs_of
from dagtrain.engines.client import workers_of


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments], prog_name="dagtrain")


def judge(facts: Any) -> Verdict:
    return Verdict(Level.OK, str(facts["client"]))


def test_each_gather_has_its_own_deadline_and_its_own_error() -> None:
    never = threading.Event()

    def hangs(place: Place) -> bool:
        return never.wait()

    async def hangs_too(place: Place) -> None:
        await asyncio.Event().wait()

    def raises(place: Place) -> None:
        raise KeyError("absent")

    def works(place: Place) -> str:
        return place.name

    checks = [Check("g", each.__name__, ("client",), each, judge, "c", 0.05) for each in (hangs, hangs_too, raises, works)]
    try:
        lines = {line.name: (line.level, line.seen) for line in examine(checks=checks)}
    finally:
        never.set()
    assert lines == {
        "hangs": (Level.FAILURE, "client: no answer within 0.05 s"),
        "hangs_too": (Level.FAILURE, "client: no answer within 0.05 s"),
        "raises": (Level.FAILURE, "client: KeyError: 'absent'"),
        "works": (Level.OK, "client"),
    }


def test_checks_run_where_dagtrain_is_not_installed() -> None:
    checks = [check for check in CHECKS if check.name in ("dagtrain", "/dev/shm", "software")]
    jobs = jobs_of(checks, "workers")
    payload = pickle.dumps((ByValue(collect), ByValue(jobs), ByValue(Place("worker"))))
    code = (
        "import sys; sys.modules['dagtrain'] = None\n"
        "import asyncio, pickle\n"
        "collect, jobs, place = pickle.loads(sys.stdin.buffer.read())\n"
        "sys.stdout.buffer.write(pickle.dumps(asyncio.run(collect(jobs, place))))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=payload, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    outcomes = pickle.loads(done.stdout)
    version, software, shared_memory = (outcomes[job_of(check)] for check in checks)
    assert version == (True, "")
    assert software == (True, None)
    assert shared_memory[1]["size"] >= 0


@pytest.mark.parametrize(
    ("lines", "limits", "expected"),
    [
        ("0::/pod/box", {"pod/box/memory.max": "max", "pod/memory.max": "4096"}, ("pod/box", 4096)),
        ("0::/", {"memory.max": "8192"}, ("", 8192)),
        ("4:memory:/docker/1f\n0::/", {"memory/memory.limit_in_bytes": "4096"}, ("docker/1f", 4096)),  # as a container sees it
        ("4:memory:/a", {"memory/a/memory.limit_in_bytes": str((1 << 63) - 4096)}, ("a", None)),
        ("", {}, ("", None)),
    ],
)
def test_the_least_limit_of_the_memory_groups_around_a_process(lines: str, limits: dict[str, str], expected: Any, tmp_path: Any) -> None:
    for name, text in {"proc/self/cgroup": lines, **{f"mounts/{name}": text for name, text in limits.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n" if text else "")
    assert cgroup(tmp_path / "proc", tmp_path / "mounts") == expected


def test_this_machine_alone(tmp_path: Any) -> None:
    result = command("--json", "--checkpoint", str(tmp_path / "a" / "b"))
    lines = {line["name"]: line for line in json.loads(result.stdout)["checks"]}
    assert {"Python", "software", "file descriptors", "checkpoint"} <= lines.keys()
    assert not {"answers", "encryption", "limits", "clocks"} & lines.keys()
    assert lines["checkpoint"]["seen"].startswith(f"{tmp_path} can be written")
    assert not (tmp_path / "a").exists()
    assert result.exit_code == json.loads(result.stdout)["exit_code"] == max(line["level"] for line in lines.values())


def test_a_folder_that_cannot_be_written_is_a_failure() -> None:
    check = next(check for check in CHECKS if check.name == "checkpoint")
    returned, text = gather_here([check], Place("client", checkpoint="/proc/runs"))[job_of(check)]
    assert not returned
    assert "/proc" in text


def test_certificates_of_a_folder(certificates: Any, tmp_path: Any) -> None:
    from dagtrain.deploy import make_certificates

    check = next(check for check in CHECKS if check.name == "--certs")
    [line] = examine(checks=[check], certs=certificates)
    assert (line.level, line.seen) == (Level.OK, "valid for 365 days")
    make_certificates(tmp_path, days=3)
    [line] = examine(checks=[check], certs=tmp_path)
    assert line.level is Level.WARNING
    for name in ("worker.pem", "worker-key.pem"):  # of another authority
        (tmp_path / name).write_bytes((certificates / name).read_bytes())
    [line] = examine(checks=[check], certs=tmp_path)
    assert line.level is Level.FAILURE
    assert "worker" in line.seen


def test_a_scheduler_that_does_not_answer_is_a_line_of_its_own() -> None:
    result = command("--scheduler", "tcp://127.0.0.1:1", "--timeout", "0.5", "--json")
    lines = json.loads(result.stdout)["checks"]
    assert result.exit_code == 2
    assert lines[0]["name"] == "scheduler"
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in lines[0]["seen"]
    assert len(lines) > 4  # this machine is examined all the same


@pytest.mark.cluster
def test_a_cluster(client: Any) -> None:
    result = command("--scheduler", client.scheduler.address, "--json")
    lines = {line["name"]: line for line in json.loads(result.stdout)["checks"]}
    clustered = {check.name for check in CHECKS if check.where != ("client",)} - {"certificates"}
    assert clustered | {"Python", "clocks"} <= lines.keys()
    assert [line for line in lines.values() if line["level"] == 2] == []
    assert lines["answers"]["seen"] == "3 workers, the scheduler"
    assert lines["every pair"]["seen"] == "all 6 directions between workers"
    assert lines["new ports"]["seen"] == "new ports are reached in all 6 directions"
    assert lines["shared memory"]["seen"] == "3 workers share memory with others of their host"
    warned = {name for name, line in lines.items() if line["level"]} - {"cores", "pictures"}  # these depend on the machine
    assert warned == {"limits", "dashboard"}  # no limits of memory, and a dashboard that is open to other machines
    assert result.exit_code == 1


@pytest.mark.cluster
def test_a_process_that_fails_is_named_and_the_others_are_judged(client: Any) -> None:
    worker = min(workers_of(client))

    def fails_on_one(place: Place) -> str:
        if place.name == worker:
            raise OSError("a broken disk")
        return "fine"

    [answers] = [check for check in CHECKS if check.name == "answers"]
    lines = examine(client, checks=[answers, replace(answers, name="disk", where=("workers",), gather=fails_on_one)])
    assert [(line.name, line.level, line.seen) for line in lines] == [
        ("answers", Level.OK, "3 workers, the scheduler"),
        ("disk", Level.FAILURE, f"{worker}: OSError: a broken disk"),
    ]
