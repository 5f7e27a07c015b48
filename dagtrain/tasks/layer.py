"""A tensor as a layer of a Dask graph that is lowered as late as possible, so that tensors computed together are cut together."""

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
    """The tasks of one tensor, made when somebody looks at them."""

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
    """Lower all tensors of a graph together; Dask calls this with what is computed at once."""
    if not isinstance(graph, HighLevelGraph):
        return graph
    ours = {name: layer for name, layer in graph.layers.items() if isinstance(layer, TensorLayer)}
    if not ours:
        return graph
    tensors = {key_of(layer.tensor): layer.tensor for layer in ours.values()}
    asked = set(flatten(keys if isinstance(keys, list) else [keys]))
    tasks, found = lower_tensors(list(tensors.values()), named={t: key for key, t in tensors.items() if key in asked})
    moved = {key: found[t] for key, t in tensors.items() if found[t] != key}
    together = MaterializedLayer(tasks, annotations=next(iter(ours.values())).annotations)
    layers = {_TOGETHER: together} | {name: _redirected(layer, moved) for name, layer in graph.layers.items() if name not in ours}
    depend = {n: {_TOGETHER if d in ours else d for d in found} for n, found in graph.dependencies.items() if n not in ours}
    return HighLevelGraph(layers, {_TOGETHER: set()} | depend)


def _redirected(layer: Any, moved: Mapping[Any, Any]) -> Any:
    """A layer that reads tensors, reading them from other keys.

    The key of a tensor alone would stand for different tasks whenever it is computed together with others, which Dask's scheduler warns of.
    """
    if not moved or not any(isinstance(node, GraphNode) and node.dependencies & moved.keys() for node in layer.values()):
        return layer
    nodes = {key: node.substitute(moved) if isinstance(node, GraphNode) else node for key, node in layer.items()}
    return MaterializedLayer(nodes, annotations=layer.annotations)
