"""Recurrent layers: a state that goes along a sequence (samples, steps, features), step by step.

    x[0] ─▶ cell ─▶ x[1] ─▶ cell ─▶ …      y[t] is the state after step t; a step outside of the mask leaves the state as it is
              └── state ──┘  └── state ──┘

Whole sequences are one op each (`dagtrain.ops.recurrent`). A cell with other activations, with dropout of its state or with the reset
before the product is a `scan` of its step, and slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagtrain.arguments import fraction, whole
from dagtrain.errors import ShapeError
from dagtrain.graph import Tensor
from dagtrain.nn import activations, initializers
from dagtrain.nn.activations import ActivationFunction
from dagtrain.nn.context import Context
from dagtrain.nn.initializers import Initializer
from dagtrain.nn.layer import Layer
from dagtrain.nn.layers.noise import kept
from dagtrain.nn.masks import mask_of, of_floats
from dagtrain.nn.values import Values, applied
from dagtrain.ops import find as find_op
from dagtrain.trace import scan

__all__ = ["GRU", "LSTM", "SimpleRNN"]


@dataclass(frozen=True)
class Recurrent(Layer):
    """What the recurrent layers share."""

    units: int
    activation: str | ActivationFunction | None = "tanh"
    use_bias: bool = True
    kernel_initializer: str | Initializer = "glorot_uniform"
    recurrent_initializer: str | Initializer = "orthogonal"
    bias_initializer: str | Initializer = "zeros"
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    name: str | None = None
    trainable: bool = True
    gates: ClassVar[int] = 1
    states: ClassVar[tuple[str, ...]] = ("initial_state",)
    op: ClassVar[str] = "rnn"

    def __post_init__(self) -> None:
        title = self.name or type(self).__name__
        whole(f"{title}: units", self.units)
        activations.find(self.activation)
        for initializer in (self.kernel_initializer, self.recurrent_initializer, self.bias_initializer):
            initializers.find(initializer)
        fraction(f"{title}: dropout", self.dropout)
        fraction(f"{title}: recurrent_dropout", self.recurrent_dropout)

    @property
    def detail(self) -> str:
        """A few words for pictures."""
        return "backwards" if self.go_backwards else ""

    @property
    def is_one_op(self) -> bool:
        """Whether the op of this cell computes it."""
        return activations.find(self.activation) is activations.tanh

    def _step(self, z: Values, states: list[Values], recurrent: Values, bias: Values | None, dropped: Values | None) -> list[Values]:
        """The states after a step: z is the product of its inputs and the kernel, with the inputs' bias."""
        raise NotImplementedError

    def _bias(self, c: Context) -> Values:
        """The bias of all gates."""
        return c.parameter("bias", (self.gates * self.units,), self.bias_initializer)

    def forward(self, c: Context, x: Values, mask: Values | None = None, initial_state: Values | None = None) -> Any:
        """The last output, or all of them, and the last state if it is asked for."""
        return self._given(c, x, mask, [initial_state])

    def whole(self, c: Context, x: Values, mask: Values | None = None, *states: Values) -> tuple[Values, ...]:
        """The output, with all steps in the order of the inputs also where the layer goes backwards, and then the last states."""
        mask, given = of_floats(mask, states)
        return self._run(c, x, mask, given or [None] * len(self.states))[:-1]

    def _given(self, c: Context, x: Values, mask: Values | None, states: Sequence[Values | None]) -> Any:
        """The outputs for a batch of sequences, as the arguments of the layer say."""
        mask, states = of_floats(mask, states)
        y, *last, mask = self._run(c, x, mask, states[: len(self.states)])
        backwards = self.return_sequences and self.go_backwards
        y = y[:, ::-1] if backwards else y
        if self.return_state:
            return (y, *last)
        return (y, mask[:, ::-1]) if backwards and mask is not None else y  # the mask has the positions of the outputs

    def _run(self, c: Context, x: Values, mask: Values | None, states: Sequence[Values | None]) -> tuple[Any, ...]:
        """The output, in the order of the steps, the last states and the mask."""
        title = self.name or type(self).__name__
        if x.ndim != 3:
            raise ShapeError(
                f"{title} takes (samples, steps, features), got {tuple(x.shape)}: reshape x, as to x[..., None] for one feature."
            )
        rows, _, features = x.shape
        width = self.gates * self.units
        kernel = c.parameter("kernel", (features, width), self.kernel_initializer)
        recurrent = c.parameter("recurrent_kernel", (self.units, width), self.recurrent_initializer)
        bias = self._bias(c) if self.use_bias else None
        x = x if x.dtype == kernel.dtype else x.astype(kernel.dtype)
        if c.training and self.dropout:
            x = x * kept(c, self.dropout, (rows, 1, features), x.dtype)
        if mask is not None:
            mask = mask_of(title, mask, x)
            x = np.where(mask[..., None], x, np.zeros((), x.dtype))  # what is outside may be any number, also one that is not finite
        by_step = None if mask is None else np.swapaxes(mask, 0, 1)
        starts = [self._start(title, word, state, rows, kernel.dtype) for word, state in zip(self.states, states, strict=True)]
        dropped = None
        if c.training and self.recurrent_dropout:
            dropped = kept(c, self.recurrent_dropout, (rows, self.units), x.dtype)
        lines = np.swapaxes(x, 0, 1)
        if self.is_one_op and dropped is None:
            outputs, last = self._by_op(lines, kernel, recurrent, bias, starts, by_step)
        else:
            outputs, last = self._by_steps(lines, kernel, recurrent, bias, starts, by_step, dropped)
        return (np.swapaxes(outputs, 0, 1) if self.return_sequences else last[0], *last, mask)

    def _start(self, title: str, word: str, state: Values | None, rows: int, dtype: Any) -> Values:
        """A first state, by default zeros."""
        if state is None:
            return np.zeros((rows, self.units), dtype)
        if tuple(state.shape) != (rows, self.units) or state.dtype.kind != "f":
            raise ShapeError(
                f"{title}: {word} is (samples, units), here floats of shape {(rows, self.units)}, got {state.dtype} {tuple(state.shape)}."
            )
        return state if state.dtype == dtype else state.astype(dtype)

    def _by_op(
        self, x: Values, kernel: Values, recurrent: Values, bias: Values | None, starts: list[Values], mask: Values | None
    ) -> tuple[Values, list[Values]]:
        """The outputs of all steps and the last states, by the op for whole sequences."""
        op = find_op(self.op)
        if bias is None:
            bias = np.zeros((2, recurrent.shape[1])[self.op != "gru" :], recurrent.dtype)
        inputs = [x, kernel, recurrent, bias, *starts, *([] if mask is None else [mask])]
        outputs, *others = applied(op, *inputs, reverse=self.go_backwards, **({} if self.op == "rnn" else {"keep": True}))
        return outputs, others[: len(starts)]

    def _by_steps(
        self,
        x: Values,
        kernel: Values,
        recurrent: Values,
        bias: Values | None,
        starts: list[Values],
        mask: Values | None,
        dropped: Values | None,
    ) -> tuple[Values, list[Values]]:
        """The outputs of all steps and the last states, by a loop."""
        by_state = bias is not None and bias.ndim == 2
        z = x @ kernel
        if bias is not None:
            z = z + (bias[0] if by_state else bias)
        lines = [z] if mask is None else [z, mask]

        def body(states: list[Values], elements: list[Values]) -> tuple[list[Values], Values]:
            z, *on = elements
            after = self._step(z, states, recurrent, bias[1] if by_state and bias is not None else None, dropped)
            if on:
                after = [np.where(on[0][:, None], new, old) for new, old in zip(after, states, strict=True)]
            return after, after[0]

        if any(isinstance(value, Tensor) for value in (x, kernel, *starts)):
            last, outputs = scan(body, starts, lines, reverse=self.go_backwards)
            return outputs, last
        outputs, last = np.empty((*z.shape[:2], self.units), z.dtype), starts
        for t in range(len(z))[:: -1 if self.go_backwards else 1]:
            last, outputs[t] = body(last, [line[t] for line in lines])
        return outputs, last


