"""Transformers for `networks.py`: the coarse ops they are made of, and whole steps (forward, gradients, Adam) beside PyTorch's and JAX's.

The model is dagtrain's `TransformerLM`: PyTorch and JAX compute the same functions from its first weights, and losses are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import dagtrain as dt

__all__ = ["PARTS_OF_BLOCKS", "TRANSFORMERS", "part_of_block", "transformer"]

Pairs = dict[str, tuple[Callable[[], Any], Callable[[], Any]]]

# Name: blocks, width, heads, steps, rows, tokens.
TRANSFORMERS: dict[str, tuple[int, int, int, int, int, int]] = {"4×128, 64 steps": (4, 128, 4, 64, 32, 65)}
RATE, EPSILON = 1e-3, 1e-8

# Name: the shapes of the arrays.
PARTS_OF_BLOCKS: dict[str, list[tuple[int, ...]]] = {
    "layer_norm 2048×128": [(2048, 128), (128,), (128,)],
    "gelu_tanh 2048×512": [(2048, 512)],
    "gelu 2048×512": [(2048, 512)],
    "softmax 8192×64": [(8192, 64)],
    "log_softmax 2048×1000": [(2048, 1000)],
    "attention 32×64×4×32": [(32, 64, 4, 32)] * 3,
    "causal 32×64×4×32": [(32, 64, 4, 32)] * 3,
    "causal 4×512×4×32": [(4, 512, 4, 32)] * 3,
    "batch_norm 65536×16": [(65536, 16), (16,), (16,)],
    "batch_norm 50176×6": [(50176, 6), (6,), (6,)],
    "batch_norm 16384×64": [(16384, 64), (64,), (64,)],
}


def _functions(kind: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A part of a block in dagtrain and in PyTorch."""
    from torch.nn import functional as torch_functions

    attention = {"scale": 32**-0.5, "causal": kind == "causal", "fill": None, "empty": "zero", "time": -3}
    ours: dict[str, Callable[..., Any]] = {
        "layer_norm": lambda x, s, o: dt.ops.parts(dt.ops.find("layer_norm")(x, s, o, epsilon=1e-5, center=True))[0],
        "batch_norm": lambda x, s, o: dt.ops.parts(dt.ops.find("batch_norm")(x, s, o, epsilon=1e-5))[0],
        "attention": lambda q, k, v: dt.ops.find("attention")(q, k, v, **attention),
        **{name: getattr(dt.nn.activations, name) for name in ("gelu", "gelu_tanh", "softmax", "log_softmax")},
    }

    def attended(q: Any, k: Any, v: Any) -> Any:
        q, k, v = (a.transpose(1, 2) for a in (q, k, v))
        return torch_functions.scaled_dot_product_attention(q, k, v, is_causal=kind == "causal").transpose(1, 2)

    theirs: dict[str, Callable[..., Any]] = {
        "layer_norm": lambda x, s, o: torch_functions.layer_norm(x, x.shape[-1:], s, o),
        "batch_norm": lambda x, s, o: torch_functions.batch_norm(x, None, None, s, o, training=True),
        "attention": attended,
        "gelu": torch_functions.gelu,
        "gelu_tanh": lambda x: torch_functions.gelu(x, approximate="tanh"),
        "softmax": lambda x: torch_functions.softmax(x, -1),
        "log_softmax": lambda x: torch_functions.log_softmax(x, -1),
    }
    name = "attention" if kind == "causal" else kind
    return ours[name], theirs[name]


def part_of_block(name: str) -> Pairs:
    """Forward, and forward with all gradients."""
    import torch

    ours, theirs = _functions(name.partition(" ")[0])
    draw = np.random.default_rng(0)
    arrays = [draw.standard_normal(shape, np.float32) for shape in PARTS_OF_BLOCKS[name]]
    g = draw.standard_normal(arrays[0].shape, np.float32)
    tensors, weight = [torch.from_numpy(a).requires_grad_() for a in arrays], torch.from_numpy(g)
    constants = [t.detach() for t in tensors]

    def both(g: Any, *inputs: Any) -> Any:
        y, back = dt.vjp(ours, *inputs)
        return y, *back(g)

    forward, whole = dt.trace(ours, *arrays).plan().bind(), dt.trace(both, g, *arrays).plan().bind()

    def torch_both() -> Any:
        for t in tensors:
            t.grad = None
        y = theirs(*tensors)
        y.backward(weight)
        return y.detach(), *(t.grad for t in tensors)

    for left, right in zip(whole(g, *arrays), torch_both(), strict=True):
        if not np.allclose(left, right.numpy(), rtol=1e-3, atol=1e-4 * float(right.abs().max())):
            raise SystemExit(f"{name}: dagtrain and PyTorch do not compute the same.")
    return {
        "forward": (lambda: forward(*arrays), lambda: theirs(*constants)),
        "forward and gradients": (lambda: whole(g, *arrays), torch_both),
    }


# ---- whole steps


