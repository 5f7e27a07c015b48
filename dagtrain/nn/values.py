"""Ops applied to tensors or to arrays: a tensor gives a node of the graph, arrays give the kernel's value.

So a layer is one function for both: traced into a graph for training, or called on arrays to inspect its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.graph import Spec, Tensor, spec_of
from dagtrain.ops import Op, parts

__all__ = ["Values", "applied", "apply_op", "apply_parts", "floating", "spread"]

Values = Any
"""A tensor or a NumPy array."""


def apply_op(op: Op, *values: Values, **attributes: Any) -> Values:
    """A node if any value is a tensor, else the kernel's own result.

    Examples
    --------
    >>> from dagtrain.ops.elementwise import relu
    >>> apply_op(relu, np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    if any(isinstance(value, Tensor) for value in values):
        return op(*values, **attributes)
    return op.kernel(*map(np.asarray, values), **attributes)


def applied(op: Op, *values: Values, **attributes: Any) -> list[Values]:
    """The outputs of an op with several; shapes of arrays are checked as those of tensors are."""
    if any(isinstance(value, Tensor) for value in values):
        return parts(op(*values, **attributes))
    arrays = [np.asarray(value) for value in values]
    op.infer(*map(spec_of, arrays), **attributes)
    return list(op.kernel(*arrays, **attributes))


def apply_parts(op: Op, *values: Values, **attributes: Any) -> Sequence[Values]:
    """The outputs of an op with several: nodes if any value is a tensor, else arrays."""
    results = apply_op(op, *values, **attributes)
    return parts(results) if isinstance(results, Tensor) else results


def floating(x: Values, dtype: Any) -> Values:
    """Floats as they are, other numbers in this dtype."""
    return x if x.dtype.kind == "f" else x.astype(dtype)


def spread(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs of a layer, which may be in one list or tuple."""
    return tuple(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], list | tuple) and not isinstance(inputs[0], Spec) else inputs
