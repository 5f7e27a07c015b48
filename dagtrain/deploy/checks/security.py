"""Who can reach the cluster, and how long its certificates are valid."""

from __future__ import annotations

import ipaddress
import time
from typing import Any

from dagtrain.deploy.certificates import ROLES, expiry, security
from dagtrain.deploy.check import Check, Facts, Level, Place, Verdict, by_value, listed

__all__ = ["CHECKS"]

DAY = 86400.0
SOON = 14.0
"""Days before the end of a certificate from which there is a warning."""


def is_local(host: str) -> bool:
    """Whether only this machine reaches a bound address; an empty host is a process without ports."""
    try:
        return not host or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bound(place: Place) -> dict[str, Any]:
    """Where this process listens: for Dask's messages, and for pages of the dashboard."""
    from distributed.comm.addressing import get_address_host

    listeners = [str(listener.listen_address) for listener in place.server.listeners]
    messages = [
        {"protocol": address.partition("://")[0], "host": "" if address.startswith("inproc") else get_address_host(address)}
        for address in listeners
    ]
    sockets = getattr(getattr(place.server, "http_server", None), "_sockets", {})
    pages = [f"{host}:{port}" for host, port, *_ in (sock.getsockname() for sock in sockets.values())]
    encrypted = getattr(getattr(place.server, "http_server", None), "ssl_options", None) is not None
    return {"messages": messages, "pages": pages, "pages_encrypted": encrypted}


def is_protected(message: dict[str, Any]) -> bool:
    """Whether Dask's messages are encrypted at this address, or come from this machine alone."""
    return message["protocol"] in ("tls", "wss") or is_local(message["host"])


def judge_encryption(facts: Facts) -> Verdict:
    """Without TLS, whatever reaches the port runs code there."""
    kinds = {
        name: "within one process" if message["protocol"] == "inproc" else f"{message['protocol']}://, bound to {message['host']}"
        for name, value in facts.items()
        for message in value["messages"]
    }
    exposed = [
        f"{name} listens at {message['protocol']}://{message['host']}"
        for name, value in facts.items()
        for message in value["messages"]
        if not is_protected(message)
    ]
    if exposed:
        return Verdict(Level.WARNING, f"no TLS, and more than this machine can reach it: {listed(exposed)}")
    return Verdict(Level.OK, by_value(kinds))


def judge_pages(facts: Facts) -> Verdict:
    """The dashboard shows names, logs and addresses, and asks for no password: a gap where the scheduler's own port is protected."""
    scheduler = facts["scheduler"]
    pages = listed(scheduler["pages"]) or "no pages"
    exposed = [page for page in scheduler["pages"] if not is_local(page.rpartition(":")[0].strip("[]"))]
    if not exposed or scheduler["pages_encrypted"]:
        return Verdict(Level.OK, pages)
    if all(is_protected(message) for message in scheduler["messages"]):
        return Verdict(Level.WARNING, f"open at {listed(exposed)}, though the scheduler's own port is protected")
    return Verdict(Level.OK, f"{pages}, as open as the scheduler's own port")


def cluster_certificate(place: Place) -> float | None:
    """When the certificate of this process expires, after a handshake with itself; None without TLS."""
    role = "scheduler" if place.name == "scheduler" else "worker"
    listen = place.server.security.get_listen_args(role)["ssl_context"]
    connect = place.server.security.get_connection_args(role)["ssl_context"]
    return None if listen is None or connect is None else expiry(listen, connect)


def folder_certificates(place: Place) -> dict[str, Any] | None:
    """Role → expiry or error of the certificates of the option --certs: every role connects to every role whose files are there."""
    if place.certs is None:
        return None
    made = security(place.certs)
    roles = [role for role in ROLES if getattr(made, f"tls_{role}_cert")]
    results: dict[str, Any] = {}
    for listening in roles:
        for connecting in roles:
            try:
                contexts = made.get_listen_args(listening)["ssl_context"], made.get_connection_args(connecting)["ssl_context"]
                results[listening] = expiry(*contexts)
            except OSError as error:
                results[listening] = f"{connecting} and {listening}: {getattr(error, 'verify_message', None) or error}"
                break
    return results


def judge_dates(expiries: Facts) -> Verdict:
    """A handshake fails from the last day on."""
    errors = [str(value) for value in expiries.values() if isinstance(value, str)]
    if errors:
        return Verdict(Level.FAILURE, listed(errors))
    days = {name: (value - time.time()) / DAY for name, value in expiries.items()}
    first = min(days, key=lambda name: days[name])
    text = f"valid for {days[first]:.0f} days" if days[first] >= 0 else "expired"
    level = Level.FAILURE if days[first] < 0 else Level.WARNING if days[first] < SOON else Level.OK
    return Verdict(level, text if level is Level.OK else f"{text} ({first})")


def judge_folder(facts: Facts) -> Verdict:
    """The same for a folder of certificates."""
    return judge_dates(facts["client"])


CHECKS = [
    Check(
        "security",
        "encryption",
        ("scheduler", "workers"),
        bound,
        judge_encryption,
        "dagtrain certs makes certificates; or bind to loopback: --host 127.0.0.1.",
    ),
    Check(
        "security",
        "dashboard",
        ("scheduler",),
        bound,
        judge_pages,
        "Start the scheduler with --dashboard-address 127.0.0.1:8787 (LocalCluster: dashboard_address=…), and look through SSH.",
    ),
    Check(
        "security",
        "certificates",
        ("scheduler", "workers"),
        cluster_certificate,
        judge_dates,
        "Make new ones with dagtrain certs, and restart the cluster with them.",
    ),
    Check("security", "--certs", ("client",), folder_certificates, judge_folder, "Make new ones in another folder with dagtrain certs."),
]
