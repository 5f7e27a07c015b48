"""Forged manifests for `test_malformed`: what is done to the entries of a sound one, and what the error says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def deep(levels: int) -> Any:
    nested: Any = []
    for _ in range(levels):
        nested = [nested]
    return nested


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another format": (lambda e: e.update(format="other"), "its format is not 'dagtrain checkpoint'"),
    "an earlier version": (lambda e: e.update(version=3), "version 3 and this dagtrain reads version 4: use the dagtrain that wrote it"),
    "a later version": (lambda e: e.update(version=5), "version 5 and this dagtrain reads version 4"),
    "no version": (lambda e: e.pop("version"), "no entry 'version'"),
    "a path upwards": (lambda e: e["tensors"].update(name="../../etc/passwd"), "the name of its tensor file"),
    "an absolute path": (lambda e: e["tensors"].update(name="/etc/passwd"), "the name of its tensor file"),
    "a path that is a list": (lambda e: e["tensors"].update(name=["x"]), "the name of its tensor file"),
    "a digest that is a path": (lambda e: e["tensors"].update(sha256="../" * 20 + "etc/"), "'sha256' is no SHA-256"),
    "a gigantic file": (lambda e: e["tensors"].update(size=1 << 60), "has .* of the 1,152,921,504,606,846,976 bytes"),
    "a negative size": (lambda e: e["tensors"].update(size=-1), "'size' is out of range"),
    "a gigantic array": (lambda e: e["parameters"]["arrays"][0].__setitem__(1, [1 << 40]), "larger than its tensor file"),
    "an overflowing array": (lambda e: e["parameters"]["arrays"][0].__setitem__(1, [1 << 47] * 32), "a shape that is too large"),
    "gigantic rows": (lambda e: e["rows"]["columns"][0].update(shape=[1 << 40]), "a shape that is too large"),
    "rows of objects": (lambda e: e["rows"]["columns"][0].update(dtype="object"), "'dtype' is none of bool"),
    "rows of lists": (lambda e: e["rows"]["columns"][0].update(dtype=[]), "'dtype' is none of bool"),
    "rows without x": (lambda e: e["rows"].update(structure={"tuple": ["-", "*", "-"]}, columns=e["rows"]["columns"][:1]), "no nests of x"),
    "rows of another number": (lambda e: e["rows"]["columns"].pop(), "no nests of x"),
    "a header that is a number": (lambda e: e["rows"]["columns"][0].update(header=[1]), "'header' is no str"),
    "parameters of objects": (lambda e: e["parameters"].update(dtype="|O"), "the dtype of its parameters"),
    "a negative step": (lambda e: e.update(step=-1), "'step' is out of range"),
    "a step that is text": (lambda e: e.update(step="1"), "'step' is no int"),
    "a step that is true": (lambda e: e.update(step=True), "'step' is no int"),
    "two parameters of one name": (lambda e: e["parameters"]["arrays"].append(e["parameters"]["arrays"][0]), "have one name"),
    "states of objects": (lambda e: states(e)[0].update(dtype="object"), "'dtype' is none of bool"),
    "a mean of integers": (lambda e: states(e)[0].update(dtype="int32"), "of int32 is reduced by 'mean', which does not exist"),
    "another reduction": (lambda e: states(e)[0].update(reduction="os.system"), "is reduced by 'os.system', which does not exist"),
    "states of no shard": (lambda e: e["statistics"].update(shards=0), "'shards' is out of range"),
    "states by many shards": (
        lambda e: (states(e)[0].update(reduction="shard"), e["statistics"].update(shards=1 << 60)),
        "larger than its",
    ),
    "states of another reduction": (lambda e: states(e)[0].update(reduction="max"), r"by max there, float32\[5\], by mean here"),
    "two states of one name": (lambda e: states(e).append(states(e)[0]), "two of its states have one name"),
    "two slots of one name": (lambda e: e.update(slots=["first", "first"]), "two slots have one name"),
    "groups without a parameter": (lambda e: e.update(groups=[group(e, arrays(e)[1:])]), "do not hold each parameter once"),
    "groups with a parameter twice": (lambda e: e.update(groups=[group(e, arrays(e) * 2)]), "do not hold each parameter once"),
    "groups without slots": (lambda e: e.update(groups=[group(e, arrays(e), slots=[])]), "its groups have other slots"),
    "a frozen group with slots": (lambda e: e.update(groups=[group(e, arrays(e), trained=False)]), "have other slots"),
    "a group that is text": (lambda e: e.update(groups=["*"]), "'groups' is no dict"),
    "a group in another": (lambda e: e.update(groups=[group(e, arrays(e), name=[])]), "'name' is no str"),
    "a group of another model": (lambda e: e.update(groups=[group(e, arrays(e))]), "group of batch_norm_1.scale: '\\*' there"),
    "no slots": (lambda e: e.update(slots=[]), "its header is said to have"),
    "units without memory for them": (lambda e: layer(e, 1).update(units=1 << 40), "does not have its arrays: parameter dense_1.kernel"),
    "units beyond all numbers": (lambda e: layer(e, 1).update(units=1 << 70), "the model that its manifest describes cannot be built"),
    "another model": (lambda e: layer(e, 1).update(units=9), "does not have its arrays: parameter dense_1.kernel"),
    "another layer": (lambda e: layers(e).pop(), "does not have its arrays: parameter dense_2"),
    "a layer that is none": (lambda e: layers(e)[1].update(layer="os.system"), "dagtrain has no layer 'os.system'"),
    "a model that is a loss": (lambda e: e["objective"].update(model=e["objective"]["loss"]), "describes no model"),
    "a loss that is a model": (lambda e: e["objective"].update(loss=e["objective"]["model"]), "describes no loss"),
    "no loss": (lambda e: e["objective"].pop("loss"), "describes no loss"),
    "no kind": (lambda e: e["objective"].pop("kind"), "neither a model nor a cost function"),
    "metrics that are a number": (lambda e: e["objective"].update(metrics=3), "describes no metrics"),
    "one metric twice": (lambda e: e["objective"]["metrics"].append(e["objective"]["metrics"][0]), "each metric may be named once"),
    "an optimiser that is none": (lambda e: e["optimizer"].update(optimizer="eval"), "dagtrain has no optimizer 'eval'"),
    "another optimiser": (lambda e: e.update(optimizer={"optimizer": "adagrad", "settings": {}}), "slots: first, second there, total here"),
    "settings that go too deep": (
        lambda e: e["optimizer"]["settings"].update(learning_rate=deep(500)),
        "describes no optimizer that can be built",
    ),
    "shards that are none": (lambda e: e.update(shards=0), "'shards' is out of range"),
    "batches that are none": (lambda e: e["batches"].pop("shuffle"), "'batches' does not hold"),
    "a history of texts": (lambda e: e["history"].update(loss=["x"]), "history of 'loss' holds other things"),
}


def arrays(entries: dict[str, Any]) -> Any:
    return entries["parameters"]["arrays"]


def states(entries: dict[str, Any]) -> Any:
    return entries["statistics"]["arrays"]


def group(entries: dict[str, Any], arrays: Any, **changes: Any) -> dict[str, Any]:
    return {"name": "*", "parameters": [name for name, _ in arrays], "slots": entries["slots"], "trained": True, **changes}


def layers(entries: dict[str, Any]) -> Any:
    return entries["objective"]["model"]["settings"]["layers"]


def layer(entries: dict[str, Any], i: int) -> Any:
    return layers(entries)[i]["settings"]
