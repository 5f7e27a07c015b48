"""The JSON half of a checkpoint: the settings and progress of its run, and the content of the tensor file.

    Manifest ─ to_json ─▶ checkpoint.json ─ parse ─▶ Manifest

`Manifest` is the schema: each field declares how it is read, checked and written. Files of another version are refused. The file is not
trusted: sizes are bounded before anything is allocated, and every entry is checked before use.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from dagtrain.checkpoint.compare import complete, differences
from dagtrain.checkpoint.groups import GROUP, GroupEntry, group_differences, grouped
from dagtrain.checkpoint.kinds import DICT, DTYPE, FLAG, LIST, NUMBER, SHA256, TEXT, Kind, mapping, optional, record, sequence, shape, whole
from dagtrain.checkpoint.layouts import STATES, layout_differences, read_layout, write_layout, write_states
from dagtrain.checkpoint.structures import describe_structure, structure_of
from dagtrain.data.columns import Columns
from dagtrain.data.ledger import Entry
from dagtrain.errors import CheckpointError
from dagtrain.graph import Spec
from dagtrain.step.layout import VectorLayout
from dagtrain.step.software import other_software
from dagtrain.step.state import EpochProgress
from dagtrain.step.statistics import StatisticsLayout
from dagtrain.trace.tree import leaves, unflatten

__all__ = ["LIMIT", "NAME", "Manifest", "TensorFile", "parse", "seal"]

NAME = "checkpoint.json"
FORMAT, VERSION = "dagtrain checkpoint", 4
LIMIT = 8 << 20
"""Most bytes of a manifest: enough for 10,000 arrays and 10,000 epochs, and any JSON of this size parses within a second."""
ROW_ELEMENTS = 1 << 28
"""Most elements of one sample: 1 GiB of float32."""
SAMPLES = 1 << 40
"""Most samples of a ledger."""


class TensorFile(NamedTuple):
    """The tensor file: its name, which derives from its content, its length and its SHA-256."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, size: int, sha256: str) -> TensorFile:
        """The entry of a file with this size and hash."""
        return cls(f"state-{sha256[:16]}.safetensors", size, sha256)


# ---- kinds of entries, and how they are written


def _batches(value: Any, name: str) -> dict[str, int | str]:
    if set(DICT(value, name)) != set(BATCHES):
        raise ValueError(f"its entry {name!r} does not hold {', '.join(BATCHES)}")
    return {k: kind(value[k], k) for k, kind in BATCHES.items()}


BATCHES: Mapping[str, Kind] = {
    "samples": whole(0),
    "batch_size": whole(0),
    "shards": whole(0),
    "shuffle": lambda value, name: (TEXT if isinstance(value, str) else FLAG)(value, name),
}


COLUMN = record(lambda **column: column, shape=shape(ROW_ELEMENTS), dtype=DTYPE, header=sequence(TEXT))


def _columns(structure: Any, columns: tuple[dict[str, Any], ...]) -> Columns:
    if not isinstance(structure, tuple) or len(structure) != 3 or len(leaves(structure)) != len(columns) or structure[0] is None:
        raise ValueError("its rows are no nests of x, y and sample_weight")
    x, y, sample_weight = unflatten(structure, [Spec(c["shape"], c["dtype"]) for c in columns])
    return replace(Columns.of(x, y, sample_weight), headers=tuple(c["header"] for c in columns))


def _structure(value: Any, name: str) -> Any:
    return structure_of(value)


def _write_columns(columns: Columns) -> dict[str, Any]:
    parts = zip(columns.specs, columns.headers, strict=True)
    written = [{"shape": spec.shape, "dtype": spec.dtype.name, "header": header} for spec, header in parts]
    return {"structure": describe_structure(columns.structure), "columns": written}


