"""`scripts/prove-ssh` names what it needs before it starts anything."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "prove-ssh"


def test_proof_of_ssh_names_what_is_absent(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT], env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "ssh (package openssh-client)" in done.stderr
    assert "Cleaning up" not in done.stderr
