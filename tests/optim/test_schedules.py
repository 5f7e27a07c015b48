"""Schedules against PyTorch's and closed forms; on numbers, arrays and tensors."""

import warnings

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import optim
from dagtrain.errors import ArgumentError
from dagtrain.plan.interpret import interpret

STEPS = np.arange(40.0)
CASES = [
    optim.constant(0.3),
    optim.exponential_decay(0.5, 0.9, 3),
    optim.exponential_decay(0.5, 0.9, 3, staircase=True),
    optim.step_decay(0.5, 0.1, 7),
    optim.piecewise([5, 12], [1.0, 0.5, 0.1]),
    optim.polynomial(0.5, 20, 0.1, 2.0),
    optim.cosine(0.5, 30, 0.01),
    optim.cosine(0.5, 30, 0.01, warmup_steps=6),
    optim.one_cycle(0.5, 40),
    optim.warmup(optim.step_decay(0.5, 0.1, 7), 10),
    optim.cosine_restarts(0.5, 3, 3.0, 0.5, 0.01),
    optim.join([optim.warmup(0.5, 5), optim.cosine(0.5, 10), 0.1], [5, 20]),
]


@pytest.mark.parametrize("schedule", CASES, ids=repr)
def test_numbers_arrays_and_tensors_agree(schedule):
    one_by_one = np.array([float(schedule(int(s))) for s in STEPS])
    np.testing.assert_allclose(schedule(STEPS), one_by_one, rtol=1e-15)  # NumPy's power differs in the last bit between arrays and numbers
    graph = dt.trace(schedule, dt.Spec((), np.dtype("f8")))
    assert graph.outputs["output"].spec == dt.Spec((), np.dtype("f8"))
    np.testing.assert_allclose([interpret(graph, s)[0] for s in STEPS], one_by_one, rtol=1e-15)
    assert (one_by_one >= 0).all()


def in_torch(make, start, count=40):
    torch = pytest.importorskip("torch", reason="PyTorch is what schedules are compared with")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=start)
    schedule = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one step past the end of OneCycleLR
            if len(rates) < count:
                schedule.step()
    return rates


@pytest.mark.parametrize(
    ("ours", "start", "make"),
    [
        (optim.exponential_decay(0.5, 0.9), 0.5, lambda s, o: s.ExponentialLR(o, 0.9)),
        (optim.step_decay(0.5, 0.1, 7), 0.5, lambda s, o: s.StepLR(o, 7, 0.1)),
        (optim.piecewise([5, 12], [1.0, 0.5, 0.25]), 1.0, lambda s, o: s.MultiStepLR(o, [5, 12], 0.5)),
        (optim.polynomial(0.5, 20, power=2.0), 0.5, lambda s, o: s.PolynomialLR(o, 20, 2.0)),
        (optim.cosine(0.5, 39, 0.01), 0.5, lambda s, o: s.CosineAnnealingLR(o, 39, 0.01)),
        (optim.cosine_restarts(0.5, 7, final=0.01), 0.5, lambda s, o: s.CosineAnnealingWarmRestarts(o, 7, eta_min=0.01)),
        (optim.cosine_restarts(0.5, 2, 3.0), 0.5, lambda s, o: s.CosineAnnealingWarmRestarts(o, 2, 3)),
        (
            optim.join([0.5, optim.exponential_decay(0.5, 0.9)], [9]),
            0.5,
            lambda s, o: s.SequentialLR(o, [s.ConstantLR(o, 1.0), s.ExponentialLR(o, 0.9)], [9]),
        ),
        (optim.one_cycle(0.5, 40), 0.5, lambda s, o: s.OneCycleLR(o, 0.5, total_steps=40)),
        (
            optim.one_cycle(0.5, 40, 0.1, 10.0, 100.0),
            0.5,
            lambda s, o: s.OneCycleLR(o, 0.5, 40, pct_start=0.1, div_factor=10, final_div_factor=100),
        ),
    ],
    ids=lambda v: repr(v) if isinstance(v, optim.Schedule) else "",
)
def test_schedules_of_torch(ours, start, make):
    np.testing.assert_allclose(ours(STEPS), in_torch(make, start), rtol=1e-9, atol=1e-12)


def test_cosine_with_warmup():
    rates = optim.cosine(1.0, 24, warmup_steps=4)(STEPS)
    np.testing.assert_allclose(rates[:5], [0.25, 0.5, 0.75, 1.0, 1.0])
    np.testing.assert_allclose(rates[14], 0.5)
    np.testing.assert_allclose(rates[24:], 0, atol=1e-16)


@pytest.mark.parametrize(("steps", "growth"), [(1, 1.0), (10, 2.0), (3, 3.0), (7, 1.5), (1, 10.0)])
def test_restarts_begin_where_they_should(steps, growth):
    schedule, start = optim.cosine_restarts(1.0, steps, growth), 0.0
    for cycle in range(6):
        at = np.ceil(start)
        np.testing.assert_allclose(schedule(at), 0.5 * (1 + np.cos(np.pi * (at - start) / (steps * growth**cycle))), atol=1e-12)
        start += steps * growth**cycle


def test_one_cycle_without_a_rise():
    assert optim.one_cycle(1.0, 10, warmup_fraction=0.0)(0) < 1.0
    assert optim.one_cycle(1.0, 10, warmup_fraction=0.1)(0) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.constant(-1), "constant: value"),
        (lambda: optim.exponential_decay(0.1, 0), "rate must be a finite number above 0"),
        (lambda: optim.step_decay(0.1, 0.5, 0), "every must be a whole number from 1 up"),
        (lambda: optim.piecewise([5, 5], [1, 2, 3]), "boundaries must rise"),
        (lambda: optim.piecewise([5], [1.0]), "1 boundaries need 2 values, got 1"),
        (lambda: optim.cosine(0.1, 10, warmup_steps=10), "must be fewer than steps"),
        (lambda: optim.cosine(0.1, 2.5), "steps must be a whole number"),
        (lambda: optim.one_cycle(0.1, 10, warmup_fraction=1.0), "warmup_fraction must be a number from 0 up to, but not, 1"),
        (lambda: optim.polynomial(-0.1, 10), "polynomial: initial"),
        (lambda: optim.warmup(-0.1, 10), "warmup: learning_rate"),
        (lambda: optim.cosine_restarts(0.1, 10, growth=0.5), "growth must be a number from 1 up"),
        (lambda: optim.join([0.1, -0.1], [5]), "join: schedule 1"),
        (lambda: optim.join([0.1], [5]), "join: 1 boundaries need 2 schedules, got 1"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
