"""Calls of the functions of a loss or a metric: an error says whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagtrain.errors import ArgumentError, DagtrainError
from dagtrain.graph.origin import raised_at

__all__ = ["naming"]


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
