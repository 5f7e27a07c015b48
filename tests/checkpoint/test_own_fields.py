"""Layers of one's own in checkpoints: each field comes back as it was, or saving names the field; names tell parts apart."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.checkpoint.describe import build, describe
from dagtrain.errors import ArgumentError

from ..each import each

X = np.random.default_rng(0).normal(size=(8, 4)).astype("f4")


@dataclass(frozen=True)
class Holder(nn.Layer):
    value: Any

    def forward(self, c: nn.Context, x: Any) -> Any:
        return x


@dataclass(frozen=True, eq=False)
class Scaled(nn.Model):
    scale: float = 1.0


class Fixed(nn.Sequential):
    def __init__(self, units: int) -> None:
        super().__init__([nn.Dense(units)])


def other_holder() -> type[nn.Layer]:
    class Inner(nn.Layer):
        def forward(self, c: nn.Context, x: Any) -> Any:
            return x

    return Inner


def scaled() -> Scaled:
    x = nn.Input((4,), name="x")
    return Scaled(x, nn.Dense(4)(x), scale=2.0)


FIELDS = [[1, (2, [3])], {"a": [1.5], 2: None}, np.float32(0.1), np.int64(3), np.bool_(True), np.float16("inf"), float("nan"), np.str_("a")]


@each(FIELDS)
def test_a_field_comes_back_as_it_was(value: Any) -> None:
    again = build(json.loads(json.dumps(describe(Holder(value)), allow_nan=False)), {"Holder": Holder}).value
    assert repr(again) == (repr(value) if not isinstance(value, str) else "'a'")


REFUSED = [
    (Holder(np.ones(2)), r"cannot hold value, array\(\[1., 1.\]\): fields of layers hold numbers, .*save_weights"),
    (nn.Sequential([Holder([{1}])]), r"cannot hold layers\[0\]\.value\[0\], \{1\}"),
    (nn.Dense(2, partial(np.multiply, 2.0)), "cannot hold activation, .*Write a function with def"),
    (nn.Dense(2, lambda x: x), "cannot hold activation, .*Write a function with def"),
    (Fixed(3), "cannot hold the model, of the class Fixed: leave out its __init__"),
    (
        nn.Sequential([other_holder()(), other_holder()()]),
        r"cannot tell layers\[0\] from layers\[1\]: both are named .*Inner, and differ. Give each a name of its own",
    ),
]


@each(REFUSED)
def test_a_layer_that_could_not_be_loaded_is_refused_with_the_field(layer: nn.Layer, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        describe(layer)


def test_a_model_of_a_class_of_ones_own_keeps_it() -> None:
    for again in (copy.deepcopy(scaled()), pickle.loads(pickle.dumps(scaled())), build(describe(scaled()), {"Scaled": Scaled})):
        assert type(again) is Scaled
        assert (again.scale, again.input_names, again.names) == (2.0, ("x",), ("dense_1",))


def test_parts_of_one_short_name_are_given_by_their_whole_names(tmp_path: Path) -> None:
    inner = other_holder()
    there = f"{__name__}.other_holder.<locals>.Inner"
    here = type("Inner", (inner,), {"__module__": "here", "__qualname__": "Inner"})
    trainer = dt.Trainer(nn.Sequential([inner(), here(), nn.Dense(4)], input_shape=(4,)), loss="mean_squared_error", engine="inline")
    trainer.save(tmp_path)
    with pytest.raises(ArgumentError, match=r"custom has one 'Inner', but the checkpoint has .*: give both by their whole names, as in"):
        dt.load(tmp_path, custom={"Inner": inner})
    again = dt.load(tmp_path, custom={"here.Inner": here, there: inner})
    assert [type(layer) for layer in again.model.layers[:2]] == [inner, here]
    with pytest.raises(ArgumentError, match=r"custom is a dict .*got \[\]"):
        dt.load(tmp_path, custom=[])  # type: ignore[arg-type]
