"""Tensors as Dask collections: the protocol of `dask.compute`, `dask.persist`, `dask.visualize` and `dask.delayed`.

Without arguments ``e.compute()`` runs in this process through a plan and imports no Dask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dagtrain.errors import ArgumentError
from dagtrain.functional import plain
from dagtrain.graph import Graph, Spec, Tensor, topological
from dagtrain.plan import Plan
from dagtrain.tasks.run import run_plan
from dagtrain.tasks.tokens import check_complete, key_of, token_of

__all__ = [
    "compute",
    "dask_graph",
    "dask_keys",
    "dask_layers",
    "dask_optimize",
    "dask_postcompute",
    "dask_postpersist",
    "dask_scheduler",
    "dask_tokenize",
    "persist",
    "to_delayed",
]


def compute(tensor: Tensor, **options: Any) -> Any:
    """The value of a tensor, as an array, or as a number if it is one.

    Parameters
    ----------
    tensor
        Any tensor whose leaves have values.
    **options
        For `dask.compute`, such as ``scheduler=``. Without any, the tensor is computed in this process, unless it needs values that Dask
        computes. The bits are the same.
    """
    check_complete(tensor)
    dask_options = {k: v for k, v in options.items() if v is not None}
    if dask_options or any(node.op == "input" for node in topological([tensor])):
        import dask

        return dask.compute(tensor, traverse=False, **dask_options)[0]
    return plain(run_plan(Plan(Graph.of(tensor)), ())[0])


def persist(tensor: Tensor, **options: Any) -> Tensor:
    """The same tensor with its value computed, or being computed, by Dask; options are those of `dask.persist`."""
    import dask

    return dask.persist(tensor, traverse=False, **options)[0]  # type: ignore[no-any-return]  # dask is not typed


def dask_graph(tensor: Tensor) -> Any:
    """The tensor's Dask graph, not lowered to tasks yet."""
    from dagtrain.tasks.layer import tensor_graph

    return tensor_graph(tensor)


def dask_keys(tensor: Tensor) -> list[Any]:
    """The key of the tensor's value."""
    check_complete(tensor)
    return [key_of(tensor)]


def dask_layers(tensor: Tensor) -> tuple[str, ...]:
    """The layer of the graph that holds the tensor's key."""
    return (key_of(tensor),)


def dask_tokenize(tensor: Tensor) -> tuple[str, str]:
    """What `dask.base.tokenize` hashes: the content, the same in every process."""
    return ("dagtrain.Tensor", token_of(tensor))


def dask_postcompute(tensor: Tensor) -> tuple[Any, tuple[Any, ...]]:
    """Function and arguments that make the user's value of Dask's results."""
    return _value, ()


def _value(results: Sequence[Any]) -> Any:
    return plain(results[0])


def dask_postpersist(tensor: Tensor) -> tuple[Any, tuple[Any, ...]]:
    """Function and arguments that make a tensor of the graph that holds its value."""
    return _persisted, (tensor.name or tensor.op, tensor.spec, key_of(tensor))


def _persisted(graph: Mapping[Any, Any], name: str, spec: Spec, key: Any, *, rename: Mapping[str, str] | None = None) -> Tensor:
    from dask.base import replace_name_in_key

    from dagtrain.tasks.external import DaskSource, dask_leaf

    return dask_leaf(name, spec, DaskSource(replace_name_in_key(key, rename) if rename else key, graph, ready=True))


def dask_optimize() -> Any:
    """The function that Dask calls with the graph of all tensors of one computation."""
    from dagtrain.tasks.layer import optimize

    return optimize


def dask_scheduler() -> Any:
    """The scheduler that Dask uses for tensors by default."""
    from dask.threaded import get

    return get


def to_delayed(graph: Graph, *inputs: Any, granularity: str | float = "fragment", **named: Any) -> Any:
    """What `Graph.to_delayed` does."""
    from dagtrain.tasks.delayed import to_delayed as make

    if not isinstance(graph, Graph):
        raise ArgumentError(f"to_delayed takes a Graph, not a {type(graph).__name__}.")
    return make(graph, *inputs, granularity=granularity, **named)
