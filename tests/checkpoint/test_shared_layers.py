"""Layers that stand in a saved model several times: shared ones load as shared, and none makes loading run without end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.checkpoint.schema import seal
from dagtrain.errors import CheckpointError

X = np.random.default_rng(0).normal(size=(16, 4)).astype("f4")


def saved(folder: Path, model: nn.Layer) -> dt.Trainer:
    trainer = dt.Trainer(model, loss="mean_squared_error", engine="inline")
    trainer.fit(X, X, verbose=0)
    trainer.save(folder)
    return trainer


def test_a_shared_layer_loads_as_shared(tmp_path: Path) -> None:
    layer = nn.Dense(4, "tanh")
    trainer = saved(tmp_path, nn.Sequential([layer, nn.Sequential([layer, nn.Dense(4)])]))
    again = dt.load(tmp_path)
    np.testing.assert_array_equal(again.predict(X), trainer.predict(X))
    assert again.model.layers[0] is again.model.layers[1].layers[0]


def doubling(levels: int, path: str = "") -> Any:
    """A model of few parts whose calls double with each level."""
    place = f"{path}.layers[0]".lstrip(".")
    first = doubling(levels - 1, place) if levels else {"layer": "Activation", "settings": {"function": "relu"}}
    return {"layer": "Sequential", "settings": {"layers": [first, {"shared": place}]}}


def test_a_described_model_that_calls_its_layers_without_end_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, nn.Sequential([nn.Dense(4)]))
    entries = json.loads((tmp_path / "checkpoint.json").read_text())
    del entries["sha256"]
    entries["objective"]["model"] = doubling(40)
    (tmp_path / "checkpoint.json").write_bytes(seal(entries))
    with pytest.raises(CheckpointError, match=r"cannot be built: .*calls its layers more than 5,000 times"):
        dt.load(tmp_path)


@pytest.mark.parametrize("shared", [["x"], {}, "nowhere", 3])
def test_a_reference_to_no_layer_is_refused(tmp_path: Path, shared: Any) -> None:
    saved(tmp_path, nn.Sequential([nn.Dense(4)]))
    entries = json.loads((tmp_path / "checkpoint.json").read_text())
    del entries["sha256"]
    entries["objective"]["model"]["settings"]["layers"].append({"shared": shared})
    (tmp_path / "checkpoint.json").write_bytes(seal(entries))
    with pytest.raises(CheckpointError, match="describes no part of a model"):
        dt.load(tmp_path)
