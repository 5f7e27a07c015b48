"""The sizes of a compiled step, and the stages of a shard's plan: what each reads and what is final after it; see `gradients`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dagtrain.engines.ranks.assignment import runs
from dagtrain.engines.ranks.placement import GroupShape, Placement, StepShape
from dagtrain.step.parts import StepParts

__all__ = ["BUCKET_BYTES", "Stage", "buckets_of", "shape_of", "stages_of"]

BUCKET_BYTES, _MOST = 1 << 18, 16
"""Minimum bytes of a bucket, except the last one, and maximum number of buckets: each costs one or two system calls."""


class Stage(NamedTuple):
    """A section of a shard's plan.

    Attributes
    ----------
    needs
        Number of parts of the parameters that must have arrived before it begins.
    yield_points
        Number of the plan's yield points to run through; the last stage runs to the end.
    written
        Parts of a contribution's gradient that are final after it; the rest of the contribution is after the last one.
    buckets
        Number of buckets that are final after it.
    last
        Whether it runs to the end of the plan, after which sums and states are final too.
    """

    needs: int
    yield_points: int
    written: tuple[slice, ...]
    buckets: int
    last: bool = False


def buckets_of(parts: StepParts, bucket_bytes: int = BUCKET_BYTES) -> tuple[tuple[int, ...], ...]:
    """The blocks of the parameter vector in buckets that become final together, in the order in which a shard's plan computes them.

    A bucket has at least `bucket_bytes` bytes. See `StepShape.buckets`.
    """
    layout, blocks = parts.layout, parts.update.blocks
    yield_points = parts.plans[max(parts.plans)].yield_points
    when = {output: i for i, (what, *outputs) in enumerate(yield_points) if what == "wrote" for output in outputs}
    arrays = [layout.slices[i] for i in layout.trained_arrays]
    final = [max((when[k] for k, a in enumerate(arrays) if a.start < block.stop and block.start < a.stop), default=0) for block in blocks]
    size = np.dtype(layout.dtype).itemsize
    least = max(bucket_bytes, layout.trained * size // _MOST)
    buckets: list[list[int]] = []
    nbytes = 0
    for i in sorted(range(len(blocks)), key=lambda i: (final[i], i)):
        if not buckets or (nbytes >= least and final[i] != final[buckets[-1][-1]]):
            buckets.append([])
            nbytes = 0
        buckets[-1].append(i)
        nbytes += (blocks[i].stop - blocks[i].start) * size
    return tuple(tuple(sorted(bucket)) for bucket in buckets)


def shape_of(parts: StepParts, shards: int, bucket_bytes: int = BUCKET_BYTES) -> StepShape:
    """The sizes of a compiled step that its placement depends on."""
    update = parts.update
    return StepShape(
        shards,
        tuple(b.stop - b.start for b in update.blocks),
        parts.statistics_layout.reduced,
        parts.sums,
        tuple(update.slots),
        update.norm_count,
        np.dtype(parts.layout.dtype).str,
        buckets_of(parts, bucket_bytes),
        parts.layout.size - parts.layout.trained,
        tuple(
            GroupShape(group.name, blocks, tuple(group.slots))
            for group, blocks in zip(update.groups, update.group_blocks, strict=True)
            if group.name
        ),
        parts.weight_count,
        tuple(update.squares_of),
        parts.statistics_layout.row,
    )


def stages_of(parts: StepParts, size: Any, placement: Placement) -> list[Stage]:
    """The stages of shards of this size (see `StepParts.size`), from the yield points of their plan."""
    layout = parts.layout
    gradients = [layout.slices[i] for i in layout.trained_arrays]
    parameters = len(layout.names)
    inputs = parameters + len(parts.statistics_layout.names)
    starts = placement.starts
    buckets = [[slice(starts[run.start], starts[run.stop]) for run in runs(bucket)] for bucket in placement.buckets]
    buckets_of_parameter = [
        [g for g, slices in enumerate(buckets) if any(leaf.start < s.stop and s.start < leaf.stop for s in slices)]
        for leaf in layout.slices
    ]
    for pair in parts.followed:  # what follows others is there when all parameters are
        buckets_of_parameter[layout.slices.index(pair.target)] = list(range(len(buckets)))
    buckets_of_gradient = [buckets_of_parameter[i] for i in layout.trained_arrays]
    unwritten = [sum(g in own for own in buckets_of_gradient) for g in range(len(buckets))]
    stages: list[Stage] = []
    needs = next_needs = yield_points = done = 0
    written: list[slice] = []

    def end() -> None:
        nonlocal needs, yield_points, written
        stages.append(Stage(needs, yield_points, tuple(written), done))
        needs, yield_points, written = next_needs, 0, []

    for what, *numbers in parts.plans[size].yield_points:
        yield_points += 1
        if what == "reads":
            # Parts arrive from the last bucket to the first, statistics with the first part; rows are always present.
            parts_read = max(
                len(buckets) - min(buckets_of_parameter[k], default=len(buckets)) if k < parameters else int(k < inputs) for k in numbers
            )
            if parts_read > next_needs:
                next_needs = parts_read
                end()
            continue
        for k in numbers:
            if k < len(gradients):  # statistics and sums come with the last part
                written.append(gradients[k])
                for bucket in buckets_of_gradient[k]:
                    unwritten[bucket] -= 1
        before = done
        while done < len(unwritten) and not unwritten[done]:
            done += 1
        if done > before:
            end()
    end()
    return [*stages[:-1], stages[-1]._replace(last=True)]
