"""Groups of ranks: as threads of this process, and as processes of their own."""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.util
import pickle
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dagtrain.transport import Communicator, Window

SCRIPT = Path(__file__).with_name("rank.py")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dagtrain_tests_rank", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rank = load()


class FallbackTransport:
    """Delivers messages to other ranks of this process, from threads of its own, in any order."""

    def __init__(self, group: Group, sender: int) -> None:
        self.group, self.sender = group, sender

    def send(self, to: int, header: bytes, buffers: list[memoryview]) -> None:
        copies = [bytes(buffer) for buffer in buffers]
        self.group.deliveries.submit(self.group.communicators[to].deliver, self.sender, header, copies)


class Group:
    """Ranks of one group in this process, which run in one thread each."""

    def __init__(self, ranks: int = 2, seed: int = 0, elements: int = 50, comms: bool = False, routes: Any = None, **options: Any) -> None:
        self.plan = rank.Plan(seed, ranks, elements)
        self.id = uuid.uuid4().hex
        size = max((p.stop for routes in (routes or [{}])[0].values() for spans in routes.out.values() for p in spans), default=0)
        self.windows = [Window.create({"slice": ("float32", size)} if routes else self.plan.regions) for _ in range(ranks)]
        self.deliveries = ThreadPoolExecutor(2)
        self.threads = ThreadPoolExecutor(ranks)
        self.communicators: list[Communicator] = []
        for i, window in enumerate(self.windows):
            settings = {"token": rank.TOKEN, "address": "127.0.0.1", **{k: v[i] if isinstance(v, list) else v for k, v in options.items()}}
            if comms:
                settings["comms"] = FallbackTransport(self, i)
            self.communicators.append(Communicator(self.id, i, window, routes[i] if routes else self.plan.routes(i), **settings))

    @property
    def endpoints(self) -> dict[int, Any]:
        return {communicator.rank: communicator.endpoint for communicator in self.communicators}

    def separate_hosts(self, *ranks: int) -> None:
        """Let each of these ranks appear to be on a host of its own."""
        for number in ranks:
            self.communicators[number].endpoint["host"]["network_namespace"] = -1 - number

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """What each rank's thread returns or raises."""
        futures = [self.threads.submit(work, i) for i in range(len(self.communicators))]
        if concurrent.futures.wait(futures, 60).not_done:
            outcomes = ["still running" if not f.done() else f.exception() or f.result() for f in futures]
            raise TimeoutError(f"not all ranks ended within 60 s: {outcomes}")
        return [future.exception() or future.result() for future in futures]

    def connect(self, seconds: float = 30) -> Group:
        endpoints = self.endpoints
        for error in self.run(lambda i: self.communicators[i].connect(endpoints, seconds)):
            if error is not None:
                raise error
        return self

    def rehearse(self, segments: int = 2, steps: int = 5) -> None:
        for error in self.run(lambda i: self.rehearse_rank(i, segments, steps)):
            if error is not None:
                raise error

    def rehearse_rank(self, i: int, segments: int, steps: int) -> None:
        """One rank's part of `rehearse`, in this thread."""
        rank.rehearse(self.communicators[i], self.windows[i], self.plan, segments, steps)

    def close(self) -> None:
        for communicator in self.communicators:
            communicator.abort("the test is over")
        self.threads.shutdown()
        self.deliveries.shutdown()
        for each in (*self.communicators, *self.windows):
            each.close()


@pytest.fixture
def group() -> Iterator[Callable[..., Group]]:
    """``group(ranks, …)`` makes a `Group` that is not connected yet."""
    with contextlib.ExitStack() as stack:

        def make(*args: Any, **kwargs: Any) -> Group:
            return stack.enter_context(contextlib.closing(Group(*args, **kwargs)))

        yield make


class Ranks:
    """Ranks of one group, each a process."""

    def __init__(self, ranks: int, prefixes: list[list[str]] | None = None, **settings: Any) -> None:
        group = uuid.uuid4().hex
        self.processes = [
            subprocess.Popen(
                [*(prefixes[i] if prefixes else []), sys.executable, "-W", "error", str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for i in range(ranks)
        ]
        for i in range(ranks):
            of_rank = {k: v[i] if isinstance(v, list) else v for k, v in settings.items()}
            self.tell(i, {"group": group, "rank": i, "ranks": ranks, "seed": 1, **of_rank})
        endpoints = {i: self.hear(i) for i in range(ranks)}
        for i in range(ranks):
            self.tell(i, endpoints)
        self.kinds = [self.hear(i) for i in range(ranks)]

    def tell(self, i: int, message: Any) -> None:
        pickle.dump(message, self.processes[i].stdin)  # type: ignore[arg-type]
        self.processes[i].stdin.flush()  # type: ignore[union-attr]

    def hear(self, i: int) -> Any:
        try:
            return pickle.load(self.processes[i].stdout)  # type: ignore[arg-type]
        except EOFError:
            raise AssertionError(self.processes[i].stderr.read().decode()) from None  # type: ignore[union-attr]

    def end(self) -> list[str]:
        """End all processes; returns what each wrote to stderr."""
        for i in range(len(self.processes)):
            self.tell(i, "close")
        return [process.communicate(timeout=60)[1].decode() for process in self.processes]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def ranks() -> Iterator[Callable[..., Ranks]]:
    """``ranks(number, …)`` starts this number of processes, and connects them."""
    with contextlib.ExitStack() as stack:

        def make(*args: Any, **kwargs: Any) -> Ranks:
            return stack.enter_context(contextlib.closing(Ranks(*args, **kwargs)))

        yield make


@pytest.fixture
def tls(certificate: tuple[str, str]) -> Any:
    """Contexts as Dask's workers make them: for the side that accepts, and for the side that dials."""
    distributed = pytest.importorskip("distributed")
    cert, key = certificate
    security = distributed.Security(tls_ca_file=cert, tls_worker_cert=cert, tls_worker_key=key, require_encryption=True)
    return security.get_listen_args("worker")["ssl_context"], security.get_connection_args("worker")["ssl_context"]
