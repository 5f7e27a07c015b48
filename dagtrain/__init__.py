"""dagtrain: computational graphs and distributed training on Dask."""

from dagtrain import face as _face
from dagtrain.functional import compile, grad, gradcheck, value_and_grad
from dagtrain.graph import Graph, Spec, Tensor, array, input, scope
from dagtrain.ops.elementwise import stop_gradient
from dagtrain.ops.index import gather, one_hot, scatter_add
from dagtrain.ops.random import fold_in, key
from dagtrain.trace import scan, trace
