"""Functions over the axes between samples and channels: convolution, pooling, resizing.

They take tensors or arrays of shape (samples, *lengths, channels) with one, two, three or more lengths. Numbers such as strides are one for
all lengths, or a tuple of one for each. `padding` is ``"valid"`` (none), ``"same"`` (as many windows as lengths divided by strides, rounded
up; an odd element of padding goes to the end), a whole number, or for each length a whole number or a pair (before, after).
"""

from dagtrain.nn.spatial.convolution import conv, conv_transpose, depthwise_conv
from dagtrain.nn.spatial.pooling import adaptive_average_pool, adaptive_max_pool, average_pool, lp_pool, max_pool
from dagtrain.nn.spatial.resizing import resize
from dagtrain.nn.spatial.windows import local_response_norm, patches, patches_transpose

__all__ = [
    "adaptive_average_pool",
    "adaptive_max_pool",
    "average_pool",
    "conv",
    "conv_transpose",
    "depthwise_conv",
    "local_response_norm",
    "lp_pool",
    "max_pool",
    "patches",
    "patches_transpose",
    "resize",
]
