import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

import pytest

from dagtrain.cli.cluster import connect
from dagtrain.errors import ClusterError

pytestmark = pytest.mark.slow

KEYS = ["accuracy", "loss", "fingerprint", "engine", "workers", "shards", "epochs", "seconds", "samples_per_second"]


def test_97_percent_of_the_digits_held_out_inline(command, tmp_path):
    result = command("train", "digits", "--json")
    output = json.loads(result.stdout)
    assert list(output) == KEYS
    assert output["accuracy"] >= 0.97
    assert (output["engine"], output["workers"], output["shards"], output["epochs"]) == ("inline", 0, 8, 30)
    assert output["samples_per_second"] > 0
    assert {p.name for p in (tmp_path / "runs" / "digits").iterdir()} == {"graph.svg", "ops.svg", "network.svg", "step.svg"}


def test_table_accuracy_and_pictures_are_printed(command):
    lines = command("train", "digits", "--epochs", "2", "--output", "here").stdout.splitlines()
    assert lines[0].startswith("inline engine, 8 shards")
    assert lines[3].split()[0] == "2/2"
    assert any(line.startswith("held-out accuracy ") for line in lines)
    assert lines[-1].startswith(os.path.join("here", "step.svg"))


def test_seed_and_shards_change_the_fingerprint(command):
    def fingerprint(*options):
        return json.loads(command("train", "digits", "--json", "--no-pictures", "--epochs", "1", *options).stdout)["fingerprint"]

    first = fingerprint()
    assert fingerprint() == first
    assert len({first, fingerprint("--seed", "1"), fingerprint("--shards", "4")}) == 3


@pytest.mark.cluster
def test_cluster_of_two_gives_the_bits_of_this_process(command, process, tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD", "forkserver")  # both workers share one import of distributed
    options = ["train", "digits", "--json", "--epochs", "2"]
    out, err = process(*options, "--workers", "2").communicate(timeout=90)
    output = json.loads(out)
    assert output["fingerprint"] == json.loads(command(*options, "--no-pictures").stdout)["fingerprint"]
    assert (output["engine"], output["workers"]) == ("lanes", 2)
    assert "epoch" in err
    assert (tmp_path / "runs" / "digits" / "step.svg").read_text().count("tcp://127.0.0.1:") >= 2


@pytest.mark.parametrize(
    "whole_group", [pytest.param(True, id="terminal", marks=[pytest.mark.cluster, pytest.mark.long]), pytest.param(False, id="alone")]
)
def test_control_c_ends_with_one_line_and_130(process, whole_group):
    command = process("train", "digits", "--epochs", "100000", *(["--workers", "1"] if whole_group else []))
    while "1/100000" not in command.stdout.readline():
        assert command.poll() is None
    time.sleep(0.2)
    (os.killpg if whole_group else os.kill)(command.pid, signal.SIGINT)
    out, err = command.communicate(timeout=30)
    assert command.returncode == 130
    assert re.search(r"held-out accuracy \d\d.\d\d% after \d+ epochs?( and \d+ steps?)?: \d+ of 360 digits$", out.strip())
    assert err.split("\n") == ["Nothing was saved: add --checkpoint FOLDER to save a stopped run.", "", "Stopped by Ctrl-C.", ""]


@pytest.mark.parametrize(
    "whole_group", [pytest.param(True, id="group", marks=[pytest.mark.cluster, pytest.mark.long]), pytest.param(False, id="alone")]
)
def test_the_same_line_continues_a_terminated_run_to_the_same_bits(command, process, whole_group):
    options = ["train", "digits", *(["--workers", "1"] if whole_group else []), "--epochs", "40"]
    line = [*options, "--checkpoint", "a b", "--no-pictures", "--resume"]
    first = process(*line)
    while "2/40" not in first.stdout.readline():
        assert first.poll() is None
    for _ in range(2):  # as `timeout` and Slurm do, also after the last step
        (os.killpg if whole_group else os.kill)(first.pid, signal.SIGTERM)
        time.sleep(0.1)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 143
    assert "held-out accuracy" in out
    assert err.split("\n")[-3:] == [f"Continue with: dagtrain {shlex.join(line)}", "Stopped by SIGTERM.", ""]
    rest = json.loads(command(*line, "--json").stdout)
    assert rest["epochs"] == 40
    assert rest["fingerprint"] == json.loads(command(*options, "--no-pictures", "--json").stdout)["fingerprint"]


def test_a_finished_run_is_told_and_not_repeated(command):
    line = ["train", "digits", "--epochs", "1", "--no-pictures", "--checkpoint", "here", "--resume"]
    first, second = command(*line), command(*line)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "finished before" not in first.stdout
    assert "the run was finished before, with 1 epoch: nothing was left to train" in second.stdout
    assert second.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    refused = command(*line[:-1])
    assert refused.exit_code == 2
    assert "already holds checkpoints of a run, up to epoch 1" in refused.stderr
    assert "--resume" in refused.stderr


PRESSED_IN_COLLECTOR = """
import gc, signal, time
from dagtrain.cli.cluster import never_lost
pressed = []
def press(phase, details):
    if not pressed:
        pressed.append(phase)
        signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with never_lost():
        gc.collect()  # of garbage of the imports
        gc.callbacks.append(press)
        gc.collect()
        time.sleep(20)
except KeyboardInterrupt:
    assert pressed
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("interrupted")
"""


def test_control_c_is_not_lost_in_the_garbage_collector():
    """In a process of its own, without garbage of other tests."""
    done = subprocess.run([sys.executable, "-c", PRESSED_IN_COLLECTOR], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "interrupted", done.stderr


def test_an_unused_cluster_is_a_message(command):
    result = command("train", "digits", "--epochs", "1", "--no-pictures", "--engine", "inline", "--workers", "2")
    assert result.exit_code == 0
    assert "works in this process: no cluster is used" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--engine", "scheduler"), "needs a cluster"),
        (("--workers", "1", "--scheduler", "tcp://127.0.0.1:1"), "give one of them"),
        (("--shards", "193"), "193 shards are more than"),
        (("--output", "/dev/null/here"), "cannot be made"),
        (("--epochs", "0"), "--epochs"),
        (("--resume",), "add --checkpoint FOLDER"),
        (("--engine", "mpi"), "--engine"),
    ],
)
def test_errors_are_one_message_and_status_2(command, options, words):
    result = command("train", "digits", *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_scheduler_that_does_not_answer_is_named_in_time():
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"), connect("tcp://127.0.0.1:1", timeout=1):
        pass
    assert time.monotonic() - began < 10


def test_a_port_that_accepts_and_is_silent_is_an_error_within_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError, match="no Dask scheduler answers"), connect(address, timeout=1):
            pass


def test_an_invalid_address_is_one_message_and_status_2(command):
    result = command("train", "digits", "--scheduler", "tcp://127.0.0.1:99999")
    assert result.exit_code == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:99999" in result.stderr


def test_without_graphviz_it_trains_with_a_message(command, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", "")
    result = command("train", "digits", "--epochs", "1")
    assert result.exit_code == 0
    assert "held-out accuracy" in result.stdout
    assert "No pictures: rendering a picture needs Graphviz" in result.stderr
