"""A model with one number for each row, the score, as a function of the real numbers that enter it.

columns ──▶ points at the entrances, outputs            one plan for a number of rows
columns, points, place of the score ──▶ score, gradients by the points
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dagtrain.arguments import flag, is_number, one_of, whole
from dagtrain.data.nests import arrange, check_names
from dagtrain.data.tables import to_array
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.explain.activations import model_of, program_of, rows_of
from dagtrain.explain.entrances import entrances
from dagtrain.graph import Array, Graph, Tensor, rebuild, topological
from dagtrain.graph import input as new_input
from dagtrain.ops.reduce import reduce_sum
from dagtrain.ops.shape import reshape
from dagtrain.plan import Plan, plan
from dagtrain.step.statistics import state_leaves
from dagtrain.trace.trace import trace_nested
from dagtrain.trace.tree import Leaf, Structure, unflatten
from dagtrain.train.names import encoded
from dagtrain.transform.gradient import gradient

if TYPE_CHECKING:
    from dagtrain.train import Trainer

__all__ = ["Batch", "Compiled", "Scored"]

_LINKS = ("sigmoid", "softmax")


@dataclass(frozen=True, eq=False)
class Compiled:
    """What is computed of a number of rows.

    Attributes
    ----------
    points
        Parameters, states, columns → the tensors at the entrances, and the outputs.
    gradients
        Parameters, states, columns, tensors at the entrances, weights of the outputs → scores, and their gradients.
    back
        For each entrance the plan that leads to columns, None for a column itself; and those columns.
    widths
        For each entrance the axes that a whole number is spread over.
    held
        The columns that lead to the score through comparisons alone.
    """

    points: Plan
    gradients: Plan
    back: list[tuple[Plan | None, tuple[int, ...]]]
    widths: list[int]
    held: set[int]


class Batch:
    """Some rows, with what is computed of them."""

    def __init__(self, compiled: Compiled, before: Sequence[Array], columns: Sequence[Array], target: Any, shape: tuple[int, ...]) -> None:
        self.compiled, self.before, self.columns = compiled, before, columns
        self._outputs = np.array(compiled.points(*before, *columns)[-1])
        self.chosen = np.zeros_like(self._outputs)
        np.put_along_axis(self.chosen, _places(target, self._outputs, shape)[:, None], 1, axis=1)

    def points(self, columns: Sequence[Array]) -> list[Array]:
        """The tensors at the entrances for other values of the columns."""
        return [np.array(value) for value in self.compiled.points(*self.before, *columns)[:-1]]

    def gradients(self, points: Sequence[Array]) -> tuple[Array, list[Array]]:
        """The scores of tensors at the entrances, and their gradients."""
        score, *gradients = self.compiled.gradients(*self.before, *self.columns, *points, self.chosen)
        return np.array(score, np.float64), gradients

    def to_columns(self, values: Sequence[Array], columns: Sequence[Array]) -> list[Array]:
        """What belongs to the elements of each column, from what belongs to those at the entrances."""
        sums = [np.zeros((len(self.columns[0]), *column.shape[1:])) for column in columns]
        for value, (back, numbers) in zip(values, self.compiled.back, strict=True):
            parts = [value] if back is None else back(*(np.zeros(sums[i].shape) for i in numbers), value)
            for i, part in zip(numbers, parts, strict=True):
                sums[i] += part
        return sums


class Scored:
    """A trainer's model with one score for each row of x."""

    def __init__(self, trainer: Trainer, x: Any, target: Any, output: str | None, logits: bool, batch_size: int) -> None:
        self.program, self.target, self.output, self.logits = program_of(trainer), target, output, flag("logits", logits)
        self.columns = rows_of(self.program, x)
        self.names: Sequence[str] = self.program.columns.of_x.names
        self.length = whole("batch_size", batch_size)
        self.before = state_leaves(self.program.layout, self.program.statistics_layout, trainer.state)
        self._compiled: dict[int, Compiled] = {}
        self._shape: tuple[int, ...] = ()
        rows = len(self.columns[0])
        if target is not None and np.ndim(target) > 0 and not isinstance(target, tuple) and len(target) != rows:
            raise ArgumentError(f"target= has {len(target)} places for {rows} rows: give one for each, or one for all.")

    def batches(self) -> Iterator[Batch]:
        """The rows, some at once."""
        for start in range(0, len(self.columns[0]), self.length):
            part = slice(start, start + self.length)
            columns = [column[part] for column in self.columns]
            each = self.target is not None and np.ndim(self.target) > 0 and not isinstance(self.target, tuple)
            compiled = self._of(len(columns[0]))
            yield Batch(compiled, self.before, columns, self.target[part] if each else self.target, self._shape)

    def without_entrance(self) -> set[int]:
        """The columns that lead to the score through comparisons alone; ArgumentError if all do."""
        held = self._of(min(self.length, len(self.columns[0]))).held
        if len(held) == len(self.columns):
            raise ArgumentError(
                "the score depends on no real number of x, and on whole numbers through comparisons alone: give them to the model by "
                "nn.Embedding or dt.one_hot."
            )
        return held

    def nest(self, arrays: Sequence[Array], held: set[int]) -> Any:
        """Arrays of the columns, nested as x, with None for those that are held."""
        return unflatten(self.program.columns.structure[0], [None if i in held else array for i, array in enumerate(arrays)])

    def baselines(self, baseline: Any) -> tuple[list[list[Any]], set[int]]:
        """For each baseline a value of each column, None where it is held; and the columns that are held."""
        held = self.without_entrance()
        if is_number(baseline):
            values = [None if i in held else baseline for i in range(len(self.columns))]
        else:
            model = model_of(self.program).model
            baseline = encoded(baseline, model.input_names, model.encoders)
            values = _leaves(arrange("baseline", baseline, self.program.columns.structure[0]), self.program.columns.structure[0])
        rows: list[Array | None] = []
        for i, (name, value) in enumerate(zip(self.names, values, strict=True)):
            if value is not None and i in held:
                raise ArgumentError(
                    f"baseline of {name}: it leads to the score through comparisons alone, as a mask or lengths do, so it has no share: "
                    "give None."
                )
            rows.append(None if value is None else self._baseline(i, name, value))
        count = max((len(row) for row in rows if row is not None), default=0)
        if not count:
            raise ArgumentError("baseline: every column is held, so there is nothing to compare: give one of them a value.")
        for name, row in zip(self.names, rows, strict=True):
            if row is not None and len(row) not in (1, count):
                raise ShapeError(f"baseline of {name} has {len(row)} rows, and another column's {count}: give all the same number, or one.")
        compared = [[None if row is None else row[k % len(row)] for row in rows] for k in range(count)]
        return compared, held | {i for i, row in enumerate(rows) if row is None}

    def _baseline(self, i: int, name: str, value: Any) -> Array:
        """The baselines of a column, of shape (baselines, ...)."""
        column = self.columns[i]
        array = to_array(f"baseline of {name}", value, self.program.columns.headers[i])
        fits = array.ndim == 0 or column.shape[1:] in (array.shape, array.shape[1:])
        if not fits or not array.size:
            raise ShapeError(f"baseline of {name}: a row is {column.shape[1:]}, got {array.shape}: give a number, a row, or several rows.")
        if not np.isfinite(array).all() or (column.dtype.kind in "iu" and (array != array.astype(column.dtype)).any()):
            raise ArgumentError(
                f"baseline of {name} must hold {'whole' if column.dtype.kind in 'iu' else 'finite'} numbers, got {value!r}."
            )
        array = array.astype(column.dtype)
        return array if array.ndim == column.ndim else array[None]

    def _of(self, rows: int) -> Compiled:
        if rows not in self._compiled:
            self._compiled[rows] = self._compile(rows)
        return self._compiled[rows]

    def _compile(self, rows: int) -> Compiled:
        program = self.program
        objective = model_of(program)
        specs = program.layout.specs, program.statistics_layout.specs, program.columns.of_rows(rows)[0]
        graph = trace_nested(objective.outputs, *specs, names=["parameters", "statistics", "x"]).graph
        outputs = {name.removeprefix("outputs").removeprefix("."): tensor for name, tensor in graph.outputs.items()}
        output = _named(outputs, self.output)
        output = _before_link(output) if self.logits else output
        if output.dtype.kind != "f":
            raise ArgumentError(f"the output is {output.dtype}, which has no derivative: name another by output=.")
        self._shape = output.shape[1:]
        flat = reshape(output, (rows, math.prod(self._shape)))
        leaves = list(graph.inputs.values())[-len(self.columns) :]
        found = entrances(leaves, flat)
        reached, needed = {i for e in found for i in e.columns}, set(topological([flat]))
        at = [new_input(f"point_{i}", e.tensor.shape, e.tensor.dtype) for i, e in enumerate(found)]
        chosen = new_input("chosen", flat.shape, flat.dtype)
        became = rebuild([flat], {e.tensor: leaf for e, leaf in zip(found, at, strict=True)})
        score = reduce_sum(became[flat] * chosen, (1,), False)
        gradients = gradient(reduce_sum(score, (0,), False), at, unconnected="zero") if at else []
        named = {f"gradient_{i}": g for i, g in enumerate(gradients)}
        inputs = {**graph.inputs, **{str(leaf.name): leaf for leaf in (*at, chosen)}}
        return Compiled(
            plan(Graph(graph.inputs, {**{f"point_{i}": e.tensor for i, e in enumerate(found)}, "outputs": flat})),
            plan(Graph(inputs, {"score": score, **named})),
            [(None if e.back is None else plan(e.back), e.columns) for e in found],
            [e.width for e in found],
            {i for i, leaf in enumerate(leaves) if leaf in needed and i not in reached},
        )


