"""Checkpoints: the state of training in two files; no failure leaves half of one.

    runs/a/epoch-000012/state-3f….safetensors    parameters and running statistics by name, the optimiser's vectors
                        checkpoint.json          the manifest: see `dagtrain.checkpoint.schema`

The manifest is written last and names the other file by its content's hash. A checkpoint counts once its manifest is whole; until then the
one that it replaces counts.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as tensor_bytes

from dagtrain.checkpoint.describe import Describer
from dagtrain.checkpoint.files import Store
from dagtrain.checkpoint.groups import group_entries
from dagtrain.checkpoint.schema import LIMIT, NAME, Manifest, TensorFile, parse
from dagtrain.checkpoint.structures import describe_structure
from dagtrain.data import BatchPlan
from dagtrain.data.ledger import Entry
from dagtrain.data.rounds import BatchStream
from dagtrain.errors import CheckpointError, NotFiniteError
from dagtrain.graph import Array, Spec, spec_of
from dagtrain.step.layout import settled
from dagtrain.step.program import Program
from dagtrain.step.software import software
from dagtrain.step.state import EpochProgress, State
from dagtrain.step.statistics import Layout

__all__ = ["Checkpoint", "describe_run", "read", "refuse_not_finite", "tidy", "write"]

TENSORS = re.compile(r"state-[0-9a-f]{16}\.safetensors")
HEADER = 16 << 20
"""Most bytes of a tensor file's header."""
ATTEMPTS = 3


class Checkpoint(NamedTuple):
    """A checkpoint that was read, with everything checked."""

    manifest: Manifest
    state: State
    path: str


def describe_run(
    program: Program,
    optimizer: Any,
    shards: int | str,
    plan: BatchPlan | BatchStream | None,
    state: State,
    epochs: int,
    history: dict[str, list[float]],
    begun: EpochProgress | None = None,
    ledger: tuple[Entry, ...] = (),
) -> Manifest:
    """The manifest of a state, without its tensor file."""
    objective, describer = program.objective, Describer()
    description = objective.description(describer.describe)
    if description["kind"] != "model":
        description["structure"] = describe_structure(program.layout.structure)
    description |= {"coupled": objective.coupled, "approximate": objective.approximate}
    keys = {name: graph.key for name, graph in program.update.graphs.items()}
    batches = None if begun is None else begun.batches
    if plan is not None:
        rows = len(plan.step(0, 0)[0])
        keys[f"shard of {rows} rows"] = program.shard_graph(rows).key  # the batches of a stream may have other sizes
        batches = plan.settings
    return Manifest(
        step=state.step,
        epochs=epochs,
        seed=program.seed,
        shards=shards,
        batches=batches,
        rows=program.columns,
        parameters=program.layout,
        statistics=program.statistics_layout,
        slots=tuple(state.slots),
        groups=group_entries(program),
        fingerprint=state.fingerprint,
        objective=description,
        optimizer=describer.describe(optimizer, "the optimizer"),
        keys=keys,
        versions=software(),
        history={name: [float(v) for v in values] for name, values in history.items()},
        begun=begun,
        rate_scale=float(state.learning_rate_scale),
        starts=dict(state.starts),
        ledger=ledger,
    )


def refuse_not_finite(manifest: Manifest, state: State) -> None:
    """Raise NotFiniteError for the first array with NaN or infinity: such a state is never the latest checkpoint."""
    slots = [(f"the optimiser's {name} of {{}}", manifest.layout_of_slot(name), state.slots[name]) for name in manifest.slots]
    vectors: list[tuple[str, Layout, Array]] = [
        ("the parameter {}", manifest.parameters, state.parameters),
        ("the state {}", manifest.statistics, state.statistics),
        *slots,
    ]
    for title, layout, vector in vectors:
        for name, view in zip(layout.names, layout.views(vector), strict=True):
            if not np.isfinite(view).all():
                at = tuple(int(i) for i in np.argwhere(~np.isfinite(view))[0])
                raise NotFiniteError(
                    f"{title.format(name)} is {view[at]} at {list(at)}: such a state is not saved, and the checkpoints before it are kept. "
                    "Go on from one of them with a lower learning rate, or clip the gradient (dt.optim.clip_by_global_norm)."
                )


# ---- writing


