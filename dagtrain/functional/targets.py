"""What derivatives and maps of functions share: leaves in the place of arguments, and results as a nest of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.graph import Graph, Tensor, rebuild
from dagtrain.graph import input as new_input
from dagtrain.ops import as_tensor
from dagtrain.trace import flatten, unflatten
from dagtrain.transform import stabilise

__all__ = ["Targets", "apply_to", "callable_or_error", "name_of", "positions_of", "results_of", "split_aux", "stable"]


def name_of(function: Any) -> str:
    """A function's name, for errors and pictures."""
    return str(getattr(function, "__name__", "function"))


def callable_or_error(transform: str, function: Any) -> None:
    """Raise ArgumentError for what is no function."""
    if not callable(function):
        raise ArgumentError(f"{transform} takes a function, not a {type(function).__name__}.")


def positions_of(argnums: Any, arguments: Sequence[Any]) -> tuple[int, ...]:
    """The positions that `argnums` names, counted from 0."""
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if any(not -len(arguments) <= i < len(arguments) for i in positions):
        raise ArgumentError(f"argnums={argnums} names an argument that was not given: there are {len(arguments)}.")
    return tuple(i % len(arguments) for i in positions)


class Targets:
    """Leaves in the place of the arguments by which a function is differentiated.

    Each leaf is new while the function is called: equal constants, a tensor used twice or closed over stay apart.

    Attributes
    ----------
    arguments
        The arguments, with leaves at the positions.
    leaves
        All leaves, in order.
    """

    def __init__(self, arguments: Sequence[Any], argnums: Any) -> None:
        self.arguments = list(arguments)
        self.leaves: list[Tensor] = []
        self.argnums = argnums
        self._originals: dict[Tensor, Tensor] = {}
        self._structures: list[tuple[Any, int]] = []
        by_position: dict[int, tuple[Any, list[Tensor]]] = {}
        for i in dict.fromkeys(positions_of(argnums, arguments)):
            named, structure = flatten(arguments[i], f"argument_{i}")
            tensors = [as_tensor(value) for value in named.values()]
            leaves = [new_input(t.name or n, t.shape, t.dtype) for n, t in zip(named, tensors, strict=True)]
            self.arguments[i] = unflatten(structure, leaves)
            by_position[i] = structure, leaves
            self._originals.update(zip(leaves, tensors, strict=True))
        for i in positions_of(argnums, arguments):
            structure, leaves = by_position[i]
            self._structures.append((structure, len(leaves)))
            self.leaves += leaves

    def back(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """The tensors with the true arguments in the place of the leaves."""
        tensors = list(tensors)
        became = rebuild(tensors, self._originals)
        return [became[t] for t in tensors]

    def nest(self, values: Sequence[Any]) -> Any:
        """One value for each leaf, nested as the arguments are; a tuple of nests where `argnums` is one."""
        nests, start = [], 0
        for structure, count in self._structures:
            nests.append(unflatten(structure, values[start : start + count]))
            start += count
        return nests[0] if isinstance(self.argnums, int) else tuple(nests)


def results_of(name: str, results: Any) -> tuple[dict[str, Tensor], Any]:
    """A function's results as named tensors, and how they are nested."""
    named, structure = flatten(results)
    for path, value in named.items():
        if not isinstance(value, Tensor | np.ndarray | np.generic | int | float | complex):
            raise ArgumentError(f"{name} returned a {type(value).__name__} at {path!r}, which is no tensor or number.")
    return {path: as_tensor(value) for path, value in named.items()}, structure


def split_aux(transform: str, has_aux: bool, results: Any) -> tuple[Any, Any]:
    """What a function with `has_aux` is about, and its further result; (results, None) without."""
    if not has_aux:
        return results, None
    if not isinstance(results, tuple) or len(results) != 2:
        raise ArgumentError(f"{transform}(has_aux=True): the function returns a pair: its result, and anything else; got {results!r}.")
    return results


def stable(tensors: Sequence[Tensor], keep: Sequence[Tensor]) -> list[Tensor]:
    """The tensors in their numerically stable forms, since a derivative inherits the form."""
    if not any(t.inputs for t in tensors):
        return list(tensors)
    graph = Graph.of(**{str(i): t for i, t in enumerate(tensors)})
    return list(stabilise(graph, keep=keep).outputs.values())


def apply_to(tensors: Any, change: Callable[[list[Tensor]], list[Tensor]]) -> Any:
    """A nest with all its tensors changed together; what is no tensor stays."""
    named, structure = flatten(tensors)
    places = [k for k, v in named.items() if isinstance(v, Tensor)]
    named.update(zip(places, change([named[k] for k in places]), strict=True))
    return unflatten(structure, named.values())
