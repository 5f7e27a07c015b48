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

from dagtrain.checkpoint.describe import complete, differences
from dagtrain.checkpoint.entries import entry_of, hexadecimal_in, number_in, refuse_constant, shape_of, texts_in, unique, whole_in
from dagtrain.data.ledger import Entry
from dagtrain.errors import CheckpointError
from dagtrain.graph import Spec
from dagtrain.step.layout import VectorLayout
from dagtrain.step.software import other_software
from dagtrain.step.state import Begun

__all__ = ["LIMIT", "NAME", "Arrays", "Manifest", "TensorFile", "parse", "seal"]

NAME = "checkpoint.json"
FORMAT, VERSION = "dagtrain checkpoint", 2
FIRST: dict[str, Any] = {"begun": None, "rate_scale": 1.0, "ledger": [], "keys": {}}
"""What version 1 did not have (all its checkpoints lie at the end of an epoch), and what it had otherwise (the graphs' keys)."""
LIMIT = 8 << 20
"""Most bytes of a manifest: what 10,000 arrays and 10,000 epochs need, and no more than JSON of any kind is read in a second."""
ROW_ELEMENTS = 1 << 28
"""Most elements of one sample: 1 GiB of float32."""
SAMPLES = 1 << 40
"""Most samples of a ledger."""
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
        Updates made, and epochs done.
    begun
        How far the next epoch is, where the checkpoint lies within it.
    rate_scale
        That of the state.
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
        See `dagtrain.checkpoint.describe`.
    keys
        Keys of the graphs of a shard and of the update: equal keys compute the same, whatever functions of the user's are in them.
    versions
        dagtrain, NumPy and BLAS.
    history
        One value for each epoch, as in `History`.
    ledger
        What `Trainer.ledger` knows.
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
    begun: Begun | None = None
    rate_scale: float = 1.0
    ledger: tuple[Entry, ...] = ()
    tensors: TensorFile | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Epochs done, and steps of the next one."""
        return self.epochs, 0 if self.begun is None else self.begun.steps

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
            # Text, since JSON has no infinity, and an exact sum may be one.
            "begun": self.begun and {**self.begun._asdict(), "sums": [v.hex() for v in self.begun.sums]},
            "rate_scale": self.rate_scale,
            "ledger": [entry._asdict() for entry in self.ledger],
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
        return other_software(self.versions, here.versions)


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
        entries = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=refuse_constant)
        return _manifest(entry_of({"it": entries}, "it", dict))
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
    version = whole_in(e, "version", 1)
    if version > VERSION:
        reads = f"this dagtrain reads versions 1 to {VERSION}"
        raise ValueError(f"its format has version {version} and {reads}: use the dagtrain that wrote it")
    if version == 1:
        e |= FIRST
    rows = entry_of(e, "rows", dict)
    tensors = entry_of(e, "tensors", dict)
    found = Manifest(
        step=whole_in(e, "step", 0),
        epochs=whole_in(e, "epochs", 0),
        seed=whole_in(e, "seed", 0),
        shards="auto" if e["shards"] == "auto" else whole_in(e, "shards", 1),
        batches=None if e["batches"] is None else _batches(entry_of(e, "batches", dict)),
        x=_spec(rows, "x"),
        y=None if rows["y"] is None else _spec(rows, "y"),
        parameters=_arrays(e, "parameters"),
        statistics=_arrays(e, "statistics"),
        slots=tuple(texts_in(e, "slots")),
        fingerprint=hexadecimal_in(e, "fingerprint"),
        objective=entry_of(e, "objective", dict),
        optimizer=entry_of(e, "optimizer", dict),
        keys={k: entry_of(e["keys"], k, str) for k in entry_of(e, "keys", dict)},
        versions={k: entry_of(e["versions"], k, str) for k in entry_of(e, "versions", dict)},
        begun=None if e["begun"] is None else _begun(entry_of(e, "begun", dict)),
        rate_scale=number_in(e, "rate_scale"),
        ledger=tuple(map(_ledger_entry, entry_of(e, "ledger", list))),
        history={k: _values(e["history"], k) for k in entry_of(e, "history", dict)},
        tensors=TensorFile.of(whole_in(tensors, "size", 8), hexadecimal_in(tensors, "sha256")),
    )
    # The name follows from the content's hash, so that no path in the file is ever followed.
    if found.tensors is None or tensors["name"] != found.tensors.name:
        raise ValueError("the name of its tensor file is not one that dagtrain gives")
    if len(set(found.slots)) < len(found.slots):
        raise ValueError("two slots have one name")
    if found.parameters.nbytes * (1 + len(found.slots)) + found.statistics.nbytes > found.tensors.size:
        raise ValueError("its arrays are larger than its tensor file")
    return found


def _begun(given: dict[str, Any]) -> Begun:
    batches = _batches(entry_of(given, "batches", dict))
    steps = whole_in(given, "steps", 1)
    if steps > -(-int(batches["samples"]) // int(batches["batch_size"])):
        raise ValueError("its entry 'begun' has more steps than an epoch")
    return Begun(steps, tuple(float.fromhex(v) for v in texts_in(given, "sums")), number_in(given, "seconds"), batches)


def _ledger_entry(given: Any) -> Entry:
    entry = entry_of({"ledger": given}, "ledger", dict)
    other = tuple(shape_of(pair, "ledger", 1 << 56) for pair in entry_of(entry, "other", list))
    samples = whole_in(entry, "samples", 1)
    if samples > SAMPLES or any(len(pair) != 2 or pair[0] >= samples or pair[1] > 255 for pair in other):
        raise ValueError("its entry 'ledger' counts samples that there are not")
    return Entry(whole_in(entry, "epoch", 0), samples, entry_of(entry, "ended", bool), tuple((i, count) for i, count in other))


def _spec(rows: dict[str, Any], name: str) -> Spec:
    row = entry_of(rows, name, dict)
    if row["dtype"] not in DTYPES:
        raise ValueError(f"the dtype of rows of {name} is none of {', '.join(DTYPES)}")
    return Spec(shape_of(row["shape"], name, ROW_ELEMENTS), np.dtype(row["dtype"]))


def _arrays(entries: dict[str, Any], name: str) -> Arrays:
    given = entry_of(entries, name, dict)
    if given["dtype"] not in FLOATS:
        raise ValueError(f"the dtype of its {name} is none of {', '.join(FLOATS)}")
    pairs = entry_of(given, "arrays", list)
    if any(type(p) is not list or len(p) != 2 or type(p[0]) is not str for p in pairs):
        raise ValueError(f"its entry {name!r} is no list of names and shapes")
    found = Arrays(tuple(p[0] for p in pairs), tuple(shape_of(p[1], name, 1 << 48) for p in pairs), given["dtype"])
    if len(set(found.names)) < len(pairs):
        raise ValueError(f"two of its {name} have one name")
    return found


def _batches(given: dict[str, Any]) -> dict[str, int | str]:
    if set(given) != set(BATCHES):
        raise ValueError(f"its entry 'batches' does not hold {', '.join(BATCHES)}")
    shuffle = entry_of(given, "shuffle", str if isinstance(given["shuffle"], str) else bool)
    return {n: shuffle if n == "shuffle" else whole_in(given, n, 1) for n in BATCHES}


def _values(history: dict[str, Any], name: str) -> list[float]:
    values = entry_of(history, name, list)
    if any(v is not None and type(v) not in (int, float) for v in values):
        raise ValueError(f"its history of {name!r} holds other things than numbers")
    return [math.nan if v is None else float(v) for v in values]
