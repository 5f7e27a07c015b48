"""Models, losses, metrics and optimisers as plain JSON, and back; nothing in the JSON is executed.

    nn.Dense(10, "relu")        ⇄  {"layer": "Dense", "settings": {"units": 10, "activation": "relu", …}}
    optim.adam(1e-3)            ⇄  {"optimizer": "adam", "settings": {"learning_rate": 0.001, …}}
    the same layer once more    ⇄  {"shared": "layers[0]"}                                        where it was described
    (1, 2)                      ⇄  [1, 2]
    [1, 2]                      ⇄  {"list": [1, 2]}
    {"a": 1}                    ⇄  {"dict": [["a", 1]]}
    np.float32(0.5)             ⇄  {"number": 0.5, "dtype": "float32"}
    text.Words(("a", "b"))      ⇄  {"vocabulary": "Words", "settings": {"tokens": ["a", "b"], …}}
    data.Features((…))          ⇄  {"features": "Features", "settings": {"columns": [{"features": "Number", …}, …]}}
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
from dagtrain.data.features import Category, Features, Number
from dagtrain.errors import ArgumentError
from dagtrain.nn import losses, metrics
from dagtrain.nn.losses import Loss
from dagtrain.nn.metrics import Metric
from dagtrain.nn.model import connect
from dagtrain.optim.named import OPTIMIZERS
from dagtrain.text import Vocabulary

__all__ = ["MAKERS", "Describer", "Description", "build", "describe", "foreign", "key_of", "short"]

Description = Any
"""Plain JSON: None, bool, int, float, str, and lists and dicts of them."""
PLAIN = (type(None), bool, int, float, str)
SCALARS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
"""Types of NumPy's numbers."""
INSTEAD = "or write the weights alone, with trainer.save_weights(path)."


def _layers() -> dict[str, Callable[..., Any]]:
    """Every public layer of dagtrain, and every model that is a class."""
    public = {name: getattr(room, name) for room in (nn, nn.models) for name in room.__all__}
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
    "vocabulary": Vocabulary.kinds,
    "features": {kind.__name__: kind for kind in (Features, Number, Category)},
    "optimizer": {
        **OPTIMIZERS,
        **_named(optim.clip_by_value, optim.clip_by_global_norm, optim.l2, optim.add_decayed_weights),
        **_named(optim.averaged, optim.every, optim.frozen, optim.lookahead, optim.scaled, optim.track),
        "chain": _chain,
        "by_name": _by_name,
    },
    "schedule": {
        **_named(optim.constant, optim.cosine, optim.cosine_restarts, optim.exponential_decay, optim.join, optim.one_cycle),
        **_named(optim.piecewise, optim.polynomial, optim.warmup),
        "step_decay": _step_decay,
    },
    "loss": {name: partial(losses.find, name) for name in losses.LOSSES},
    "metric": {name: partial(metrics.find, name) for name in metrics.METRICS},
}
"""Kind and name → constructor."""


# ---- to JSON


def describe(value: Any) -> Description:
    """A value as plain JSON; a function or class of the user's, or an object made of some, is ``{"python": its name}``.

    Raises
    ------
    ArgumentError
        For a layer that `build` could not make again: a field holds something else than the values above, or its constructor takes other
        arguments than its fields. For two parts of the user's with one name.

    Examples
    --------
    >>> describe(optim.chain(optim.clip_by_value(1.0), optim.sgd(0.1)))["settings"]["parts"][0]
    {'optimizer': 'clip_by_value', 'settings': {'limit': 1.0}}
    >>> describe([np.float32(0.5), {"rate": float("inf")}])
    {'list': [{'number': 0.5, 'dtype': 'float32'}, {'dict': [['rate', {'number': 'inf'}]]}]}
    """
    return Describer().describe(value, "")


