"""Anything in place of a checkpoint raises one error that names the file, within seconds, and nothing in it is executed."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as tensor_bytes

import dagtrain as dt
from dagtrain.checkpoint import schema
from dagtrain.checkpoint.schema import seal
from dagtrain.errors import ArgumentError, CheckpointError

from .forged import MANIFESTS, layers

SECONDS = 3.0


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The two files of a good checkpoint."""
    layers = [dt.nn.BatchNorm(), dt.nn.Dense(8, "tanh"), dt.nn.Dense(3)]
    trainer = dt.Trainer(dt.nn.Sequential(layers), loss="cross_entropy", metrics=["accuracy"], shards=2, engine="inline")
    rng = np.random.default_rng(0)
    trainer.fit(rng.normal(size=(40, 5)), rng.integers(0, 3, 40), epochs=2, batch_size=8, verbose=0)
    folder = tmp_path_factory.mktemp("sound")
    trainer.save(folder)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path, sound: dict[str, bytes]) -> Path:
    for name, data in sound.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def tensors_in(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def entries_in(folder: Path) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads((folder / "checkpoint.json").read_text())
    del entries["sha256"]
    return entries


def forge(folder: Path, tensors: bytes | None = None, change: Callable[[dict[str, Any]], Any] = lambda e: None) -> None:
    """Write other content with correct checksums, as an attacker can."""
    entries = entries_in(folder)
    if tensors is not None:
        digest = hashlib.sha256(tensors).hexdigest()
        tensors_in(folder).unlink()
        entries["tensors"] = {"name": f"state-{digest[:16]}.safetensors", "size": len(tensors), "sha256": digest}
        (folder / entries["tensors"]["name"]).write_bytes(tensors)
    change(entries)
    (folder / "checkpoint.json").write_bytes(seal(entries))


def refused(folder: Path, message: str, kind: type[Exception] = CheckpointError) -> None:
    began = time.monotonic()
    with pytest.raises(kind, match=message) as caught:
        dt.load(folder)
    assert type(caught.value) is kind
    assert str(folder) in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert time.monotonic() - began < SECONDS


def test_the_checkpoint_and_a_forged_one_with_the_same_content_load(folder: Path) -> None:
    dt.load(folder)
    forge(folder, tensors_in(folder).read_bytes())
    dt.load(folder)


# ---- missing, torn, flipped


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "there is no checkpoint here")
    (tmp_path / "epoch-000001").mkdir()
    refused(tmp_path, "there is no checkpoint here")


def test_no_manifest(folder: Path) -> None:
    (folder / "checkpoint.json").unlink()
    refused(folder, "there is no checkpoint here")


def test_no_tensors(folder: Path) -> None:
    tensors_in(folder).unlink()
    refused(folder, r"state-\w+.safetensors: is missing")


def test_manifest_cut_off_anywhere(folder: Path, sound: dict[str, bytes]) -> None:
    data = sound["checkpoint.json"]
    for length in (0, 1, 50, 81, 82, len(data) // 2, len(data) - 82, len(data) - 81, len(data) - 2, len(data) - 1):
        (folder / "checkpoint.json").write_bytes(data[:length])
        refused(folder, "checkpoint.json: .*its last line is missing")


def test_one_bit_flipped_anywhere_in_the_manifest(folder: Path, sound: dict[str, bytes]) -> None:
    data = sound["checkpoint.json"]
    for at in [*range(0, len(data), 97), *range(len(data) - 90, len(data))]:
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at % 8)
        (folder / "checkpoint.json").write_bytes(flipped)
        refused(folder, "checkpoint.json: ")


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_tensors_cut_off(folder: Path, length: int) -> None:
    path = tensors_in(folder)
    path.write_bytes(path.read_bytes()[:length])
    refused(folder, "safetensors: has .* bytes that were saved: it was cut off")


def test_tensors_too_long(folder: Path) -> None:
    path = tensors_in(folder)
    path.write_bytes(path.read_bytes() + b"\0")
    refused(folder, "safetensors: has .* or more, over")


