"""What the tests of the engine *lanes* share: its settings, a look into the workers, and faults that strike in the midst of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Security

from dagtrain.engines.ranks.worker_plugin import RanksWorkerPlugin
from dagtrain.train.callback import Callback
from tests.engines.conftest import Fault


def kinds_in(dask_worker: Any) -> dict[int, str]:
    plugin = dask_worker.plugins.get(RanksWorkerPlugin.name)
    return {
        peer: kind
        for rank in (plugin.ranks.values() if plugin else ())
        if rank._communicator
        for peer, kind in rank._communicator.kinds.items()
    }


class Looking(Callback):
    """Calls a function at the end of every epoch, where it asks for the state, so that no commit goes beyond."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self.look, self.seen = look, list[Any]()

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        assert self.trainer.state.step
        self.seen.append(self.look())


@pytest.fixture
def looking() -> type[Looking]:
    return Looking


@pytest.fixture
def kinds() -> Callable[[Any], set[str]]:
    """``kinds(client)``: the kinds of channels that ranks on the cluster have just now."""

    def look(client: Any) -> set[str]:
        return {kind for found in client.run(kinds_in).values() for kind in found.values()}

    return look


@pytest.fixture(scope="session")
def encrypted(local_cluster: Any, certificate: tuple[str, str]) -> Iterator[Any]:
    """A cluster that talks TLS."""
    cert, key = certificate
    who = {f"tls_{role}_{what}": path for role in ("scheduler", "worker", "client") for what, path in (("cert", cert), ("key", key))}
    security = Security(tls_ca_file=cert, require_encryption=True, **who)
    with local_cluster(2, processes=True, security=security) as made:
        yield made


# ---- faults


class AtMoment(Fault):
    """Strikes when a rank comes to a certain moment.

    Moments are the methods of a rank's arithmetic, in a certain step; "_meet", before that is there; and "score", in an evaluation.
    """

    def __init__(self, moment: str, step: int | None, rank: int | None, mark: str, strike: Callable[[], None]) -> None:
        super().__init__(f"fault at {moment} {step} {rank}", mark, strike)
        self.moment, self.step, self.rank = moment, step, rank

    def setup(self, worker: Any) -> None:
        from dagtrain.engines.ranks.arithmetic import RankRunner
        from dagtrain.engines.ranks.rank import Rank
        from dagtrain.step.scores import Scorer

        plugin, owner = self, {"_meet": Rank, "score": Scorer}.get(self.moment, RankRunner)
        before = getattr(owner, self.moment)

        def method(at: Any, *args: Any) -> Any:
            if owner is not RankRunner or (at.state.step == plugin.step and plugin.rank in (None, at.rank.number)):
                plugin.strike_once()
            return before(at, *args)

        self.undo = lambda: setattr(owner, self.moment, before)
        setattr(owner, self.moment, method)

    def teardown(self, worker: Any) -> None:
        self.undo()


@pytest.fixture
def strike_at(plant: Callable[[Fault], str], tmp_path: Path) -> Callable[..., str]:
    """``strike_at(moment, step, strike, rank=None)``: plants an `AtMoment`; gives the file that is there once it has struck."""

    def plan(moment: str, step: int | None, strike: Callable[[], None], rank: int | None = None) -> str:
        return plant(AtMoment(moment, step, rank, str(tmp_path / f"{moment}-{step}-{rank}"), strike))

    return plan


@pytest.fixture
def kill_at(killing: Callable[[int], Callable[[], None]], strike_at: Callable[..., str]) -> Callable[..., str]:
    """``kill_at(moment, step, rank=None, others=0)``: kill -9 to the worker of the rank that is there, and to others besides."""

    def plan(moment: str, step: int | None = None, rank: int | None = None, others: int = 0) -> str:
        return strike_at(moment, step, killing(others), rank)

    return plan


@pytest.fixture
def eventually() -> Callable[..., None]:
    """``eventually(look, wanted)``: what is let go of in the background is gone in the end."""

    def wait(look: Callable[[], Any], wanted: Any, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while look() != wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        assert look() == wanted

    return wait
