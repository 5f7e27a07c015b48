"""How two ends of a new connection prove to each other that they know the gang's token, which itself never travels.

    host ── magic, version, nonce A ──────────────────────────────────▶ caller
    host ◀─ magic, version, gang, lanes, nonce B, HMAC("caller", …) ─── caller
    host ── HMAC("host", …) ──────────────────────────────────────────▶ caller

The code covers both nonces, the gang and both lanes; the words "caller" and "host" in it keep one end's proof from serving as the
other's. No I/O here: bytes come in, bytes go out. Without TLS this keeps strangers out, not those who can change packets on their way.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Collection

__all__ = ["AsCaller", "AsHost", "Refused"]

_NONCE = 32
_MAC = 32
_MAGIC, _VERSION = b"dglane", 1
_CHALLENGE = struct.Struct(f"<6sH{_NONCE}s")
_ANSWER = struct.Struct(f"<6sH16sII{_NONCE}s{_MAC}s")


class Refused(Exception):  # noqa: N818  # a name that says what is the matter
    """The other end is not who it should be."""


def _code(token: bytes, role: bytes, gang: bytes, caller: int, host: int, challenge: bytes, answer: bytes) -> bytes:
    return hmac.digest(token, b"dagtrain lanes\0" + role + b"\0" + gang + struct.pack("<II", caller, host) + challenge + answer, "sha256")


def _check_version(magic: bytes, version: int) -> None:
    if magic != _MAGIC:
        raise Refused("it does not speak the protocol of lanes")
    if version != _VERSION:
        raise Refused(f"it speaks version {version} of the protocol of lanes, this one {_VERSION}: install the same dagtrain everywhere")


class AsHost:
    """The end that was called. `peer` is set, and `wanted` is 0, as soon as the caller is known."""

    def __init__(self, gang: bytes, lane: int, expected: Collection[int], token: bytes) -> None:
        self._gang, self._lane, self._expected, self._token = gang, lane, expected, token
        self._nonce = os.urandom(_NONCE)
        self.peer: int | None = None
        self.greeting = _CHALLENGE.pack(_MAGIC, _VERSION, self._nonce)
        self.wanted = _ANSWER.size

    def receive(self, message: bytes) -> bytes:
        """Take a message of `wanted` bytes and return the reply; raises `Refused`."""
        magic, version, gang, caller, host, nonce, code = _ANSWER.unpack(message)
        _check_version(magic, version)
        if gang != self._gang or host != self._lane or caller not in self._expected:
            raise Refused(f"lane {caller} of gang {gang.hex()} is not expected at lane {self._lane} of gang {self._gang.hex()}")
        if not hmac.compare_digest(code, _code(self._token, b"caller", gang, caller, host, self._nonce, nonce)):
            raise Refused("it does not know the token")
        self.peer, self.wanted = caller, 0
        return _code(self._token, b"host", gang, caller, host, self._nonce, nonce)


class AsCaller:
    """The end that called; it knows whom, and is content when `wanted` is 0."""

    def __init__(self, gang: bytes, lane: int, peer: int, token: bytes) -> None:
        self._gang, self._lane, self.peer, self._token = gang, lane, peer, token
        self._nonce = os.urandom(_NONCE)
        self._expected = b""
        self.greeting = b""
        self.wanted = _CHALLENGE.size

    def receive(self, message: bytes) -> bytes:
        """Take a message of `wanted` bytes and return the reply; raises `Refused`."""
        if self._expected:
            if not hmac.compare_digest(message, self._expected):
                raise Refused("it does not know the token")
            self.wanted = 0
            return b""
        magic, version, challenge = _CHALLENGE.unpack(message)
        _check_version(magic, version)
        about = self._gang, self._lane, self.peer, challenge, self._nonce
        self._expected, self.wanted = _code(self._token, b"host", *about), _MAC
        return _ANSWER.pack(_MAGIC, _VERSION, *about[:3], self._nonce, _code(self._token, b"caller", *about))
