"""Models, losses, metrics and optimisers as plain JSON, and back; nothing in the JSON is executed.

    nn.Dense(10, "relu")        ⇄  {"layer": "Dense", "settings": {"units": 10, "activation": "relu", …}}
    optim.adam(1e-3)            ⇄  {"optimizer": "adam", "settings": {"learning_rate": 0.001, …}}
    the same layer once more    ⇄  {"shared": "layers[0]"}                                        where it was described
    a layer of the user's       ⇄  {"python": "module.Scale", "settings": {…}}                    built if the user gives the class
    a function of the user's    ⇄  {"python": "module.name"}                                      taken if the user gives it

`build` makes dagtrain's own objects alone: it picks a constructor by name from the tables below, which checks its arguments. What else it
may make, its caller names.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from dagtrain import nn, optim
from dagtrain.nn import losses, metrics
from dagtrain.nn.losses import Loss
from dagtrain.nn.metrics import Metric
from dagtrain.nn.model import connect
from dagtrain.optim.named import OPTIMIZERS
from dagtrain.trace.tree import Leaf

__all__ = ["build", "complete", "describe", "describe_structure", "differences", "foreign", "structure_of"]

Description = Any
"""Plain JSON: None, bool, int, float, str, and lists and dicts of them."""
PLAIN = (type(None), bool, int, float, str)


def _layers() -> dict[str, Callable[..., Any]]:
    """Every public layer of dagtrain."""
    public = {name: getattr(nn, name) for name in nn.__all__}
    return {n: k for n, k in public.items() if isinstance(k, type) and issubclass(k, nn.Layer) and dataclasses.is_dataclass(k)}


def _chain(parts: tuple[Any, ...]) -> Any:
    return optim.chain(*parts)


def _by_name(rules: Any) -> Any:
    return optim.by_name(dict(rules))


def _step_decay(initial: float, rate: float, every: int, staircase: bool) -> Any:
    return optim.step_decay(initial, rate, every)


def _named(*functions: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    return {f.__name__: f for f in functions}


MAKERS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "layer": _layers(),
    "optimizer": {
        **OPTIMIZERS,
        **_named(optim.clip_by_value, optim.clip_by_global_norm, optim.l2, optim.add_decayed_weights),
        **_named(optim.every, optim.frozen, optim.track),
        "chain": _chain,
        "by_name": _by_name,
    },
    "schedule": {
        **_named(optim.constant, optim.exponential_decay, optim.piecewise, optim.polynomial, optim.cosine, optim.one_cycle, optim.warmup),
        "step_decay": _step_decay,
    },
    "loss": {name: partial(losses.find, name) for name in losses.LOSSES},
    "metric": {name: partial(metrics.find, name) for name in metrics.METRICS},
}
"""Kind and name → constructor."""


# ---- to JSON


def describe(value: Any) -> Description:
    """A value as plain JSON; a value that `build` cannot rebuild exactly is ``{"python": its name}``.

    Examples
    --------
    >>> describe(optim.chain(optim.clip_by_value(1.0), optim.sgd(0.1)))["settings"]["parts"][0]
    {'optimizer': 'clip_by_value', 'settings': {'limit': 1.0}}
    """
    return _describe(value, "", {})


def _describe(value: Any, path: str, seen: dict[int, str]) -> Description:
    """The description of a value at this path; `seen` has the paths of the layers before it."""
    if isinstance(value, np.integer | np.float64 | np.bool_):
        value = value.item()
    if type(value) in PLAIN:
        return value if not isinstance(value, float) or math.isfinite(value) else _name(value)
    if isinstance(value, tuple | list):
        return [_describe(part, f"{path}[{i}]", seen) for i, part in enumerate(value)]
    if isinstance(value, optim.Optimizer):
        return _checked("optimizer", value.name, value.settings, value)
    if isinstance(value, optim.Schedule):
        return _checked("schedule", value.name, value.function.keywords, value)
    if isinstance(value, Loss):
        return _checked("loss", value.name, _options(value.function), value)
    if isinstance(value, Metric):
        loss = _options(value.parts).get("loss")
        name = getattr(_functions(value)[0], "__name__", "") if loss is None else loss.name
        options = {**_options(value.parts), **{k: v for k, v in _options(value.value).items() if not callable(v)}}
        settings = options if loss is None else _options(loss.function)
        description = _checked("metric", name, settings, value)
        return description if "metric" in description else _checked("metric", name, {**settings, "name": value.name}, value)
    if isinstance(value, nn.Layer):
        return _layer(value, path, seen)
    return _name(value)


def _layer(layer: nn.Layer, path: str, seen: dict[int, str]) -> Description:
    if id(layer) in seen:
        return {"shared": seen[id(layer)]}
    seen[id(layer)] = path
    kind = type(layer).__name__
    tag = {"layer": kind} if MAKERS["layer"].get(kind) is type(layer) else _name(layer)
    if isinstance(layer, nn.Model):
        parts: dict[str, Any] = {"name": layer.name, "trainable": layer.trainable}
        layers = {name: _describe(part, f"{path}.{name}".lstrip("."), seen) for name, part in layer.layers.items()}
        return {**tag, "settings": parts, "layers": layers, "table": layer.table()}
    if not dataclasses.is_dataclass(layer) and vars(layer):
        return tag  # nothing says which of its attributes its constructor takes
    fields: list[str] = [f.name for f in dataclasses.fields(layer) if f.init] if dataclasses.is_dataclass(layer) else []
    return {**tag, "settings": {name: _describe(getattr(layer, name), f"{path}.{name}".lstrip("."), seen) for name in fields}}


def _name(value: Any) -> Description:
    """The name of a part of the user's: that of a class or function, and its own where it holds functions."""
    if isinstance(value, Loss | Metric | optim.Optimizer | optim.Schedule):
        return {"python": f"{getattr(_functions(value)[0], '__module__', '?')}.{value.name}"}
    named = value if hasattr(value, "__qualname__") else type(value)
    return {"python": f"{getattr(named, '__module__', '?')}.{getattr(named, '__qualname__', '?')}"}


def _options(function: Any) -> dict[str, Any]:
    return dict(function.keywords) if isinstance(function, partial) else {}


def _functions(value: Any) -> list[Any]:
    """The functions that an optimiser, a schedule, a loss or a metric calls, without their options, and what else tells them apart."""
    if isinstance(value, Metric):
        loss = _options(value.parts).get("loss")
        calls = [value.parts if loss is None else loss.function, value.value, value.size, value.higher_is_better]
    else:
        calls = [value.update if isinstance(value, optim.Optimizer) else value.function]
    return [call if getattr(call, "args", ()) else getattr(call, "func", call) for call in calls]


def _checked(tag: str, name: str, settings: Mapping[str, Any], value: Any) -> Description:
    """The description, if the object built from it calls the same functions; a name alone proves nothing."""
    description = {tag: name, "settings": {k: describe(v) for k, v in settings.items()}}
    if next(foreign(description), None) is not None:
        return description if name in MAKERS[tag] else _name(value)
    try:
        rebuilt = build(description)
    except Exception:  # a user's own object of that name may hold anything
        return _name(value)
    return description if _functions(rebuilt) == _functions(value) and rebuilt.name == value.name else _name(value)


# ---- and back


def build(description: Description, custom: Mapping[str, Any] | None = None) -> Any:
    """Build the object of a description.

    Parameters
    ----------
    description
        By `describe`.
    custom
        The user's own layers, losses, metrics and activations by name.

    Raises
    ------
    ValueError
        If it holds anything but dagtrain's own parts and these, with settings that their constructors accept.

    Examples
    --------
    >>> build({"layer": "Dropout", "settings": {"rate": 0.5}})
    Dropout(rate=0.5, name=None)
    """
    return _Builder(custom or {}).build(description, "")


class _Builder:
    """Builds one description: a part that is shared is the very object that was made before."""

    def __init__(self, custom: Mapping[str, Any]) -> None:
        self.custom, self.made, self.full = custom, dict[str, Any](), dict[str, str]()

    def build(self, description: Description, path: str) -> Any:
        if type(description) in PLAIN:
            return description
        if isinstance(description, list):
            return tuple(self.build(part, f"{path}[{i}]") for i, part in enumerate(description))
        keys = set(description) - {"settings"} if isinstance(description, dict) else set()
        if keys == {"shared"} and isinstance(description["shared"], str) and description["shared"] in self.made:
            return self.made[description["shared"]]
        if keys == {"layer", "layers", "table"} and description["layer"] == "Model":
            value = self._model(description, path)
        elif keys in [{tag} for tag in (*MAKERS, "python")]:
            value = self._part(description, next(iter(keys)), path)
        else:
            raise ValueError(f"{_short(description)} describes no part of a model")
        if isinstance(value, nn.Layer):
            self.made[path] = value
        return value

    def _part(self, description: dict[str, Any], tag: str, path: str) -> Any:
        name, makers = description[tag], MAKERS.get(tag, self.custom)
        if tag == "python" and isinstance(name, str):
            full, name = name, name.rpartition(".")[2]
            if self.full.setdefault(name, full) != full:
                raise ValueError(f"{name!r} is the name of several parts, {self.full[name]} and {full}")
        if not isinstance(name, str) or name not in makers:
            raise ValueError(f"dagtrain has no {tag if tag != 'python' else 'part'} {_short(name)}")
        if tag == "python" and "settings" not in description:
            if isinstance(makers[name], type):
                raise ValueError(f"{name} is no dataclass, so its settings were not saved")
            return makers[name]
        return _made(f"{tag} {name!r}" if tag != "python" else repr(name), makers[name], self._settings(description, name, path))

    def _settings(self, description: dict[str, Any], name: str, path: str) -> dict[str, Any]:
        settings = description.get("settings", {})
        if not isinstance(settings, dict):
            raise ValueError(f"the settings of {name!r} are {_short(settings)}")
        return {key: self.build(value, f"{path}.{key}".lstrip(".")) for key, value in settings.items()}

    def _model(self, description: dict[str, Any], path: str) -> Any:
        layers, table = description["layers"], description["table"]
        if not isinstance(layers, dict) or not isinstance(table, dict):
            raise ValueError(f"{_short(description)} describes no functional model")
        built = {name: self.build(part, f"{path}.{name}".lstrip(".")) for name, part in layers.items()}
        return _made("layer 'Model'", connect, {"table": table, "layers": built, **self._settings(description, "Model", path)})


