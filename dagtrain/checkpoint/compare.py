"""Descriptions by `dagtrain.checkpoint.describe` compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dagtrain.checkpoint.describe import MAKERS, Description, build, describe, short

__all__ = ["complete", "differences"]


def complete(description: Description) -> Description:
    """The description with default settings filled in, which an older dagtrain may have left out."""
    if isinstance(description, list):
        return [complete(part) for part in description]
    if isinstance(description, dict) and set(description) == {"by_output"} and isinstance(description["by_output"], dict):
        return {"by_output": {name: complete(part) for name, part in description["by_output"].items()}}
    try:
        return describe(build(description))
    except (ValueError, RecursionError):  # it holds a user's own object
        return description


def differences(there: Description, here: Description, path: str) -> Iterator[str]:
    """The differences of two descriptions; two of the user's functions are not compared, since they may have moved.

    A list counts as a tuple, and a number of NumPy's as one of Python's.
    """
    there, here = _plain(there), _plain(here)
    if isinstance(there, dict) and isinstance(here, dict):
        if "python" in there and "python" in here and not ("settings" in there and "settings" in here):
            return
        if _title(there) != _title(here):
            yield f"{path}: {_title(there)} there, {_title(here)} here"
            return
        for key in [*there, *(k for k in here if k not in there)]:
            inner = path if key == "settings" else f"{path}.{key}"
            if key not in there or key not in here:
                yield f"{inner}: {short(there.get(key, 'nothing'))} there, {short(here.get(key, 'nothing'))} here"
            else:
                yield from differences(there[key], here[key], inner)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for i, (a, b) in enumerate(zip(there, here, strict=True)):
            yield from differences(a, b, f"{path}[{i}]")
    elif there != here:
        yield f"{path}: {short(there)} there, {short(here)} here"


def _plain(description: Description) -> Description:
    if isinstance(description, dict):
        return description.get("number", description.get("list", description))
    return description


def _title(description: dict[str, Any]) -> str:
    """The name of a described part; empty for a plain dict."""
    return next((str(description[tag]) for tag in (*MAKERS, "python") if tag in description), "")
