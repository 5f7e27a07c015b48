"""Nodes: equal ones are shared, leaves never merged, none ever changed; and the errors of misuse."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import DTypeError, GraphError, ShapeError, UnsupportedError
from dagtrain.graph import Tensor, Value, constant, make_spec, spec_of
from dagtrain.ops.random import bernoulli, fold_in, normal
from dagtrain.plan import plan

HERE = __file__


# ---- interning


def test_same_op_on_same_inputs_is_the_same_node() -> None:
    x = dt.input("x", (2,))
    assert np.sin(x) is np.sin(x)
    assert x + 1 is x + 1
    assert np.sum(x, axis=0) is x.sum(0)


def test_different_attributes_are_different_nodes() -> None:
    x = dt.input("x", (2, 2))
    assert np.sum(x, axis=0) is not np.sum(x, axis=1)
    assert np.sum(x, axis=0) is not np.sum(x, axis=0, keepdims=True)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (0.0, -0.0), (True, 1), (np.float32(1), np.float64(1)), ([1.0], 1.0)])
def test_constants_that_only_compare_equal_are_apart(one: Any, other: Any) -> None:
    assert constant(one) is not constant(other)


def test_equal_constants_are_one() -> None:
    assert constant([1.0, 2.0]) is constant(np.array([1.0, 2.0]))
    assert constant(np.nan) is constant(np.nan)


def test_inputs_and_arrays_are_never_merged() -> None:
    assert dt.input("x", (2,)) is not dt.input("x", (2,))
    assert dt.array(1.0, name="a") is not dt.array(1.0, name="a")


def test_two_dropouts_are_not_merged_and_one_key_is_one_draw() -> None:
    k = dt.input("key", (2,), np.uint64)
    assert bernoulli(fold_in(k, 0), 0.5, (3,)) is not bernoulli(fold_in(k, 1), 0.5, (3,))
    assert normal(fold_in(k, 0), (3,)) is normal(fold_in(k, 0), (3,))


def test_unused_nodes_are_freed() -> None:
    node = weakref.ref(np.sin(dt.input("x", (2,))))
    gc.collect()
    assert node() is None


def test_node_made_anew_after_it_was_freed() -> None:
    x = dt.input("x", (2,))
    np.sin(x)
    gc.collect()
    assert np.sin(x).spec == x.spec


# ---- values never change


def test_tensors_never_change() -> None:
    x = dt.input("x", (2,))
    with pytest.raises(GraphError, match="tensors never change: cannot set 'op'"):
        x.op = "y"
    with pytest.raises(GraphError, match="cannot delete"):
        del x.op
    with pytest.raises(GraphError, match=r"np.where, dt.scatter_add"):
        x[0] = 1.0


def test_value_is_a_copy_that_cannot_be_written() -> None:
    data = np.ones(2)
    a = dt.array(data)
    data[0] = 5
    assert a.value.tolist() == [1, 1]
    with pytest.raises(ValueError, match="read-only"):
        a.value[0] = 1


def test_tensor_is_not_called_into_being() -> None:
    with pytest.raises(GraphError, match=r"dagtrain.array\(value\) or dagtrain.input"):
        Tensor()


def test_augmented_assignment_names_a_new_tensor() -> None:
    x = y = dt.input("x", (2,))
    y += 1
    y *= 2
    y @= np.ones((2, 3), np.float32)
    assert x.op == "input"
    assert y.shape == (3,)
    assert dt.compile(_accumulated)(np.array([1.0, 2.0])) == 1 * 2 - 1 + (2 * 2 - 1)


def _accumulated(v: dt.Tensor) -> dt.Tensor:
    total = np.sum(v)
    total *= 2
    total -= 2.0
    return total


# ---- misuse


def test_truth_of_a_tensor_names_the_line() -> None:
    x = dt.input("x", (2,))
    with pytest.raises(GraphError, match=r"test_tensor.py:\d+ in test_truth_of_a_tensor_names_the_line.*np.where"):
        bool(x > 0)


@pytest.mark.parametrize("convert", [float, int, complex])
def test_tensor_is_no_python_number(convert: Any) -> None:
    with pytest.raises(GraphError, match=r"\.compute\(\) it first"):
        convert(dt.input("x"))


def test_tensor_is_no_index() -> None:
    with pytest.raises(GraphError):
        [1, 2][dt.input("n", (), np.int64)]  # type: ignore[call-overload]  # the error is the point


def test_tensor_does_not_become_an_array() -> None:
    with pytest.raises(GraphError, match="cannot become a NumPy array"):
        np.asarray(dt.input("x", (2,)))


def test_input_has_no_value() -> None:
    with pytest.raises(GraphError, match="has no value of its own"):
        _ = dt.input("x").value


def test_unknown_attribute_is_an_attribute_error() -> None:
    x = dt.input("x", (2,))
    with pytest.raises(AttributeError, match="'sume'"):
        _ = x.sume
    assert not hasattr(x, "__array_interface__")


def test_len_and_iteration() -> None:
    x = dt.input("x", (3, 2))
    assert len(x) == 3
    assert [row.shape for row in x] == [(2,)] * 3
    with pytest.raises(TypeError):
        len(dt.input("y"))


@pytest.mark.parametrize("dtype", [object, "U3", "M8[s]", "V4"])
def test_dtypes_that_are_no_numbers_are_refused(dtype: Any) -> None:
    with pytest.raises(DTypeError, match="booleans, integers, floats or complex"):
        dt.input("x", (2,), dtype)


@pytest.mark.parametrize("shape", [(-1,), (2.5,), ("a",), (True,)])
def test_shapes_are_whole_numbers(shape: Any) -> None:
    with pytest.raises(ShapeError, match="whole numbers"):
        dt.input("x", shape)


def test_out_argument_is_refused() -> None:
    x = dt.input("x", (2,))
    with pytest.raises(UnsupportedError, match="tensors never change"):
        np.add(x, 1, out=np.zeros(2))


# ---- properties


def test_facts() -> None:
    x = dt.input("x", (2, 3), "f4")
    assert (x.shape, x.dtype, x.ndim, x.size, x.nbytes, x.name) == ((2, 3), np.float32, 2, 6, 24, "x")
    assert repr(x) == "<Tensor input x: float32[2, 3]>"
    assert str(make_spec((), bool)) == "bool[]"
    assert x.attribute("nothing") is None


def test_spec_of_many_things() -> None:
    for thing in (np.zeros((2,), "i8"), dt.input("n", (2,), "i8"), make_spec((2,), "i8")):
        assert spec_of(thing) == make_spec((2,), "i8")
    assert spec_of(1.5) == make_spec((), "f8")


def test_origin_is_the_users_line() -> None:
    with dt.scope("outer"), dt.scope("inner"):
        y = np.sin(dt.input("x", (2,)))
    assert y.origin.file == HERE
    assert y.origin.function == "test_origin_is_the_users_line"
    assert y.origin.scope == ("outer", "inner")
    assert y.origin.phase == "forward"
    assert dt.input("z").origin.scope == ()


def test_scope_ends_also_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), dt.scope("layer"):
        _ = 1 / 0
    assert dt.input("x").origin.scope == ()


def test_pickled_tensor_computes_the_same() -> None:
    a = dt.array([1.0, 2.0], name="a")
    again = pickle.loads(pickle.dumps(np.sin(a) * 2))
    assert again.op == "multiply"
    assert again.inputs[0].inputs[0].name == "a"
    assert again.inputs[0].inputs[0].value.tolist() == [1.0, 2.0]
    assert again.inputs[0].inputs[0] is not a


def test_copies_are_the_same_program() -> None:
    x = dt.input("x", (2,))
    assert copy.deepcopy(np.sin(x)).op == "sin"


def test_values_are_equal_by_their_bytes() -> None:
    assert Value([1.0]) == Value([1.0])
    assert hash(Value([1.0])) == hash(Value([1.0]))
    assert Value([0.0]) != Value([-0.0])
    assert Value(np.float32(1)) != Value(np.float64(1))
    assert pickle.loads(pickle.dumps(Value([1.0]))) == Value([1.0])


def test_numbers_are_held_in_the_byte_order_of_the_machine() -> None:
    numbers = np.array([1.0, 2.0], np.dtype("f4").newbyteorder())
    for result in (
        dt.array(numbers).compute(),
        (dt.array(1, "i1") * numbers).compute(),
        dt.compile(np.cumsum)(numbers),
        dt.grad(np.sum)(numbers),
    ):
        assert result.dtype == np.float32
        assert result.dtype.isnative
    assert dt.array([1], numbers.dtype).astype(numbers.dtype).dtype == np.float32


def test_rows_of_different_lengths_are_no_array():
    with pytest.raises(DTypeError, match="a tensor holds one array of numbers"):
        dt.array([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    "use",
    [
        dt.array,
        lambda a: dt.array(1.0) + a,
        dt.compile(np.sum),
        dt.grad(np.sum),
        plan(dt.trace(np.tanh, np.zeros(2))),
    ],
)
def test_masked_elements_are_refused(use: Any) -> None:
    with pytest.raises(DTypeError, match="masked array"):
        use(np.ma.array([1.0, 2.0], mask=[False, True]))
    with pytest.raises(DTypeError, match=r"np\.matrix multiplies otherwise"):
        use(np.ones((1, 2)).view(np.matrix))
    use(np.ma.array([1.0, 2.0]))