def test_one_bit_flipped_anywhere_in_the_tensors(folder: Path, sound: dict[str, bytes]) -> None:
    path = tensors_in(folder)
    data = sound[path.name]
    for at in range(0, len(data), 61):
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        refused(folder, "safetensors: its content is not what was saved")


# ---- forged tensors


class Boom:
    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


def test_a_pickle_is_not_executed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for data in (pickle.dumps(Boom()), pickle.dumps(Boom()).ljust(5000, b".")):
        forge(folder, data, lambda e: e.update(parameters={"dtype": "<f4", "arrays": []}, statistics={"shards": 1, "arrays": []}, slots=[]))
        refused(folder, "safetensors: does not fit its manifest: its header")
    (folder / "checkpoint.json").write_bytes(pickle.dumps(Boom()))
    refused(folder, "checkpoint.json: is no readable manifest")
    assert not (folder / "pwned").exists()


def with_header(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    text = json.dumps(change(header) or header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def set_dtype(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda h: h["parameters.dense_1.bias"].update(dtype=name)


HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "longer than the file": lambda d: (len(d) * 2).to_bytes(8, "little") + d[8:],
    "of 2**63 bytes": lambda d: (1 << 63).to_bytes(8, "little") + d[8:],
    "of no bytes": lambda d: bytes(8) + d[8:],
    "of ever deeper lists": lambda d: (len(d) - 8).to_bytes(8, "little") + b"[" * (len(d) - 8),
    "with a tensor outside": lambda d: with_header(d, lambda h: h["slots.second"].update(data_offsets=[0, 1 << 40])),
    "with negative offsets": lambda d: with_header(d, lambda h: h["slots.second"].update(data_offsets=[-4, 0])),
    "with tensors in one place": lambda d: with_header(
        d, lambda h: h["slots.second"].update(data_offsets=h["slots.first"]["data_offsets"])
    ),
    "with a gigantic shape": lambda d: with_header(d, lambda h: h["slots.second"].update(shape=[1 << 62, 1 << 62])),
    "with another shape": lambda d: with_header(d, lambda h: h["parameters.dense_1.kernel"].update(shape=[8, 5])),
    "with 70 axes": lambda d: with_header(d, lambda h: h["parameters.dense_1.bias"].update(shape=[8] + [1] * 70)),
    "with whole numbers": lambda d: with_header(d, set_dtype("I32")),
    "with a dtype that NumPy lacks": lambda d: with_header(d, set_dtype("F8_E4M3")),
    "with a dtype that does not exist": lambda d: with_header(d, set_dtype("O")),
    "with another name": lambda d: with_header(d, lambda h: {("x" if k == "slots.first" else k): v for k, v in h.items()}),
    "that is a list": lambda d: with_header(d, lambda h: [1]),
}


@pytest.mark.parametrize("change", HEADERS)
def test_a_forged_header(folder: Path, change: str) -> None:
    forge(folder, HEADERS[change](tensors_in(folder).read_bytes()))
    refused(folder, r"safetensors: does not fit its manifest: ")


def with_array(data: bytes, name: str, change: Callable[[Any], Any]) -> bytes:
    arrays = parse_tensors(data)
    arrays[name] = change(arrays[name])
    return tensor_bytes(arrays)


@pytest.mark.parametrize("name", ["parameters.dense_1.kernel", "statistics.batch_norm_1.mean", "slots.first"])
def test_numbers_that_are_not_finite(folder: Path, name: str) -> None:
    forge(folder, with_array(tensors_in(folder).read_bytes(), name, lambda a: np.full_like(a, np.inf)))
    refused(folder, "safetensors: does not fit its manifest: .* is inf")


def test_other_weights_than_the_fingerprint_says(folder: Path) -> None:
    forge(folder, with_array(tensors_in(folder).read_bytes(), "parameters.dense_1.bias", lambda a: a + 1))
    refused(folder, "the weights have another fingerprint")


@pytest.mark.parametrize("dtype", ["f8", "i4", "f2"])
def test_another_dtype(folder: Path, dtype: str) -> None:
    forge(folder, with_array(tensors_in(folder).read_bytes(), "parameters.dense_1.bias", lambda a: a.astype(dtype)))
    refused(folder, "safetensors: does not fit its manifest")


# ---- forged manifests


@pytest.mark.parametrize("change", MANIFESTS)
def test_a_forged_manifest(folder: Path, change: str) -> None:
    make, message = MANIFESTS[change]
    forge(folder, change=make)
    refused(folder, message)


def test_a_name_of_the_users_asks_for_the_model_and_is_not_imported(folder: Path) -> None:
    forge(folder, change=lambda e: layers(e)[1].update(settings={"units": 8, "activation": {"python": "antigravity.fly"}}))
    refused(folder, r"layers\[1\].activation is antigravity.fly\): give them", ArgumentError)


def sealed(text: bytes) -> bytes:
    return text + f',\n"sha256": "{hashlib.sha256(text).hexdigest()}"\n}}\n'.encode()


BOMBS = {
    "ever deeper": sealed(b'{\n"a": ' + b"[" * 100_000),
    "ever deeper and closed": sealed(b'{\n"a": ' + b"[" * 100_000 + b"]" * 100_000),
    "a gigantic number": sealed(b'{\n"a": ' + b"9" * 100_000),
    "no number": sealed(b'{\n"a": NaN'),
    "an entry twice": sealed(b'{\n"version": 1,\n"version": 2'),
    "too large": sealed(b'{\n"a": [' + b"[]," * (schema.LIMIT // 3) + b"1]"),
    "no text": sealed(b'{\n"a": "\xff\xfe"'),
    "a list": b"[" + sealed(b"1"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_json_bombs(folder: Path, bomb: str) -> None:
    (folder / "checkpoint.json").write_bytes(BOMBS[bomb])
    refused(folder, r"checkpoint\.json: ")


# ---- other things than files


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
@pytest.mark.parametrize(
    "make", [os.mkdir, getattr(os, "mkfifo", None), lambda p: os.symlink("/dev/zero", p)], ids=["folder", "pipe", "zeros"]
)
@pytest.mark.parametrize("which", ["checkpoint.json", "tensors"])
def test_something_else_than_a_file(folder: Path, which: str, make: Any) -> None:
    path = tensors_in(folder) if which == "tensors" else folder / which
    path.unlink()
    make(path)
    refused(folder, "is not a regular file")


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    refused(tmp_path / "a", "a: cannot be read: Not a directory. A checkpoint is a folder")


# ---- anything


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


@pytest.mark.slow
def test_any_value_anywhere_in_a_manifest_gives_a_trainer_or_the_error(folder: Path, thorough: bool) -> None:
    entries = entries_in(folder)
    values = [None, True, -1, 0, 1 << 70, 1e300, "", "x" * 1000, "../x", [], [[]], {}, {"layer": "Dense"}, {"python": "os"}, [1 << 40] * 3]
    tries = [(path, value) for path in places(entries) for value in values]
    loaded, count = 0, 1500 if thorough else 300
    for path, value in random.Random(0).sample(tries, count):
        changed = copy.deepcopy(entries)
        at = changed
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        (folder / "checkpoint.json").write_bytes(seal(changed))
        message = error_of(folder)
        loaded += message is None
        assert message is None or str(folder) in message, (path, value)
    assert 0 < loaded < count // 2


def error_of(folder: Path) -> str | None:
    """The error of loading; None if it succeeds. A name of a function in the manifest asks for the function."""
    try:
        dt.load(folder)
    except CheckpointError as error:
        return str(error)
    except ArgumentError as error:
        return str(error) if "give it, as in" in str(error) or "is of a cost function" in str(error) else f"unclear: {error}"
    return None
