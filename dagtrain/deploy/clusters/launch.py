"""A start: it claims a name, records each thing that it starts, and ends all of it if it fails or is interrupted.

    with Launch("local", "local", ENDING) as launch:
        launch.run(command, "scheduler")               # a process in the background, with a log
        launch.record(external={"job": "17"})          # what runs elsewhere
        wait_for_workers(...)
        return launch.up(scheduler="tcp://…", dashboard="http://…")

A kind of cluster is a frozen dataclass of options with `plan()` and `start()`, and an `Ending`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from dagtrain.deploy.clusters.processes import Process, end, in_background, last_lines, signals_later
from dagtrain.deploy.clusters.started import Started, files_of, load, make_state_folder, new_files_of, one_at_a_time
from dagtrain.errors import ClusterError, DagtrainError

__all__ = ["PROCESSES", "Ending", "Kind", "Launch", "Plan", "addresses", "scheduler_of_file", "wait_for_workers"]

ANSWER = 5.0
"""Seconds for an answer of a scheduler, after which it is asked again."""


@dataclass(frozen=True)
class Plan:
    """What a start would do: the files that it would write, then the commands that it would run, in order."""

    commands: Sequence[Sequence[str]]
    files: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """As a user would type it."""
        files = [f"# {path}\n{text.rstrip()}\n" for path, text in self.files.items()]
        return "\n".join([*files, *map(shlex.join, self.commands)])


class Ending(NamedTuple):
    """How a kind of cluster is looked at and ended.

    Attributes
    ----------
    running
        What of a record still runs, in a few words each.
    stop
        Ends all that a record names, and waits for it, with a deadline; a `ClusterError` if something runs on.
        It also works for a record of which not everything was started, or something has ended.
    """

    running: Callable[[Started], list[str]]
    stop: Callable[[Started], None]


class Kind(Protocol):
    """Options of a cluster."""

    @property
    def name(self) -> str:
        """The cluster's name."""

    def plan(self) -> Plan:
        """What `start` would do; it needs nothing and looks at nothing."""

    def start(self) -> Started:
        """Start the cluster and wait until it is up; on failure end all that was started."""


def processes_running(started: Started) -> list[str]:
    """The processes of a record that run."""
    return [f"process {process.pid}" for process in started.processes if process.runs()]


def end_processes(started: Started) -> None:
    """End the processes of a record, the last one first."""
    end(started.processes[::-1])


PROCESSES = Ending(processes_running, end_processes)
"""For kinds that start processes on this machine and nothing else."""


