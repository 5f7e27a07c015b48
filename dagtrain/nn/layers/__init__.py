"""The layers, in rooms by what they do. A layer that a room adds to its `__all__` is in `dagtrain.nn` too."""

# ruff: noqa: F403
from dagtrain.nn.layers import (
    convolution,
    dense,
    global_pooling,
    merging,
    noise,
    normalization,
    pooling,
    reshaping,
    resizing,
)
from dagtrain.nn.layers.convolution import *
from dagtrain.nn.layers.dense import *
from dagtrain.nn.layers.global_pooling import *
from dagtrain.nn.layers.merging import *
from dagtrain.nn.layers.noise import *
from dagtrain.nn.layers.normalization import *
from dagtrain.nn.layers.pooling import *
from dagtrain.nn.layers.reshaping import *
from dagtrain.nn.layers.resizing import *

__all__: list[str] = []
__all__ += convolution.__all__
__all__ += dense.__all__
__all__ += global_pooling.__all__
__all__ += merging.__all__
__all__ += noise.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += reshaping.__all__
__all__ += resizing.__all__
