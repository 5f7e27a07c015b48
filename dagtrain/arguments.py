"""Checks of arguments, with one wording of errors: the name, what is allowed, and the value.

`name` is what the error calls the argument, with its owner where that helps: ``"units"``, ``"sgd: momentum"``. Checks return the value.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, TypeGuard

import numpy as np

from dagtrain.errors import ArgumentError, UnknownNameError

__all__ = [
    "flag",
    "float_dtype",
    "fraction",
    "is_future",
    "is_number",
    "is_whole",
    "not_negative",
    "one_of",
    "positive",
    "seed",
    "whole",
    "wholes",
]


def is_whole(value: object) -> TypeGuard[int | np.integer[Any]]:
    """Whether this is a whole number; True and False are not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether this is a real number; True and False are not."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_future(value: object) -> bool:
    """Whether this is a future of a Dask client; it imports nothing."""
    return any(c.__name__ == "Future" and c.__module__.partition(".")[0] == "distributed" for c in type(value).__mro__)


def whole(name: str, value: object, least: int = 1) -> int:
    """A whole number, not below the least allowed, as an int.

    Examples
    --------
    >>> whole("units", 0)
    Traceback (most recent call last):
    dagtrain.errors.ArgumentError: units must be a whole number from 1 up, got 0.
    """
    if not is_whole(value) or value < least:
        raise ArgumentError(f"{name} must be a whole number from {least} up, got {value!r}.")
    return int(value)


def wholes(name: str, values: object, least: int = 1) -> tuple[int, ...]:
    """Several whole numbers, none below the least allowed, as a tuple of ints."""
    if not isinstance(values, list | tuple) or not all(is_whole(value) and value >= least for value in values):
        raise ArgumentError(f"{name} is a list of whole numbers from {least} up, as [64, 64], got {values!r}.")
    return tuple(map(int, values))


def seed(value: object) -> int:
    """A seed, as an int: a whole number of 64 bits."""
    if not is_whole(value) or not 0 <= value < 2**64:
        raise ArgumentError(f"a seed is a whole number from 0 to 2**64 - 1, got {value!r}.")
    return int(value)


def not_negative(name: str, value: Any, *, infinite: bool = False) -> Any:
    """A number from 0 up; infinity where that means "without end"."""
    if not is_number(value) or not value >= 0 or not (infinite or math.isfinite(value)):
        raise ArgumentError(f"{name} must be a {'' if infinite else 'finite '}number from 0 up, got {value!r}.")
    return value


def positive(name: str, value: Any, *, infinite: bool = False) -> Any:
    """A number above 0; infinity where that means "without end"."""
    if not is_number(value) or not value > 0 or not (infinite or math.isfinite(value)):
        raise ArgumentError(f"{name} must be a {'' if infinite else 'finite '}number above 0, got {value!r}.")
    return value


def fraction(name: str, value: Any, *, one: bool = False) -> Any:
    """A number in [0, 1); with `one`, in [0, 1]."""
    if not is_number(value) or not (0 <= value < 1 or (one and value == 1)):
        raise ArgumentError(f"{name} must be a number from 0 {'to' if one else 'up to, but not,'} 1, got {value!r}.")
    return value


def float_dtype(dtype: object) -> np.dtype[Any]:
    """The dtype that training computes in.

    Examples
    --------
    >>> float_dtype("float64")
    dtype('float64')
    """
    try:
        wide: Any = None if dtype is None else np.dtype(dtype)  # type: ignore[call-overload]  # anything may be given
    except TypeError:
        wide = None
    if wide not in (np.float32, np.float64):
        raise ArgumentError(f'training computes in dtype "float32" or "float64", got {dtype!r}.')
    return wide  # type: ignore[no-any-return]  # as checked


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} is True or False, got {value!r}.")
    return value


def one_of(kind: str, name: object, names: Collection[str]) -> str:
    """One of these names.

    Examples
    --------
    >>> one_of("direction", "bt", ("TB", "BT"))
    Traceback (most recent call last):
    dagtrain.errors.UnknownNameError: unknown direction 'bt'. Did you mean 'BT'? Known: BT, TB.
    """
    if not isinstance(name, str) or name not in names:
        raise UnknownNameError.of(kind, name, names)
    return name
