"""One connection, from dialling to the proof that both ends are of the same group, a step at a time: it never blocks.

    dial ──▶ TLS handshake, if there is TLS ──▶ proof of the token ──▶ done

    acceptor ── magic, version, nonce A ────────────────────────────────────────▶ initiator
    acceptor ◀─ magic, version, group, ranks, nonce B, HMAC("initiator", …) ────── initiator
    acceptor ── HMAC("acceptor", …) ────────────────────────────────────────────▶ initiator

The token itself is never sent. The code covers both nonces, the group and both ranks; the role in it keeps one end's proof from serving as
the other's. `Acceptor` and `Initiator` do no I/O: bytes in, bytes out. Without TLS they keep other programs out, not an attacker who can
change packets. A connection that fails at any point is closed.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import selectors
import socket
import ssl
import struct
from collections.abc import Collection

from dagtrain.transport.sockets import tune

__all__ = ["Acceptor", "Handshake", "HandshakeError", "Initiator", "dial", "listen"]

Tls = tuple[ssl.SSLContext, ssl.SSLContext]
"""Contexts for the side that accepts and for the side that dials."""

_NONCE = 32
_MAC = 32
_MAGIC, _VERSION = b"dgrank", 1
_CHALLENGE = struct.Struct(f"<6sH{_NONCE}s")
_ANSWER = struct.Struct(f"<6sH16sII{_NONCE}s{_MAC}s")


class HandshakeError(Exception):
    """The other end did not prove that it is the expected peer."""


def _code(token: bytes, role: bytes, group: bytes, initiator: int, acceptor: int, challenge: bytes, answer: bytes) -> bytes:
    return hmac.digest(
        token, b"dagtrain ranks\0" + role + b"\0" + group + struct.pack("<II", initiator, acceptor) + challenge + answer, "sha256"
    )


def _check_version(magic: bytes, version: int) -> None:
    if magic != _MAGIC:
        raise HandshakeError("it does not speak the protocol of ranks")
    if version != _VERSION:
        raise HandshakeError(
            f"it speaks version {version} of the protocol of ranks, this one {_VERSION}: install the same dagtrain everywhere"
        )


class Acceptor:
    """The end that accepts. `peer` is set, and `wanted` is 0, as soon as the initiator has proven itself."""

    def __init__(self, group: bytes, rank: int, expected: Collection[int], token: bytes) -> None:
        self._group, self._rank, self._expected, self._token = group, rank, expected, token
        self._nonce = os.urandom(_NONCE)
        self.peer: int | None = None
        self.greeting = _CHALLENGE.pack(_MAGIC, _VERSION, self._nonce)
        self.wanted = _ANSWER.size

    def receive(self, message: bytes) -> bytes:
        """Take a message of `wanted` bytes and return the reply; raises `HandshakeError`."""
        magic, version, group, initiator, acceptor, nonce, code = _ANSWER.unpack(message)
        _check_version(magic, version)
        if group != self._group or acceptor != self._rank or initiator not in self._expected:
            raise HandshakeError(
                f"rank {initiator} of group {group.hex()} is not expected at rank {self._rank} of group {self._group.hex()}"
            )
        if not hmac.compare_digest(code, _code(self._token, b"initiator", group, initiator, acceptor, self._nonce, nonce)):
            raise HandshakeError("it does not know the token")
        self.peer, self.wanted = initiator, 0
        return _code(self._token, b"acceptor", group, initiator, acceptor, self._nonce, nonce)


class Initiator:
    """The end that dials `peer`; `wanted` is 0 as soon as the acceptor has proven itself."""

    def __init__(self, group: bytes, rank: int, peer: int, token: bytes) -> None:
        self._group, self._rank, self.peer, self._token = group, rank, peer, token
        self._nonce = os.urandom(_NONCE)
        self._expected = b""
        self.greeting = b""
        self.wanted = _CHALLENGE.size

    def receive(self, message: bytes) -> bytes:
        """Take a message of `wanted` bytes and return the reply; raises `HandshakeError`."""
        if self._expected:
            if not hmac.compare_digest(message, self._expected):
                raise HandshakeError("it does not know the token")
            self.wanted = 0
            return b""
        magic, version, challenge = _CHALLENGE.unpack(message)
        _check_version(magic, version)
        fields = self._group, self._rank, self.peer, challenge, self._nonce
        self._expected, self.wanted = _code(self._token, b"acceptor", *fields), _MAC
        return _ANSWER.pack(_MAGIC, _VERSION, *fields[:3], self._nonce, _code(self._token, b"initiator", *fields))


class Handshake:
    """A connection that is not a channel yet.

    Parameters
    ----------
    sock : socket
        Dialled or accepted; `close` closes it, unless the handshake has succeeded.
    role : Initiator or Acceptor
        Which end this is.
    tls : (SSLContext, SSLContext) or None
        For the side that accepts and the side that dials.
    silence : float
        Seconds without an acknowledgement after which the connection is lost.
    until : float
        Deadline, as a value of ``time.monotonic()``.
    """

    def __init__(self, sock: socket.socket, role: Initiator | Acceptor, tls: Tls | None, silence: float, until: float) -> None:
        self.sock, self.role, self.until = sock, role, until
        self.fd = sock.fileno()
        self._context = None if tls is None else tls[isinstance(role, Initiator)]
        self._connected = isinstance(role, Acceptor)
        self._secured = False
        self._out, self._in = bytearray(), bytearray()
        self.events = selectors.EVENT_READ | selectors.EVENT_WRITE
        tune(sock, silence)

    def advance(self) -> bool:
        """Continue without blocking; return whether it is done. Raises OSError or `HandshakeError` if it failed."""
        try:
            if not self._connected and not self._connect():
                return False
            if not self._secured:
                self._secure()
            return self._prove()
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            self.events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out and self._context is None else 0)
        except ssl.SSLWantWriteError:
            self.events = selectors.EVENT_WRITE
        return False

    def _connect(self) -> bool:
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        try:
            self.sock.getpeername()
        except OSError:
            self.events = selectors.EVENT_WRITE
            return False
        self._connected = True
        return True

    def _secure(self) -> None:
        if self._context is not None:
            if not isinstance(self.sock, ssl.SSLSocket):
                side = isinstance(self.role, Acceptor)
                self.sock = self._context.wrap_socket(self.sock, server_side=side, do_handshake_on_connect=False)
            self.sock.do_handshake()
        self._secured = True
        self._out += self.role.greeting

    def _prove(self) -> bool:
        while True:
            while self._out:
                del self._out[: self.sock.send(self._out)]
            if not self.role.wanted:
                return True
            data = self.sock.recv(self.role.wanted - len(self._in))
            if not data:
                raise HandshakeError("it closed the connection during the proof: it has another token, or is of another group")
            self._in += data
            if len(self._in) == self.role.wanted:
                message, self._in = bytes(self._in), bytearray()
                self._out += self.role.receive(message)

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()


def dial(address: tuple[str, int]) -> socket.socket:
    """A socket that is connecting; raises OSError if it cannot."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def listen(address: str) -> socket.socket:
    """A socket that listens at this address only, on a port that the kernel chooses."""
    family, kind, _, _, resolved = socket.getaddrinfo(address or "localhost", 0, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        sock.bind(resolved)
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock
