"""From a Python function to a `Graph`: call it once with tensors in the place of its arguments."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dagtrain.errors import ArgumentError, DTypeError
from dagtrain.graph import Graph, Spec, Tensor, spec_of, topological, unused
from dagtrain.graph import input as new_input
from dagtrain.ops import as_tensor
from dagtrain.trace.tree import Structure, flatten, unflatten

__all__ = ["Recorded", "Traced", "argument_names", "record", "trace", "trace_nested"]


class Traced(NamedTuple):
    """A graph and how the function's arguments and results are nested."""

    graph: Graph
    arguments: Structure
    results: Structure


class Recorded(NamedTuple):
    """The tensors that a function gave for the leaves of its arguments."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    arguments: Structure
    results: Structure
    born: int
    """The serial number that leaves had reached before the call."""

    def closes_over_tensors(self) -> bool:
        """Whether the results depend on an input or array that is older than the call and no argument of it."""
        inside = set(self.inputs.values())
        return any(
            node.op == "input" or (node.op == "array" and node.attribute("serial") < self.born)
            for node in topological(self.outputs.values())
            if node not in inside and not node.inputs
        )

    def closed(self) -> Traced:
        """As a graph, which depends on no input but those."""
        return Traced(Graph(self.inputs, self.outputs), self.arguments, self.results)


def argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """Names of the first positional parameters, or ``argument_0`` … where there is no signature."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return [f"argument_{i}" for i in range(count)]
    names: list[str] = []
    for p in parameters:
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
        elif p.kind == p.VAR_POSITIONAL:
            for i in range(count - len(names)):
                names.append(unused(f"{p.name}_{i}", names))
    if len(names) < count:
        raise ArgumentError(f"{getattr(function, '__name__', function)} takes {len(names)} positional arguments, got {count}.")
    return names[:count]


def leaf_spec(name: str, value: Any) -> Spec:
    """Spec of one argument, with an error that names the argument."""
    try:
        return spec_of(value)
    except DTypeError as error:
        static = " A text is a static argument: dt.compile(function, static_argnames=...)." if np.asarray(value).dtype.kind in "US" else ""
        raise DTypeError(f"argument {name!r}: {error}{static}") from None


def _random_states() -> tuple[Any, ...]:
    _, keys, *others = np.random.get_state()  # noqa: NPY002  # functions of users have it
    return bytes(memoryview(keys)), *others, random.getstate()  # type: ignore[arg-type]  # the legacy form is a tuple


def _tensors(results: Any) -> list[Tensor]:
    return [as_tensor(value) for value in flatten(results)[0].values() if isinstance(value, Tensor | np.ndarray | np.generic | int | float)]


def record(function: Callable[..., Any], *arguments: Any, names: Sequence[str] | None = None) -> Recorded:
    """Call a function with new leaves; each leaf of the arguments is a spec, or anything with shape and dtype, or a number.

    The leaves have the names of the arguments, by default those in the function's signature.
    """
    born = new_input("").attribute("serial")
    leaves: list[Tensor] = []
    nested = []
    structures = []
    for name, argument in zip(argument_names(function, len(arguments)) if names is None else names, arguments, strict=True):
        values, structure = flatten(argument, name)
        tensors = [new_input(path, *leaf_spec(path, value)[:2]) for path, value in values.items()]
        leaves += tensors
        nested.append(unflatten(structure, tensors))
        structures.append(structure)
    before = _random_states()
    results = function(*nested)
    outputs, result_structure = flatten(results)
    # Other threads may draw, too. So only what another call returns tells: equal tensors are one object.
    if _random_states() != before and any(a is not b for a, b in zip(*map(_tensors, (results, function(*nested))), strict=False)):
        raise ArgumentError(
            "a traced function draws from the global random numbers of NumPy or Python: called once, it would have constants in all steps. "
            "Draw with dt.normal, dt.uniform or dt.bernoulli and a key, an argument of the function; draw constants outside of it."
        )
    for path, value in outputs.items():
        if not isinstance(value, Tensor | np.ndarray | np.generic | int | float | complex):
            raise ArgumentError(
                f"{getattr(function, '__name__', 'the function')} returned a {type(value).__name__} at {path!r}; a traced function returns "
                "tensors, numbers, or nested dicts, lists and tuples of them."
            )
    inputs = {str(t.name): t for t in leaves}
    return Recorded(inputs, {k: as_tensor(v) for k, v in outputs.items()}, tuple(structures), result_structure, born)


def trace_nested(function: Callable[..., Any], *arguments: Any, names: Sequence[str] | None = None) -> Traced:
    """Trace a function of nested arguments (see `record`) that depends on no input but those."""
    return record(function, *arguments, names=names).closed()


def trace(function: Callable[..., Any], *specs: Any) -> Graph:
    """Trace a Python function of NumPy calls into a `Graph`.

    Parameters
    ----------
    function
        Takes arrays, or nested dicts, lists and tuples of arrays; returns the same. It is called once, with tensors.
    *specs
        One for each argument: a `Spec`, an array, a number, or a nest of these; only shapes and dtypes are used.

    Raises
    ------
    ArgumentError
        If the function returns anything but tensors and numbers.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> graph = dt.trace(lambda x, y: np.mean((x - y) ** 2), np.zeros(3), np.zeros(3))
    >>> list(graph.inputs), list(graph.outputs)
    (['x', 'y'], ['output'])
    """
    return trace_nested(function, *specs).graph
