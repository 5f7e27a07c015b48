"""Algebra as data: the texts of rewrite rules, parsed once, matched against nodes and built into new ones.

    "log(sum(exp(x), **a))"   ─parse─▶   Apply(log, Apply(sum, Apply(exp, x), **a))   ─match─▶   {x: tensor, a: attributes}

The language is Python's expressions, read with `ast` and never evaluated:

- one small letter stands for any tensor, and for the same tensor wherever it is repeated;
- a number stands for a constant all of whose elements equal it (0.0 and -0.0 apart); in a result it is a weak Python number;
- ``+ - * / ** @`` and a leading minus are ops, and so is any name of the registry: ``softmax(x, **a)``;
- ``**a`` binds all attributes of an op, ``axis=k`` binds one, ``keepdims=True`` demands a value;
- in a result, ``axis=only(k)`` calls a function of `dagtrain.transform.conditions`; a condition is such calls joined by ``and``.
"""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from dagtrain.errors import ArgumentError
from dagtrain.graph import Tensor
from dagtrain.ops import as_tensor, find
from dagtrain.ops.shape import broadcast_to

__all__ = [
    "Apply", "Letter", "Number", "Pattern", "Use", "build", "holds", "match", "number_of", "ops_of", "parse", "parse_condition", "variants",
]  # fmt: skip

COMMUTATIVE = frozenset({"add", "multiply", "equal", "not_equal", "logical_and", "logical_or", "logical_xor", "logaddexp"})
"""Ops that give the same bits with their two operands exchanged. `maximum` is not one: of -0.0 and 0.0 it may return either."""

_BINARY = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide", ast.Pow: "power", ast.MatMult: "matmul"}
_CARRIERS = frozenset({"broadcast_to", "reshape", "transpose"})
_STEPS = 4
_CACHE_SIZE = 4096
_uniform: dict[str, Any] = {}  # digest of an array → the number that all its elements equal, or None


class Letter(NamedTuple):
    """Any tensor, or any value of an attribute."""

    name: str


class Number(NamedTuple):
    """A constant whose elements all equal this number."""

    value: float


class Use(NamedTuple):
    """A call of a function of `conditions`."""

    function: str
    arguments: tuple[Any, ...]


class Apply(NamedTuple):
    """An op on operands; `attributes` by name; `rest` is the letter of all attributes together."""

    op: str
    operands: tuple[Any, ...]
    attributes: tuple[tuple[str, Any], ...] = ()
    rest: str | None = None


Pattern = Letter | Number | Apply


def parse(text: str) -> Pattern:
    """Read one side of a rule.

    Examples
    --------
    >>> parse("x * 1")
    Apply(op='multiply', operands=(Letter(name='x'), Number(value=1)), attributes=(), rest=None)
    """
    return _pattern(ast.parse(text.strip(), mode="eval").body, text)


def parse_condition(text: str) -> tuple[Use, ...]:
    """Read a condition: calls joined by ``and``."""
    body = ast.parse(text.strip(), mode="eval").body
    parts = body.values if isinstance(body, ast.BoolOp) and isinstance(body.op, ast.And) else [body]
    uses = [_value(part, text) for part in parts]
    if not all(isinstance(part, Use) for part in uses):
        raise ArgumentError(f"a condition is made of calls joined by 'and', got {text!r}.")
    return tuple(uses)


