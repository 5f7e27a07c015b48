"""A trainer tells where its step would go before any rank runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.engines.client import workers_of
from dagtrain.errors import ArgumentError, ClusterError


def test_a_placement_is_on_the_clients_workers(client: Any, plain: Any) -> None:
    trainer = plain.trainer(engine="inline", client=client)
    plain.fit(trainer, epochs=1)
    placement = trainer.placement()
    workers = workers_of(client)
    assert set(placement.workers) == set(workers)
    assert [len(rank.shards) for rank in placement.ranks] == [3, 3, 2]
    assert placement.shape.parameters == trainer.program.layout.size
    assert placement.shape.slots == tuple(trainer.state.slots)
    assert "3 ranks: " in placement.visualize().diagram.title


def test_a_placement_needs_a_client() -> None:
    trainer = dt.Trainer(lambda p, x: ((x @ p["w"]) ** 2).mean(), parameters={"w": np.ones(2)}, engine="inline", shards=1)
    with pytest.raises(ArgumentError, match="before it was fitted"):
        trainer.placement()
    trainer.fit(np.ones((4, 2)), epochs=1, batch_size=2, verbose=0)
    with pytest.raises(ClusterError, match=r"there is no client.*distributed\.Client"):
        trainer.placement()
