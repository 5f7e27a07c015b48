"""A driver that is killed in the midst of a save, at calls to the operating system: the last checkpoint that was whole always loads."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dagtrain as dt

CALLS = {"rename": "rename,renameat,renameat2", "fsync": "fsync", "write": "write,pwrite64"}
SAVE = """
import sys
import numpy as np
import dagtrain as dt
x, y = np.eye(8, dtype="f4"), np.arange(8) % 2
trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(8), dt.nn.Dense(2)]), loss="cross_entropy", engine="inline", threads=1)
trainer.fit(x, y, verbose=0)
trainer.save(sys.argv[1])
"""


def save(folder: Path, *prefix: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*prefix, sys.executable, "-B", "-c", SAVE, str(folder)], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, which ends a process at a chosen call")
@pytest.mark.parametrize("call", CALLS)
def test_a_save_that_is_killed_at_a_call(tmp_path: Path, thorough: bool, call: str) -> None:
    if not thorough and call != "rename":
        pytest.skip("one kind of call is enough for the short form; scripts/soak takes all")
    folder = tmp_path / "a"
    assert save(folder).returncode == 0
    whole = dt.load(folder)._trained("be looked at")[1].fingerprint
    killed = 0
    for number in range(1, 200):
        inject = f"inject={CALLS[call]}:signal=KILL:when={number}"
        done = save(folder, "strace", "-f", "-qq", "-o", "/dev/null", "-e", inject)
        assert dt.load(folder)._trained("be looked at")[1].fingerprint == whole
        if done.returncode not in (-signal.SIGKILL, 128 + signal.SIGKILL):
            assert done.returncode == 0, done.stderr
            break
        killed += 1
    assert killed, f"nothing was killed at {call}"
