"""Entries of JSON that nobody vouches for, each checked before it is used; whatever is wrong is a ValueError or a KeyError."""

from __future__ import annotations

import math
import re
from typing import Any

__all__ = ["entry_of", "hexadecimal_in", "number_in", "refuse_constant", "shape_of", "texts_in", "unique", "whole_in"]


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no name stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an entry is there twice")
    return found


def refuse_constant(constant: str) -> Any:
    """Refuse NaN and infinity, which are no JSON."""
    raise ValueError(f"{constant} is no JSON")


def entry_of(entries: dict[str, Any], name: str, kind: type) -> Any:
    """An entry of this very type."""
    value = entries[name]
    if type(value) is not kind:
        raise ValueError(f"its entry {name!r} is no {kind.__name__}")
    return value


def whole_in(entries: dict[str, Any], name: str, least: int) -> int:
    """A whole number from `least` up that fits 64 bits."""
    value: int = entry_of(entries, name, int)
    if not least <= value < 1 << 64:
        raise ValueError(f"its entry {name!r} is out of range")
    return value


def number_in(entries: dict[str, Any], name: str) -> float:
    """A finite float from 0 up."""
    value: float = entry_of(entries, name, float)
    if not 0 <= value < math.inf:
        raise ValueError(f"its entry {name!r} is out of range")
    return value


def texts_in(entries: dict[str, Any], name: str) -> list[str]:
    """A list of texts."""
    values: list[str] = entry_of(entries, name, list)
    if any(type(v) is not str for v in values):
        raise ValueError(f"its entry {name!r} holds other things than texts")
    return values


def hexadecimal_in(entries: dict[str, Any], name: str) -> str:
    """A SHA-256."""
    text: str = entry_of(entries, name, str)
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(f"its entry {name!r} is no SHA-256")
    return text


def shape_of(value: Any, name: str, most: int) -> tuple[int, ...]:
    """A shape of at most so many elements."""
    if type(value) is not list or len(value) > 32 or any(type(n) is not int or not 0 <= n < 1 << 48 for n in value):
        raise ValueError(f"its entry {name!r} holds a shape that is none")
    if math.prod(value) > most:
        raise ValueError(f"its entry {name!r} holds a shape that is too large")
    return tuple(value)
