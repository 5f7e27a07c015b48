"""`load`: a trainer from a checkpoint; nothing in the files is executed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from dagtrain.checkpoint.compare import complete, differences
from dagtrain.checkpoint.describe import build, describe, foreign, key_of
from dagtrain.checkpoint.files import open_store
from dagtrain.checkpoint.groups import group_entries
from dagtrain.checkpoint.runs import check_versions, latest
from dagtrain.checkpoint.store import Checkpoint, describe_run, read
from dagtrain.checkpoint.structures import structure_of
from dagtrain.checkpoint.weights import views_of
from dagtrain.errors import ArgumentError, CheckpointError, DagtrainError
from dagtrain.hinting import hinted
from dagtrain.nn.layer import Layer
from dagtrain.nn.tracing import first_pass
from dagtrain.ops.random import key
from dagtrain.step.contribution import Contribution
from dagtrain.step.figures import LOSS_PARTS
from dagtrain.step.layout import VectorLayout
from dagtrain.step.model import ModelObjective
from dagtrain.step.statistics import StatisticsLayout
from dagtrain.trace import unflatten
from dagtrain.train.trainer import Trainer

__all__ = ["load"]

MOST_CALLS = 5_000
"""Of layers in a described model: layers that stand in it again and again could make it call some without end."""
TAGS = {"model": "layer", "loss": "loss", "metrics": "metric", "optimizer": "optimizer"}
"""Argument → its tag in a description."""


@hinted
def load(
    path: Any,
    model: Any = None,
    *,
    custom: Mapping[str, Any] | None = None,
    loss: Any = None,
    metrics: Sequence[Any] | Mapping[str, Sequence[Any]] | None = None,
    optimizer: Any = None,
    parameters: Any = None,
    engine: str = "auto",
    threads: int | None = None,
    client: Any = None,
    exact: bool = False,
) -> Trainer:
    """A trainer as it was saved, ready to predict, to evaluate, or to continue with fit.

    Parameters
    ----------
    path
        A checkpoint, or a folder of checkpoints, which stands for the last one: path or fsspec address.
    custom
        Layers, losses, metrics, activations and optimisers of your own by the names of their classes and functions, as in
        ``{"Scale": Scale}``: a checkpoint never brings code. Where names meet, by whole names: ``{"mine.Scale": Scale}``.
    model, loss, metrics, optimizer
        Replace those that were saved.
    parameters
        For a cost function whose parameters are in the user's own classes: a nest of the same structure.
    engine, threads, client
        As for `Trainer`: where shards run is not part of a checkpoint.
    exact
        Refuse a checkpoint made with another dagtrain, NumPy or BLAS.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, or it is not what was saved; names the file and what is wrong.
    ArgumentError
        If an argument for the user's own code is missing, or an argument does not fit.

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
    checkpoint = read(store) or latest(store)
    if checkpoint is None:
        raise CheckpointError(f"{store.path}: there is no checkpoint here: neither a checkpoint.json nor a folder epoch-… with one.")
    manifest = checkpoint.manifest
    _check_custom(checkpoint, custom)
    replaced = any(v is not None for v in (model, loss, metrics, optimizer, parameters))
    settings: dict[str, Any] = {"optimizer": _part(checkpoint, "optimizer", manifest.optimizer, optimizer, custom)}
    settings |= {"shards": manifest.shards, "seed": manifest.seed, "engine": engine, "threads": threads, "client": client}
    objective = manifest.objective
    settings |= {name: objective.get(name) is True for name in ("coupled", "approximate")} | {"dtype": manifest.parameters.dtype}
    if objective.get("kind") in ("cost", "contribution"):
        if model is None:
            example = "a cost function: give it, as in dt.load(path, model=cost)"
            if objective["kind"] == "contribution":
                example = "a contribution: give it, as in dt.load(path, model=dt.Contribution(rule))"
            raise ArgumentError(f"{checkpoint.path} is of {example}.")
        if isinstance(model, Contribution) != (objective["kind"] == "contribution"):
            raise ArgumentError(f"{checkpoint.path} is of a {objective['kind']}, and model= is {model!r}.")
        settings |= {"model": model, "parameters": _nest(checkpoint, parameters)}
    elif objective.get("kind") == "model":
        settings |= {
            "model": _part(checkpoint, "model", objective.get("model"), model, custom),
            "loss": _each(checkpoint, "loss", objective.get("loss"), loss, custom),
        }
        settings["metrics"] = _each(checkpoint, "metrics", objective.get("metrics"), metrics, custom)
        if loss is None and objective.get("loss_weights"):
            settings["loss_weights"] = objective["loss_weights"]
        _check_size(checkpoint, settings["model"], described=model is None)
    else:
        raise CheckpointError(f"{checkpoint.path}: its manifest describes neither a model nor a cost function nor a contribution.")
    try:
        trainer = Trainer(**settings)
        program = trainer._compile(manifest.rows, manifest.statistics.shards)
        unfit = manifest.unfit(program.layout, program.statistics_layout, tuple(program.update.slots), group_entries(program))
        if unfit:
            cure = "" if optimizer is None else " Load it as it was, and assign trainer.optimizer then."
            raise ArgumentError(f"the arrays are not those of its model and its optimizer: {'; '.join(unfit)}.{cure}")
    except DagtrainError as error:
        if replaced:
            raise type(error)(f"{checkpoint.path}, with these arguments: {error}") from error
        raise CheckpointError(f"{checkpoint.path}: no trainer can be built from it: {error}") from error
    if model is not None:
        _warn_of_differences(checkpoint, model)
    here = describe_run(program, trainer.optimizer, manifest.shards, None, checkpoint.state, manifest.epochs, {})
    if exact:
        check_versions(manifest, here, checkpoint.path, exact)
    if checkpoint.state.step == 0 and isinstance(trainer._objective, ModelObjective) and trainer._objective.known_x is not None:
        weights = views_of(program.layout, program.statistics_layout, checkpoint.state)
        trainer._first = weights, checkpoint.state.learning_rate_scale  # untrained, so that it takes any rows as before
    else:
        trainer.progress.take(program, checkpoint, _known_sums(objective, here.objective))
    return trainer


