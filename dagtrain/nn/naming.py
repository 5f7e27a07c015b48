"""Names of layers and of what they hold: paths, and nests of dicts by path."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from dagtrain.errors import ArgumentError, DagtrainError
from dagtrain.graph import scope

if TYPE_CHECKING:
    from dagtrain.nn.layer import Layer

__all__ = ["Nest", "Path", "checked_name", "inside", "kind_of", "names_of", "nested", "number_of", "places_in"]

Nest = dict[str, Any]
"""Nested dict of arrays or tensors."""
Path = tuple[str, ...]


def checked_name(what: str, name: Any) -> str:
    """The name, if it is one for a parameter, a layer and so on."""
    if not (isinstance(name, str) and re.fullmatch(r"[\w-]+", name)):
        raise ArgumentError(f"the name of a {what} is made of letters, digits, '_' and '-', got {name!r}.")
    return name


def number_of(path: Path) -> int:
    """A number for keys that depends on the path alone."""
    return int.from_bytes(hashlib.sha256("/".join(path).encode()).digest()[:8], "big") >> 1


def kind_of(layer: Any) -> str:
    """The name of a layer's class in parameter names: ``batch_norm`` of BatchNorm.

    Examples
    --------
    >>> from dagtrain import nn
    >>> kind_of(nn.BatchNorm())
    'batch_norm'
    >>> kind_of(nn.Conv2DTranspose(8, 3))
    'conv2d_transpose'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9])(?=[A-Z][a-z])|(?<=[0-9]D)(?=[A-Z])", "_", type(layer).__name__).lower()


def names_of(layers: Sequence[Layer]) -> tuple[str, ...]:
    """The name of each layer of a list: its own, or class and running number; a layer that is in the list twice has one name."""
    counts: Counter[str] = Counter()
    names: dict[int, str] = {}
    for layer in layers:
        if id(layer) in names:
            continue
        if layer.name is None:
            kind = kind_of(layer)
            counts[kind] += 1
            names[id(layer)] = f"{kind}_{counts[kind]}"
        else:
            names[id(layer)] = layer.name
    return tuple(names[id(layer)] for layer in layers)


def places_in(holder: Any) -> dict[int, Path]:
    """The names that lead from a layer's fields to each layer in them, by the layer's id.

    Examples
    --------
    >>> from dagtrain import nn
    >>> inner = nn.Dense(3)
    >>> places_in(nn.Sequential([nn.Flatten(), inner]))[id(inner)]
    ('layers', 'dense_1')
    """
    places: dict[int, Path] = {}
    for name in getattr(holder, "__dataclass_fields__", None) or vars(holder):
        _enter(getattr(holder, name), (name,), places)
    return places


def _enter(value: Any, path: Path, places: dict[int, Path]) -> None:
    if hasattr(value, "forward"):
        places.setdefault(id(value), path)
    elif isinstance(value, list | tuple):
        names = iter(names_of([part for part in value if hasattr(part, "forward")]))
        for i, part in enumerate(value, 1):
            if hasattr(part, "forward"):
                _enter(part, (*path, next(names)), places)
            elif isinstance(part, list | tuple | Mapping):
                _enter(part, (*path, str(i)), places)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            if isinstance(part, list | tuple | Mapping) or hasattr(part, "forward"):
                _enter(part, (*path, checked_name("layer", key)), places)


def nested(values: Mapping[Path, Any]) -> Nest:
    """Values by path as a nest of dicts."""
    nest: Nest = {}
    for path, value in values.items():
        inner = nest
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ArgumentError(f"{'.'.join(path)!r}: a parameter and a layer have one name: rename one of them.")
        if path[-1] in inner:
            raise ArgumentError(f"{'.'.join(path)!r} is the name of a parameter and of a layer: rename one of them.")
        inner[path[-1]] = value
    return nest


@contextmanager
def inside(path: Path) -> Iterator[None]:
    """Put the nodes made inside in scopes of these names, and the layer's name before the message of any error."""
    with ExitStack() as scopes:
        for name in path:
            scopes.enter_context(scope(name))
        try:
            yield
        except DagtrainError as error:
            raise type(error)(f"layer {'.'.join(path)!r}: {error}") from error
