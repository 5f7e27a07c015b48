"""Recurrent layers for `networks.py`: the outputs of all steps and all gradients, beside PyTorch's modules and JAX's jitted scan.

All three get (rows, steps, features) and the same weights, and their results are compared. JAX stands in PyTorch's column, in rows of its
own.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import dagtrain as dt

__all__ = ["RECURRENT", "recurrent"]

# Name: layer, steps, rows, features and units.
RECURRENT: dict[str, tuple[str, int, int, int]] = {
    f"{cell} {steps} steps {rows}×{units}": (cell, steps, rows, units)
    for cell in ("LSTM", "GRU", "SimpleRNN")
    for steps, rows, units in ((35, 20, 128), (35, 32, 256), (35, 64, 256), (100, 64, 64))
    if cell != "SimpleRNN" or units == 256
}


def _by_jax(cell: str, arrays: list[Any], g: Any) -> Callable[[], Any]:
    """The outputs and all gradients by a jitted scan over the steps."""
    import jax
    from jax import numpy as jnp

    units = arrays[2].shape[0]

    def outputs(x: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
        zero = jnp.zeros((x.shape[0], units), x.dtype)
        lines = jnp.swapaxes(x @ kernel + (bias[0] if cell == "GRU" else bias), 0, 1)

        def step(state: Any, z: Any) -> Any:
            h, c = state
            if cell == "SimpleRNN":
                h = jnp.tanh(z + h @ recurrent)
            elif cell == "LSTM":
                i, f, inner, o = jnp.split(z + h @ recurrent, 4, 1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(inner)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
            else:
                (xz, xr, xn), (hz, hr, q) = jnp.split(z, 3, 1), jnp.split(h @ recurrent + bias[1], 3, 1)
                update, new = jax.nn.sigmoid(xz + hz), jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * q)
                h = new + update * (h - new)
            return (h, c), h

        return jnp.swapaxes(jax.lax.scan(step, (zero, zero), lines)[1], 0, 1)

    @jax.jit
    def both(g: Any, *inputs: Any) -> Any:
        y, back = jax.vjp(outputs, *inputs)
        return y, *back(g)

    inputs = [jax.device_put(value) for value in (g, *arrays)]
    return lambda: jax.block_until_ready(both(*inputs))


def _by_torch(cell: str, arrays: list[Any], g: Any) -> Callable[[], Any]:
    """The same by PyTorch's module; the gradients of its weights, turned as dagtrain's are, in its own order of gates."""
    import torch

    x, kernel, recurrent, bias = arrays
    rows, units = bias if cell == "GRU" else (bias, 0 * bias), recurrent.shape[0]
    order = np.arange(kernel.shape[1])
    if cell == "GRU":
        order = np.r_[units : 2 * units, :units, 2 * units : 3 * units]
    module = getattr(torch.nn, cell.removeprefix("Simple"))(x.shape[-1], units, batch_first=True)
    for parameter, value in zip(module.parameters(), (kernel.T, recurrent.T, *rows), strict=True):
        parameter.data = torch.from_numpy(np.ascontiguousarray(value[order]))
    tx, tg = torch.from_numpy(x).requires_grad_(), torch.from_numpy(g)

    def call() -> Any:
        module.zero_grad()
        tx.grad = None
        y, _ = module(tx)
        y.backward(tg)
        by_kernel, by_recurrent = (p.grad.numpy()[np.argsort(order)].T for p in list(module.parameters())[:2])
        return y.detach().numpy(), tx.grad.numpy(), by_kernel, by_recurrent

    return call


def recurrent(name: str) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """A layer of dagtrain beside PyTorch's, and beside JAX where it is installed."""
    cell, steps, rows, units = RECURRENT[name]
    layer, draw = getattr(dt.nn, cell)(units, return_sequences=True), np.random.default_rng(0)
    x, g = (draw.standard_normal((rows, steps, units), np.float32) for _ in range(2))
    params, _ = layer.init(dt.key(0), x)
    arrays = [x, *params.values()]

    def both(g: Any, x: Any, *values: Any) -> Any:
        y, back = dt.vjp(lambda x, *values: layer.apply(dict(zip(params, values, strict=True)), {}, x)[0], x, *values)
        return y, *back(g)

    run = dt.trace(both, g, *arrays).plan().bind()
    result: dict[str, Any] = {"outputs and gradients": (lambda: run(g, *arrays), _by_torch(cell, arrays, g))}
    if find_spec("jax") is not None:
        result["the same beside JAX"] = (lambda: run(g, *arrays), _by_jax(cell, arrays, g))
    for what, (ours, theirs) in result.items():
        for left, right in zip(ours(), theirs(), strict=False):
            right = np.asarray(right)
            if not np.allclose(left, right, rtol=1e-3, atol=1e-3 * float(np.abs(right).max())):
                raise SystemExit(f"{name}, {what}: they do not compute the same.")
    return result