def _known_sums(there: dict[str, Any], here: dict[str, Any]) -> int | None:
    """How many sums of an epoch under way are of the same loss and metrics; None for all."""
    if there.get("loss") != here.get("loss") or (there.get("kind") == "cost" and there.get("model") != here.get("model")):
        return 0
    return None if there.get("metrics") == here.get("metrics") else LOSS_PARTS


def _part(checkpoint: Checkpoint, name: str, description: Any, argument: Any, custom: Mapping[str, Any] | None) -> Any:
    """The argument, else the described object."""
    if argument is not None:
        return argument
    if not isinstance(description, dict) or not {TAGS[name], "python"} & set(description):
        raise CheckpointError(f"{checkpoint.path}: its manifest describes no {name}. Give it with {name}=….")
    try:
        foreign_parts = list(foreign(description, custom=custom or ()))
        if not foreign_parts:
            return build(description, custom)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{checkpoint.path}: its manifest describes no {name} that can be built: {error}. Give it with {name}=…."
        ) from error
    parts = [full.rpartition(".")[2] for _, full in foreign_parts]
    example = ", ".join(f'"{part}": {part}' for part in dict.fromkeys(parts[:3]))
    places = "; ".join(f"{place} is {full}" for place, full in foreign_parts[:3])
    give = f"give them, as in dt.load(path, custom={{{example}}}), or all of it," if "<lambda>" not in parts else "give all of it,"
    raise ArgumentError(
        f"{checkpoint.path}: the {name} holds parts that are not dagtrain's own ({places}): {give} as in dt.load(path, {name}=…)."
    )


