"""A token of a node's content, and whether the node can be computed: Dask needs both before the node is lowered.

Both follow from the node's inputs, so they are computed once a node and cached for as long as the node lives.
"""

from __future__ import annotations

import hashlib
import re
import weakref
from functools import partial
from typing import NamedTuple

from dagtrain.errors import ArgumentError
from dagtrain.graph import LEAVES, Tensor, topological

__all__ = ["check_complete", "key_of", "label_of", "token_of"]


class _Entry(NamedTuple):
    """What is cached of a node.

    Attributes
    ----------
    token
        Hash of what the node computes; the same in any process on any machine.
    complete
        Whether it can be computed: it depends on no ``input`` leaf without a value.
    """

    token: str
    complete: bool


# By identity and not in a WeakKeyDictionary, which compares its keys with ==: on tensors that builds a node.
_cache: dict[int, tuple[weakref.ref[Tensor], _Entry]] = {}


def token_of(tensor: Tensor) -> str:
    """The token of a node."""
    return _entry_of(tensor).token


def _entry_of(tensor: Tensor) -> _Entry:
    cached = _cache.get(id(tensor))
    if cached is not None:
        return cached[1]
    for node in _uncached(tensor):
        below = [_cache[id(source)][1] for source in node.inputs]
        fixed = tuple(pair for pair in node.attributes if pair[0] != "serial")
        text = f"{node.op} {[f.token for f in below]} {fixed!r} {node.spec}"
        complete = all(f.complete for f in below) and (node.op != "input" or node.attribute("source") is not None)
        entry = _Entry(hashlib.sha256(text.encode()).hexdigest()[:16], complete)
        _cache[id(node)] = (weakref.ref(node, partial(_forget, id(node))), entry)
    return _cache[id(tensor)][1]


def _forget(number: int, reference: weakref.ref[Tensor]) -> None:
    _cache.pop(number, None)


def _uncached(tensor: Tensor) -> list[Tensor]:
    """The nodes that this one depends on, itself included, and that are not cached yet; inputs first."""
    order: list[Tensor] = []
    done: set[int] = set()
    stack = [(tensor, False)]
    while stack:
        node, entered = stack.pop()
        if id(node) in done or id(node) in _cache:
            continue
        if entered or not node.inputs:
            done.add(id(node))
            order.append(node)
            continue
        stack.append((node, True))
        stack.extend((source, False) for source in reversed(node.inputs))
    return order


def check_complete(tensor: Tensor) -> None:
    """Raise an error that names an input without a value, if there is one."""
    if _entry_of(tensor).complete:
        return
    leaf = next(node for node in topological([tensor]) if node.op == "input" and node.attribute("source") is None)
    raise ArgumentError(
        f"{tensor!r} ({tensor.origin}) needs the input {leaf.name!r} ({leaf.spec}, made at {leaf.origin}), which has no value. "
        f"Make a graph of it and give it one, as in Graph.of(tensor).to_delayed({leaf.name}=value), or begin with dagtrain.array(value) "
        "in the place of dagtrain.input."
    )


def label_of(node: Tensor, by_op: bool = False) -> str:
    """The readable part of a key: ``forward-dense_1`` or ``gradient-dense_1``; op by op ``matmul``; of a leaf its name."""
    if node.op in LEAVES:
        return re.sub(r"[^0-9A-Za-z_.]", "_", node.name or node.op)
    if by_op:
        return node.inputs[0].op if node.is_part else node.op
    scope = "-".join(node.origin.scope) or (node.inputs[0].op if node.is_part else node.op)
    return f"{node.origin.phase}-{scope}"


def key_of(node: Tensor, by_op: bool = False) -> str:
    """The Dask key of a node's value."""
    source = node.attribute("source")
    if source is not None and source.ready:
        return str(source.key)
    return f"{label_of(node, by_op)}-{token_of(node)}"
