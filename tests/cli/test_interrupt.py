"""Ctrl-C while the command imports what it needs; `test_train_digits` has the time afterwards."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN if {ignored} else signal.default_int_handler)

class Press:
    def find_spec(self, name, path=None, target=None):
        if name == "dagtrain.cli":
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Press())
sys.argv = ["dagtrain", "--version"]
from dagtrain_command import main
main()
"""


@pytest.mark.parametrize(("ignored", "status"), [(False, 130), (True, 0)], ids=["terminal", "background"])
def test_ctrl_c_during_imports_ends_without_a_traceback(ignored, status):
    program = PROGRAM.format(ignored=ignored)
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.startswith("dagtrain ") == (status == 0)
