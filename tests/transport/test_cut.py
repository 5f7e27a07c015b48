"""A cable that is pulled between two hosts: network namespaces with a link of their own. Needs root, and the program ip."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dagtrain.transport import PeerLost

SILENCE = 2.0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@pytest.fixture
def hosts() -> Iterator[tuple[list[list[str]], list[str], Callable[[], None]]]:
    """Prefixes that run a command on either host, their addresses, and a function that cuts the link between them."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("making network namespaces needs root and the program ip")
    names = [f"rank{os.getpid()}{side}" for side in "ab"]
    middle = f"rank{os.getpid()}m"
    namespaces = []
    try:
        for name in (*names, middle):
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
            namespaces.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", middle, "link", "add", "bridge", "type", "bridge")
        ip("-n", middle, "link", "set", "bridge", "up")
        for number, name in enumerate(names):
            ip("-n", name, "link", "add", "port", "type", "veth", "peer", "name", f"to{number}", "netns", middle)
            ip("-n", middle, "link", "set", f"to{number}", "master", "bridge", "up")
            ip("-n", name, "addr", "add", f"10.99.0.{number + 1}/24", "dev", "port")
            ip("-n", name, "link", "set", "port", "up")
        # only the bridge's port to host 1 goes down, so host 0, which waits, does not see its carrier fall
        yield (
            [["ip", "netns", "exec", name] for name in names],
            ["10.99.0.1", "10.99.0.2"],
            lambda: ip("-n", middle, "link", "set", "to1", "down"),
        )
    finally:
        for name in namespaces:
            ip("netns", "del", name)


def test_other_networks_are_other_hosts(ranks: Any, hosts: Any) -> None:
    prefixes, addresses, _ = hosts
    ours = ranks(2, prefixes, address=addresses)
    assert ours.kinds == [{1: "socket"}, {0: "socket"}]
    for i in range(2):
        ours.tell(i, ("rehearse", 1, 20))
    assert all(isinstance(ours.hear(i), float) for i in range(2))


@pytest.mark.parametrize("elements", [50, 3_000_000])
def test_a_cut_link_is_lost_whether_idle_or_full(ranks: Any, hosts: Any, elements: int) -> None:
    prefixes, addresses, cut = hosts
    ours = ranks(2, prefixes, address=addresses, elements=elements, silence=SILENCE)
    if elements > 50:
        ours.tell(0, ("rehearse", 1, 1))  # posts more than the buffers take; the other does not read
    else:
        ours.tell(0, ("wait", 60))
    time.sleep(0.5)
    cut()
    error = ours.hear(0)
    assert isinstance(error, PeerLost), error
    assert error.peer == 1


def test_a_link_that_is_cut_between_steps_is_lost(ranks: Any, hosts: Any) -> None:
    prefixes, addresses, cut = hosts
    ours = ranks(2, prefixes, address=addresses, elements=20_000, silence=SILENCE)
    for i in range(2):
        ours.tell(i, ("rehearse", 1, 1_000_000))
    time.sleep(1)
    cut()
    for i in range(2):
        assert isinstance(ours.hear(i), PeerLost)
