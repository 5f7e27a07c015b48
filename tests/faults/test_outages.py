"""Faults of the scheduler, or of all processes at once, are no worker's fault: they cost no worker and no bit."""

import threading
import time

import psutil
import pytest


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seconds", [15, 40])
def test_a_scheduler_that_is_cut_off(network, hosts, expected, thorough, seconds):
    if seconds > 15 and not thorough:
        pytest.skip("slow: only in the long form, which scripts/soak runs")
    hosts.scheduler()
    for host in ("w1", "w2"):
        hosts.worker(host, nanny=True)
    driver = hosts.driver(policy={"most": 2})
    driver.until(3)
    network("unplug", "s")
    heal = threading.Timer(seconds, network, ("plug", "s"))
    heal.start()
    try:
        result = driver.end()
    finally:
        heal.join()
    assert result["fingerprint"] == expected()
    assert result["pids"][0] == result["pids"][1]
    assert not [event for event in result["events"] if "lost" in event], "no rank is lost"


@pytest.fixture
def cluster_here(machines):
    """A scheduler and two workers with nannies."""
    machines.scheduler()
    for _ in range(2):
        machines.worker(nanny=True)
    return machines


@pytest.mark.timeout(240)
def test_a_clock_that_is_stepped(cluster_here, expected):
    """The scheduler's wall clock, by an hour: ahead, back twice, and ahead."""
    driver = cluster_here.driver(policy={"most": 2}, clock={2: 3600, 3: -3600, 4: -3600, 6: 3600})
    driver.until(1)
    result = driver.end()
    assert result["fingerprint"] == expected()
    assert result["pids"][0] == result["pids"][1]
    assert not [event for event in result["events"] if "lost" in event]


@pytest.mark.timeout(240)
def test_a_suspended_machine(cluster_here, expected):
    """Every process of it is suspended, for longer than the deadlines of ranks, driver and scheduler plugin."""
    driver = cluster_here.driver(policy={"most": 2, "news": 6}, silence=3, outage=6)
    driver.until(3)
    processes = [each for process in cluster_here.processes for each in family(process.pid)]
    try:
        driver.go()
        for process in processes:
            process.suspend()
        time.sleep(8)
    finally:
        for process in processes:
            process.resume()
    result = driver.end()
    assert result["fingerprint"] == expected()
    assert result["pids"][0] == result["pids"][1]


def family(pid):
    """A process and its children."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