def _pattern(node: ast.expr, text: str) -> Pattern:
    if isinstance(node, ast.Name) and len(node.id) == 1 and node.id.islower():
        return Letter(node.id)
    number = _number(node)
    if number is not None:
        return Number(number)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        return Apply("negative" if isinstance(node.op, ast.USub) else "positive", (_pattern(node.operand, text),))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return Apply(_BINARY[type(node.op)], (_pattern(node.left, text), _pattern(node.right, text)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        op = find(node.func.id)
        attributes = tuple((k.arg, _value(k.value, text)) for k in node.keywords if k.arg is not None)
        rest = [k.value.id for k in node.keywords if k.arg is None and isinstance(k.value, ast.Name)]
        return Apply(op.name, tuple(_pattern(a, text) for a in node.args), attributes, rest[0] if rest else None)
    raise ArgumentError(f"cannot read {ast.unparse(node)!r} in the rule {text!r}.")


def _number(node: ast.expr) -> float | None:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value  # type: ignore[return-value]  # narrowed by type() just above
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(node.operand)
        return None if inner is None else -inner
    return None


def _value(node: ast.expr, text: str) -> Any:
    """An attribute's value in a rule: a letter, a call of a condition's function, or a literal."""
    if isinstance(node, ast.Name):
        return Letter(node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return Use(node.func.id, tuple(_value(a, text) for a in node.args))
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ArgumentError(f"cannot read {ast.unparse(node)!r} in the rule {text!r}.") from None


def variants(pattern: Pattern) -> Iterator[Pattern]:
    """The pattern with the operands of commutative ops in either order, so that matching needs no search."""
    if not isinstance(pattern, Apply):
        yield pattern
        return
    orders = [pattern.operands]
    if pattern.op in COMMUTATIVE and pattern.operands[0] != pattern.operands[1]:
        orders.append(pattern.operands[::-1])
    for operands in orders:
        for combination in itertools.product(*(list(variants(o)) for o in operands)):
            yield pattern._replace(operands=combination)


def ops_of(pattern: Pattern) -> frozenset[str]:
    """The names of all ops in a pattern."""
    return frozenset({pattern.op}).union(*map(ops_of, pattern.operands)) if isinstance(pattern, Apply) else frozenset()


# ---- matching


def match(pattern: Pattern, node: Tensor, bound: dict[str, Any], inner: list[Tensor]) -> bool:
    """Whether the node has this form.

    Fills `bound` with what the letters stand for, and `inner` with the nodes below the root that the pattern's ops matched.
    """
    if type(pattern) is Letter:
        return bound.setdefault(pattern.name, node) is node
    if type(pattern) is Number:
        return same_number(number_of(node), pattern.value)
    assert isinstance(pattern, Apply)
    if node.op != pattern.op or len(node.inputs) != len(pattern.operands):
        return False
    if pattern.rest is not None:
        attributes = dict(node.attributes)
        if bound.setdefault(pattern.rest, attributes) != attributes:
            return False
    for name, expected in pattern.attributes:
        value = node.attribute(name)
        if isinstance(expected, Letter):
            if bound.setdefault(expected.name, value) != value:
                return False
        elif value != expected:
            return False
    for operand, source in zip(pattern.operands, node.inputs, strict=True):
        if not match(operand, source, bound, inner):
            return False
        if type(operand) is Apply:
            inner.append(source)
    return True


def number_of(node: Tensor) -> Any:
    """The number that all elements of a constant equal, through broadcasts and reshapes; None for any other tensor."""
    for _ in range(_STEPS):
        if node.op not in _CARRIERS:
            break
        node = node.inputs[0]
    if node.op != "constant":
        return None
    if node.size == 1:
        return node.value.item()
    digest = node.attribute("value").digest
    if digest not in _uniform:
        if len(_uniform) >= _CACHE_SIZE:
            _uniform.clear()
        _uniform[digest] = _common(node.value)
    return _uniform[digest]


def _common(value: Any) -> Any:
    if not value.size or not np.array_equal(value, np.broadcast_to(value.ravel()[:1], value.shape)) or not _one_sign(value):
        return None
    return value.ravel()[0].item()


def _one_sign(value: Any) -> bool:
    signs = np.signbit(value) if value.dtype.kind == "f" else np.zeros(1)
    return bool(signs.all() or not signs.any())


def same_number(value: Any, expected: float) -> bool:
    """Equality that tells 0.0 from -0.0."""
    if value is None or isinstance(value, complex) or value != expected:
        return False
    return bool(value) or math.copysign(1, value) == math.copysign(1, expected)


# ---- building


Functions = Mapping[str, Callable[..., Any]]


def value_of(part: Any, bound: Mapping[str, Any], functions: Functions) -> Any:
    """An attribute's value in a rule, evaluated."""
    if isinstance(part, Letter):
        return bound[part.name]
    if isinstance(part, Use):
        return functions[part.function](*(value_of(a, bound, functions) for a in part.arguments))
    return part


def holds(condition: tuple[Use, ...], bound: Mapping[str, Any], functions: Functions) -> bool:
    """Whether all parts of a condition are true."""
    return all(value_of(part, bound, functions) for part in condition)


def build(pattern: Pattern, bound: Mapping[str, Any], root: Tensor, functions: Functions, settle: Callable[[Tensor], Tensor]) -> Tensor:
    """The tensor that a rule's result stands for, as a replacement of `root`; each inner node passes through `settle` first."""
    if isinstance(pattern, Letter):
        return bound[pattern.name]  # type: ignore[no-any-return]  # what letters stand for is Any
    if isinstance(pattern, Number):
        return broadcast_to(as_tensor(np.asarray(pattern.value, root.dtype)), root.shape)
    operands = [_operand(o, bound, root, functions, settle) for o in pattern.operands]
    attributes = dict(bound[pattern.rest]) if pattern.rest is not None else {}
    attributes.update((name, value_of(part, bound, functions)) for name, part in pattern.attributes)
    return find(pattern.op)(*operands, **attributes)


def _operand(pattern: Pattern, bound: Mapping[str, Any], root: Tensor, functions: Functions, settle: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(pattern, Number):
        return pattern.value
    tensor = build(pattern, bound, root, functions, settle)
    return settle(tensor) if isinstance(pattern, Apply) else tensor