@dataclass(frozen=True)
class SimpleRNN(Recurrent):
    """A simple recurrent network: ``h = tanh(x @ kernel + h @ recurrent_kernel + bias)`` in each step.

    Inputs: x of shape (samples, steps, features); then, if there is one, a mask (samples, steps) of booleans, or the lengths (samples,) of
    the sequences in whole numbers; then the first state (samples, units), by default zeros, which may also come right after x. In a step
    outside of the mask a state stays as it is, and the output is that state.

    Parameters
    ----------
    units
        Numbers in the state.
    activation
        Name, function, or None.
    use_bias
        Whether a bias is added.
    kernel_initializer, recurrent_initializer, bias_initializer
        Name of an initialiser, or a function ``(key, shape, dtype) -> array``.
    dropout, recurrent_dropout
        In training, the fraction of features, and of the state that products read, that is 0: the same ones in all steps of a sequence.
    return_sequences
        Whether the output has all steps, (samples, steps, units), and not the last one alone.
    return_state
        Whether the last state follows the output.
    go_backwards
        Whether it goes from the last step to the first; outputs of all steps are in the order in which they are made, as in Keras.
    name
        Name in parameters, errors and pictures.
    trainable
        Whether training changes the parameters.

    Raises
    ------
    ArgumentError, UnknownNameError
        If an argument is wrong.
    ShapeError, DTypeError
        If an input is.

    Examples
    --------
    >>> SimpleRNN(3).output_spec((2, 5, 4)).shape
    (2, 3)
    >>> SimpleRNN(3, return_sequences=True).output_spec((2, 5, 4)).shape
    (2, 5, 3)
    """

    def _step(self, z: Values, states: list[Values], recurrent: Values, bias: Values | None, dropped: Values | None) -> list[Values]:
        """The state after a step."""
        return [activations.find(self.activation)(z + (states[0] if dropped is None else states[0] * dropped) @ recurrent)]


