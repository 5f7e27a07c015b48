"""Disks that fill up, and saves that are killed at any system call: the last complete checkpoint always loads."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from distributed import Client

import dagtrain as dt
from dagtrain.engines.ranks import LanesEngine
from dagtrain.errors import CheckpointError
from tests.faults.machines import train
from tests.step.remembering import Remembers

SAVES = Path(__file__).with_name("saves.py")


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for one checkpoint of the run, of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount a file system here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.timeout(60)
def test_a_disk_that_fills_while_ranks_run(local_cluster, small_disk, expected):
    """The run ends with an error that names the cause, and continues on a disk with more room."""
    with local_cluster(2) as cluster, Client(cluster) as client:
        with pytest.raises(CheckpointError, match=r"No space left on device\. Free some space"):
            train(LanesEngine(client), checkpoint=str(small_disk / "run"))
        assert not any(client.run(lambda dask_worker: list(dask_worker.plugins["dagtrain-lanes"].ranks)).values())
        dt.load(small_disk / "run", custom={"Remembers": Remembers})
        shutil.copytree(small_disk / "run", small_disk.parent / "roomy")
        assert train(LanesEngine(client), checkpoint=str(small_disk.parent / "roomy")).fingerprint == expected()


@pytest.mark.timeout(60)
def test_a_save_killed_at_any_of_its_system_calls(tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    done = subprocess.run([sys.executable, str(SAVES), str(tmp_path / "one")], capture_output=True, text=True, timeout=60, check=False)
    if "cannot attach" in done.stderr:
        pytest.skip(done.stderr)
    assert not done.returncode, done.stderr
    seen = json.loads(done.stdout)
    assert seen["calls"] == seen["old"] + seen["new"] >= 16
    assert seen["old"] >= 8
    assert seen["new"] >= 3
    assert seen["files"] == 2
