"""The JSON half of a checkpoint: what was saved, of what run, and what the other file must hold.

    Manifest ─ to_json ─▶ checkpoint.json ─ parse ─▶ Manifest

Nothing in the file is believed: sizes are bounded before anything is allocated, and every entry that is used is checked first.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from dagtrain.errors import CheckpointError
from dagtrain.graph import Spec
from dagtrain.train.description import complete, differences
from dagtrain.train.vector import VectorLayout

__all__ = ["LIMIT", "NAME", "Arrays", "Manifest", "TensorFile", "parse", "seal"]

NAME = "checkpoint.json"
FORMAT, VERSION = "dagtrain checkpoint", 1
LIMIT = 8 << 20
"""Most bytes of a manifest: what 10,000 arrays and 10,000 epochs need, and no more than JSON of any kind is read in a second."""
ROW_ELEMENTS = 1 << 28
"""Most elements of one sample: 1 GiB of float32."""
FLOATS = ("<f4", "<f8")
DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")


class Arrays(NamedTuple):
    """Names and shapes of the arrays of one flat vector."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: str

    @classmethod
    def of(cls, layout: VectorLayout) -> Arrays:
        """Those of a layout."""
        return cls(layout.names, layout.shapes, layout.dtype)

    @property
    def size(self) -> int:
        """Elements of the vector."""
        return sum(math.prod(s) for s in self.shapes)

    @property
    def nbytes(self) -> int:
        """Bytes of the vector."""
        return self.size * np.dtype(self.dtype).itemsize


class TensorFile(NamedTuple):
    """The other file: its name, which tells its content, its length and its SHA-256."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, size: int, sha256: str) -> TensorFile:
        """The file of this content."""
        return cls(f"state-{sha256[:16]}.safetensors", size, sha256)


@dataclass(frozen=True)
class Manifest:
    """Everything about a checkpoint but the numbers.

    Attributes
    ----------
    step, epochs
        Updates made, and epochs done: a checkpoint lies at the end of an epoch.
    seed, shards
        As given to the trainer.
    batches
        Samples, batch size, shards and shuffling of the fit, None before any.
    x, y
        Specs of a row.
    parameters, statistics, slots
        What the tensor file holds; each slot is one vector as long as all parameters.
    fingerprint
        That of the state.
    objective, optimizer
        See `dagtrain.train.description`.
    keys
        Keys of the graphs of a shard and of the update: equal keys compute the same, whatever functions of the user's are in them.
    versions
        dagtrain, NumPy and BLAS.
    history
        One value for each epoch, as in `History`.
    tensors
        The other file.
    """

    step: int
    epochs: int
    seed: int
    shards: int | str
    batches: dict[str, int | str] | None
    x: Spec
    y: Spec | None
    parameters: Arrays
    statistics: Arrays
    slots: tuple[str, ...]
    fingerprint: str
    objective: dict[str, Any]
    optimizer: dict[str, Any]
    keys: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)
    tensors: TensorFile | None = None

    def to_json(self) -> bytes:
        """The file's content; a history too long for the file is left out."""
        entries = {
            "format": FORMAT,
            "version": VERSION,
            **{k: getattr(self, k) for k in ("step", "epochs", "seed", "shards", "batches", "fingerprint", "slots", "keys", "versions")},
            "rows": {"x": _row(self.x), "y": None if self.y is None else _row(self.y)},
            "parameters": _listed(self.parameters),
            "statistics": _listed(self.statistics),
            "objective": self.objective,
            "optimizer": self.optimizer,
            "history": {name: [v if math.isfinite(v) else None for v in values] for name, values in self.history.items()},
            "tensors": None if self.tensors is None else self.tensors._asdict(),
        }
        data = seal(entries)
        if len(data) > LIMIT and self.history:
            return replace(self, history={}).to_json()
        if len(data) > LIMIT:
            raise CheckpointError(f"the names of the parameters and the model's settings take {len(data):,} bytes of JSON, over {LIMIT:,}.")
        return data

    def unfit(self, parameters: VectorLayout, statistics: VectorLayout, slots: tuple[str, ...]) -> list[str]:
        """Where arrays differ from those of the checkpoint."""
        found = _layout_differences("parameter", self.parameters, Arrays.of(parameters))
        found += _layout_differences("statistic", self.statistics, Arrays.of(statistics))
        return found + _slot_differences(self.slots, slots)

    def differences(self, here: Manifest) -> list[str]:
        """Where a fit that is about to run differs from this one in what its bits depend on."""
        found = [f"{name}: {a} there, {b} here" for name, a, b in self._settings(here) if a != b]
        found += _layout_differences("parameter", self.parameters, here.parameters)
        found += _layout_differences("statistic", self.statistics, here.statistics)
        found += _slot_differences(self.slots, here.slots)
        for name in ("kind", "model", "loss", "metrics"):
            told, ours = self.objective.get(name), here.objective.get(name)
            found += differences([complete(t) for t in told] if isinstance(told, list) else complete(told), ours, name)
        found += differences(complete(self.optimizer), here.optimizer, "optimizer")
        if not found and self.versions.get("dagtrain") == here.versions.get("dagtrain"):
            told = {"shard": "the model or the loss computes something else", "update": "the optimizer computes something else"}
            found += [told[k] for k in told if k in self.keys and self.keys[k] != here.keys.get(k)]
        return found

    def _settings(self, here: Manifest) -> Iterator[tuple[str, Any, Any]]:
        yield "seed", self.seed, here.seed
        if self.batches is not None and here.batches is not None:
            yield from ((name, self.batches[name], here.batches[name]) for name in BATCHES)
        yield "rows of x", str(self.x), str(here.x)
        yield "rows of y", str(self.y), str(here.y)

    def other_versions(self, here: Manifest) -> list[str]:
        """Where the software differs."""
        return [f"{k}: {self.versions.get(k)} there, {v} here" for k, v in here.versions.items() if self.versions.get(k) != v]


