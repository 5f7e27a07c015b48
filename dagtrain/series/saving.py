"""Fitted detectors in a folder or behind an fsspec address: a checkpoint of the network, and the numbers that judge its residuals.

    detector.json ── settings, scaling, threshold, name of ──▶ network-3fa9…/checkpoint.json, …

The name is that of the network's fingerprint, and detector.json is written last: an older state counts until the new one is whole.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import numpy as np

from dagtrain.checkpoint.files import open_store
from dagtrain.errors import CheckpointError
from dagtrain.graph import Array
from dagtrain.train import Trainer

__all__ = ["Saved", "read", "write"]

_FILE, _NETWORK = "detector.json", "network-"
_LIMIT = 1 << 30


class Saved(NamedTuple):
    """What a fitted detector holds beside its network: JSON gives each float back to the last bit."""

    kind: str
    settings: dict[str, Any]
    header: list[str]
    threshold: float
    arrays: dict[str, Any]


def write(path: Any, saved: Saved, trainer: Trainer) -> None:
    """Write a detector, and remove the network of the one before."""
    store = open_store(path)
    network = f"{_NETWORK}{trainer.state.fingerprint[:16]}"
    trainer.save(f"{os.fspath(path)}/{network}")
    store.write(_FILE, json.dumps({**saved._asdict(), "network": network}, indent=1).encode())
    for name in store.names():
        if name.startswith(_NETWORK) and name != network:
            old = store.inside(name)
            for file in old.names():
                old.remove(file)
            old.remove_self()


def read(path: Any, kind: str) -> tuple[Saved, str]:
    """A detector of this kind, and the path of its network."""
    data = open_store(path).read(_FILE, _LIMIT)
    if data is None:
        raise CheckpointError(f"{path} holds no detector: there is no {_FILE}.")
    try:
        content = json.loads(data)
        network = f"{os.fspath(path)}/{content.pop('network')}"
        saved = Saved(**content)
        numbers: dict[str, Array] = {name: np.asarray(values, np.float64) for name, values in saved.arrays.items()}
        saved = saved._replace(arrays=numbers, threshold=float(saved.threshold), settings=dict(saved.settings))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}/{_FILE} describes no detector: {type(error).__name__}: {error}") from error
    if saved.kind != kind:
        raise CheckpointError(f"{path} holds another kind of detector than {kind}: {saved.kind!r}.")
    return saved, network
