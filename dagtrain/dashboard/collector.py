"""The figures of fits for Prometheus, by one collector in the default registry, whose content Dask serves at ``/metrics``.

The registry refuses two collectors of the same names. So this one is registered once a process, and reads the runs of the scheduler that
was set up last.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from dagtrain.dashboard.state import Runs
from dagtrain.report.records import KINDS

__all__ = ["COLLECTOR", "Collector"]


class Collector:
    """Reads the runs when Prometheus asks."""

    def __init__(self) -> None:
        self._runs: Runs | None = None

    def collect_from(self, runs: Runs) -> None:
        """Read these runs from now on."""
        if find_spec("prometheus_client") is not None:
            if self._runs is None:
                from prometheus_client import REGISTRY

                REGISTRY.register(self)
            self._runs = runs

    def describe(self) -> list[Any]:
        """Nothing: the registry need not collect to learn the names."""
        return []

    def collect(self) -> Iterator[Any]:
        """The families of metrics."""
        if self._runs is not None:
            yield from families(self._runs)


def families(runs: Runs) -> Iterator[Any]:
    """The metrics of all runs that are kept."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    def gauge(name: str, text: str, *labels: str) -> Any:
        return GaugeMetricFamily(f"dagtrain_{name}", text, labels=["run", *labels])

    running = gauge("running", "1 while the fit runs, then 0", "model", "engine")
    loss, step = gauge("loss", "Loss, as a mean over the last steps"), gauge("step", "Updates made")
    epoch, speed = gauge("epoch", "Epochs done"), gauge("samples_per_second", "Samples trained on in a second")
    workers = gauge("workers", "Workers with a part in the steps, by the last report")
    metric = gauge("epoch_quantity", "Loss and metrics of the last epoch", "quantity")
    seconds = gauge("step_seconds", "How a rank spends the seconds of a step", "rank", "worker", "kind")
    for run in runs:
        name = run.name
        if run.started is not None:
            running.add_metric([name, run.model, run.started.engine], float(run.ended is None))
            workers.add_metric([name], run.workers)
        if (last := run.last) is not None:
            for family, value in ((loss, last.loss), (step, last.step), (epoch, last.epoch), (speed, last.samples_per_second)):
                family.add_metric([name], value)
        if run.epochs:
            for quantity, value in run.epochs[next(reversed(run.epochs))].values.items():
                metric.add_metric([name, quantity], value)
        for times in run.times.values():
            for kind in KINDS:
                seconds.add_metric([name, str(times.rank), times.worker, kind], getattr(times, kind))
    events = CounterMetricFamily("dagtrain_events", "Events of all fits since the scheduler began", labels=["kind"])
    for kind, count in runs.events.items():
        events.add_metric([kind], count)
    yield from (running, loss, step, epoch, speed, workers, metric, seconds, events)


COLLECTOR = Collector()
