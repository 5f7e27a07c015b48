"""Processes of tables: cases are functions of seed and number, and their true effects add up."""

from __future__ import annotations

import numpy as np
import pytest

from dagtrain.data.generated import CREDIT, PAYMENTS


@pytest.mark.parametrize("process", [CREDIT, PAYMENTS])
def test_cases_and_their_effects(process):
    cases = process.draw(2500, seed=3)
    later = process.draw(300, seed=3, first=1950)
    np.testing.assert_array_equal(later.y, cases.y[1950:2250])
    for name, column in later.columns.items():
        assert list(map(str, column)) == list(map(str, cases.columns[name][1950:2250]))
    assert not np.array_equal(process.draw(300, seed=4).y, process.draw(300, seed=3).y)
    np.testing.assert_allclose(process.logit(cases.columns), np.log(cases.probability / (1 - cases.probability)), rtol=1e-9)
    assert abs(cases.y.mean() - cases.probability.mean()) < 4 * (cases.probability.mean() / 2500) ** 0.5
    baseline = {name: column[7] for name, column in cases.columns.items()}
    effects = process.effects(cases.columns, baseline)
    logits = process.logit(cases.columns)
    np.testing.assert_allclose(sum(effects.values()), logits - logits[7], atol=1e-9)
    assert all(abs(effect[7]) < 1e-12 for effect in effects.values())
