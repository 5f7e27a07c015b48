"""The network between workers: every pair, both ways."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from dagtrain.deploy.check import Check, Facts, Level, Place, Verdict, by_value, listed, of_workers
from dagtrain.deploy.gather import present
from dagtrain.deploy.hosts import address_of, host_key, on_hosts
from dagtrain.report.table import plural

__all__ = ["CHECKS"]

SLOW, NARROW, MEASURING = 10.0, 10.0, 8.0
"""Milliseconds of a message, and MB a second, from which a step between hosts is mostly waiting; seconds for measurements."""


def judge_answers(facts: Facts) -> Verdict:
    """Processes without an answer are no facts, but errors of this check."""
    return Verdict(Level.OK, plural(len(of_workers(facts)), "worker") + (", the scheduler" if "scheduler" in facts else ""))


async def pairs(place: Place) -> dict[str, dict[str, Any]]:
    """From this worker to every other: seconds of a message, bytes a second, and whether a new port of this worker can be reached.

    Dask's own message ``echo`` is measured. As a rank does, the worker listens on a port that the kernel chooses, and the peer connects.
    """
    from distributed.protocol.pickle import dumps

    payload, tries, wait, together = b"\0" * (1 << 19), 4, 3.0, asyncio.Semaphore(16)

    async def dial(host: str, port: int, wait: float) -> bool:
        import asyncio  # sent to a process that may not have this module

        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), wait)
        writer.close()
        return True

    async def port_open(peer: str) -> bool | None:
        host = address_of(place.name)[1]
        if not host:
            return None
        reached = asyncio.Event()

        def accept(_: Any, writer: Any) -> None:
            reached.set()
            writer.close()

        listener = await asyncio.start_server(accept, host, 0)
        try:
            port = listener.sockets[0].getsockname()[1]
            asked = place.server.rpc(peer).run(function=dumps(dial), args=dumps((host, port, wait)))
            with contextlib.suppress(Exception):  # that it did not reach the port shows here
                await asyncio.wait_for(asked, wait + 1)
                await asyncio.wait_for(reached.wait(), 1)
            return reached.is_set()
        finally:
            listener.close()

    async def fastest(peer: str, data: bytes) -> float:
        times = []
        for _ in range(tries):
            began = time.perf_counter()
            await asyncio.wait_for(place.server.rpc(peer).echo(data=data), wait)
            times.append(time.perf_counter() - began)
        return min(times)

    async def reach(peer: str) -> dict[str, Any]:
        async with together:
            try:
                await asyncio.wait_for(place.server.rpc(peer).echo(data=b""), wait)
            except Exception as error:
                return {"error": f"no answer within {wait:g} s" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"}
            return {"port": await port_open(peer)}

    mine = place.workers.index(place.name)  # no two workers begin with the same peer
    peers = place.workers[mine + 1 :] + place.workers[:mine]
    results = dict(zip(peers, await asyncio.gather(*map(reach, peers)), strict=True))
    until = time.perf_counter() + MEASURING
    for peer, result in results.items():
        if "error" in result or time.perf_counter() > until:
            continue
        try:
            result["seconds"] = await fastest(peer, b"") / 2
            result["rate"] = 2 * len(payload) / await fastest(peer, payload)
        except TimeoutError:
            result["error"] = f"a message of {len(payload) >> 10} kB took more than {wait:g} s"
    return results


def routes(facts: Facts, key: str) -> dict[tuple[str, str], Any]:
    """(from, to) → value, where it was measured."""
    return {(name, peer): v[key] for name, to in of_workers(facts).items() for peer, v in to.items() if v.get(key) is not None}


def arrow(pair: tuple[str, str]) -> str:
    return f"{pair[0]} → {pair[1]}"


def judge_reach(facts: Facts) -> Verdict:
    """Ranks exchange data directly."""
    errors = routes(facts, "error")
    if errors:
        return Verdict(Level.FAILURE, listed(f"{arrow(pair)}: {error}" for pair, error in errors.items()))
    return Verdict(Level.OK, f"all {sum(map(len, of_workers(facts).values()))} directions between workers")


def judge_ports(facts: Facts) -> Verdict:
    """Without open ports ranks fall back to Dask's connections, which are slower."""
    states = routes(facts, "port")
    closed = [arrow((peer, name)) for (name, peer), state in states.items() if not state]
    if closed:
        return Verdict(Level.WARNING, f"a new port cannot be reached: {listed(closed)}")
    return Verdict(
        Level.OK, f"new ports are reached in all {len(states)} directions" if states else "no ports between workers of one process"
    )


def judge_measured(facts: Facts, key: str, scale: float, words: str, worst: Callable[..., Any], limit: float) -> Verdict:
    """Every step waits for several messages and moves the whole gradient: the slowest pair delays it. `worst` is max or min.

    Ranks on one host send nothing, and figures between these show only how busy it is.
    """
    values = {pair: scale * value for pair, value in routes(facts, key).items()}
    if not values:
        return Verdict(Level.OK, "no pair was measured")
    text = words.format(min(values.values()), max(values.values()))
    beyond = [pair for pair, value in values.items() if worst(value, limit) != limit and len({address_of(name)[1] for name in pair}) > 1]
    if beyond:
        return Verdict(Level.WARNING, f"{text}; worst {arrow(worst(beyond, key=lambda pair: values[pair]))}")
    return Verdict(Level.OK, text)