class Describer:
    """Describes the parts of one run, each of which needs a name of its own."""

    def __init__(self) -> None:
        self._paths = dict[int, str]()
        """The path of each layer before."""
        self._names = dict[str, tuple[Any, str]]()
        """The user's parts by name: what tells one from others, and the path of its first use."""

    def describe(self, value: Any, path: str, *, in_layer: bool = False) -> Description:
        """The description of a value at this path; `in_layer` if it is in a field of a layer."""
        value = str(value) if type(value) is np.str_ else value
        if type(value) in PLAIN and (not isinstance(value, float) or math.isfinite(value)):
            return value
        if type(value) is float:
            return {"number": str(value)}
        if isinstance(value, np.generic) and value.dtype.name in SCALARS:
            number = self.describe(value.item(), path)
            return {**(number if isinstance(number, dict) else {"number": number}), "dtype": value.dtype.name}
        if type(value) in (tuple, list):
            parts = [self.describe(part, f"{path}[{i}]", in_layer=in_layer) for i, part in enumerate(value)]
            return parts if type(value) is tuple else {"list": parts}
        if type(value) is dict and all(type(key) in PLAIN for key in value):
            return {"dict": [[k, self.describe(part, f"{path}[{k!r}]", in_layer=in_layer)] for k, part in value.items()]}
        if isinstance(value, optim.Optimizer):
            return self._checked("optimizer", value.name, value.settings, value, path)
        if isinstance(value, optim.Schedule):
            return self._checked("schedule", value.name, value.function.keywords, value, path)
        if isinstance(value, Loss):
            return self._checked("loss", value.name, _options(value.function), value, path)
        if isinstance(value, Metric):
            loss = _options(value.parts).get("loss")
            name = getattr(_functions(value)[0], "__name__", "") if loss is None else loss.name
            options = {**_options(value.parts), **{k: v for k, v in _options(value.value).items() if not callable(v)}}
            settings = options if loss is None else _options(loss.function)
            description = self._checked("metric", name, settings, value, path)
            return description if "metric" in description else self._checked("metric", name, {**settings, "name": value.name}, value, path)
        if isinstance(value, nn.Layer):
            return self._layer(value, path)
        for tag in ("vocabulary", "features"):
            if type(value) is MAKERS[tag].get(type(value).__name__):
                settings = {f.name: self.describe(getattr(value, f.name), _join(path, f.name)) for f in dataclasses.fields(value)}
                return {tag: type(value).__name__, "settings": settings}
        if in_layer and "<lambda>" in getattr(value, "__qualname__", "<lambda>"):
            cure = "Write a function with def" if callable(value) else "Make it in forward from such values"
            raise ArgumentError(
                f"a checkpoint cannot hold {path}, {short(value)}: fields of layers hold numbers, text, None, tuples, lists and dicts of "
                f"these, other layers, and functions and classes that have names. {cure}; {INSTEAD}"
            )
        return self._name(value, path)

    def _layer(self, layer: nn.Layer, path: str) -> Description:
        if id(layer) in self._paths:
            return {"shared": self._paths[id(layer)]}
        self._paths[id(layer)] = path
        kind: Any = type(layer)
        is_ours = MAKERS["layer"].get(kind.__name__) is kind
        tag = {"layer": kind.__name__} if is_ours else self._name(kind, path)
        fields: list[str] = [f.name for f in dataclasses.fields(layer) if f.init] if dataclasses.is_dataclass(layer) else []
        cure = "" if dataclasses.is_dataclass(layer) or not vars(layer) else "write @dataclass(frozen=True), and a field for each setting"
        try:
            inspect.signature(kind).bind(**dict.fromkeys(fields))
        except TypeError:
            cure = "leave out its __init__, and compute in __post_init__, since loading makes it of its fields"
            cure = "write a function that returns a Model in place of a class with an __init__" if isinstance(layer, nn.Model) else cure
        if cure:
            raise ArgumentError(f"a checkpoint cannot hold {path or 'the model'}, of the class {kind.__name__}: {cure}; {INSTEAD}")
        connections: dict[str, Any] = {}
        if isinstance(layer, nn.Model):
            layers = {name: self.describe(part, _join(path, name)) for name, part in layer.layers.items()}
            connections = {"layers": layers, "table": layer.table()}
            fields = [name for name in fields if name not in ("inputs", "outputs", "auxiliary")]
        settings = {name: self.describe(getattr(layer, name), _join(path, name), in_layer=True) for name in fields}
        return {**tag, "settings": settings, **connections}

    def _name(self, value: Any, path: str) -> Description:
        """The name of a part of the user's: that of a class or function, and its own where it holds functions."""
        function, options = value if hasattr(value, "__qualname__") else type(value), dict[str, Any]()
        name = getattr(function, "__qualname__", "?")
        if isinstance(value, Loss | Metric | optim.Optimizer | optim.Schedule):
            own = value.parts if isinstance(value, Metric) else getattr(value, "function", None)
            options = dict(value.settings) if isinstance(value, optim.Optimizer) else _options(own)
            function, name = options.pop("function", None) or _functions(value)[0], value.name
        full, identity = f"{getattr(function, '__module__', '?')}.{name}", (function, describe(options))
        other, place = self._names.setdefault(full, (identity, path))
        if other != identity and not full.endswith("<lambda>"):
            raise ArgumentError(
                f"a checkpoint cannot tell {place or 'the model'} from {path or 'the model'}: both are named {full}, and differ. Give each "
                f"a name of its own; {INSTEAD}"
            )
        return {"python": full}

    def _checked(self, tag: str, name: str, settings: Mapping[str, Any], value: Any, path: str) -> Description:
        """The description, if the object built from it calls the same functions; a name alone proves nothing."""
        description = {tag: name, "settings": {k: self.describe(v, _join(path, k)) for k, v in settings.items()}}
        if next(foreign(description), None) is not None:
            return description if name in MAKERS[tag] else self._name(value, path)
        try:
            rebuilt = build(description)
        except Exception:  # a user's own object of that name may hold anything
            return self._name(value, path)
        same = _functions(rebuilt) == _functions(value) and rebuilt.name == value.name
        return description if same else self._name(value, path)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}".lstrip(".")


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


