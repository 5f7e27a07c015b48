"""Every argument of every NumPy function, method and ufunc that tensors take: it gives what NumPy gives, or an error that names it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DagtrainError, DTypeError
from dagtrain.graph import Graph, Tensor
from dagtrain.numpy_api.calls import FLAGS, FUNCTIONS
from dagtrain.numpy_api.methods import METHODS
from dagtrain.numpy_api.ufuncs import CALLS
from dagtrain.plan.interpret import interpret

from ..each import each
from . import test_composed, test_fourier, test_functions, test_solving

pytestmark = pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.4.0", reason="older signatures are not all that is taken")
RNG = np.random.default_rng(3)
A, B = RNG.normal(size=(3, 3)), RNG.normal(size=(3, 3))
V = RNG.normal(size=3)
HOLES = np.where(A > 0.8, np.nan, A)

REQUIRED: dict[str, Any] = {
    **dict.fromkeys(["a", "a1", "arr", "array", "arrays", "ary", "m", "prototype", "v", "val", "x", "x1", "y", "z", "A", "from_"], A),
    **dict.fromkeys(["b", "a2", "other", "values", "x2"], B),
    "tup": [A, B], "shape": (1, 9), "dtype": "f4", "to": "f4", "indices": [[0, 4, 2]], "axis": 1, "axis1": 0, "axis2": 1, "source": 0,
    "destination": 1, "fill_value": 3.0, "indices_or_sections": [1], "n": 3, "p": [1.0, 2.0], "pad_width": 1, "q": 0.3, "repeats": 2,
    "reps": 2, "shift": 1, "condition": A > 0, "condlist": [A > 0], "choicelist": [A], "method": "linear",
}  # fmt: skip
"""Values of arguments that must be given, by name."""
OWN: dict[Any, dict[str, Any]] = {
    **{function: {"arrays": [A, B]} for function in (np.block, np.concatenate, np.stack, np.linalg.multi_dot)},
    **{function: {"a": HOLES, "x": HOLES} for function in FUNCTIONS if function.__name__.startswith("nan")},
    **{function: {"a": HOLES, "b": HOLES} for function in (np.isclose, np.allclose)},
    np.array_equal: {"a1": HOLES, "a2": HOLES},
    np.convolve: {"a": V, "v": V},
    np.linalg.outer: {"x1": V, "x2": V},
    np.squeeze: {"a": A[:1]},
    np.dsplit: {"ary": np.ones((2, 3, 3))},
    np.take_along_axis: {"indices": np.array([[0, 2, 1]])},
}
"""... of one function."""
VARIADIC: dict[Any, tuple[Any, ...]] = {
    np.broadcast_arrays: (A, V), np.meshgrid: (V, V[:2], V),
    np.einsum: ("ij,jk->ik", A, B), np.result_type: (A, "f4"),
    **dict.fromkeys([np.atleast_1d, np.atleast_2d, np.atleast_3d], (A, V)),
}  # fmt: skip
"""... of functions of any number of arguments."""
TRIALS: dict[str, list[Any]] = {
    "a_max": [0.5], "a_min": [-0.5], "append": [1.0, A], "atol": [0.5], "axes": [0, 1, (1, 0)],
    "axis": [0, 1, -1, (0, 1), None, np.int64(1)], "axis1": [1, -1], "axis2": [0], "casting": ["no", "unsafe"],
    "constant_values": [2.0, ((1, 2), (3, 4)), {0: 5}], "copy": [False, True], "correction": [1, 0.5], "ddof": [1, 4], "decimals": [1, -1],
    "default": [7.0, A], "deg": [True, 1], "device": ["cpu", "gpu"], "dtype": ["f4", "f8", "i8", "c16", "?"], "dx": [0.5],
    "end_values": [1.0], "equal_nan": [True, 1, np.True_], "include_initial": [True, 1], "indexing": ["ij", "other"],
    "initial": [2.0, 0], "k": [1, -1, 2],
    "keepdims": [True, 1, np.True_, 0], "kind": ["stable", "heapsort"], "max": [0.5], "mean": [A.mean(axis=1, keepdims=True)],
    "method": ["lower", "linear"], "min": [-0.5], "mode": ["clip", "wrap", "same", "valid", "edge"], "n": [2, 0], "nan": [9.0],
    "norm": ["ortho", "forward", "other"],
    "neginf": [-9.0], "offset": [1, -1], "optimize": [True, "greedy", ["einsum_path", (0, 1)]], "ord": [1, 2, 3, 0, np.inf, -np.inf, "fro"],
    "order": ["C", "F", "A", "K"], "out": [np.zeros((3, 3))], "overwrite_input": [True], "posinf": [9.0], "prepend": [1.0, A],
    "reflect_type": ["odd", "even"], "returned": [True, 1], "rtol": [0.5],
    "s": [(2, 4), (3, -1)], "shape": [(), 0, (2, 5), (9,)], "signature": ["dd->d"],
    "sparse": [True, 1], "stable": [True], "start": [-1, 1, 3], "stat_length": [2], "subok": [True, False], "weights": [V, A**2],
    "where": [A > 0, True, False, [True, False, True]], "x": [V, A], "y": [A],
}  # fmt: skip
"""Values of arguments that may be given, by name: a new function is covered by itself, a new name is a failure until it has values."""
HIDDEN: dict[Any, list[str]] = {
    np.einsum: ["dtype", "order", "casting"],
    np.pad: ["constant_values", "end_values", "reflect_type", "stat_length"],
    np.clip: ["dtype", "casting", "order", "where"],
    **{name: ["keepdims", "initial", "where"] for name in ("max", "min", "prod", "sum")},
    **{name: ["keepdims", "where", "mean"] for name in ("std", "var")},
    "mean": ["keepdims", "where"],
}
"""Arguments that NumPy's signature hides behind ``**kwargs``."""
TOGETHER: dict[str, dict[str, Any]] = {
    "weights": {"axis": 1}, "mean": {"axis": 1}, "constant_values": {"mode": "constant"}, "stat_length": {"mode": "mean"},
    "reflect_type": {"mode": "reflect"}, "a_min": {"a_max": 0.5}, "a_max": {"a_min": -0.5}, "casting": {"dtype": "f4"},
    "s": {"axes": (0, 1)},
}  # fmt: skip
"""Arguments that mean nothing without another."""
OF_UFUNCS = {
    "__call__": ("axes", "axis", "casting", "dtype", "keepdims", "order", "out", "signature", "subok", "where"),
    "outer": ("casting", "dtype", "order", "out"),
    "accumulate": ("axis", "dtype", "out"),
    "reduce": ("axis", "dtype", "initial", "keepdims", "out", "where"),
}


