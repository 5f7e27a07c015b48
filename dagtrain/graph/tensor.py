"""The node of the computational graph.

    Tensor = op name + input tensors + attributes + spec        (immutable, interned)

The same op on the same inputs with the same attributes is the same object, so common subexpressions are shared the moment they are
written. Three ops are leaves: ``input`` (an argument of each call), ``array`` (a named value to differentiate by) and ``constant``
(a value that is part of the program). Inputs and arrays are never merged, even when they look alike.
"""

from __future__ import annotations

import hashlib
import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from dagtrain.errors import DTypeError, GraphError
from dagtrain.graph.origin import Origin, here
from dagtrain.graph.protocols import DASK, NUMPY, Drawable
from dagtrain.graph.spec import Array, Spec, held, make_spec, refuse_masked, spec_of

__all__ = ["LEAVES", "PART", "Tensor", "Value", "array", "births", "constant", "input", "make"]

LEAVES = frozenset({"input", "array", "constant"})
PART = "part"
"""The op of one of the outputs of a node with several."""
_nodes: weakref.WeakValueDictionary[Any, Tensor] = weakref.WeakValueDictionary()
_serial = itertools.count()
_births: ContextVar[tuple[list[Tensor], ...]] = ContextVar("births", default=())


class Value:
    """A read-only array that is part of a graph, equal to another when their bytes are."""

    __slots__ = ("array", "digest")

    def __init__(self, data: Any) -> None:
        array = np.asarray(data)
        array = np.array(array, held(array.dtype), order="C")
        array.setflags(write=False)
        self.array = array
        self.digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Value({self.digest})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Value, (self.array,))


