"""A finished computational graph: named inputs, named outputs, and everything between them.

    inputs ──▶ nodes in topological order ──▶ outputs

A `Graph` is a value: immutable, compared by its content, picklable, with a key (SHA-256 of what it computes) that is the same in every
process and on every machine.
"""

from __future__ import annotations

import copyreg
import hashlib
import itertools
from collections.abc import Container, Iterable, Mapping
from functools import cached_property
from typing import Any

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError, GraphError
from dagtrain.graph.origin import Origin
from dagtrain.graph.protocols import DASK, PLAN, VERIFY, Drawable
from dagtrain.graph.spec import Spec
from dagtrain.graph.tensor import LEAVES, Tensor, make
from dagtrain.graph.tensor import input as new_input
from dagtrain.graph.walk import rebuild, topological

__all__ = ["Graph", "unused"]


class Graph(Drawable):
    """Named inputs → named outputs.

    Parameters
    ----------
    inputs
        Name → ``input`` leaf, in the order of the call. Leaves that no output needs are allowed.
    outputs
        Name → tensor, in the order of the results.

    Raises
    ------
    GraphError
        If an output needs an ``input`` leaf that is not among the inputs, or an input is not an ``input`` leaf.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> graph = dt.trace(lambda x: np.tanh(x) + 1, dt.Spec((2,), np.dtype("f4")))
    >>> print(graph)
    graph(x: float32[2]) -> (output: float32[2])
      %0 = input(name='x')                                  float32[2]
      %1 = tanh(%0)                                         float32[2]
      %2 = constant(1.0)                                    float32[]
      %3 = add(%1, %2)                                      float32[2]
      return output=%3
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    def __init__(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        self.__dict__["inputs"] = dict(inputs)
        self.__dict__["outputs"] = dict(outputs)
        for name, leaf in self.inputs.items():
            if leaf.op != "input":
                raise GraphError(f"the graph's input {name!r} is {leaf!r}; only leaves made by dagtrain.input can be inputs.")
        if not self.outputs:
            raise GraphError("a graph needs at least one output.")
        leaves = set(self.inputs.values())
        for node in self.nodes:
            if node.op == "input" and node not in leaves and node.attribute("row"):
                raise GraphError(
                    f"a value that depends on one row of {node.name!r} left the function under vmap that it belongs to, through a "
                    "variable or the update of a layer's state: return it as a result of that function."
                )
            if node.op == "input" and node not in leaves:
                raise GraphError(
                    f"the outputs need the input {node.name!r} ({node.spec}, made at {node.origin}), which is not among the "
                    f"graph's inputs {list(self.inputs)}. Add it, or give it a value."
                )

    @classmethod
    def of(cls, *outputs: Tensor, **named: Tensor) -> Graph:
        """Graph of these tensors; its inputs are the ``input`` leaves they need, in topological order; equal names are numbered."""
        by_name = {(t.name or f"output_{i}") if len(outputs) > 1 else "output": t for i, t in enumerate(outputs)}
        if len(by_name) < len(outputs):
            by_name = {f"output_{i}": t for i, t in enumerate(outputs)}
        by_name.update(named)
        leaves: dict[str, Tensor] = {}
        for node in topological(by_name.values()):
            if node.op == "input":
                leaves[unused(str(node.name), leaves)] = node
        return cls(leaves, by_name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise GraphError(f"graphs never change: cannot set {name!r}.")

    @cached_property
    def nodes(self) -> tuple[Tensor, ...]:
        """All nodes, inputs first: the graph's inputs, then the nodes that the outputs need, in topological order."""
        return tuple(topological([*self.inputs.values(), *self.outputs.values()]))

    @cached_property
    def key(self) -> str:
        """SHA-256 of what the graph computes; the same in any process on any machine."""
        lines = [f"in {name}={self._index[leaf]}" for name, leaf in self.inputs.items()]
        for node in self.nodes:
            pairs = node.attributes and tuple(pair for pair in node.attributes if pair[0] != "serial")
            lines.append(f"{node.op} {[self._index[i] for i in node.inputs]} {pairs!r} {node.spec}")
        lines += [f"out {name}={self._index[t]}" for name, t in self.outputs.items()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @cached_property
    def _index(self) -> dict[Tensor, int]:
        return {node: i for i, node in enumerate(self.nodes)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<Graph {self.key[:16]}: {len(self.inputs)} inputs, {len(self.nodes)} nodes, {len(self.outputs)} outputs>"

    def __len__(self) -> int:
        return len(self.nodes)

    def __str__(self) -> str:
        head = ", ".join(f"{name}: {leaf.spec}" for name, leaf in self.inputs.items())
        tail = ", ".join(f"{name}: {t.spec}" for name, t in self.outputs.items())
        lines = [f"graph({head}) -> ({tail})"]
        for i, node in enumerate(self.nodes):
            lines.append(f"  %{i} = {self._call_text(node)}".ljust(56) + str(node.spec))
        lines.append("  return " + ", ".join(f"{name}=%{self._index[t]}" for name, t in self.outputs.items()))
        return "\n".join(lines)

    def _call_text(self, node: Tensor) -> str:
        if node.op == "constant":
            return f"constant({_brief(node)})"
        words = [f"%{self._index[i]}" for i in node.inputs]
        words += [f"{k}={_brief(node) if k == 'value' else repr(v)}" for k, v in node.attributes if k != "serial"]
        return f"{node.op}({', '.join(words)})"

    # ---- new graphs of this one

    def replace(self, became: Mapping[Tensor, Tensor]) -> Graph:
        """The graph with its outputs taken from `became`."""
        return Graph(self.inputs, {name: became.get(t, t) for name, t in self.outputs.items()})

    def select(self, *names: str) -> Graph:
        """The graph with only these outputs."""
        return Graph(self.inputs, {name: self.outputs[one_of("output", name, self.outputs)] for name in names})

    def apply(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The graph's outputs with its inputs replaced by other tensors of the same specs."""
        if len(values) != len(self.inputs):
            raise ArgumentError(f"the graph has {len(self.inputs)} inputs {list(self.inputs)}, got {len(values)} values.")
        for (name, leaf), value in zip(self.inputs.items(), values, strict=True):
            if value.spec != leaf.spec:
                raise GraphError(f"input {name!r} is {leaf.spec}, got {value.spec}.")
        became = rebuild(self.outputs.values(), dict(zip(self.inputs.values(), values, strict=True)))
        return tuple(became[t] for t in self.outputs.values())

    # ---- methods that other folders fill in

    def verify(self) -> Graph:
        """Check every node against its op's own rules; return the graph."""
        return VERIFY.value(self)

    def plan(self, **kwargs: Any) -> Any:
        """Compile to straight-line NumPy; see `dagtrain.plan.Plan`."""
        return PLAN.value(self, **kwargs)

    def to_delayed(self, *args: Any, **kwargs: Any) -> Any:
        """One `dask.delayed.Delayed` for each output; see `dagtrain.tasks.to_delayed`."""
        return DASK.value.to_delayed(self, *args, **kwargs)

    # ---- pickling, without recursion

    def __reduce__(self) -> tuple[Any, ...]:
        records = [(n.op, [self._index[i] for i in n.inputs], dict(n.attributes), n.spec, tuple(n.origin)) for n in self.nodes]
        ins = {name: self._index[leaf] for name, leaf in self.inputs.items()}
        outs = {name: self._index[t] for name, t in self.outputs.items()}
        return (_from_records, (records, ins, outs))


def unused(name: str, names: Container[str]) -> str:
    """The name, with the first number that makes it new."""
    return next(n for n in itertools.chain([name], (f"{name}_{i}" for i in itertools.count(2))) if n not in names)


def _from_records(records: Iterable[Any], ins: dict[str, int], outs: dict[str, int]) -> Graph:
    nodes: list[Tensor] = []
    for op, sources, attributes, spec, origin in records:
        if op in LEAVES and "serial" in attributes:
            # Serial numbers are unique in one process only: one of another process could be a different leaf's here.
            attributes["serial"] = new_input("").attribute("serial")
        nodes.append(make(op, tuple(nodes[i] for i in sources), attributes, Spec(*spec), Origin(*origin)))
    return Graph({n: nodes[i] for n, i in ins.items()}, {n: nodes[i] for n, i in outs.items()})


def only_output(graph: Graph) -> Tensor:
    """The only output of a graph; a single tensor is unpickled by it."""
    return next(iter(graph.outputs.values()))


def _reduce_tensor(tensor: Tensor) -> tuple[Any, ...]:
    return (only_output, (Graph.of(tensor),))


copyreg.pickle(Tensor, _reduce_tensor)  # not a method of Tensor: its module does not import Graph


def _brief(node: Tensor) -> str:
    value = node.value
    if value.size == 1:
        return repr(value.item())
    return f"{value.dtype.name}{list(value.shape)}"
