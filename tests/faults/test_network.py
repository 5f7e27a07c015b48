"""Workers on hosts of their own, between which the network fails: the run continues or recovers, with the same weights."""

import contextlib
import re
import threading
import time

import pytest

FAST = {"link": 2, "silence": 3, "policy": {"most": 2, "cut": 1}}


@pytest.fixture
def two(hosts):
    """Workers on two hosts."""
    hosts.scheduler()
    for host in ("w1", "w2"):
        hosts.worker(host)
    return hosts


@pytest.mark.timeout(90)
def test_a_cut_between_two_workers_alone(network, two, expected):
    """Scheduler and driver reach both, so no worker seems dead: the ranks must detect it."""
    driver = two.driver(**FAST)
    driver.until(3)
    network("cut", "w1", "w2")
    try:
        result = driver.end()
    finally:
        network("mend", "w1", "w2")
    assert result["fingerprint"] == expected()
    assert re.search(r"the channel to rank \d is lost: .* \(rank \d is on t\w+://", str(result["events"]))


@pytest.mark.timeout(90)
def test_a_cut_that_heals(network, two, expected):
    """The run waits meanwhile, and repeats nothing."""
    driver = two.driver(policy={"most": 2})
    driver.until(3)
    network("cut", "w1", "w2")
    heal = threading.Timer(3, network, ("mend", "w1", "w2"))
    heal.start()
    began = time.monotonic()
    try:
        result = driver.end()
    finally:
        heal.join()
    assert time.monotonic() - began > 2
    assert result["fingerprint"] == expected()
    assert not [event for event in result["events"] if "lost" in event or "repeated" in event]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("third", [pytest.param(False, id="two workers", marks=pytest.mark.long), pytest.param(True, id="three workers")])
def test_a_cut_from_before_the_beginning(network, two, expected, third):
    """A firewall between workers that the scheduler and the driver reach: one of the two is left out, and the others continue."""
    address = {host: two.host_of(host) for host in ("w1", "w2")}
    if third:
        two.worker("s")
    network("cut", "w1", "w2")
    try:
        began = time.monotonic()
        result = two.driver().end()
        seconds = time.monotonic() - began
    finally:
        network("mend", "w1", "w2")
    assert result["fingerprint"] == expected()
    (event,) = [event for event in result["events"] if "do not reach each other" in event]
    assert all(f"{host}:" in event for host in address.values()), event
    assert seconds < 45, "two deadlines of connections"


@pytest.mark.timeout(90)
def test_a_host_that_is_cut_off_from_all(network, two, expected, thorough):
    if not thorough:
        pytest.skip("slow: only in the long form, which scripts/soak runs")
    driver = two.driver(**FAST)
    driver.until(3)
    network("unplug", "w2")
    try:
        result = driver.end()
    finally:
        network("plug", "w2")
    assert result["fingerprint"] == expected()
    assert result["events"]


@pytest.mark.timeout(120)
def test_a_network_that_loses_packets(network, two, expected, thorough):
    """No packet arrives for a third of the time."""
    epochs = 60 if thorough else 5
    driver = two.driver(epochs=epochs, **FAST)
    driver.until(1)
    end = threading.Event()

    def lose():
        while not end.wait(0.1):
            network("cut", "w1", "w2")
            end.wait(0.05)
            network("mend", "w1", "w2")

    losing = threading.Thread(target=lose)
    losing.start()
    try:
        result = driver.end()
    finally:
        end.set()
        losing.join()
        with contextlib.suppress(Exception):
            network("mend", "w1", "w2")
    assert result["fingerprint"] == expected(epochs)
