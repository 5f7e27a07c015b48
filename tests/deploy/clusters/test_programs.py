"""Programs of other systems: what is left of one that takes too long."""

import sys

import pytest

from dagtrain.deploy.clusters.processes import Process
from dagtrain.deploy.clusters.programs import output
from dagtrain.errors import ClusterError

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('ready', 'w').close(); time.sleep(600)"
PARENT = f"""import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}])
open("pid", "w").write(str(child.pid))
child.wait()"""


def test_program_that_takes_too_long_is_ended_with_its_descendants(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClusterError, match="took longer than 3 s"):
        output([sys.executable, "-c", PARENT], 3, "")
    assert not Process.of(int((tmp_path / "pid").read_text())).runs()
