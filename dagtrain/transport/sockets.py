"""A channel through a TCP connection, read and written by the rank's own thread, which never blocks in it.

Frames are sent from the window and received into the arrays of the inbox. `Communicator.wait` sends what the kernel did not take at once.
TLS works the same way, by the rules of `ssl`: an interrupted write is repeated with the same bytes, and poll does not see bytes that are
decrypted already.

A cut cable sends no FIN. Keep-alive detects it while the connection is idle; otherwise `silent` checks whether the other kernel
acknowledges. Not TCP_USER_TIMEOUT: with that, Linux also ends a sound connection to a peer that computes for longer than the time-out
while its buffers are full.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import ssl
import struct
import sys
from collections import deque
from itertools import islice
from pathlib import Path

from dagtrain.transport.frames import HEADER, Frame, Inbox, Malformed, Outbox
from dagtrain.transport.shared_memory import Array

__all__ = ["SILENCE", "SocketChannel", "silent", "tune"]

SILENCE = 10.0
"""Seconds without an acknowledgement by the other kernel after which a connection is lost."""
_UNREACHABLE = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}

_BUFFER = 4 << 20
_VECTORS = 64  # spans in one call
_CHUNK = 256 << 10  # bytes in one call with TLS
_SMALL = 16 << 10  # bytes up to which a message with TLS is joined first: one record instead of one for each span
_SCRATCH = 64 << 10


def tune(sock: socket.socket, silence: float) -> None:
    """Set the options of a connection between ranks."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, limit in ((socket.SO_SNDBUF, "wmem_max"), (socket.SO_RCVBUF, "rmem_max")):
        with contextlib.suppress(OSError, ValueError):
            # Setting a size ends the kernel's own tuning, which grows buffers beyond a size that the limit cuts.
            if sys.platform != "linux" or int(Path(f"/proc/sys/net/core/{limit}").read_text()) >= _BUFFER:
                sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = max(1, round(silence * 0.4))
    between = max(1, round(silence * 0.2))
    for name, value in (("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", between), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def silent(sock: socket.socket) -> float:
    """Seconds since the other kernel acknowledged anything, if two probes are unanswered; 0.0 otherwise, or where it cannot be known."""
    if sys.platform != "linux":
        return 0.0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
    except OSError:
        return 0.0
    if len(info) < 60 or max(info[2], info[3]) < 2:  # unanswered: segments sent again, and probes of a closed window
        return 0.0
    return float(struct.unpack_from("I", info, 56)[0]) / 1000


class SocketChannel:
    """One end of a channel over an authenticated connection.

    `lost` says why the channel is broken, None while it works; messages that arrived before stay valid. `cut` says that the network
    failed and not the peer.
    """

    kind = "socket"

    def __init__(self, peer: int, sock: socket.socket, inbox: Inbox, outbox: Outbox, silence: float) -> None:
        self.peer, self.sock = peer, sock
        self.lost: str | None = None
        self.cut = False
        self.arrived = inbox.arrived
        self._inbox, self._outbox, self._silence = inbox, outbox, silence
        self._secure = sock if isinstance(sock, ssl.SSLSocket) else None
        self._queue: deque[memoryview] = deque()
        self._begun: tuple[int, int] | None = None  # phase and sequence of a message that `release` has begun
        self._queued = 0  # views of that message in the queue
        self._header = memoryview(bytearray(HEADER))
        self._target = self._header
        self._frame: Frame | None = None
        self._dropping: int | None = None  # bytes left of a frame that is dropped
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._read_wants_write = self._write_wants_read = False
        self._suspected = False

    def incoming(self, phase: int) -> list[Array]:
        """Arrays for the peer's spans of a phase."""
        return list(self._inbox.arrays[phase])

    @property
    def refused(self) -> int:
        """Number of frames that were dropped."""
        return self._inbox.refused

    @property
    def sending(self) -> bool:
        """Whether bytes wait for the kernel to take them."""
        return bool(self._queue)

    @property
    def events(self) -> int:
        """Events that poll should report."""
        writing = (self._queue and not self._write_wants_read) or self._read_wants_write
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)

    def post(self, phase: int, sequence: int) -> bool:
        """Send what the kernel takes; return whether bytes are left."""
        if self.lost is not None:
            return False
        header, spans = self._outbox.header(phase, sequence), self._outbox.spans[phase]
        if self._begun is not None:
            self.release(phase, sequence, len(self._outbox.ends[phase]) - 1)
            self._begun = None
            return bool(self._queue)
        if self._secure is not None and len(spans) and sum(map(len, spans)) <= _SMALL:
            self._queue.append(memoryview(b"".join([header, *spans])))
        else:
            self._queue.append(memoryview(header))
            self._queue.extend(spans)
        self.push()
        return bool(self._queue)

    def release(self, phase: int, sequence: int, count: int) -> bool:
        """Send the first `count` spans of a message, as far as the kernel takes them; return whether bytes of them are left."""
        if self.lost is not None:
            return False
        if self._begun is None:
            self._begun, self._queued = (phase, sequence), 0
            self._queue.append(memoryview(self._outbox.header(phase, sequence)))
        assert self._begun == (phase, sequence), f"message {(phase, sequence)} within {self._begun}"
        end = self._outbox.ends[phase][count]
        self._queue.extend(self._outbox.spans[phase][self._queued : end])
        self._queued = max(self._queued, end)
        self.push()
        return bool(self._queue)

    def has(self, phase: int, sequence: int, count: int) -> bool:
        """Whether the first `count` spans of a message that is being received have arrived."""
        frame = self._frame
        if frame is None or self._dropping is not None or (frame.phase, frame.sequence) != (phase, sequence):
            return False
        return frame.length - len(self._target) >= self._inbox.ends[phase][count]

    def push(self) -> None:
        """Send what the kernel takes of the queue."""
        queue = self._queue
        self._write_wants_read = False
        try:
            while queue:
                if self._secure is not None:
                    sent = self._secure.send(queue[0][:_CHUNK])
                elif len(queue) == 1:
                    sent = self.sock.send(queue[0])
                else:
                    sent = self.sock.sendmsg(list(islice(queue, _VECTORS)))
                while queue and sent >= len(queue[0]):
                    sent -= len(queue.popleft())
                if sent:
                    queue[0] = queue[0][sent:]
        except ssl.SSLWantReadError:
            self._write_wants_read = True
        except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            self._fail(error)

    def pull(self) -> None:
        """Receive what has arrived, up to the end of a frame or further."""
        self._read_wants_write = False
        try:
            while self.lost is None:
                count = self.sock.recv_into(self._target)
                if count == 0:
                    self._lose(self._at_end())
                    return
                self._target = self._target[count:]
                if not self._target and self._advance() and not (self._secure is not None and self._secure.pending()):
                    return  # at a boundary of frames; poll reports further bytes
        except ssl.SSLWantWriteError:
            self._read_wants_write = True
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            pass
        except Malformed as error:
            self._lose(str(error))
        except OSError as error:
            self._fail(error)

    def _advance(self) -> bool:
        """Choose the next target after a full one; return whether a frame is complete."""
        if self._frame is None:
            self._frame, buffer = self._inbox.begin(self._header)
            self._dropping = self._frame.length if buffer is None else None
            self._target = buffer if buffer is not None else self._scratch[: self._frame.length]
        elif self._dropping is not None:
            self._dropping = max(0, self._dropping - _SCRATCH)
            self._target = self._scratch[: self._dropping]
        if self._target:
            return False
        if self._dropping is None:
            self._inbox.finish(self._frame)
        self._frame, self._target = None, self._header
        return True

    def _at_end(self) -> str:
        if self._frame is None and len(self._target) == HEADER:
            return "it closed the connection"
        return "the connection ended in the middle of a frame"

    def check(self) -> None:
        """Set `lost` if the other kernel was silent at this check and at the one before.

        Kernels answer probes of a closed window at most twice a second, so a sound connection may look silent until the answer to the next
        probe arrives.
        """
        before, self._suspected = self._suspected, self.lost is None and silent(self.sock) > self._silence
        if before and self._suspected:
            self.cut = True
            self._lose(f"its host has not answered for {self._silence:g} s")

    def _fail(self, error: OSError) -> None:
        self.cut = self.lost is None and error.errno in _UNREACHABLE
        self._lose(_reason(error))

    def _lose(self, why: str) -> None:
        self.lost = self.lost or why
        self._queue.clear()

    def close(self) -> None:
        """Close the connection; safe to call again."""
        self._lose("this rank closed the channel")
        self.sock.close()
        self._inbox.close()
        self._outbox.close()


def _reason(error: OSError) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, ssl.SSLError) else (error.strerror or str(error) or type(error).__name__)
