"""Kinds of untrusted JSON values: each is a function that checks a value before it is used.

    kind(value, name) → the checked value; ValueError, which names the entry, or KeyError, for another kind

Kinds are composed like types: ``sequence(record(Entry, epoch=whole(0), samples=whole(1)))``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = [
    "DICT",
    "DTYPE",
    "FLAG",
    "LIST",
    "NUMBER",
    "SHA256",
    "TEXT",
    "Kind",
    "mapping",
    "optional",
    "record",
    "sequence",
    "shape",
    "whole",
]

Kind = Callable[[Any, str], Any]


def _of_type(kind: type, holds: Callable[[Any], Any] = lambda value: True, problem: str = "is out of range") -> Kind:
    """A value of exactly this type for which a condition holds."""

    def read(value: Any, name: str) -> Any:
        if type(value) is not kind:
            raise ValueError(f"its entry {name!r} is no {kind.__name__}")
        if not holds(value):
            raise ValueError(f"its entry {name!r} {problem}")
        return value

    return read


DICT, FLAG, LIST, TEXT = _of_type(dict), _of_type(bool), _of_type(list), _of_type(str)
NUMBER = _of_type(float, lambda value: 0 <= value < math.inf)
"""A finite float from 0 up."""
SHA256 = _of_type(str, re.compile(r"[0-9a-f]{64}").fullmatch, "is no SHA-256")


_DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")


def DTYPE(value: Any, name: str) -> np.dtype[Any]:  # named like the other kinds
    """A dtype by its name."""
    if value not in _DTYPES:
        raise ValueError(f"its entry {name!r} is none of {', '.join(_DTYPES)}")
    dtype: np.dtype[Any] = np.dtype(value)
    return dtype


def whole(least: int) -> Kind:
    """A whole number from `least` up that fits in 64 bits."""
    return _of_type(int, lambda value: least <= value < 1 << 64)


def shape(most: int) -> Kind:
    """A shape of at most `most` elements."""

    def read(value: Any, name: str) -> tuple[int, ...]:
        if type(value) is not list or len(value) > 32 or any(type(n) is not int or not 0 <= n < 1 << 48 for n in value):
            raise ValueError(f"its entry {name!r} holds something that is no shape")
        if math.prod(value) > most:
            raise ValueError(f"its entry {name!r} holds a shape that is too large")
        return tuple(value)

    return read


def optional(kind: Kind) -> Kind:
    """None, or a value of this kind."""
    return lambda value, name: None if value is None else kind(value, name)


def sequence(kind: Kind) -> Kind:
    """A list of values of one kind, as a tuple."""
    return lambda value, name: tuple(kind(part, name) for part in LIST(value, name))


def mapping(kind: Kind) -> Kind:
    """A dict of values of one kind."""
    return lambda value, name: {k: kind(v, k) for k, v in DICT(value, name).items()}


def record(make: Callable[..., Any], **kinds: Kind) -> Kind:
    """The result of `make` for a dict's entries by name; `make` may check them together."""

    def read(value: Any, name: str) -> Any:
        entries = DICT(value, name)
        return make(**{k: kind(entries[k], k) for k, kind in kinds.items()})

    return read
