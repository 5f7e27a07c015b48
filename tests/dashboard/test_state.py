"""What the scheduler knows of fits, without a scheduler."""

from __future__ import annotations

import doctest
import math
from typing import Any

import pytest

from dagtrain.report.records import Drawn, Ended, EpochEnd, Event, Progress, Record, Started, StepTimes, decode, encode

STARTED = Started("Net", "lanes", 2, 4, 1000, 70, 0, 0, 3, 10)
RECORDS: list[Record] = [
    STARTED,
    Progress(5, 0, 2.0, 900.0, 1.0),
    StepTimes("tcp://a", 0, 5, 0.3, 0.1, 0.2),
    EpochEnd(1, 10, {"loss": 1.5, "accuracy": math.nan}),
    Event("repeated", "worker tcp://b was lost", 7, ("tcp://b",), 0.5),
    Drawn("placement", "<svg></svg>"),
    Ended("finished", "ab12"),
]


@pytest.fixture
def state(dashboard: Any) -> Any:
    return dashboard.state


def test_examples_of_the_docstrings(state: Any) -> None:
    assert doctest.testmod(state) == (0, 1)


def test_records_travel_as_plain_lists() -> None:
    from distributed.protocol import dumps, loads

    assert repr(decode(loads(dumps(encode(RECORDS))))) == repr(RECORDS)


def test_a_run_holds_what_its_records_say(state: Any) -> None:
    runs = state.Runs()
    runs.take("a", "client", RECORDS)
    run = runs.get("a")
    assert (run.number, run.model, run.last.loss, run.ended.fingerprint) == (1, "Net", 2.0, "ab12")
    assert run.epochs[10].values["loss"] == 1.5
    assert [event.workers for event in run.events] == [("tcp://b",)]
    assert run.pictures["placement"].svg == "<svg></svg>"
    assert run.times == {}, "after a repetition the ranks are others"


def test_a_scheduler_that_runs_for_years_keeps_a_bounded_part(state: Any) -> None:
    runs = state.Runs()
    for i in range(3 * state.RUNS):
        runs.take(f"run {i}", "client", [STARTED])
    assert [run.number for run in runs] == list(range(2 * state.RUNS + 1, 3 * state.RUNS + 1))
    last = runs.get("")
    for i in range(4 * state.POINTS):
        last.take(Progress(i, 0, 0.0, 0.0, 0.0))
        last.take(EpochEnd(i, i, {f"q{k}": 0.0 for k in range(100)}))
        last.take(Event("stop", "x" * 10_000, i))
        last.take(StepTimes("w", i, i, 0.0, 0.0, 0.0))
        last.take(Drawn(f"picture {i}", "<svg></svg>"))
    assert len(last.points) <= state.POINTS
    assert (last.points[0].step, last.last.step) == (0, 4 * state.POINTS - 1), "a thinned curve keeps its ends"
    assert len(last.epochs) <= state.POINTS
    assert all(len(epoch.values) <= state.QUANTITIES for epoch in last.epochs.values())
    assert len(last.events) <= state.EVENTS
    assert len(last.events[0].text) <= state.LONGEST
    assert len(last.times) <= state.RANKS
    assert last.pictures == {}


def test_runs_that_are_over_are_dropped_first(state: Any) -> None:
    runs = state.Runs()
    runs.take("long", "client", [STARTED])
    for i in range(2 * state.RUNS):
        runs.take(f"run {i}", "client", [STARTED, Ended("finished", "")])
    assert [run.number for run in runs] == [1, *range(state.RUNS + 3, 2 * state.RUNS + 2)]


def test_workers_are_those_of_the_last_report_unless_it_is_cut(state: Any) -> None:
    run = state.Run("a", "client", 1)
    run.take(STARTED._replace(workers=100))
    assert run.workers == 100, "no report yet"
    run.take(StepTimes("w", 0, 5, 0.3, 0.1, 0.2))
    assert run.workers == 1
    for rank in range(100):
        run.take(StepTimes("w", rank, 5, 0.3, 0.1, 0.2))
    assert (len(run.times), run.workers) == (state.RANKS, 100)


