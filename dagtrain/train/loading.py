"""`load`: a trainer out of a checkpoint, without executing anything that the files say."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from dagtrain.checkpoint.describe import build, complete, describe, differences, foreign, structure_of, without_memory
from dagtrain.checkpoint.files import open_store
from dagtrain.checkpoint.runs import check_versions, latest
from dagtrain.checkpoint.store import Checkpoint, describe_run, read
from dagtrain.errors import ArgumentError, CheckpointError, DagtrainError
from dagtrain.graph import Spec
from dagtrain.ops.random import key
from dagtrain.step.layout import VectorLayout
from dagtrain.trace import unflatten
from dagtrain.train.trainer import Trainer

__all__ = ["load"]

TAGS = {"model": "layer", "loss": "loss", "metrics": "metric", "optimizer": "optimizer"}
"""What an argument is called in a description."""


def load(
    path: Any,
    model: Any = None,
    *,
    loss: Any = None,
    metrics: Sequence[Any] | None = None,
    optimizer: Any = None,
    parameters: Any = None,
    engine: str = "auto",
    threads: int | None = None,
    client: Any = None,
    exact: bool = False,
) -> Trainer:
    """A trainer as it was when it was saved, ready to predict, to evaluate, or to go on with fit.

    Parameters
    ----------
    path
        A checkpoint, or a folder of them, of which the last is taken: path or fsspec address.
    model, loss, metrics, optimizer
        In the place of those that were saved. Needed only where they hold functions or classes that are not dagtrain's own: a
        checkpoint never says what is to be executed.
    parameters
        For a cost function whose parameters are kept in classes of the user's: a nest of the same structure.
    engine, threads, client
        As for `Trainer`: where shards run is not part of a checkpoint.
    exact
        Refuse a checkpoint made with another dagtrain, NumPy or BLAS.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, or it is not what was saved; says which file and what is wrong.
    ArgumentError
        If something of the user's must be given, or what is given does not fit.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np, tempfile
    >>> trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy")
    >>> x, y = np.eye(4, dtype="f4"), np.array([0, 1, 0, 1])
    >>> _ = trainer.fit(x, y, verbose=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer.save(folder)
    ...     again = dt.load(folder)
    >>> bool(np.all(again.predict(x) == trainer.predict(x)))
    True
    """
    store = open_store(path)
    found = read(store) or latest(store)
    if found is None:
        raise CheckpointError(f"{store.path}: there is no checkpoint here: neither a checkpoint.json nor a folder epoch-… that holds one.")
    manifest = found.manifest
    given = any(v is not None for v in (model, loss, metrics, optimizer, parameters))
    settings: dict[str, Any] = {"optimizer": _part(found, "optimizer", manifest.optimizer, optimizer)}
    settings |= {"shards": manifest.shards, "seed": manifest.seed, "engine": engine, "threads": threads, "client": client}
    told = manifest.objective
    if told.get("kind") == "cost":
        if model is None:
            raise ArgumentError(f"{found.path} is of a cost function: give it, as in dt.load(path, model=cost).")
        settings |= {"model": model, "parameters": _nest(found, parameters)}
    elif told.get("kind") == "model":
        settings |= {"model": _part(found, "model", told.get("model"), model), "loss": _part(found, "loss", told.get("loss"), loss)}
        settings["metrics"] = [_part(found, "metrics", m, None) for m in _list(told.get("metrics"))] if metrics is None else metrics
        if model is None:
            _check_size(found, settings["model"])
    else:
        raise CheckpointError(f"{found.path}: its manifest describes neither a model nor a cost function.")
    try:
        trainer = Trainer(**settings)
        program = trainer._compile(*manifest.rows)
        unfit = manifest.unfit(program.layout, program.statistics_layout, program.update.slots)
        if unfit:
            raise ArgumentError(f"the arrays are not those of its model and its optimizer: {'; '.join(unfit)}.")
    except DagtrainError as error:
        if given:
            raise type(error)(f"{found.path}, with what was given: {error}") from error
        raise CheckpointError(f"{found.path}: no trainer can be made of it: {error}") from error
    if model is not None:
        _tell_differences(found, model)
    if exact:
        here = describe_run(program, trainer.optimizer, manifest.shards, None, found.state, manifest.epochs, {})
        check_versions(manifest, here, found.path, exact)
    trainer.progress.take(program, found)
    return trainer


def _part(found: Checkpoint, name: str, description: Any, given: Any) -> Any:
    """What was given, else what is described."""
    if given is not None:
        return given
    if not isinstance(description, dict) or not {TAGS[name], "python"} & set(description):
        raise CheckpointError(f"{found.path}: its manifest describes no {name}. Give it with {name}=….")
    try:
        strangers = list(foreign(description))
        if not strangers:
            return build(description)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{found.path}: its manifest describes no {name} that can be made: {error}. Give it with {name}=…."
        ) from error
    raise ArgumentError(
        f"{found.path}: the {name} holds what is not dagtrain's own ({'; '.join(strangers[:3])}): give it, as in dt.load(path, {name}=…)."
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _nest(found: Checkpoint, given: Any) -> Any:
    """The parameters of a cost function in the nest that they had."""
    arrays = found.manifest.parameters
    if given is not None:
        return given
    described = found.manifest.objective.get("structure")
    if described is None:
        raise ArgumentError(f"{found.path}: its parameters were in classes of your own: give a nest of that structure, with parameters=….")
    try:
        structure = structure_of(described)
        nest = unflatten(structure, arrays.views(found.state.parameters))
        if VectorLayout.of(nest).names != arrays.names:
            raise ValueError("its structure has other leaves than its arrays")
    except (ValueError, RecursionError, StopIteration, RuntimeError) as error:
        raise CheckpointError(
            f"{found.path}: its manifest describes no nest of parameters: {error}. Give one with parameters=…."
        ) from error
    return nest


def _check_size(found: Checkpoint, model: Any) -> None:
    """Refuse a described model that is not that of the arrays, before it takes any memory."""
    manifest = found.manifest
    batch = Spec((1, *manifest.rows.x.shape), manifest.rows.x.dtype)
    try:
        parameters, statistics = without_memory(model).init(key(0), batch)
        unfit = manifest.unfit(VectorLayout.of(parameters), VectorLayout.of(statistics), manifest.slots)
    except (DagtrainError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise CheckpointError(
            f"{found.path}: the model that its manifest describes cannot be made: {error}. Give one with model=…."
        ) from error
    if unfit:
        raise CheckpointError(
            f"{found.path}: the model that its manifest describes does not have its arrays: {'; '.join(unfit)}. Give one with model=…."
        )


_NOT_COMPUTED = ("_init", ".input_shape")
"""Settings that change nothing of what a model with given arrays computes."""


def _tell_differences(found: Checkpoint, model: Any) -> None:
    """A model of the same arrays that computes something else is the user's choice, and should not be a surprise."""
    different = [
        d
        for d in differences(complete(found.manifest.objective.get("model")), describe(model), "model")
        if not d.partition(":")[0].endswith(_NOT_COMPUTED)
    ]
    if different:
        warnings.warn(f"the model given is not the one of {found.path}: {'; '.join(different)}.", UserWarning, stacklevel=3)
