"""What nodes are called in a picture: the user's own variable names, short expressions, and the tooltip with the user's line."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dagtrain.graph import LEAVES, Graph, Tensor, users
from dagtrain.draw.text import number, shorten

__all__ = ["expression", "leaf_name", "node_names", "tooltip"]

_INFIX = {
    "add": "+",
    "subtract": "−",
    "multiply": "×",
    "divide": "/",
    "matmul": "@",
    "floor_divide": "//",
    "remainder": "%",
    "less": "<",
    "less_equal": "≤",
    "greater": ">",
    "greater_equal": "≥",
    "equal": "==",
    "not_equal": "≠",
}
_POWERS = {"2": "²", "3": "³"}
_LONGEST = 26
PARAMETER_ROOTS = ("params", "parameters")


def node_names(graph: Graph, given: Mapping[str, Tensor]) -> dict[Tensor, str]:
    """A name for each node that has one: given here, by the leaf, by the graph's output, or by the variable on the user's line."""
    names = _from_source(graph)
    # "output" and "output_0" are made up by Graph.of and say less than the user's variable.
    names.update({t: name for name, t in graph.outputs.items() if not name.startswith("output") and t.op not in LEAVES})
    names.update({node: node.name for node in graph.nodes if node.name})
    names.update({t: name for name, t in graph.inputs.items()})
    names.update({t: name for name, t in given.items()})
    return names


def _from_source(graph: Graph) -> dict[Tensor, str]:
    """The variable that the user's line assigns, for the last node that the line made."""
    lines: dict[tuple[str, int], str | None] = {}
    found: dict[Tensor, str] = {}
    used_by = users(graph.nodes)
    for node in graph.nodes:
        if node.op in LEAVES or node.origin.phase != "forward":
            continue
        place = (node.origin.file, node.origin.line)
        if place not in lines:
            lines[place] = _assigned(linecache.getline(*place))
        name = lines[place]
        if name is not None and all((user.origin.file, user.origin.line) != place for user in used_by[node] if user.origin.phase == "forward"):
            found[node] = name
    return found


def _assigned(line: str) -> str | None:
    try:
        body = ast.parse(line.strip()).body
    except (SyntaxError, ValueError):
        return None
    if len(body) != 1 or not isinstance(body[0], ast.Assign) or len(body[0].targets) != 1:
        return None
    target = body[0].targets[0]
    return target.id if isinstance(target, ast.Name) else None


def leaf_name(name: str, scope: Iterable[str] = ()) -> str:
    """A parameter's name without what the boxes around it say already.

    Examples
    --------
    >>> leaf_name("params.dense_1.kernel", ("dense_1",)), leaf_name("params.dense_1.kernel"), leaf_name("x")
    ('kernel', 'dense_1.kernel', 'x')
    """
    parts = name.split(".")
    if len(parts) > 1 and parts[0] in PARAMETER_ROOTS:
        parts = parts[1:]
    for part in scope:
        if len(parts) > 1 and parts[0] == part:
            parts = parts[1:]
    return shorten(".".join(parts))


def expression(node: Tensor, names: Mapping[Tensor, str], scope: tuple[str, ...], inline: bool) -> str:
    """The op applied to its operands' names if they all have short ones; else the op's own name.

    With `inline`, constants are written out and the other operands are dots: ``power(·, 2)``.
    """
    words = [_operand(source, names, scope) for source in node.inputs]
    known = all(words) and node.op != "part"
    if not known and inline and any(_is_number(s) for s in node.inputs):
        words = [word if _is_number(source) else "·" for word, source in zip(words, node.inputs, strict=True)]
        known = True
    if not known or not words:
        return node.op
    text = _written(node, [str(word) for word in words])
    return text if len(text) <= _LONGEST else node.op


def _written(node: Tensor, words: list[str]) -> str:
    if node.op in _INFIX and len(words) == 2:
        return f"{words[0]} {_INFIX[node.op]} {words[1]}"
    if node.op == "negative":
        return f"−{words[0]}"
    if node.op == "square":
        return f"{words[0]}²"
    if node.op == "power" and words[1] in _POWERS:
        return f"{words[0]}{_POWERS[words[1]]}"
    return f"{node.op}({', '.join(words)})"


def _operand(source: Tensor, names: Mapping[Tensor, str], scope: tuple[str, ...]) -> str | None:
    if _is_number(source):
        return number(source.value)
    name = names.get(source)
    return None if name is None else leaf_name(name, scope)


def _is_number(node: Tensor) -> bool:
    return node.op == "constant" and node.size == 1


def tooltip(node: Tensor, name: str | None) -> str:
    """Op, spec, attributes, and the line of the user's program."""
    lines = [f"{name} = {node.op}" if name else node.op]
    lines[0] += f": {node.spec}"
    attributes = [(k, v) for k, v in node.attributes if k not in ("serial", "value", "name", "body")]
    lines += [f"{key} = {_attribute(value)}" for key, value in attributes]
    origin = node.origin
    if node.op != "constant" and origin.line:
        lines.append(str(origin))
        source = linecache.getline(origin.file, origin.line).strip()
        if source:
            lines.append(f"    {source}")
    return "\n".join(lines)


def _attribute(value: Any) -> str:
    return shorten(np.dtype(value).name if isinstance(value, np.dtype) else repr(value), 60)
