"""Shares of the columns of a table, whose categories are codes among real numbers."""

from __future__ import annotations

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.data import Category, Features, Number

pd = pytest.importorskip("pandas")


def test_shares_of_a_linear_model_are_the_differences_of_its_terms():
    features = Features((Number("age", 40.0, 100.0, 40.0, True), Category("city", ("Bonn", "Ulm"), False)))
    trainer = dt.Trainer(nn.Sequential([nn.FeatureEmbedding(features, 3), nn.Dense(1)], input_shape=(3,)), loss="binary_cross_entropy")
    rows = pd.DataFrame({"city": ["Ulm", "Oz", "Bonn"], "age": [50, None, 20]})
    baseline = pd.DataFrame({"age": [30], "city": ["Bonn"]})
    found = dt.explain.integrated_gradients(trainer, rows, baseline=baseline, steps=3)
    weights = trainer.weights()
    kernel, vectors = weights["dense_1.kernel"][:, 0], weights["feature_embedding_1.vectors_1"]
    of_city = np.array([vectors[1], vectors.mean(axis=0), vectors[0]]) @ kernel[2:]
    ages = (np.array([2, 1, -1]) * kernel[0] + np.array([0, 1, 0]) * kernel[1], of_city - of_city[2])
    np.testing.assert_allclose(features.by_column(found.values), np.stack(ages, axis=1), atol=1e-6)
    assert abs(found.gap).max() < 1e-6
    lengths = dt.explain.saliency(trainer, rows)
    np.testing.assert_allclose(lengths[:, 2], np.linalg.norm(kernel[2:]), rtol=1e-5)
