"""The memory of a rank that its peers may read: named regions behind a header with sequences and doorbell.

    word  0  magic, version      │ words 16 …: one row a peer, in cache lines of its own
          1  group, 16 bytes      │   verdict: can I open the peer's window?   (0 not tried, 1 yes, 2 no)
          3  rank                │   sequence of the last post to this peer, for each phase
          4  closed              │ then the regions, each at a multiple of 64 bytes
          5  notify by pipe too    │
          6  asleep              │
          7  together            │     (0 not known yet; 1 has all peers in its memory, 2 has not)
          8  doorbell            │ peers write the doorbell; all else is written by its rank alone

On Linux the memory is an anonymous file: it has no name that could be left over, and the kernel frees it with the last process that uses
it, also after a kill. Peers open it as /proc/PID/fd/FD.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from dagtrain.transport.errors import ChannelError
from dagtrain.transport.host import can_share_memory
from dagtrain.transport.routes import Phase, Span

__all__ = ["ALIGNMENT", "ASLEEP", "BY_PIPE", "CLOSED", "DOORBELL", "RANKS", "TOGETHER", "MappedWindow", "Regions", "Window", "align", "row"]

Array = np.ndarray[Any, Any]
Regions = dict[str, tuple[str, int, int]]
"""By name: dtype, offset in bytes, number of elements."""

ALIGNMENT = 64
RANKS = 1024
MAGIC = int.from_bytes(b"dagboard", "little")
VERSION = 1
CLOSED, BY_PIPE, ASLEEP, TOGETHER, DOORBELL = 4, 5, 6, 7, 8
_ROWS = 16
_ROW = -(-(1 + len(Phase)) // 8) * 8  # words of a peer's row: whole cache lines, so that posts to different peers do not meet in one
_HEADER = (_ROWS + RANKS * _ROW) * 8


def align(offset: int) -> int:
    """The next multiple of 64.

    Examples
    --------
    >>> align(0), align(1), align(64)
    (0, 64, 64)
    """
    return -(-offset // ALIGNMENT) * ALIGNMENT


def row(rank: int) -> int:
    """Index of the first word of a peer's row: the verdict; the sequences follow."""
    return _ROWS + rank * _ROW


class MappedWindow:
    """A window in the memory of this process, its own or a peer's: the header as words and the regions as arrays."""

    def __init__(self, fd: int, size: int, regions: Regions) -> None:
        self._map: mmap.mmap | None = mmap.mmap(fd, size)
        self.words = memoryview(self._map)[:_HEADER].cast("Q")
        self.doorbell = memoryview(self._map)[DOORBELL * 8 : DOORBELL * 8 + 4].cast("I")
        self.regions = regions
        self._bytes: Array = np.frombuffer(memoryview(self._map), np.uint8)

    def __getitem__(self, name: str) -> Array:
        dtype, offset, elements = self.regions[name]
        kind = np.dtype(dtype)
        return self._bytes[offset : offset + elements * kind.itemsize].view(kind)

    @property
    def address(self) -> int:
        """Address of the doorbell in this process."""
        return int(self._bytes.ctypes.data) + DOORBELL * 8

    def span(self, span: Span, whose: str) -> Array:
        """The elements of a span."""
        if span.region not in self.regions:
            raise ChannelError(f"{whose} has no region {span.region!r}; it has {', '.join(sorted(self.regions))}")
        elements = self.regions[span.region][2]
        if not 0 <= span.start <= span.stop <= elements:
            raise ChannelError(f"{whose}: region {span.region!r} has {elements} elements; the routes name {span.start} to {span.stop}")
        return self[span.region][span.start : span.stop]

    def label(self, group: bytes, rank: int) -> None:
        """Write into the header to which rank of which group this memory belongs."""
        self.words[1], self.words[2] = int.from_bytes(group[:8], "little"), int.from_bytes(group[8:], "little")
        self.words[3] = rank
        self.words[0] = MAGIC ^ VERSION

    def is_of(self, group: bytes, rank: int) -> bool:
        """Whether this memory is the window of that rank of that group."""
        label = (MAGIC ^ VERSION, int.from_bytes(group[:8], "little"), int.from_bytes(group[8:], "little"), rank)
        return tuple(self.words[:4]) == label

    def close(self) -> None:
        """Unmap the memory, as soon as no array refers to it. Safe to call again."""
        if self._map is None:
            return
        self.words.release()
        self.doorbell.release()
        del self._bytes
        with contextlib.suppress(BufferError):  # arrays refer to the map: it closes with the last of them
            self._map.close()
        self._map = None


class Window(MappedWindow):
    """The window of this rank, which peers may read.

    `Window.create` makes one; it serves one group. ``window[name]`` is the array of a region, at a multiple of 64 bytes, initially zero.

    Examples
    --------
    >>> window = Window.create({"gradient": ("float32", 10), "count": ("int64", 1)})
    >>> window["gradient"][2:4] = 1
    >>> float(window["gradient"].sum()), window["count"].ctypes.data % 64
    (2.0, 0)
    >>> window.close()
    """

    def __init__(self, fd: int, size: int, regions: Regions) -> None:
        super().__init__(fd, size, regions)
        self.fd, self.size = fd, size
        self._give_back = weakref.finalize(self, os.close, fd) if fd >= 0 else None

    @classmethod
    def create(cls, regions: Mapping[str, tuple[str, int]]) -> Window:
        """Allocate memory for regions.

        Parameters
        ----------
        regions : mapping of str to (str, int)
            For each name the dtype and the number of elements.

        Raises
        ------
        ChannelError
            If a region cannot be shared, or there is not enough memory.
        """
        placed: Regions = {}
        end = _HEADER
        for name, (dtype, elements) in regions.items():
            kind = np.dtype(dtype)
            if kind.hasobject or elements < 0:
                raise ChannelError(
                    f"region {name!r}: {elements} elements of {dtype} cannot be shared; use a dtype of numbers, and 0 elements or more"
                )
            placed[name] = (kind.str, end, int(elements))
            end = align(end + int(elements) * kind.itemsize)
        return cls(_anonymous_file(end), end, placed)

    def close(self) -> None:
        """Release the memory; peers that have mapped it keep it. Safe to call again."""
        super().close()
        if self._give_back is not None:
            self._give_back()


def _anonymous_file(size: int) -> int:
    """File descriptor of memory without a name; where there is none, -1, which maps to plain memory of this process."""
    if sys.platform != "linux" or not can_share_memory():
        return -1
    import fcntl

    fd = os.memfd_create("dagtrain-window", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(fd, 0, size)  # too little memory is an error here, not a bus error in the middle of a step
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)  # no peer may truncate it
    except OSError as error:
        os.close(fd)
        raise ChannelError(f"cannot allocate a window of {size} bytes: {error}; use more workers, or a smaller model") from error
    return fd