def _named(outputs: dict[str, Tensor], name: str | None) -> Tensor:
    if name is None and len(outputs) > 1:
        raise ArgumentError(f"the model has the outputs {', '.join(outputs)}: name one by output=.")
    if name is not None and list(outputs) == [""]:
        raise ArgumentError(f"the model has one output, which has no name: leave output={name!r} out.")
    return outputs[one_of("output of the model", name, outputs)] if name is not None else next(iter(outputs.values()))


def _before_link(output: Tensor) -> Tensor:
    """The output without the sigmoid or softmax that it ends with, if it does."""
    node = output
    while node.op in ("reshape", "transpose", "slice"):
        node = node.inputs[0]
    return rebuild([output], {node: node.inputs[0]})[output] if node.op in _LINKS else output


def _places(target: Any, outputs: Array, shape: tuple[int, ...]) -> Array:
    """The place of each row's score among its flat outputs."""
    if target is None and len(shape) > 1 and outputs.shape[1] > 1:
        raise ArgumentError(f"the output of a row is {shape}: say which number of it by target=, a tuple of {len(shape)} places.")
    if target is None:
        return np.asarray(outputs.argmax(axis=1))
    places = np.asarray(target)
    if isinstance(target, tuple) or places.ndim == 2:
        places = np.atleast_2d(places)
    elif len(shape) <= 1:
        places = places.reshape(-1, 1)
    if places.dtype.kind not in "iu" or places.ndim != 2 or places.shape[1] != max(len(shape), 1) or (places < 0).any():
        raise ArgumentError(f"target= is the place of a number in an output of shape {shape}, from 0 up, got {target!r}.")
    if (places >= np.array(shape or (1,))).any():
        raise ArgumentError(f"target= is the place of a number in an output of shape {shape}, got {target!r}.")
    return np.broadcast_to(np.ravel_multi_index(tuple(places.T), shape or (1,)), len(outputs))


def _leaves(nest: Any, structure: Structure) -> list[Any]:
    """The baselines of the columns in order; an error unless they are nested as x."""
    if structure is Leaf:
        return [nest]
    if isinstance(structure, dict):
        check_names("baseline", nest if isinstance(nest, dict) else (), structure, "x has")
        return [value for key, part in structure.items() for value in _leaves(nest[key], part)]
    if not isinstance(nest, tuple | list) or len(nest) != len(structure):
        raise ShapeError(f"baseline: x is a tuple of {len(structure)} columns: give a tuple of as many.")
    return [value for each, part in zip(nest, structure, strict=True) for value in _leaves(each, part)]
