"""Every judgement on planted facts: of a healthy cluster, and of one in which one thing is broken."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from dagtrain.deploy.check import Check, Level
from dagtrain.deploy.checks import CHECKS
from dagtrain.deploy.checks.versions import NEEDED, OTHERS
from dagtrain.deploy.doctor import exit_code, judged, report
from dagtrain.deploy.gather import job_of

from ..each import each

A, B = "tcp://10.0.0.1:5", "tcp://10.0.0.2:5"
DAY = 86400
GIB = 1 << 30
WARNING, FAILURE = Level.WARNING, Level.FAILURE

PACKAGES = dict.fromkeys((*NEEDED, *OTHERS), "1") | {"python": "3.11.2.final.0", "lz4": None}
SOFTWARE = dict.fromkeys(["blas", "functions", "kernel", "machine", "numpy", "dagtrain"], "x")
MEMORY = {"host": "a", "limit": 2 * GIB, "group": "/a", "group_limit": 4 * GIB, "machine": 8 * GIB, "nanny": True, "trim": "65536"}
LIFE = {"lifetime": None, "restart": False, "death": 60.0, "job": None}
BOUND = {"messages": [{"protocol": "tls", "host": "0.0.0.0"}], "pages": ["127.0.0.1:8787"], "pages_encrypted": False}
DIRECTION = {"port": True, "seconds": 1e-3, "rate": 1e8}
THREADS = {"host": "a", "threads": 2, "blas": 1, "cores": 2}


def on_both(value: Any, **second: Any) -> dict[str, Any]:
    """Facts of two workers on two hosts."""
    return {A: value, B: {**value, **({"host": "b"} if "host" in value else {}), **second}}


HEALTHY: dict[str, dict[str, Any]] = {
    "versions.versions": {"client": dict.fromkeys(("client", "scheduler", A, B), PACKAGES)},
    "versions.dagtrain_here": dict.fromkeys(["client", "scheduler", A, B], "1"),
    "bits.software_here": {"client": SOFTWARE, **on_both(SOFTWARE)},
    "bits.threads": on_both(THREADS),
    "memory.memory": on_both(MEMORY),
    "memory.shared_memory": {"client": {"size": GIB, "free": GIB}, **on_both({"size": GIB, "free": GIB})},
    "gather.present": {"scheduler": True, A: True, B: True},
    "network.pairs": {A: {B: DIRECTION}, B: {A: DIRECTION}},
    "network.sharing": on_both({"host": "a", "place": "p", "able": True}),
    "network.interface": on_both({"host": "a", "interface": "eth0", "loopback": False}),
    "network.health": {"scheduler": {"port": 8787, "status": 200, "error": ""}},
    "life.life": on_both(LIFE),
    "life.timeouts": {"scheduler": {"worker-ttl": 300.0, "no-workers": None, "idle": None}},
    "life.adaptive": {"client": {"minimum": 1, "maximum": "4"}},
    "security.bound": {"scheduler": BOUND, **on_both(BOUND)},
    "security.cluster_certificate": {"scheduler": time.time() + 100 * DAY, A: time.time() + 100 * DAY},
    "security.folder_certificates": {"client": dict.fromkeys(["scheduler", "worker", "client"], time.time() + 100 * DAY)},
    "tools.pictures": {"client": ["dot"]},
    "tools.packages": {"scheduler": {"bokeh": True, "prometheus_client": True}, **on_both({"bokeh": True, "prometheus_client": True})},
    "tools.checkpoint": {"client": {"folder": "/runs", "seconds": 0.01}},
    "tools.clocks": {"client": {"scheduler": [-0.1, 0.2], A: [0.0, 0.1]}},
    "tools.descriptors": {name: {"limit": 4096, "workers": 2} for name in ("client", "scheduler", A, B)},
}

Change = Callable[[dict[str, Any]], Any]


def put(*path: str, value: Any) -> Change:
    """A change of one fact."""

    def change(facts: dict[str, Any]) -> None:
        for key in path[:-1]:
            facts = facts[key]
        facts[path[-1]] = value

    return change


BROKEN: list[tuple[str, Change, Level, str]] = [
    ("Python", put("client", A, "python", value="3.12.1.final.0"), FAILURE, f"3.11.2 (client, scheduler, {B}); 3.12.1 ({A})"),
    ("Python", put("client", A, "python", value="3.11.4.final.0"), WARNING, "3.11.4"),
    ("dagtrain", put(A, value=""), FAILURE, f"not installed on {A}"),
    ("dagtrain", put("scheduler", value="2"), FAILURE, "2 (scheduler)"),
    ("packages", put("client", A, "numpy", value="2"), FAILURE, f"numpy 1 (client, scheduler, {B}); 2 ({A})"),
    ("messages", put("client", A, "msgpack", value="2"), WARNING, "msgpack 1"),
    ("messages", put("client", A, "lz4", value="4"), WARNING, "lz4 absent (client"),
    ("software", put(B, "blas", value="openblas Zen"), WARNING, f"different bits: blas: x (client, {A}); openblas Zen ({B})"),
    ("cores", put(A, "threads", value=3), WARNING, f"3 threads of 1 worker on 2 cores ({A})"),
    ("BLAS threads", put(A, "blas", value=8), WARNING, "up to 16 BLAS threads on 2 cores"),
    ("limits", put(A, "limit", value=None), WARNING, f"no limit on {A}"),
    ("limits", put(A, "limit", value=6 * GIB), FAILURE, f"{A} has 6.0 GiB of 4.0 GiB"),
    ("limits", put(A, "group_limit", value=GIB), FAILURE, f"{A} has 2.0 GiB of 1.0 GiB"),
    ("limits together", put(A, "limit", value=9 * GIB), WARNING, "may take 9.0 GiB of 8.0 GiB of one host"),
    (
        "limits together",
        lambda facts: facts.update(w1=MEMORY, w2=MEMORY),
        WARNING,
        "may take 6.0 GiB of 4.0 GiB of one container",
    ),
    ("nannies", put(B, "nanny", value=False), WARNING, f"none at {B}"),
    ("trimming", put(B, "trim", value=None), WARNING, f"not set at {B}"),
    ("/dev/shm", put(A, "free", value=0), WARNING, f"{A} 0 MiB free of 1.0 GiB"),
    ("every pair", put(A, B, value={"error": "no answer within 3 s"}), FAILURE, f"{A} → {B}: no answer within 3 s"),
    ("new ports", put(A, B, value={**DIRECTION, "port": False}), WARNING, f"cannot be reached: {B} → {A}"),
    ("latency", put(B, A, value={**DIRECTION, "seconds": 0.05}), WARNING, f"1 to 50 ms, by Dask's messages; worst {B} → {A}"),
    ("bandwidth", put(B, A, value={**DIRECTION, "rate": 1e6}), WARNING, f"1 to 100 MB/s, by Dask's messages of 0.5 MB; worst {B} → {A}"),
    ("shared memory", put(B, value={"host": "a", "place": "q", "able": True}), WARNING, f"without shared memory: {A}, {B}"),
    ("shared memory", lambda facts: facts.update({A: {"host": "b", "place": "p", "able": False}}), WARNING, f"without shared memory: {A}"),
    ("interface", put(B, "loopback", value=True), FAILURE, f"other hosts do not reach {B}"),
    ("health page", put("scheduler", value={"port": 8787, "status": 0, "error": "refused"}), WARNING, "/health on port 8787: refused"),
    ("lifetime", put(A, "lifetime", value=60.0), WARNING, f"60 s ({A}); none ({B})"),
    ("lifetime", lambda facts: [facts[name].update(lifetime=3600.0) for name in (A, B)], WARNING, "60 min: all leave at the same time"),
    ("death-timeout", put(A, "death", value=5.0), WARNING, f"5 s ({A})"),
    ("batch job", put(A, "job", value=120.0), WARNING, f"jobs end soon: {A} in 120 s"),
    ("worker-ttl", put("scheduler", "worker-ttl", value=None), WARNING, "stays listed"),
    ("worker-ttl", put("scheduler", "worker-ttl", value=10.0), WARNING, "10 s"),
    ("no-workers-timeout", put("scheduler", "no-workers", value=5.0), WARNING, "5 s"),
    ("idle-timeout", put("scheduler", "idle", value=60.0), WARNING, "60 s"),
    ("adaptive", put("client", "minimum", value=0), WARNING, "0 to 4 workers"),
    ("encryption", put(A, "messages", value=[{"protocol": "tcp", "host": "10.0.0.1"}]), WARNING, f"{A} listens at tcp://10.0.0.1"),
    ("dashboard", put("scheduler", "pages", value=["0.0.0.0:8787"]), WARNING, "open at 0.0.0.0:8787, though"),
    ("certificates", put(A, value=time.time() + 5 * DAY), WARNING, f"valid for 5 days ({A})"),
    ("certificates", put(A, value=time.time() - DAY), FAILURE, f"expired ({A})"),
    ("--certs", put("client", "worker", value="client and worker: self-signed certificate"), FAILURE, "client and worker: self-signed"),
    ("pictures", put("client", value=[]), WARNING, "neither dot nor pygraphviz"),
    ("pages", put(B, "prometheus_client", value=False), WARNING, f"/metrics is empty on {B}"),
    ("checkpoint", put("client", "seconds", value=2.0), WARNING, "/runs can be written; fsync takes 2e+03 ms"),
    ("clocks", put("client", A, value=[59.9, 60.1]), WARNING, f"{A} by 60 s"),
    ("clocks", put("client", A, value=[-60.1, -59.9]), WARNING, f"{A} by 60 s"),
    ("file descriptors", put(A, "limit", value=256), WARNING, "256"),
    ("file descriptors", put("scheduler", value={"limit": 1024, "workers": 200}), FAILURE, "too few for this many workers: scheduler 1024"),
]


def outcomes(facts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Facts by job and process as they are gathered: by process and job."""
    result: dict[str, dict[str, Any]] = {}
    for check in CHECKS:
        for process, value in facts[short(check)].items():
            result.setdefault(process, {})[job_of(check)] = True, value
    return result


