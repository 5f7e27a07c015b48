"""One connection on its way from being dialled or taken to being proven, a step at a time: it never blocks.

    dialling ──▶ TLS handshake, if there is TLS ──▶ proof of the token ──▶ done

One that fails anywhere on its way is closed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl

from dagtrain.transport.proof import AsCaller, AsHost, Refused
from dagtrain.transport.sockets import tune

__all__ = ["Approach", "dial", "listen"]

Tls = tuple[ssl.SSLContext, ssl.SSLContext]
"""Contexts for the side that is called and for the side that calls."""


class Approach:
    """A connection that is not a link yet.

    Parameters
    ----------
    sock : socket
        Dialled or taken; closed by `close`, unless the approach comes to its end.
    role : AsCaller or AsHost
        Which end this is.
    until : float
        When `time.monotonic` says this, it has taken too long.
    """

    def __init__(self, sock: socket.socket, role: AsCaller | AsHost, tls: Tls | None, silence: float, until: float) -> None:
        self.sock, self.role, self.until = sock, role, until
        self.fd = sock.fileno()
        self._context = None if tls is None else tls[isinstance(role, AsCaller)]
        self._connected = isinstance(role, AsHost)
        self._secured = False
        self._out, self._in = bytearray(), bytearray()
        self.events = selectors.EVENT_READ | selectors.EVENT_WRITE
        tune(sock, silence)

    def advance(self) -> bool:
        """Go on as far as can be; return whether it is done. Raises OSError or `Refused` when it failed."""
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
                side = isinstance(self.role, AsHost)
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
                raise Refused("it closed the connection during the proof: it has another token, or is of another group")
            self._in += data
            if len(self._in) == self.role.wanted:
                message, self._in = bytes(self._in), bytearray()
                self._out += self.role.receive(message)

    def close(self) -> None:
        """Give up."""
        self.sock.close()


def dial(address: tuple[str, int]) -> socket.socket:
    """A socket that is about to be connected; raises OSError if that is hopeless."""
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
    """A socket that listens at this address and no other, on a port that the kernel chooses."""
    family, kind, _, _, where = socket.getaddrinfo(address or "localhost", 0, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        sock.bind(where)
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock
