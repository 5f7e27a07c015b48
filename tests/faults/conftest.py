"""Faults on whole machines: processes that are killed from outside, and hosts that lose each other.

The short form of these tests is part of every run; ``--long``, which scripts/soak sets, repeats them more often and longer.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
NETWORK = str(HERE.parent.parent / "scripts" / "network")
SECONDS = 60
"""For anything to come about."""


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dagtrain_tests_driver", HERE / "driver.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def train() -> Any:
    """``train(engine, …)``, as the driver does it."""
    return load().train


@pytest.fixture(scope="session")
def wanted(train: Any) -> Callable[[int], str]:
    """``wanted(epochs)``: the fingerprint that every run must have, whatever happened to it."""
    known: dict[int, str] = {}

    def look(epochs: int = 8) -> str:
        if epochs not in known:
            known[epochs] = train("inline", epochs=epochs).fingerprint
        return known[epochs]

    return look


class Process:
    """A Python process whose lines are read in the background."""

    def __init__(self, arguments: list[str], host: str | None = None) -> None:
        prefix = [] if host is None else ["ip", "netns", "exec", host]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.popen = subprocess.Popen([*prefix, sys.executable, *arguments], text=True, **pipes)  # type: ignore[call-overload]
        self.pid = self.popen.pid
        self.lines: queue.Queue[str] = queue.Queue()
        self.heard: list[str] = []
        self.listening = threading.Thread(target=self._listen, daemon=True)
        self.listening.start()

    def _listen(self) -> None:
        for line in self.popen.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put("")  # an empty line is the end

    def wait_for(self, text: str) -> str:
        """The next line with this text in it."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                line = self.lines.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise AssertionError(f"{text!r} did not come; this did: {self.heard}") from None
            self.heard.append(line)
            if text in line:
                return line
            assert line or not self.lines.empty() or self.popen.poll() is None, f"it has ended without {text!r}: {self.heard}"

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self.listening.join(SECONDS)  # a nanny's worker, which has the same pipe, ends with it
        for pipe in (self.popen.stdin, self.popen.stdout):
            pipe.close()


class Driver(Process):
    """A driver that goes on when it is told to."""

    def until(self, epoch: int) -> None:
        """Let it go on to the end of this epoch."""
        while True:
            told = json.loads(self.wait_for("{"))
            assert "epoch" in told, told
            if told["epoch"] == epoch:
                return
            self.go()

    def go(self) -> None:
        self.popen.stdin.write("go\n")
        self.popen.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Let it go on to its end; what it says then."""
        while True:
            self.go()
            told: dict[str, Any] = json.loads(self.wait_for("{"))
            if "epoch" not in told:
                return told


class Machines:
    """A scheduler, workers and drivers, each a process, which may be on hosts of a network."""

    def __init__(self, stack: ExitStack, network: str | None = None) -> None:
        self.stack, self.network = stack, network
        self.address = ""

    def start(self, what: Any, arguments: list[str], host: str) -> Any:
        process = what(arguments, None if self.network is None else f"{self.network}-{host}")
        self.stack.callback(process.close)
        return process

    def host_of(self, host: str) -> str:
        return "127.0.0.1" if self.network is None else f"10.77.0.{['s', 'w1', 'w2', 'c'].index(host) + 1}"

    def scheduler(self) -> Process:
        run = ["-m", "distributed.cli.dask_scheduler", "--host", self.host_of("s"), "--port", "0", "--no-dashboard", "--no-show"]
        scheduler = self.start(Process, run, "s")
        self.address = scheduler.wait_for("Scheduler at:").split()[-1]
        return scheduler

    def worker(self, host: str = "w1", nanny: bool = False) -> Process:
        place = ["--host", self.host_of(host), "--no-dashboard", "--nthreads", "1", "--memory-limit", "0"]
        place += [] if nanny else ["--no-nanny"]
        worker = self.start(Process, ["-m", "distributed.cli.dask_worker", self.address, *place], host)
        worker.wait_for("Registered to:")
        return worker

    def driver(self, **settings: Any) -> Driver:
        driver: Driver = self.start(Driver, [str(HERE / "driver.py"), self.address, json.dumps(settings)], "c")
        return driver


@pytest.fixture
def machines() -> Iterator[Machines]:
    """Processes of this host."""
    with ExitStack() as stack:
        yield Machines(stack)


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
def hosts(network: Any) -> Iterator[Machines]:
    """Processes of the hosts of a network: scheduler on s, driver on c, workers on w1 and w2."""
    with ExitStack() as stack:
        yield Machines(stack, network.name)
