"""The columns of a row: one flat tuple of arrays from source to kernel, and how it makes x and y.

    {"a": A, "mask": M}, y   ⇄   (A, M, y)        names: x.a, x.mask, y

A batch, a partition and the rows of a shard are such tuples; only the user's functions see them nested.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dagtrain.graph import Array, Spec
from dagtrain.trace.tree import Structure, flatten, unflatten

__all__ = ["Columns", "Rows"]

Rows = tuple[Array, ...]
"""Rows of all columns, in the order of `Columns.names`."""


@dataclass(frozen=True)
class Columns:
    """Names and specs of the columns, and their structure.

    Attributes
    ----------
    names
        Of each column: its path in ``x``, ``y`` and ``sample_weight``.
    specs
        Shape (without the sample axis) and dtype of each column in training.
    structure
        The nests of x, y and sample_weight.
    headers
        For each column that is a table, the names of the table's columns; else empty.

    Examples
    --------
    >>> import numpy as np
    >>> columns = Columns.of({"a": Spec((3,), np.dtype("f4")), "mask": Spec((), np.dtype("f4"))}, Spec((), np.dtype("i8")))
    >>> columns.names
    ('x.a', 'x.mask', 'y')
    >>> columns.bind([1, 2, 3])
    ({'a': 1, 'mask': 2}, 3, None)
    """

    names: tuple[str, ...]
    specs: tuple[Spec, ...]
    structure: Structure
    headers: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, x: Any, y: Any = None, sample_weight: Any = None, headers: Mapping[str, tuple[str, ...]] | None = None) -> Columns:
        """The columns of these nests of specs, with the headers by name."""
        specs: dict[str, Spec] = {}
        structures = []
        for name, nest in (("x", x), ("y", y), ("sample_weight", sample_weight)):
            named, structure = flatten(nest, name)
            specs |= named
            structures.append(structure)
        return cls(tuple(specs), tuple(specs.values()), tuple(structures), tuple((headers or {}).get(name, ()) for name in specs))

    def bind(self, arrays: Iterable[Any]) -> tuple[Any, Any, Any]:
        """The nests ``(x, y, sample_weight)`` of one value for each column."""
        nests: tuple[Any, Any, Any] = unflatten(self.structure, arrays)
        return nests

    def of_rows(self, rows: int) -> tuple[Any, Any, Any]:
        """The specs of this many rows, as nests ``(x, y, sample_weight)``."""
        return self.bind(Spec((rows, *spec.shape), spec.dtype) for spec in self.specs)

    def without(self, names: Collection[str]) -> Columns:
        """These columns without the targets and weights of some names, if y and sample_weight are dicts."""
        x, *others = self.bind(self.specs)
        y, sample_weight = ({k: v for k, v in nest.items() if k not in names} if isinstance(nest, dict) else nest for nest in others)
        return Columns.of(x, y, sample_weight, dict(zip(self.names, self.headers, strict=True)))

    @property
    def of_x(self) -> Columns:
        """The columns of x alone."""
        count = len(flatten(self.x)[0])
        return Columns(self.names[:count], self.specs[:count], (self.structure[0], None, None), self.headers[:count])

    @property
    def x(self) -> Any:
        """The spec of a row of x, or a nest of specs."""
        return self.bind(self.specs)[0]

    @property
    def y(self) -> Any:
        """The same for y; None without y."""
        return self.bind(self.specs)[1]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in training."""
        return sum(spec.nbytes for spec in self.specs)
