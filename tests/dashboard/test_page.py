"""The page in a real browser, on a cluster within this process: one cluster and one browser for all tests."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.report.records import Started

STARTED = Started("Net", "lanes", 2, 4, 1000, 70, 0, 0, 3, 10)
HOSTILE = "<script>alert(1)</script>"
PATIENCE = 150.0
WITHOUT_GPU = ["--disable-gpu", "--disable-software-rasterizer"]  # the emulation of one takes seconds of a processor
pytestmark = pytest.mark.timeout(900)


class Window:
    """A browser's window with the page, driven in a thread of its own: the driver leaves an event loop in its thread."""

    def __init__(self, folder: Path) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.folder = folder
        self.wrong: list[str] = []

    def __enter__(self) -> Window:
        self.thread.submit(self._open).result(PATIENCE)
        return self

    def __exit__(self, *details: object) -> None:
        self.thread.submit(self._leaving.close).result(PATIENCE)
        self.thread.shutdown()

    def _open(self) -> None:
        from playwright.sync_api import sync_playwright

        self._leaving = ExitStack()
        driver = self._leaving.enter_context(sync_playwright())
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", *WITHOUT_GPU])
        self._leaving.callback(browser.close)
        self.page = browser.new_page(viewport={"width": 1400, "height": 1000})
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        self.page.on("dialog", self._dismiss)

    def _dismiss(self, dialog: Any) -> None:
        self.wrong.append(f"a script ran: {dialog.message}")
        dialog.dismiss()

    def do(self, action: Callable[[Any], Any]) -> Any:
        """Call a function with the page."""
        return self.thread.submit(action, self.page).result(2 * PATIENCE)

    def go(self, address: str) -> None:
        """Open an address where it is not open yet, which takes seconds of a processor."""
        if self.do(lambda page: page.url) == address:
            return
        self.do(lambda page: page.goto(address, timeout=PATIENCE * 1e3))
        self.until("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")

    def until(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        self.do(lambda page: page.wait_for_function(condition, timeout=PATIENCE * 1e3))

    def points(self) -> int:
        """Points of the curve."""
        return int(self.do(lambda page: page.evaluate(f"{model('curve')}.data.step.length")))

    def shows(self, text: str) -> bool:
        """Whether a text is on the page, as text."""
        return bool(self.do(lambda page: page.get_by_text(text).count()))

    def says(self, text: str) -> None:
        """Wait for a text in the line about the run."""
        self.until(f"{model('summary')}.text.includes({text!r})")


def model(name: str) -> str:
    return f'Bokeh.documents[0].get_model_by_name("dagtrain-{name}")'


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    pytest.importorskip("playwright", reason="pip install playwright")
    if shutil.which("chromium") is None:
        pytest.skip("the page is tested in Chromium: apt-get install chromium")
    if subprocess.run(["chromium", "--version"], capture_output=True, timeout=PATIENCE, check=False).returncode:
        pytest.skip("chromium does not start, its installation may be incomplete: dpkg --configure -a; apt-get install --fix-broken")
    with Window(tmp_path_factory.mktemp("window")) as opened:
        yield opened


@pytest.fixture(scope="module")
def cluster_with_page(dashboard: Any, local_cluster: Any) -> Callable[..., Any]:
    """``with cluster_with_page(workers, port) as client``."""
    from distributed import Client

    @contextmanager
    def make(workers: int, port: int = 0) -> Iterator[Any]:
        with local_cluster(workers, dashboard_address=f"127.0.0.1:{port}", scheduler_kwargs={}) as cluster, Client(cluster) as client:
            yield client

    return make


@pytest.fixture(scope="module")
def client(cluster_with_page: Any) -> Iterator[Any]:
    with cluster_with_page(2) as client:
        yield client


def address(client: Any) -> str:
    return f"http://127.0.0.1:{client.cluster.scheduler.http_server.port}/dagtrain"


class Slow(dt.callbacks.Callback):
    """Leaves the processor to the browser, and tells of an event."""

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        time.sleep(0.1)
        if epoch == 0:
            self.tell(HOSTILE)


@contextmanager
def fitting(client: Any, name: str) -> Iterator[dt.Trainer]:
    """A fit that goes on in another thread until the end of the block."""
    x, y = np.random.default_rng(0).standard_normal((256, 8), "f4"), np.arange(256) % 4
    network = dt.nn.Sequential([dt.nn.Dense(16, "relu"), dt.nn.Dense(4)], name=name)
    trainer = dt.Trainer(network, loss="cross_entropy", metrics=["accuracy"], shards=2, client=client)
    options: dict[str, Any] = {"epochs": 10**6, "batch_size": 64, "verbose": 0, "callbacks": [Slow()]}
    faults: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit(x, y, **options)
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    try:
        yield trainer
    finally:
        deadline = time.monotonic() + PATIENCE
        while thread.is_alive():
            assert time.monotonic() < deadline, "the fit does not stop"
            trainer.stop("the test has seen it")
            thread.join(0.1)
        if faults:
            raise faults[0]


def test_a_fit_shows_while_it_runs(client: Any, window: Window) -> None:
    window.go(address(client))
    assert window.shows("No fit yet")
    with fitting(client, HOSTILE):
        window.until(f"{model('curve')}.data.step.length > 1")
        seen = window.points()
        window.until(f"{model('curve')}.data.step.length > {seen}")
        window.until(f"{model('times')}.data.compute.some(ms => ms > 0) && {model('times')}.data.rank.length == 2")
        window.until(f"{model('metrics')}.data.name.includes('accuracy')")
        window.until(f"{model('events')}.data.text.includes({HOSTILE!r})")
        for picture in ("placement", "graph"):
            window.until(f"{model(picture)}.text.includes('data:image/svg+xml;base64,')")
        window.do(lambda page: page.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth)"))
        metrics = urlopen(address(client).replace("dagtrain", "metrics"), timeout=30).read().decode()
    window.says("the test has seen it")
    window.do(lambda page: page.screenshot(path=window.folder / "page.png", full_page=True))
    assert window.shows(HOSTILE), "the name is text"
    assert window.do(lambda page: page.get_by_role("link", name="Dagtrain").get_attribute("href")) == "dagtrain"
    assert 'dagtrain_step_seconds{kind="compute"' in metrics
    assert window.wrong == []


def test_a_job_that_is_started_again_shows_beside_the_first(client: Any, window: Window) -> None:
    window.go(address(client))
    for name in ("first", "second"):
        runs_on(client).take(name, client.id, [STARTED._replace(model=name)])
        window.says(name)
    number = runs_on(client).get("first").number
    window.do(lambda page: page.locator("select").select_option(label=f"{number}: first"))
    window.says("first")
    assert window.wrong == []


@pytest.mark.long
def test_the_page_comes_back_with_a_new_scheduler(cluster_with_page: Any, window: Window) -> None:
    with cluster_with_page(0) as client:
        port = client.cluster.scheduler.http_server.port
        window.go(address(client))
    with cluster_with_page(0, port) as client:
        runs_on(client).take("run", client.id, [STARTED._replace(model="after")])
        deadline = time.monotonic() + PATIENCE
        while not window.shows("after: 70 parameters"):
            assert time.monotonic() < deadline, "the page does not come back"
            time.sleep(0.2)


def runs_on(client: Any) -> Any:
    from dagtrain.dashboard.state import runs_of

    return runs_of(client.cluster.scheduler)
