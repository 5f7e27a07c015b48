"""Layers around others, for sequences: in both directions, at each step, with a state that goes on in the next batch; and masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dagtrain.arguments import is_number, one_of, whole
from dagtrain.errors import ArgumentError, DTypeError, ShapeError
from dagtrain.nn.context import Context
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers.recurrent import Recurrent
from dagtrain.nn.masks import mask_of, of_floats
from dagtrain.nn.values import Values

__all__ = ["Bidirectional", "Blank", "Masking", "Stateful", "TimeDistributed"]

MERGES: dict[str, Callable[[Values, Values], Values]] = {
    "concat": lambda a, b: np.concatenate([a, b], -1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) * 0.5,
}


def _checked(title: str, layer: Any, backwards: bool) -> Recurrent:
    """The layer, if it is a recurrent one of this direction."""
    if not isinstance(layer, Recurrent) or layer.go_backwards != backwards:
        direction = "with go_backwards=True" if backwards else "that goes forwards"
        raise ArgumentError(f"{title} takes an LSTM, a GRU or a SimpleRNN {direction}, got {layer!r}.")
    return layer


@dataclass(frozen=True)
class Bidirectional(Layer):
    """A recurrent layer, and another one that goes from the last step to the first; their outputs for each step are joined.

    Parameters of the two are named ``forward`` and ``backward``.

    Inputs are x, a mask or lengths, and first states: those of the layer, then those of the backward one. With ``return_state`` of the
    layer, the last states follow in that order.

    Source: Schuster and Paliwal, "Bidirectional recurrent neural networks" (1997).

    Parameters
    ----------
    layer
        An `LSTM`, `GRU` or `SimpleRNN`; it is the forward one.
    merge_mode
        How outputs are joined: "concat" along the features, "sum", "mul" (product), "ave" (mean); None gives both.
    backward_layer
        A layer with ``go_backwards=True`` for the other direction; by default one with the same arguments and parameters of its own.
    name
        Name in parameters, errors and pictures.
    trainable
        Whether training changes the parameters.

    Raises
    ------
    ArgumentError
        If a layer is not recurrent, goes in the wrong direction, or the two differ in what they return.

    Examples
    --------
    >>> from dagtrain import nn
    >>> Bidirectional(nn.LSTM(3, return_sequences=True)).output_spec((2, 5, 4)).shape
    (2, 5, 6)
    """

    layer: Layer
    merge_mode: str | None = "concat"
    backward_layer: Layer | None = None
    name: str | None = None
    trainable: bool = True
    detail = "both directions"

    def __post_init__(self) -> None:
        title = self.name or "Bidirectional"
        layer = _checked(title, self.layer, backwards=False)
        if self.merge_mode is not None:
            one_of(f"merge_mode of {title}", self.merge_mode, MERGES)
        if self.backward_layer is None:
            object.__setattr__(self, "backward_layer", replace(layer, go_backwards=True, name=None))
        other = _checked(title, self.backward_layer, backwards=True)
        for field in ("return_sequences", "return_state"):
            if getattr(layer, field) != getattr(other, field):
                raise ArgumentError(
                    f"{title}: {field} of both layers is the same, here {getattr(layer, field)} and {getattr(other, field)}."
                )

    @property
    def required_inputs(self) -> tuple[str, ...]:
        """The name of the input that cannot be left out."""
        return ("x",)

    def forward(self, c: Context, x: Values, mask: Values | None = None, *initial_states: Values) -> Any:
        """The joined outputs, or both; then last states if they are asked for."""
        forward, backward = _checked("", self.layer, backwards=False), _checked("", self.backward_layer, backwards=True)
        mask, states = of_floats(mask, initial_states)
        count = len(forward.states)
        if len(states) not in (0, count + len(backward.states)):
            words = f"{count + len(backward.states)}: those of the layer, then those of the backward one"
            raise ArgumentError(f"{self.name or 'Bidirectional'} takes no first states or {words}; got {len(states)}.")
        a, *lasts = c(forward, x, mask, *states[:count], method="whole", name="forward")
        b, *others = c(backward, x, mask, *states[count:], method="whole", name="backward")
        results = [a, b] if self.merge_mode is None else [MERGES[self.merge_mode](a, b)]
        results += [*lasts, *others] if forward.return_state else []
        return results[0] if len(results) == 1 else tuple(results)


@dataclass(frozen=True)
class TimeDistributed(Layer):
    """A layer at each step of a sequence by itself: its samples are the steps of all samples.

    `Dense` and others that treat each position alike need no such wrapper. A mask goes to the layer, if it takes one, position by position.

    Parameters
    ----------
    layer
        A layer of samples; its outputs get the axis of steps back.
    name
        Name in parameters, errors and pictures.
    trainable
        Whether training changes the parameters.

    Examples
    --------
    >>> from dagtrain import nn
    >>> TimeDistributed(nn.Sequential([nn.Conv2D(2, 3), nn.Flatten()])).output_spec((4, 7, 8, 8, 1)).shape
    (4, 7, 72)
    """

    layer: Layer
    name: str | None = None
    trainable: bool = True
    detail = "at each step"

    def __post_init__(self) -> None:
        if not isinstance(self.layer, Layer):
            raise ArgumentError(f"{self.name or 'TimeDistributed'} takes a layer, as in TimeDistributed(Dense(3)), got {self.layer!r}.")

    def forward(self, c: Context, x: Values, mask: Values | None = None) -> Values:
        """The layer's outputs for each step."""
        if x.ndim < 3:
            raise ShapeError(f"{self.name or 'TimeDistributed'} takes (samples, steps, ...), got {tuple(x.shape)}.")
        rows, steps = x.shape[:2]
        inputs = [x] if mask is None or "mask" not in self.layer.input_names else [x, mask]
        y = c(self.layer, *(value.reshape((rows * steps, *value.shape[2:])) for value in inputs))
        if isinstance(y, tuple | list | dict):
            raise ArgumentError(f"{self.name or 'TimeDistributed'}: its layer has one output, got {len(y)}.")
        return y.reshape((rows, steps, *y.shape[1:]))