def _loss(f: Any, parameters: dict[str, Any], x: Any, y: Any, case: tuple[int, ...]) -> Any:
    """The loss of the model in a library's functions."""
    blocks, width, heads, steps, rows, _ = case
    h = parameters["rows.embeddings"][x] + parameters["places.embeddings"][:steps]

    def dense(name: str, a: Any) -> Any:
        return a @ parameters[f"{name}.kernel"] + parameters[f"{name}.bias"]

    def norm(name: str, a: Any) -> Any:
        return f.layer_norm(a, parameters[f"{name}.scale"], parameters[f"{name}.offset"])

    for i in range(1, blocks + 1):
        block = f"blocks.transformer_block_{i}"
        a = norm(f"{block}.attention_norm", h)
        q, k, v = (dense(f"{block}.attention.{name}", a).reshape(rows, steps, heads, width // heads) for name in ("query", "key", "value"))
        h = h + dense(f"{block}.attention.output", f.attention(q, k, v).reshape(rows, steps, width))
        h = h + dense(f"{block}.output", f.gelu(dense(f"{block}.dense", norm(f"{block}.dense_norm", h))))
    return f.cross_entropy(norm("norm", h) @ parameters["rows.embeddings"].T + parameters["bias"], y)


class _Torch:
    """PyTorch's functions."""

    @staticmethod
    def layer_norm(a: Any, scale: Any, offset: Any) -> Any:
        from torch.nn import functional

        return functional.layer_norm(a, scale.shape, scale, offset)

    @staticmethod
    def attention(q: Any, k: Any, v: Any) -> Any:
        from torch.nn import functional

        q, k, v = (a.transpose(1, 2) for a in (q, k, v))
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)

    @staticmethod
    def gelu(a: Any) -> Any:
        from torch.nn import functional

        return functional.gelu(a, approximate="tanh")

    @staticmethod
    def cross_entropy(logits: Any, y: Any) -> Any:
        from torch.nn import functional

        return functional.cross_entropy(logits.flatten(0, 1), y.flatten())


class _Jax:
    """JAX's functions."""

    @staticmethod
    def layer_norm(a: Any, scale: Any, offset: Any) -> Any:
        import jax

        mean = a.mean(-1, keepdims=True)
        return (a - mean) * jax.lax.rsqrt(a.var(-1, keepdims=True) + 1e-5) * scale + offset

    @staticmethod
    def attention(q: Any, k: Any, v: Any) -> Any:
        import jax

        return jax.nn.dot_product_attention(q, k, v, is_causal=True)

    @staticmethod
    def gelu(a: Any) -> Any:
        import jax

        return jax.nn.gelu(a, approximate=True)

    @staticmethod
    def cross_entropy(logits: Any, y: Any) -> Any:
        import jax

        return -jax.numpy.take_along_axis(jax.nn.log_softmax(logits), y[..., None], -1).mean()


def _by_torch(arrays: dict[str, Any], x: Any, y: Any, case: tuple[int, ...]) -> Callable[[], float]:
    import torch

    parameters = {name: torch.from_numpy(a.copy()).requires_grad_() for name, a in arrays.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=RATE, eps=EPSILON, fused=True)
    tx, ty = torch.from_numpy(x.astype("i8")), torch.from_numpy(y)

    def step() -> float:
        value = _loss(_Torch, parameters, tx, ty, case)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step


def _by_jax(arrays: dict[str, Any], x: Any, y: Any, case: tuple[int, ...]) -> Callable[[], float]:
    import jax
    from jax import numpy as jnp

    def update(parameters: Any, first: Any, second: Any, t: Any) -> Any:
        value, g = jax.value_and_grad(lambda p: _loss(_Jax, p, x, y, case))(parameters)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, g)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, g)
        low, high = 1 - 0.9**t, 1 - 0.999**t
        new = jax.tree.map(lambda p, m, v: p - RATE * (m / low) / (jnp.sqrt(v / high) + EPSILON), parameters, first, second)
        return new, first, second, value

    jitted = jax.jit(update, donate_argnums=(0, 1, 2))
    state = [jax.tree.map(jnp.asarray, arrays), *(jax.tree.map(jnp.zeros_like, arrays) for _ in range(2))]
    count = 0

    def step() -> float:
        nonlocal count
        count += 1
        *state[:], value = jitted(*state, float(count))
        return float(value)

    return step


def transformer(name: str) -> Pairs:
    """A whole step beside PyTorch's, and beside JAX's where it is installed; the losses of the first five must agree."""
    from dagtrain.engines.inline import StepRunner

    case = TRANSFORMERS[name]
    blocks, width, heads, steps, rows, tokens = case
    model = dt.nn.models.TransformerLM(tokens, blocks, heads, width, steps)
    columns = dt.data.Columns.of(dt.Spec((steps,), np.dtype("i4")), dt.Spec((steps,), np.dtype("i8")))
    optimizer = dt.optim.adam(RATE, epsilon=EPSILON)
    program = dt.step.Program(dt.step.ModelObjective(model, "cross_entropy", []), optimizer, columns, seed=0)
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, tokens, (rows, steps)).astype("i4"), draw.integers(0, tokens, (rows, steps))
    pairs: Pairs = {}
    for what, make in (("step", _by_torch), *([("step beside JAX", _by_jax)] if find_spec("jax") is not None else [])):
        runner = StepRunner(program.for_workers([rows]), program.first_state(), 1)
        views = program.layout.views(runner.state.parameters)
        arrays = {n: a.copy() for n, a in zip(program.layout.names, views, strict=True)}

        def ours(runner: Any = runner) -> float:
            total, weight = runner.step([(x, y)])[:2]
            return float(total / weight)

        theirs = make(arrays, x, y, case)
        for i in range(5):
            left, right = ours(), theirs()
            if abs(left - right) > 1e-3:
                raise SystemExit(f"{name}, {what}: they do not compute the same: step {i} has the loss {left} and {right}.")
        pairs[what] = ours, theirs
    return pairs