def foreign(description: Description, path: str = "", custom: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """The path and name of each part that is not dagtrain's own, nor among the user's `custom` ones."""
    if isinstance(description, dict):
        if "python" in description and key_of(str(description["python"]), custom) is None:
            yield path or "it", str(description["python"])
        for key, value in description.items():
            yield from foreign(value, path if key in ("settings", "list", "dict") else _join(path, key), custom)
    elif isinstance(description, list):
        for i, value in enumerate(description):
            yield from foreign(value, f"{path}[{i}]", custom)


def key_of(name: str, custom: Collection[str]) -> str | None:
    """The key in `custom` for a part of the user's: its whole name, or the last part; a lambda has none."""
    return next((key for key in (name, name.rpartition(".")[2]) if key in custom and not key.endswith("<lambda>")), None)


# ---- and back


def build(description: Description, custom: Mapping[str, Any] | None = None) -> Any:
    """Build the object of a description.

    Parameters
    ----------
    description
        By `describe`.
    custom
        The user's own layers, losses, metrics and activations by name: their whole names, or the last parts of these.

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
        self.custom, self.made = custom, dict[str, Any]()

    def build(self, description: Description, path: str) -> Any:
        if type(description) in PLAIN:
            return description
        if isinstance(description, list):
            return tuple(self.build(part, f"{path}[{i}]") for i, part in enumerate(description))
        keys = set(description) - {"settings"} if isinstance(description, dict) else set()
        if keys == {"shared"} and isinstance(description["shared"], str) and description["shared"] in self.made:
            return self.made[description["shared"]]
        if keys == {"list"} and isinstance(description["list"], list):
            return list(self.build(description["list"], path))
        if keys == {"dict"} and isinstance(description["dict"], list):
            return dict(self._entry(entry, path) for entry in description["dict"])
        if keys in ({"number"}, {"number", "dtype"}):
            return _number(description["number"], description.get("dtype"))
        if keys in ({"layer", "layers", "table"}, {"python", "layers", "table"}):
            value = self._model(description, path)
        elif keys in [{tag} for tag in (*MAKERS, "python")]:
            value = self._part(description, next(iter(keys)), path)
        else:
            raise ValueError(f"{short(description)} describes no part of a model")
        if isinstance(value, nn.Layer):
            self.made[path] = value
        return value

    def _entry(self, entry: Any, path: str) -> tuple[Any, Any]:
        if not isinstance(entry, list) or len(entry) != 2 or type(entry[0]) not in PLAIN:
            raise ValueError(f"{short(entry)} describes no entry of a dict")
        return entry[0], self.build(entry[1], f"{path}[{entry[0]!r}]")

    def _maker(self, description: dict[str, Any], tag: str) -> Any:
        name = description[tag]
        makers, key = (self.custom, key_of(str(name), self.custom)) if tag == "python" else (MAKERS[tag], name)
        if not isinstance(name, str) or key is None or key not in makers:
            raise ValueError(f"dagtrain has no {tag if tag != 'python' else 'part'} {short(name)}")
        return makers[key]

    def _part(self, description: dict[str, Any], tag: str, path: str) -> Any:
        maker, name = self._maker(description, tag), description[tag]
        if tag == "python" and "settings" not in description:
            return maker
        return _made(f"{tag} {name!r}" if tag != "python" else repr(name), maker, self._settings(description, name, path))

    def _settings(self, description: dict[str, Any], name: str, path: str) -> dict[str, Any]:
        settings = description.get("settings", {})
        if not isinstance(settings, dict):
            raise ValueError(f"the settings of {name!r} are {short(settings)}")
        return {key: self.build(value, _join(path, key)) for key, value in settings.items()}

    def _model(self, description: dict[str, Any], path: str) -> Any:
        layers, table = description["layers"], description["table"]
        if not isinstance(layers, dict) or not isinstance(table, dict):
            raise ValueError(f"{short(description)} describes no functional model")
        kind = self._maker(description, "python" if "python" in description else "layer")
        if not isinstance(kind, type) or not issubclass(kind, nn.Model):
            raise ValueError(f"{short(kind)} is no class of functional models")
        built = {name: self.build(part, _join(path, name)) for name, part in layers.items()}
        settings = self._settings(description, kind.__name__, path)
        return _made(f"the model {kind.__name__!r}", connect, {"table": table, "layers": built, "kind": kind, **settings})


def _number(value: Any, dtype: Any) -> Any:
    if type(value) not in (bool, int, float) and value not in ("inf", "-inf", "nan"):
        raise ValueError(f"{short(value)} describes no number")
    number = float(value) if isinstance(value, str) else value
    if dtype is None:
        return number
    if dtype not in SCALARS:
        raise ValueError(f"{short(dtype)} is no type of numbers")
    try:
        return np.dtype(dtype).type(number)
    except OverflowError as error:
        raise ValueError(f"{short(value)} describes no number of {dtype}") from error


def _made(what: str, maker: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        inspect.signature(maker).bind(**arguments)
        return maker(**arguments)
    except RecursionError:
        raise
    except Exception as error:  # constructors raise several errors for a wrong type
        raise ValueError(f"{what} cannot be built: {error}") from error


def short(value: Any, length: int = 80) -> str:
    """The value for an error."""
    if isinstance(value, list):
        return f"{len(value)} entries"
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