def _check_custom(checkpoint: Checkpoint, custom: Any) -> None:
    """Raise ArgumentError for a `custom` that is no dict by name, or has one part for two names."""
    if custom is None:
        return
    if not isinstance(custom, Mapping) or not all(isinstance(name, str) for name in custom):
        raise ArgumentError(f'custom is a dict of classes and functions by name, as in custom={{"Scale": Scale}}, got {custom!r}.')
    manifest = checkpoint.manifest
    users: dict[str, str] = {}
    for _, full in foreign([*manifest.objective.values(), manifest.optimizer]):
        key = key_of(full, custom)
        if key is not None and users.setdefault(key, full) != full:
            raise ArgumentError(
                f"{checkpoint.path}: custom has one {key!r}, but the checkpoint has {users[key]} and {full}: give both by their whole "
                f'names, as in custom={{"{users[key]}": …, "{full}": …}}.'
            )


def _each(checkpoint: Checkpoint, name: str, description: Any, argument: Any, custom: Mapping[str, Any] | None) -> Any:
    """The argument, else the described object, list of objects, or dict of these by output."""
    if argument is not None:
        return argument
    if isinstance(description, dict) and set(description) == {"by_output"} and isinstance(description["by_output"], dict):
        return {output: _each(checkpoint, name, part, None, custom) for output, part in description["by_output"].items()}
    if name == "metrics":
        parts = description if isinstance(description, list) else [description]
        return [_part(checkpoint, name, part, None, custom) for part in parts]
    return _part(checkpoint, name, description, None, custom)


def _nest(checkpoint: Checkpoint, parameters: Any) -> Any:
    """The parameters of a cost function in their saved nest, or the argument."""
    arrays = checkpoint.manifest.parameters
    if parameters is not None:
        return parameters
    description = checkpoint.manifest.objective.get("structure")
    if description is None:
        raise ArgumentError(
            f"{checkpoint.path}: its parameters were in classes of your own: give a nest of that structure with parameters=…."
        )
    try:
        structure = structure_of(description)
        nest = unflatten(structure, arrays.views(checkpoint.state.parameters))
        if VectorLayout.of(nest, arrays.dtype).names != arrays.names:
            raise ValueError("its structure has other leaves than its arrays")
    except (ValueError, RecursionError, StopIteration, RuntimeError) as error:
        raise CheckpointError(
            f"{checkpoint.path}: its manifest describes no nest of parameters: {error}. Give one with parameters=…."
        ) from error
    return nest


def _check_size(checkpoint: Checkpoint, model: Any, described: bool) -> None:
    """Raise an error for a model that does not fit the arrays, before it takes memory."""
    manifest = checkpoint.manifest
    if not isinstance(model, Layer):
        return
    batch = manifest.rows.of_rows(1)[0]
    try:
        dtype = manifest.parameters.dtype
        first = first_pass(model, key(0), (batch,), dtype, allocate=False, most=MOST_CALLS if described else math.inf)
        parameters = VectorLayout.of(first.parameters, dtype)
        statistics = StatisticsLayout.of(first.state, first.shared.reductions, manifest.statistics.shards)
        unfit = manifest.unfit(parameters, statistics, manifest.slots, manifest.groups)
    except (DagtrainError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        if not described and isinstance(error, DagtrainError):
            raise type(error)(f"{checkpoint.path}, with these arguments: {error}") from error
        raise CheckpointError(
            f"{checkpoint.path}: the model that its manifest describes cannot be built: {error}. Give one with model=…."
        ) from error
    if unfit and not described:
        raise ArgumentError(f"{checkpoint.path}, with these arguments: the arrays are not those of its model: {'; '.join(unfit)}.")
    if unfit:
        raise CheckpointError(
            f"{checkpoint.path}: the model that its manifest describes does not have its arrays: {'; '.join(unfit)}. Give one with model=…."
        )


_NOT_COMPUTED = ("_initializer", ".input_shape")
"""Settings that do not change what a model computes from its arrays."""


def _warn_of_differences(checkpoint: Checkpoint, model: Any) -> None:
    """Warn of a model with the same arrays that computes something else: the user may have meant it."""
    different = [
        d
        for d in differences(complete(checkpoint.manifest.objective.get("model")), describe(model), "model")
        if not d.partition(":")[0].endswith(_NOT_COMPUTED)
    ]
    if different:
        warnings.warn(f"the model given is not the one of {checkpoint.path}: {'; '.join(different)}.", UserWarning, stacklevel=3)
