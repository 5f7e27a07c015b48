"""`dagtrain plan-scale`: the expected time of a step on 2, 4, 8, … workers, and where more workers no longer pay."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dagtrain.errors import ArgumentError
from dagtrain.report.table import plural

__all__ = ["plan_scale", "report"]

DEFAULT_MESSAGE, DEFAULT_COPYING, DEFAULT_WITHIN = 15e-6, 2.2e9, 5e-6
"""Seconds of a rank for a message by socket, bytes a second it copies, seconds of a word by shared memory, by `benchmarks/channels.py`."""
DIGITS = (64, 128, 10)


def sizes_of(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """Parse the widths of a network's layers."""
    if text is None:
        return None
    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError:
        widths = ()
    if len(widths) < 2 or min(widths) < 1:
        raise ArgumentError(f"--layers are the widths from the input to the output, as in --layers 784,256,10; got {text!r}.")
    return widths


@click.command(
    "plan-scale",
    short_help="How far more workers would pay.",
    epilog="Example:  dagtrain plan-scale --layers 784,1280,1024,10 --batch-size 1024 --shards 64",
)
@click.argument("model", type=click.Choice(["digits"]), required=False)
@click.option("--layers", callback=sizes_of, help="Instead of a model by name: widths of a dense network, as in 784,256,10.")
@click.option("--parameters", type=click.IntRange(1), help="Instead of a model: its number of parameters; needs --compute.")
@click.option("--batch-size", type=click.IntRange(1), default=192, show_default=True, help="Samples of a step.")
@click.option("--shards", type=click.IntRange(1), help="Parts of a batch. [8, as `dagtrain train`; else by the batch size]")
@click.option("--compute", type=click.FloatRange(0), help="Milliseconds of one sample on one core, instead of a measurement.")
@click.option(
    "--gigabits", type=click.FloatRange(0, min_open=True), multiple=True, help="Network, in Gb/s; can be repeated. [1, 10 and 100]"
)
@click.option("--latency", type=click.FloatRange(0), default=30.0, show_default=True, help="Microseconds from host to host.")
@click.option("--channels", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="What benchmarks/channels.py --json wrote.")
@click.option("--per-host", type=click.IntRange(1), default=1, show_default=True, help="Workers that share a network card.")
@click.option("--jitter", type=click.FloatRange(0), help="Variation among workers: standard deviation of their compute, in percent.")
@click.option("--most", type=click.IntRange(2), default=1024, show_default=True, help="The most workers to look at.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def plan_scale(
    model: str | None,
    layers: tuple[int, ...] | None,
    parameters: int | None,
    batch_size: int,
    shards: int | None,
    compute: float | None,
    gigabits: tuple[float, ...],
    latency: float,
    channels: Path | None,
    per_host: int,
    jitter: float | None,
    most: int,
    as_json: bool,
) -> None:
    """Expect the time of a training step on 2, 4, 8, … workers, one thread each, and say where more of them no longer pay.

    The compute of a step is measured on this machine, the data that ranks exchange follows from the model, and the options describe the
    network. Nothing is sent anywhere.
    """
    from dagtrain.cli.digits import Settings
    from dagtrain.data.batches import auto_shards
    from dagtrain.scaling.model import STEP, Network, Work, scaling, slower_from, worth_until

    if sum(option is not None for option in (model, layers, parameters)) > 1:
        raise ArgumentError("MODEL, --layers and --parameters name the model in three ways: give one of them.")
    if shards is None:
        by_name = layers is None and parameters is None
        shards = min(Settings.shards, batch_size) if by_name else auto_shards(batch_size)
    if shards > batch_size:
        raise ArgumentError(f"{shards} shards are more than the {batch_size} samples of a batch: give fewer --shards.")
    if parameters is not None:
        if compute is None:
            raise ArgumentError("--parameters does not tell the cost of a sample: add --compute MILLISECONDS, or give --layers instead.")
        work = Work(parameters, batch_size, shards, compute / 1e3, add=2.5e-10, update=1.5e-9, step=STEP, jitter=0.03)
    else:
        work = _measured(layers or DIGITS, batch_size, shards)
        if compute is not None:
            work = work._replace(sample=compute / 1e3)
    if jitter is not None:
        work = work._replace(jitter=jitter / 100)
    message, copying, within = _costs(channels)
    networks = [Network(f"{g:g} Gb/s", g * 1e9 / 8, latency / 1e6, message, copying, within) for g in gigabits or (1.0, 10.0, 100.0)]
    counts = [1 << k for k in range(most.bit_length())]
    result: dict[str, Any] = {"work": work._asdict(), "networks": [n._asdict() for n in networks], "scaling": []}
    texts = [_about(work, per_host)]
    for weak in (False, True):
        curves = [scaling(work, network, counts, per_host, weak) for network in networks]
        texts.append(report(curves, [n.name for n in networks], weak))
        for network, curve in zip(networks, curves, strict=True):
            rows = [{**p._asdict(), "seconds": p.seconds, "efficiency": p.efficiency(curve[0])} for p in curve]
            ends = {"half_efficiency": worth_until(curve), "slower_from": slower_from(curve)}
            result["scaling"].append({"network": network.name, "weak": weak, **ends, "rows": rows})
    click.echo(json.dumps(result) if as_json else "\n\n".join(texts))