BATCHES = ("samples", "batch_size", "shards", "shuffle")


def _row(spec: Spec) -> dict[str, Any]:
    return {"shape": spec.shape, "dtype": spec.dtype.name}


def _listed(arrays: Arrays) -> dict[str, Any]:
    return {"dtype": arrays.dtype, "arrays": [[name, shape] for name, shape in zip(arrays.names, arrays.shapes, strict=True)]}


def _layout_differences(kind: str, there: Arrays, here: Arrays) -> list[str]:
    a, b = dict(zip(there.names, there.shapes, strict=True)), dict(zip(here.names, here.shapes, strict=True))
    found = [
        f"{kind} {n}: shape {a.get(n, 'none')} there, {b.get(n, 'none')} here"
        for n in [*a, *(n for n in b if n not in a)]
        if a.get(n) != b.get(n)
    ]
    if not found and there.names != here.names:
        found = [f"the {kind}s stand in another order"]
    if there.dtype != here.dtype:
        found.append(f"dtype of {kind}s: {there.dtype} there, {here.dtype} here")
    return found[:8]


def _slot_differences(there: tuple[str, ...], here: tuple[str, ...]) -> list[str]:
    return [] if there == here else [f"the optimizer's slots: {', '.join(there) or 'none'} there, {', '.join(here) or 'none'} here"]


def seal(entries: dict[str, Any]) -> bytes:
    """JSON with an entry a line, and the SHA-256 of all lines before it on the last one."""
    lines = [f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in entries.items()]
    data = ("{\n" + ",\n".join(lines)).encode()
    return data + f',\n"sha256": "{hashlib.sha256(data).hexdigest()}"\n}}\n'.encode()


SEAL = re.compile(rb',\n"sha256": "([0-9a-f]{64})"\n}\n')
SEAL_BYTES = 81


# ---- reading


def parse(data: bytes, where: str) -> Manifest:
    """The manifest in a file's content; everything that is wrong with it is a `CheckpointError` that names the file."""
    try:
        if len(data) > LIMIT:
            raise ValueError(f"it has {len(data):,} bytes, over {LIMIT:,}")
        sealed = SEAL.fullmatch(data, max(0, len(data) - SEAL_BYTES))
        if sealed is None:
            raise ValueError("its last line is missing: it was cut off, or is something else")
        if hashlib.sha256(data[: sealed.start()]).hexdigest().encode() != sealed[1]:
            raise ValueError("its content is not what was saved: its SHA-256 differs")
        entries = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
        return _manifest(_entry({"it": entries}, "it", dict))
    except RecursionError:
        reason = "it is nested too deeply"
    except KeyError as error:
        reason = f"there is no entry {error}"
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error)
    raise CheckpointError(f"{where}: is no manifest of a checkpoint that can be read here: {reason}. Take another checkpoint of the run.")


