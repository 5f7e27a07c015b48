"""Where a node came from: the user's line, the layer it belongs to, and the phase of the work.

An origin explains a node (in errors, key names and pictures). It does not change what the node computes and is not part of its identity.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["Origin", "located", "raised_at", "scope"]

_PACKAGE = str(Path(__file__).resolve().parents[1])
_fixed: ContextVar[Origin | None] = ContextVar("dagtrain_origin", default=None)
_scope: ContextVar[tuple[str, ...]] = ContextVar("dagtrain_scope", default=())


class Origin(NamedTuple):
    """The user's line and the part of the model that made a node."""

    file: str
    line: int
    function: str
    scope: tuple[str, ...] = ()
    phase: str = "forward"

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Name the layer of the nodes made inside; scopes nest.

    Examples
    --------
    >>> import dagtrain as dt
    >>> with dt.scope("encoder"):
    ...     y = dt.input("x", (2,), "f4") * 2
    >>> y.origin.scope
    ('encoder',)
    """
    token = _scope.set((*_scope.get(), name))
    try:
        yield
    finally:
        _scope.reset(token)


@contextmanager
def located(origin: Origin) -> Iterator[None]:
    """Give this origin to all nodes made inside: gradients and rewrites point at the line they derive from."""
    token = _fixed.set(origin)
    try:
        yield
    finally:
        _fixed.reset(token)


def here() -> Origin:
    """Origin of a new node: the first caller outside this package and NumPy's dispatch."""
    fixed = _fixed.get()
    if fixed is not None:
        return fixed
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if _is_of_the_user(file):
            return Origin(file, frame.f_lineno, frame.f_code.co_name, _scope.get())
        if frame.f_back is None:
            break
        frame = frame.f_back
    return Origin("<unknown>", 0, "<unknown>", _scope.get())


def raised_at(error: BaseException) -> str:
    """The user's line that raised an error, or called what raised it, as `` (file:line in function)``; empty without one."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_of_the_user(frame.filename):
            return f" ({Origin(frame.filename, frame.lineno or 0, frame.name)})"
    return ""


@cache  # each new node asks about some fifteen files
def _is_of_the_user(file: str) -> bool:
    """Whether a file is neither of this package nor of NumPy's dispatch, nor code that the standard library made, as for a dataclass."""
    return not file.startswith(_PACKAGE) and "/numpy/" not in file and file != "<string>"