@dataclass(frozen=True)
class Masking(Layer):
    """The mask of the steps in which not all features are `mask_value`; in a `Sequential` it goes to the layers that take one.

    Examples
    --------
    >>> import numpy as np
    >>> x, mask = Masking().apply({}, {}, np.array([[[1.0, 2.0], [0.0, 3.0], [0.0, 0.0]]]))[0]
    >>> mask
    array([[ True,  True, False]])
    """

    mask_value: float = 0.0
    name: str | None = None

    def __post_init__(self) -> None:
        if not is_number(self.mask_value) or np.isnan(self.mask_value):  # no number is equal to NaN
            raise ArgumentError(f"{self.name or 'Masking'}: mask_value is a number, got {self.mask_value!r}: np.nan_to_num fills gaps.")

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"without {self.mask_value:g}"

    def forward(self, c: Context, x: Values) -> tuple[Values, Values]:
        """`x` and its mask."""
        if x.ndim != 3:
            raise ShapeError(f"{self.name or 'Masking'} takes (samples, steps, features), got {tuple(x.shape)}.")
        return x, np.any(x != self.mask_value, axis=-1)


@dataclass(frozen=True)
class Blank(Layer):
    """In the steps outside of the mask the blank for certain, so that the loss "ctc" counts the steps in it alone; ends the mask.

    Parameters
    ----------
    index
        The class that is no label, as `blank` of the loss.

    Examples
    --------
    >>> import numpy as np
    >>> Blank().apply({}, {}, np.ones((1, 2, 3)), np.array([[True, False]]))[0][0, 1] > -1
    array([ True, False, False])
    """

    index: int = 0
    name: str | None = None

    def __post_init__(self) -> None:
        whole(f"{self.name or 'Blank'}: index", self.index, 0)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return f"class {self.index} outside of the mask"

    def forward(self, c: Context, x: Values, mask: Values | None = None) -> Values:
        """`x`, and outside of the mask the logits of a certain blank."""
        if x.ndim != 3 or self.index >= x.shape[-1]:
            raise ShapeError(f"{self.name or 'Blank'} takes (samples, steps, classes) with a class {self.index}, got {tuple(x.shape)}.")
        if mask is None:
            return x
        certain = np.where(np.arange(x.shape[-1]) == self.index, 0.0, -1e30 if x.dtype.itemsize > 2 else -6e4).astype(x.dtype)
        return np.where(mask_of(self.name or "Blank", mask, x)[..., None], x, certain)