class Tensor(NDArrayOperatorsMixin, Drawable):
    """One value of a computational graph: an op with its inputs and attributes.

    Tensors are made by `dagtrain.array`, `dagtrain.input`, NumPy functions and operators on other tensors; never by hand.

    Attributes
    ----------
    op : str
        Name of the op.
    inputs : tuple of Tensor
        The op's operands.
    attributes : tuple of (str, value)
        The op's fixed arguments, sorted by name.
    spec : Spec
        Shape and dtype.
    origin : Origin
        The user's line, the layer and the phase.

    Examples
    --------
    >>> import dagtrain as dt
    >>> a, b = dt.array(2.0, name="a"), dt.array(1.0, name="b")
    >>> ((a + b) * (b + 1)).compute()
    6.0
    """

    __slots__ = ("__weakref__", "attributes", "inputs", "op", "origin", "spec")

    op: str
    inputs: tuple[Tensor, ...]
    attributes: tuple[tuple[str, Any], ...]
    spec: Spec
    origin: Origin

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise GraphError("tensors are not made by calling Tensor: use dagtrain.array(value) or dagtrain.input(name, shape, dtype).")

    def __setattr__(self, name: str, value: Any) -> None:
        raise GraphError(f"tensors never change: cannot set {name!r} of {self!r}.")

    def __delattr__(self, name: str) -> None:
        raise GraphError(f"tensors never change: cannot delete {name!r} of {self!r}.")

    __hash__ = object.__hash__

    # As with numbers, `x += y` gives the name x to a new tensor; NumPy's own would write into the old one.
    __iadd__ = NDArrayOperatorsMixin.__add__
    __isub__ = NDArrayOperatorsMixin.__sub__
    __imul__ = NDArrayOperatorsMixin.__mul__
    __imatmul__ = NDArrayOperatorsMixin.__matmul__
    __itruediv__ = NDArrayOperatorsMixin.__truediv__
    __ifloordiv__ = NDArrayOperatorsMixin.__floordiv__
    __imod__ = NDArrayOperatorsMixin.__mod__
    __ipow__ = NDArrayOperatorsMixin.__pow__

    # ---- properties

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.spec.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy dtype."""
        return self.spec.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.spec.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.spec.size

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.spec.nbytes

    def attribute(self, name: str) -> Any:
        """One fixed argument of the op, None if it has no such argument."""
        for key, value in self.attributes:
            if key == name:
                return value
        return None

    @property
    def is_part(self) -> bool:
        """Whether the node is one of the outputs of its input, a node with several."""
        return self.op == PART

    @property
    def name(self) -> str | None:
        """The user's name of a leaf."""
        name = self.attribute("name")
        return None if name is None else str(name)

    @property
    def value(self) -> Array:
        """The (read-only) value of an ``array`` or ``constant`` leaf."""
        value = self.attribute("value")
        if value is None:
            raise GraphError(f"{self!r} has no value of its own: use .compute().")
        return value.array  # type: ignore[no-any-return]  # attributes are Any

    # ---- the protocols of Python and NumPy

    def __repr__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"<Tensor {self.op}{name}: {self.spec}>"

    def __bool__(self) -> bool:
        raise GraphError(
            f"the truth of {self!r} is not known while a graph is being built ({self.origin}), so Python's if, while, and, or, not, min, "
            "max and comparisons in a chain cannot decide by it. Branch on shapes or Python values; or write np.where(p, x, y) to choose "
            "by element, dt.cond(p, f, g) between functions, dt.while_loop(condition, body, first) or dt.scan(body, first, xs) to repeat, "
            "p & q and ~p for and and not, (a < x) & (x < b) for a < x < b, np.minimum and np.maximum; or .compute() it first."
        )

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{self!r} ({self.origin}) is one number: it has no length, and nothing to go along.")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __float__(self) -> float:
        raise GraphError(
            f"{self!r} is not a number while a graph is being built ({self.origin}). Keep it a tensor, with .astype(...) and functions "
            "of NumPy (np.round, np.floor); repeat as often as it says with dt.while_loop or dt.scan; pick by it with np.take; choose by "
            "it with dt.switch. A count or shape is a static argument: dt.compile(function, static_argnames=...). Or .compute() it first."
        )

    def _rounded(self, *_: Any) -> float:
        return self.__float__()

    __int__ = __index__ = __complex__ = __float__
    __round__ = __floor__ = __ceil__ = __trunc__ = _rounded

    def __format__(self, form: str) -> str:
        if form:
            raise GraphError(f"{self!r} has no value to write as {form!r} while a graph is being built: use .compute().")
        return repr(self)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise GraphError(
            f"{self!r} cannot become a NumPy array while a graph is being built: the function that was called on it does not "
            "support tensors. Use np.stack or np.concatenate to make one tensor of several, another function of NumPy that dagtrain "
            "supports, or .compute() the tensor first."
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return NUMPY.value.apply_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return NUMPY.value.apply_function(function, args, kwargs)

    def __getitem__(self, index: Any) -> Tensor:
        return NUMPY.value.getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise GraphError("tensors never change: build a new one with np.where, dt.scatter_add or np.concatenate.")

    @property
    def T(self) -> Tensor:
        """The tensor with its axes in reverse order."""
        return NUMPY.value.transpose(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return NUMPY.value.attribute(self, name)

    # ---- the protocol of Dask

    def compute(self, **kwargs: Any) -> Any:
        """Value of the tensor: computed in this process, or by the Dask scheduler in ``scheduler=``."""
        return DASK.value.compute(self, **kwargs)

    def persist(self, **kwargs: Any) -> Tensor:
        """The same tensor with its value computed and kept by Dask."""
        return DASK.value.persist(self, **kwargs)

    def __dask_graph__(self) -> Any:
        return DASK.value.dask_graph(self)

    def __dask_keys__(self) -> Any:
        return DASK.value.dask_keys(self)

    def __dask_layers__(self) -> Any:
        return DASK.value.dask_layers(self)

    def __dask_postcompute__(self) -> Any:
        return DASK.value.dask_postcompute(self)

    def __dask_postpersist__(self) -> Any:
        return DASK.value.dask_postpersist(self)

    def __dask_tokenize__(self) -> Any:
        return DASK.value.dask_tokenize(self)

    @property
    def __dask_optimize__(self) -> Any:
        return DASK.value.dask_optimize()

    @property
    def __dask_scheduler__(self) -> Any:
        return DASK.value.dask_scheduler()


def make(op: str, inputs: tuple[Tensor, ...], attributes: dict[str, Any], spec: Spec, origin: Origin | None = None) -> Tensor:
    """The node of this op on these inputs: the existing one, or a new one."""
    pairs = tuple(sorted(attributes.items())) if attributes else ()
    # repr tells 1, 1.0, True and -0.0 apart, which == does not; ids are safe since a living node keeps its inputs alive.
    key = (op, tuple(map(id, inputs)), repr(pairs) if pairs else "", spec)
    node = _nodes.get(key)
    if node is None:
        node = object.__new__(Tensor)
        put = object.__setattr__
        put(node, "op", op)
        put(node, "inputs", inputs)
        put(node, "attributes", pairs)
        put(node, "spec", spec)
        put(node, "origin", here() if origin is None else origin)
        _nodes[key] = node
        for born in _births.get():
            born.append(node)
    return node


@contextmanager
def births() -> Iterator[list[Tensor]]:
    """The nodes that are made inside and did not exist before, as a list that grows."""
    born: list[Tensor] = []
    token = _births.set((*_births.get(), born))
    try:
        yield born
    finally:
        _births.reset(token)


def constant(value: Any, dtype: Any = None) -> Tensor:
    """A value that is part of the program; equal constants are one node."""
    content = Value(np.asarray(refuse_masked(value), dtype))
    return make("constant", (), {"value": content}, spec_of(content.array))


def array(value: Any, dtype: Any = None, *, name: str | None = None) -> Tensor:
    """A leaf with a value, to compute with and to differentiate by.

    Parameters
    ----------
    value
        Number or array.
    dtype
        NumPy dtype; by default NumPy's for this value.
    name
        Shown in pictures, errors and key names.

    Examples
    --------
    >>> import dagtrain as dt
    >>> (dt.array([1.0, 2.0], name="x") ** 2).compute()
    array([1., 4.])
    """
    if isinstance(value, Tensor):
        return value
    try:
        content = Value(np.asarray(refuse_masked(value), dtype))
    except ValueError as error:
        raise DTypeError(f"a tensor holds one array of numbers: {error}") from None
    attributes: dict[str, Any] = {"value": content, "serial": next(_serial)}
    if name is not None:
        attributes["name"] = name
    return make("array", (), attributes, spec_of(content.array))


def input(name: str, shape: Any = (), dtype: Any = np.float32) -> Tensor:
    """A leaf whose value is an argument of each call.

    Examples
    --------
    >>> import dagtrain as dt
    >>> dt.input("x", (2, 3))
    <Tensor input x: float32[2, 3]>
    """
    return make("input", (), {"name": str(name), "serial": next(_serial)}, make_spec(shape, dtype))
