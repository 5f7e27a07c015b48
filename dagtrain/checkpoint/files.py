"""Stores of checkpoints: a folder on disk, or one behind fsspec (s3://, gs://, memory://, …), with the same methods.

On disk a file appears whole or not at all, and survives a power cut:

    write to .NAME.PID-RANDOM.part ─▶ fsync ─▶ rename to NAME ─▶ fsync the folder

Object stores write whole objects by themselves. Every failure is a `CheckpointError` that names the file.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from dagtrain.errors import ArgumentError, CheckpointError

__all__ = ["LocalStore", "RemoteStore", "Store", "open_store"]

_PART = re.compile(r"\..+\.\d+-[0-9a-f]{16}\.part")
_CHUNK = 64 << 20
"""Most bytes of one write or read: Linux moves at most 2 GiB at once."""


class Store(Protocol):
    """A folder whose files are written and read by name."""

    path: str

    def inside(self, name: str) -> Store:
        """The subfolder of this name."""

    def prepare(self) -> None:
        """Make the folder, and check that it is writable."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole and durable; it replaces one of the same name."""

    def read(self, name: str, limit: int) -> bytes | None:
        """The file's bytes; None if there is no such file. A file larger than `limit` is an error."""

    def names(self) -> list[str]:
        """The names of files and subfolders, sorted; none if there is no such folder."""

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""

    def remove_parts(self) -> None:
        """Remove the partial files of killed writes."""

    def remove_self(self) -> None:
        """Remove the folder if it is empty."""


def open_store(path: Any) -> Store:
    """The store for a path or an fsspec address.

    Examples
    --------
    >>> open_store("runs/a").inside("epoch-000001").path
    'runs/a/epoch-000001'
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"a checkpoint's path is text or a pathlib.Path, got {path!r}.")
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ArgumentError(f"a checkpoint's path is text or a pathlib.Path, got {path!r}.")
    if "://" not in text and "::" not in text:
        return LocalStore(text)
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # fsspec ships no types

    try:
        system, inner = url_to_fs(text)
    except (ImportError, ValueError) as error:
        raise CheckpointError(f"{text}: cannot be opened: {error}") from error
    protocol = system.protocol if isinstance(system.protocol, str) else system.protocol[0]
    return LocalStore(inner) if protocol == "file" else RemoteStore(system, inner.rstrip("/"), text.rstrip("/"))


@contextmanager
def _explained(path: str, doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise CheckpointError(f"{path}: cannot be {doing}: {why}.{_cure(error)}") from error


def _cure(error: OSError) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return " Free some space, or save to another place; earlier checkpoints are unchanged."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return " Choose a folder that this user may use."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return " A checkpoint is a folder: choose another path."
    return ""


class LocalStore(Store):
    """A folder of this machine's file systems."""

    def __init__(self, path: str) -> None:
        self.path = path

    def inside(self, name: str) -> LocalStore:
        """The subfolder of this name."""
        return LocalStore(os.path.join(self.path, name))

    def prepare(self) -> None:
        """Make the folder, and write a file to it as a test."""
        with _explained(self.path, "made a folder"):
            _make_folders(os.path.abspath(self.path))
        probe = _part_name("probe")
        with _explained(self.path, "written to"):
            path = os.path.join(self.path, probe)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            os.unlink(path)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole and durable."""
        target = os.path.join(self.path, name)
        with _explained(target, "written"):
            _make_folders(os.path.abspath(self.path))
            part = os.path.join(self.path, _part_name(name))
            try:
                _write_through(part, data)
                os.replace(part, target)
            except BaseException:
                if os.path.exists(part):
                    os.unlink(part)
                raise
            _sync_folder(self.path)

    def read(self, name: str, limit: int) -> bytes | None:
        """The file's bytes; None if there is none."""
        path = os.path.join(self.path, name)
        with _explained(path, "read"):
            try:
                # Non-blocking: opening a pipe instead of a file would wait for its writer for ever.
                handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
            except (FileNotFoundError, NotADirectoryError):
                return None
            try:
                status = os.fstat(handle)
                if not stat.S_ISREG(status.st_mode):
                    raise CheckpointError(f"{path}: is not a regular file.")
                _check_size(path, status.st_size, limit)
                parts, remaining = [], limit + 1
                while remaining and (part := os.read(handle, min(remaining, _CHUNK))):
                    parts.append(part)
                    remaining -= len(part)
            finally:
                os.close(handle)
        data = b"".join(parts)
        _check_size(path, len(data), limit)
        return data

    def names(self) -> list[str]:
        """The names in the folder, sorted."""
        with _explained(self.path, "read"):
            try:
                return sorted(os.listdir(self.path))
            except FileNotFoundError:
                return []

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        path = os.path.join(self.path, name)
        with _explained(path, "removed"):
            try:
                os.unlink(path)
            except FileNotFoundError:
                return

    def remove_parts(self) -> None:
        """Remove the partial files of killed writes."""
        for name in self.names():
            if _PART.fullmatch(name):
                self.remove(name)

    def remove_self(self) -> None:
        """Remove the folder if it is empty."""
        try:
            os.rmdir(self.path)
        except OSError:  # a folder with other files stays
            return


