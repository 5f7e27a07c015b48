"""Engines by name: this package's, and those that other packages add by entry points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.engines.engine import ENGINES, choose_engine, find_engine
from dagtrain.errors import ArgumentError, UnknownNameError

PACKAGE = """
from dagtrain.engines import InlineEngine


class Slow(InlineEngine):
    name = "slow"

    @classmethod
    def of(cls, client, threads):
        return cls(1)


class Unmade:
    pass
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that adds engines, as pip would install it."""
    (tmp_path / "slow_engine.py").write_text(PACKAGE)
    info = tmp_path / "slow_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dagtrain.engines]\nslow = slow_engine:Slow\nunmade = slow_engine:Unmade\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_an_engine_of_another_package_trains_by_its_name() -> None:
    x, y = np.random.default_rng(0).normal(size=(16, 3)).astype("f4"), np.arange(16) % 2

    def fitted(engine: str) -> dt.History:
        return dt.Trainer(dt.nn.Dense(2), loss="cross_entropy", engine=engine, seed=0).fit(x, y, epochs=1, verbose=0)

    assert fitted("slow").info["engine"] == "slow"
    assert fitted("slow").fingerprint == fitted("inline").fingerprint


@pytest.mark.usefixtures("installed")
def test_unknown_names_are_refused_with_all_that_are_known() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown engine 'slwo'. Did you mean 'slow'\? Known: auto, inline, lanes, scheduler, slow"):
        dt.Trainer(dt.nn.Dense(2), loss="mse", engine="slwo")


@pytest.mark.usefixtures("installed")
def test_what_cannot_be_made_says_where_it_came_from() -> None:
    with pytest.raises(ArgumentError, match=r"the engine 'unmade' is slow_engine:Unmade, which has no class method of\(client, threads\)"):
        choose_engine("unmade", None, None)


@pytest.mark.parametrize("name", ENGINES)
def test_the_table_names_each_engine_as_it_names_itself(name: str) -> None:
    assert find_engine(name).load().name == name


@pytest.mark.parametrize("engine", ["auto", "inline", "lanes"])
def test_a_client_is_one_of_dask(engine: str) -> None:
    with pytest.raises(ArgumentError, match=r"client is a Dask client, as Client\('tcp://host:8786'\).*, got 'tcp://127.0.0.1:1'"):
        choose_engine(engine, None, "tcp://127.0.0.1:1")