def _begun(steps: int, batches: dict[str, Any], **others: Any) -> EpochProgress:
    if batches["batch_size"] and steps > -(-batches["samples"] // batches["batch_size"]):  # a stream has neither
        raise ValueError("its entry 'begun' has more steps than an epoch")
    return EpochProgress(steps=steps, batches=batches, **others)


BEGUN = record(
    _begun, steps=whole(1), sums=sequence(lambda value, name: float.fromhex(TEXT(value, name))), seconds=NUMBER, batches=_batches
)


def _write_begun(begun: EpochProgress | None) -> Any:
    # As text, since JSON has no infinity, and a sum may be infinite.
    return begun and {**begun._asdict(), "sums": [v.hex() for v in begun.sums]}


def _page(samples: int, other: tuple[tuple[int, ...], ...], **others: Any) -> Entry:
    if samples > SAMPLES or any(len(pair) != 2 or pair[0] >= samples or pair[1] > 255 for pair in other):
        raise ValueError("its entry 'ledger' counts samples that do not exist")
    return Entry(samples=samples, other=tuple((i, count) for i, count in other), **others)


PAGE = record(_page, epoch=whole(0), samples=whole(1), ended=FLAG, other=sequence(shape(1 << 56)))


def _tensors(name: Any, size: int, sha256: str) -> TensorFile:
    file = TensorFile.of(size, sha256)
    # The name derives from the content's hash, so a path in the manifest is never followed.
    if name != file.name:
        raise ValueError("the name of its tensor file is not the one of its content")
    return file


TENSORS = record(_tensors, name=lambda value, name: value, size=whole(8), sha256=SHA256)


def _values(value: Any, name: str) -> list[float]:
    values = LIST(value, name)
    if any(v is not None and type(v) not in (int, float) for v in values):
        raise ValueError(f"its history of {name!r} holds other things than numbers")
    return [math.nan if v is None else float(v) for v in values]


def _write_history(history: dict[str, list[float]]) -> dict[str, list[float | None]]:
    return {name: [v if math.isfinite(v) else None for v in values] for name, values in history.items()}


# ---- the schema


def entry(read: Kind, write: Callable[[Any], Any] = lambda value: value) -> dict[str, Any]:
    """How an entry is read and written."""
    return {"read": read, "write": write}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything in a checkpoint except the arrays.

    Attributes
    ----------
    step, epochs
        Updates made, and epochs done.
    seed, shards
        Arguments of the trainer.
    batches
        Samples, batch size, shards and shuffling of the fit, 0 where a stream decides; None before any fit.
    fingerprint
        Fingerprint of the state.
    parameters, statistics, slots
        Arrays of the tensor file; each slot is one vector as long as all parameters, or those of its group. Layouts that were read have a
        flat dict as nest.
    groups
        The groups of the parameters, in the order of the vector; empty for a single one without a name, and then not written.
    keys
        Keys of the graphs of a shard and of the update: graphs of equal keys compute the same, user functions included.
    versions
        Versions of dagtrain, NumPy and BLAS.
    rows
        Columns of the rows.
    objective, optimizer
        See `dagtrain.checkpoint.describe`.
    begun
        How far the next epoch is, for a checkpoint within it.
    rate_scale
        Learning rate scale of the state.
    starts
        As in the state; not written where all optimisers began with the run.
    ledger
        Epochs of `Trainer.ledger`.
    history
        One value for each epoch, as in `History`.
    tensors
        The tensor file.
    """

    step: int = field(metadata=entry(whole(0)))
    epochs: int = field(metadata=entry(whole(0)))
    seed: int = field(metadata=entry(whole(0)))
    shards: int | str = field(metadata=entry(lambda value, name: value if value == "auto" else whole(1)(value, name)))
    batches: dict[str, int | str] | None = field(metadata=entry(optional(_batches)))
    fingerprint: str = field(metadata=entry(SHA256))
    slots: tuple[str, ...] = field(metadata=entry(sequence(TEXT)))
    groups: tuple[GroupEntry, ...] = field(
        default=(), metadata={**entry(sequence(GROUP), lambda groups: [g._asdict() for g in groups]), "optional": True}
    )
    keys: dict[str, str] = field(metadata=entry(mapping(TEXT)))
    versions: dict[str, str] = field(metadata=entry(mapping(TEXT)))
    rows: Columns = field(metadata=entry(record(_columns, structure=_structure, columns=sequence(COLUMN)), _write_columns))
    parameters: VectorLayout = field(metadata=entry(read_layout, write_layout))
    statistics: StatisticsLayout = field(metadata=entry(STATES, write_states))
    objective: dict[str, Any] = field(metadata=entry(DICT))
    optimizer: dict[str, Any] = field(metadata=entry(DICT))
    begun: EpochProgress | None = field(metadata=entry(optional(BEGUN), _write_begun))
    rate_scale: float = field(metadata=entry(NUMBER))
    starts: dict[str, int] = field(default_factory=dict, metadata={**entry(mapping(whole(0))), "optional": True})
    ledger: tuple[Entry, ...] = field(metadata=entry(sequence(PAGE), lambda pages: [p._asdict() for p in pages]))
    history: dict[str, list[float]] = field(metadata=entry(mapping(_values), _write_history))
    tensors: TensorFile | None = field(default=None, metadata=entry(TENSORS, lambda file: file and file._asdict()))

    @property
    def place(self) -> tuple[int, int]:
        """Epochs done, and steps done of the next one."""
        return self.epochs, 0 if self.begun is None else self.begun.steps

    def to_json(self) -> bytes:
        """The file's content, without the history if that is too long."""
        values = {f: getattr(self, f.name) for f in fields(self)}
        entries = {f.name: f.metadata["write"](v) for f, v in values.items() if v or not f.metadata.get("optional")}
        data = seal({"format": FORMAT, "version": VERSION, **entries})
        if len(data) > LIMIT and self.history:
            return replace(self, history={}).to_json()
        if len(data) > LIMIT:
            raise CheckpointError(f"the names of the parameters and the model's settings take {len(data):,} bytes of JSON, over {LIMIT:,}.")
        return data

    def layout_of_slot(self, name: str) -> VectorLayout:
        """The layout of a slot: that of all parameters, or of those in its group."""
        group = next((group for group in self.groups if name in group.slots), None)
        return self.parameters if group is None else self.parameters.part(group.parameters)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        states = sum(spec.nbytes for spec in self.statistics.arrays)
        return self.parameters.nbytes + states + sum(self.layout_of_slot(name).nbytes for name in self.slots)

    def unfit(
        self, parameters: VectorLayout, statistics: StatisticsLayout, slots: tuple[str, ...], groups: tuple[GroupEntry, ...]
    ) -> list[str]:
        """The differences of these arrays from those of the checkpoint."""
        problems = layout_differences(self.parameters, parameters) + layout_differences(self.statistics, statistics)
        problems += _slot_differences(self.slots, slots)
        return problems or group_differences(self.groups, groups)

    def differences(self, here: Manifest) -> list[str]:
        """The settings that change bits and differ between this checkpoint and a new fit."""
        texts = [f"{name}: {a} there, {b} here" for name, a, b in self._settings(here) if a != b]
        texts += self.unfit(here.parameters, here.statistics, here.slots, here.groups)
        for name in ("kind", "model", "loss", "loss_weights", "metrics"):
            old, new = self.objective.get(name), here.objective.get(name)
            texts += differences(complete(old), new, name)
        texts += differences(complete(self.optimizer), here.optimizer, "optimizer")
        if not texts and self.versions.get("dagtrain") == here.versions.get("dagtrain"):
            meanings = {"shard": "the model or the loss computes something else", "update": "the optimizer computes something else"}
            other = {name.partition(" ")[0] for name, key in self.keys.items() if key != here.keys.get(name, key)}
            texts += [meaning for name, meaning in meanings.items() if name in other]
        return texts

    def _settings(self, here: Manifest) -> Iterator[tuple[str, Any, Any]]:
        yield "seed", self.seed, here.seed
        yield "approximate", self.objective.get("approximate", False), here.objective.get("approximate", False)
        if self.batches is not None and here.batches is not None:
            yield from ((name, self.batches[name], here.batches[name]) for name in BATCHES)
        there, mine = (dict(zip(m.names, zip(m.specs, m.headers, strict=True), strict=True)) for m in (self.rows, here.rows))
        for name in dict.fromkeys([*there, *mine]):
            (old, old_header), (new, new_header) = there.get(name, ("none", ())), mine.get(name, ("none", ()))
            yield f"rows of {name}", str(old), str(new)
            if old_header and new_header:
                yield f"the columns of {name}", ", ".join(old_header), ", ".join(new_header)

    def other_versions(self, here: Manifest) -> list[str]:
        """The differences in software."""
        return other_software(self.versions, here.versions)


def _slot_differences(there: tuple[str, ...], here: tuple[str, ...]) -> list[str]:
    return [] if there == here else [f"the optimizer's slots: {', '.join(there) or 'none'} there, {', '.join(here) or 'none'} here"]


def seal(entries: dict[str, Any]) -> bytes:
    """JSON with one entry a line; the last line is the SHA-256 of those before it."""
    lines = [f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in entries.items()]
    data = ("{\n" + ",\n".join(lines)).encode()
    return data + f',\n"sha256": "{hashlib.sha256(data).hexdigest()}"\n}}\n'.encode()


SEAL = re.compile(rb',\n"sha256": "([0-9a-f]{64})"\n}\n')
SEAL_BYTES = 81


# ---- reading


def parse(data: bytes, where: str) -> Manifest:
    """The manifest in a file's content; any fault is a `CheckpointError` that names the file."""
    try:
        if len(data) > LIMIT:
            raise ValueError(f"it has {len(data):,} bytes, over {LIMIT:,}")
        sealed = SEAL.fullmatch(data, max(0, len(data) - SEAL_BYTES))
        if sealed is None:
            raise ValueError("its last line is missing: it was cut off, or is another kind of file")
        if hashlib.sha256(data[: sealed.start()]).hexdigest().encode() != sealed[1]:
            raise ValueError("its content is not what was saved: its SHA-256 differs")
        entries = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        return _manifest(DICT(entries, "it"))
    except RecursionError:
        reason = "it is nested too deeply"
    except KeyError as error:
        reason = f"there is no entry {error}"
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error)
    raise CheckpointError(f"{where}: is no readable manifest of a checkpoint: {reason}. Take another checkpoint of the run.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without repeated names."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("an entry is repeated")
    return entries


def _refuse_constant(constant: str) -> Any:
    """Raise ValueError for NaN and infinity, which are no JSON."""
    raise ValueError(f"{constant} is no JSON")


def _manifest(entries: dict[str, Any]) -> Manifest:
    if entries.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT!r}")
    version = whole(1)(entries["version"], "version")
    if version != VERSION:
        raise ValueError(f"its format has version {version} and this dagtrain reads version {VERSION}: use the dagtrain that wrote it")
    schema = {f.name: f.metadata for f in fields(Manifest)}
    manifest = Manifest(**{k: m["read"](entries[k], k) for k, m in schema.items() if k in entries or not m.get("optional")})
    assert manifest.tensors is not None, "the schema requires it"
    if len(set(manifest.slots)) < len(manifest.slots):
        raise ValueError("two slots have one name")
    tensors = manifest.tensors
    manifest = replace(manifest, parameters=grouped(manifest.parameters, manifest.groups, manifest.slots))
    if manifest.nbytes > tensors.size:
        raise ValueError("its arrays are larger than its tensor file")
    return manifest
