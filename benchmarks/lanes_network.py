"""Two workers on two hosts, with a network of known speed between them: the part `network` of lanes.py.

    python lanes_network.py SCHEDULER NETWORK SHARDS SAMPLES        the driver of the engine lanes, started on a host by lanes.py

The hosts are network namespaces made by scripts/network, and tc limits their outgoing rate. All of them share the cores of this machine,
which also does the work of the network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lanes_peers import Processes, answer

__all__ = ["Driver", "Hosts", "hosts"]

SCRIPT = Path(__file__).parent.parent / "scripts" / "network"
DEADLINE = 60
"""Seconds for a process to start."""


class Hosts:
    """A scheduler on host s, and a worker of one thread on each of w1 and w2; host c is for the driver."""

    def __init__(self, name: str, stack: contextlib.ExitStack) -> None:
        self.name, self.stack = name, stack
        scheduler = ["-m", "distributed.cli.dask_scheduler", "--host", "10.77.0.1", "--port", "0", "--no-dashboard", "--no-show"]
        self.address = self._start("s", scheduler, "Scheduler at:")
        for number, host in enumerate(("w1", "w2"), start=2):
            options = ["--host", f"10.77.0.{number}", "--no-dashboard", "--no-nanny", "--nthreads", "1", "--memory-limit", "0"]
            self._start(host, ["-m", "distributed.cli.dask_worker", self.address, *options], "Registered to:")

    def space(self, host: str) -> str:
        """The network namespace of a host."""
        return f"{self.name}-{host}"

    def _start(self, host: str, arguments: list[str], text: str) -> str:
        """Start a process; wait for the first line with this text, and return the last word of this line."""
        log = self.stack.enter_context((Path(self.stack.enter_context(tempfile.TemporaryDirectory())) / "log").open("w+"))
        command = ["ip", "netns", "exec", self.space(host), sys.executable, *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.stack.callback(process.wait, 20)
        self.stack.callback(process.kill)
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until and process.poll() is None:
            lines = [line for line in Path(log.name).read_text().splitlines() if text in line]
            if lines:
                return lines[0].split()[-1]
            time.sleep(0.05)
        raise SystemExit(f"{' '.join(command)} did not print {text!r} within {DEADLINE} s:\n{Path(log.name).read_text()}")

    def limit(self, rate: str) -> None:
        """Limit the outgoing rate of the workers' hosts, such as to "1gbit"."""
        for host in ("w1", "w2"):
            command = ["tc", "-n", self.space(host), "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate]
            subprocess.run([*command, "burst", "256k", "limit", "4m"], check=True)


@contextlib.contextmanager
def hosts() -> Iterator[Hosts | str]:
    """The hosts, or the reason why there are none."""
    if os.name == "nt" or os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("tc")):
        yield "network namespaces need root and iproute2"
        return
    name = f"dagtrain-{os.getpid()}"
    up = subprocess.run([SCRIPT, "up", name], capture_output=True, text=True, check=False)
    if up.returncode:
        yield f"no network namespaces can be made here: {up.stderr.strip()}"
        return
    try:
        with contextlib.ExitStack() as stack:
            yield Hosts(name, stack)
    finally:
        subprocess.run([SCRIPT, "down", name], check=True)


class Driver(Processes):
    """The engine lanes as a contender: the driver is a process on host c."""

    def __init__(self, name: str, machines: Hosts, network: str, shards: int, samples: int) -> None:
        arguments = [machines.address, network, str(shards), str(samples)]
        super().__init__(name, [["ip", "netns", "exec", machines.space("c"), sys.executable, __file__, *arguments]])


def drive(scheduler: str, network: str, shards: int, samples: int) -> None:
    """Train once for each request."""
    from distributed import Client
    from lanes import NETWORKS, Fit, data

    sizes, batch = NETWORKS[network]
    with Client(scheduler) as client:
        fit = Fit("lanes", sizes, shards, data(sizes[0], samples), batch, engine="lanes", client=client)
        answer(lambda: fit.run)


if __name__ == "__main__":
    drive(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
