"""`dagtrain draw`: the value and the derivatives of an expression, as a table and as a picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import numpy as np

from dagtrain.cli.expression import FUNCTIONS, Expression, parse, parse_value
from dagtrain.errors import ArgumentError
from dagtrain.graph import LEAVES
from dagtrain.nn.summary import table_lines

__all__ = ["draw_expression", "table"]

DIGITS = 6


class ExpressionCommand(click.Command):
    """A command whose first argument may begin with a minus, as in ``dagtrain draw "-a + b" a=1 b=2``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Mark expressions by a space in front, before click reads them as options."""
        options = {name for parameter in self.params for name in parameter.opts} | {"--help"}
        is_value = False
        marked = []
        for text in args:
            is_option = is_value or text.partition("=")[0] in options or text.startswith("--")
            marked.append(text if is_option or not text.startswith("-") else f" {text}")
            is_value = not is_value and text in options
        return super().parse_args(ctx, marked)


def list_functions(ctx: click.Context, parameter: click.Parameter, flag: bool) -> None:
    """Print the names of the functions, and exit."""
    if flag:
        click.echo(click.wrap_text(", ".join(sorted(FUNCTIONS)), width=80))
        ctx.exit()


@click.command(
    "draw",
    cls=ExpressionCommand,
    short_help="Value, derivatives and picture of an expression.",
    epilog='Example:  dagtrain draw "(a+b)*(b+1)" a=2 b=1 -o e.svg',
)
@click.argument("expression")
@click.argument("values", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--functions", is_flag=True, is_eager=True, expose_value=False, callback=list_functions, help="List the functions to call.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Picture to write: .svg .png .pdf .html .dot .mmd.")
def draw_expression(expression: str, values: tuple[str, ...], output: Path | None) -> None:
    """Print the value and the derivatives of EXPRESSION, and draw its computational graph.

    An expression is made of numbers, names, + - * / // % ** @, parentheses, lists and NumPy's functions by name, as in "tanh(a*x + b)".
    Each name gets a value: a number, as in a=2, or a list, as in x=[1,2,3].
    """
    variables: dict[str, Any] = {}
    for text in values:
        name, value = parse_value(text)
        if name in variables:
            raise ArgumentError(f"{name} is given twice.")
        variables[name] = value
    parsed = parse(expression, variables)
    click.echo("\n".join(table(parsed)))
    if output is not None:
        click.echo(f"\npicture: {_draw(parsed, output)}")


def _draw(expression: Expression, output: Path) -> Path:
    from dagtrain.draw import draw

    if not output.parent.is_dir():
        raise ArgumentError(f"there is no folder {output.parent} to write the picture to.")
    draw(expression.output, output, names=expression.names, values=True)
    return output


def table(expression: Expression) -> list[str]:
    r"""One line for each variable and each op: its name, its expression, its value, and the derivative of the result by it.

    Examples
    --------
    >>> print(*table(parse("(a+b)*(b+1)", {"a": np.array(2.0), "b": np.array(1.0)})), sep="\n")
    name  is     value  ∂e/∂name
    a                2         2
    b                1         5
    c     a + b      3         2
    d     b + 1      2         3
    e     c × d      6         1
    """
    from dagtrain.draw.measure import measure
    from dagtrain.draw.naming import expression as written

    names = {tensor: name for name, tensor in [*expression.names.items(), *expression.variables.items()]}
    names.setdefault(expression.output, "value")
    measured = measure(expression.graph, [], expression.output, local=False)
    top = names[expression.output]
    rows = [("name", "is", "value", f"∂{top}/∂name" if not expression.output.shape else f"∂Σ{top}/∂name")]
    ops = [node for node in expression.graph.nodes if node in names and node.op not in LEAVES]
    for tensor in [*expression.variables.values(), *ops]:
        what = "" if tensor.op in LEAVES else written(tensor, names, (), True)
        rows.append((names[tensor], what, _number(measured.values[tensor]), _number(measured.gradients.get(tensor))))
    return table_lines(rows)


def _number(value: Any) -> str:
    """A number or a list of numbers as short text."""
    if value is None:
        return ""
    with np.printoptions(threshold=6, edgeitems=2, linewidth=1000, formatter={"float_kind": lambda v: f"{v:.{DIGITS}g}"}):
        return re.sub(r"\n\s*", " ", np.array2string(np.asarray(value), separator=", "))
