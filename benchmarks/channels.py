"""The cost of an exchange between ranks: round trips between two processes by shared memory, by socket and by socket with TLS.

    python benchmarks/channels.py [--seconds 1] [--json FILE]

    process 0:  post ──▶ wait ──▶ post ──▶ …       one round trip: a message, and one of the same size back
    process 1:  wait ──▶ post ──▶ wait ──▶ …

Shared memory copies nothing: only the reader's pass over the numbers grows with the size, and a rank makes this pass anyway when it adds
them. To make the kinds comparable, each receiver reads the whole message; the column *read* gives the time of this pass alone. Latency and
bandwidth are those of a line through the smallest and the largest message, one way, including the read.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import ssl
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from dagtrain.transport import Communicator, Phase, Routes, Span, Window

KINDS = ("shared", "socket", "socket+tls")
SIZES = (4 << 10, 1 << 20, 10 << 20)
BUSY = 0.5  # load average above which the machine counts as busy
GROUP, TOKEN = "0" * 32, b"benchmark"


def contexts(folder: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS contexts of the server and of the client, both with the same certificate."""
    both = []
    for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(protocol)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
        context.load_verify_locations(f"{folder}/cert.pem")
        both.append(context)
    return both[0], both[1]


def certificate(folder: str) -> None:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
    subprocess.run(["openssl", "req", "-x509", *curve, *files, "-days", "2", "-subj", "/CN=dagtrain"], check=True, capture_output=True)


def rank(number: int, kind: str, size: int, pipe: Any, folder: str) -> None:
    """One of the two processes."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    peer, elements = 1 - number, size // 4
    spans = {Phase.REDUCE_SCATTER: (Span("data", 0, elements),)}
    window = Window.create({"data": ("float32", elements)})
    tls = contexts(folder) if kind == "socket+tls" else None
    only = "shared" if kind == "shared" else "socket"
    with Communicator(GROUP, number, window, {peer: Routes(spans, spans)}, TOKEN, "127.0.0.1", tls=tls, only=only) as communicator:
        pipe.send(communicator.endpoint)
        communicator.connect({peer: pipe.recv()}, 30)
        communicator.spin = 50e-6  # connect() turned spinning off, as the affinity shows one core; but the peer has another one
        window["data"][:] = number
        (incoming,) = communicator.incoming(peer, Phase.REDUCE_SCATTER)
        peers, times, total = [peer], [], 0.0
        rounds = pipe.recv()
        for step in range(rounds):
            began = time.perf_counter()
            if number == 0:
                communicator.post(Phase.REDUCE_SCATTER, peers, 0, step)
            communicator.wait(Phase.REDUCE_SCATTER, peers, 0, step)
            total += float(np.add.reduce(incoming))
            if number == 1:
                communicator.post(Phase.REDUCE_SCATTER, peers, 0, step)
            times.append(time.perf_counter() - began)
        communicator.wait(Phase.REDUCE_SCATTER, [], 0, 0)
        assert total == peer * elements * rounds, "wrong numbers arrived"
        began = time.perf_counter()
        for _ in range(20):
            np.add.reduce(incoming)
        pipe.send((times, (time.perf_counter() - began) / 20))
        pipe.recv()
        del incoming
    window.close()


def measure(kind: str, size: int, seconds: float, folder: str) -> dict[str, Any]:
    """Median of the round trips in about `seconds` seconds."""
    start = multiprocessing.get_context("spawn")
    trip = seconds / 20
    for _ in range(2):  # the first turn sets the number of rounds of the second
        ends = [start.Pipe() for _ in range(2)]
        processes = [start.Process(target=rank, args=(i, kind, size, ends[i][1], folder)) for i in range(2)]
        for process in processes:
            process.start()
        try:
            endpoints = [near.recv() for near, _ in ends]
            for i in range(2):
                ends[i][0].send(endpoints[1 - i])
            rounds = max(20, min(20_000, int(seconds / trip)))
            for near, _ in ends:
                near.send(rounds)
            results = [near.recv() for near, _ in ends]
            for near, _ in ends:
                near.send(None)
        finally:
            for process in processes:
                process.join(5)
                if process.is_alive():
                    process.kill()
        trip = statistics.median(results[0][0][5:])
    return {"kind": kind, "bytes": size, "round_trip": trip, "read": results[0][1], "rounds": rounds}


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Latency in seconds and bandwidth in bytes a second, one way, of each kind."""
    channels = {}
    for kind in {row["kind"] for row in rows}:
        of_kind = sorted((row for row in rows if row["kind"] == kind), key=lambda row: row["bytes"])
        small, large = of_kind[0], of_kind[-1]
        slope = (large["round_trip"] - small["round_trip"]) / 2 / (large["bytes"] - small["bytes"])
        channels[kind] = {"latency": max(0.0, small["round_trip"] / 2 - slope * small["bytes"]), "bandwidth": 1 / slope}
    return channels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each kind and size")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file; - prints them alone")
    arguments = parser.parse_args()
    quiet = str(arguments.json) == "-"
    if not quiet and hasattr(os, "getloadavg") and os.getloadavg()[0] > BUSY:
        print(f"The machine is busy (load {os.getloadavg()[0]:.1f}): read the numbers with care.")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        kinds = [kind for kind in KINDS if kind != "socket+tls" or shutil.which("openssl")]
        if "socket+tls" in kinds:
            certificate(folder)
        if not quiet:
            print(f"{'kind':<12}{'bytes':>10}{'round trip, µs':>18}{'read, µs':>12}{'rounds':>9}")
        for kind in kinds:
            for size in SIZES:
                row = measure(kind, size, arguments.seconds, folder)
                rows.append(row)
                if not quiet:
                    print(f"{kind:<12}{size:>10}{row['round_trip'] * 1e6:>18.1f}{row['read'] * 1e6:>12.1f}{row['rounds']:>9}", flush=True)
    result = {"machine": platform.machine(), "cores": os.cpu_count(), "rows": rows, "channels": summary(rows)}
    if quiet:
        print(json.dumps(result))
        return
    for kind, line in sorted(result["channels"].items()):
        print(f"{kind}: latency {line['latency'] * 1e6:.1f} µs, {line['bandwidth'] / 1e9:.2f} GB/s one way")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
