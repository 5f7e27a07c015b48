"""Expressions of the shell as computational graphs.

    "(a+b)*(b+1)", {"a": 2.0, "b": 1.0}  ──▶  Expression(output, variables, names)

Python's parser reads the text, which is never run as Python. Numbers, names, the signs in `SIGNS`, parentheses, lists and calls of the
functions in `FUNCTIONS` make nodes; anything else is an error that shows the place.
"""

from __future__ import annotations

import ast
import difflib
import string
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from dagtrain.errors import ArgumentError, GraphError
from dagtrain.graph import LEAVES, Array, Graph, Tensor, array, constant
from dagtrain.graph.origin import Origin, located
from dagtrain.ops import OPS, elementwise, reduce, softmax, special

__all__ = ["FUNCTIONS", "Expression", "parse", "parse_value"]

OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.FloorDiv: "floor_divide",
    ast.Mod: "remainder",
    ast.Pow: "power",
    ast.MatMult: "matmul",
    ast.USub: "negative",
}
SIGNS = "+ - * / // % ** @"
MODULES = ("np", "numpy", "math")
"""Module names that may precede a function, as in np.sin."""
NOT_NUMBERS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isfinite", "isinf", "isnan", "signbit")
"""Ops with boolean results, which have no derivative."""
OF_INTEGERS = ("logical", "bitwise", "invert", "left_shift", "right_shift", "gcd", "lcm")


def _functions() -> dict[str, tuple[Callable[..., Tensor], int]]:
    functions: dict[str, tuple[Callable[..., Tensor], int]] = {}
    for name, op in OPS.items():
        if op.ufunc is not None and op.ufunc.nin <= 2 and name not in NOT_NUMBERS and not name.startswith(OF_INTEGERS):
            functions[name] = op, op.ufunc.nin
    functions |= {
        "dot": (OPS["matmul"], 2),
        "erf": (special.erf, 1),
        "logsumexp": (reduce.logsumexp, 1),
        "max": (reduce.reduce_max, 1),
        "mean": (reduce.reduce_mean, 1),
        "min": (reduce.reduce_min, 1),
        "norm": (reduce.norm, 1),
        "relu": (elementwise.relu, 1),
        "sigmoid": (elementwise.sigmoid, 1),
        "softmax": (softmax.softmax, 1),
        "softplus": (elementwise.softplus, 1),
        "sum": (reduce.reduce_sum, 1),
    }
    return functions | {"abs": functions["absolute"], "pow": functions["power"]}


FUNCTIONS: dict[str, tuple[Callable[..., Tensor], int]] = _functions()
"""NumPy name → function, and its number of arguments."""


class Expression:
    """A parsed expression.

    Attributes
    ----------
    output
        Tensor of the whole expression.
    variables
        Name → tensor, in the order of their first use.
    """

    def __init__(self, output: Tensor, variables: dict[str, Tensor]) -> None:
        self.output, self.variables = output, variables

    @cached_property
    def graph(self) -> Graph:
        """The graph with the expression as its output."""
        return Graph.of(self.output)

    @cached_property
    def names(self) -> dict[str, Tensor]:
        """Names of the intermediate results: the letters after the variables, if there are enough.

        Examples
        --------
        >>> e = parse("(a+b)*(b+1)", {"a": np.array(2.0), "b": np.array(1.0)})
        >>> {name: tensor.op for name, tensor in e.names.items()}
        {'c': 'add', 'd': 'add', 'e': 'multiply'}
        """
        intermediate = [node for node in self.graph.nodes if node.op not in LEAVES]
        letters = string.ascii_lowercase
        used = [name for name in self.variables if len(name) == 1 and name in letters]
        first = letters.index(max(used)) + 1 if used else 0
        free = [letter for letter in letters[first:] + letters[:first] if letter not in self.variables]
        return dict(zip(free, intermediate, strict=False)) if len(intermediate) <= len(free) else {}


def parse(text: str, values: Mapping[str, Array]) -> Expression:
    """Read an expression.

    Parameters
    ----------
    text
        As in Python with NumPy's functions: ``tanh(a*x + b)``, ``maximum(a, 0)**2``, ``sum(a * [1, 2, 3])``.
    values
        The value of each variable.

    Returns
    -------
    Expression

    Raises
    ------
    ArgumentError
        For text that is no such expression, or a name without a value; the message shows the place.

    Examples
    --------
    >>> parse("2 * a", {"a": np.array(3.0)}).output.compute()
    6.0
    """
    reader = _Reader(" ".join(text.split()), values)
    expression = reader.read()
    unused = [name for name in values if name not in expression.variables]
    if unused:
        raise ArgumentError(f"{unused[0]} has a value, but the expression does not use it:\n    {reader.text}")
    return expression


