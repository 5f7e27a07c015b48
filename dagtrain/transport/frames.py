"""Messages of channels that carry bytes: a header of fixed length, then the spans, each at a multiple of 64 bytes from the first.

    "dgrk" │ version 2 │ phase 2 │ sequence 8 │ length 8 │ group 16 │ span │ zeros │ span …

Sender and receiver have the same routes, so the receiver can check every field of a header. Spans are sent from the window and received
into the arrays of an inbox, which are the same in every step.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from dagtrain.transport.errors import ChannelError
from dagtrain.transport.routes import Phase, Span
from dagtrain.transport.sequence import NONE
from dagtrain.transport.shared_memory import ALIGNMENT, Array, MappedWindow, Regions, align

__all__ = ["HEADER", "HELLO", "Frame", "Inbox", "Malformed", "Outbox", "read_header", "write_header"]

_FORMAT = struct.Struct("<4sHHQQ16s")
HEADER = _FORMAT.size
_MAGIC, _VERSION = b"dgrk", 1
HELLO = 0xFFFF
"""In place of a phase: the sender chose this kind of channel."""
_PADDING = memoryview(bytes(ALIGNMENT))


class Malformed(Exception):  # noqa: N818  # a name that says what is the matter
    """Received bytes are no frame of this protocol, or do not fit the routes."""


class Frame(NamedTuple):
    """The fields of a header."""

    phase: int
    sequence: int
    length: int
    group: bytes


def write_header(phase: int, sequence: int, length: int, group: bytes) -> bytes:
    """The bytes of a header.

    Examples
    --------
    >>> read_header(write_header(Phase.ALL_GATHER_OPTIMIZER, 77, 4096, bytes(16))).length
    4096
    """
    return _FORMAT.pack(_MAGIC, _VERSION, phase, sequence, length, group)


def read_header(data: bytes | bytearray | memoryview) -> Frame:
    """The header in these bytes; raises `Malformed`."""
    if len(data) != HEADER:
        raise Malformed(f"a header of {len(data)} bytes instead of {HEADER}")
    magic, version, phase, sequence, length, group = _FORMAT.unpack(data)
    if magic != _MAGIC:
        raise Malformed(f"bytes {bytes(data[:8]).hex()} where a frame should begin")
    if version != _VERSION:
        raise Malformed(f"a frame of version {version}, this rank speaks {_VERSION}: install the same dagtrain everywhere")
    return Frame(phase, sequence, length, group)


class Outbox:
    """What a peer gets in each phase, as views of the window that are ready to be sent."""

    def __init__(self, group: bytes, window: MappedWindow, out: Mapping[Phase, tuple[Span, ...]]) -> None:
        self._group = group
        self.spans: list[list[memoryview]] = [[] for _ in Phase]
        self.ends: list[list[int]] = [[0] for _ in Phase]
        """For each phase, the number of views that hold its first 0, 1, 2, … spans."""
        self._lengths = [0] * len(Phase)
        for phase, spans in out.items():
            views, end = self.spans[phase], 0
            for span in spans:
                data = memoryview(window.span(span, "this rank's window").view(np.uint8))  # type: ignore[arg-type]  # arrays are buffers
                if align(end) > end and data.nbytes:
                    views.append(_PADDING[: align(end) - end])
                if data.nbytes:
                    views.append(data)
                    end = align(end) + data.nbytes
                self.ends[phase].append(len(views))
            self._lengths[phase] = end

    def header(self, phase: int, sequence: int) -> bytes:
        """Header of the message about a phase."""
        return write_header(phase, sequence, self._lengths[phase], self._group)

    def close(self) -> None:
        """Release the window."""
        for views in self.spans:
            views.clear()


class Inbox:
    """Where a peer's spans arrive, and the sequence of the last arrival of each phase.

    `refused` counts the messages that were dropped: those of other groups, and those not later than the last arrival.
    """

    def __init__(self, group: bytes, into: Mapping[Phase, tuple[Span, ...]], regions: Regions, whose: str) -> None:
        self._group = group
        self.arrived = [NONE] * len(Phase)
        self.arrays: list[list[Array]] = [[] for _ in Phase]
        self.refused = 0
        self.ends: list[list[int]] = [[0] for _ in Phase]
        """For each phase, where the first 0, 1, 2, … spans end in a message."""
        self._buffers = [memoryview(bytearray(0))] * len(Phase)
        for phase, spans in into.items():
            self._place(phase, spans, regions, whose)

    def _place(self, phase: Phase, spans: Iterable[Span], regions: Regions, whose: str) -> None:
        places, end = [], 0
        for span in spans:
            if span.region not in regions or not 0 <= span.start <= span.stop <= regions[span.region][2]:
                raise ChannelError(f"{whose}: the routes name {tuple(span)}; its regions are {regions}")
            kind = np.dtype(regions[span.region][0])
            size = (span.stop - span.start) * kind.itemsize
            begin = align(end) if size else end
            places.append((begin, begin + size, kind))
            end = begin + size
            self.ends[phase].append(end)
        memory = np.empty(end + ALIGNMENT, np.uint8)
        first = -int(memory.ctypes.data) % ALIGNMENT
        memory = memory[first : first + end]
        self._buffers[phase] = memoryview(memory)  # type: ignore[arg-type]  # arrays are buffers
        for begin, stop, kind in places:
            array = memory[begin:stop].view(kind)
            array.flags.writeable = False
            self.arrays[phase].append(array)

    def begin(self, header: bytes | bytearray | memoryview) -> tuple[Frame, memoryview | None]:
        """The frame that a header announces, and the buffer for its spans; None if it is to be dropped."""
        frame = read_header(header)
        if frame.group != self._group:
            self.refused += 1
            return frame, None
        if frame.phase >= len(Phase):
            raise Malformed(f"a frame of phase {frame.phase}, which does not exist")
        buffer = self._buffers[frame.phase]
        if frame.length != len(buffer):
            raise Malformed(f"{Phase(frame.phase).name} with {frame.length} bytes where the routes say {len(buffer)}")
        if frame.sequence <= self.arrived[frame.phase]:
            self.refused += 1
            return frame, None
        return frame, buffer

    def finish(self, frame: Frame) -> None:
        """Record that all spans of a frame have arrived."""
        self.arrived[frame.phase] = frame.sequence

    def close(self) -> None:
        """Release the buffers; arrays from `arrays` stay valid."""
        self._buffers = []
        self.arrays = []
