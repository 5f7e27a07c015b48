"""NumPy's functions on tensors, by NumPy's own signatures: each argument is honoured or refused, here, for all functions.

    np.mean(x, 0, keepdims=1, out=None) ──▶ x, axis=0, keepdims=True ──▶ mean(a=x, axis=0, keepdims=True)
    np.mean(x, 0, out=y)                ──▶ UnsupportedError: out=...

An implementation has, under NumPy's names, the parameters that it honours. All other parameters of NumPy's function must have their default
value, or one that makes no difference to tensors, such as another sorting algorithm.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dagtrain.errors import UnsupportedError

__all__ = ["FLAGS", "FUNCTIONS", "Call", "apply_function", "implements", "name_of", "unsupported"]

Function = TypeVar("Function", bound=Callable[..., Any])

FLAGS = frozenset({"equal_nan", "include_initial", "keepdims", "retstep", "returned", "sparse"})
DEFAULTS: dict[str, Any] = {
    "axes": None, "axis": None, "casting": "same_kind", "dtype": None, "keepdims": False, "order": "K", "out": None, "reflect_type": "even",
    "signature": None, "subok": True, "where": True,
}  # fmt: skip
"""Default values of keyword arguments that NumPy's signatures hide behind ``**kwargs``."""
INDIFFERENT: dict[str, tuple[Any, ...]] = {
    "copy": (None, False, True),
    "device": (None, "cpu"),
    "kind": (None, "quicksort", "mergesort", "heapsort", "stable"),
    "optimize": (False, True, "greedy", "optimal"),
    "overwrite_input": (False, True),
    "stable": (None, False, True),
    "subok": (False, True),
}
"""Values that make no difference: tensors never change, and sorting is always stable."""
LAYOUTS = ("C", "F", "A", "K")
"""Orders of the memory of a result, which make no difference either. (Where an order is that of the elements, the function honours it.)"""
ADVICE = {
    **dict.fromkeys(
        ["arange", "linspace", "logspace", "geomspace"],
        "Make the numbers of known ones, then scale them: start + (stop - start) * np.linspace(0, 1, n)",
    ),
    **dict.fromkeys(
        ["argwhere", "compress", "extract", "flatnonzero", "intersect1d", "nonzero", "setdiff1d", "trim_zeros", "union1d", "unique"],
        "The shape of its result depends on values. Use np.where(mask, x, 0), or take positions that are known",
    ),
    **dict.fromkeys(
        ["copyto", "fill_diagonal", "place", "put", "put_along_axis", "putmask"],
        "Tensors never change. Use np.where(mask, new, old) or dt.scatter_add",
    ),
    **dict.fromkeys(["apply_along_axis", "apply_over_axes", "piecewise"], "Use operations on whole arrays, or dt.scan"),
}
"""What to do instead of functions that cannot be in a graph."""
REASONS = {
    "out": "tensors never change. Use the result instead, as in x = np.sum(y)",
    "where": "elements that are left out would have no value. Use np.where(condition, result, other)",
}


def flag(name: str, value: Any) -> bool:
    """The truth of an argument such as ``keepdims``: a bool or a whole number of Python or NumPy."""
    if isinstance(value, bool | int | np.bool_ | np.integer):
        return bool(value)
    raise UnsupportedError(f"{name}={value!r}: it is True or False.")


def refuse(call: str, argument: str, value: Any) -> UnsupportedError:
    """The error for an argument that is not supported."""
    shown = f"{argument}={value!r}" if isinstance(value, str | int | float | type(None)) else f"{argument}=..."
    return UnsupportedError(f"{call} with {shown} is not supported on tensors: {REASONS.get(argument, 'leave it out')}.")


class Signature(NamedTuple):
    """Arguments of a call.

    Attributes
    ----------
    takes_any
        Whether it takes any number of arguments without names.
    honoured, required
        Names of the implementation's parameters; of those without a default.
    positional
        Names of the arguments that NumPy takes without their names, in order.
    defaults
        NumPy's default values.
    """

    takes_any: bool
    honoured: frozenset[str]
    positional: tuple[str, ...]
    required: tuple[str, ...]
    defaults: dict[str, Any]


