"""Shapes and dtypes of outputs and targets that losses and metrics take."""

from __future__ import annotations

from dagtrain.errors import DTypeError, ShapeError
from dagtrain.nn.values import Values

__all__ = ["aligned", "labels_for"]


def labels_for(name: str, outputs: Values, labels: Values) -> Values:
    """Check labels against logits: whole numbers, one axis less."""
    if outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise ShapeError(
            f"{name} needs outputs of shape (samples, classes) with two classes or more, got {outputs.shape}. "
            "With one output a sample, use binary_cross_entropy or binary_accuracy."
        )
    if labels.dtype.kind not in "iu":
        raise DTypeError(
            f"{name} needs labels that are whole numbers (one class number a sample), got {labels.dtype}. Cast with y.astype(np.int64)."
        )
    if labels.shape != outputs.shape[:-1]:
        hint = " One-hot labels? Take np.argmax(y, -1)." if labels.shape == outputs.shape else ""
        raise ShapeError(f"{name}: outputs of shape {outputs.shape} need labels of shape {outputs.shape[:-1]}, got {labels.shape}.{hint}")
    return labels


def aligned(name: str, outputs: Values, targets: Values) -> tuple[Values, Values]:
    """Outputs and targets in one shape (``(n, 1)`` and ``(n,)`` count as the same) and in the outputs' dtype."""
    if outputs.dtype.kind != "f":
        raise DTypeError(f"{name} needs outputs that are floats, got {outputs.dtype}.")
    if outputs.shape != targets.shape:
        if outputs.shape == (*targets.shape, 1):
            outputs = outputs.reshape(targets.shape)
        elif targets.shape == (*outputs.shape, 1):
            targets = targets.reshape(outputs.shape)
        else:
            # NumPy would broadcast many such pairs, (n, 1) against (n,) to (n, n), and the loss would mean nothing.
            raise ShapeError(f"{name}: outputs of shape {outputs.shape} need targets of the same shape, got {targets.shape}.")
    return outputs, targets if targets.dtype == outputs.dtype else targets.astype(outputs.dtype)