judge_latency = partial(judge_measured, key="seconds", scale=1e3, words="{:.2g} to {:.2g} ms, by Dask's messages", worst=max, limit=SLOW)
judge_bandwidth = partial(
    judge_measured, key="rate", scale=1e-6, words="{:,.0f} to {:,.0f} MB/s, by Dask's messages of 0.5 MB", worst=min, limit=NARROW
)


def sharing(place: Place) -> dict[str, Any] | None:
    """What decides whether ranks on one host share memory, as `dagtrain.transport` decides it."""
    try:
        from dagtrain.transport.host import can_share_memory, host
    except ImportError:  # the check "dagtrain" names this process
        return None

    return {"host": host_key(), "place": str(sorted(host().items())), "able": can_share_memory()}


def judge_sharing(facts: Facts) -> Verdict:
    """Ranks in one place share memory; those of one host in different containers, or of different users, send through sockets."""
    apart, shared = [], 0
    for names, values in on_hosts(of_workers(facts)):
        unable = [name for name, value in zip(names, values, strict=True) if not value["able"]]
        if len(names) > 1 and (unable or len({value["place"] for value in values}) > 1):
            apart.append(listed(unable or names))
        elif len(names) > 1:
            shared += len(names)
    if apart:
        return Verdict(Level.WARNING, f"on one host, but without shared memory: {listed(apart)}")
    return Verdict(Level.OK, f"{shared} workers share memory with others of their host" if shared else "no two workers on one host")


def interface(place: Place) -> dict[str, Any]:
    """The address at which this worker is reached, and its network interface."""
    import ipaddress

    import psutil

    host = address_of(place.name)[1]
    names = [name for name, addresses in psutil.net_if_addrs().items() if any(a.address.partition("%")[0] == host for a in addresses)]
    try:
        loopback = not host or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return {"host": host_key(), "interface": listed(names) or "within one process", "loopback": loopback}


def judge_interface(facts: Facts) -> Verdict:
    """A loopback address means another machine on every host."""
    workers = of_workers(facts)
    if len({value["host"] for value in workers.values()}) > 1 and any(value["loopback"] for value in workers.values()):
        return Verdict(Level.FAILURE, f"other hosts do not reach {listed(n for n, v in workers.items() if v['loopback'])}")
    interfaces = {name: value["interface"] for name, value in workers.items()}
    return Verdict(Level.OK, by_value(interfaces) if interfaces else "no workers")


def health(place: Place) -> dict[str, Any] | None:
    """The answer of the scheduler's page /health to the scheduler's host, as probes of containers ask for it."""
    import http.client

    server = getattr(place.server, "http_server", None)
    sockets = list(getattr(server, "_sockets", {}).values())
    if not sockets or getattr(server, "ssl_options", None) is not None:
        return None
    host, port, *_ = sockets[0].getsockname()
    connection = http.client.HTTPConnection({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port, timeout=3)
    try:
        connection.request("GET", "/health")
        return {"port": port, "status": connection.getresponse().status, "error": ""}
    except (OSError, http.client.HTTPException) as error:
        return {"port": port, "status": 0, "error": f"{type(error).__name__}: {error}"}
    finally:
        connection.close()


def judge_health(facts: Facts) -> Verdict:
    """Whatever restarts a scheduler that hangs looks at this page."""
    answer = facts["scheduler"]
    text = f"/health on port {answer['port']}: {answer['error'] or answer['status']}"
    return Verdict(Level.OK if answer["status"] == 200 else Level.WARNING, text)


CHECKS = [
    Check(
        "network",
        "answers",
        ("scheduler", "workers"),
        present,
        judge_answers,
        "Look at that process's log; end and restart it. The same Python everywhere is needed for this check.",
    ),
    Check("network", "every pair", ("workers",), pairs, judge_reach, "Open the ports between these hosts, or give --interface.", 20.0),
    Check(
        "network",
        "new ports",
        ("workers",),
        pairs,
        judge_ports,
        "Open all TCP ports between workers, or use LanesEngine(channel='comm').",
        20.0,
    ),
    Check(
        "network",
        "latency",
        ("workers",),
        pairs,
        judge_latency,
        "Put the workers into one zone or rack; see dagtrain plan-scale.",
        20.0,
    ),
    Check(
        "network",
        "bandwidth",
        ("workers",),
        pairs,
        judge_bandwidth,
        "Choose the fast network by --interface; see dagtrain plan-scale.",
        20.0,
    ),
    Check(
        "network",
        "shared memory",
        ("workers",),
        sharing,
        judge_sharing,
        "Run the workers of a host as one user in one container (PID and network).",
    ),
    Check(
        "network",
        "interface",
        ("workers",),
        interface,
        judge_interface,
        "Start scheduler and workers with --interface or --host of the hosts' network.",
    ),
    Check(
        "network",
        "health page",
        ("scheduler",),
        health,
        judge_health,
        "Look at the scheduler's log; end and restart it.",
    ),
]