class Call:
    """A function of NumPy, or a method of its arrays, on tensors.

    Parameters
    ----------
    name
        What errors call it.
    function
        The implementation: its parameters are those that it honours, by NumPy's names.
    like
        A function that has NumPy's signature; by default the implementation's own.
    """

    def __init__(self, name: str, function: Callable[..., Any], like: Any = None) -> None:
        self.name, self.function, self.like = name, function, like

    @cached_property
    def signature(self) -> Signature:
        """What the function honours, and what NumPy's takes; read at the first call, since reading all would slow the import down."""
        own = inspect.signature(self.function).parameters
        try:
            theirs = own if self.like is None else inspect.signature(self.like).parameters
        except ValueError:  # some functions of NumPy before 2.4 tell no signature
            theirs = own
        return Signature(
            takes_any=any(p.kind is p.VAR_POSITIONAL for p in own.values()),
            honoured=frozenset(n for n, p in own.items() if p.kind is not p.VAR_POSITIONAL),
            positional=tuple(n for n, p in theirs.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)),
            required=tuple(n for n, p in own.items() if p.default is p.empty and p.kind is not p.VAR_POSITIONAL),
            defaults={
                **(DEFAULTS if any(p.kind is p.VAR_KEYWORD for p in theirs.values()) else {}),
                **{n: p.default for n, p in theirs.items() if p.default is not p.empty},
            },
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result for NumPy's arguments."""
        signature = self.signature
        named: dict[str, Any] = {}
        if not signature.takes_any:
            if len(args) > len(signature.positional):
                raise UnsupportedError(f"{self.name} takes {len(signature.positional)} arguments without their names, got {len(args)}.")
            for key, value in zip(signature.positional, args, strict=False):
                self._take(key, value, named)
            args = ()
        for key, value in kwargs.items():
            if key in named:
                raise UnsupportedError(f"{self.name} got the argument {key} twice.")
            self._take(key, value, named)
        if not signature.takes_any:
            for key in signature.required:
                if key not in named:
                    raise UnsupportedError(f"{self.name} needs the argument {key}.")
        return self.function(*args, **named)

    def _take(self, key: str, value: Any, named: dict[str, Any]) -> None:
        """Put an argument into `named` if the implementation honours it; UnsupportedError if it must be honoured and is not."""
        if value is np._NoValue:
            return
        if key in self.signature.honoured:
            named[key] = flag(key, value) if key in FLAGS else value
        elif not self._makes_no_difference(key, value):
            raise refuse(self.name, key, value)

    def _makes_no_difference(self, key: str, value: Any) -> bool:
        if key not in self.signature.defaults:
            return False
        default = self.signature.defaults[key]
        if value is default:
            return True
        if not isinstance(value, str | int | float | np.generic | tuple | type(None)):
            return False
        if key == "order" and default is not None:
            return value in LAYOUTS
        return value in INDIFFERENT.get(key, (default,))


FUNCTIONS: dict[Any, Call] = {}


def name_of(function: Any) -> str:
    """What errors call a function of NumPy, or of a library that uses its protocols: ``np.linalg.norm``."""
    module = getattr(function, "__module__", None)
    if isinstance(function, np.ufunc):
        module = "numpy" if getattr(np, function.__name__, None) is function else None
    name = getattr(function, "__name__", str(function))
    return name if module is None else f"{module}.{name}".replace("numpy.", "np.", 1)


def implements(*numpy_functions: Any) -> Callable[[Function], Function]:
    """Register a function as the implementation of NumPy functions on tensors."""

    def put(function: Function) -> Function:
        for numpy_function in numpy_functions:
            FUNCTIONS[numpy_function] = Call(name_of(numpy_function), function, numpy_function)
        return function

    return put


def unsupported(name: str, supported: Iterable[str]) -> UnsupportedError:
    """The error for a function, with advice or with functions whose names are alike."""
    advice = ADVICE.get(name.rpartition(".")[2])
    if advice is None:
        by_name = {s.rpartition(".")[2]: s for s in sorted(supported, reverse=True)}
        alike = [by_name[match] for match in get_close_matches(name.rpartition(".")[2], by_name, n=3, cutoff=0.75)]
        advice = f"Supported are {', '.join(alike)}, among others" if alike else "Use other functions, or .compute() the tensor first"
    return UnsupportedError(f"{name} is not supported on tensors. {advice}.")


def apply_function(function: Any, args: Any, kwargs: Any) -> Any:
    """Implement `Tensor.__array_function__`."""
    call = FUNCTIONS.get(function)
    if call is None:
        raise unsupported(name_of(function), {c.name for c in FUNCTIONS.values()})
    return call(*args, **kwargs)
