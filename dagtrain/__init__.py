"""dagtrain: computational graphs and distributed training on Dask."""

from dagtrain import face as _face
from dagtrain.graph import Graph, Spec, Tensor, array, input, scope
from dagtrain.ops.index import gather, one_hot, scatter_add
from dagtrain.trace import scan, trace
