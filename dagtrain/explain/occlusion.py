"""Which part of a picture decides: a square of it is covered, and the model's output for its class falls.

    picture ──▶ covered here, here, here, … ──▶ model ──▶ output of the class: how far it falls, for each place

It needs nothing of the model but its outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dagtrain.arguments import one_of, whole
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.explain.activations import program_of
from dagtrain.graph import Array
from dagtrain.hinting import hinted

if TYPE_CHECKING:
    from dagtrain.train import Trainer

__all__ = ["occlusion"]

_ROWS = 1024
"""Covered pictures that are computed together."""


@hinted
def occlusion(
    trainer: Trainer,
    x: Any,
    size: int = 2,
    stride: int = 1,
    value: float = 0.0,
    target: Any = None,
    output: str | None = None,
    column: str | None = None,
) -> Array:
    """How far the output for a class falls where a square of a picture is covered: the mean over the squares that cover an element.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", arXiv:1311.2901, section 4.2, with the outputs that
    the model is trained for in the place of probabilities, which do not fall where they are near 1.

    Parameters
    ----------
    trainer
        Of a model of pictures.
    x
        Pictures, (samples, height, width) or (samples, height, width, channels); or a dict of inputs, of which `column` names the pictures.
    size, stride
        Height and width of the square, and how far apart the squares are. The last square ends at the border.
    value
        What covers it.
    target
        The class, one for all or one for each sample; by default that with the highest output.
    output
        Name of the output, of a model with several.
    column
        Name of the pictures in a dict.

    Returns
    -------
    ndarray
        (samples, height, width), above 0 where covering lowers the output.

    Examples
    --------
    >>> import dagtrain as dt
    >>> model = dt.nn.Sequential([dt.nn.Lambda(lambda x: x[:, :1, 0])], input_shape=(2, 2))
    >>> trainer = dt.Trainer(model, loss="mean_squared_error")
    >>> occlusion(trainer, np.ones((1, 2, 2)), size=1)
    array([[[1., 0.],
            [0., 0.]]])
    """
    program_of(trainer)
    if isinstance(x, Mapping | tuple) != (column is not None) or (column is not None and not isinstance(x, Mapping)):
        raise ArgumentError("occlusion: of several inputs give a dict, of which column= names the pictures; else give pictures alone.")
    pictures = np.asarray(x if column is None else x[one_of("input of the model", column, x)])
    if pictures.ndim not in (3, 4):
        raise ShapeError(f"pictures are (samples, height, width) or (samples, height, width, channels), got {pictures.shape}.")
    rows, columns = pictures.shape[1:3]
    size, stride, cover = whole("occlusion: size", size), whole("occlusion: stride", stride), np.asarray(value)
    exact = pictures.dtype.kind not in "iu" or cover.dtype.kind not in "biuf" or (cover.astype(pictures.dtype) == cover).all()
    if cover.dtype.kind not in "biuf" or not np.isfinite(cover).all() or not exact:
        kind = "whole" if pictures.dtype.kind in "iu" else "finite"
        raise ArgumentError(f"occlusion: value is a {kind} number, as the pictures hold, got {value!r}.")

    def outputs(shown: Array) -> Array:
        times = len(shown) // max(1, len(pictures))
        made = trainer.predict(
            shown if column is None else {**{name: np.concatenate([value] * times) for name, value in x.items()}, column: shown}
        )
        if isinstance(made, Mapping):
            if output is None and len(made) > 1:
                raise ArgumentError(f"occlusion: the model has the outputs {', '.join(made)}: name one by output=.")
            made = made[next(iter(made)) if output is None else one_of("output of the model", output, made)]
        elif output is not None:
            raise ArgumentError(f"occlusion: the model has one output, which has no name: leave output={output!r} out.")
        return np.asarray(made).reshape(len(shown), -1)

    whole_picture = outputs(pictures)
    if size > min(rows, columns):
        raise ArgumentError(f"occlusion: a square of {size} × {size} does not fit a picture of {rows} × {columns}.")
    classes = np.asarray(whole_picture.argmax(axis=1) if target is None else target)
    if classes.size != 1 and classes.shape != (len(pictures),):
        raise ArgumentError(f"occlusion: target= is a class for all {len(pictures)} rows or one for each, got the shape {classes.shape}.")
    classes = np.broadcast_to(classes.ravel() if classes.size == 1 else classes, len(pictures))
    if classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= whole_picture.shape[1]:
        raise ArgumentError(f"occlusion: a target is a whole number from 0 to {whole_picture.shape[1] - 1}, got {target!r}.")
    here = np.arange(len(pictures))
    falls, covers = np.zeros(pictures.shape[:3]), np.zeros((rows, columns))
    places = [
        (slice(top, top + size), slice(left, left + size)) for top in _starts(rows, size, stride) for left in _starts(columns, size, stride)
    ]
    together = max(1, _ROWS // len(pictures))
    for first in range(0, len(places), together):
        some = places[first : first + together]
        covered = np.stack([pictures] * len(some))
        for copy, place in zip(covered, some, strict=True):
            copy[:, *place] = value
        results = outputs(covered.reshape(-1, *pictures.shape[1:])).reshape(len(some), *whole_picture.shape)
        for result, place in zip(results, some, strict=True):
            falls[:, *place] += (whole_picture - result)[here, classes][:, None, None]
            covers[place] += 1
    return falls / np.maximum(covers, 1)


def _starts(length: int, size: int, stride: int) -> list[int]:
    """The first element of each square, the last one at the border."""
    return sorted({*range(0, length - size + 1, stride), length - size})
