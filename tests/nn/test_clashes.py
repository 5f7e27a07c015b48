"""Layers whose names, fields or parameters clash, and models that are too deep or too large."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from dagtrain import nn
from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.nn.tracing import first_pass
from dagtrain.ops.random import key
from tests.nn.own_layers import DENSE, Scale, Stack, X, layer_of, names


def test_a_parameter_and_a_state_of_one_name_are_refused() -> None:
    def forward(first: str) -> Any:
        def both(self: Any, c: nn.Context, x: Any) -> Any:
            ask = {"parameter": lambda: c.parameter("w", (4,), "ones"), "state": lambda: c.state("w", (4,))}
            return x * ask[first]() + ask["state" if first == "parameter" else "parameter"]()

        return both

    for first in ("parameter", "state"):
        with pytest.raises(ArgumentError, match="'w' is the name of a parameter and of a state"):
            layer_of(forward(first)).init(key(0), X)


def test_a_scope_and_a_layer_of_one_name_are_refused_and_a_scope_does_not_ask_twice() -> None:
    def twice(self: Any, c: nn.Context, x: Any) -> Any:
        for _ in range(2):
            with c.scope("a") as inner:
                x = x * inner.parameter("w", ())
        return x

    with pytest.raises(ArgumentError, match="parameter 'w' is asked for twice"):
        layer_of(twice).init(key(0), X)

    def scope_first(self: Any, c: nn.Context, x: Any) -> Any:
        with c.scope("a") as inner:
            x = x * inner.parameter("w", ())
        return c(DENSE, x, name="a")

    with pytest.raises(ArgumentError, match="two layers have the name 'a'"):
        layer_of(scope_first).init(key(0), X)


def test_layers_in_lists_of_lists_have_names() -> None:
    stack = Stack([Scale()], {"only": Scale()}, Scale())
    nested = replace(stack, blocks=[Scale()], heads={"a": Scale(), "b": Scale()})
    assert names(nested)[:2] == ["blocks.scale_1.scale", "heads.a.scale"]

    @dataclass(frozen=True)
    class Rows(nn.Layer):
        rows: Any

        def forward(self, c: nn.Context, x: Any) -> Any:
            for row in self.rows:
                for layer in row:
                    x = c(layer, x)
            return x

    assert names(Rows([[Scale(), Scale()], [Scale()]])) == ["rows.1.scale_1.scale", "rows.1.scale_2.scale", "rows.2.scale_1.scale"]


def test_a_layer_as_the_default_of_a_field_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"Shared.inner: all instances would share.*default_factory"):

        class Shared(nn.Layer):
            inner: nn.Layer = nn.Dense(3)


def test_a_shared_layer_is_frozen_if_any_of_its_users_is() -> None:
    layer, x = nn.Dense(4), nn.Input((4,))
    frozen = nn.Model(x, layer(x), trainable=False)
    for first in (True, False):
        a = nn.Input((4,))
        outputs = (frozen(a), layer(a)) if first else (layer(a), frozen(a))
        shared = first_pass(nn.Model(a, outputs[0] + outputs[1]), key(0), ()).shared
        assert len(shared.frozen) == 2


def test_a_layer_is_trainable_unless_all_its_parameters_are_fixed() -> None:
    params, state = nn.BatchNorm().init(key(0), X)
    after = nn.BatchNorm().run(params, state, X, training=True, fixed={"offset"}).state
    assert not np.array_equal(after["mean"], state["mean"])

    @dataclass(frozen=True)
    class Mean(nn.Layer):
        trainable: bool = True

        def forward(self, c: nn.Context, x: Any) -> Any:
            mean = c.state("mean", x.shape[-1:])
            if c.training and c.trainable:
                c.update("mean", np.mean(x, axis=0))
            return x - mean

    assert (Mean(trainable=False).run({}, Mean().init(key(0), X)[1], X, training=True, fixed=set()).state["mean"] == 0).all()


def test_a_second_output_that_is_no_mask_is_refused_in_a_sequential() -> None:
    pair = layer_of(lambda self, c, x: (x, 2 * x))
    with pytest.raises(ArgumentError, match=r"layer 'mine_1' has several outputs"):
        nn.Sequential([pair]).init(key(0), X)


def test_layers_that_are_nested_too_deeply_are_an_error() -> None:
    model: nn.Layer = nn.Dense(2)
    for _ in range(1500):
        model = nn.Sequential([model])
    with pytest.raises(ArgumentError, match="nested too deeply"):
        model.init(key(0), X)


def test_shapes_beyond_any_array_are_named() -> None:
    with pytest.raises(ShapeError, match="more elements than an array can have"):
        nn.Sequential([nn.Dense(10**12), nn.Dense(10**12)]).output_spec((1, 4))