def test_the_newest_run_is_shown_unless_another_is_chosen(state: Any) -> None:
    runs = state.Runs()
    assert runs.get("") is None
    runs.take("a", "client", [STARTED])
    runs.take("b", "client", [STARTED])
    assert [runs.get(name).name for name in ("", "a", "forgotten")] == ["b", "a", "b"]


def test_a_fit_learns_whether_somebody_looks(state: Any) -> None:
    now = 0.0
    runs = state.Runs(lambda: now)
    assert not runs.take("a", "client", [STARTED])
    runs.look()
    assert runs.take("a", "client", [])
    now = state.WATCHED + 1
    assert not runs.take("a", "client", [])


def test_the_run_of_a_killed_process_is_over(state: Any) -> None:
    runs = state.Runs()
    runs.take("a", "one", [STARTED])
    runs.take("b", "other", [STARTED])
    runs.left("one")
    assert [run.ended is None for run in runs] == [False, True]


def test_a_run_goes_on_when_its_client_connects_again(state: Any) -> None:
    runs = state.Runs()
    runs.take("a", "client", [STARTED])
    runs.left("client")
    runs.take("a", "client", [Progress(5, 0, 2.0, 900.0, 1.0)])
    assert runs.get("a").ended is None
    runs.take("a", "client", [Ended("finished", "ab12")])
    runs.left("client")
    assert runs.get("a").ended.how == "finished"


def test_metrics_have_names_of_their_own_and_escaped_labels(dashboard: Any) -> None:
    prometheus_client = pytest.importorskip("prometheus_client")
    collector, registry = dashboard.collector.Collector(), prometheus_client.CollectorRegistry()
    runs = dashboard.state.Runs()
    runs.take("a", "client", [STARTED._replace(model='a "model"\n'), *RECORDS[1:2], *RECORDS[3:5], RECORDS[2]])
    collector._runs = runs
    registry.register(collector)
    text = prometheus_client.generate_latest(registry).decode()
    for line in (
        r'dagtrain_running{engine="lanes",model="a \"model\"\n",run="a"} 1.0',
        'dagtrain_loss{run="a"} 2.0',
        'dagtrain_step{run="a"} 5.0',
        'dagtrain_samples_per_second{run="a"} 900.0',
        'dagtrain_workers{run="a"} 1.0',
        'dagtrain_epoch_quantity{quantity="loss",run="a"} 1.5',
        'dagtrain_step_seconds{kind="wait",rank="0",run="a",worker="tcp://a"} 0.2',
        'dagtrain_events_total{kind="repeated"} 1.0',
    ):
        assert line in text.splitlines()


def test_schedulers_of_one_process_share_one_collector(dashboard: Any) -> None:
    pytest.importorskip("prometheus_client")
    collector = dashboard.collector.COLLECTOR
    first, second = dashboard.state.Runs(), dashboard.state.Runs()
    for i, runs in enumerate((first, second)):
        runs.take("a", "client", [STARTED, Progress(i, 0, 1.0, 1.0, 1.0)])
        collector.collect_from(runs)
    steps = [sample.value for family in collector.collect() if family.name == "dagtrain_step" for sample in family.samples]
    assert steps == [1.0]


def test_texts_of_users_are_escaped(dashboard: Any) -> None:
    pytest.importorskip("bokeh")
    from dagtrain.dashboard import page

    hostile = "<script>alert(1)</script>"
    runs = dashboard.state.Runs()
    runs.take("a", "client", [STARTED._replace(model=hostile, engine=hostile), Ended(hostile, hostile)])
    assert "<script" not in page.summary(runs.get("a"))
    assert "<script" not in page.image("graph", f"<svg onload='alert(1)'>{hostile}</svg>")
    assert "<script" not in page.image("graph", hostile, hostile)
