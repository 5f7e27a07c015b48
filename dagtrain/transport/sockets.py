"""A channel through a TCP connection, read and written by the rank's own thread without ever blocking in it.

Frames go out from the window and come in where they stay. What the kernel does not take at once waits in a queue that `Communicator.wait`
empties. With TLS the same, by the rules of `ssl`: a write that was put off is repeated with the same bytes, and poll does not see bytes
that were decrypted already.

A cut cable sends no FIN. Keep-alive finds it when nothing is under way; when something is, `silent` looks whether the other kernel still
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
"""Seconds without any sign of life from the other kernel after which a connection is given up."""
_UNREACHABLE = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}

_BUFFER = 4 << 20
_VECTORS = 64  # spans in one call
_CHUNK = 256 << 10  # bytes in one call with TLS
_SMALL = 16 << 10  # bytes up to which a message with TLS is put together first: one record instead of one for each span
_SCRATCH = 64 << 10


def tune(sock: socket.socket, silence: float) -> None:
    """Set what a connection between ranks needs."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, limit in ((socket.SO_SNDBUF, "wmem_max"), (socket.SO_RCVBUF, "rmem_max")):
        with contextlib.suppress(OSError, ValueError):
            # A size that is set ends the kernel's own tuning, which reaches further than a size cut to the limit.
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
    """Seconds since the other kernel acknowledged anything, if it was asked to and again; 0.0 if all is well or cannot be known."""
    if sys.platform != "linux":
        return 0.0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
    except OSError:
        return 0.0
    if len(info) < 60 or max(info[2], info[3]) < 2:  # repeated segments, and probes of a closed window, without an answer
        return 0.0
    return float(struct.unpack_from("I", info, 56)[0]) / 1000


class SocketChannel:
    """One's end of a channel over a connection that has been proven.

    `lost` says why nothing more can come, once that is so; what has arrived before stays valid. `cut` says that it is for the network.
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
        self._begun: tuple[int, int] | None = None
        self._handed = 0  # views of the message that was begun
        self._header = memoryview(bytearray(HEADER))
        self._target = self._header
        self._frame: Frame | None = None
        self._dropping: int | None = None  # bytes that are left of a frame nobody wants
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._read_wants_write = self._write_wants_read = False
        self._suspected = False

    def incoming(self, phase: int) -> list[Array]:
        """Where the peer's spans of a phase arrive."""
        return list(self._inbox.arrays[phase])

    @property
    def refused(self) -> int:
        """Number of frames that were dropped."""
        return self._inbox.refused

    @property
    def sending(self) -> bool:
        """Whether bytes wait to be taken by the kernel."""
        return bool(self._queue)

    @property
    def events(self) -> int:
        """What poll should look for."""
        writing = (self._queue and not self._write_wants_read) or self._read_wants_write
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)

    def post(self, phase: int, sequence: int) -> bool:
        """Send what the kernel takes; return whether something is left."""
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
        """Begin with, or go on with, a message of which so many spans are final; return whether something is left of these."""
        if self.lost is not None:
            return False
        if self._begun is None:
            self._begun, self._handed = (phase, sequence), 0
            self._queue.append(memoryview(self._outbox.header(phase, sequence)))
        assert self._begun == (phase, sequence), f"message {(phase, sequence)} within {self._begun}"
        upto = self._outbox.ends[phase][count]
        self._queue.extend(self._outbox.spans[phase][self._handed : upto])
        self._handed = max(self._handed, upto)
        self.push()
        return bool(self._queue)

    def has(self, phase: int, sequence: int, count: int) -> bool:
        """Whether the first so many spans of a message are there, though it may be still under way."""
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
        """Receive what is there, to the end of a frame at least if that has come."""
        self._read_wants_write = False
        try:
            while self.lost is None:
                count = self.sock.recv_into(self._target)
                if count == 0:
                    self._lose(self._at_end())
                    return
                self._target = self._target[count:]
                if not self._target and self._advance() and not (self._secure is not None and self._secure.pending()):
                    return  # at a boundary of frames; poll says if there is more
        except ssl.SSLWantWriteError:
            self._read_wants_write = True
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            pass
        except Malformed as error:
            self._lose(str(error))
        except OSError as error:
            self._fail(error)

    def _advance(self) -> bool:
        """Go on behind a full target; return whether a frame is complete."""
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
        """See whether the other kernel is still there: it is not if it was silent at this look and at the one before.

        Kernels answer probes of a closed window no more often than twice a second, so a sound connection may look silent for as long as
        the answer to the next probe is under way.
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