@dataclass(frozen=True)
class Stateful(Layer):
    """A recurrent layer whose last state is the first one of the next batch: row i of a batch goes on where row i of the one before ended.

    In training alone, where each shard has a state of its own, so that the number of shards is part of the result and the engine is not.
    Train with ``shuffle=False`` on samples in such an order. Evaluation and prediction begin with zeros: to carry a state there, take
    ``return_state=True`` and give it back as input. No gradient goes from one batch into the one before.

    Inputs are x, a mask or lengths, and `reset`: for each row a boolean, whether a new sequence begins there. A second input of one boolean
    a row is that one.

    Parameters
    ----------
    layer
        An `LSTM`, `GRU` or `SimpleRNN`.
    rows
        Samples in a shard of a batch: the batch size by the number of shards. A smaller last batch goes on with the first rows.
    name
        Name in parameters, errors and pictures.
    trainable
        Whether training changes the parameters.

    Raises
    ------
    ArgumentError
        If the layer is not recurrent, or `rows` is no whole number above 0.
    ShapeError
        If a shard has more rows.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> layer = Stateful(dt.nn.GRU(3), rows=4)
    >>> params, state = layer.init(dt.key(0), (4, 5, 2))
    >>> _, state = layer.apply(params, state, np.ones((4, 5, 2), "f4"), training=True)
    >>> state["initial_state"].shape
    (4, 3)
    """

    layer: Layer
    rows: int
    name: str | None = None
    trainable: bool = True
    detail = "goes on"

    def __post_init__(self) -> None:
        _checked(self.name or "Stateful", self.layer, backwards=False)
        whole(f"{self.name or 'Stateful'}: rows", self.rows)

    def forward(self, c: Context, x: Values, mask: Values | None = None, reset: Values | None = None) -> Any:
        """What the layer gives."""
        layer, title, rows = _checked("", self.layer, backwards=False), self.name or "Stateful", x.shape[0]
        if mask is not None and reset is None and mask.ndim == 1 and mask.dtype == bool:
            mask, reset = None, mask
        if reset is not None and (tuple(reset.shape) != (rows,) or reset.dtype.kind not in "biu"):
            raise DTypeError(f"{title}: reset is a boolean for each row, {(rows,)}, got {reset.dtype} {tuple(reset.shape)}.")
        if not c.training:
            return c(layer, x, mask)
        if rows > self.rows:
            raise ShapeError(f"{title}: rows={self.rows}, but a shard has {rows}: give the batch size by the number of shards.")
        carried = [c.state(word, (self.rows, layer.units), reduce="shard", dtype=c.dtype) for word in layer.states]
        firsts = [state[:rows] for state in carried]
        if reset is not None:
            firsts = [np.where(reset[:, None] != 0, np.zeros((), c.dtype), state) for state in firsts]
        y, *last = c(layer, x, mask, *firsts, method="whole")
        for word, state, new in zip(layer.states, carried, last, strict=True):
            c.update(word, new if rows == self.rows else np.concatenate([new, state[rows:]]))
        return (y, *last) if layer.return_state else y