def _made(what: str, maker: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        inspect.signature(maker).bind(**arguments)
        return maker(**arguments)
    except RecursionError:
        raise
    except Exception as error:  # constructors raise several errors for a wrong type
        raise ValueError(f"{what} cannot be built: {error}") from error


def complete(description: Description) -> Description:
    """The description with default settings filled in, which an older dagtrain may have left out."""
    if isinstance(description, list):
        return [complete(part) for part in description]
    if isinstance(description, dict) and set(description) == {"by_output"} and isinstance(description["by_output"], dict):
        return {"by_output": {name: complete(part) for name, part in description["by_output"].items()}}
    try:
        return describe(build(description))
    except (ValueError, RecursionError):  # it holds a user's own object
        return description


# ---- nests of arrays, without the arrays


def describe_structure(structure: Any) -> Description:
    """The structure of a nest (see `dagtrain.trace.flatten`) as JSON, or None if it holds other classes than dict, list and tuple.

    Examples
    --------
    >>> describe_structure({"w": Leaf, "b": [Leaf, None]})
    {'dict': [['w', '*'], ['b', {'list': ['*', '-']}]]}
    """
    if structure is None:
        return "-"
    if structure is Leaf:
        return "*"
    if type(structure) is dict:
        parts = [[k, describe_structure(v)] for k, v in structure.items()]
        return None if any(p[1] is None for p in parts) else {"dict": parts}
    if type(structure) in (list, tuple):
        parts = [describe_structure(v) for v in structure]
        return None if None in parts else {type(structure).__name__: parts}
    return None


def structure_of(description: Description) -> Any:
    """The structure of a description by `describe_structure`; ValueError for anything else."""
    if description == "-":
        return None
    if description == "*":
        return Leaf
    if isinstance(description, dict) and len(description) == 1:
        ((kind, parts),) = description.items()
        if kind == "dict" and isinstance(parts, list) and all(isinstance(p, list) and len(p) == 2 and isinstance(p[0], str) for p in parts):
            return {k: structure_of(v) for k, v in parts}
        if kind in ("list", "tuple") and isinstance(parts, list):
            structures = [structure_of(p) for p in parts]
            return structures if kind == "list" else tuple(structures)
    raise ValueError(f"{_short(description)} describes no nest of arrays")


# ---- comparison


def foreign(description: Description, path: str = "", custom: Collection[str] = ()) -> Iterator[str]:
    """The places in a description that are not dagtrain's own, nor among the user's names, each with its name."""
    if isinstance(description, dict):
        if "python" in description and str(description["python"]).rpartition(".")[2] not in custom:
            yield f"{path or 'it'} is {description['python']}"
        for key, value in description.items():
            yield from foreign(value, path if key == "settings" else f"{path}.{key}".lstrip("."), custom)
    elif isinstance(description, list):
        for i, value in enumerate(description):
            yield from foreign(value, f"{path}[{i}]", custom)


def differences(there: Description, here: Description, path: str) -> Iterator[str]:
    """The differences of two descriptions; two of the user's functions are not compared, since they may have moved."""
    if isinstance(there, dict) and isinstance(here, dict):
        if "python" in there and "python" in here and not ("settings" in there and "settings" in here):
            return
        if _title(there) != _title(here):
            yield f"{path}: {_title(there)} there, {_title(here)} here"
            return
        for key in [*there, *(k for k in here if k not in there)]:
            inner = path if key == "settings" else f"{path}.{key}"
            if key not in there or key not in here:
                yield f"{inner}: {_short(there.get(key, 'nothing'))} there, {_short(here.get(key, 'nothing'))} here"
            else:
                yield from differences(there[key], here[key], inner)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for i, (a, b) in enumerate(zip(there, here, strict=True)):
            yield from differences(a, b, f"{path}[{i}]")
    elif there != here:
        yield f"{path}: {_short(there)} there, {_short(here)} here"


def _title(description: dict[str, Any]) -> str:
    """The name of a described part; empty for a plain dict."""
    return next((str(description[tag]) for tag in (*MAKERS, "python") if tag in description), "")


def _short(value: Any, length: int = 80) -> str:
    if isinstance(value, list):
        return f"{len(value)} entries"
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
