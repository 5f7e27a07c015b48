"""A cluster of dask-jobqueue: its jobs run on this machine, by stand-ins for Slurm's commands."""

from __future__ import annotations

import json
import sys

import pytest
from click.testing import CliRunner

from dagtrain.cli import main
from dagtrain.deploy.clusters import SlurmJobs, Started, clusters, load, stop
from dagtrain.deploy.clusters.started import files_of, names
from dagtrain.errors import ClusterError, MissingDependencyError

# A job is a process group, and a line of the file queue.
STAND_INS = {
    "sbatch": """[ -z "$REFUSED" ] || { echo "sbatch: error: $REFUSED" >&2; exit 1; }
        setsid bash -c "$(cat "$1")" >/dev/null 2>"$HERE/job.err" & echo "$!|RUNNING|None" >>"$HERE/queue"
        echo "Submitted batch job $!" """,
    "squeue": """cat "$HERE/queue" """,
    "scancel": """echo "$*" >>"$HERE/cancelled"; jobs=$(cut -d '|' -f 1 "$HERE/queue"); : >"$HERE/queue"
        for job in $jobs; do kill -TERM -- "-$job" 2>/dev/null; done; true""",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with stand-ins on PATH, and the queue."""
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "queue").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("HERE", str(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_scheduler_runs_here_and_stop_ends_it_and_the_jobs(slurm):
    pytest.importorskip("dask_jobqueue")
    result = CliRunner().invoke(main, ["cluster", "slurm", "--jobqueue", "--nodes", "1", "--timeout", "120"])
    assert result.exit_code == 0, result.output
    started = load("slurm")
    assert f"scheduler  {started.scheduler}\n" in result.output
    assert f"training   {started.dashboard.replace('status', 'dagtrain')}\n" in result.output
    job = (slurm / "queue").read_text().partition("|")[0]
    assert f"process {started.processes[0].pid}, job {job}, RUNNING" in error_of_start()
    stop("slurm")
    assert not started.processes[0].runs()
    assert (slurm / "queue").read_text() == ""
    assert (slurm / "cancelled").read_text() == f"{job}\n"  # by the process itself
    assert not names()


def error_of_start():
    with pytest.raises(ClusterError) as error:
        SlurmJobs().start()
    return str(error.value)


@pytest.mark.slow
def test_refused_job_names_the_option(slurm, monkeypatch):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("REFUSED", "invalid partition specified: gpu")
    assert error_of_start() == "sbatch refused a job: sbatch: error: invalid partition specified: gpu. Give --partition; sinfo lists them."
    assert clusters() == []


def test_jobs_of_a_scheduler_that_was_killed_are_cancelled_by_their_name(slurm):
    (slurm / "queue").write_text("17|PENDING|Priority\n")
    Started("slurm", "slurm", up=True, external={"jobs": "dagtrain-slurm-1a"}).write()
    assert stop("slurm") == ["job 17, PENDING"]
    assert (slurm / "cancelled").read_text() == "--name=dagtrain-slurm-1a\n"


@pytest.mark.parametrize(
    ("queue", "message"),
    [
        ("17|PENDING|PartitionTimeLimit", "job 17 would wait for ever: PartitionTimeLimit. It was cancelled: give a shorter --time"),
        ("17|RUNNING|None\n18|FAILED|NonZeroExitCode", "job 18 ended before the cluster was up: FAILED (NonZeroExitCode). The end of"),
    ],
)
def test_jobs_for_which_waiting_is_in_vain(slurm, queue, message):
    files_of("slurm").mkdir(parents=True)
    (files_of("slurm") / "scheduler.log").touch()
    (files_of("slurm") / "a-18.err").write_text("no module named dask\n")
    (slurm / "queue").write_text(queue)
    with pytest.raises(ClusterError) as error:
        SlurmJobs().check("a")
    assert message in str(error.value)
    assert ("no module named dask" in str(error.value)) == ("FAILED" in queue)


def test_dry_run_prints_a_program_and_needs_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    words = ["--nodes", "3", "--memory", "1GiB", "--partition", "gpu", "--interface", "ib0", "--sbatch=--qos=high", "--tls"]
    words += ["--setup", "it's a"]
    result = CliRunner().invoke(main, ["cluster", "slurm", "--jobqueue", "--dry-run", *words])
    assert result.exit_code == 0, result.output
    program, _, commands = result.output.partition("signal.pause()\n")
    options = json.loads(program[program.index("{") : program.index("def stop")])
    assert options["job_script_prologue"][0] == "it's a"
    assert (options["memory"], options["job_mem"], options["queue"], options["interface"]) == ("1073741824", "1536M", "gpu", "ib0")
    assert options["job_extra_directives"] == ["--qos=high"]
    assert "minimum_jobs=3, maximum_jobs=3" in program
    assert commands.split()[:2] == ["dagtrain", "certs"]
    assert commands.split()[-1] == str(files_of("slurm") / "cluster.py")
    assert not files_of("slurm").exists()


def test_absent_package_is_named_with_the_command_that_installs_it(slurm, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(MissingDependencyError, match=r'dask-jobqueue\. Install it with: pip install "dagtrain\[slurm\]"'):
        SlurmJobs().start()


@pytest.mark.parametrize("words", [["--restarts", "0"], ["--signal-seconds", "60"], ["--", "train"]])
def test_options_of_a_program_in_the_job_are_refused(words):
    result = CliRunner().invoke(main, ["cluster", "slurm", "--jobqueue", *words])
    assert result.exit_code == 2
    assert "no program runs in a job: leave out" in result.stderr
