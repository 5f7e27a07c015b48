"""An op: a kernel, a shape rule, a gradient rule and a sample of its domain, in one short record.

    tanh = elementwise("tanh", np.tanh, lambda g, y, x: (g * (1 - y * y),))

A record is also the function that builds a node: ``tanh(x)``. Its tests, the interpreter, the plan and the drawing all read the
same record, so adding an op touches one place.

Kernel   ``kernel(*arrays, out=None, **attributes) -> array``; it fills ``out`` if there is one and does not allocate then; see `Kernel`.
Shapes   ``infer(*specs, **attributes) -> Spec``; raises ShapeError or DTypeError with the shapes in the message.
Gradient ``gradient(g, y, *inputs, **attributes) -> one tensor or None (zero) for each input``; g is the cotangent of the output y.
         ``ZERO``: the derivative is zero everywhere it exists. ``None``: there is no rule, and differentiating is an error, unless the
         op has `expand`. A rule may also give None, and leave these cotangents to `expand`.
         A gradient of an input may keep broadcast axes: the gradient transform sums over them.

An op with *several outputs* infers a spec with parts. Its kernel takes ``out=(array or None for each)`` and returns a tuple; its gradient
gets a list of cotangents, None for an output that leads nowhere. Its node has no value of its own: `parts` gives its outputs.

An op with *bodies* has graphs among its attributes, or tuples of graphs, and several outputs. Its kernel is bound to callables for the
bodies, and its gradient takes ``vjp=``, the transform of a body. Bodies take the node's last inputs, whole or an element at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import DTypeError, GraphError, ShapeError
from dagtrain.graph import LEAVES, PART, Spec, Tensor, bodies, constant, make

__all__ = [
    "OPS",
    "ZERO",
    "Draw",
    "Drawn",
    "Kernel",
    "Op",
    "Sample",
    "as_tensor",
    "broadcast_shapes",
    "cleared",
    "elementwise",
    "find",
    "part",
    "parts",
    "written",
]

Gradient = Callable[..., Sequence[Tensor | None] | None]


class _Zero:
    def __repr__(self) -> str:
        return "ZERO"


ZERO: Final = _Zero()


@dataclass(frozen=True)
class Draw:
    """How a test draws one input: uniform in [low, high], of this shape and dtype."""

    shape: tuple[int, ...] = (3, 4)
    low: float = -2.0
    high: float = 2.0
    dtype: str = "f8"


@dataclass(frozen=True)
class Sample:
    """One case of an op's domain: what to draw for each input, and the attributes."""

    draws: tuple[Draw, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


OPS: dict[str, Op] = {}


@dataclass(frozen=True)
class Kernel:
    """How one backend computes an op: a function, and what a plan may do with its memory."""

    call: Callable[..., Any] | None = None
    inplace: Literal["", "first", "any"] = ""
    """Whether `out` may be the memory of the first input, or of any input of the same spec."""
    positional: bool = False
    """Whether `out` may follow the inputs without its name, which is faster."""
    view: bool | Callable[..., bool] = False
    """Whether the result is a view of the first input; a function of the input and the attributes if its layout decides."""
    scratch: Callable[..., Sequence[Spec]] | None = None
    """Specs of work space that the kernel takes as `scratch=(...)`, so that it allocates nothing."""
    bind: Callable[..., Callable[..., Any]] | None = None
    """In the place of `call` for an op with bodies: ``bind(bodies, backend, **attributes) -> call(arrays, out)``."""

    def __call__(self, *arrays: Any, **attributes: Any) -> Any:
        """The result of the function."""
        assert self.call is not None
        return self.call(*arrays, **attributes)

    def is_view_of(self, array: Any, **attributes: Any) -> bool:
        """Whether the result for this first input is a view of it."""
        return self.view(array, **attributes) if callable(self.view) else self.view


class Drawn(NamedTuple):
    """What pictures say of a node with several outputs or with bodies.

    Attributes
    ----------
    title
        Of the node: ``scan × 5``.
    outputs
        A name for each output.
    inputs
        For each input of the bodies, what is written on its way in; None for a value that enters as it is.
    carries
        How many of a loop's outputs return to its first inputs.
    bodies
        A name for each body, if there are several.
    choice
        Whether only one of the bodies runs.
    """

    title: str
    outputs: Sequence[str] = ()
    inputs: Sequence[str | None] = ()
    carries: int = 0
    bodies: Sequence[str] = ()
    choice: bool = False


class Op:
    """One op; see the module's text for the contracts of its parts.

    Parameters
    ----------
    name, infer, gradient, samples
    kernel
        NumPy's kernel, which is the op's definition: a `Kernel`, or a function.
    ufunc
        The NumPy ufunc whose promotion of dtypes and broadcasting the op has, if there is one.
    macs
        Multiplications with an addition of one call, from the specs, for products; by default none.
    flops
        Floating point operations of one call, from the specs; by default two for each of `macs`, or one for each element of the output.
    repeats
        How often one call runs its bodies, from the attributes.
    prune
        ``prune(node, used, prune_graph) -> {output: tensor}`` gives the used outputs by a smaller node; empty if there is none.
    advice
        What to do in the place of a gradient, where there is no rule; by default dt.stop_gradient.
    expand
        ``expand(*inputs, **attributes) -> outputs`` makes the same of smaller ops, which are differentiated where `gradient` gives nothing.
    again
        ``again(cotangents, node, read, **attributes) -> {node: node}`` gives what gradients of nodes below this one read in their place;
        `read` gives what they would read otherwise.
    drawn
        What pictures say of a node, from the node.
    """

    def __init__(
        self,
        name: str,
        kernel: Kernel | Callable[..., Any],
        infer: Callable[..., Spec],
        gradient: Gradient | _Zero | None = None,
        samples: tuple[Sample, ...] = (),
        *,
        ufunc: np.ufunc | None = None,
        macs: Callable[..., float] | None = None,
        flops: Callable[..., float] | None = None,
        repeats: Callable[..., float] | None = None,
        prune: Callable[..., Mapping[int, Tensor]] | None = None,
        advice: str = "Wrap it in dt.stop_gradient(...) if no derivative should pass through it.",
        expand: Callable[..., Sequence[Tensor]] | None = None,
        again: Callable[..., Mapping[Tensor, Tensor]] | None = None,
        drawn: Callable[[Tensor], Drawn] | None = None,
    ) -> None:
        """Enter the op into `OPS`."""
        if name in OPS:
            raise GraphError(f"there are two ops named {name!r}.")
        self.name, self.infer, self.gradient, self.samples, self.ufunc, self.flops = name, infer, gradient, samples, ufunc, flops
        self.kernel = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
        self.macs, self.expand, self.repeats, self.prune = macs, expand, repeats, prune
        self.again, self.drawn, self.advice = again, drawn, advice
        OPS[name] = self

    @property
    def view(self) -> bool:
        """Whether the op gives its first input's elements in another order or shape, by a view where it can."""
        return bool(self.kernel.view)

    def __call__(self, *inputs: Any, **attributes: Any) -> Tensor:
        """The node of this op on these inputs."""
        if self.ufunc is not None:
            tensors, dtype = _promote(self, inputs)
            spec = Spec(broadcast_shapes(self.name, *(t.spec for t in tensors)), dtype)
        else:
            tensors = tuple(as_tensor(value) for value in inputs)
            spec = self.infer(*(t.spec for t in tensors), **attributes)
        return make(self.name, tensors, attributes, spec)

    def __repr__(self) -> str:
        return f"<Op {self.name}>"

    def times(self, node: Tensor) -> float:
        """How often a call of this node runs each of its bodies."""
        return 1.0 if self.repeats is None else self.repeats(**dict(node.attributes))

    def count_flops(self, node: Tensor) -> float:
        """Floating point operations of this node."""
        if self.view:
            return 0.0
        if graphs := [graph for several in bodies(node).values() for graph in several]:
            return self.times(node) * sum(find(n.op).count_flops(n) for graph in graphs for n in graph.nodes if n.op not in LEAVES)
        if self.flops is not None:
            return float(self.flops(node.spec, *(i.spec for i in node.inputs), **dict(node.attributes)))
        if self.macs is not None:
            return 2 * self.count_macs(node)
        return float(sum(p.size for p in node.spec.parts) if node.spec.parts else node.size)

    def count_macs(self, node: Tensor) -> float:
        """Multiplications with an addition of this node: those of its products."""
        if graphs := [graph for several in bodies(node).values() for graph in several]:
            return self.times(node) * sum(find(n.op).count_macs(n) for graph in graphs for n in graph.nodes if n.op not in LEAVES)
        return 0.0 if self.macs is None else float(self.macs(node.spec, *(i.spec for i in node.inputs), **dict(node.attributes)))


def find(name: str) -> Op:
    """The record of this name."""
    return OPS[one_of("op", name, OPS)]


def written(result: Any, out: Any) -> Any:
    """A kernel's result: as it is, or copied into `out`."""
    if out is None:
        return result
    out[...] = result
    return out


def cleared(out: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Zeros for a kernel to add to, in `out` or in new memory."""
    return np.zeros(shape, dtype) if out is None else written(0, out)


def as_tensor(value: Any, dtype: Any = None) -> Tensor:
    """A tensor as it is; an array or number as a constant."""
    if isinstance(value, Tensor):
        return value
    _refuse_lazy(value)
    try:
        return constant(value, dtype)
    except (TypeError, ValueError) as error:
        raise DTypeError(f"cannot use a {type(value).__name__} as a tensor: {error}") from error


def broadcast_shapes(name: str, *specs: Spec) -> tuple[int, ...]:
    """Common shape under NumPy's broadcasting."""
    first = specs[0].shape
    if all(s.shape == first or not s.shape for s in specs):
        return first
    try:
        return np.broadcast_shapes(*(s.shape for s in specs))
    except ValueError:
        shapes = " and ".join(str(s.shape) for s in specs)
        raise ShapeError(
            f"{name} cannot combine shapes {shapes}: counted from the last axis, lengths must be equal or 1. "
            "Reshape, transpose, or add an axis with x[:, None]."
        ) from None


_resolved: dict[Any, tuple[Any, ...]] = {}


def kind_of(value: Any) -> Any:
    """An operand as promotion sees it: a dtype, or the type of a Python number."""
    if isinstance(value, Tensor):
        return value.spec.dtype
    if value is None or type(value) in (int, float, complex):
        return None if value is None else type(value)
    _refuse_lazy(value)
    return np.asarray(value).dtype


def _refuse_lazy(value: Any) -> None:
    """Raise DTypeError for a collection of Dask, which NumPy would compute here."""
    if not isinstance(value, np.ndarray) and hasattr(value, "__dask_graph__"):
        raise DTypeError(
            f"an operation of a tensor and a {type(value).__name__} of Dask would compute it here: make it a tensor first, with "
            "dagtrain.from_delayed(value, shape, dtype)."
        )


def _promote(op: Op, inputs: Sequence[Any]) -> tuple[tuple[Tensor, ...], np.dtype[Any]]:
    """Tensors of the inputs and the result's dtype, by NumPy 2's promotion (Python numbers are weak)."""
    ufunc = op.ufunc
    assert ufunc is not None
    kinds = tuple(kind_of(v) for v in inputs)
    loop = _resolved.get((ufunc, kinds))
    if loop is None:
        try:
            loop = ufunc.resolve_dtypes((*kinds, *(None,) * ufunc.nout))
        except (TypeError, ValueError):
            words = " and ".join(k.__name__ if isinstance(k, type) else str(k) for k in kinds)
            raise DTypeError(f"{op.name} is not defined for {words}. Cast with x.astype(...) first.") from None
        _resolved[ufunc, kinds] = loop
    if loop[-1].kind not in "biufc":
        raise DTypeError(f"{op.name} would give {loop[-1]}, which tensors do not hold.")
    tensors = tuple(
        v if isinstance(v, Tensor) else _number(op.name, v, d) if isinstance(k, type) else constant(v)
        for v, k, d in zip(inputs, kinds, loop, strict=False)
    )
    return tensors, loop[-1]


_COMPARISONS = frozenset({"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"})


def _number(op: str, value: Any, dtype: Any) -> Tensor:
    """A Python number as a constant; in comparisons an integer beyond all of the dtype is as good as infinite."""
    try:
        return constant(value, dtype)
    except OverflowError:
        if op not in _COMPARISONS:
            raise
        return constant(math.copysign(math.inf, value))


def elementwise(
    name: str,
    ufunc: np.ufunc,
    gradient: Gradient | _Zero | None = None,
    *,
    domain: Sequence[tuple[float, float]] = (),
    dtype: str = "f8",
    flops: float = 1.0,
) -> Op:
    """Record of a NumPy ufunc with one output.

    `domain` gives, for each input, the interval in which tests draw it.
    """
    intervals = list(domain) or [(-2.0, 2.0)] * ufunc.nin
    shapes = [((3, 4),), ((),)] if ufunc.nin == 1 else [((3, 4), (3, 4)), ((3, 1), (4,)), ((2, 3), ())]
    samples = tuple(Sample(tuple(Draw(s, low, high, dtype) for s, (low, high) in zip(case, intervals, strict=False))) for case in shapes)

    def infer(*specs: Spec) -> Spec:
        loop = ufunc.resolve_dtypes((*(s.dtype for s in specs), None))
        return Spec(broadcast_shapes(name, *specs), loop[-1])

    # maximum and minimum: NumPy 2.4 deprecates their third positional argument.
    kernel = Kernel(ufunc, inplace="any", positional=name not in ("maximum", "minimum"))
    return Op(name, kernel, infer, gradient, samples, ufunc=ufunc, flops=lambda spec, *specs: flops * spec.size)


part = Op(
    PART,
    Kernel(lambda values, *, index: values[index], view=True),
    lambda values, *, index: values.parts[index],
)


def parts(node: Tensor) -> list[Tensor]:
    """The outputs of a node with several."""
    return [part(node, index=i) for i in range(len(node.spec.parts))]


def axes_of(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes that None, a number or a tuple stands for, as sorted numbers from 0 up."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    numbers = []
    for a in axes:
        if not isinstance(a, int | np.integer) or isinstance(a, bool):
            raise ShapeError(f"{name}: an axis is a whole number, got {a!r}.")
        if not -ndim <= a < ndim:
            raise ShapeError(f"{name}: axis {a} does not exist, the tensor has {ndim} axes.")
        numbers.append(int(a) % ndim)
    if len(set(numbers)) < len(numbers):
        raise ShapeError(f"{name}: axis {axis} names one axis twice.")
    return tuple(sorted(numbers))


def axis_of(name: str, axis: Any, ndim: int) -> int:
    """The one axis that a number stands for, from 0 up."""
    return axes_of(name, (axis,), ndim)[0]


def size_of(shape: Sequence[int], axes: Sequence[int]) -> int:
    """Number of elements along these axes."""
    return math.prod(shape[a] for a in axes)
