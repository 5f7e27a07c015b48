"""Functions of arrays made into compiled functions: `grad`, `value_and_grad`, `compile`, `gradcheck`.

    loss ──trace──▶ graph ──stabilise──▶ graph ──gradient──▶ graph ──optimize, plan──▶ straight-line NumPy

Each distinct signature (nesting, shapes, dtypes) is traced and compiled once and cached. Called on tensors instead of arrays, the same
functions build graph, so they nest in one another and in `trace`.
"""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dagtrain.arguments import one_of
from dagtrain.errors import ArgumentError, GradientError, NotScalarError, UnsupportedError
from dagtrain.graph import Graph, Spec, Tensor, rebuild, refuse_masked
from dagtrain.graph import input as new_input
from dagtrain.hinting import hinted
from dagtrain.ops import as_tensor
from dagtrain.ops.random import derive, key
from dagtrain.plan import Plan, plan
from dagtrain.trace import Traced, flatten, trace_nested, unflatten
from dagtrain.trace.trace import argument_names, leaf_spec
from dagtrain.transform import gradient, stabilise

__all__ = ["Compiled", "compile", "grad", "gradcheck", "value_and_grad"]

_CACHE_SIZE = 64


def differentiate(cost: Tensor, targets: Sequence[Tensor], unconnected: str = "error") -> tuple[Tensor, list[Tensor]]:
    """The cost in its stable form, and its derivatives by the targets."""
    one_of("way with unconnected targets", unconnected, ("error", "zero"))
    stable = stabilise(Graph.of(cost), keep=targets).outputs["output"] if cost.inputs else cost
    return stable, gradient(stable, targets, unconnected=unconnected)


class Compiled:
    """A function of arrays that runs as straight-line NumPy; made by `compile`, `grad` and `value_and_grad`.

    Attributes
    ----------
    plan : Plan
        The plan of the latest call.
    graph : Graph
        The (not yet optimised) graph of the latest call.
    """

    def __init__(self, function: Callable[..., Any], name: str | None = None, build: Callable[..., Any] | None = None) -> None:
        self.function = function
        self._build = function if build is None else build
        self.__name__ = name or str(getattr(function, "__name__", "function"))
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._cache: OrderedDict[Any, tuple[Traced, Plan]] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Compiled {self.__name__}: {len(self._cache)} signatures>"

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Called with arrays (or nests of them) it returns arrays, with tensors it returns tensors."""
        if named:
            arguments = self._by_place(arguments, named)
        leaves = []
        structures = []
        for name, argument in zip(argument_names(self.function, len(arguments)), arguments, strict=True):
            named_leaves, structure = flatten(argument, name)
            leaves += list(named_leaves.items())
            structures.append(structure)
        if any(isinstance(value, Tensor) for _, value in leaves):
            return self._build(*arguments)
        arrays = [np.asarray(refuse_masked(value)) for _, value in leaves]
        signature = (repr(structures), tuple((a.shape, a.dtype.str) for a in arrays))
        with self._lock:
            entry = self._cache.get(signature)
            if entry is not None:
                self._cache.move_to_end(signature)
        if entry is None:
            for (name, _), array in zip(leaves, arrays, strict=True):
                leaf_spec(name, array)
            entry = self._compile(signature, arguments)
        traced, program = entry
        return unflatten(traced.results, [plain(o) for o in program(*arrays)])

    def _by_place(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments in the order of the function's parameters."""
        try:
            bound = inspect.signature(self.function).bind(*arguments, **named)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"{self.__name__}: {error}.") from None
        if bound.kwargs:
            raise ArgumentError(
                f"{self.__name__}: {', '.join(bound.kwargs)} cannot be given by name, since a parameter before it is left out or it has no "
                "position: give all arguments by position."
            )
        return bound.args

    def _compile(self, signature: Any, arguments: Sequence[Any]) -> tuple[Traced, Plan]:
        traced = trace_nested(_named(self._build, self.function), *arguments)
        entry = (traced, plan(traced.graph))
        with self._lock:
            self._cache[signature] = entry
            while len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)
        return entry

    def _latest(self) -> tuple[Traced, Plan]:
        if not self._cache:
            raise ArgumentError(f"{self.__name__} has no plan yet: its shapes are not known before its first call.")
        return next(reversed(self._cache.values()))

    @property
    def plan(self) -> Plan:
        """The plan of the latest signature."""
        return self._latest()[1]

    @property
    def graph(self) -> Graph:
        """The graph of the latest signature."""
        return self._latest()[0].graph


