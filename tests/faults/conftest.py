"""Faults on whole machines: processes that are killed from outside, and hosts that lose each other.

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

from tests.faults.machines import SECONDS, Machines, train

NETWORK = str(Path(__file__).parent.parent.parent / "scripts" / "network")


@pytest.fixture(scope="session")
def wanted() -> Callable[[int], str]:
    """``wanted(epochs)``: the fingerprint that every run must have, whatever happened to it."""
    known: dict[int, str] = {}

    def look(epochs: int = 8) -> str:
        if epochs not in known:
            known[epochs] = train("inline", epochs=epochs).fingerprint
        return known[epochs]

    return look


@pytest.fixture
def machines(settings_of_dask: None) -> Iterator[Machines]:
    """Processes of this host."""
    with closing(Machines()) as made:
        yield made


@pytest.fixture(scope="session")
def network() -> Iterator[Callable[..., None]]:
    """``network("cut", "w1", "w2")`` and the other verbs of scripts/network; `network.name` is its name."""
    name = f"dagtrain-{os.getpid()}"

    def do(verb: str, *hosts: str) -> None:
        subprocess.run([NETWORK, verb, name, *hosts], check=True, capture_output=True, text=True, timeout=SECONDS)

    if os.name == "nt" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    try:
        do("up")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces can be made here: {error.stderr}")
    do.name = name  # type: ignore[attr-defined]
    yield do
    do("down")


@pytest.fixture
def hosts(settings_of_dask: None, network: Any) -> Iterator[Machines]:
    """Processes of the hosts of a network: scheduler on s, driver on c, workers on w1 and w2."""
    with closing(Machines(network.name)) as made:
        yield made
