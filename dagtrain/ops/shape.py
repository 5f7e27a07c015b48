"""Ops that move elements without changing them: views where NumPy has views, else copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dagtrain.errors import ShapeError
from dagtrain.graph import Spec, Tensor, make_spec
from dagtrain.ops.record import Draw, Kernel, Op, Sample, as_tensor, axes_of, axis_of, cleared, size_of

# ---- views


def _reshape_spec(a: Spec, *, shape: tuple[int, ...]) -> Spec:
    if math.prod(shape) != a.size:
        raise ShapeError(f"cannot reshape {a.shape} ({a.size} elements) to {shape} ({math.prod(shape)} elements).")
    return make_spec(shape, a.dtype)


def _reshape_kernel(a: Any, out: Any = None, *, shape: tuple[int, ...]) -> Any:
    if out is None:
        return a.reshape(shape)
    np.copyto(out.reshape(a.shape), a)
    return out


def _can_reshape(a: Any, *, shape: tuple[int, ...]) -> bool:
    try:
        np.reshape(a, shape, copy=False)
    except ValueError:
        return False
    return True


_reshape = Op(
    "reshape",
    Kernel(_reshape_kernel, view=_can_reshape),
    _reshape_spec,
    lambda g, y, a, *, shape: (reshape(g, a.shape),),
    (Sample((Draw(),), {"shape": (2, 6)}), Sample((Draw(),), {"shape": (12,)})),
)
_transpose = Op(
    "transpose",
    Kernel(lambda a, *, axes: a.transpose(axes), view=True),
    lambda a, *, axes: Spec(tuple(a.shape[i] for i in axes), a.dtype),
    lambda g, y, a, *, axes: (transpose(g, tuple(int(i) for i in np.argsort(axes))),),
    (Sample((Draw((2, 3, 4)),), {"axes": (2, 0, 1)}),),
)


def _broadcast_spec(a: Spec, *, shape: tuple[int, ...]) -> Spec:
    try:
        fits = np.broadcast_shapes(a.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"cannot broadcast {a.shape} to {shape}: counted from the last axis, lengths must be equal or 1.")
    return make_spec(shape, a.dtype)


_broadcast_to = Op(
    "broadcast_to",
    Kernel(lambda a, *, shape: np.broadcast_to(a, shape), view=True),
    _broadcast_spec,
    lambda g, y, a, *, shape: (g,),  # summed back by the gradient transform, as for every broadcast
    (Sample((Draw((3, 1)),), {"shape": (2, 3, 4)}), Sample((Draw(()),), {"shape": (3,)})),
)


def _slices(index: Sequence[tuple[int, int | None, int]]) -> tuple[slice, ...]:
    return tuple(slice(*part) for part in index)


def _slice_spec(a: Spec, *, index: tuple[tuple[int, int | None, int], ...]) -> Spec:
    shape = tuple(len(range(n)[s]) for n, s in zip(a.shape, _slices(index), strict=True))
    return Spec(shape, a.dtype)


_slice = Op(
    "slice",
    Kernel(lambda a, *, index: a[_slices(index)], view=True),
    _slice_spec,
    lambda g, y, a, *, index: (_unslice(g, shape=a.shape, index=index),),
    (
        Sample((Draw((5, 4)),), {"index": ((1, 5, 2), (0, 4, 1))}),
        Sample((Draw((5, 4)),), {"index": ((4, None, -2), (3, 0, -1))}),
    ),
)


def _unslice_kernel(g: Any, out: Any = None, *, shape: tuple[int, ...], index: Any) -> Any:
    out = cleared(out, shape, g.dtype)
    out[_slices(index)] = g
    return out


_unslice: Op = Op(
    "unslice",
    _unslice_kernel,
    lambda g, *, shape, index: make_spec(shape, g.dtype),
    lambda h, y, g, *, shape, index: (_slice(h, index=index),),
    (Sample((Draw((2, 4)),), {"shape": (5, 4), "index": ((1, 5, 2), (0, 4, 1))}),),
)
_flip = Op(
    "flip",
    Kernel(lambda a, *, axis: np.flip(a, axis), view=True),
    lambda a, *, axis: a,
    lambda g, y, a, *, axis: (flip(g, axis),),
    (Sample((Draw(),), {"axis": (0,)}), Sample((Draw(),), {"axis": (0, 1)})),
)

# ---- copies


def _concatenate_spec(*parts: Spec, axis: int) -> Spec:
    first = parts[0]
    for part in parts[1:]:
        if part.ndim != first.ndim or any(m != n for i, (m, n) in enumerate(zip(first.shape, part.shape, strict=True)) if i != axis):
            shapes = ", ".join(str(p.shape) for p in parts)
            raise ShapeError(f"concatenate along axis {axis} needs equal lengths on all other axes, got shapes {shapes}.")
    shape = list(first.shape)
    shape[axis] = sum(p.shape[axis] for p in parts)
    return Spec(tuple(shape), np.result_type(*(p.dtype for p in parts)))


def _concatenate_gradient(g: Tensor, y: Tensor, *parts: Tensor, axis: int) -> tuple[Tensor, ...]:
    pieces, start = [], 0
    for part in parts:
        stop = start + part.shape[axis]
        pieces.append(_slice(g, index=tuple((start, stop, 1) if i == axis else (0, n, 1) for i, n in enumerate(g.shape))))
        start = stop
    return tuple(pieces)


_concatenate = Op(
    "concatenate",
    lambda *parts, out=None, axis: np.concatenate(parts, axis, out=out),
    _concatenate_spec,
    _concatenate_gradient,
    (Sample((Draw((3, 2)), Draw((3, 4))), {"axis": 1}), Sample((Draw((1, 2)), Draw((2, 2)), Draw((1, 2))), {"axis": 0})),
    flops=lambda *_, **__: 0.0,
)


def _pad_kernel(a: Any, out: Any = None, *, width: tuple[tuple[int, int], ...], value: float) -> Any:
    if out is None:
        out = np.empty(tuple(n + b + e for n, (b, e) in zip(a.shape, width, strict=True)), a.dtype)
    out[...] = value
    out[tuple(slice(b, b + n) for n, (b, _) in zip(a.shape, width, strict=True))] = a
    return out


def _pad_spec(a: Spec, *, width: tuple[tuple[int, int], ...], value: float) -> Spec:
    if any(b < 0 or e < 0 for b, e in width):
        raise ShapeError(f"pad widths are 0 or more, got {width}.")
    return Spec(tuple(n + b + e for n, (b, e) in zip(a.shape, width, strict=True)), a.dtype)


_pad = Op(
    "pad",
    _pad_kernel,
    _pad_spec,
    lambda g, y, a, *, width, value: (_slice(g, index=tuple((b, b + n, 1) for n, (b, _) in zip(a.shape, width, strict=True))),),
    (Sample((Draw(),), {"width": ((1, 0), (2, 3)), "value": 0.5}),),
    flops=lambda *_, **__: 0.0,
)

# ---- functions that check their arguments


def reshape(a: Tensor, shape: Any) -> Tensor:
    """The elements in another shape; one length may be -1."""
    lengths = [int(n) for n in ((shape,) if isinstance(shape, int | np.integer) else shape)]
    if lengths.count(-1) == 1:
        rest = math.prod(n for n in lengths if n != -1)
        if rest == 0 or a.size % rest:
            raise ShapeError(f"cannot reshape {a.shape} ({a.size} elements) to {tuple(lengths)}: {a.size} is not a multiple of {rest}.")
        lengths[lengths.index(-1)] = a.size // rest
    if any(n < 0 for n in lengths):
        raise ShapeError(f"cannot reshape {a.shape} to {tuple(lengths)}: lengths are 0 or more, and at most one is -1.")
    return a if tuple(lengths) == a.shape else _reshape(a, shape=tuple(lengths))


def transpose(a: Tensor, axes: Any = None) -> Tensor:
    """The axes in another order, by default reversed."""
    order = tuple(range(a.ndim))[::-1] if axes is None else tuple(axes)
    if axes is not None and axes_of("transpose", order, a.ndim) != tuple(range(a.ndim)):
        raise ShapeError(f"transpose of {a.ndim} axes needs each of them once, got {order}.")
    order = tuple(int(i) % a.ndim for i in order)
    return a if order == tuple(range(a.ndim)) else _transpose(a, axes=order)


def moveaxis(a: Tensor, source: Any, destination: Any) -> Tensor:
    """Move axes to new places; the other axes stay in order."""
    from_axes, to_axes = (
        [axis_of("moveaxis", i, a.ndim) for i in ((axes,) if isinstance(axes, int | np.integer) else axes)]
        for axes in (source, destination)
    )
    if len(from_axes) != len(to_axes) or len({*from_axes}) < len(from_axes) or len({*to_axes}) < len(to_axes):
        raise ShapeError(f"moveaxis moves each axis once, to a place of its own: got {source} and {destination}.")
    order = [i for i in range(a.ndim) if i not in from_axes]
    for to, start in sorted(zip(to_axes, from_axes, strict=True)):
        order.insert(to, start)
    return transpose(a, order)


def swapaxes(a: Tensor, first: int, second: int) -> Tensor:
    """Exchange two axes."""
    order = list(range(a.ndim))
    first, second = axis_of("swapaxes", first, a.ndim), axis_of("swapaxes", second, a.ndim)
    order[first], order[second] = second, first
    return transpose(a, order)


def broadcast_to(a: Tensor, shape: Any) -> Tensor:
    """Repeat along axes of length 1 and new leading axes."""
    lengths = tuple(int(n) for n in ((shape,) if isinstance(shape, int) else shape))
    return a if lengths == a.shape else _broadcast_to(a, shape=lengths)


def expand_dims(a: Tensor, axis: Any) -> Tensor:
    """Insert axes of length 1."""
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    places = axes_of("expand_dims", tuple(axes), a.ndim + len(axes))
    lengths = iter(a.shape)
    return reshape(a, [1 if i in places else next(lengths) for i in range(a.ndim + len(axes))])


def squeeze(a: Tensor, axis: Any = None) -> Tensor:
    """Remove axes of length 1."""
    axes = tuple(i for i, n in enumerate(a.shape) if n == 1) if axis is None else axes_of("squeeze", axis, a.ndim)
    for i in axes:
        if a.shape[i] != 1:
            raise ShapeError(f"squeeze: axis {i} of shape {a.shape} has length {a.shape[i]}, not 1.")
    return reshape(a, [n for i, n in enumerate(a.shape) if i not in axes])


def slice_(a: Tensor, index: tuple[slice, ...]) -> Tensor:
    """Basic slicing, one slice an axis; steps may be negative."""
    parts = []
    for n, s in zip(a.shape, index, strict=True):
        start, stop, step = s.indices(n)
        empty = not range(start, stop, step)  # then `start` may be -1, which would count from the end
        parts.append((0, 0, 1) if empty else (start, None if stop < 0 else stop, step))
    full = all(p == (0, n, 1) for p, n in zip(parts, a.shape, strict=True))
    return a if full else _slice(a, index=tuple(parts))


def flip(a: Tensor, axis: Any = None) -> Tensor:
    """Reverse the order along axes."""
    axes = axes_of("flip", axis, a.ndim)
    return _flip(a, axis=axes) if axes else a


def concatenate(parts: Sequence[Any], axis: int | None = 0) -> Tensor:
    """Join along an axis that exists; ``axis=None`` joins the flattened parts."""
    tensors = [as_tensor(p) for p in parts]
    if not tensors:
        raise ShapeError("concatenate needs at least one part.")
    if axis is None:
        tensors, axis = [reshape(t, (-1,)) for t in tensors], 0
    place = axis_of("concatenate", axis, tensors[0].ndim)
    return tensors[0] if len(tensors) == 1 else _concatenate(*tensors, axis=place)


def stack(parts: Sequence[Any], axis: int = 0) -> Tensor:
    """Join along a new axis."""
    tensors = [as_tensor(p) for p in parts]
    if len({t.shape for t in tensors}) != 1:
        raise ShapeError(f"stack needs equal shapes, got {', '.join(str(t.shape) for t in tensors)}.")
    return concatenate([expand_dims(t, axis) for t in tensors], axis)


def split(a: Tensor, sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut along an axis into equal parts, or at these positions."""
    place = axis_of("split", axis, a.ndim)
    n = a.shape[place]
    if isinstance(sections, int | np.integer):
        if sections < 1 or n % sections:
            raise ShapeError(f"split: axis {axis} of length {n} does not divide into {sections} equal parts.")
        cuts = [n // int(sections) * i for i in range(1, int(sections))]
    else:
        cuts = [int(i) for i in sections]
    pieces = []
    for start, stop in zip([0, *cuts], [*cuts, n], strict=True):
        pieces.append(slice_(a, tuple(slice(start, stop) if i == place else slice(None) for i in range(a.ndim))))
    return pieces


def pad(a: Tensor, width: Any, value: float = 0.0) -> Tensor:
    """Surround with a constant; `width` as in numpy.pad."""
    pairs = np.broadcast_to(np.asarray(width), (a.ndim, 2)) if a.ndim else ()
    return _pad(
        a, width=tuple((int(b), int(e)) for b, e in pairs), value=int(value) if isinstance(value, int | np.integer) else float(value)
    )


def repeat_axis(a: Tensor, count: int, axis: int) -> Tensor:
    """Each element `count` times along an axis."""
    place = axis_of("repeat", axis, a.ndim)
    wide = expand_dims(a, place + 1)
    shape = [*a.shape[: place + 1], count, *a.shape[place + 1 :]]
    merged = [*a.shape[:place], a.shape[place] * count, *a.shape[place + 1 :]]
    return reshape(broadcast_to(wide, shape), merged)


def tile(a: Tensor, reps: Any) -> Tensor:
    """The whole tensor repeated along axes, as numpy.tile."""
    counts = [int(r) for r in ((reps,) if isinstance(reps, int | np.integer) else reps)]
    ndim = max(a.ndim, len(counts))
    counts = [1] * (ndim - len(counts)) + counts
    shape = [1] * (ndim - a.ndim) + list(a.shape)
    wide = reshape(a, [m for n in shape for m in (1, n)])
    full = broadcast_to(wide, [m for c, n in zip(counts, shape, strict=True) for m in (c, n)])
    return reshape(full, [c * n for c, n in zip(counts, shape, strict=True)])


def roll(a: Tensor, shift: Any, axis: Any = None) -> Tensor:
    """Shift along axes; elements shifted off one end come back at the other."""
    if axis is None:
        return reshape(roll(reshape(a, (-1,)), int(np.sum(shift)), 0), a.shape)
    for step, along in np.broadcast(shift, axis):
        place = axis_of("roll", int(along), a.ndim)
        n = a.shape[place]
        cut = (n - int(step)) % n if n else 0
        a = a if cut == 0 else concatenate(split(a, [cut], place)[::-1], place)
    return a


__all__ = [
    "broadcast_to", "concatenate", "expand_dims", "flip", "moveaxis", "pad", "repeat_axis", "reshape", "roll", "size_of", "slice_", "split",
    "squeeze", "stack", "swapaxes", "tile", "transpose",
]  # fmt: skip
