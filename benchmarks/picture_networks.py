"""Whole steps of networks that see, in three libraries: LeNet-5, three stages of 32, 64 and 128 filters, GoogLeNet.

A network is a list of parts. dagtrain's model is made of layers; PyTorch and JAX compute the parts by functions of their own, from the same
first weights, in their faster layouts: PyTorch channels last and eager, JAX as one jitted function with weights and slots donated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import dagtrain as dt
from dagtrain.nn.models.googlenet import INCEPTIONS, LAST_OF_STAGE
from dagtrain.trace.tree import leaves

Part = tuple[Any, ...]
Step = Callable[[], float]
RATE, EPSILON = 1e-4, 1e-8


def _googlenet() -> list[Part]:
    parts: list[Part] = [("conv", 64, 7, 2, "same", "relu"), ("maximum", 3, 2, "same"), ("norm",)]
    parts += [("conv", 64, 1, 1, "same", "relu"), ("conv", 192, 3, 1, "same", "relu"), ("norm",), ("maximum", 3, 2, "same")]
    for name, filters in INCEPTIONS.items():
        parts.append(("inception", *filters))
        if name in LAST_OF_STAGE:
            parts.append(("maximum", 3, 2, "same"))
    return [*parts, ("average",), ("dense", 10, "linear")]


PARTS: dict[str, list[Part]] = {
    "LeNet-5": [
        ("conv", 6, 5, 1, "same", "tanh"), ("mean", 2, 2, "valid"), ("conv", 16, 5, 1, "valid", "tanh"), ("mean", 2, 2, "valid"),
        ("flatten",), ("dense", 120, "tanh"), ("dense", 84, "tanh"), ("dense", 10, "linear"),
    ],
    "32-64-128": [
        *(part for n in (32, 64, 128) for part in (("conv", n, 3, 1, "same", "relu"), ("maximum", 2, 2, "valid"))),
        ("flatten",), ("dense", 10, "linear"),
    ],
    "GoogLeNet": _googlenet(),
}  # fmt: skip
SHAPES = {"LeNet-5": (64, 28, 28, 1), "32-64-128": (64, 32, 32, 3), "GoogLeNet": (8, 64, 64, 3)}


def batch_of(name: str) -> tuple[Any, Any]:
    """Pictures and labels."""
    draw, shape = np.random.default_rng(0), SHAPES[name]
    return draw.standard_normal(shape, np.float32), draw.integers(0, 10, shape[0])


# ---- dagtrain


def model_of(name: str) -> Any:
    """The model of dagtrain's layers."""
    if name == "GoogLeNet":
        return dt.nn.models.GoogLeNet(10, SHAPES[name][1:], auxiliary=False, dropout=0.0)
    nn, layers = dt.nn, []
    for kind, *options in PARTS[name]:
        if kind == "conv":
            filters, window, strides, padding, activation = options
            layers.append(nn.Conv2D(filters, window, activation, strides=strides, padding=padding))
        elif kind == "dense":
            layers.append(nn.Dense(*options))
        else:
            layers.append({"maximum": nn.MaxPooling2D, "mean": nn.AveragePooling2D, "flatten": nn.Flatten}[kind](*options))
    return nn.Sequential(layers)


def first_weights(name: str) -> list[Any]:
    """First weights in the order of the network's parts, without a program."""
    parameters, _ = model_of(name).init(dt.key(0), (1, *SHAPES[name][1:]))
    return leaves(parameters)


def step_of_dagtrain(name: str, approximate: bool = False) -> tuple[Step, list[Any]]:
    """A step that gives the loss before it, and the first parameters; see `approximate` of `dagtrain.Trainer`."""
    from dagtrain.engines.inline import StepRunner

    shape = SHAPES[name]
    columns = dt.data.Columns.of(dt.Spec(shape[1:], np.dtype("f4")), dt.Spec((), np.dtype("i8")))
    objective = dt.step.ModelObjective(model_of(name), "cross_entropy", [])
    objective.approximate = approximate
    program = dt.step.Program(objective, dt.optim.adam(RATE, epsilon=EPSILON), columns, seed=0)
    runner = StepRunner(program.for_workers([shape[0]]), program.first_state(), 1)
    layout, vector = program.layout, runner.state.parameters.copy()
    first = [vector[place].reshape(shape) for place, shape in zip(layout.slices, layout.shapes, strict=True)]
    batch = [batch_of(name)]
    return lambda: float(runner.step(batch)[0]) / shape[0], first