@dataclass(frozen=True)
class LSTM(Recurrent):
    """Long short-term memory: ``c = f * c + i * g``, ``h = o * tanh(c)``, with the gates i, f, g, o side by side in the parameters.

    i, f and o are ``sigmoid(x @ kernel + h @ recurrent_kernel + bias)``, each of its part of the columns, and g is ``tanh`` of the same.
    Inputs and arguments are those of `SimpleRNN`; the states are two, h and then the cell c. The weights are PyTorch's, transposed, and the
    bias is the sum of its two.

    Source: Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9 (1997); Gers, Schmidhuber and Cummins, "Learning to
    forget" (2000).

    Parameters
    ----------
    recurrent_activation
        Of the gates i, f and o.
    unit_forget_bias
        Whether the bias of the forget gate begins with 1.

    Examples
    --------
    >>> y, h, cell = LSTM(3, return_sequences=True, return_state=True).output_spec((2, 5, 4))
    >>> y.shape, h.shape, cell.shape
    ((2, 5, 3), (2, 3), (2, 3))
    >>> LSTM(3).summary((1, 5, 4)).parameters
    96
    """

    recurrent_activation: str | ActivationFunction = "sigmoid"
    unit_forget_bias: bool = True
    gates = 4
    states = ("initial_state", "initial_cell")
    op = "lstm"

    def __post_init__(self) -> None:
        super().__post_init__()
        activations.find(self.recurrent_activation)

    @property
    def is_one_op(self) -> bool:
        """Whether the op of this cell computes it."""
        return super().is_one_op and activations.find(self.recurrent_activation) is activations.sigmoid

    def _bias(self, c: Context) -> Values:
        """The bias of all gates, that of f higher by 1 if `unit_forget_bias`."""
        plain, units = initializers.find(self.bias_initializer), self.units

        def initializer(key: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
            values = plain(key, shape, dtype)
            values[units : 2 * units] = 1
            return values

        return c.parameter("bias", (4 * units,), initializer if self.unit_forget_bias else self.bias_initializer)

    def forward(
        self, c: Context, x: Values, mask: Values | None = None, initial_state: Values | None = None, initial_cell: Values | None = None
    ) -> Any:
        """The last output, or all of them, and the last output and cell if states are asked for."""
        return self._given(c, x, mask, [initial_state, initial_cell])

    def _step(self, z: Values, states: list[Values], recurrent: Values, bias: Values | None, dropped: Values | None) -> list[Values]:
        """The output and the cell after a step."""
        (h, cell), units = states, self.units
        inner, gate = activations.find(self.activation), activations.find(self.recurrent_activation)
        z = z + (h if dropped is None else h * dropped) @ recurrent
        i, f, g, o = (z[:, k * units : (k + 1) * units] for k in range(4))
        cell = gate(f) * cell + gate(i) * inner(g)
        return [gate(o) * inner(cell), cell]


@dataclass(frozen=True)
class GRU(Recurrent):
    """Gated recurrent unit: ``h = z * h + (1 - z) * n``, with the gates z, r, n side by side in the parameters.

    z and r are ``sigmoid(x @ kernel + bias[0] + h @ recurrent_kernel + bias[1])``, each of its part of the columns, and n is
    ``tanh(x @ kernel + bias[0] + r * (h @ recurrent_kernel + bias[1]))``. Inputs and arguments are those of `SimpleRNN`. The weights are
    PyTorch's, transposed, and with z before r.

    Source: Cho et al., arXiv:1406.1078.

    Parameters
    ----------
    recurrent_activation
        Of the gates z and r.
    reset_after
        Whether r scales the product, as here and in PyTorch; otherwise it scales the state in it, as in the paper, there is one bias, and
        the steps are a `scan`.

    Examples
    --------
    >>> GRU(3).output_spec((2, 5, 4)).shape
    (2, 3)
    >>> GRU(3).summary((1, 5, 4)).parameters
    81
    """

    recurrent_activation: str | ActivationFunction = "sigmoid"
    reset_after: bool = True
    gates = 3
    op = "gru"

    def __post_init__(self) -> None:
        super().__post_init__()
        activations.find(self.recurrent_activation)

    @property
    def is_one_op(self) -> bool:
        """Whether the op of this cell computes it."""
        return self.reset_after and super().is_one_op and activations.find(self.recurrent_activation) is activations.sigmoid

    def _bias(self, c: Context) -> Values:
        """The bias of all gates, beside the inputs and, with `reset_after`, beside the state."""
        shape = (2, 3 * self.units) if self.reset_after else (3 * self.units,)
        return c.parameter("bias", shape, self.bias_initializer)

    def _step(self, z: Values, states: list[Values], recurrent: Values, bias: Values | None, dropped: Values | None) -> list[Values]:
        """The state after a step."""
        (h,), units = states, self.units
        inner, gate = activations.find(self.activation), activations.find(self.recurrent_activation)
        read, middle = h if dropped is None else h * dropped, 2 * units
        if self.reset_after:
            by_state = read @ recurrent if bias is None else read @ recurrent + bias
            update, reset = gate(z[:, :units] + by_state[:, :units]), gate(z[:, units:middle] + by_state[:, units:middle])
            new = inner(z[:, middle:] + reset * by_state[:, middle:])
        else:
            gates = gate(z[:, :middle] + read @ recurrent[:, :middle])
            update, reset = gates[:, :units], gates[:, units:]
            new = inner(z[:, middle:] + (reset * read) @ recurrent[:, middle:])
        return [update * h + (1 - update) * new]