def write(store: Store, manifest: Manifest, state: State) -> None:
    """Write both files; a failure leaves an older checkpoint in this place unchanged."""
    data = tensor_bytes(_tensors(manifest, state))
    file = TensorFile.of(len(data), hashlib.sha256(data).hexdigest())
    store.write(file.name, data)
    store.write(NAME, replace(manifest, tensors=file).to_json())
    with suppress(CheckpointError):  # leftovers take space and do no harm
        tidy(store, file.name)


def tidy(store: Store, keep: str | None) -> None:
    """Remove dagtrain's own files that no manifest names, and no others."""
    for name in store.names():
        if TENSORS.fullmatch(name) and name != keep:
            store.remove(name)
    store.remove_parts()


def _tensors(manifest: Manifest, state: State) -> dict[str, Array]:
    kinds: list[tuple[str, Layout, Array]] = [("parameters", manifest.parameters, state.parameters)]
    kinds.append(("statistics", manifest.statistics, state.statistics))
    # safetensors writes the memory of an array, also where it has gaps.
    arrays = {f"{kind}.{n}": settled(v) for kind, layout, vector in kinds for n, v in zip(layout.names, layout.views(vector), strict=True)}
    return arrays | {f"slots.{name}": state.slots[name] for name in manifest.slots}


# ---- reading


def read(store: Store) -> Checkpoint | None:
    """The checkpoint in this folder, checked to the last bit; None without a manifest."""
    data = store.read(NAME, LIMIT)
    for attempt in range(ATTEMPTS):
        if data is None:
            return None
        manifest = parse(data, f"{store.path}/{NAME}")
        try:
            return Checkpoint(manifest, _read_state(store, manifest), store.path)
        except CheckpointError:
            # Another process may just have replaced it: then the manifest differs now.
            before, data = data, store.read(NAME, LIMIT)
            if data == before or attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def _read_state(store: Store, manifest: Manifest) -> State:
    file = manifest.tensors
    assert file is not None, "a manifest that was parsed has one"
    path = f"{store.path}/{file.name}"
    data = store.read(file.name, file.size)
    advice = "Take another checkpoint of the run, or a copy of this one."
    if data is None:
        raise CheckpointError(f"{path}: is missing, though {NAME} names it. {advice}")
    if len(data) < file.size:
        raise CheckpointError(f"{path}: has {len(data):,} of the {file.size:,} bytes that were saved: it was cut off. {advice}")
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise CheckpointError(f"{path}: its content is not what was saved: the SHA-256 differs. {advice}")
    try:
        return _state(data, manifest)
    except ValueError as error:
        raise CheckpointError(f"{path}: does not fit its manifest: {error}. {advice}") from error


def _state(data: bytes, manifest: Manifest) -> State:
    numbers = manifest.nbytes
    header = int.from_bytes(data[:8], "little")
    if header > HEADER or 8 + header + numbers != len(data):
        raise ValueError(f"its header is said to have {header:,} bytes, where {len(data) - 8 - numbers:,} are left for one")
    try:
        arrays = parse_tensors(data)
    except Exception as error:  # the parser's own errors, and NumPy's for shapes and dtypes that it lacks
        raise ValueError(f"it cannot be parsed: {type(error).__name__}: {error}") from error
    kinds: dict[str, Layout] = {"parameters": manifest.parameters, "statistics": manifest.statistics}
    expected = {f"{kind}.{n}": spec for kind, layout in kinds.items() for n, spec in zip(layout.names, layout.arrays, strict=True)}
    expected |= {f"slots.{n}": Spec((manifest.layout_of_slot(n).size,), np.dtype(manifest.parameters.dtype)) for n in manifest.slots}
    unmatched = [*(n for n in expected if n not in arrays), *(n for n in arrays if n not in expected)]
    if unmatched:
        raise ValueError(f"the array {unmatched[0]!r} is in only one of them")
    for name, spec in expected.items():
        if spec_of(arrays[name]) != spec:
            raise ValueError(f"{name} is {spec_of(arrays[name])}, not {spec}")
    parameters, statistics = (layout.pack({n: arrays[f"{kind}.{n}"] for n in layout.names}) for kind, layout in kinds.items())
    slots = {name: arrays[f"slots.{name}"].copy() for name in manifest.slots}
    state = State(parameters, statistics, slots, manifest.step, manifest.rate_scale, manifest.starts, manifest.parameters.order)
    try:
        refuse_not_finite(manifest, state)
    except NotFiniteError as error:
        raise ValueError(str(error).partition(":")[0]) from error
    if state.fingerprint != manifest.fingerprint:
        raise ValueError("the weights have another fingerprint")
    return state
