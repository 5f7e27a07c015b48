"""Importing `dagtrain.dashboard` changes Dask's settings, for all schedulers of the process: here only while these tests run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def dashboard() -> Iterator[Any]:
    dask = pytest.importorskip("dask")
    with dask.config.set({"distributed.scheduler.preload": []}):
        import dagtrain.dashboard

        dagtrain.dashboard.scheduler.prepare()  # also if another file has imported it
        yield dagtrain.dashboard