def short(check: Check) -> str:
    return ".".join(job_of(check).split(".")[-2:])


def test_a_healthy_cluster_has_one_good_line_for_each_check() -> None:
    lines = judged(CHECKS, outcomes(HEALTHY))
    assert [(line.group, line.name) for line in lines] == [(check.group, check.name) for check in CHECKS]
    assert [line for line in lines if line.level or line.cure] == []
    assert exit_code(lines) == 0


@each(BROKEN)
def test_one_broken_thing_gives_its_line_its_cure_and_its_exit_code(name: str, change: Change, level: Level, words: str) -> None:
    facts = json.loads(json.dumps(HEALTHY))
    check = next(check for check in CHECKS if check.name == name)
    change(facts[short(check)])
    [line] = judged([check], outcomes(facts))
    assert words in line.seen
    assert (line.level, line.cure) == (level, check.cure)
    assert exit_code(judged(CHECKS, outcomes(facts))) >= level
    assert f"{'!✗'[level - 1]} {name}  {line.seen}\n" in report([line])
    assert f"→ {check.cure}\n" in report([line])


def test_every_check_is_broken_once() -> None:
    assert {check.name for check in CHECKS} - {name for name, *_ in BROKEN} == {"answers"}  # its failures are errors, not facts


def test_checks_without_facts_have_no_line() -> None:
    assert judged(CHECKS, {"client": {}}) == []


