"""The arithmetic of scaling against cases computed by hand, and against placements."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dagtrain as dt
from dagtrain.engines.ranks.placement import StepShape, WorkerInfo, place
from dagtrain.errors import ArgumentError
from dagtrain.scaling.measure import measure_work
from dagtrain.scaling.model import Network, Work, expect, grown, scaling, slower_from, worth_until
from dagtrain.step.update import blocks_of
from dagtrain.transport import Phase

IDEAL = Network("ideal", math.inf)
PLAIN = Work(parameters=4096, batch=64, shards=64, sample=1e-3, slots=0, sums=0, block=1)


def test_without_communication_cost_efficiency_is_1() -> None:
    for point in scaling(PLAIN, IDEAL, [1, 2, 4, 8, 16, 32, 64]):
        assert point.seconds == pytest.approx(64e-3 / point.workers)
        assert point.efficiency(expect(PLAIN, IDEAL, 1)) == pytest.approx(1)


@pytest.mark.parametrize("workers", [2, 4, 8, 64])
def test_bandwidth_alone(workers: int) -> None:
    # Each host sends and receives all but its own part of the vector, once as partial sums and once as parameters.
    step = expect(PLAIN, Network("", 1e6), workers)
    assert step.partial == step.parameters == pytest.approx(4 * 4096 * (1 - 1 / workers) / 1e6)


def test_latency_alone_is_paid_twice_a_step() -> None:
    step = expect(PLAIN, Network("", math.inf, latency=1e-3), 8)
    assert step.partial + step.parameters == pytest.approx(2e-3)


def test_messages_alone_grow_with_the_workers() -> None:
    # Every rank sends to all others and receives from all others, twice.
    for workers in (2, 8, 64):
        step = expect(PLAIN, Network("", math.inf, message=1e-5), workers)
        assert step.partial + step.parameters == pytest.approx(4 * (workers - 1) * 1e-5)


def test_a_single_owner_is_the_bottleneck() -> None:
    alone, shared = PLAIN._replace(block=4096), PLAIN
    slow = Network("", 1e6)
    assert expect(alone, slow, 8).partial == pytest.approx(7 * 4 * 4096 / 1e6)
    assert expect(alone, slow, 8).partial == pytest.approx(8 * expect(shared, slow, 8).partial)


def test_weights_of_several_losses_cost_another_round() -> None:
    net = Network("", math.inf, latency=1e-3)
    assert expect(PLAIN._replace(weights=2), net, 4).seconds - expect(PLAIN, net, 4).seconds == pytest.approx(1e-3)


def test_norms_cost_another_round() -> None:
    net = Network("", math.inf, latency=1e-3)
    assert expect(PLAIN._replace(norms=2), net, 4).seconds - expect(PLAIN, net, 4).seconds == pytest.approx(2e-3)


def test_workers_of_one_host_share_memory_and_its_card() -> None:
    net = Network("", 1e6, within=1e-6)
    assert expect(PLAIN, net, 4, per_host=4).partial == pytest.approx(1e-6)
    two_hosts = expect(PLAIN, net, 4, per_host=2)
    assert two_hosts.partial == pytest.approx(2 * 4 * 2048 / 1e6 + 1e-6)  # two ranks, each half of the vector to the other host


def test_more_workers_than_shards_are_idle() -> None:
    eight, more = (expect(PLAIN._replace(shards=8), IDEAL, n) for n in (8, 100))
    assert (more.ranks, more.seconds) == (8, eight.seconds)


def test_uneven_shards_are_waited_for() -> None:
    assert expect(PLAIN._replace(shards=8), IDEAL, 3).compute == pytest.approx(3 * 8e-3)


def test_jitter_grows_slowly_with_the_workers() -> None:
    work = PLAIN._replace(jitter=0.1)
    waits = [grown_point.waiting / grown_point.compute for grown_point in scaling(work, IDEAL, [1, 2, 1024], weak=True)]
    assert waits[0] == 0
    assert waits[1] == pytest.approx(0.1 * 0.5642, rel=0.06)  # the larger of two normal numbers, on average
    assert waits[2] == pytest.approx(0.1 * 3.2, rel=0.05)  # of 1,024


def test_the_end_of_a_segment_is_shared_by_its_steps() -> None:
    step = expect(PLAIN._replace(slots=2), Network("", 1e6), 2)
    rest = step.seconds - step.ending
    assert step.ending == pytest.approx(2 * step.parameters * rest / 0.5)


def test_weak_scaling_keeps_the_compute_of_each_worker() -> None:
    work = PLAIN._replace(batch=8, shards=8)
    assert grown(work, 4).batch == 32
    assert [p.compute for p in scaling(work, IDEAL, [1, 4, 16], weak=True)] == pytest.approx([8e-3] * 3)


def test_communication_during_compute_is_hidden() -> None:
    # 32 ms of compute on each of two hosts, 8.192 ms of network for each exchange; the last half of each is not hidden.
    work = PLAIN._replace(gives=((0.5, 0.5), (0.5, 1.0)), takes=((0.5, 0.5), (0.5, 0.5)))
    step = expect(work, Network("", 1e6), 2)
    assert step.partial == step.parameters == pytest.approx(4096e-6)
    late = expect(work._replace(gives=((0.9, 0.9), (0.1, 1.0))), Network("", 1e6), 2)
    assert late.partial == pytest.approx(0.9 * 32e-3 + 8192e-6 - 32e-3)
    assert expect(work, Network("", 1e6, copying=2e6), 2).partial == pytest.approx(8192e-6), "a rank's own thread copies"
    assert expect(work, Network("", 1e6), 2, per_host=2).partial == 0


def test_segments_are_longer_where_their_end_takes_long() -> None:
    work = PLAIN._replace(slots=100)
    step = expect(work, Network("", 1e6), 2)
    end = 100 * 4 * 2048 / 1e6
    assert step.ending == pytest.approx(end * (step.seconds - step.ending) / 10)  # not as long as 20 times its end
    quick = expect(work._replace(slots=10), Network("", 1e6), 2)
    assert quick.ending == pytest.approx(0.05 * (quick.seconds - quick.ending))


def test_where_more_workers_no_longer_pay() -> None:
    # 64 ms of compute shared by n, and n - 1 messages of 1 ms in and out, twice: 64/n + 4 (n - 1).
    curve = scaling(PLAIN, Network("", math.inf, message=1e-3), [1, 2, 4, 8, 16])
    assert [p.seconds * 1e3 for p in curve] == pytest.approx([64, 36, 28, 36, 64])
    assert worth_until(curve) == 4
    assert slower_from(curve) == 8
    assert slower_from(scaling(PLAIN, IDEAL, [1, 2, 4])) is None


@given(st.integers(1, 12), st.integers(1, 24), st.integers(1, 9), st.integers(1, 4))
def test_bytes_are_those_of_the_placement(workers: int, shards: int, blocks: int, per_host: int) -> None:
    work = Work(blocks * 8, batch=shards, shards=shards, sample=0.0, slots=0, sums=5, block=8)
    shape = StepShape(shards, tuple(b.stop - b.start for b in blocks_of(blocks * 8, 8)), sums=5)
    placement = place(shape, [WorkerInfo(f"w{i:02}", f"h{i // per_host:02}") for i in range(workers)])
    hosts = [rank.host for rank in placement.ranks]
    for phase, name in ((Phase.REDUCE_SCATTER, "partial"), (Phase.ALL_GATHER, "parameters")):
        sent, taken = dict.fromkeys(hosts, 0), dict.fromkeys(hosts, 0)
        for edge in placement.edges():
            if edge.phase is phase and hosts[edge.source] != hosts[edge.target]:
                sent[hosts[edge.source]] += edge.nbytes
                taken[hosts[edge.target]] += edge.nbytes
        assert getattr(expect(work, Network("", 1.0), workers, per_host), name) == max(*sent.values(), *taken.values())


def test_ranks_of_one_host_copy_no_parameters() -> None:
    work = PLAIN._replace(add=1e-9)
    apart, together = (expect(work, IDEAL, 4, per_host) for per_host in (1, 4))
    assert apart.update - together.update == pytest.approx(1e-9 * (work.parameters - work.parameters / 4))


def test_invalid_numbers_are_refused() -> None:
    with pytest.raises(ArgumentError, match="1 or more"):
        expect(PLAIN, IDEAL, 0)
    with pytest.raises(ArgumentError, match="cannot be cut into 64 shards"):
        expect(PLAIN._replace(batch=10), IDEAL, 1)


def test_costs_are_measured_on_a_program() -> None:
    model = dt.nn.Sequential([dt.nn.Dense(8, "relu"), dt.nn.Dense(2)])
    objective = dt.step.ModelObjective(model, "cross_entropy", ["accuracy"])
    rows, labels = dt.Spec((4,), np.dtype("f4")), dt.Spec((), np.dtype("i8"))
    columns = dt.data.Columns.of(rows, labels)
    program = dt.step.Program(objective, dt.optim.chain(dt.optim.clip_by_global_norm(1.0), dt.optim.adam()), columns, seed=0)
    work = measure_work(program, batch=10, shards=4, seconds=0.01)
    assert (work.parameters, work.slots, work.norms, work.sums, work.itemsize) == (58, 2, 1, 4, 4)
    assert min(work.sample, work.add, work.update) > 0


def test_overlap_is_measured_on_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three layers of similar size, the gradient of the last is final first, and the parameters of the first are needed first."""
    monkeypatch.setattr("dagtrain.step.group_update.BLOCK", 1024)
    model = dt.nn.Sequential([dt.nn.Dense(64, "relu"), dt.nn.Dense(64, "relu"), dt.nn.Dense(64)])
    objective = dt.step.ModelObjective(model, "cross_entropy", [])
    columns = dt.data.Columns.of(dt.Spec((64,), np.dtype("f4")), dt.Spec((), np.dtype("i8")))
    program = dt.step.Program(objective, dt.optim.adam(), columns, seed=0)
    work = measure_work(program, batch=512, shards=2, seconds=0.01, bucket_bytes=0)
    for stages in (work.gives, work.takes):
        assert len(stages) >= 3
        assert sum(part for part, _ in stages) == pytest.approx(1)
    done = [when for _, when in work.gives]
    assert done == sorted(done)
    assert 0 < done[0] < 0.95 < done[-1] <= 1
    assert 0.8 < sum(possible for _, possible in work.takes) <= 1 + 1e-9
    assert max(possible for _, possible in work.takes) == work.takes[-1][1], "the backward pass needs all parameters"
