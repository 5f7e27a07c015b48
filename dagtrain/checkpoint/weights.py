"""Files of weights by name, without a trainer's other state: safetensors and NumPy's .npz. Nothing in them is executed."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as tensor_bytes

from dagtrain.checkpoint.files import Store, open_store
from dagtrain.checkpoint.runs import latest
from dagtrain.checkpoint.store import read
from dagtrain.errors import ArgumentError, CheckpointError
from dagtrain.graph import Array
from dagtrain.step.layout import VectorLayout
from dagtrain.step.state import State
from dagtrain.step.statistics import StatisticsLayout

__all__ = ["read_weights", "views_of", "write_weights"]

_SUFFIXES = (".safetensors", ".npz")
_LARGEST = 1 << 40
"""Most bytes of a file."""


def views_of(parameters: VectorLayout, statistics: StatisticsLayout, state: State) -> dict[str, Array]:
    """The arrays of a state by name: parameters, then states of layers; ``statistics.`` is before a name that a parameter has too."""
    views = dict(zip(parameters.names, parameters.views(state.parameters), strict=True))
    states = zip(statistics.names, statistics.views(state.statistics), strict=True)
    return views | {f"statistics.{name}" if name in views else name: view for name, view in states}


def _place(path: Any) -> tuple[Store, str, str]:
    """The folder, the name in it, and the suffix."""
    text = open_store(path).path  # a text that names a place
    folder, name = os.path.split(text)
    suffix = os.path.splitext(name)[1].lower()
    return open_store(folder or "."), name, suffix


def write_weights(path: Any, weights: Mapping[str, Array]) -> None:
    """Write arrays to a file, whole or not at all.

    Raises
    ------
    ArgumentError
        If the name ends in neither ``.safetensors`` nor ``.npz``.
    CheckpointError
        If it cannot be written.
    """
    store, name, suffix = _place(path)
    if suffix not in _SUFFIXES:
        raise ArgumentError(f"weights are saved to a file whose name ends in .safetensors or .npz, got {os.fspath(path)!r}.")
    if suffix == ".npz":
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **dict(weights))
        data = stream.getvalue()
    else:
        data = tensor_bytes(dict(weights))
    store.prepare()
    store.write(name, data)


def read_weights(path: Any) -> dict[str, Array]:
    """The arrays of a file by name; of a folder, those of the checkpoint in it.

    Raises
    ------
    CheckpointError
        If there is no such file, or it cannot be read.
    """
    store, name, suffix = _place(path)
    if suffix not in _SUFFIXES:
        return _of_checkpoint(open_store(path))
    data = store.read(name, _LARGEST)
    if data is None:
        raise CheckpointError(f"{path}: there is no such file of weights.")
    try:
        if suffix == ".safetensors":
            return dict(parse_tensors(data))
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:  # the parsers' own errors, and NumPy's for dtypes that it lacks
        raise CheckpointError(f"{path}: holds no arrays that can be read: {type(error).__name__}: {error}") from error


def _of_checkpoint(store: Store) -> dict[str, Array]:
    checkpoint = read(store) or latest(store)
    if checkpoint is None:
        raise CheckpointError(f"{store.path}: is neither a file .safetensors or .npz, nor a folder with a checkpoint.")
    return views_of(checkpoint.manifest.parameters, checkpoint.manifest.statistics, checkpoint.state)