class Launch:
    """The start of one cluster, as a context.

    Parameters
    ----------
    name
        The cluster's name.
    kind
        Its kind's name.
    ending
        How this kind is ended.

    Raises
    ------
    ClusterError
        If the name is in use.
    """

    def __init__(self, name: str, kind: str, ending: Ending) -> None:
        self.started = Started(name, kind)
        self.ending = ending

    @property
    def files(self) -> Path:
        """The folder of logs and files."""
        return files_of(self.started.name)

    def __enter__(self) -> Launch:
        make_state_folder()
        with one_at_a_time(), signals_later():
            try:
                self.started.write(new=True)
            except FileExistsError:
                self._replace(load(self.started.name))
                self.started.write()
            new_files_of(self.started.name)
        return self

    def _replace(self, other: Started) -> None:
        """Refuse a name that is in use; end what an ended cluster of this name may have left elsewhere."""
        name = self.started.name
        cure = f"stop it with: dagtrain cluster stop {name} – or give another name with --name."
        if other.launcher.runs() and not other.up:
            raise ClusterError(f"a cluster {name!r} is being started by process {other.launcher.pid}: wait for it, or give another --name.")
        if other.processes and not other.here:
            raise ClusterError(f"a cluster {name!r} was started on the host {other.host}: on that host {cure}")
        if other.kind != self.started.kind:
            raise ClusterError(f"the name {name!r} belongs to a cluster of kind {other.kind}: {cure}")
        running = self.ending.running(other)
        if running:
            raise ClusterError(f"a cluster {name!r} is running ({', '.join(running)}): {cure}")
        self.ending.stop(other)

    def record(self, **changes: Any) -> None:
        """Change the record, and write it."""
        self.started = dataclasses.replace(self.started, **changes)
        self.started.write()

    def run(self, command: Sequence[str], log: str, variables: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process in the background; its output goes to the file LOG.log."""
        with signals_later():
            child = in_background(command, self.files / f"{log}.log", variables)
            self.record(processes=(*self.started.processes, Process.of(child.pid)))
        return child

    def up(self, **changes: Any) -> Started:
        """The record of the cluster, which is up."""
        self.record(up=True, **changes)
        return self.started

    def check(self, child: subprocess.Popen[bytes], log: str) -> None:
        """Raise a `ClusterError` with the end of the log if a process has ended."""
        if child.poll() is not None:
            raise ClusterError(f"{log} ended with status {child.returncode}. {self.end_of(log)}")

    def end_of(self, log: str) -> str:
        """The last lines of a log, and its path."""
        path = self.files / f"{log}.log"
        return f"The end of {path}:\n{last_lines(path)}"

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            return
        with signals_later():
            try:
                self.ending.stop(self.started)
            except DagtrainError as failure:
                again = f"dagtrain cluster stop {self.started.name}"
                raise ClusterError(f"{error}\nWhat was started could not be ended: {failure} Try again: {again}") from error
            self.started.forget()


def scheduler_of_file(file: Path, until: float, check: Callable[[], None]) -> tuple[str, str]:
    """Wait until a scheduler has written its addresses; return its own and the dashboard's. `check` raises if waiting is in vain."""
    while True:
        check()
        try:
            return addresses(json.loads(file.read_text()))
        except (FileNotFoundError, ValueError):  # not yet, or half
            if time.monotonic() > until:
                raise ClusterError(f"the scheduler did not start in time: see {file.with_name('scheduler.log')}") from None
            time.sleep(0.1)


def wait_for_workers(address: str, count: int, security: Any, timeout: float, check: Callable[[], None]) -> str:
    """Wait until a cluster has `count` workers; return its dashboard's address.

    Parameters
    ----------
    address
        Of the scheduler.
    count
        Number of workers to wait for.
    security
        A `distributed.Security`, or None.
    timeout
        Seconds to wait.
    check
        Called every second; it raises if waiting is in vain.

    Raises
    ------
    ClusterError
        If there are not enough workers in time.
    """
    from distributed import Client

    until = time.monotonic() + timeout
    client = None
    present = 0
    try:
        while client is None:
            check()
            try:
                greet(address, security, min(timeout, ANSWER))
                client = Client(address, security=security, timeout=min(timeout, ANSWER))
            except OSError as error:
                if time.monotonic() > until:
                    raise ClusterError(f"the scheduler at {address} did not answer within {timeout:g} s: {error}") from error
        scheduler = client.scheduler
        while True:
            check()
            seconds = max(min(ANSWER, until - time.monotonic()), 1)
            try:
                identity = client.sync(scheduler.identity, n_workers=-1, callback_timeout=seconds)
            except (OSError, RuntimeError) as error:  # it is busy, or has ended and the client with it
                failure = f" At last it did not answer: {error}"
            else:
                failure = ""
                present = sum(worker["status"] == "running" for worker in identity["workers"].values())
                if present >= count:
                    return addresses({**identity, "address": address})[1]
            if time.monotonic() > until:
                raise ClusterError(f"{present} of {count} workers came to {address} within {timeout:g} s.{failure}")
            time.sleep(0.1)
    finally:
        if client is not None:
            with contextlib.suppress(OSError):
                client.close()


def greet(address: str, security: Any, seconds: float) -> None:
    """Connect to a scheduler and leave, or raise an OSError: a `Client` has no deadline for one that accepts it and is silent."""
    from distributed import Security
    from distributed.comm import connect
    from distributed.utils import LoopRunner, sync

    async def greeting() -> None:
        comm = await connect(address, timeout=seconds, **(security or Security()).get_connection_args("client"))
        comm.abort()

    runner = LoopRunner()
    runner.start()
    try:
        sync(runner.loop, greeting, callback_timeout=max(seconds, 0.1))
    except TimeoutError:
        raise TimeoutError("it accepts connections, and is silent.") from None
    finally:
        runner.stop()


def addresses(identity: Mapping[str, object]) -> tuple[str, str]:
    """Scheduler and dashboard in what a scheduler says of itself, and writes to its file."""
    address, services = str(identity["address"]), identity.get("services")
    port = services.get("dashboard") if isinstance(services, dict) else None
    return address, "" if port is None else f"http://{urlsplit(address).hostname}:{port}/status"
