"""The options of a cluster on Slurm, and its start and end with stand-ins for Slurm's commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dagtrain.cli import main
from dagtrain.deploy.clusters import Slurm, clusters, load, stop
from dagtrain.deploy.clusters.slurm_queue import end_job
from dagtrain.deploy.clusters.started import files_of, names
from dagtrain.errors import ArgumentError, ClusterError

# sbatch makes the job's files as its script would; a job that has to wait stays PENDING.
STAND_INS = {
    "sbatch": """[ -z "$REFUSED" ] || { echo "sbatch: error: $REFUSED" >&2; exit 1; }
        echo "17|${STATE:-RUNNING|None}" >"$HERE/queue"
        cd "$(dirname "$2")" && echo "the log" >job.log && { [ -z "$FILE" ] || echo "$FILE" >scheduler.json; }
        echo "17;cluster" """,
    "squeue": """cat "$HERE/queue" """,
    "scancel": """echo "$*" >>"$HERE/cancelled"; [[ "$*" == "$DEAF"* ]] || echo "17|CANCELLED|None" >"$HERE/queue" """,
}
FILE = json.dumps({"address": "tcp://10.0.0.1:4000", "services": {"dashboard": 5000}})


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with stand-ins on PATH; its file `cancelled` holds the arguments of scancel."""
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("FILE", FILE)
    monkeypatch.setenv("DEAF", "to nothing")
    return tmp_path


def cancelled(folder):
    return (folder / "cancelled").read_text().splitlines()


def test_start_waits_for_the_job_and_stop_ends_it(slurm):
    started = Slurm(("train",), interface="eth0").start()
    assert (started.scheduler, started.dashboard) == ("tcp://10.0.0.1:4000", "http://10.0.0.1:5000/status")
    assert started.external == {"job": "17"}
    assert [(name, state) for name, _, state in clusters()] == [("slurm", "running")]
    with pytest.raises(ClusterError, match=r"'slurm' is running \(job 17, RUNNING\)"):
        Slurm().start()
    assert stop("slurm") == ["job 17, RUNNING"]
    assert cancelled(slurm) == ["--batch --signal=TERM 17"]
    assert not names()


def test_job_that_does_not_end_by_itself_is_cancelled(slurm, monkeypatch):
    monkeypatch.setenv("DEAF", "--batch")
    job = Slurm(("train",)).start().external["job"]
    end_job(job, save=0.1)
    assert cancelled(slurm) == ["--batch --signal=TERM 17", "17"]


def test_job_that_survives_scancel_is_an_error(slurm, monkeypatch):
    monkeypatch.setenv("DEAF", "")
    job = Slurm(("train",)).start().external["job"]
    with pytest.raises(ClusterError, match="job 17 is still RUNNING"):
        end_job(job, save=0.1, kill=0.1)


def test_command_prints_addresses_and_next_commands(slurm):
    result = CliRunner().invoke(main, ["cluster", "slurm", "--no-wait", "--name", "a", "train", "--time", "{scheduler}"])
    assert result.exit_code == 0, result.output
    assert "The cluster a will be up once its job runs." in result.output
    assert load("a").up  # and can be stopped by the process that started it
    assert "17" in result.output
    assert "cluster stop a" in result.output
    assert 'run train --time "$DASK_SCHEDULER_ADDRESS"' in (files_of("a") / "job.sh").read_text()


def test_dry_run_needs_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(main, ["cluster", "slurm", "--dry-run", "--tls", "--nodes", "4", "--", "train"])
    assert result.exit_code == 0, result.output
    assert "#SBATCH --nodes=4\n" in result.output
    assert "run train\n" in result.output
    assert f"sbatch --parsable {tmp_path}/state/dagtrain/clusters/slurm/job.sh" in result.output
    assert not names()
    assert not files_of("slurm").exists()


def test_absent_programs_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="sbatch is not on PATH: use a login node"):
        Slurm().start()


@pytest.mark.parametrize(
    ("message", "cure"),
    [
        ("Batch job submission failed: Invalid account or account/partition combination specified", "--account"),
        ("invalid partition specified: gpu", "--partition"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "--time"),
        ("Batch job submission failed: Requested node configuration is not available", "--nodes, --cpus or --memory"),
        ("Memory specification can not be satisfied", "--memory"),
        ("fatal: Could not establish a configuration source", "use a login node"),
        ("Something else", "at the top of the script"),
    ],
)
def test_refused_job_names_the_option(slurm, monkeypatch, message, cure):
    monkeypatch.setenv("REFUSED", message)
    with pytest.raises(ClusterError) as error:
        Slurm().start()
    assert message in str(error.value)
    assert cure in str(error.value).split(message)[1]
    assert not names()


