"""The layers, in rooms by what they do."""

from dagtrain.nn.layers.dense import Activation, Dense
from dagtrain.nn.layers.merging import Add, Concatenate, Multiply
from dagtrain.nn.layers.noise import Dropout
from dagtrain.nn.layers.normalization import BatchNorm, LayerNorm
from dagtrain.nn.layers.reshaping import Flatten

__all__ = ["Activation", "Add", "BatchNorm", "Concatenate", "Dense", "Dropout", "Flatten", "LayerNorm", "Multiply"]
