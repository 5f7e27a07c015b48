"""Random numbers as ops: a pure function of a key, the same on any machine, thread or worker.

A key is two unsigned 64-bit integers and goes to the counter-based generator Philox (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011).
One key gives one draw: derive a new key for each with `fold_in`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dagtrain import arguments
from dagtrain.errors import ArgumentError, DTypeError, ShapeError
from dagtrain.graph import Array, Spec, Tensor, held, make_spec
from dagtrain.ops.record import ZERO, Draw, Op, Sample, as_tensor, written

_KEY = Spec((2,), np.dtype(np.uint64))
_KEY_DRAW = Draw((2,), 0, 1000, "u8")


def _check(name: str, key: Spec) -> None:
    if key.shape != (2,) or key.dtype != np.uint64:
        kind = ShapeError if key.shape != (2,) else DTypeError
        raise kind(f"{name}: a key is uint64[2] (make one with dagtrain.key(seed)), got {key}.")


def key(seed: int) -> Array:
    """The key of a seed.

    Examples
    --------
    >>> key(7)
    array([7, 0], dtype=uint64)
    """
    return np.array([arguments.seed(seed), 0], np.uint64)


class _Key(np.random.bit_generator.ISeedSequence):
    """Gives a generator its key: ``Philox(key=key)`` first asks the operating system for a seed, which takes three times as long."""

    def __init__(self, key: Any) -> None:
        self.key = np.asarray(key, np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Array:
        return self.key


def _philox(key: Any, counter: Array | None = None) -> np.random.Philox:
    return np.random.Philox(_Key(key), counter=counter)  # type: ignore[arg-type]  # NumPy's types forget ISeedSequence


def derive(parent: Any, number: Any) -> Array:
    """`fold_in` on arrays: the key derived from a key and a number."""
    counter = np.array([int(number) & (2**64 - 1), 0x6461677472, 0, 0], np.uint64)
    return _philox(parent, counter).random_raw(2)


def _fold_kernel(parent: Any, number: Any, out: Any = None) -> Any:
    child = derive(parent, number)
    return written(child, out)


def _fold_spec(parent: Spec, number: Spec) -> Spec:
    _check("fold_in", parent)
    if number.shape or number.dtype.kind not in "iu":
        raise DTypeError(f"fold_in takes one whole number, got {number}.")
    return _KEY


_fold = Op("fold_in", _fold_kernel, _fold_spec, ZERO, (Sample((_KEY_DRAW, Draw((), 0, 9, "i8"))),), flops=lambda *_: 0.0)


def fold_in(parent: Any, number: Any) -> Tensor:
    """A new key from a key and a whole number; different numbers give independent keys."""
    return _fold(as_tensor(parent), as_tensor(number))


def _generator(key: Any) -> np.random.Generator:
    return np.random.Generator(_philox(key))


def _drawn(shape: tuple[int, ...], dtype: str, out: Any, draw: Any) -> Any:
    if out is None:
        out = np.empty(shape, dtype)
    kind = np.float32 if out.dtype == np.float32 else np.float64
    if out.dtype == kind and out.flags.c_contiguous:
        draw(out=out, dtype=kind)
    else:
        out[...] = draw(shape, dtype=kind)
    return out


def _spec(name: str) -> Any:
    def infer(key: Spec, *, shape: tuple[int, ...], dtype: str) -> Spec:
        _check(name, key)
        spec = make_spec(shape, dtype)
        if spec.dtype.kind != "f":
            raise DTypeError(f"{name} draws floats, not {spec.dtype}.")
        return spec

    return infer


_SAMPLES = (Sample((_KEY_DRAW,), {"shape": (3, 4), "dtype": "<f8"}),)
_uniform = Op(
    "random_uniform",
    lambda key, out=None, *, shape, dtype: _drawn(shape, dtype, out, _generator(key).random),
    _spec("uniform"),
    ZERO,
    _SAMPLES,
    flops=lambda spec, *_, **__: 10.0 * spec.size,
)
_normal = Op(
    "random_normal",
    lambda key, out=None, *, shape, dtype: _drawn(shape, dtype, out, _generator(key).standard_normal),
    _spec("normal"),
    ZERO,
    _SAMPLES,
    flops=lambda spec, *_, **__: 20.0 * spec.size,
)


def uniform(key: Any, shape: Any = (), low: float = 0.0, high: float = 1.0, dtype: Any = np.float32) -> Tensor:
    """Uniform random numbers from [low, high)."""
    drawn = _uniform(as_tensor(key), shape=make_spec(shape, dtype).shape, dtype=held(dtype).str)
    return drawn if (low, high) == (0.0, 1.0) else drawn * (high - low) + low


def normal(key: Any, shape: Any = (), mean: float = 0.0, std: float = 1.0, dtype: Any = np.float32) -> Tensor:
    """Numbers from the normal distribution."""
    drawn = _normal(as_tensor(key), shape=make_spec(shape, dtype).shape, dtype=held(dtype).str)
    return drawn if (mean, std) == (0.0, 1.0) else drawn * std + mean


def bernoulli(key: Any, probability: Any, shape: Any = (), dtype: Any = np.float32) -> Tensor:
    """1 with this probability, else 0."""
    if isinstance(probability, int | float) and not 0 <= probability <= 1:
        raise ArgumentError(f"a probability must be between 0 and 1, got {probability}.")
    drawn: Tensor = (uniform(key, shape, dtype=np.float32) < probability).astype(dtype)
    return drawn
