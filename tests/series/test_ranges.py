"""Scores by ranges on cases made by hand, and thresholds of known tails."""

import numpy as np
import pytest

from dagtrain.errors import ArgumentError, ShapeError
from dagtrain.series import range_scores, ranges, tail_threshold


def flags(text):
    return np.array([c == "#" for c in text])


def test_ranges_are_maximal():
    assert ranges(flags("##..#...###")) == [(0, 2), (4, 5), (8, 11)]
    assert ranges(flags("....")) == []
    assert ranges([]) == []


# existence 0.5: a true range that is met counts half, and half its covered share by the number of detected ranges in it
@pytest.mark.parametrize(
    ("true", "detected", "precision", "recall"),
    [
        ("..####..", "..####..", 1.0, 1.0),
        ("..####..", "........", 0.0, 0.0),
        ("........", "..#.....", 0.0, 0.0),
        ("........", "........", 1.0, 1.0),
        ("..####..", "..##....", 1.0, 0.5 + 0.5 * 0.5),
        ("..####..", "######..", 4 / 6, 1.0),
        ("..####..", "..#.##..", 1.0, 0.5 + 0.5 * 0.75 / 2),  # in two pieces
        ("##.##...", "#####...", (4 / 5) / 2, 1.0),  # two at once
        ("####..##", "####....", 1.0, 0.5),  # a long one and a short one count alike
        ("#####...", "....####", 1 / 4, 0.5 + 0.5 * 0.2),
    ],
)
def test_cases_by_hand(true, detected, precision, recall):
    found = range_scores(flags(true), flags(detected))
    assert found.precision == pytest.approx(precision)
    assert found.recall == pytest.approx(recall)
    assert found.f1 == pytest.approx(2 * precision * recall / (precision + recall) if precision + recall else 0.0)


def test_existence_alone_and_coverage_alone():
    assert range_scores(flags("####"), flags("#..."), existence=1).recall == 1
    assert range_scores(flags("####"), flags("#..."), existence=0).recall == 0.25
    with pytest.raises(ShapeError, match="4 true flags and 3 detected"):
        range_scores(flags("...."), flags("..."))
    with pytest.raises(ShapeError, match="one flag for each row"):
        range_scores([0.2, 1], [0, 1])


def test_thresholds_of_known_tails():
    above = (np.arange(40_000) + 0.5) / 40_000  # the probabilities of larger values
    for sample, quantile in (
        (-np.log(above), lambda p: -np.log(p)),
        (above**-0.25, lambda p: p**-0.25),
        (1 - above, lambda p: 1 - p),
    ):
        for risk in (1e-3, 1e-4, 1e-5):
            assert tail_threshold(sample, risk) == pytest.approx(quantile(risk), rel=0.02)
    assert tail_threshold(np.ones(1000)) == 1
    with pytest.raises(ArgumentError, match="give 200 at least"):
        tail_threshold(np.arange(100.0))
    for risk in (0.5, "small"):
        with pytest.raises(ArgumentError, match="risk is a probability"):
            tail_threshold(np.arange(1000.0), risk=risk)
    with pytest.raises(ArgumentError, match="scores are numbers"):
        tail_threshold(["a"] * 1000)
    with pytest.raises(ArgumentError, match="not finite"):
        tail_threshold(np.full(1000, np.nan))
