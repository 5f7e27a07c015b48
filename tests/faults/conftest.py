"""Faults of whole machines: processes that are killed from outside, and hosts that lose their connections.

The short form of these tests is part of every run; ``--long``, which scripts/soak sets, repeats them more often and longer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.machines import SECONDS, SMALL_BLOCK, Machines, train

NETWORK = str(Path(__file__).parent.parent.parent / "scripts" / "network")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set once for a test, whichever of its threads train."""
    monkeypatch.setattr("dagtrain.step.group_update.BLOCK", SMALL_BLOCK)


@pytest.fixture(scope="session")
def expected() -> Callable[[int], str]:
    """``expected(epochs)``: the fingerprint that every run must have after any faults."""
    fingerprints: dict[int, str] = {}

    def fingerprint(epochs: int = 8) -> str:
        if epochs not in fingerprints:
            fingerprints[epochs] = train("inline", epochs=epochs).fingerprint
        return fingerprints[epochs]

    return fingerprint


@pytest.fixture
def machines(settings_of_dask: None) -> Iterator[Machines]:
    """Processes of this host."""
    with closing(Machines()) as machines:
        yield machines


@pytest.fixture(scope="session")
def network() -> Iterator[Callable[..., None]]:
    """``network("cut", "w1", "w2")`` and the other verbs of scripts/network; `network.name` is its name."""
    name = f"dagtrain-{os.getpid()}"

    def run(verb: str, *hosts: str) -> None:
        subprocess.run([NETWORK, verb, name, *hosts], check=True, capture_output=True, text=True, timeout=SECONDS)

    if os.name == "nt" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    try:
        run("up")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot make network namespaces here: {error.stderr}")
    run.name = name  # type: ignore[attr-defined]
    yield run
    run("down")


@pytest.fixture
def hosts(settings_of_dask: None, network: Any) -> Iterator[Machines]:
    """Processes on the hosts of a network: scheduler on s, driver on c, workers on w1 and w2."""
    with closing(Machines(network.name)) as machines:
        yield machines
