"""Slots: filled by folders that the graph does not import, read by tensors, graphs and drawable objects."""

from __future__ import annotations

import pytest

import dagtrain as dt
from dagtrain.draw import Diagram, Line, Node
from dagtrain.errors import DagtrainError
from dagtrain.graph import Drawable, Slot


def test_a_slot_says_which_module_should_have_filled_it() -> None:
    slot: Slot[int] = Slot("dagtrain.errors")
    with pytest.raises(DagtrainError, match=r"^dagtrain\.errors does not answer yet: it is still being imported\."):
        assert slot.value
    slot.fill(3)
    assert slot.value == 3


def test_what_has_a_diagram_can_be_drawn() -> None:
    class Traffic(Drawable):
        def diagram(self, *, color: str = "layer") -> Diagram:
            return Diagram((Node("light", (Line("light"),), color),), ())

    assert dt.draw.draw(Traffic()).diagram.nodes[0].kind == "layer"
    assert Traffic().visualize(color="update").diagram.nodes[0].kind == "update"
    assert "text/html" in Traffic()._repr_mimebundle_()


def test_what_has_none_is_refused() -> None:
    with pytest.raises(dt.errors.ArgumentError, match=r"cannot draw a object: .* diagram\(\*\*options\)"):
        dt.draw.draw(object())
