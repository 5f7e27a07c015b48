"""Processes that outlive a command: told apart, ended in time."""

import os
import signal
import subprocess
import sys

import pytest

from dagtrain.deploy.clusters.processes import Process, end, in_background, last_lines, signals_later
from dagtrain.errors import ClusterError

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
PARENT = f"""import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
child.wait()"""


def python(program):
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    return child, child.stdout.readline()


def test_process_is_known_by_its_start_too():
    this = Process.of(os.getpid())
    assert this.runs()
    assert not this._replace(start=this.start + "0").runs()  # a later process with the same PID
    assert not this._replace(start="").runs()


def test_ended_process_does_not_run_although_its_parent_has_not_noticed():
    child, _ = python("print()")
    process = Process.of(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.runs()
    child.communicate()


def test_process_with_the_pid_of_another_is_not_ended():
    child, _ = python(STUBBORN)
    end([Process.of(child.pid)._replace(start="another")], grace=0)
    assert child.poll() is None
    child.kill()
    child.communicate()


def test_processes_that_ignore_sigterm_are_killed_with_their_children():
    parent, line = python(PARENT)
    child = Process.of(int(line))
    end([Process.of(parent.pid)], grace=0.2)
    assert not child.runs()
    assert parent.wait(10) in (-signal.SIGTERM, -signal.SIGKILL)
    parent.stdout.close()


def test_program_that_is_absent_is_named(tmp_path):
    with pytest.raises(ClusterError, match="/absent/program cannot be started: No such file"):
        in_background(["/absent/program"], tmp_path / "log")


def test_last_lines_are_short_and_need_no_file(tmp_path):
    (tmp_path / "log").write_text("".join(f"{n}\n" for n in range(100)))
    assert last_lines(tmp_path / "log", 2) == "    98\n    99"
    assert "cannot be read" in last_lines(tmp_path / "absent")


def test_signals_are_deferred_not_lost():
    done = []

    def work():
        with signals_later():
            signal.raise_signal(signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done