# ---- the parts, by the functions of another library


def outputs(library: Any, parts: Sequence[Part], parameters: Iterator[Any], x: Any) -> Any:
    """The logits; kernels and biases are taken one after the other."""

    def conv(x: Any, window: int, strides: int, padding: str, activation: str) -> Any:
        kernel, bias = next(parameters), next(parameters)
        return library.activation(activation, library.conv(x, kernel, bias, window, strides, padding))

    for kind, *options in parts:
        if kind == "conv":
            x = conv(x, *options[1:])
        elif kind in ("maximum", "mean"):
            x = getattr(library, kind)(x, *options)
        elif kind == "norm":
            x = library.norm(x)
        elif kind == "inception":
            one = conv(x, 1, 1, "same", "relu")
            three = conv(conv(x, 1, 1, "same", "relu"), 3, 1, "same", "relu")
            five = conv(conv(x, 1, 1, "same", "relu"), 5, 1, "same", "relu")
            x = library.join([one, three, five, conv(library.maximum(x, 3, 1, "same"), 1, 1, "same", "relu")])
        elif kind in ("flatten", "average"):
            x = getattr(library, kind)(x)
        else:
            kernel, bias = next(parameters), next(parameters)
            x = library.activation(options[1], library.dense(x, kernel, bias))
    return x


def pads_of(length: int, window: int, strides: int, padding: str) -> tuple[int, int]:
    """Elements before and after; an odd one goes to the end."""
    missing = max(0, (math.ceil(length / strides) - 1) * strides + window - length) if padding == "same" else 0
    return missing // 2, missing - missing // 2


class Torch:
    """PyTorch's functions of pictures with channels first, in memory last."""

    def __init__(self) -> None:
        import torch

        self.torch, self.f = torch, torch.nn.functional

    def _padded(self, x: Any, window: int, strides: int, padding: str, value: float) -> tuple[Any, int]:
        low, high = pads_of(x.shape[-1], window, strides, padding)
        return (x, low) if low == high else (self.f.pad(x, (low, high, low, high), value=value), 0)

    def conv(self, x: Any, kernel: Any, bias: Any, window: int, strides: int, padding: str) -> Any:
        x, pads = self._padded(x, window, strides, padding, 0.0)
        return self.f.conv2d(x, kernel, bias, strides, pads)

    def maximum(self, x: Any, window: int, strides: int, padding: str) -> Any:
        x, pads = self._padded(x, window, strides, padding, -math.inf)
        return self.f.max_pool2d(x, window, strides, pads)

    def mean(self, x: Any, window: int, strides: int, padding: str) -> Any:
        return self.f.avg_pool2d(x, window, strides)

    def norm(self, x: Any) -> Any:
        return self.f.local_response_norm(x, 5, 1e-4, 0.75, 1.0)

    def join(self, values: list[Any]) -> Any:
        return self.torch.cat(values, 1)

    def flatten(self, x: Any) -> Any:
        return x.permute(0, 2, 3, 1).flatten(1)

    def average(self, x: Any) -> Any:
        return x.mean((2, 3))

    def dense(self, x: Any, kernel: Any, bias: Any) -> Any:
        return self.f.linear(x, kernel, bias)

    def activation(self, name: str, x: Any) -> Any:
        return x if name == "linear" else getattr(self.torch, name)(x)


