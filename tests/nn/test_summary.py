"""The table of a model and the columns of its picture."""

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ShapeError

MODEL = nn.Sequential(
    [nn.Flatten(), nn.Sequential([nn.Dense(128, "relu"), nn.BatchNorm(), nn.Dropout(0.2)], name="encoder"), nn.Dense(10, use_bias=False)]
)


def test_parameters_bytes_and_flops():
    summary = nn.summarize(MODEL, (32, 8, 8))
    rows = {row.name: row for row in summary.rows}
    assert list(rows) == ["flatten_1", "encoder/dense_1", "encoder/batch_norm_1", "encoder/dropout_1", "dense_1"]
    assert rows["encoder/dense_1"].parameters == 64 * 128 + 128
    assert rows["encoder/dense_1"].bytes == 4 * (64 * 128 + 128)
    assert rows["encoder/dense_1"].macs == 64 * 128
    assert rows["encoder/dense_1"].flops == 2 * 64 * 128 + 128 + 128
    assert rows["encoder/batch_norm_1"].parameters == rows["encoder/batch_norm_1"].state == 256
    assert rows["dense_1"].parameters == 1280
    assert rows["flatten_1"].flops == rows["encoder/dropout_1"].flops == 0
    assert summary.parameters == 64 * 128 + 128 + 256 + 1280
    assert summary.state == 256
    assert summary.bytes == 4 * summary.parameters
    assert rows["dense_1"].output == dt.Spec((32, 10), np.dtype("f4"))


def test_flops_for_one_sample_do_not_depend_on_the_batch():
    model = nn.Sequential([nn.Dense(7, "gelu"), nn.Dense(3)])
    assert model.summary((1, 5)).flops == model.summary((64, 5)).flops


def test_the_table():
    assert str(nn.Sequential([nn.Dense(128, "relu"), nn.Dense(10)]).summary(dt.Spec((32, 64), np.dtype("f4")))).splitlines() == [
        "layer    output        parameters   bytes   MACs  FLOPs per sample",
        "──────────────────────────────────────────────────────────────────",
        "input    (batch, 64)",
        "dense_1  (batch, 128)       8,320  33,280  8,192            16,640",
        "dense_2  (batch, 10)        1,290   5,160  1,280             2,570",
        "──────────────────────────────────────────────────────────────────",
        "total                       9,610  38,440  9,472            19,210",
    ]


def test_running_statistics_are_counted():
    assert str(MODEL.summary((4, 8, 8))).endswith("and 256 numbers of running statistics")


def test_columns_of_the_picture():
    assert nn.layers_for_drawing(MODEL, (32, 8, 8)) == [
        ("input", 64, "8 × 8, flatten"),
        ("encoder/dense_1", 128, "relu, batch norm, drops 20 %"),
        ("dense_1", 10, ""),
    ]


def test_equally_wide_dense_layers_have_a_column_each():
    model = nn.Sequential([nn.Dense(4, "relu"), nn.Dense(4), nn.Activation("softmax")])
    assert [c.width for c in nn.layers_for_drawing(model, (2, 4))] == [4, 4, 4]
    assert nn.layers_for_drawing(model, (2, 4))[-1].detail == "softmax"


def test_an_input_without_samples_is_refused():
    with pytest.raises(ShapeError, match="samples on its first axis"):
        MODEL.summary(())


def test_a_prompt_shows_the_table():
    summary = MODEL.summary((4, 8, 8))
    assert repr(summary) == str(summary)
