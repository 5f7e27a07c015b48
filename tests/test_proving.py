"""scripts/proving.py: what a proof needs is named before it starts, and whatever it started is ended."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
PROOF = """
import sys, time
import proving

class Stage:
    def start(self): print("started", flush=True)
    def versions(self): return {"stage": "1"}
    def close(self): print("closed", flush=True)

def good(stage): return {"seen": 7}
def bad(stage): proving.run(sys.executable, "-c", "raise SystemExit('no luck')")
def slow(stage): print("waiting", flush=True); time.sleep(60)

checks = [globals()[name] for name in sys.argv.pop(1).split(",")]
absent = sys.argv.pop(1).split()
sys.exit(proving.prove(proving.parser("A proof.", "It needs a lot.").parse_args(), "It needs a lot.", absent, Stage, checks))
"""


@pytest.fixture
def proof():
    """A function that starts a proof with these checks, absent things and arguments."""

    def start(checks, absent="", *arguments):
        command = [sys.executable, "-c", PROOF, checks, absent, *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env={"PYTHONPATH": str(SCRIPTS)}, **streams)

    return start


def test_a_table_of_the_checks(proof, tmp_path):
    file = tmp_path / "folder" / "table.json"
    printed, _ = proof("good", "", str(file)).communicate(timeout=60)
    assert json.loads(file.read_text()) == {"versions": {"stage": "1"}, "good": {"seen": 7}}
    assert printed == f"started\nclosed\n{file.read_text()}"


@pytest.mark.parametrize(
    ("absent", "arguments", "message"),
    [("docker", (), "Absent: docker."), ("", ("--only", "best"), "There is no check best: they are good.")],
)
def test_nothing_starts_without_what_it_needs(proof, absent, arguments, message):
    refused = proof("good", absent, *arguments)
    printed, messages = refused.communicate(timeout=60)
    assert (refused.returncode, printed) == (2, "")
    assert message in messages


def test_a_failure_is_told_and_ends_what_was_started(proof, tmp_path):
    failed = proof("bad,good", "", str(tmp_path / "table.json"))
    printed, messages = failed.communicate(timeout=60)
    assert (failed.returncode, printed) == (1, "started\nclosed\n")
    assert "failed with 1:\nno luck" in messages
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_was_started(proof, number):
    stopped = proof("slow")
    assert [stopped.stdout.readline() for _ in range(2)] == ["started\n", "waiting\n"]
    stopped.send_signal(number)
    printed, _ = stopped.communicate(timeout=60)
    assert (stopped.returncode, printed) == (128 + number, "closed\n")
