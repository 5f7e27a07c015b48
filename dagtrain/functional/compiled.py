"""A function of arrays as straight-line NumPy.

    function ──trace──▶ graph ──optimize, plan──▶ straight-line NumPy

Each distinct signature (nesting, shapes, dtypes) is traced and compiled once and cached. Called on tensors instead of arrays, a compiled
function builds graph, so the functions made here nest in one another and in `trace`.
"""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.graph import Graph, Tensor, rebuild, refuse_masked
from dagtrain.ops import as_tensor
from dagtrain.plan import Plan, plan
from dagtrain.trace import Traced, flatten, unflatten
from dagtrain.trace.trace import Recorded, argument_names, leaf_spec, record

__all__ = ["CACHE_SIZE", "Compiled", "plain"]

CACHE_SIZE = 64


class Compiled:
    """A function of arrays that runs as straight-line NumPy; made by `compile`, `grad` and `value_and_grad`.

    Attributes
    ----------
    plan : Plan
        The plan of the latest call.
    graph : Graph
        The (not yet optimised) graph of the latest call.
    """

    def __init__(
        self, function: Callable[..., Any], name: str | None = None, build: Callable[..., Any] | None = None, approximate: bool = False
    ) -> None:
        self.function, self._approximate = function, approximate
        self._build = function if build is None else build
        self.__name__ = name or str(getattr(function, "__name__", "function"))
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._cache: OrderedDict[Any, tuple[Traced, Plan]] = OrderedDict()
        self._lock = threading.Lock()
        self._names: dict[int, list[str]] = {}
        """Number of arguments → their names."""

    def __repr__(self) -> str:
        return f"<Compiled {self.__name__}: {len(self._cache)} signatures>"

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Called with arrays (or nests of them) it returns arrays; tensors among the arguments or in the closure make it return tensors."""
        if named:
            arguments = self._by_place(arguments, named)
        leaves = []
        structures = []
        names = self._names.get(len(arguments))
        if names is None:  # reading a signature takes as long as a small plan
            names = self._names[len(arguments)] = argument_names(self.function, len(arguments))
        for name, argument in zip(names, arguments, strict=True):
            named_leaves, structure = flatten(argument, name)
            leaves += list(named_leaves.items())
            structures.append(structure)
        if any(isinstance(value, Tensor) for _, value in leaves):
            return self._build(*arguments)
        arrays = [np.asarray(refuse_masked(value)) for _, value in leaves]
        signature = (repr(structures), tuple((a.shape, a.dtype.str) for a in arrays))
        with self._lock:
            entry = self._cache.get(signature)
            if entry is not None:
                self._cache.move_to_end(signature)
        if entry is None:
            for (name, _), array in zip(leaves, arrays, strict=True):
                leaf_spec(name, array)
            recorded = record(_named(self._build, self.function), *arguments)
            if recorded.closes_over_tensors():  # so the result is a tensor, and another one in each call
                became = rebuild(recorded.outputs.values(), dict(zip(recorded.inputs.values(), map(as_tensor, arrays), strict=True)))
                return unflatten(recorded.results, [became[t] for t in recorded.outputs.values()])
            entry = self._compile(signature, recorded)
        traced, program = entry
        return unflatten(traced.results, [plain(o) for o in program(*arrays)])

    def _by_place(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments in the order of the function's parameters."""
        try:
            bound = inspect.signature(self.function).bind(*arguments, **named)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"{self.__name__}: {error}.") from None
        if bound.kwargs:
            raise ArgumentError(
                f"{self.__name__}: {', '.join(bound.kwargs)} cannot be given by name, since a parameter before it is left out or it has no "
                "position: give all arguments by position."
            )
        return bound.args

    def _compile(self, signature: Any, recorded: Recorded) -> tuple[Traced, Plan]:
        traced = recorded.closed()
        entry = (traced, plan(traced.graph, approximate=self._approximate))
        with self._lock:
            self._cache[signature] = entry
            while len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        return entry

    def _latest(self) -> tuple[Traced, Plan]:
        if not self._cache:
            raise ArgumentError(f"{self.__name__} has no plan yet: its shapes are not known before its first call.")
        return next(reversed(self._cache.values()))

    @property
    def plan(self) -> Plan:
        """The plan of the latest signature."""
        return self._latest()[1]

    @property
    def graph(self) -> Graph:
        """The graph of the latest signature."""
        return self._latest()[0].graph


def plain(array: Any) -> Any:
    """A single number as a Python or NumPy number, anything else as it is."""
    if array.shape:
        return array
    return array.item() if array.dtype.str[1:] in ("f8", "i8", "b1", "c16") else array[()]


def _named(build: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """`build` with the parameter names of `function`, so that the graph's inputs carry them."""
    if build is function:
        return function

    def call(*arguments: Any) -> Any:
        return build(*arguments)

    call.__wrapped__ = function  # type: ignore[attr-defined]  # read by inspect.signature
    return call
