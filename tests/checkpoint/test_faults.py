"""Full disks, kill -9 at any moment, writers and readers at once: the last whole checkpoint always loads."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.checkpoint import runs, store
from dagtrain.checkpoint.files import open_store
from dagtrain.errors import CheckpointError, NotFiniteError

pytestmark = pytest.mark.slow

X, Y = np.eye(8, dtype="f4"), np.arange(8) % 2
KILLED = Path(__file__).with_name("killed_saves.py")


def trained(epochs: int = 1, **options: Any) -> Any:
    model = dt.nn.Sequential([dt.nn.Dense(options.pop("units", 8)), dt.nn.Dense(2)])
    trainer = dt.Trainer(model, loss="cross_entropy", shards=2, engine="inline", threads=1)
    fit(trainer, epochs, **options)
    return trainer


def fit(trainer: Any, epochs: int, **options: Any) -> Any:
    return trainer.fit(X, Y, epochs=epochs, verbose=0, **options)


def loaded(path: Any) -> str:
    fingerprint: str = dt.load(path).progress.trained("be looked at")[1].fingerprint
    return fingerprint


# ---- killed


def killed(*arguments: str, timeout: float = 100) -> dict[str, int]:
    done = subprocess.run([sys.executable, str(KILLED), *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    assert not done.returncode, done.stderr
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


@pytest.mark.timeout(700)  # a hundred kills, also where others compute
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_the_latest_checkpoint_always_loads_after_kills_at_random(tmp_path: Path, thorough: bool) -> None:
    counts = killed("random", str(tmp_path / "run"), "100" if thorough else "12", timeout=600)
    assert counts["torn"] >= 1  # else no kill interrupted a write
    assert counts["folders"] == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_save_that_ends_at_any_call_leaves_the_old_checkpoint_or_the_new_one(tmp_path: Path) -> None:
    counts = killed("each", str(tmp_path / "one"))
    assert counts["calls"] >= 12
    assert counts["before"] >= 8
    assert counts["after"] >= 3
    assert counts["files"] == 2


def test_the_probe_of_a_process_killed_before_its_first_save_is_removed(tmp_path: Path) -> None:
    probe, other = tmp_path / ".probe.16365-e73c23b959f0f5ad.part", tmp_path / "notes.part"
    probe.touch()
    other.touch()
    trained().fit(X, Y, verbose=0, checkpoint=tmp_path)
    assert not probe.exists()
    assert other.exists()


# ---- full disks


def full_after(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    write, remaining = os.write, [budget]

    def limited(handle: int, data: Any) -> int:
        if len(data) > remaining[0]:
            if not remaining[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data, remaining[0] = data[: remaining[0]], 0
        else:
            remaining[0] -= len(data)
        return write(handle, data)

    monkeypatch.setattr(os, "write", limited)


@pytest.mark.parametrize("budget", [0, 1, 500, 1500, 2500])
def test_a_full_disk_leaves_the_checkpoint_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    trainer = trained()
    trainer.save(tmp_path)
    before, files = loaded(tmp_path), sorted(os.listdir(tmp_path))
    fit(trainer, 1)
    with monkeypatch.context() as patch:
        full_after(patch, budget)
        with pytest.raises(CheckpointError, match=r"cannot be written: No space left on device. Free some space"):
            trainer.save(tmp_path)
    assert loaded(tmp_path) == before
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]
    trainer.save(tmp_path)
    assert loaded(tmp_path) == trainer.history.fingerprint
    assert len(os.listdir(tmp_path)) == len(files)


def test_a_short_write_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:100]))
    trainer = trained()
    trainer.save(tmp_path)
    assert loaded(tmp_path) == trainer.history.fingerprint


def test_a_disk_that_fills_during_fit_ends_it_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = trained(6).history.fingerprint
    trainer = trained(2, checkpoint=tmp_path)
    with monkeypatch.context() as patch:
        full_after(patch, 4000)
        with pytest.raises(CheckpointError, match=r"epoch-00000[3-9]/.* No space left on device"):
            fit(trainer, 6, checkpoint=tmp_path, resume=True)
    assert dt.load(tmp_path).progress.trained("be looked at")[1].step >= 2
    assert fit(trainer, 6, checkpoint=tmp_path, resume=True).fingerprint == undisturbed  # it resumes from its own memory
    assert loaded(tmp_path) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    may_mount = sys.platform == "linux" and os.geteuid() == 0
    if (
        not may_mount
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], capture_output=True, check=False).returncode
    ):
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    trainer = trained(units=500)  # 66 KB with adam's slots: the new checkpoint and two old ones fit, a fourth does not
    trainer.save(small_disk)
    fit(trainer, 1)
    (small_disk / "filler").write_bytes(bytes(150_000))
    before = loaded(small_disk)
    with pytest.raises(CheckpointError, match="No space left on device"):
        trainer.save(small_disk)
    assert loaded(small_disk) == before
    (small_disk / "filler").unlink()
    trainer.save(small_disk)
    assert loaded(small_disk) == trainer.history.fingerprint


def test_an_unwritable_folder_is_an_error_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refused(path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(CheckpointError, match=r"cannot be written to: Permission denied. Choose a folder"):
        fit(trained(), 1, checkpoint=tmp_path)


def test_a_file_in_the_way_is_an_error_before_training(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(CheckpointError, match=r"/a/b: cannot be made a folder: .*A checkpoint is a folder"):
        fit(trained(), 1, checkpoint=tmp_path / "a" / "b")


def test_if_training_and_writing_both_fail_both_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        if trainer.history.epochs:
            raise NotFiniteError("planted")

    trainer = trained()
    monkeypatch.setattr(trainer.program.__class__, "values", lambda *args, values=trainer.program.__class__.values: fail() or values(*args))
    full_after(monkeypatch, 0)
    with pytest.raises(NotFiniteError, match="planted") as caught:
        fit(trainer, 3, checkpoint=tmp_path)
    assert "No space left on device" in caught.value.__notes__[0]


# ---- order and concurrency


def test_everything_is_on_disk_before_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trained()
    calls: list[str] = []
    names: dict[int, str] = {}

    def of(path: Any) -> str:
        name = os.path.basename(path).lstrip(".")
        return "state" if name.startswith("state") else "manifest" if name.startswith("checkpoint") else "folder"

    opened, sync, replace = os.open, os.fsync, os.replace

    def watched(path: Any, *rest: Any) -> int:
        handle = opened(path, *rest)
        names[handle] = of(path)
        return handle

    monkeypatch.setattr(os, "open", watched)
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append(f"sync {names[handle]}"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(f"rename {of(b)}"), replace(a, b)))
    trainer.save(tmp_path / "new")
    folder_made = ["sync folder"]  # of the new folder's parent
    assert calls == [*folder_made, "sync state", "rename state", "sync folder", "sync manifest", "rename manifest", "sync folder"]


def test_checkpoints_can_be_read_while_they_are_replaced(tmp_path: Path) -> None:
    trainer = trained()
    trainer.save(tmp_path)
    saved, done = {trainer.history.fingerprint}, threading.Event()

    def replaced() -> None:
        try:
            for _ in range(15):
                saved.add(fit(trainer, 1).fingerprint)
                trainer.save(tmp_path)
        finally:
            done.set()

    writer = threading.Thread(target=replaced)
    writer.start()
    read = set()
    while not done.is_set():
        read.add(loaded(tmp_path))
    writer.join()
    assert read <= saved
    assert len(read) > 3
    assert loaded(tmp_path) == trainer.history.fingerprint


def test_a_checkpoint_replaced_between_its_two_files_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trained()
    trainer.save(tmp_path)
    fit(trainer, 1)
    parse, parsed = store.parse, []

    def replaced_meanwhile(data: bytes, where: str) -> Any:
        manifest = parse(data, where)
        if not parsed:
            trainer.save(tmp_path)
        parsed.append(manifest.fingerprint)
        return manifest

    monkeypatch.setattr(store, "parse", replaced_meanwhile)
    assert loaded(tmp_path) == trainer.history.fingerprint
    assert len(parsed) == 2


def test_leftovers_of_killed_saves_are_removed_by_the_next_ones(tmp_path: Path) -> None:
    trainer = trained(1, checkpoint=tmp_path)
    first = tmp_path / "epoch-000001"
    (first / ".state-0123456789abcdef.safetensors.123-0123456789abcdef.part").write_text("torn")
    torn = tmp_path / "epoch-000000"
    torn.mkdir()
    (torn / "state-0123456789abcdef.safetensors").write_text("torn")
    fit(trainer, 4, checkpoint=tmp_path, keep=3)
    assert sorted(os.listdir(tmp_path)) == ["epoch-000003", "epoch-000004", "epoch-000005"]


def test_a_thread_writes_while_training_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    during: list[str] = []
    write = runs.write

    def watched(*arguments: Any) -> None:
        during.append(threading.current_thread().name)
        write(*arguments)

    monkeypatch.setattr(runs, "write", watched)
    trained(3, checkpoint=tmp_path)
    assert len(during) == 3
    assert all(name.startswith("dagtrain-checkpoint") for name in during)
    assert not [t for t in threading.enumerate() if t.name.startswith("dagtrain-checkpoint")]
    assert runs.latest(open_store(tmp_path)) is not None
