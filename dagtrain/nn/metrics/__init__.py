"""Metrics: figures of a model's quality. Each is a value of parts that add up over shards, batches and partitions.

    accuracy       parts [hits, samples]    ──sum over shards──▶    value: hits / samples

    means      accuracy, binary_accuracy, top_k_accuracy, perplexity, root_mean_squared_error, r2, …; every loss
    classes    precision, recall, f1, balanced_accuracy, confusion_matrix: counts of actual and predicted classes
    scores     auc, average_precision, expected_calibration_error: counts by bins of scores

The functions compute the value of arrays; their ``__wrapped__``, the `Metric.parts`, gives the parts.
"""

from dagtrain.nn.metrics.classes import balanced_accuracy, confusion_matrix, f1, precision, recall
from dagtrain.nn.metrics.means import (
    accuracy,
    binary_accuracy,
    mean_absolute_percentage_error,
    perplexity,
    r2,
    root_mean_squared_error,
    top_k_accuracy,
)
from dagtrain.nn.metrics.metric import METRICS, Metric, find, mean_of_parts
from dagtrain.nn.metrics.scores import auc, average_precision, expected_calibration_error

__all__ = [
    "METRICS",
    "Metric",
    "accuracy",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "binary_accuracy",
    "confusion_matrix",
    "expected_calibration_error",
    "f1",
    "find",
    "mean_absolute_percentage_error",
    "mean_of_parts",
    "perplexity",
    "precision",
    "r2",
    "recall",
    "root_mean_squared_error",
    "top_k_accuracy",
]