def as_tensors(value: Any) -> Any:
    """Arrays as tensors, also in lists."""
    if isinstance(value, list) and any(isinstance(v, np.ndarray) for v in value):
        return [as_tensors(v) for v in value]
    return dt.array(value) if isinstance(value, np.ndarray) else value


def values(result: Any) -> list[Any]:
    """The arrays, numbers and other values of a result."""
    flat = list(result) if isinstance(result, list | tuple) else [result]
    return [interpret(Graph.of(r))[0] if isinstance(r, Tensor) else r for r in flat]


def same(ours: Any, theirs: Any, by_value: bool = True) -> None:
    for one, other in zip(values(ours), values(theirs), strict=True):
        if not isinstance(other, np.ndarray | np.generic | int | float):
            assert one == other
            continue
        assert (np.shape(one), np.asarray(one).dtype) == (np.shape(other), np.asarray(other).dtype)
        if by_value:
            np.testing.assert_allclose(one, other, rtol=1e-12 if np.asarray(other).dtype.itemsize == 8 else 1e-5, atol=1e-13)


def check(function: Callable[..., Any], call: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], name: str) -> None:
    """Compare a call on tensors with that on arrays; the argument of this name is the one that is tried."""
    if name == "out":  # (NumPy itself crashes for some.)
        with pytest.raises((DagtrainError, TypeError), match="out"):
            call(*map(as_tensors, args), **kwargs)
        return
    try:
        theirs = function(*args, **kwargs)
    except Exception:
        # NumPy takes truth values of its own for some flags only, and less by place than its methods' signatures say.
        if name not in FLAGS:
            with pytest.raises((DagtrainError, TypeError, ValueError, IndexError)):
                values(call(*map(as_tensors, args), **kwargs))
        return
    try:
        ours = call(*map(as_tensors, args), **kwargs)
    except DagtrainError as error:
        if not any(n in str(error) for n in (name, *TOGETHER.get(name, ()))):
            raise AssertionError(f"the error does not name {name}") from error
        return
    same(ours, theirs, function is not np.empty_like)


