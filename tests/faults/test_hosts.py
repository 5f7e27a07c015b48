"""The short form of scripts/prove-hosts: a cluster with TLS as users start it, on hosts whose network and machines fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "prove-hosts"


@pytest.mark.long
@pytest.mark.timeout(720)
@pytest.mark.usefixtures("network")  # for its conditions
def test_the_short_proof(tmp_path):
    table = tmp_path / "hosts.json"
    with subprocess.Popen(
        [sys.executable, SCRIPT, "--short", table], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as proof:
        try:
            _, messages = proof.communicate(timeout=600)  # it waits 120 s for each condition
        finally:
            proof.terminate()  # it cleans up
    assert proof.returncode == 0, messages
    assert json.loads(table.read_text())["briefly"]["processes_killed"] == 0
