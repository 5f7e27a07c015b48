"""What all tests share: every new graph is checked, and marks tell the cost of each test.

=========== ============================================================ ========================= ==============
mark        test                                                         scripts/test              scripts/soak
=========== ============================================================ ========================= ==============
`cluster`   starts a cluster: it, or one of its fixtures, says so        yes, not with ``--fast``  if `fault`
`slow`      trains, starts processes, tries many examples, or is long   yes, not with ``--fast``  if `long`
`fault`     kills processes, cuts networks; is run again if it fails     yes, not with ``--fast``  yes
`combined`  has several parameters                                       each value of each        all combinations
`long`      takes long, or has a long form (`thorough`, hypothesis)      no, or in its short form  yes, in full
=========== ============================================================ ========================= ==============
"""

from __future__ import annotations

import gc
import inspect
import multiprocessing
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import dask
import pytest
from hypothesis import settings

import dagtrain as dt
from dagtrain.engines.client import workers_of
from dagtrain.graph import Graph
from dagtrain.transform import verify

HERE = Path(__file__).parent
LARGEST_CHECKED = 3000
CLUSTERS = {"Client", "Ranks", "LocalCluster"}
"""A test that names one of these, itself or by a fixture, starts a cluster or processes like those of one."""
PROCESSES = {"ProcessPoolExecutor", "Popen", "executable", "subprocess"}
"""The same for other processes."""
TRAINING = {"fit", "learn"}
"""And for whole trainings; some fits are in docstrings, which run with the quick tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long tests too, and the long forms of those that have one")


def pytest_configure(config: pytest.Config) -> None:
    """Set Hypothesis's default number of examples; they are the same each time, except in the long form."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in the background has them ignore Ctrl-C
    thorough = bool(config.getoption("--long"))
    settings.register_profile("dagtrain", max_examples=300 if thorough else 50, derandomize=not thorough, deadline=None)
    settings.load_profile("dagtrain")


def names_in(item: pytest.Function) -> set[str]:
    """The names that the test's function and its fixtures use, inner functions included."""
    functions = [item.function, *(d.func for defined in item._fixtureinfo.name2fixturedefs.values() for d in defined)]
    codes = [f.__code__ for f in map(inspect.unwrap, functions) if inspect.isfunction(f)]
    for code in codes:
        codes.extend(inner for inner in code.co_consts if inspect.iscode(inner))
    return {name for code in codes for name in code.co_names}