def trials(key: Any, parameters: Any, taken: dict[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Each argument that may be given, with its values, and whether it has a place."""
    for name in [*(p.name for p in parameters if p.default is not p.empty), *HIDDEN.get(key, ())]:
        assert name in TRIALS, f"{key} has an argument {name}: give values to try"
        has_place = any(p.name == name and p.kind is not p.KEYWORD_ONLY for p in parameters)
        for value in TRIALS[name]:
            yield name, value, has_place


def check_all(key: Any, function: Callable[..., Any], call: Callable[..., Any], signature: inspect.Signature) -> None:
    """Try all arguments, by name and by place."""
    parameters = [p for p in signature.parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    given = {p.name: OWN.get(function, {}).get(p.name, REQUIRED.get(p.name)) for p in parameters if p.default is p.empty}
    assert all(v is not None for v in given.values()), f"{key} needs {[n for n, v in given.items() if v is None]}: give values"
    args = list(VARIADIC.get(function, given.values() if function not in VARIADIC else ()))
    faults = []
    for name, value, has_place in trials(key, parameters, given):
        calls = (
            []
            if any(p.name == name and p.kind is p.POSITIONAL_ONLY for p in parameters)
            else [(args, {**TOGETHER.get(name, {}), name: value})]
        )
        if has_place and name not in TOGETHER and function not in VARIADIC:
            before = []
            for p in parameters[len(args) :]:
                if p.name == name:
                    break
                before.append(p.default)
            calls.append(([*args, *before, value], {}))
        for arguments, named in calls:
            try:
                check(function, call, arguments, named, name)
            except (Exception, pytest.fail.Exception) as error:
                faults.append(AssertionError(f"{key} {arguments[len(args) :]} {named}: {type(error).__name__} {error}"))
    if faults:
        raise ExceptionGroup(str(key), faults)


def signature_of(function: Any, otherwise: Any) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:  # NumPy before 2.4
        return inspect.signature(otherwise)


def test_every_function_has_cases() -> None:
    aliases = {np.amax, np.amin, np.around}
    assert set(FUNCTIONS) - aliases == {*test_functions.CASES, *test_composed.CASES, *test_fourier.FUNCTIONS, *test_solving.FUNCTIONS}


def cases_of_other_kinds() -> Iterator[Any]:
    """All cases, with unsigned integers and with complex numbers in the place of floats."""
    rng = np.random.default_rng(0)
    for cases in (test_functions.CASES, test_composed.CASES):
        for name, calls in cases.items():
            for function, *rest in calls:
                arrays = rest[0] if cases is test_functions.CASES else rest
                yield name, function, [(2 * a).astype("u1") if a.dtype.kind == "f" else a for a in arrays]
                yield name, function, [a + 1j * rng.normal(size=a.shape) if a.dtype.kind == "f" else a for a in arrays]


def test_other_kinds_of_numbers_are_right_or_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, function, arrays in cases_of_other_kinds():
            try:
                theirs = function(*arrays)
            except (TypeError, OverflowError):
                theirs = None
            try:
                ours = function(*map(as_tensors, arrays))
            except (DTypeError, OverflowError):
                assert theirs is None or any(a.dtype.kind == "c" for a in arrays), f"{name} refused {arrays}"
                continue
            assert theirs is not None, f"{name} took {arrays}"
            same(ours, theirs, name is not np.empty_like)


@pytest.mark.slow
@each(FUNCTIONS)
def test_every_argument_of_functions(function: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_all(function, function, function, signature_of(function, FUNCTIONS[function].function))


@pytest.mark.slow
@each(CALLS)
def test_every_argument_of_ufuncs(ufunc: np.ufunc, method: str) -> None:
    function = ufunc if method == "__call__" else getattr(ufunc, method)
    one = ufunc.nin == 1 or method in ("reduce", "accumulate")
    args = [A + 3.0] if one else [A + 3.0, B + 3.0]
    if "dd" not in "".join(ufunc.types):  # defined for integers alone
        args = [a.astype(int) for a in args]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in OF_UFUNCS[method]:
            for value in TRIALS[name]:
                if value is not None or method != "__call__":
                    check(function, function, args, {**TOGETHER.get(name, {}), name: value}, name)


@each(METHODS)
def test_every_argument_of_methods(name: str) -> None:
    def method(a: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(a, name)(*args, **kwargs)

    signature = signature_of(getattr(np.ndarray, name), getattr(np, name, METHODS[name].function))
    first, *rest = signature.parameters.values()
    first = first.replace(name="a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_all(name, method, method, signature.replace(parameters=[first, *rest]))
