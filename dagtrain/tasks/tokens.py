"""What Dask must know of a node before it is lowered: a token of its content, and whether a value for it can be had at all.

Both follow from the node's inputs, so they are worked out once a node and kept for as long as the node lives.
"""

from __future__ import annotations

import hashlib
import re
import weakref
from functools import partial
from typing import NamedTuple

from dagtrain.errors import ArgumentError
from dagtrain.graph import LEAVES, Tensor, topological

__all__ = ["Facts", "check_complete", "facts_of", "key_of", "label_of"]


class Facts(NamedTuple):
    """What is kept of a node.

    Attributes
    ----------
    token
        Hash of what the node computes; the same in any process on any machine.
    complete
        Whether it can be computed: no ``input`` leaf without a value lies under it.
    """

    token: str
    complete: bool


# By identity and not in a WeakKeyDictionary, which compares its keys with ==: on tensors that builds a node.
_known: dict[int, tuple[weakref.ref[Tensor], Facts]] = {}


def facts_of(tensor: Tensor) -> Facts:
    """Token and completeness of a node."""
    found = _known.get(id(tensor))
    if found is not None:
        return found[1]
    for node in _unknown(tensor):
        below = [_known[id(source)][1] for source in node.inputs]
        fixed = tuple(pair for pair in node.attributes if pair[0] != "serial")
        text = f"{node.op} {[f.token for f in below]} {fixed!r} {node.spec}"
        complete = all(f.complete for f in below) and (node.op != "input" or node.attribute("feed") is not None)
        facts = Facts(hashlib.sha256(text.encode()).hexdigest()[:16], complete)
        _known[id(node)] = (weakref.ref(node, partial(_forget, id(node))), facts)
    return _known[id(tensor)][1]


def _forget(number: int, reference: weakref.ref[Tensor]) -> None:
    _known.pop(number, None)


def _unknown(tensor: Tensor) -> list[Tensor]:
    """The nodes under this one of which nothing is known yet, inputs first."""
    order: list[Tensor] = []
    seen: set[int] = set()
    stack = [(tensor, False)]
    while stack:
        node, entered = stack.pop()
        if id(node) in seen or id(node) in _known:
            continue
        if entered or not node.inputs:
            seen.add(id(node))
            order.append(node)
            continue
        stack.append((node, True))
        stack.extend((source, False) for source in reversed(node.inputs))
    return order


def check_complete(tensor: Tensor) -> None:
    """Raise an error that names the input which has no value, if there is one."""
    if facts_of(tensor).complete:
        return
    leaf = next(node for node in topological([tensor]) if node.op == "input" and node.attribute("feed") is None)
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
        return node.inputs[0].op if node.op == "part" else node.op
    scope = "-".join(node.origin.scope) or (node.inputs[0].op if node.op == "part" else node.op)
    return f"{node.origin.phase}-{scope}"


def key_of(node: Tensor, by_op: bool = False) -> str:
    """The Dask key of a node's value."""
    feed = node.attribute("feed")
    if feed is not None and feed.ready:
        return str(feed.key)
    return f"{label_of(node, by_op)}-{facts_of(node).token}"
