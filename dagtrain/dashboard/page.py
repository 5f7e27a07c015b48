"""The page ``/dagtrain``: curves, times by rank, events and pictures of a run, by Bokeh.

A page reads the runs twice a second and sends what has changed to the browser. Texts of users are escaped or drawn on a canvas, and a
picture is the source of an ``<img>``, in which no script runs.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, CustomJS, DataTable, Div, FactorRange, Select, TableColumn
from bokeh.palettes import Category10_10
from bokeh.plotting import figure
from distributed.dashboard.components import add_periodic_callback
from distributed.dashboard.components.scheduler import BOKEH_THEME, env
from distributed.dashboard.utils import update as send

from dagtrain.dashboard.state import Run, Runs, runs_of
from dagtrain.report.records import KINDS

__all__ = ["Page", "show"]

WIDE: dict[str, Any] = {"sizing_mode": "stretch_width"}
MILLISECONDS = 500
"""Between two looks at the runs."""
COLOURS = {"compute": "#4c9f70", "exchange": "#e0a030", "wait": "#b0b7bf"}
NO_CURVES = ("seconds", "samples_per_second")
"""Quantities of an epoch that are no metrics."""
SAFE_SVG = re.compile(r"\s*(<\?xml[^>]*>\s*)?<svg[\s>]")
RELOAD = """
    const again = async () => {
        try {
            if ((await fetch(location.href, {cache: "no-store"})).ok) { location.reload(); return }
        } catch (error) {}
        setTimeout(again, 2000)
    }
    again()
"""
"""After the connection is lost, as when the scheduler is started again: ask until the page is there, and load it."""


def show(scheduler: Any, extra: Mapping[str, Any], doc: Any) -> None:
    """Fill a document for a browser that opens the page; Dask calls it."""
    page = Page(runs_of(scheduler))
    page.update()
    add_periodic_callback(doc, page, MILLISECONDS)
    doc.add_root(page.root)
    doc.title = "Dask: dagtrain"
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
    doc.theme = BOKEH_THEME
    doc.js_on_event("connection_lost", CustomJS(code=RELOAD))


class Page:
    """The models of one open page."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._shown: tuple[Any, ...] = ()
        self._drawn: dict[str, Any] = {}
        self.choice = Select(title="Run", value="", options=[("", "the newest")], width=320)
        self.choice.on_change("value", lambda name, old, new: self.update())
        self.summary = Div(text="", name="dagtrain-summary", disable_math=True, **WIDE)
        self.curve = ColumnDataSource({"step": [], "loss": [], "speed": []}, name="dagtrain-curve")
        self.losses = ColumnDataSource({"steps": [], "values": [], "name": [], "colour": []})
        self.metrics = ColumnDataSource({"steps": [], "values": [], "name": [], "colour": []}, name="dagtrain-metrics")
        self.times = ColumnDataSource({"rank": [], **{kind: [] for kind in KINDS}}, name="dagtrain-times")
        self.events = ColumnDataSource({"seconds": [], "step": [], "kind": [], "workers": [], "text": []}, name="dagtrain-events")
        loss = plot("Loss", "updates")
        loss.line("step", "loss", source=self.curve, color="#2f6fb0", legend_label="steps")
        lines(loss, self.losses)
        metrics = plot("Metrics of epochs", "updates")
        lines(metrics, self.metrics)
        metrics.legend.location = "bottom_right"
        speed = plot("Samples a second", "updates")
        speed.line("step", "speed", source=self.curve, color="#2f6fb0")
        speed.y_range.start = 0
        self.ranks = FactorRange(factors=[])
        times = plot("Milliseconds of a step, by rank", "ms", y_range=self.ranks)
        times.hbar_stack(list(KINDS), y="rank", height=0.8, color=[COLOURS[k] for k in KINDS], source=self.times, legend_label=list(KINDS))
        times.x_range.start = 0
        times.legend[0].update(orientation="horizontal", padding=0, margin=2, border_line_color=None)
        times.add_layout(times.legend[0], "above")  # the longest bar reaches every corner
        for each in (loss, metrics):
            each.legend.background_fill_alpha = 0.6
        columns = [TableColumn(field=name, title=name, width=width) for name, width in WIDTHS.items()]
        table = DataTable(source=self.events, columns=columns, index_position=None, reorderable=False, height=160, **WIDE)
        self.pictures = {name: Div(text="", name=f"dagtrain-{name}", disable_math=True, **WIDE) for name in PICTURES}
        self.root = column(
            row(self.choice, self.summary, **WIDE),
            row(loss, metrics, **WIDE),
            row(speed, times, **WIDE),
            table,
            *self.pictures.values(),
            name="dagtrain",
            **WIDE,
        )

    def update(self) -> None:
        """Show what has changed."""
        self._runs.look()
        options = [("", "the newest"), *((run.name, f"{run.number}: {run.model}") for run in reversed(list(self._runs)))]
        if options != self.choice.options:
            self.choice.options = options
        run = self._runs.get(self.choice.value)
        now = (None,) if run is None else (run.name, run.changes)
        if now == self._shown:
            return
        self._shown = now
        self.summary.text = summary(run)
        if run is not None:
            self._show(run)

    def _show(self, run: Run) -> None:
        points = run.points
        send(
            self.curve,
            {"step": [p.step for p in points], "loss": [p.loss for p in points], "speed": [p.samples_per_second for p in points]},
        )
        names = list(dict.fromkeys(name for epoch in run.epochs.values() for name in epoch.values))
        of_loss = [name for name in names if name in ("loss", "val_loss")]
        send(self.losses, by_name(run, of_loss))
        send(self.metrics, by_name(run, [name for name in names if name not in (*of_loss, *NO_CURVES)]))
        times = [run.times[rank] for rank in sorted(run.times, reverse=True)]
        labels = [f"{each.rank} · {each.worker.partition('://')[2] or each.worker}" for each in times]
        if labels != self.ranks.factors:
            self.ranks.factors = labels
        send(self.times, {"rank": labels, **{kind: [getattr(each, kind) * 1e3 for each in times] for kind in KINDS}})
        events = list(reversed(run.events))
        send(
            self.events,
            {
                "seconds": [f"{e.seconds:.1f}" for e in events],
                "step": [e.step for e in events],
                "kind": [e.kind for e in events],
                "workers": [", ".join(e.workers) for e in events],
                "text": [e.text for e in events],
            },
        )
        for name, title in PICTURES.items():
            picture = run.pictures.get(name)
            if (run.name, picture) != self._drawn.get(name):
                self._drawn[name] = run.name, picture
                self.pictures[name].text = "" if picture is None else image(title, picture.svg, picture.why_not)