def parse_value(text: str) -> tuple[str, Array]:
    """Read ``name=number`` or ``name=[number, ...]``.

    Examples
    --------
    >>> parse_value("a=2")
    ('a', array(2.))
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name.isidentifier():
        raise ArgumentError(f"{text!r} is no value: write it as a=2 or a=[1,2,3], without spaces.")
    try:
        array = np.array(ast.literal_eval(value))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ArgumentError(f"the value of {name} is a number or a list of numbers, got {value!r}.") from None
    if array.dtype.kind not in "iuf" or not array.size:
        raise ArgumentError(f"the value of {name} is a real number or a list of them, got {value!r}.")
    return name, array.astype(np.float64)


class _Reader:
    def __init__(self, text: str, values: Mapping[str, Array]) -> None:
        self.text, self.values = text, values
        self.variables: dict[str, Tensor] = {}

    def read(self) -> Expression:
        if not self.text:
            raise ArgumentError("the expression is empty.")
        try:
            body = ast.parse(self.text, mode="eval").body
            with located(Origin("expression", 1, self.text)):
                output = self.tensor(body)
        except SyntaxError as error:
            place = max((error.offset or 1) - 1, 0)
            self.fail(f"this is no expression: {error.msg}", place, place + 1)
        except (RecursionError, MemoryError):
            raise ArgumentError("the expression is nested too deeply.") from None
        return Expression(output, self.variables)

    def tensor(self, node: ast.AST) -> Tensor:
        """The tensor of a part of the expression."""
        if isinstance(node, ast.Constant | ast.List | ast.Tuple):
            return self.number(node)
        if isinstance(node, ast.Name):
            return self.name(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd):
            return self.tensor(node.operand)
        if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
            if isinstance(node.operand, ast.Constant):
                return constant(-self.number(node.operand).value)
            return self.apply(node, OPS[OPERATORS[type(node.op)]], [node.operand])
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return self.apply(node, OPS[OPERATORS[type(node.op)]], [node.left, node.right])
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
            self.wrong(node, "^ is not a power: write **")
        if isinstance(node, ast.Call):
            return self.call(node)
        self.wrong(node, f"a {_word(node)} is not allowed; there are numbers, names, {SIGNS}, lists and functions")

    def number(self, node: ast.Constant | ast.List | ast.Tuple) -> Tensor:
        try:
            numbers = np.array(ast.literal_eval(node))
            if numbers.dtype.kind in "iuf" and numbers.size:
                return constant(numbers.astype(np.float64))
        except (ValueError, TypeError, OverflowError):
            pass
        self.wrong(node, "this is no real number, nor a list of them")

    def name(self, node: ast.Name) -> Tensor:
        name = node.id
        if name not in self.variables:
            if name in self.values:
                self.variables[name] = array(self.values[name], name=name)
            elif name == "pi":
                return constant(np.float64(np.pi))
            elif name in FUNCTIONS:
                self.wrong(node, f"{name} is a function: call it, as in {name}(...)")
            else:
                self.wrong(node, f"{name} has no value: add {name}=NUMBER after the expression")
        return self.variables[name]

    def call(self, node: ast.Call) -> Tensor:
        function = node.func
        place = function
        while isinstance(place, ast.Attribute):
            place = place.value
        if not isinstance(place, ast.Name) or (place is not function and place.id not in MODULES):
            self.wrong(function, "only functions can be called, as in sin(a) or np.sin(a)")
        name = function.attr if isinstance(function, ast.Attribute) else place.id
        if name not in FUNCTIONS:
            self.wrong(function, _unknown(name))
        if node.keywords:
            self.wrong(node.keywords[0], "functions take no named arguments here")
        op, arity = FUNCTIONS[name]
        if len(node.args) != arity:
            of_two = f"; of two values: {name}imum" if name in ("max", "min") and len(node.args) == 2 else ""
            self.wrong(node, f"{name} takes {arity} argument{'s' if arity > 1 else ''}, got {len(node.args)}{of_two}")
        return self.apply(node, op, node.args)

    def apply(self, node: ast.AST, op: Callable[..., Tensor], operands: list[ast.expr]) -> Tensor:
        inputs = [self.tensor(operand) for operand in operands]
        try:
            return op(*inputs)
        except GraphError as error:
            self.wrong(node, str(error).rstrip("."))

    def wrong(self, node: Any, message: str) -> NoReturn:
        # ast counts bytes of UTF-8; the mark needs characters.
        data = self.text.encode()
        self.fail(message, len(data[: node.col_offset].decode()), len(data[: node.end_col_offset].decode()))

    def fail(self, message: str, start: int, end: int) -> NoReturn:
        raise ArgumentError(f"{message}:\n    {self.text}\n    {' ' * start}{'^' * max(end - start, 1)}") from None


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, FUNCTIONS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}" if near else "dagtrain draw --functions lists them"
    return f"there is no function {name}; {hint}"


def _word(node: ast.AST) -> str:
    return {
        ast.Compare: "comparison",
        ast.BoolOp: "logical operation",
        ast.Attribute: "dot",
        ast.Subscript: "subscript",
        ast.Lambda: "function definition",
        ast.NamedExpr: "assignment",
        ast.IfExp: "condition",
        ast.Dict: "dictionary",
        ast.Set: "set",
    }.get(type(node), "piece of Python like this")