def _part_name(name: str) -> str:
    return f".{name}.{os.getpid()}-{secrets.token_hex(8)}.part"


def _write_through(path: str, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[os.write(handle, remaining[:_CHUNK]) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folders(path: str) -> None:
    """Like os.makedirs, but each new folder's name is on disk before the folder gets content."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _make_folders(parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    _sync_folder(parent)


def _sync_folder(path: str) -> None:
    if os.name == "nt":  # Windows cannot open folders; NTFS journals names itself
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_size(path: str, size: int, limit: int) -> None:
    if size > limit:
        raise CheckpointError(f"{path}: has {size:,} bytes or more, over the {limit:,} allowed. It is not what was saved.")


class RemoteStore(Store):
    """A folder behind an fsspec file system."""

    def __init__(self, system: Any, inner: str, path: str) -> None:
        self.system, self.inner, self.path = system, inner, path

    def inside(self, name: str) -> RemoteStore:
        """The subfolder of this name."""
        return RemoteStore(self.system, f"{self.inner}/{name}", f"{self.path}/{name}")

    def prepare(self) -> None:
        """Make the folder."""
        with self._explained("", "made a folder"):
            self.system.makedirs(self.inner, exist_ok=True)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole and durable."""
        with self._explained(name, "written"):
            self.system.makedirs(self.inner, exist_ok=True)
            self.system.pipe_file(f"{self.inner}/{name}", data)

    def read(self, name: str, limit: int) -> bytes | None:
        """The file's bytes; None if there is none."""
        with self._explained(name, "read"):
            self.system.invalidate_cache()
            try:
                size = self.system.size(f"{self.inner}/{name}")
                _check_size(f"{self.path}/{name}", size or 0, limit)
                data = bytes(self.system.cat_file(f"{self.inner}/{name}", start=0, end=limit + 1))
            except (FileNotFoundError, NotADirectoryError):
                return None
        _check_size(f"{self.path}/{name}", len(data), limit)
        return data

    def names(self) -> list[str]:
        """The names in the folder, sorted."""
        with self._explained("", "read"):
            self.system.invalidate_cache()
            try:
                paths = self.system.ls(self.inner, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in paths)

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        with self._explained(name, "removed"):
            try:
                self.system.rm_file(f"{self.inner}/{name}")
            except FileNotFoundError:
                return

    def remove_parts(self) -> None:
        """Do nothing: objects are written whole."""

    def remove_self(self) -> None:
        """Remove the folder if it is empty."""
        if self.names():
            return
        try:
            self.system.rmdir(self.inner)
        except OSError:  # object stores have no folders to remove
            return

    @contextmanager
    def _explained(self, name: str, doing: str) -> Iterator[None]:
        """Turn any error into a CheckpointError: each fsspec file system raises errors of its own."""
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:
            path = f"{self.path}/{name}" if name else self.path
            raise CheckpointError(f"{path}: cannot be {doing}: {type(error).__name__}: {error}") from error