def step_of_torch(name: str, weights: list[Any]) -> Step:
    """The step in PyTorch, from these weights."""
    import torch

    parameters = []
    for weight in weights:
        order = (3, 2, 0, 1) if weight.ndim == 4 else (1, 0) if weight.ndim == 2 else (0,)
        tensor = torch.from_numpy(weight.transpose(order).copy())
        parameters.append(torch.nn.Parameter(tensor.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else tensor))
    optimizer = torch.optim.Adam(parameters, lr=RATE, eps=EPSILON, fused=True)
    x, y = batch_of(name)
    tx, ty, library = torch.from_numpy(np.moveaxis(x, -1, 1)), torch.from_numpy(y), Torch()

    def step() -> float:
        value = torch.nn.functional.cross_entropy(outputs(library, PARTS[name], iter(parameters), tx), ty)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step


class Jax:
    """JAX's functions of pictures with channels last."""

    def __init__(self) -> None:
        import jax

        self.jax, self.np = jax, jax.numpy

    def _window(self, x: Any, window: int, strides: int, padding: str, start: float, function: Any) -> Any:
        pads = [(0, 0), *(pads_of(n, window, strides, padding) for n in x.shape[1:3]), (0, 0)]
        return self.jax.lax.reduce_window(x, start, function, (1, window, window, 1), (1, strides, strides, 1), pads)

    def conv(self, x: Any, kernel: Any, bias: Any, window: int, strides: int, padding: str) -> Any:
        pads = [pads_of(n, window, strides, padding) for n in x.shape[1:3]]
        y = self.jax.lax.conv_general_dilated(x, kernel, (strides, strides), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + bias

    def maximum(self, x: Any, window: int, strides: int, padding: str) -> Any:
        return self._window(x, window, strides, padding, -math.inf, self.jax.lax.max)

    def mean(self, x: Any, window: int, strides: int, padding: str) -> Any:
        return self._window(x, window, strides, padding, 0.0, self.jax.lax.add) / window**2

    def norm(self, x: Any) -> Any:
        sums = self.jax.lax.reduce_window(x * x, 0.0, self.jax.lax.add, (1, 1, 1, 5), (1, 1, 1, 1), "SAME")
        return x / (1.0 + 1e-4 / 5 * sums) ** 0.75

    def join(self, values: list[Any]) -> Any:
        return self.np.concatenate(values, -1)

    def flatten(self, x: Any) -> Any:
        return x.reshape(len(x), -1)

    def average(self, x: Any) -> Any:
        return x.mean((1, 2))

    def dense(self, x: Any, kernel: Any, bias: Any) -> Any:
        return x @ kernel + bias

    def activation(self, name: str, x: Any) -> Any:
        return x if name == "linear" else self.jax.nn.relu(x) if name == "relu" else self.np.tanh(x)


def step_of_jax(name: str, weights: list[Any]) -> Step:
    """The step in JAX, from these weights: gradients and Adam in one jitted function."""
    import jax
    from jax import numpy as jnp

    library, parts = Jax(), PARTS[name]

    def loss(parameters: list[Any], x: Any, y: Any) -> Any:
        scores = jax.nn.log_softmax(outputs(library, parts, iter(parameters), x))
        return -jnp.mean(jnp.take_along_axis(scores, y[:, None], 1))

    def update(parameters: Any, first: Any, second: Any, count: Any, x: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(parameters, x, y)
        count = count + 1
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
        rate, root = RATE / (1 - 0.9**count), jnp.sqrt(1 - 0.999**count)
        parameters = [p - rate * m / (jnp.sqrt(v) / root + EPSILON) for p, m, v in zip(parameters, first, second, strict=True)]
        return value, parameters, first, second, count

    run = jax.jit(update, donate_argnums=(0, 1, 2, 3))
    x, y = map(jnp.asarray, batch_of(name))
    state = [list(map(jnp.asarray, weights)), *([jnp.zeros_like(w) for w in weights] for _ in range(2)), jnp.zeros(())]

    def step() -> float:
        value, *state[:] = run(*state, x, y)
        jax.block_until_ready(state)
        return float(value)

    return step
