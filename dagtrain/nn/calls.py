"""Calls of the functions of layers, losses and metrics: their arguments, and errors that say whose they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import MethodType
from typing import Any

from dagtrain.errors import ArgumentError, DagtrainError
from dagtrain.graph.origin import raised_at

__all__ = ["naming", "signature_of"]


def signature_of(method: Callable[..., Any]) -> inspect.Signature:
    """The signature of a method; of the methods of a class it is made once, since each call of a layer asks for it."""
    return _of_bound(method.__func__) if isinstance(method, MethodType) else inspect.signature(method)


@lru_cache(maxsize=1024)
def _of_bound(function: Any) -> inspect.Signature:
    return inspect.signature(MethodType(function, object()))


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Name the loss or metric in errors raised inside; those of Python and NumPy become an ArgumentError with the user's line.

    Examples
    --------
    >>> import math
    >>> with naming("the metric 'mine'"):
    ...     math.log(0)
    Traceback (most recent call last):
    dagtrain.errors.ArgumentError: the metric 'mine' raised ValueError (<doctest ...>:2 in <module>): math domain error
    """
    try:
        yield
    except DagtrainError as error:
        error.add_note(f"In {what}.")
        raise
    except Exception as error:
        raise ArgumentError(f"{what} raised {type(error).__name__}{raised_at(error)}: {error}") from error