def _manifest(e: dict[str, Any]) -> Manifest:
    if e.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT!r}")
    version = _whole(e, "version", 1)
    if version != VERSION:
        raise ValueError(f"its format has version {version} and this dagtrain reads version {VERSION}: use the dagtrain that wrote it")
    rows = _entry(e, "rows", dict)
    tensors = _entry(e, "tensors", dict)
    found = Manifest(
        step=_whole(e, "step", 0),
        epochs=_whole(e, "epochs", 0),
        seed=_whole(e, "seed", 0),
        shards="auto" if e["shards"] == "auto" else _whole(e, "shards", 1),
        batches=None if e["batches"] is None else _batches(_entry(e, "batches", dict)),
        x=_spec(rows, "x"),
        y=None if rows["y"] is None else _spec(rows, "y"),
        parameters=_arrays(e, "parameters"),
        statistics=_arrays(e, "statistics"),
        slots=tuple(_texts(e, "slots")),
        fingerprint=_hexadecimal(e, "fingerprint"),
        objective=_entry(e, "objective", dict),
        optimizer=_entry(e, "optimizer", dict),
        keys={k: _entry(e["keys"], k, str) for k in _entry(e, "keys", dict)},
        versions={k: _entry(e["versions"], k, str) for k in _entry(e, "versions", dict)},
        history={k: _values(e["history"], k) for k in _entry(e, "history", dict)},
        tensors=TensorFile.of(_whole(tensors, "size", 8), _hexadecimal(tensors, "sha256")),
    )
    # The name follows from the content's hash, so that no path in the file is ever followed.
    if found.tensors is None or tensors["name"] != found.tensors.name:
        raise ValueError("the name of its tensor file is not one that dagtrain gives")
    if len(set(found.slots)) < len(found.slots):
        raise ValueError("two slots have one name")
    if found.parameters.nbytes * (1 + len(found.slots)) + found.statistics.nbytes > found.tensors.size:
        raise ValueError("its arrays are larger than its tensor file")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an entry is there twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _entry(entries: dict[str, Any], name: str, kind: type) -> Any:
    value = entries[name]
    if type(value) is not kind:
        raise ValueError(f"its entry {name!r} is no {kind.__name__}")
    return value


def _whole(entries: dict[str, Any], name: str, least: int) -> int:
    value: int = _entry(entries, name, int)
    if not least <= value < 1 << 64:
        raise ValueError(f"its entry {name!r} is out of range")
    return value


def _texts(entries: dict[str, Any], name: str) -> list[str]:
    values: list[str] = _entry(entries, name, list)
    if any(type(v) is not str for v in values):
        raise ValueError(f"its entry {name!r} holds other things than texts")
    return values


def _hexadecimal(entries: dict[str, Any], name: str) -> str:
    text: str = _entry(entries, name, str)
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(f"its entry {name!r} is no SHA-256")
    return text


def _shape(value: Any, name: str, most: int) -> tuple[int, ...]:
    if type(value) is not list or len(value) > 32 or any(type(n) is not int or not 0 <= n < 1 << 48 for n in value):
        raise ValueError(f"its entry {name!r} holds a shape that is none")
    if math.prod(value) > most:
        raise ValueError(f"its entry {name!r} holds a shape that is too large")
    return tuple(value)


def _spec(rows: dict[str, Any], name: str) -> Spec:
    row = _entry(rows, name, dict)
    if row["dtype"] not in DTYPES:
        raise ValueError(f"the dtype of rows of {name} is none of {', '.join(DTYPES)}")
    return Spec(_shape(row["shape"], name, ROW_ELEMENTS), np.dtype(row["dtype"]))


def _arrays(entries: dict[str, Any], name: str) -> Arrays:
    given = _entry(entries, name, dict)
    if given["dtype"] not in FLOATS:
        raise ValueError(f"the dtype of its {name} is none of {', '.join(FLOATS)}")
    pairs = _entry(given, "arrays", list)
    if any(type(p) is not list or len(p) != 2 or type(p[0]) is not str for p in pairs):
        raise ValueError(f"its entry {name!r} is no list of names and shapes")
    found = Arrays(tuple(p[0] for p in pairs), tuple(_shape(p[1], name, 1 << 48) for p in pairs), given["dtype"])
    if len(set(found.names)) < len(pairs):
        raise ValueError(f"two of its {name} have one name")
    return found


def _batches(given: dict[str, Any]) -> dict[str, int | str]:
    if set(given) != set(BATCHES):
        raise ValueError(f"its entry 'batches' does not hold {', '.join(BATCHES)}")
    shuffle = _entry(given, "shuffle", str if isinstance(given["shuffle"], str) else bool)
    return {n: shuffle if n == "shuffle" else _whole(given, n, 1) for n in BATCHES}


def _values(history: dict[str, Any], name: str) -> list[float]:
    values = _entry(history, name, list)
    if any(v is not None and type(v) not in (int, float) for v in values):
        raise ValueError(f"its history of {name!r} holds other things than numbers")
    return [math.nan if v is None else float(v) for v in values]
