"""Tables by name: activations, initialisers, losses, metrics, optimisers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from dagtrain.errors import UnknownNameError, bare

__all__ = ["Registry", "hints"]

T = TypeVar("T")
Named = TypeVar("Named")


def hints(*records: tuple[str, str]) -> Mapping[str, str]:
    """Names in other libraries → names here; see `dagtrain.errors.UnknownNameError.of`.

    Each record has other names, separated by spaces, and the name here.
    """
    return MappingProxyType({name: here for names, here in records for name in names.split()})


class Registry(dict[str, T]):
    """Values of one kind, by name.

    Parameters
    ----------
    kind
        Kind of the values, for errors.
    hints
        Their names in other libraries; see the function `hints`.

    Examples
    --------
    >>> shapes = Registry("shape", hints(("oval egg", "'ellipse'"), ("circle", "an ellipse of two equal axes")))
    >>> @shapes.add
    ... def ellipse(): ...
    >>> shapes.find("ellipse") is ellipse
    True
    >>> shapes.find("Oval") is ellipse
    True
    >>> shapes.find("circle")
    Traceback (most recent call last):
    dagtrain.errors.UnknownNameError: unknown shape 'circle'. Here it is an ellipse of two equal axes. Known: ellipse.
    """

    def __init__(self, kind: str, hints: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.kind, self.hints = kind, hints or {}

    def add(self, value: Named) -> Named:
        """Enter a value under its own name, `name` or `__name__`; also as a decorator."""
        entry: Any = value
        self[str(getattr(entry, "name", None) or entry.__name__)] = entry
        return value

    def find(self, name: object) -> T:
        """The value of this name.

        Raises
        ------
        UnknownNameError
            If there is none; the error has the nearest name, or the name here of another library's name.
        """
        if not isinstance(name, str):
            raise UnknownNameError.of(self.kind, name, self, self.hints)
        return self[self.name_of(name)]

    def name_of(self, name: str) -> str:
        """The name here of a name, of another spelling of it, or of a name in other libraries whose hint is a name and nothing else."""
        here = name
        if name not in self:
            spellings = {bare(known): known for known in self} | {other: here.strip("'") for other, here in self.hints.items()}
            here = spellings.get(bare(name), name)  # a hint that is more than a name is no name of the table
        if here not in self:
            raise UnknownNameError.of(self.kind, name, self, self.hints)
        return here

    def entry_of(self, function: Any, field: str = "function") -> tuple[str, T | None]:
        """A function's name, and the value with this function, also with options that `functools.partial` holds, or wrapped."""
        plain = getattr(function, "func", function)
        name = getattr(plain, "__name__", self.kind)
        entry = self.get(name)
        return name, entry if getattr(entry, field, None) is getattr(plain, "__wrapped__", plain) else None
