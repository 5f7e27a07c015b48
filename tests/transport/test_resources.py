"""Ranks release descriptors and memory."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dagtrain.transport import Phase, Window

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def descriptors() -> list[str]:
    targets = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            targets.append(os.readlink(entry))
        except OSError:
            continue
    return sorted(target for target in targets if not target.startswith("/"))


def maps() -> int:
    return Path("/proc/self/maps").read_text().count("dagtrain-window")


@linux
@pytest.mark.parametrize("kind", ["shared", "socket", "comm", "mixed"])
def test_descriptors_and_maps_are_released(group: Any, kind: str) -> None:
    gc.collect()
    before = descriptors(), maps()
    ours = group(3, comms=True, only=None if kind == "mixed" else kind)
    if kind == "mixed":
        ours.separate_hosts(0)
    ours.connect()
    ours.rehearse()
    arrays = [*ours.communicators[0].incoming(1, Phase.REDUCE_SCATTER), ours.windows[0]["REDUCE_SCATTER.float"]]
    assert maps() > 0
    assert len(descriptors()) > len(before[0])
    ours.close()
    assert all(np.isfinite(array).all() for array in arrays)  # they stay readable
    del arrays
    ours.communicators.clear()
    gc.collect()
    assert (descriptors(), maps()) == before


@linux
def test_a_rendezvous_that_fails_releases_them_too(group: Any) -> None:
    gc.collect()
    before = descriptors(), maps()
    for kind in ("shared", "socket", "comm"):
        ours = group(3, comms=True, only=kind)
        ours.run(lambda i, ours=ours: None if i == 1 else ours.communicators[i].connect(ours.endpoints, 0.3))
        ours.close()
        ours.communicators.clear()
    gc.collect()
    assert (descriptors(), maps()) == before


@linux
def test_an_unreferenced_window_is_released() -> None:
    before = descriptors()
    Window.create({"a": ("float32", 10)})
    gc.collect()
    assert descriptors() == before


@linux
def test_memory_has_no_name_and_killed_processes_leave_none(ranks: Any) -> None:
    def names() -> set[str]:
        return set(os.listdir("/dev/shm"))

    before = names()
    ours = ranks(2, elements=100_000)
    ours.tell(0, ("rehearse", 1, 3))
    ours.tell(1, ("rehearse", 1, 3))
    assert ours.hear(0) > 0
    assert ours.hear(1) > 0
    assert not [name for name in names() - before if "dagtrain" in name or "psm" in name]
    for process in ours.processes:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not [name for name in names() - before if "dagtrain" in name or "psm" in name]


def test_closing_twice_and_in_either_order(group: Any) -> None:
    ours = group(2).connect()
    ours.windows[0].close()
    for communicator in ours.communicators:
        communicator.close()
        communicator.close()
        communicator.abort("late")


def test_the_listener_is_closed_after_the_rendezvous(group: Any) -> None:
    ours = group(2, only="socket").connect()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(ours.communicators[1].endpoint["address"], 5)


def test_dask_is_not_imported() -> None:
    code = "import sys, dagtrain.transport\nassert not {'dask', 'distributed'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
