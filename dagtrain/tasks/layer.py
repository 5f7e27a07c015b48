"""A tensor as a layer of a Dask graph, lowered as late as possible, so that tensors computed together are cut together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer
from dask.task_spec import GraphNode

from dagtrain.graph import Tensor
from dagtrain.tasks.lowering import lower_tensors
from dagtrain.tasks.tokens import key_of

__all__ = ["TensorLayer", "optimize", "tensor_graph"]

_TOGETHER = "dagtrain"


class TensorLayer(Layer):  # type: ignore[misc]  # dask is not typed
    """The tasks of one tensor, made on first access."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.tensor = tensor

    @cached_property
    def tasks(self) -> dict[Any, Any]:
        """The tasks of this tensor alone."""
        return lower_tensors([self.tensor], named={self.tensor: key_of(self.tensor)})[0]

    def __getitem__(self, key: Any) -> Any:
        return self.tasks[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def is_materialized(self) -> bool:
        """Whether the tasks are made."""
        return "tasks" in self.__dict__

    def get_output_keys(self) -> set[Any]:
        """The key of the tensor: other layers refer to no other."""
        return {key_of(self.tensor)}

    def __reduce__(self) -> tuple[Any, ...]:
        return (_unpickled, (self.tensor, self.annotations))


def _unpickled(tensor: Tensor, annotations: Any) -> TensorLayer:
    layer = TensorLayer(tensor)
    layer.annotations = annotations
    return layer


def tensor_graph(tensor: Tensor) -> Any:
    """The Dask graph of one tensor."""
    name = key_of(tensor)
    return HighLevelGraph({name: TensorLayer(tensor)}, {name: set()})


def optimize(graph: Any, keys: Any, **kwargs: Any) -> Any:
    """Lower all tensors of a graph together; Dask calls this with the graph of one computation."""
    if not isinstance(graph, HighLevelGraph):
        return graph
    ours = {name: layer for name, layer in graph.layers.items() if isinstance(layer, TensorLayer)}
    if not ours:
        return graph
    tensors = {key_of(layer.tensor): layer.tensor for layer in ours.values()}
    requested = set(flatten(keys if isinstance(keys, list) else [keys]))
    tasks, new_keys = lower_tensors(list(tensors.values()), named={t: key for key, t in tensors.items() if key in requested})
    moved = {key: new_keys[t] for key, t in tensors.items() if new_keys[t] != key}
    together = MaterializedLayer(tasks, annotations=next(iter(ours.values())).annotations)
    layers = {_TOGETHER: together} | {name: _redirected(layer, moved) for name, layer in graph.layers.items() if name not in ours}
    depend = {n: {_TOGETHER if d in ours else d for d in names} for n, names in graph.dependencies.items() if n not in ours}
    return HighLevelGraph(layers, {_TOGETHER: set()} | depend)


def _redirected(layer: Any, moved: Mapping[Any, Any]) -> Any:
    """A layer that reads tensors, changed to read them from their new keys.

    A tensor's own key would name different tasks whenever the tensor is computed with others; Dask's scheduler warns of that.
    """
    if not moved or not any(isinstance(node, GraphNode) and node.dependencies & moved.keys() for node in layer.values()):
        return layer
    nodes = {key: node.substitute(moved) if isinstance(node, GraphNode) else node for key, node in layer.items()}
    return MaterializedLayer(nodes, annotations=layer.annotations)
