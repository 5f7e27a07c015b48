"""Names of nodes in a picture: the user's variable names, short expressions, and the tooltip with the user's line."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dagtrain.draw.text import number, shorten
from dagtrain.graph import LEAVES, Graph, Tensor, bodies, users
from dagtrain.ops import Drawn, find

__all__ = ["PARAMETER_ROOTS", "expression", "leaf_name", "node_names", "note", "part_name", "range_text", "tooltip"]

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
_OPERATORS: dict[type[ast.AST], frozenset[str]] = {
    ast.Add: frozenset({"add"}),
    ast.Sub: frozenset({"subtract"}),
    ast.Mult: frozenset({"multiply"}),
    ast.Div: frozenset({"divide"}),
    ast.MatMult: frozenset({"matmul"}),
    ast.Pow: frozenset({"power", "square"}),
    ast.Mod: frozenset({"remainder"}),
    ast.FloorDiv: frozenset({"floor_divide"}),
    ast.USub: frozenset({"negative"}),
}
_POWERS = {"2": "²", "3": "³"}
_LONGEST = 26
PARAMETER_ROOTS = ("params", "parameters")
NOTED = ("axis", "axes", "index", "subscripts")
"""Attributes that are written into the node, not only into its tooltip."""


def node_names(graph: Graph, user_names: Mapping[str, Tensor]) -> dict[Tensor, str]:
    """The names of nodes: from `user_names`, the leaf, the graph's output, or the variable on the user's line."""
    names = _from_source(graph)
    # "output" and "output_0" are made up by Graph.of and say less than the user's variable.
    names.update({t: name for name, t in graph.outputs.items() if not name.startswith("output") and t.op not in LEAVES})
    names.update({node: node.name for node in graph.nodes if node.name})
    names.update({t: name for name, t in graph.inputs.items()})
    names.update({t: name for name, t in user_names.items()})
    return names


def _from_source(graph: Graph) -> dict[Tensor, str]:
    """The variable that the user's line assigns, for the last node that the line made."""
    lines: dict[tuple[str, int], tuple[str, frozenset[str]] | None] = {}
    names: dict[Tensor, str] = {}
    used_by = users(graph.nodes)
    for node in graph.nodes:
        if node.op in LEAVES or node.origin.phase != "forward":
            continue
        position = node.origin[:2]
        if position not in lines:
            lines[position] = _assigned(linecache.getline(*position))
        assigned = lines[position]
        if assigned is None or node.op not in assigned[1]:
            continue
        if all(user.origin[:2] != position for user in used_by[node] if user.origin.phase == "forward"):
            names[node] = assigned[0]
    return names


def _assigned(line: str) -> tuple[str, frozenset[str]] | None:
    """For a line like ``c = a + b``, the name and the ops that can have made its value."""
    try:
        body = ast.parse(line.strip()).body
    except (SyntaxError, ValueError):
        return None
    if len(body) != 1 or not isinstance(body[0], ast.Assign) or len(body[0].targets) != 1:
        return None
    target, value = body[0].targets[0], body[0].value
    if not isinstance(target, ast.Name):
        return None
    if isinstance(value, ast.BinOp | ast.UnaryOp):
        return target.id, _OPERATORS.get(type(value.op), frozenset())
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute | ast.Name):
        # A call names what it returns only when the op has the function's own name: anything else may return something else.
        return target.id, frozenset({value.func.attr if isinstance(value.func, ast.Attribute) else value.func.id})
    return None


def leaf_name(name: str, scope: Iterable[str] = ()) -> str:
    """A parameter's name without the names of the boxes around it.

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
    complete = all(words) and not node.is_part
    if not complete and inline and any(_is_number(s) for s in node.inputs):
        words = [word if _is_number(source) else "·" for word, source in zip(words, node.inputs, strict=True)]
        complete = True
    if not complete or not words:
        return node.op
    text = _written(node, [str(word) for word in words])
    return text if len(text) <= _LONGEST else node.op


def _written(node: Tensor, words: list[str]) -> str:
    if node.op in _INFIX and len(words) == 2:
        return f"{words[0]} {_INFIX[node.op]} {words[1]}"
    if node.op == "negative":
        return f"−{words[0]}"
    if node.op == "square" and words[0] != "·":
        return f"{words[0]}²"
    if node.op == "power" and words[0] != "·" and words[1] in _POWERS:
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
    attributes = [(k, v) for k, v in node.attributes if k not in ("serial", "value", "name", *bodies(node))]
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


def range_text(first: str, last: str) -> str:
    """From one layer to another: ``dense_1 … 12``."""
    stem, _, number_ = last.rpartition("_")
    return f"{first} … {number_ if stem and first.startswith(f'{stem}_') else last}"


def note(node: Tensor) -> str:
    """The attributes that a reader sees without pointing at the node."""
    inner = [sum(n.op not in LEAVES for n in graph.nodes) for graphs in bodies(node).values() for graph in graphs]
    if inner:
        return f"{' or '.join(map(str, inner))} ops" + (" a step" if drawn_as(node).carries else "")
    if node.is_part or node.op in LEAVES:
        return ""
    words = []
    for key, value in node.attributes:
        if key in NOTED and value is not None:
            words.append(
                _index_text(value, node) if key == "index" else f"{key} {', '.join(map(str, value)) if isinstance(value, tuple) else value}"
            )
    return shorten(" ".join(words), 30)


def _index_text(index: Any, node: Tensor) -> str:
    """A slice in Python's notation."""
    if not isinstance(index, tuple) or not all(isinstance(part, tuple) and len(part) == 3 for part in index):
        return f"index {index}"
    words = []
    for (start, stop, step), length in zip(index, node.inputs[0].shape, strict=False):
        full = (start, stop, step) == (0, length, 1)
        words.append(":" if full else f"{start}:{stop}" + (f":{step}" if step != 1 else ""))
    return f"[{', '.join(words)}]"


def drawn_as(node: Tensor) -> Drawn:
    """What a picture says of a node with several outputs or with bodies."""
    rule = find(node.op).drawn
    return Drawn(node.op) if rule is None else rule(node)


def part_name(node: Tensor) -> str:
    """The name of one of a node's several outputs."""
    names = drawn_as(node.inputs[0]).outputs
    index: int = node.attribute("index")
    if index < len(names):
        return str(names[index])
    return "result" if len(node.inputs[0].spec.parts) == 1 else f"result {index}"
