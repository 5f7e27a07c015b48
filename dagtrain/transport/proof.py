"""How two ends of a new connection prove to each other that they know the group's token, which itself never travels.

    host ── magic, version, nonce A ──────────────────────────────────▶ caller
    host ◀─ magic, version, group, ranks, nonce B, HMAC("caller", …) ─── caller
    host ── HMAC("host", …) ──────────────────────────────────────────▶ caller

The code covers both nonces, the group and both ranks; the words "caller" and "host" in it keep one end's proof from serving as the
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
_MAGIC, _VERSION = b"dgrank", 1
_CHALLENGE = struct.Struct(f"<6sH{_NONCE}s")
_ANSWER = struct.Struct(f"<6sH16sII{_NONCE}s{_MAC}s")


class Refused(Exception):  # noqa: N818  # a name that says what is the matter
    """The other end is not who it should be."""


def _code(token: bytes, role: bytes, group: bytes, caller: int, host: int, challenge: bytes, answer: bytes) -> bytes:
    return hmac.digest(token, b"dagtrain ranks\0" + role + b"\0" + group + struct.pack("<II", caller, host) + challenge + answer, "sha256")


def _check_version(magic: bytes, version: int) -> None:
    if magic != _MAGIC:
        raise Refused("it does not speak the protocol of ranks")
    if version != _VERSION:
        raise Refused(f"it speaks version {version} of the protocol of ranks, this one {_VERSION}: install the same dagtrain everywhere")


class AsHost:
    """The end that was called. `peer` is set, and `wanted` is 0, as soon as the caller is known."""

    def __init__(self, group: bytes, rank: int, expected: Collection[int], token: bytes) -> None:
        self._group, self._rank, self._expected, self._token = group, rank, expected, token
        self._nonce = os.urandom(_NONCE)
        self.peer: int | None = None
        self.greeting = _CHALLENGE.pack(_MAGIC, _VERSION, self._nonce)
        self.wanted = _ANSWER.size

    def receive(self, message: bytes) -> bytes:
        """Take a message of `wanted` bytes and return the reply; raises `Refused`."""
        magic, version, group, caller, host, nonce, code = _ANSWER.unpack(message)
        _check_version(magic, version)
        if group != self._group or host != self._rank or caller not in self._expected:
            raise Refused(f"rank {caller} of group {group.hex()} is not expected at rank {self._rank} of group {self._group.hex()}")
        if not hmac.compare_digest(code, _code(self._token, b"caller", group, caller, host, self._nonce, nonce)):
            raise Refused("it does not know the token")
        self.peer, self.wanted = caller, 0
        return _code(self._token, b"host", group, caller, host, self._nonce, nonce)


class AsCaller:
    """The end that called; it knows whom, and is content when `wanted` is 0."""

    def __init__(self, group: bytes, rank: int, peer: int, token: bytes) -> None:
        self._group, self._rank, self.peer, self._token = group, rank, peer, token
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
        about = self._group, self._rank, self.peer, challenge, self._nonce
        self._expected, self.wanted = _code(self._token, b"host", *about), _MAC
        return _ANSWER.pack(_MAGIC, _VERSION, *about[:3], self._nonce, _code(self._token, b"caller", *about))