def plain(array: Any) -> Any:
    """A single number as a Python or NumPy number, anything else as it is."""
    if array.shape:
        return array
    return array.item() if array.dtype.str[1:] in ("f8", "i8", "b1", "c16") else array[()]


def _named(build: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """`build` with the parameter names of `function`, so that the graph's inputs carry them."""
    if build is function:
        return function

    def call(*arguments: Any) -> Any:
        return build(*arguments)

    call.__wrapped__ = function  # type: ignore[attr-defined]  # read by inspect.signature
    return call


@hinted
def compile(function: Callable[..., Any]) -> Compiled:
    """A function of NumPy calls as straight-line NumPy without allocation.

    Parameters
    ----------
    function
        Takes arrays or nested dicts, lists and tuples of them, and returns the same; called once for each signature, with tensors.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> f = dt.compile(lambda x: np.tanh(x) ** 2)
    >>> f(np.zeros(2))
    array([0., 0.])
    >>> "tanh" in f.plan.source
    True
    """
    if isinstance(function, Compiled):
        return Compiled(function, function.__name__)
    if not callable(function):
        raise ArgumentError(f"compile takes a function, not a {type(function).__name__}.")
    return Compiled(function)


@hinted
def value_and_grad(function: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, unconnected: str = "error") -> Compiled:
    """A function that returns the cost and its gradient.

    Parameters
    ----------
    function
        A cost function: NumPy calls on arrays or nests of arrays, giving one number.
    argnums
        By which positional arguments to differentiate: a number, or several for a tuple of gradients.
    unconnected
        ``"error"``, or ``"zero"`` for zeros where the cost does not depend on a part of the arguments.

    Returns
    -------
    Compiled
        Called with the function's arguments, it gives ``(value, gradient)``; the gradient is nested as the argument is.

    Raises
    ------
    NotScalarError, NotConnectedError, NoGradientError
        When it is called.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> dt.value_and_grad(lambda p, x: np.sum(p["w"] * x))({"w": np.ones(2)}, np.array([3.0, 4.0]))
    (7.0, {'w': array([3., 4.])})
    """
    if not callable(function):
        raise ArgumentError(f"value_and_grad takes a function, not a {type(function).__name__}.")
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def build(*arguments: Any) -> Any:
        if any(not -len(arguments) <= i < len(arguments) for i in positions):
            raise ArgumentError(f"argnums={argnums} names an argument that was not given: there are {len(arguments)}.")
        values = list(arguments)
        targets: list[Tensor] = []
        originals: dict[Tensor, Tensor] = {}
        nests = []
        for i in positions:
            named, structure = flatten(values[i], f"argument_{i}")
            tensors = [as_tensor(value) for value in named.values()]
            # Each target has a leaf of its own while the cost is built: equal constants, or a tensor used twice, stay apart.
            leaves = [
                t if t.op == "input" and t not in originals else new_input(n, t.shape, t.dtype) for n, t in zip(named, tensors, strict=True)
            ]
            values[i] = unflatten(structure, leaves)
            nests.append((structure, len(leaves)))
            targets += leaves
            originals.update(zip(leaves, tensors, strict=True))
        cost = function(*values)
        if not isinstance(cost, Tensor):
            raise NotScalarError(f"the cost function must return one number that depends on its arguments, got a {type(cost).__name__}.")
        value, grads = differentiate(cost, targets, unconnected)
        became = rebuild([value, *grads], originals)
        value, grads = became[value], [became[g] for g in grads]
        results, start = [], 0
        for structure, count in nests:
            results.append(unflatten(structure, grads[start : start + count]))
            start += count
        return value, (results[0] if isinstance(argnums, int) else tuple(results))

    return Compiled(function, f"value_and_grad({getattr(function, '__name__', 'function')})", build)


@hinted
def grad(function: Any, argnums: Any = 0, *, unconnected: str = "error") -> Any:
    """Gradient of a function, or of a tensor by tensors.

    Parameters
    ----------
    function
        A cost function; or a tensor of one number.
    argnums
        By which arguments to differentiate (see `value_and_grad`); or a tensor, or a list of tensors.
    unconnected
        ``"error"`` or ``"zero"``.

    Returns
    -------
    Compiled, Tensor or list of Tensor
        A function that gives the gradient; or the derivatives.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> dt.grad(lambda x: x**3)(2.0)
    12.0
    >>> a, b = dt.array(2.0, name="a"), dt.array(1.0, name="b")
    >>> [g.compute() for g in dt.grad((a + b) * (b + 1), [a, b])]
    [2.0, 5.0]
    """
    if isinstance(function, Tensor):
        if isinstance(argnums, Tensor):
            return differentiate(function, [argnums], unconnected)[1][0]
        if not isinstance(argnums, list | tuple):
            raise ArgumentError("grad(tensor, targets): give the tensor or the list of tensors to differentiate by.")
        return differentiate(function, list(argnums), unconnected)[1]
    both = value_and_grad(function, argnums, unconnected=unconnected)
    return Compiled(function, f"grad({getattr(function, '__name__', 'function')})", lambda *arguments: both(*arguments)[1])


@hinted
def gradcheck(
    function: Callable[..., Any],
    *arguments: Any,
    argnums: int | tuple[int, ...] = 0,
    order: int = 2,
    directions: int = 3,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> bool:
    """Compare a cost function's gradient with differences along random directions, in float64.

    Parameters
    ----------
    function, argnums
        As for `value_and_grad`.
    *arguments
        Where to check; floats are taken as float64.
    order
        1 for the gradient; 2 for the gradient of its product with a direction as well.
    directions
        Number of random directions for each order.
    tolerance
        Largest allowed difference, relative to the size of the derivative (at least 1).

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradientError
        With the order, the direction's number and both derivatives.

    Examples
    --------
    >>> import dagtrain as dt, numpy as np
    >>> dt.gradcheck(lambda w, x: np.sum(np.tanh(x @ w)), np.ones((3, 2)), np.ones((4, 3)))
    True
    """
    if order not in (1, 2):
        raise ArgumentError(f"gradcheck checks order 1 or 2, not {order}.")
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    nests = [_as_float64(a) for a in arguments]
    flat = [flatten(nests[i], str(i)) for i in positions]
    point = [np.asarray(v) for leaves, _ in flat for v in leaves.values()]
    floats = [i for i, v in enumerate(point) if v.dtype.kind == "f"]

    def of(*values: Any) -> Any:
        inserted, start = list(nests), 0
        for i, (leaves, structure) in zip(positions, flat, strict=True):
            inserted[i] = unflatten(structure, values[start : start + len(leaves)])
            start += len(leaves)
        return function(*inserted)

    checked: Callable[..., Any] = of
    for level in range(1, order + 1):
        generator = np.random.Generator(np.random.Philox(key=derive(key(seed), level)))
        differentiated = value_and_grad(checked, tuple(floats), unconnected="zero")
        value = compile(checked)
        along: list[Any] = []
        for number in range(directions):
            along = [generator.standard_normal(point[i].shape) for i in floats]
            exact = sum(float(np.sum(g * d)) for g, d in zip(differentiated(*point)[1], along, strict=True))
            step = 1e-5
            sides = []
            for sign in (1.0, -1.0, 2.0, -2.0):
                moved = list(point)
                for i, d in zip(floats, along, strict=True):
                    moved[i] = point[i] + sign * step * d
                sides.append(float(value(*moved)))
            numeric = (8 * (sides[0] - sides[1]) - (sides[2] - sides[3])) / (12 * step)
            if not abs(exact - numeric) <= tolerance * max(1.0, abs(numeric)):
                raise GradientError(
                    f"the derivative of order {level} along random direction {number} is {exact!r} by the graph and {numeric!r} by "
                    f"differences (tolerance {tolerance}). A rule is wrong, or the function is not smooth there."
                )
        checked = _directional(differentiated, along)
    return True


def _directional(differentiated: Compiled, along: Sequence[Any]) -> Callable[..., Any]:
    def derivative(*values: Any) -> Any:
        total: Any = 0.0
        for g, d in zip(differentiated(*values)[1], along, strict=True):
            total = total + np.sum(g * d)
        return total

    return derivative


def _as_float64(argument: Any) -> Any:
    leaves, structure = flatten(argument)
    for name, value in leaves.items():
        if isinstance(value, Tensor | Spec):
            raise UnsupportedError(f"gradcheck needs arrays, got a {type(value).__name__} at {name!r}.")
    arrays = [np.asarray(v) for v in leaves.values()]
    return unflatten(structure, [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays])
