"""Flatten."""

import numpy as np

from dagtrain import nn


def test_flatten_keeps_the_order_of_elements():
    x = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(nn.Flatten().apply({}, {}, x)[0], x.reshape(2, 12))