def test_errors_of_a_gather_are_failures_that_name_the_process() -> None:
    check = next(check for check in CHECKS if check.name == "answers")
    [line] = judged([check], {A: {job_of(check): (False, "no answer within 5 s")}, B: {job_of(check): (True, True)}})
    assert (line.level, line.seen, line.cure) == (FAILURE, f"{A}: no answer within 5 s", check.cure)


def test_an_error_of_a_judgement_is_a_failure_that_names_it() -> None:
    check = next(check for check in CHECKS if check.name == "lifetime")
    [line] = judged([check], {A: {job_of(check): (True, {})}})
    assert (line.level, line.seen) == (FAILURE, "the facts could not be judged: KeyError: 'lifetime'")


NOTES: list[tuple[str, Change, str]] = [
    (
        "latency",
        lambda facts: facts.update({A: {A + "1": {**DIRECTION, "seconds": 0.05}}}),  # on one host
        "1 to 50 ms, by Dask's messages",
    ),
    ("pages", lambda facts: [v.update(prometheus_client=False) for v in facts.values()], "no /metrics: prometheus_client is not installed"),
    ("pages", put("scheduler", "bokeh", value=False), "no dashboard: the scheduler has no bokeh"),
    (
        "dashboard",
        put("scheduler", value={**BOUND, "messages": [{"protocol": "tcp", "host": "0.0.0.0"}], "pages": ["0.0.0.0:8787"]}),
        "0.0.0.0:8787, as open as the scheduler's own port",
    ),
]


@each(NOTES)
def test_what_need_not_change_is_a_note(name: str, change: Change, words: str) -> None:
    facts = json.loads(json.dumps(HEALTHY))
    check = next(check for check in CHECKS if check.name == name)
    change(facts[short(check)])
    verdict = check.judge(facts[short(check)])
    assert verdict.level is Level.OK
    assert words in verdict.seen


def test_workers_of_one_place_share_memory() -> None:
    check = next(check for check in CHECKS if check.name == "shared memory")
    facts = {name: {"host": host, "place": host, "able": True} for name, host in ((A, "a"), (B, "a"), ("third", "b"))}
    assert check.judge(facts) == (Level.OK, "2 workers share memory with others of their host")
