"""The hosts of a cluster's processes: which share a kernel, and so memory, cores and clocks."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["address_of", "host_key", "on_hosts"]


def host_key() -> str:
    """Equal in all processes of one machine, also in different containers."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip() if sys.platform == "linux" else platform.node()


def on_hosts(facts: Mapping[str, Any], key: str = "host") -> list[tuple[list[str], list[Any]]]:
    """For each distinct value of a key, the processes with it and their facts."""
    groups: dict[Any, list[str]] = {}
    for name, value in facts.items():
        groups.setdefault(value[key], []).append(name)
    return [(names, [facts[name] for name in names]) for names in groups.values()]


def address_of(address: str) -> tuple[str, str, int]:
    """Protocol, host and port of a process's address; a process without a port has an empty host.

    Examples
    --------
    >>> address_of("tls://10.0.0.1:8786")
    ('tls', '10.0.0.1', 8786)
    >>> address_of("tcp://[::1]:8786")
    ('tcp', '::1', 8786)
    >>> address_of("inproc://10.0.0.1/5/1")
    ('inproc', '', 0)
    """
    protocol, _, rest = address.rpartition("://")
    host, _, port = rest.rpartition(":")
    return (protocol or "tcp", host.strip("[]"), int(port)) if port.isdigit() and host else (protocol or "tcp", "", 0)
