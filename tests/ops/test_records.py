"""What every op's record says about its kernel and its shape rule, checked on the record's own samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DTypeError, GraphError, ShapeError, UnknownNameError
from dagtrain.graph import Graph, make_spec, spec_of
from dagtrain.ops import OPS, Op, Sample, as_tensor, find
from dagtrain.plan.interpret import interpret

from ..each import each
from . import window_references
from .cases import CASES, WITHOUT_SAMPLES, draws


def standardised(x: Any, scale: Any, offset: Any, epsilon: float) -> tuple[Any, ...]:
    samples = tuple(range(x.ndim - 1))
    mean, variance = x.mean(samples), np.square(x - x.mean(samples)).mean(samples)
    return (x - mean) / np.sqrt(variance + epsilon) * scale + offset, mean, variance


def normalised(x: Any, scale: Any, offset: Any, epsilon: float, center: bool) -> tuple[Any, ...]:
    mean = x.mean(-1, keepdims=True) * center
    inverse = 1 / np.sqrt(np.square(x - mean).mean(-1, keepdims=True) + epsilon)
    return (x - mean) * inverse * scale + offset, mean, inverse


def attended(q: Any, k: Any, v: Any, *mask: Any, scale: float, causal: bool, fill: float | None, empty: str, time: int) -> Any:
    q, k, v = (np.moveaxis(a, time, -2) for a in (q, k, v))
    scores = q @ k.swapaxes(-1, -2) * scale
    scores = np.where(mask[0], scores, -np.inf if fill is None else fill) if mask else scores
    scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf) if causal else scores
    total = np.exp(scores).sum(-1, keepdims=True)
    weights = np.exp(scores) / np.where(total == 0, 1, total)
    return np.moveaxis(weights @ v, -2, time)


def share_of_gelu(x: Any, approximate: bool) -> Any:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 + 0.5 * (np.tanh(inner) if approximate else np.vectorize(math.erf)(x / math.sqrt(2)))


REFERENCES: dict[str, Callable[..., Any]] = {
    "attention": attended,
    **{f"batch_norm[{i}]": lambda *arrays, i=i, **attributes: standardised(*arrays, **attributes)[i] for i in range(3)},
    "gelu[0]": lambda x, approximate: x * share_of_gelu(x, approximate),
    "gelu[1]": share_of_gelu,
    "imag": np.imag,
    "real": np.real,
    "cast": lambda a, dtype: a.astype(dtype),
    "concatenate": lambda *parts, axis: np.concatenate(parts, axis),
    "erf": np.vectorize(math.erf),
    "flip": np.flip,
    **{name: getattr(np.fft, name) for name in ("fft", "ifft", "rfft")},
    "irfft": lambda a, length, axis, norm: np.fft.irfft(a, n=length, axis=axis, norm=norm),
    "log_softmax": lambda a, axis: np.log(np.exp(a) / np.exp(a).sum(axis, keepdims=True)),
    **{f"layer_norm[{i}]": lambda *arrays, i=i, **attributes: normalised(*arrays, **attributes)[i] for i in range(3)},
    "logsumexp": lambda a, axis, keepdims: np.log(np.exp(a).sum(axis, keepdims=keepdims)),
    "norm": lambda a, axis, keepdims: np.sqrt((a**2).sum(axis, keepdims=keepdims)),
    "one_minus_square": lambda a: 1 - a * a,
    "sinc": lambda x, order: [
        np.sinc(x),
        (np.cos(np.pi * x) - np.sinc(x)) / x,
        -np.pi * np.sin(np.pi * x) / x - 2 * (np.cos(np.pi * x) - np.sinc(x)) / x**2,
    ][order],
    "one_hot": lambda labels, classes, dtype: np.eye(classes)[labels],
    "pad": lambda a, width, value: np.pad(a, width, constant_values=value),
    "relu": lambda a: np.where(a > 0, a, 0),
    "relu_gradient": lambda g, y: np.where(y > 0, g, 0),
    "reshape": lambda a, shape: a.reshape(shape),
    "maximum_mask": lambda a, b: np.heaviside(a - b, 0.5),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    **{name: getattr(np.linalg, name) for name in ("inv", "solve", "det")},
    **{f"slogdet[{i}]": lambda a, i=i: np.linalg.slogdet(a)[i] for i in range(2)},
    "softmax": lambda a, axis: np.exp(a) / np.exp(a).sum(axis, keepdims=True),
    "softplus": lambda a: np.log1p(np.exp(a)),
    "max_pool[0]": window_references.max_pool,
    "max_pool[1]": window_references.max_positions,
    "conv": window_references.conv,
    "tiled_conv": window_references.conv,
    "patches": window_references.patches,
    "sum_pool": window_references.sum_pool,
    "sort[0]": np.sort,
    "sort[1]": np.argsort,
    "stop_gradient": lambda a: a,
    "where": np.where,
    "einsum": lambda *arrays, subscripts: np.einsum(subscripts, *arrays),
    "top_k[0]": lambda a, k, axis: np.take(np.sort(a, axis), range(a.shape[axis] - 1, a.shape[axis] - 1 - k, -1), axis),
    "top_k[1]": lambda a, k, axis: np.take(np.argsort(-a, axis, kind="stable"), range(k), axis),
    "transpose": np.transpose,
    "barrier": lambda a, g: a,
    "broadcast_to": np.broadcast_to,
    "take": np.take,
    "take_along_axis": np.take_along_axis,
    "gather": lambda a, *i: a[i],
    **{name: getattr(np, name) for name in ("sum", "mean", "prod", "max", "min", "any", "all", "argmax", "argmin", "cumsum", "cumprod")},
}


def run(op: Op, sample: Sample, arrays: list[Any], **extra: Any) -> Any:
    with np.errstate(all="ignore"):
        return op.kernel(*arrays, **sample.attributes, **extra)


def garbage(spec: Any) -> Any:
    """Memory with leftovers of another value."""
    fill = {"f": np.nan, "c": np.nan, "b": True}.get(spec.dtype.kind, 99)
    return np.full(spec.shape, fill, spec.dtype)


def same_bits(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_every_op_has_samples() -> None:
    assert {name for name, op in OPS.items() if not op.samples} == WITHOUT_SAMPLES


@each(CASES)
def test_kernel_gives_what_the_shape_rule_says(op: Op, sample: Sample) -> None:
    arrays = draws(op, sample)
    spec = op.infer(*(spec_of(a) for a in arrays), **sample.attributes)
    result = np.asarray(run(op, sample, arrays))
    assert make_spec(result.shape, result.dtype) == spec


@each(CASES)
def test_node_has_the_spec_of_the_shape_rule(op: Op, sample: Sample) -> None:
    arrays = draws(op, sample)
    node = op(*(dt.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)), **sample.attributes)
    assert node.spec == op.infer(*(spec_of(a) for a in arrays), **sample.attributes)
    made = f"{node.inputs[0].op}[{node.attribute('index')}]" if node.is_part else node.op
    assert made in (op.name, "concatenate")


@each(CASES)
def test_kernel_leaves_its_inputs_alone(op: Op, sample: Sample) -> None:
    arrays, copies = draws(op, sample), draws(op, sample)
    for a in arrays:
        a.setflags(write=False)
    run(op, sample, arrays)
    assert all(same_bits(a, c) for a, c in zip(arrays, copies, strict=True))


@each([c for c in CASES if not c.values[0].view])  # type: ignore[attr-defined]
def test_kernel_fills_out_to_the_last_bit(op: Op, sample: Sample) -> None:
    arrays = draws(op, sample)
    plain = np.asarray(run(op, sample, arrays))
    out = garbage(spec_of(plain))
    result = run(op, sample, arrays, out=out)
    assert result is out
    assert same_bits(out, plain)


@each([c for c in CASES if c.values[0].kernel.scratch])  # type: ignore[attr-defined]
def test_kernel_overwrites_its_scratch_before_reading_it(op: Op, sample: Sample) -> None:
    arrays = draws(op, sample)
    plain = np.asarray(run(op, sample, arrays))
    assert op.kernel.scratch is not None
    scratch = tuple(garbage(s) for s in op.kernel.scratch(*(spec_of(a) for a in arrays), **sample.attributes))
    assert same_bits(run(op, sample, arrays, scratch=scratch), plain)
    assert same_bits(run(op, sample, arrays, scratch=scratch, out=garbage(spec_of(plain))), plain)


@each([c for c in CASES if c.values[0].kernel.inplace])  # type: ignore[attr-defined]
def test_inplace_kernel_works_in_place(op: Op, sample: Sample) -> None:
    arrays = draws(op, sample)
    plain = np.asarray(run(op, sample, arrays))
    if spec_of(plain) != spec_of(arrays[0]):
        return
    operands = [arrays[0].copy(), *arrays[1:]]
    assert same_bits(run(op, sample, operands, out=operands[0]), plain)


@each([c for c in CASES if c.values[0].view])  # type: ignore[attr-defined]
def test_view_kernel_gives_a_view(op: Op, sample: Sample) -> None:
    arrays = draws(op, sample)
    assert np.shares_memory(run(op, sample, arrays), arrays[0])


@each(CASES)
def test_kernel_takes_strided_inputs(op: Op, sample: Sample) -> None:
    arrays = draws(op, sample)
    strided = [np.repeat(a, 2, -1)[..., ::2] if a.ndim else a for a in arrays]
    np.testing.assert_allclose(np.asarray(run(op, sample, strided)), np.asarray(run(op, sample, arrays)), rtol=1e-13)


@each(CASES)
def test_float32_stays_float32(op: Op, sample: Sample) -> None:
    arrays = [a.astype(np.float32) if a.dtype == np.float64 else a for a in draws(op, sample)]
    spec = op.infer(*(spec_of(a) for a in arrays), **sample.attributes)
    result = np.asarray(run(op, sample, arrays))
    assert result.dtype == spec.dtype
    wide = np.asarray(run(op, sample, draws(op, sample)))
    if (
        wide.dtype == np.float64
        and "dtype" not in sample.attributes
        and any(a.dtype == np.float32 for a in arrays)
        and op.name != "float_power"
    ):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, wide, rtol=2e-5, atol=2e-5)


@each([c for c in CASES if c.values[0].expand is not None])  # type: ignore[attr-defined]
def test_kernel_agrees_with_the_smaller_ops(op: Op, sample: Sample) -> None:
    arrays = draws(op, sample)
    leaves = {f"x{i}": dt.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)}
    assert op.expand is not None
    expanded = op.expand(*leaves.values(), **sample.attributes)
    values = interpret(Graph(leaves, {f"y{i}": t for i, t in enumerate(expanded)}), *arrays)
    np.testing.assert_allclose(np.ravel(run(op, sample, arrays)), np.concatenate([np.ravel(v) for v in values]), rtol=1e-12, atol=1e-14)


@each([c for c in CASES if c.values[0].name in REFERENCES])  # type: ignore[attr-defined]
def test_kernel_agrees_with_numpy(op: Op, sample: Sample) -> None:
    arrays = draws(op, sample)
    np.testing.assert_allclose(run(op, sample, arrays), REFERENCES[op.name](*arrays, **sample.attributes), rtol=1e-13, atol=1e-15)


def test_kernels_are_numpy_ufuncs_or_have_a_reference() -> None:
    transposes = {"scatter_add", "take_transpose", "take_along_axis_transpose", "unslice", "slice", "matmul"}  # checked by their gradients
    transposes |= {
        "conv_by_input",
        "conv_by_kernel",
        "tiled_conv_by_input",
        "max_unpool",
        "max_pick",
        "sum_unpool",
        "patches_transpose",
        "layer_norm_gradient",
        "gelu_gradient",
        "attention_gradient",
        "batch_norm_gradient",
    }
    scatters = {f"scatter_{how}" for how in ("set", "multiply", "maximum", "minimum")}  # tests/ops/test_scatter.py
    randoms = {"random_uniform", "random_normal", "fold_in"}  # tests/ops/test_random.py
    ufuncs = {name for name, op in OPS.items() if op.ufunc is not None}
    expanded = {name for name, op in OPS.items() if op.expand is not None}
    checked = {name.partition("[")[0] for name in REFERENCES} | transposes | scatters | randoms | WITHOUT_SAMPLES | ufuncs | expanded
    assert set(OPS) <= checked


@each(CASES)
def test_flops_are_counted(op: Op, sample: Sample) -> None:
    node = op(*(dt.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate(draws(op, sample))), **sample.attributes)
    count = op.count_flops(node)
    assert isinstance(count, float)
    assert count >= 0


@each(sorted(n for n, op in OPS.items() if op.ufunc is not None))
def test_ufunc_of_nothing_is_nothing(name: str) -> None:
    op = find(name)
    dtype = op.samples[0].draws[0].dtype
    nodes = [dt.input(f"x{i}", (0, 3), dtype) for i in range(len(op.samples[0].draws))]
    node = op(*nodes)
    (value,) = interpret(Graph.of(node), *(np.zeros((0, 3), dtype) for _ in nodes))
    assert value.shape == (0, 3)


def test_two_ops_of_one_name_are_an_error() -> None:
    with pytest.raises(GraphError, match="two ops named 'tanh'"):
        Op("tanh", np.tanh, lambda a: a)


def test_unknown_op_has_a_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'softmax'"):
        find("sofmax")


def test_shapes_that_do_not_combine_are_named() -> None:
    with pytest.raises(ShapeError, match=r"add cannot combine shapes \(3, 4\) and \(3,\).*x\[:, None\]"):
        OPS["add"](dt.input("a", (3, 4)), dt.input("b", (3,)))


def test_dtype_without_a_loop_is_named() -> None:
    with pytest.raises(DTypeError, match="bitwise_and is not defined for float32 and float32"):
        OPS["bitwise_and"](dt.input("a", (3,)), dt.input("b", (3,)))


@pytest.mark.parametrize("wrong", ["text", object(), [1, "a"], {"a": 1}])
def test_what_is_no_number_is_an_error(wrong: Any) -> None:
    with pytest.raises(DTypeError):
        as_tensor(wrong)


def test_sigmoid_of_large_negative_numbers_has_correct_digits_and_no_overflow() -> None:
    for dtype, at in (("f4", -20.0), ("f8", -40.0)):
        x = np.array([at, 0.0, 200.0, -2000.0], dtype)
        got = OPS["sigmoid"].kernel(x)
        np.testing.assert_allclose(got[:3], 1 / (1 + np.exp(-x[:3].astype(np.longdouble))), rtol=5 * np.finfo(dtype).eps)
        assert got[3] == 0


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i8"])
def test_norm_and_logsumexp_of_whole_numbers_do_not_wrap(dtype: str) -> None:
    x = np.array([100, 100, 1]).astype(dtype)
    for name, right in (("norm", np.sqrt((x.astype(float) ** 2).sum())), ("logsumexp", np.logaddexp.reduce(x.astype(float)))):
        np.testing.assert_allclose(OPS[name].kernel(x, axis=(0,), keepdims=False), right, rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3000, 25), (64, 33, 40, 3), (2, 300, 200, 64), (70_000, 1)])
def test_sums_of_many_short_rows_are_exact_in_any_memory_order(shape):
    a = np.random.default_rng(0).normal(1.0, 1.0, shape).astype("f4")
    axis = tuple(range(len(shape) - 1))
    for name in ("sum", "mean"):
        kernel = OPS[name].kernel
        expected = getattr(a.astype("f8"), name)(axis)
        np.testing.assert_allclose(kernel(a, axis=axis, keepdims=False), expected, rtol=1e-5)
        out = np.empty((*(1,) * len(axis), shape[-1]), "f4")
        assert kernel(np.asfortranarray(a), out=out, axis=axis, keepdims=True) is out
        np.testing.assert_array_equal(out.ravel(), kernel(a, axis=axis, keepdims=False))
