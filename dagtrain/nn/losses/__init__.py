"""Losses by name: cost functions of a model's outputs and the targets; see `dagtrain.nn.losses.loss`."""

from dagtrain.nn.losses.binary import binary_cross_entropy, binary_focal_cross_entropy, hinge, squared_hinge
from dagtrain.nn.losses.classes import categorical_hinge, cross_entropy, focal_cross_entropy, kl_divergence
from dagtrain.nn.losses.differences import huber, log_cosh, mean_absolute_error, mean_squared_error, poisson, quantile
from dagtrain.nn.losses.embeddings import contrastive, cosine_similarity, triplet
from dagtrain.nn.losses.loss import LOSSES, Loss, find
from dagtrain.nn.losses.sequences import ctc
from dagtrain.nn.sums import refuse_outer, sum_and_weight

__all__ = [
    "LOSSES",
    "Loss",
    "binary_cross_entropy",
    "binary_focal_cross_entropy",
    "categorical_hinge",
    "contrastive",
    "cosine_similarity",
    "cross_entropy",
    "ctc",
    "find",
    "focal_cross_entropy",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_squared_error",
    "poisson",
    "quantile",
    "refuse_outer",
    "squared_hinge",
    "sum_and_weight",
    "triplet",
]