def test_job_that_waits_too_long_is_cancelled_with_its_reason(slurm, monkeypatch):
    monkeypatch.setenv("STATE", "PENDING|Priority")
    monkeypatch.setenv("FILE", "")
    with pytest.raises(ClusterError, match=r"still waited after 0.1 s: Priority\. It was cancelled: give a longer --timeout, or --no-wait"):
        Slurm(timeout=0.1).start()
    assert cancelled(slurm) == ["17"]
    assert not names()


def test_job_that_would_wait_for_ever_is_cancelled_at_once(slurm, monkeypatch):
    monkeypatch.setenv("STATE", "PENDING|PartitionTimeLimit")
    monkeypatch.setenv("FILE", "")
    with pytest.raises(ClusterError, match=r"PartitionTimeLimit.*shorter --time"):
        Slurm(timeout=60).start()
    assert cancelled(slurm) == ["17"]


def test_silent_controller_is_asked_again(slurm, monkeypatch):
    (slurm / "squeue").write_text("""#!/bin/bash\n[ -e "$HERE/asked" ] && cat "$HERE/queue" || { touch "$HERE/asked"; exit 1; }\n""")
    assert Slurm().start().scheduler == "tcp://10.0.0.1:4000"


def test_failed_job_shows_the_end_of_its_log(slurm, monkeypatch):
    monkeypatch.setenv("STATE", "FAILED|NonZeroExitCode")
    monkeypatch.setenv("FILE", "")
    with pytest.raises(ClusterError, match=r"ended before the cluster was up: FAILED \(NonZeroExitCode\)(.|\n)*the log"):
        Slurm().start()


def test_quick_job_may_have_ended_before_it_was_seen_up(slurm, monkeypatch):
    monkeypatch.setenv("STATE", "COMPLETED|None")
    assert Slurm(("train",)).start().scheduler == "tcp://10.0.0.1:4000"
    assert stop("slurm") == []


def test_options_become_directives():
    options = Slurm(("train",), nodes=3, cpus=8, memory="30GiB", time="2-0", partition="long", account="physics", sbatch=("--qos=high",))
    directives = options.directives()
    expected = ["--nodes=3", "--ntasks-per-node=1", "--cpus-per-task=8", "--mem=32768M", "--time=2-0", "--partition=long"]
    expected += ["--account=physics", "--signal=B:USR1@120", "--requeue", "--open-mode=append", "--qos=high"]
    assert set(expected) < set(directives)
    assert "--no-requeue" in Slurm().directives()
    assert "--nthreads 8 --memory-limit 32212254720" in options.script()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("program", [(), ("it's", "$(x)", "`x`", "a\nb", "")])
def test_script_is_bash(program, tls):
    script = Slurm(program, tls=tls, interface="eth0", setup=("module load python",)).script()
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=True).stderr == ""
    assert ("--protocol tls" in script) == tls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": "$(touch wrong)"}, "partition is a name"),
        ({"account": "a b"}, "account is a name"),
        ({"interface": "eth0\n#SBATCH --wrap=x"}, "interface is a name"),
        ({"name": "A b"}, "a cluster's name"),
        ({"time": "soon"}, "a time limit is"),
        ({"sbatch": ("qos",)}, "looks like --qos=high"),
        ({"sbatch": ("--qos=a\n#SBATCH --x",)}, "looks like --qos=high"),
        ({"memory": "0.5"}, "bytes as in 4GiB"),
        ({"nodes": 0}, "nodes is at least 1"),
        ({"time": "3", "program": ("train",)}, "--signal-seconds below 120"),
    ],
)
def test_values_that_slurm_or_bash_would_misread_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        Slurm(**options)


def test_folder_that_sbatch_would_misread_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a %j b"))
    with pytest.raises(ArgumentError, match="XDG_STATE_HOME"):
        Slurm()


def test_proof_names_what_it_needs_before_it_starts_anything(tmp_path):
    script = Path(__file__).parents[3] / "scripts" / "prove-slurm"
    done = subprocess.run([sys.executable, script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "slurmctld (package slurmctld)" in done.stderr
    assert "Cleaning up" not in done.stderr
