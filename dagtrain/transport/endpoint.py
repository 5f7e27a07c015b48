"""How peers reach a rank: plain data, which the engine carries to all workers."""

from __future__ import annotations

from typing import Any, TypedDict, cast

from dagtrain.transport.errors import ChannelError
from dagtrain.transport.host import Host
from dagtrain.transport.shared_memory import Regions

__all__ = ["KINDS", "VERSION", "Endpoint", "checked", "common_kinds"]

VERSION = 1
KINDS = ("shared", "socket", "comm")
"""Kinds of channel, the better ones first."""


class Endpoint(TypedDict):
    """How peers reach a rank. Only dicts, sequences, str, int and bytes, so that msgpack can carry it."""

    version: int
    group: str
    rank: int
    host: Host
    pid: int
    window: int
    """File descriptor of the window in that process."""
    doorbell: int
    """File descriptor of the pipe that wakes the rank."""
    size: int
    regions: Regions
    address: tuple[str, int] | None
    """Where the rank accepts connections."""
    secure: int
    """Whether connections use TLS."""
    kinds: tuple[str, ...]


def checked(endpoint: Endpoint, group: str, rank: int) -> Endpoint:
    """The endpoint with tuples again (msgpack makes lists of them); raises `ChannelError` if it is not of this group and rank."""
    data = cast(dict[str, Any], endpoint)
    if data.get("version") != VERSION:
        raise ChannelError(
            f"the endpoint of rank {rank} is of version {data.get('version')}, not {VERSION}: install the same dagtrain on all workers"
        )
    if (data["group"], data["rank"]) != (group, rank):
        raise ChannelError(f"the endpoint of rank {rank} of group {group} is that of rank {data['rank']} of group {data['group']}")
    address = None if data["address"] is None else (str(data["address"][0]), int(data["address"][1]))
    regions = {str(name): (str(dtype), int(offset), int(elements)) for name, (dtype, offset, elements) in data["regions"].items()}
    return cast(Endpoint, {**data, "address": address, "regions": regions, "kinds": tuple(data["kinds"])})


def common_kinds(mine: Endpoint, theirs: Endpoint) -> list[str]:
    """Kinds of channel that both ranks support, the better ones first."""
    both = [kind for kind in KINDS if kind in mine["kinds"] and kind in theirs["kinds"]]
    if mine["host"] != theirs["host"] and "shared" in both:
        both.remove("shared")
    if (mine["secure"] != theirs["secure"] or theirs["address"] is None or mine["address"] is None) and "socket" in both:
        both.remove("socket")
    return both
