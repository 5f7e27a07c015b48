"""The job script, run by bash with stand-ins for Slurm and Dask."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dagtrain.deploy.clusters.slurm_script import job_script

PYTHON = """case "$2" in *Client*) until [ -e srun.pid ]; do sleep 0.02; done; echo tcp://10.0.0.1:8786 ;; *) shift 2; exec "$@" ;; esac"""
PROGRAM = """trap 'exit {}' TERM; touch trains; for _ in $(seq 600); do sleep 0.1; done"""
STAND_INS = {
    "python": PYTHON,  # starts the scheduler, then waits for the workers
    "scheduler": """echo $$ >scheduler.pid; echo "{}" >files/starting.json; exec sleep 60""",
    "srun": """echo "$*" >srun.words; echo $$ >srun.new; mv srun.new srun.pid; exec sleep 60""",
    "scontrol": """echo "$*" >scontrol.words""",
    "saves": PROGRAM.format(143),
    "returns": PROGRAM.format(0),
    "breaks": PROGRAM.format(3),
    "says": """printf '<%s>' "$DASK_SCHEDULER_ADDRESS" "$SETTING" "$@"; exit 4""",
    "ends": "until [ -e srun.pid ]; do sleep 0.02; done; echo no such interface; exit 1",
}


class Job:
    """A folder in which job scripts run."""

    def __init__(self, here: Path) -> None:
        self.here = here
        (here / "files").mkdir()
        for name, text in STAND_INS.items():
            (here / name).write_text(f"#!/bin/bash\n{text}\n")
            (here / name).chmod(0o755)

    def start(self, *program: str, scheduler: str = "scheduler", restarted: int = 0) -> subprocess.Popen[str]:
        text = job_script(
            directives=["--nodes=2"],
            setup=["source /dev/null"],
            variables={"SETTING": "$(touch wrong)"},
            folder=self.here / "files",
            python=str(self.here / "python"),
            scheduler=[scheduler],
            worker=["worker", "two words"],
            cpus=3,
            nodes=2,
            program=program,
            restarts=2,
        )
        variables = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": str(restarted)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(["bash", "-c", text], cwd=self.here, env=variables, **pipes)

    def until(self, name: str) -> None:
        deadline = time.monotonic() + 60
        while not (self.here / name).exists():
            assert time.monotonic() < deadline, name
            time.sleep(0.02)

    def words(self, name: str) -> str:
        path = self.here / f"{name}.words"
        return path.read_text().strip() if path.exists() else ""

    def has_ended(self, name: str) -> bool:
        deadline = time.monotonic() + 30
        pid = int((self.here / f"{name}.pid").read_text())
        while time.monotonic() < deadline:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.02)
        return False


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


def test_program_receives_its_words_and_the_address_and_gives_the_status(job):
    script = job.start("says", "two words", "$(touch wrong)", "a={scheduler}", "it's", "")
    output, _ = script.communicate(timeout=60)
    assert script.returncode == 4
    address = "tcp://10.0.0.1:8786"
    assert f"<{address}><$(touch wrong)><two words><$(touch wrong)><a={address}><it's><>" in output
    assert "start 1" in output
    assert not (job.here / "wrong").exists()
    assert (job.here / "files" / "scheduler.json").exists()
    assert job.words("srun") == "--overlap --cpus-per-task=3 worker two words"
    assert job.has_ended("scheduler")
    assert job.has_ended("srun")


@pytest.mark.parametrize(
    ("program", "number", "restarted", "status", "queued"),
    [
        ("saves", signal.SIGUSR1, 1, 143, True),
        ("returns", signal.SIGUSR1, 0, 0, True),
        ("breaks", signal.SIGUSR1, 0, 3, False),
        ("saves", signal.SIGUSR1, 2, 143, False),
        ("saves", signal.SIGTERM, 0, 143, False),
    ],
    ids=["limit", "limit-returns", "limit-breaks", "limit-too-often", "end"],
)
def test_signals_stop_the_program_and_the_time_limit_queues_it_again(job, program, number, restarted, status, queued):
    script = job.start(program, restarted=restarted)
    job.until("trains")
    script.send_signal(number)
    output, _ = script.communicate(timeout=60)
    assert script.returncode == status, output
    assert f"start {restarted + 1}" in output
    assert job.words("scontrol") == ("requeue 17" if queued else "")
    assert ("no further one" in output) == (restarted == 2)
    assert job.has_ended("scheduler")
    assert job.has_ended("srun")


def test_cluster_without_a_program_ends_by_sigterm(job):
    script = job.start()
    job.until("files/scheduler.json")
    script.send_signal(signal.SIGTERM)
    script.communicate(timeout=60)
    assert job.has_ended("scheduler")
    assert job.has_ended("srun")


def test_job_ends_with_its_scheduler(job):
    script = job.start("saves", scheduler="ends")
    output, _ = script.communicate(timeout=60)
    assert script.returncode == 1
    assert "the scheduler has ended" in output
    assert "no such interface" in output
    assert not (job.here / "trains").exists()
    assert job.has_ended("srun")