def report(curves: Sequence[Sequence[Any]], names: Sequence[str], weak: bool) -> str:
    """The table of the time of a step by workers and network, and a sentence about each network.

    Parameters
    ----------
    curves
        For each network a list of `Expected` for the same numbers of workers, the first for one worker.
    names
        Names of the networks.
    weak
        Whether the batch grows with the workers.
    """
    from dagtrain.scaling.model import slower_from, worth_until

    what = "batch grown with the workers" if weak else f"one batch of {curves[0][0].batch:,} samples on more workers"
    lines = [f"{'Weak' if weak else 'Strong'} scaling, {what}: milliseconds a step, and the used part of each worker", ""]
    lines.append("workers".rjust(8) + "compute".rjust(10) + "".join(name.rjust(20) for name in names))
    for row in zip(*curves, strict=True):
        one = row[0]
        cells = [
            f"{point.seconds * 1e3:,.2f}".rjust(12) + f"{point.efficiency(curve[0]):.0%}".rjust(8)
            for point, curve in zip(row, curves, strict=True)
        ]
        idle = f"   {one.workers - one.ranks} idle" if one.ranks < one.workers else ""
        lines.append(f"{one.workers:8,}{one.compute * 1e3:10,.2f}" + "".join(cells) + idle)
        if idle:  # from here on nothing changes
            break
    lines.append("")
    for name, curve in zip(names, curves, strict=True):
        worth, slower = worth_until(curve), slower_from(curve)
        most = curve[-1].workers
        words = (
            f"each worker is used to half or more up to {worth:,}" if worth < most else f"it pays up to {most:,} workers and perhaps beyond"
        )
        if slower is not None:
            words += f"; {slower:,} do {'fewer samples a second' if weak else 'a step more slowly'} than {slower // 2:,}"
        lines.append(f"{name}: {words}.")
    return "\n".join(lines)


def _about(work: Any, per_host: int) -> str:
    from dagtrain.draw.text import bytes_text
    from dagtrain.step.update import blocks_of

    owners, hosts = len(blocks_of(work.parameters, work.block)), f"{plural(per_host, 'worker')} a host"
    size, update = bytes_text(work.parameters * work.itemsize), work.update * work.parameters * 1e3
    lines = [
        f"{work.parameters:,} parameters ({size}), {work.batch:,} samples a step in {work.shards:,} shards, {hosts}.",
        f"A sample costs {work.sample * 1e6:,.3g} µs, the update of all parameters {update:,.3g} ms, on one core.",
        f"At most {work.shards:,} workers have work, one for each shard; at most {owners:,} of them update, one for each block.",
    ]
    return "\n".join(lines)


def _measured(layers: Sequence[int], batch: int, shards: int) -> Any:
    import numpy as np

    import dagtrain as dt
    from dagtrain.scaling.measure import measure_work

    hidden = [dt.nn.Dense(width, "relu") for width in layers[1:-1]]
    objective = dt.step.ModelObjective(dt.nn.Sequential([*hidden, dt.nn.Dense(layers[-1])]), "cross_entropy", [])
    columns = dt.data.Columns.of(dt.Spec((layers[0],), np.dtype("f4")), dt.Spec((), np.dtype("i8")))
    return measure_work(dt.step.Program(objective, dt.optim.adam(), columns, seed=0), batch, shards)


def _costs(file: Path | None) -> tuple[float, float, float]:
    """Seconds of a message by socket, bytes a second, seconds of a word by shared memory."""
    if file is None:
        return DEFAULT_MESSAGE, DEFAULT_COPYING, DEFAULT_WITHIN
    try:
        channels = json.loads(file.read_text())["channels"]
        return float(channels["socket"]["latency"]), float(channels["socket"]["bandwidth"]), float(channels["shared"]["latency"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError(f"{file} does not hold what benchmarks/channels.py --json writes: {type(error).__name__}: {error}.") from error
