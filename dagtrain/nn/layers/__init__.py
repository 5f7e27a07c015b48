"""The layers, in rooms by what they do. A layer that a room adds to its `__all__` is in `dagtrain.nn` too."""

# ruff: noqa: F403
from dagtrain.nn.layers import (
    attention,
    augmentation,
    convolution,
    dense,
    embedding,
    global_pooling,
    merging,
    mixing,
    noise,
    nonlinear,
    normalization,
    pooling,
    positions,
    recurrent,
    reshaping,
    resizing,
    scaling,
    sequences,
    tables,
    transformer,
    warping,
    wrapping,
)
from dagtrain.nn.layers.attention import *
from dagtrain.nn.layers.augmentation import *
from dagtrain.nn.layers.convolution import *
from dagtrain.nn.layers.dense import *
from dagtrain.nn.layers.embedding import *
from dagtrain.nn.layers.global_pooling import *
from dagtrain.nn.layers.merging import *
from dagtrain.nn.layers.mixing import *
from dagtrain.nn.layers.noise import *
from dagtrain.nn.layers.nonlinear import *
from dagtrain.nn.layers.normalization import *
from dagtrain.nn.layers.pooling import *
from dagtrain.nn.layers.positions import *
from dagtrain.nn.layers.recurrent import *
from dagtrain.nn.layers.reshaping import *
from dagtrain.nn.layers.resizing import *
from dagtrain.nn.layers.scaling import *
from dagtrain.nn.layers.sequences import *
from dagtrain.nn.layers.tables import *
from dagtrain.nn.layers.transformer import *
from dagtrain.nn.layers.warping import *
from dagtrain.nn.layers.wrapping import *

__all__: list[str] = []
__all__ += attention.__all__
__all__ += augmentation.__all__
__all__ += convolution.__all__
__all__ += dense.__all__
__all__ += embedding.__all__
__all__ += global_pooling.__all__
__all__ += merging.__all__
__all__ += mixing.__all__
__all__ += noise.__all__
__all__ += nonlinear.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += positions.__all__
__all__ += recurrent.__all__
__all__ += reshaping.__all__
__all__ += resizing.__all__
__all__ += scaling.__all__
__all__ += sequences.__all__
__all__ += tables.__all__
__all__ += transformer.__all__
__all__ += warping.__all__
__all__ += wrapping.__all__
