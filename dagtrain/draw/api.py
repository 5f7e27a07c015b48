"""`draw`: one function for everything that can be drawn, and what a notebook shows."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dagtrain.arguments import one_of
from dagtrain.draw.computational import computational_diagram
from dagtrain.draw.diagram import Diagram
from dagtrain.draw.measure import Measures, cheap, choose_target, measure, ordered
from dagtrain.draw.picture import Picture
from dagtrain.draw.render import TIMEOUT
from dagtrain.draw.tasks import is_task_graph, task_diagram
from dagtrain.errors import ArgumentError, DagtrainError
from dagtrain.graph import Graph, Tensor

__all__ = ["diagram_of", "draw", "mimebundle"]


def draw(obj: Any, filename: str | os.PathLike[str] | None = None, **options: Any) -> Picture:
    """Draw a tensor, a graph, anything that Dask can compute, or anything that has a method ``diagram``.

    Parameters
    ----------
    obj
        A `Tensor` or `Graph` (drawn with its values and derivatives), a Dask collection, or a task graph as a dict; or an object with
        a method ``diagram(**options)`` that gives its `Diagram`, as a placement and a step graph have.
    filename
        Where to write the picture; its ending tells the format (svg, png, pdf, html, dot, mmd).
    **options
        Any picture: ``format``, ``timeout``, ``title``, ``legend``, ``direction``, ``collapse``.
        A computational graph: ``inputs`` (values by name), ``values`` and ``gradients`` (None decides by cost), ``of`` (the
        output to differentiate), ``names``, ``fold``, ``bodies``, ``constants``; see `computational_diagram`.
        A task graph: ``overlay``, ``group``, ``optimize``; see `task_diagram`. An object with a diagram: those of its method.

    Returns
    -------
    Picture

    Examples
    --------
    >>> import dagtrain as dt
    >>> a, b = dt.array(2.0, name="a"), dt.array(1.0, name="b")
    >>> draw((a + b) * (b + 1))
    <Picture: 6 nodes, 6 edges>
    """
    format, timeout = options.pop("format", None), options.pop("timeout", TIMEOUT)
    return Picture.of(diagram_of(obj, **options), filename, format, timeout)


def diagram_of(obj: Any, **options: Any) -> Diagram:
    """The diagram that `draw` lays out; takes all its options but ``format`` and ``timeout``."""
    if isinstance(obj, Tensor | Graph):
        graph = obj if isinstance(obj, Graph) else Graph.of(obj)
        numbers = _options(_measures)
        _check(options, [*numbers, *_options(computational_diagram)])
        measures = _measures(graph, **{name: options.pop(name) for name in numbers if name in options})
        return computational_diagram(graph, measures, **options)
    if hasattr(type(obj), "diagram"):  # of the type: a delayed value has every attribute
        diagram: Diagram = obj.diagram(**options)
        return diagram
    if is_task_graph(obj):
        _check(options, _options(task_diagram))
        return task_diagram(obj, **options)
    raise ArgumentError(
        f"cannot draw a {type(obj).__name__}: give a tensor, a Graph, a Dask collection, a task graph as a dict, "
        "or what has a method diagram(**options) that gives a Diagram."
    )


def _options(*functions: Callable[..., Any]) -> list[str]:
    """The names that these functions take by name only."""
    return [name for function in functions for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY]


def _check(options: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in options:
        one_of("option of draw", name, [*known, "format", "timeout"])


def _measures(
    graph: Graph,
    *,
    inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    values: bool | None = None,
    gradients: bool | None = None,
    of: str | None = None,
) -> Measures:
    target = choose_target(graph, of)
    if inputs is None and graph.inputs:
        if values or gradients:
            raise ArgumentError(f"the graph has inputs {list(graph.inputs)}: give their values as inputs={{name: array}} to draw values.")
        return Measures()
    if values is False or (values is None and not gradients and inputs is None and not cheap(graph)):
        return Measures()
    arrays = ordered(graph, inputs if inputs is not None else ())
    derivatives = gradients is not False
    try:
        return measure(graph, arrays, target, gradients=derivatives, local=derivatives)
    except DagtrainError:
        if values or gradients or inputs is not None:
            raise
        # No numbers were requested: a graph that cannot be computed is drawn without them.
        return Measures()


def mimebundle(obj: Any) -> dict[str, str]:
    """What a notebook shows for a tensor or graph; never raises."""
    try:
        return {**draw(obj)._repr_mimebundle_(), "text/plain": repr(obj)}
    except Exception as error:
        # A notebook calls this without the user's asking: the text form always works.
        return {"text/plain": f"{obj!r}\nThe picture could not be drawn: {error}"}
