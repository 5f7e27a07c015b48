"""Certificates for a cluster that encrypts: one authority, and one certificate for each role.

    ca.pem ── signs ──▶ scheduler.pem   scheduler-key.pem
                    ├─▶ worker.pem      worker-key.pem
                    └─▶ client.pem      client-key.pem

Dask's servers and clients accept only peers whose certificate this authority has signed. Dask compares no host names and knows no roles: a
worker's key opens everything that a client's key opens. The authority's own key is never written, so nothing else can be signed later; to
renew the certificates, make a new folder.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dagtrain.errors import ArgumentError, MissingDependencyError

__all__ = ["ROLES", "client_security", "command_lines", "expiry", "make_certificates", "security"]

ROLES = ("scheduler", "worker", "client")
AUTHORITY = "ca.pem"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
DAYS = 365
_EARLIER = timedelta(days=1)
"""A host whose clock is behind accepts new certificates too."""


def make_certificates(folder: str | Path, hosts: Sequence[str] = (), days: int = DAYS) -> list[Path]:
    """Make an authority and certificates for scheduler, workers and clients.

    Parameters
    ----------
    folder
        Where they are written; it may exist, but none of the files may.
    hosts
        Names and addresses of the cluster's hosts, stored in the certificates besides loopback.
    days
        Days from now on which the certificates are valid.

    Returns
    -------
    list of Path
        The files: certificates, and keys that only the user can read.

    Raises
    ------
    ArgumentError
        If a file exists, the folder cannot be written, or `days` is less than 1.
    MissingDependencyError
        Without the package cryptography.
    """
    folder = Path(folder)
    if days < 1:
        raise ArgumentError(f"days is at least 1; got {days}.")
    texts = _signed(hosts, days)
    paths = [folder / name for name in texts]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        present = [path.name for path in paths if path.exists()]
        if present:
            raise ArgumentError(f"{folder} already holds {', '.join(present)}: give an empty folder, or delete these files first.")
        for path in paths:
            mode = 0o600 if path.stem.endswith("-key") else 0o644
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(texts[path.name])
    except OSError as error:
        raise ArgumentError(f"certificates cannot be written to {folder}: {error.strerror or error}.") from error
    return paths


def _signed(hosts: Sequence[str], days: int) -> dict[str, bytes]:
    """File name → content of all files."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise MissingDependencyError.of("cryptography", "making certificates", "certs") from error

    now = datetime.now(UTC)
    names = [_alternative_name(host, x509) for host in dict.fromkeys((*LOOPBACK, *hosts))]

    def certificate(name: str, public_key: Any, issuer: Any, issuer_key: Any) -> Any:
        authority = name == "dagtrain-ca"
        usage = dict.fromkeys(["content_commitment", "key_encipherment", "data_encipherment", "encipher_only", "decipher_only"], False)
        signing = x509.KeyUsage(digital_signature=True, key_agreement=False, key_cert_sign=authority, crl_sign=authority, **usage)
        builder = (
            x509.CertificateBuilder(issuer, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
            .add_extension(signing, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        )
        if not authority:  # schedulers and workers both accept and open connections
            purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).add_extension(purposes, critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    def pem(signed: Any) -> bytes:
        return bytes(signed.public_bytes(serialization.Encoding.PEM))

    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dagtrain-ca")])
    texts = {AUTHORITY: pem(certificate("dagtrain-ca", key.public_key(), issuer, key))}
    for role in ROLES:
        role_key = ec.generate_private_key(ec.SECP256R1())
        texts[f"{role}.pem"] = pem(certificate(f"dagtrain-{role}", role_key.public_key(), issuer, key))
        texts[f"{role}-key.pem"] = role_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    return texts


def _alternative_name(host: str, x509: Any) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"hosts holds {host!r}, which is neither a name in ASCII nor an address.") from error


def security(folder: str | Path) -> Any:
    """Dask's settings for the certificates in a folder, with encryption required.

    Parameters
    ----------
    folder
        What `make_certificates` wrote. The files of roles that this process does not take may be absent.

    Returns
    -------
    distributed.Security
        For ``Client(address, security=…)`` and ``LocalCluster(security=…, protocol="tls")``.

    Raises
    ------
    ArgumentError
        If a file is absent, cannot be read, or is no certificate, or a key does not fit.
    """
    folder = Path(folder)
    roles = [role for role in ROLES if (folder / f"{role}.pem").exists()]
    if not roles or not (folder / AUTHORITY).exists():
        raise ArgumentError(f"{folder} holds no certificates ({AUTHORITY} and client.pem): make them with dagtrain certs {folder}.")
    files = {f"tls_{role}_{what}": str(folder / f"{role}{end}.pem") for role in roles for what, end in (("cert", ""), ("key", "-key"))}
    return _usable({"tls_ca_file": str(folder / AUTHORITY), **files}, roles, str(folder))


def client_security(authority: str | Path, certificate: str | Path, key: str | Path | None = None) -> Any:
    """Dask's settings for a client, from three files; the key may stand in the certificate's file. Raises as `security` does."""
    files = {"tls_ca_file": str(authority), "tls_client_cert": str(certificate), "tls_client_key": None if key is None else str(key)}
    return _usable(files, ["client"], str(certificate))


def _usable(files: dict[str, str | None], roles: Sequence[str], place: str) -> Any:
    from distributed import Security

    made = Security(require_encryption=True, **files)
    for role in roles:
        try:
            made.get_connection_args(role)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            reason = getattr(error, "reason", None) or error.args[-1]
            raise ArgumentError(f"the {role}'s certificate in {place} cannot be used: {reason}.") from error
    return made


def expiry(listen: ssl.SSLContext, connect: ssl.SSLContext) -> float:
    """When the certificate of a listening process expires, in seconds since 1970, after a handshake in memory.

    The handshake fails with an `ssl.SSLError` for the reasons for which it fails between processes: dates, authorities, keys.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [listen.wrap_bio(to_server, to_client, server_side=True), connect.wrap_bio(to_client, to_server)]
    for _ in range(4):  # flights of a handshake, at most
        for end in reversed(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = ends[1].getpeercert()
    if not certificate:
        raise ssl.SSLError("the other end showed no certificate")
    return float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))


def command_lines(folder: str | Path) -> list[str]:
    """The commands that start and use a cluster with the certificates in a folder."""
    folder = Path(folder)

    def options(role: str) -> str:
        return f"--tls-ca-file {folder / AUTHORITY} --tls-cert {folder / f'{role}.pem'} --tls-key {folder / f'{role}-key.pem'}"

    return [
        f"dask scheduler --protocol tls {options('scheduler')}",
        f"dask worker tls://SCHEDULER:8786 --protocol tls --nthreads 1 {options('worker')}",
        f"dagtrain train digits --scheduler tls://SCHEDULER:8786 --certs {folder}",
    ]
