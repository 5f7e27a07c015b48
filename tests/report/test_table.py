"""The table of epochs: which values are marked, and columns that keep their width."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagtrain.report.table import Table, number


def marked(table, **row):
    table.grows(row)
    keys = list(row)
    return [key for key, cell in zip(keys, table.row(row), strict=True) if cell.best]


def test_losses_are_better_lower_and_metrics_higher():
    table = Table()
    assert marked(table, loss=1.0, accuracy=0.5, val_loss=2.0, val_accuracy=0.4) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert marked(table, loss=0.9, accuracy=0.4, val_loss=2.1, val_accuracy=0.6) == ["loss", "val_accuracy"]


def test_a_value_is_compared_with_the_best_not_with_the_last():
    table = Table()
    assert [marked(table, loss=v) for v in (0.5, 0.9, 0.7, 0.4)] == [["loss"], [], [], ["loss"]]


def test_an_equal_value_is_no_new_best():
    table = Table()
    assert [marked(table, loss=v, accuracy=v) for v in (0.5, 0.5)] == [["loss", "accuracy"], []]


def test_the_direction_that_is_given_counts_on_validation_data_too():
    table = Table({"margin": False})
    assert [marked(table, margin=v, val_margin=v) for v in (1.0, 2.0, 0.5)] == [["margin", "val_margin"], [], ["margin", "val_margin"]]


@pytest.mark.parametrize("key", ["mean_squared_error", "mean_absolute_error", "perplexity"])
def test_errors_are_better_lower(key):
    table = Table()
    assert [marked(table, **{key: v}) for v in (1.0, 2.0, 0.5)] == [[key], [], [key]]


def test_times_epochs_and_rates_are_not_marked():
    assert marked(Table(), epoch=1, seconds=0.1, samples_per_second=10.0, learning_rate=0.1) == []


def test_nan_is_never_the_best_and_hides_no_later_one():
    table = Table()
    assert [marked(table, loss=v) for v in (math.nan, 0.5, math.inf, -math.inf)] == [[], ["loss"], [], []]


def test_numpy_numbers_count():
    assert marked(Table(), loss=np.float32(0.5), accuracy=np.float64(0.5)) == ["loss", "accuracy"]


@given(st.floats())
def test_a_number_fits_its_column_and_keeps_three_digits(value):
    text = number(value)
    assert len(text) <= 9
    if math.isfinite(value) and 1e-2 <= abs(value) < 1e99:
        assert float(text) == pytest.approx(value, rel=6e-3)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.0000"), (9999.99999, "1.000e+04"), (-0.5, "-0.5000"), ("inline", "inline"), (12345, "12,345")]
)
def test_numbers_as_text(value, text):
    assert number(value) == text