WIDTHS = {"seconds": 70, "step": 70, "kind": 110, "workers": 240, "text": 700}
PICTURES = {"placement": "Placement", "graph": "Computational graph, coloured by time"}


def plot(title: str, label: str, **options: Any) -> Any:
    """An empty figure."""
    return figure(title=title, x_axis_label=label, height=280, tools="pan,xwheel_zoom,reset,hover", **WIDE, **options)


def lines(target: Any, source: ColumnDataSource) -> None:
    """A line for each name, with a legend."""
    target.multi_line("steps", "values", source=source, color="colour", line_width=2, legend_field="name")


def by_name(run: Run, names: Sequence[str]) -> dict[str, list[Any]]:
    """The values of these quantities over the epochs that have them."""
    epochs = [run.epochs[step] for step in sorted(run.epochs)]
    having = {name: [epoch for epoch in epochs if name in epoch.values] for name in names}
    return {
        "steps": [[epoch.step for epoch in of_name] for of_name in having.values()],
        "values": [[epoch.values[name] for epoch in of_name] for name, of_name in having.items()],
        "name": list(having),
        "colour": [Category10_10[(i + 1) % 10] for i in range(len(having))],
    }


def summary(run: Run | None) -> str:
    """The run in a line, as HTML."""
    if run is None or run.started is None:
        return "No fit yet. Those that begin on this cluster from now on show here."
    started, last = run.started, run.last
    samples = count(started.samples, "sample") if started.samples else "a stream of batches"
    parts = [
        f"<b>{escape(started.model)}</b>: {started.parameters:,} parameters, {samples}",
        f"engine {escape(started.engine)} on {count(run.workers, 'worker')}, {count(started.shards, 'shard')}",
    ]
    if last is not None:
        parts.append(f"epoch {min(last.epoch + 1, started.epochs):,} of {started.epochs:,}, {last.step:,} updates")
        parts.append(f"loss {last.loss:.5g}, {last.samples_per_second:,.0f} samples/s")
    parts.append("running" if run.ended is None else escape(run.ended.how))
    if run.ended is not None and run.ended.fingerprint:
        parts.append(f"fingerprint {escape(run.ended.fingerprint[:16])}")
    return " · ".join(parts)


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def image(title: str, svg: str, why_not: str = "") -> str:
    """A picture as HTML; as an image, in which the browser runs nothing and loads nothing."""
    if not SAFE_SVG.match(svg):
        return f"<h3>{escape(title)}</h3>{escape(why_not)}"
    data = base64.b64encode(svg.encode()).decode()
    return f'<h3>{escape(title)}</h3><img alt="{escape(title)}" style="max-width:100%" src="data:image/svg+xml;base64,{data}">'
