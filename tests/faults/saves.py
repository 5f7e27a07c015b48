"""Saves that a tracer kills at each of their system calls in turn: run as a program, for `test_disks`.

    saves.py FOLDER

A forked process stops itself, the tracer attaches, and the process overwrites a checkpoint. Prints one line of JSON: how often the old and
the new checkpoint was loaded afterwards, and how many calls a save makes.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import numpy as np

import dagtrain as dt
from dagtrain.checkpoint.files import open_store
from dagtrain.checkpoint.store import write

CALLS = "openat,write,pwrite64,fsync,fdatasync,close,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir,ftruncate"
SECONDS = 20


def states() -> list[Any]:
    """Two checkpoints of one run."""
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(200), dt.nn.Dense(2)]), loss="cross_entropy", engine="inline", threads=1)
    checkpoints = []
    for _ in range(2):
        trainer.fit(np.eye(8, dtype="f4"), np.arange(8) % 2, verbose=0)
        program, state = trainer.progress.trained("be saved")
        checkpoints.append((trainer._describe(program, None, state, {}), state.copy()))
    return checkpoints


def save(folder: str, what: Any) -> int:
    """PID of a stopped process that will save when it is continued."""
    process = os.fork()
    if process == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            write(open_store(folder), *what)
            os._exit(0)
        except BaseException:
            os._exit(1)
    os.waitpid(process, os.WUNTRACED)
    return process


def attached(process: int) -> bool:
    with open(f"/proc/{process}/status") as status:
        return not any(line.split() == ["TracerPid:", "0"] for line in status)


def traced(folder: str, what: Any, *options: str) -> int:
    """The exit code of a save under the tracer."""
    process = save(folder, what)
    tracer = subprocess.Popen(["strace", "-qq", "-f", "-p", str(process), "-e", f"trace={CALLS}", *options], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + SECONDS
    while not attached(process):
        if time.monotonic() > deadline or tracer.poll() is not None:
            os.kill(process, signal.SIGKILL)
            sys.exit("strace cannot attach to a process here")
        time.sleep(0.002)
    os.kill(process, signal.SIGCONT)
    _, status = os.waitpid(process, 0)
    tracer.wait(SECONDS)
    return os.waitstatus_to_exitcode(status)


def fingerprint(folder: str) -> str:
    digest: str = dt.load(folder).progress.trained("be looked at")[1].fingerprint
    return digest


def main(folder: str) -> dict[str, int]:
    before, after = states()
    store = open_store(folder)
    write(store, *before)
    log = f"{folder}.log"
    assert traced(folder, after, "-o", log) == 0
    with open(log) as lines:
        calls = Counter(re.findall(r"^\d+ +(\w+)\(", lines.read(), re.MULTILINE))
    names = {before[0].fingerprint: "old", after[0].fingerprint: "new"}
    seen = Counter({"calls": calls.total()})
    for call, count in calls.items():  # the tracer counts each kind of call separately
        for number in range(1, count + 1):
            write(store, *before)
            code = traced(folder, after, "-e", f"inject={call}:signal=KILL:when={number}", "-o", os.devnull)
            assert code == -signal.SIGKILL, f"the save went on beyond {call} number {number}: {code}"
            seen[names[fingerprint(folder)]] += 1
    write(store, *after)
    assert fingerprint(folder) == after[0].fingerprint
    return {**seen, "files": len(os.listdir(folder))}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
