"""Memory: the limits of workers against those of their hosts and containers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from dagtrain.deploy.check import Check, Facts, Level, Place, Verdict, by_value, listed, of_workers
from dagtrain.deploy.hosts import host_key, on_hosts
from dagtrain.report.table import plural

__all__ = ["CHECKS"]

SMALL = 1 << 20


def size(number: float | None) -> str:
    """A number of bytes in words.

    Examples
    --------
    >>> size(3 << 30), size(64 << 20), size(0), size(None)
    ('3.0 GiB', '64 MiB', '0 MiB', 'none')
    """
    if number is None:
        return "none"
    return f"{number / (1 << 30):.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):.0f} MiB"


def cgroup(proc: Path = Path("/proc"), mounts: Path = Path("/sys/fs/cgroup")) -> tuple[str, int | None]:
    """The memory control group of this process, and its least limit or that of a group around it."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return "", None
    paths = {fields[1]: fields[2].lstrip("/") for fields in (line.split(":", 2) for line in lines)}
    root, name, file = (
        (mounts / "memory", paths["memory"], "memory.limit_in_bytes") if "memory" in paths else (mounts, paths.get("", ""), "memory.max")
    )
    limits = []
    for folder in (root / name, *(root / name).parents):
        if folder == root.parent:
            break
        try:
            limits.append(int((folder / file).read_text()))
        except (OSError, ValueError):  # "max", or a group that this container does not see
            continue
    least = min(limits, default=None)
    return name, None if least is None or least >= 1 << 60 else least


def memory(place: Place) -> dict[str, Any]:
    """A worker's limit, and what the system grants."""
    import psutil

    group, limit = cgroup()
    manager = place.server.memory_manager
    return {
        "host": host_key(),
        "limit": manager.memory_limit,
        "group": group,
        "group_limit": limit,
        "machine": psutil.virtual_memory().total,
        "nanny": place.server.nanny is not None,
        "trim": os.environ.get("MALLOC_TRIM_THRESHOLD_") if sys.platform == "linux" else "not of this system",
    }


def judge_limits(facts: Facts) -> Verdict:
    """Dask spills and pauses at fractions of the limit: it must be there, and the system must grant it."""
    workers = of_workers(facts)
    unlimited = [name for name, value in workers.items() if not value["limit"]]
    beyond = [
        f"{name} has {size(value['limit'])} of {size(granted)}"
        for name, value in workers.items()
        if value["limit"] and value["limit"] > (granted := min(value["machine"], value["group_limit"] or value["machine"]))
    ]
    if beyond:
        return Verdict(Level.FAILURE, f"more than the system grants: {listed(beyond)}")
    if unlimited:
        return Verdict(Level.WARNING, f"no limit on {listed(unlimited)}")
    return Verdict(Level.OK, by_value({name: size(value["limit"]) for name, value in workers.items()}) + " a worker")


def judge_sums(facts: Facts) -> Verdict:
    """The workers of one host, or of one container, share its memory."""
    workers = {name: {**value, "container": (value["host"], value["group"])} for name, value in of_workers(facts).items()}
    texts, beyond = [], []
    for key, available in (("host", "machine"), ("container", "group_limit")):
        for names, values in on_hosts(workers, key):
            limits = [value["limit"] or 0 for value in values]
            if values[0][available] is None:
                continue
            texts.append(f"{size(sum(limits))} of {size(values[0][available])}")
            if sum(limits) > values[0][available]:
                beyond.append(f"{plural(len(names), 'worker')} ({listed(names)}) may take {texts[-1]} of one {key}")
    return Verdict(Level.WARNING, listed(beyond)) if beyond else Verdict(Level.OK, listed(dict.fromkeys(texts)))


def judge_nannies(facts: Facts) -> Verdict:
    """A nanny restarts a worker that was killed or used too much memory, and ends one that has frozen."""
    alone = [name for name, value in of_workers(facts).items() if not value["nanny"]]
    return Verdict(Level.WARNING, f"none at {listed(alone)}") if alone else Verdict(Level.OK, "at every worker")


def judge_trimming(facts: Facts) -> Verdict:
    """Without it glibc keeps freed memory, and Dask counts that as the worker's."""
    without = [name for name, value in of_workers(facts).items() if value["trim"] is None]
    return Verdict(Level.WARNING, f"not set at {listed(without)}") if without else Verdict(Level.OK, "freed memory returns to the system")


def shared_memory(place: Place) -> dict[str, Any] | None:
    """Size and free bytes of /dev/shm, in this process's container."""
    if sys.platform != "linux":
        return None
    try:
        state = os.statvfs("/dev/shm")
    except FileNotFoundError:
        return {"size": 0, "free": 0}
    return {"size": state.f_blocks * state.f_frsize, "free": state.f_bavail * state.f_frsize}


def judge_shared_memory(facts: Facts) -> Verdict:
    """Ranks share anonymous memory, which is not in /dev/shm; locks of Python's processes and other libraries need a little of it."""
    full = [f"{name} {size(value['free'])} free of {size(value['size'])}" for name, value in facts.items() if value["free"] < SMALL]
    if full:
        return Verdict(Level.WARNING, listed(full))
    return Verdict(Level.OK, by_value({name: f"{size(value['size'])}, {size(value['free'])} free" for name, value in facts.items()}))


CHECKS = [
    Check(
        "memory", "limits", ("workers",), memory, judge_limits, "Give each worker --memory-limit below what its container or host grants."
    ),
    Check("memory", "limits together", ("workers",), memory, judge_sums, "Lower --memory-limit, or start fewer workers there."),
    Check("memory", "nannies", ("workers",), memory, judge_nannies, "Start workers without --no-nanny, unless a pod or job restarts them."),
    Check("memory", "trimming", ("workers",), memory, judge_trimming, "Set MALLOC_TRIM_THRESHOLD_=65536 for the workers, as a nanny does."),
    Check(
        "memory",
        "/dev/shm",
        ("client", "workers"),
        shared_memory,
        judge_shared_memory,
        "Enlarge it: shm_size in Docker, an emptyDir of medium Memory.",
    ),
]
