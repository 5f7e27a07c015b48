"""What the layers of a model give for rows of data, and the weights of its filters.

    x ──▶ conv2d_1 ──▶ batch_norm_1 ──▶ … ──▶ outputs
             │              │
             ▼              ▼

The output of each layer has the layer's name, as in the names of parameters: ``inception_3a.three``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from dagtrain.arguments import whole
from dagtrain.backends.blas import one_blas_thread
from dagtrain.data import open_source
from dagtrain.errors import ArgumentError, ShapeError, UnknownNameError
from dagtrain.graph import Array, Graph
from dagtrain.nn.passes import Call
from dagtrain.ops import as_tensor
from dagtrain.plan import plan
from dagtrain.step.model import ModelObjective
from dagtrain.step.program import Program
from dagtrain.step.statistics import in_evaluation, state_leaves
from dagtrain.trace.trace import trace_nested
from dagtrain.trace.tree import flatten
from dagtrain.train.names import bind_inputs
from dagtrain.train.rows import check_alike

if TYPE_CHECKING:
    from dagtrain.train import Trainer

__all__ = ["activations", "filters", "layer_graph"]


def layer_graph(trainer: Trainer, rows: int = 1) -> Graph:
    """The graph of evaluation for this many rows, with the output of each call of a layer under the layer's name.

    The second call of a layer is ``name#2``; of a layer with several outputs each has its own name or number behind a point.

    Examples
    --------
    >>> import dagtrain as dt
    >>> model = dt.nn.Sequential([dt.nn.Dense(3, "relu"), dt.nn.Dense(2)], input_shape=(4,))
    >>> list(layer_graph(dt.Trainer(model, loss="cross_entropy")).outputs)
    ['dense_1', 'dense_2']
    """
    program = program_of(trainer)
    objective = model_of(program)

    def outputs(parameters: Any, statistics: Any, x: Any) -> dict[str, Any]:
        read = in_evaluation(statistics, objective.reductions(program.columns.x))
        call = objective.model.run(parameters, read, x).call
        assert call is not None
        named: dict[str, Any] = {}
        for inner in _inside(call):
            name = ".".join(inner.path) + (f"#{inner.number + 1}" if inner.number else "")
            named |= {key: as_tensor(value) for key, value in flatten(inner.outputs, name)[0].items()}
        return named

    specs = program.layout.specs, program.statistics_layout.specs, program.columns.of_rows(rows)[0]
    return trace_nested(outputs, *specs, names=["parameters", "statistics", "x"]).graph


def activations(trainer: Trainer, x: Any, layers: str | Sequence[str] | None = None, batch_size: int = 256) -> dict[str, Array]:
    """The outputs of layers for rows, as in evaluation.

    Parameters
    ----------
    trainer
        Of a model; before a fit with its first weights, if it knows its input.
    x
        Rows as `Trainer.predict` takes them, in this process.
    layers
        Names, or patterns such as ``"conv2d_*"``; by default all layers. `layer_graph` lists the names.
    batch_size
        Rows computed at once.

    Returns
    -------
    dict
        Arrays by name, with the rows on the first axis.

    Raises
    ------
    UnknownNameError
        If a name or pattern fits no layer.

    Examples
    --------
    >>> import dagtrain as dt
    >>> model = dt.nn.Sequential([dt.nn.Dense(3, "relu"), dt.nn.Dense(2)], input_shape=(4,))
    >>> {name: array.shape for name, array in activations(dt.Trainer(model, loss="cross_entropy"), np.zeros((5, 4))).items()}
    {'dense_1': (5, 3), 'dense_2': (5, 2)}
    """
    program, state = program_of(trainer), trainer.state
    columns = rows_of(program, x)
    length = whole("batch_size", batch_size)
    names = _chosen(layers, list(layer_graph(trainer).outputs))
    before = state_leaves(program.layout, program.statistics_layout, state)
    plans: dict[int, Any] = {}
    parts: list[list[Array]] = []
    with one_blas_thread():
        for start in range(0, len(columns[0]), length):
            batch = [column[start : start + length] for column in columns]
            rows = len(batch[0])
            if rows not in plans:
                graph = layer_graph(trainer, rows)
                plans[rows] = plan(Graph(graph.inputs, {name: graph.outputs[name] for name in names}))
            parts.append(plans[rows](*before, *batch))
    return {name: np.concatenate(arrays) for name, arrays in zip(names, zip(*parts, strict=True), strict=True)}


def filters(trainer: Trainer, layer: str, shape: Sequence[int] | None = None) -> Array:
    """The weights of a layer's filters, (filters, height, width, channels): what each looks for.

    Parameters
    ----------
    trainer
        Of a model with this layer.
    layer
        Name of a two-dimensional convolution, or of a dense layer, whose units are filters over the whole input.
    shape
        Height, width and channels of the input of a dense layer; the channels may be left out if there is one.

    Examples
    --------
    >>> import dagtrain as dt
    >>> model = dt.nn.Sequential([dt.nn.Conv2D(6, 5)], input_shape=(28, 28, 1))
    >>> filters(dt.Trainer(model, loss="mean_squared_error"), "conv2d_1").shape
    (6, 5, 5, 1)
    """
    program_of(trainer)
    weights = trainer.weights()
    kernels = {name.removesuffix(".kernel"): array for name, array in weights.items() if name.endswith(".kernel") and array.ndim in (2, 4)}
    if layer not in kernels:
        raise UnknownNameError.of("layer with a two-dimensional kernel", layer, kernels)
    kernel = kernels[layer]
    if kernel.ndim == 2:
        if shape is None or int(np.prod(shape)) != len(kernel) or np.size(shape) not in (2, 3):
            what = f"height, width and channels of its input, which has {len(kernel)} features"
            raise ShapeError(f"the layer {layer!r} is dense: give shape=, {what}, got {shape!r}.")
        kernel = kernel.reshape((*shape, kernel.shape[-1]) if len(shape) == 3 else (*shape, 1, kernel.shape[-1]))
    elif shape is not None:
        raise ArgumentError(f"the layer {layer!r} is a convolution, whose filters have a shape of their own: leave shape= out.")
    return np.moveaxis(kernel, -1, 0)


def program_of(trainer: Trainer) -> Program:
    """What the trainer computes."""
    if not hasattr(trainer, "program"):
        kind = type(trainer).__name__
        raise ArgumentError(f"weights and states are those of a trainer: give dt.Trainer(model, loss=...) once it is fitted, got a {kind}.")
    return trainer.program


def model_of(program: Program) -> ModelObjective:
    if not isinstance(program.objective, ModelObjective):
        raise ArgumentError("a cost function has no layers: give a trainer of a model.")
    return program.objective


def _inside(call: Call) -> Iterator[Call]:
    """The calls of layers within a call, in their order."""
    for inner in call.calls:
        yield inner
        yield from _inside(inner)


def rows_of(program: Program, x: Any) -> list[Array]:
    """The columns of x as arrays of the program's dtypes."""
    x = bind_inputs(model_of(program), x, program.columns)
    source = open_source(x, targets=None, dtype=program.objective.dtype, expected=program.columns)
    check_alike(program.columns, source.columns, ["x"])
    return [np.asarray(column, spec.dtype) for column, spec in zip(source.local(), program.columns.of_x.specs, strict=True)]


def _chosen(layers: str | Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The names that are one of these or fit one of these patterns, in the model's order."""
    patterns: Sequence[Any] = ["*"] if layers is None else layers if isinstance(layers, list | tuple) else [layers]
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise ArgumentError(f"layers are names or patterns, as in ['conv2d_*'], or None for all, got {layers!r}.")
    for pattern in patterns:
        if not any(name == pattern or fnmatchcase(name, pattern) for name in known):
            raise UnknownNameError.of("layer", pattern, known)
    return [name for name in known if any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)]
