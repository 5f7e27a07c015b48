"""What strikes the scheduler, or all at once, is no worker's fault: it costs no worker and no bit."""

import threading
import time

import psutil
import pytest


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seconds", [15, 40])
def test_a_scheduler_that_is_cut_off(network, hosts, wanted, thorough, seconds):
    if seconds > 15 and not thorough:
        pytest.skip("takes long: in the full form, by scripts/soak")
    hosts.scheduler()
    for host in ("w1", "w2"):
        hosts.worker(host, nanny=True)
    driver = hosts.driver(policy={"most": 2})
    driver.until(3)
    network("unplug", "s")
    heal = threading.Timer(seconds, network, ("plug", "s"))
    heal.start()
    try:
        told = driver.end()
    finally:
        heal.join()
    assert told["fingerprint"] == wanted()
    assert told["pids"][0] == told["pids"][1]
    assert not [event for event in told["events"] if "lost" in event], "and no rank"


@pytest.fixture
def here(machines):
    """A scheduler and two workers with nannies."""
    machines.scheduler()
    for _ in range(2):
        machines.worker(nanny=True)
    return machines


@pytest.mark.timeout(240)
def test_a_clock_that_is_stepped(here, wanted):
    """The scheduler's, by an hour: ahead, back twice, and ahead."""
    driver = here.driver(policy={"most": 2}, clock={2: 3600, 3: -3600, 4: -3600, 6: 3600})
    driver.until(1)
    told = driver.end()
    assert told["fingerprint"] == wanted()
    assert told["pids"][0] == told["pids"][1]
    assert not [event for event in told["events"] if "lost" in event]


@pytest.mark.timeout(240)
def test_a_suspended_machine(here, wanted):
    """Every process of it, for longer than the deadlines of ranks, driver and scheduler_plugin."""
    driver = here.driver(policy={"most": 2, "news": 6}, silence=3, outage=6)
    driver.until(3)
    processes = [each for process in here.processes for each in family(process.pid)]
    try:
        driver.go()
        for process in processes:
            process.suspend()
        time.sleep(8)
    finally:
        for process in processes:
            process.resume()
    told = driver.end()
    assert told["fingerprint"] == wanted()
    assert told["pids"][0] == told["pids"][1]


def family(pid):
    """A process and its children."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
