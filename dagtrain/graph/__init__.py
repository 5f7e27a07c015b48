"""The computational graph itself: specs, immutable interned nodes, graphs, and the only traversals."""

from dagtrain.graph.bodies import bodies, with_bodies
from dagtrain.graph.graph import Graph, unused
from dagtrain.graph.origin import Origin, located, scope
from dagtrain.graph.protocols import Drawable, Slot
from dagtrain.graph.spec import Array, Spec, held, make_spec, refuse_masked, spec_of
from dagtrain.graph.tensor import LEAVES, PART, Tensor, Value, array, births, constant, input, make
from dagtrain.graph.walk import ancestors_of, rebuild, remake, topological, users

__all__ = [
    "LEAVES",
    "PART",
    "Array",
    "Drawable",
    "Graph",
    "Origin",
    "Slot",
    "Spec",
    "Tensor",
    "Value",
    "ancestors_of",
    "array",
    "births",
    "bodies",
    "constant",
    "held",
    "input",
    "located",
    "make",
    "make_spec",
    "rebuild",
    "refuse_masked",
    "remake",
    "scope",
    "spec_of",
    "topological",
    "unused",
    "users",
    "with_bodies",
]