def off_the_diagonal(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """The tests marked `combined` that can be left out: the others still cover each value of each parameter."""
    ids = {item: item.callspec._idlist for item in items if item.get_closest_marker("combined") and hasattr(item, "callspec")}
    values: dict[Any, list[dict[str, int]]] = {}
    """Function → for each parameter, the number of each of its values."""
    for item, names in ids.items():
        for numbers, name in zip(values.setdefault(item.function, [{} for _ in names]), names, strict=True):
            numbers.setdefault(name, len(numbers))
    for item, names in ids.items():
        numbers = values[item.function]
        if not any(all(k[name] == i % len(k) for k, name in zip(numbers, names, strict=True)) for i in range(max(map(len, numbers)))):
            yield item


@pytest.hookimpl(tryfirst=True)  # before pytest's own choice by `-m`
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        names = names_in(item) if isinstance(item, pytest.Function) else set()
        by_hypothesis = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if names & CLUSTERS:
            item.add_marker("cluster")
        if names & (PROCESSES | TRAINING) or by_hypothesis:
            item.add_marker("slow")
        if HERE / "faults" in item.path.parents:
            item.add_marker("fault")
        if item.get_closest_marker("fault"):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if config.getoption("--long") and (by_hypothesis or "thorough" in getattr(item, "fixturenames", ())):
            item.add_marker("long")
    for item in off_the_diagonal(items):
        item.add_marker("long")
    if not config.getoption("--long"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    with_cluster = {item.path for item in items if "cluster" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path in with_cluster)  # last, since an idle cluster costs time too


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Without Python's garbage collector: it takes a fifth of the time, and almost all that is made stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Imports and collected tests stay to the end, so Python's garbage collector need not scan them again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """So does what a file of tests leaves: imports of its libraries, values of its parameters."""
    if nextitem is not None and nextitem.path != item.path:
        pytest_collection_finish()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Fail tests that start a cluster without the mark: ``scripts/test --fast`` would run them."""
    with pytest.MonkeyPatch.context() as patch:
        if "distributed" in sys.modules and not any(map(item.get_closest_marker, ("cluster", "fault"))):

            def refuse(*args: Any, **kwargs: Any) -> None:
                pytest.fail("This test starts a cluster: mark it by @pytest.mark.cluster.")

            patch.setattr(sys.modules["distributed"].LocalCluster, "__init__", refuse)
        return (yield)


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether there is time for the long form."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def digits() -> Any:
    """The digits, read once."""
    if find_spec("sklearn") is None:
        pytest.skip("the digits come with scikit-learn")
    return dt.data.load_digits()


@pytest.fixture(autouse=True)
def checked_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify each new graph; tests that make graphs of more than `LARGEST_CHECKED` nodes verify them themselves."""
    build = Graph.__init__

    def build_and_check(self: Graph, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        if len(self.nodes) <= LARGEST_CHECKED:
            verify(self)

    monkeypatch.setattr(Graph, "__init__", build_and_check)


# ---- clusters


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate that is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made by openssl")
    folder = tmp_path_factory.mktemp("certificate")
    key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", *curve, "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=dagtrain"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


CALM = {
    "distributed.admin.tick.interval": "1s",  # by default, every server measures itself 50 and 100 times a second
    "distributed.admin.system-monitor.interval": "10s",  # and reads twice a second what the system says of it
    "distributed.worker.profile.enabled": False,
    # After losing a worker, a cluster checks later whether it is back, and gives it up for good if it is dead at that moment.
    "distributed.deploy.lost-worker-timeout": "1h",
}
IMPORTED = [
    *("dagtrain", "dagtrain.draw", "dagtrain.engines.ranks.rank", "dagtrain.engines.ranks.segment", "dagtrain.engines.scheduler.session"),
    *("distributed.nanny", "distributed.protocol.numpy", "distributed.http.health", "distributed.http.worker.prometheus"),
    *("email.policy", "multiprocessing.popen_forkserver", "numpy.random", "threadpoolctl", "tornado.platform.asyncio"),
]
"""The modules that every worker imports at some time: two seconds of a processor."""


@pytest.fixture(scope="session")
def settings_of_dask() -> Iterator[None]:
    """Servers that are idle without work, and workers forked from a process with all imports."""
    pytest.importorskip("distributed")
    forked = "forkserver" in multiprocessing.get_all_start_methods()
    if forked:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"PYTHONHASHSEED": 6640, **dask.config.get("distributed.nanny.pre-spawn-environ")}.items():
                patch.setenv(name, str(value))  # as nannies do for a worker that is not forked
            multiprocessing.set_forkserver_preload(IMPORTED)
            forkserver.ensure_running()
    with dask.config.set({**CALM, **({"distributed.worker.multiprocessing-method": "forkserver"} if forked else {})}):
        yield
    if forked:
        import psutil

        server = forkserver._forkserver  # type: ignore[attr-defined]  # the only way to wait for its end
        for child in psutil.Process(server._forkserver_pid).children(recursive=True):
            child.kill()  # the server ends after its last child, which may be suspended
        server._stop()


@pytest.fixture(scope="session")
def local_cluster(settings_of_dask: None) -> Callable[..., AbstractContextManager[Any]]:
    """``with local_cluster(workers, threads=1, processes=False) as cluster``: by default within this process, which costs little."""
    from distributed import LocalCluster

    @contextmanager
    def make(workers: int, threads: int = 1, processes: bool = False, **options: Any) -> Iterator[Any]:
        options = {"dashboard_address": ":0", "scheduler_kwargs": {"dashboard": False}, "memory_limit": 0, **options}
        with LocalCluster(n_workers=workers, threads_per_worker=threads, processes=processes, **options) as cluster:
            yield cluster

    return make


@pytest.fixture(scope="session")
def cluster(local_cluster: Any) -> Iterator[Any]:
    """Three workers of one thread, each in a process of its own, for all tests that do not damage it; tests of faults have their own."""
    with local_cluster(3, processes=True) as workers:
        yield workers


def scaled(cluster: Any, client: Any, workers: int) -> None:
    """Wait until the cluster has exactly this many workers."""
    cluster.scale(workers)
    deadline = time.monotonic() + 60
    while len(workers_of(client)) != workers:
        assert time.monotonic() < deadline, "the cluster does not reach its size"
        time.sleep(0.05)


@pytest.fixture
def scale(cluster: Any) -> Callable[[Any, int], None]:
    """``scale(client, workers)`` gives the cluster this many workers."""
    return lambda client, workers: scaled(cluster, client, workers)


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    """A client of the cluster with three workers, before and after the test."""
    from distributed import Client

    with Client(cluster) as client:
        scaled(cluster, client, 3)
        yield client
        scaled(cluster, client, 3)


@pytest.fixture(scope="module")
def threads(local_cluster: Any) -> Iterator[Any]:
    """A client of two workers of one thread within this process, for the tests of one file, which can inspect the workers."""
    from distributed import Client

    with local_cluster(2) as cluster, Client(cluster) as client:
        yield client
