"""Boltzmann machines beside all their states, scikit-learn, and each other on a cluster."""

import itertools

import dask.array as da
import numpy as np
import pytest
from dask import delayed
from scipy.special import logsumexp  # comes with scikit-learn

from dagtrain import unsupervised
from dagtrain.data import load_digits
from dagtrain.errors import ArgumentError, DataError, ShapeError

from ..each import rarely

DRAW = np.random.default_rng(0)
ROWS = (DRAW.random((200, 1)) < 0.5) * np.ones(6) * 0.8 + 0.1 > DRAW.random((200, 6))  # six columns that are mostly equal
ROWS = ROWS.astype("f4")


def all_rows(columns):
    return np.array(list(itertools.product((0, 1), repeat=columns)), float)


def test_figures_are_those_of_all_states():
    machine = unsupervised.RBM(3, seed=1, learning_rate=0.2).fit(ROWS, epochs=8)
    w, a, b = machine.weights, machine.visible_bias, machine.hidden_bias
    v, h = all_rows(6), all_rows(3)
    energies = v @ a[:, None] + (h @ b)[None] + v @ w @ h.T  # of each pair
    assert machine.free_energy(v) == pytest.approx(-logsumexp(energies, axis=1))
    whole = logsumexp(energies)
    assert machine.log_partition() == pytest.approx(whole)
    probability = dict(zip(map(tuple, v), np.exp(logsumexp(energies, axis=1) - whole), strict=True))
    assert machine.log_likelihood(ROWS) == pytest.approx(np.mean([np.log(probability[tuple(row)]) for row in ROWS]))
    pseudo = 0.0
    for row in ROWS[:20]:
        for i in range(6):
            other = row.copy()
            other[i] = 1 - other[i]
            pseudo += np.log(probability[tuple(row)] / (probability[tuple(row)] + probability[tuple(other)]))
    assert machine.pseudo_likelihood(ROWS[:20]) == pytest.approx(pseudo / 20)


def test_sampling_finds_the_partition_function():
    machine = unsupervised.RBM(10, seed=1, learning_rate=0.2).fit(ROWS, epochs=5)
    assert machine.log_partition(seed=3, exact=False) == pytest.approx(machine.log_partition(), abs=0.1)


@pytest.mark.parametrize(
    "settings", [{}, {"persistent": True, "momentum": 0.0, "learning_rate": 0.5}, {"steps": 3}], ids=["CD-1", "PCD", "CD-3"]
)
def test_it_learns_what_columns_have_in_common(settings):
    """Columns by themselves give 6 log(1/2) = -4.2; each is .9 or .1 alike, which gives -6 × .33."""
    machine = unsupervised.RBM(4, seed=0, **{"learning_rate": 0.1, **settings}).fit(ROWS, epochs=20)
    assert machine.pseudo_likelihood(ROWS) > -2.7
    means = machine.sample(40, steps=50).mean(axis=1)
    assert ((means < 0.3) | (means > 0.7)).mean() > 0.8


def test_gaussian_units_learn_too():
    rows = (np.where(DRAW.random((300, 1)) < 0.5, -1.0, 1.0) + 0.3 * DRAW.normal(size=(300, 5))).astype("f4")
    machine = unsupervised.RBM(3, seed=0, visible="gaussian", learning_rate=0.01).fit(rows, epochs=20)
    assert np.mean((machine.reconstruct(rows) - rows) ** 2) < 0.5 * rows.var()
    with pytest.raises(ArgumentError, match="that of binary units"):
        machine.pseudo_likelihood(rows)


@pytest.mark.parametrize("persistent", [rarely(False), True])
def test_two_workers_give_the_same_bits(client, persistent):
    def fit(engine):
        machine = unsupervised.RBM(5, seed=2, persistent=persistent)
        return machine.fit(ROWS, epochs=2, batch_size=20, shards=2, engine=engine).fingerprint

    assert fit("lanes") == fit("scheduler") == fit("inline")


@pytest.mark.timeout(1800)  # in the long form
def test_digits_are_modelled_better_than_by_scikit_learn(thorough):
    """Exact pseudo-likelihood of digits that training never saw, by one function; in full both kinds, both forms of data, five splits."""
    data = load_digits()
    rows = np.concatenate([data.x, data.x_validation])
    grey = rows / rows.max()
    kinds = {"CD": {}, "PCD": {"persistent": True, "momentum": 0.0, "learning_rate": 0.2}}
    figures = {}
    for split in range(5 if thorough else 1):
        order = np.random.default_rng(split).permutation(len(rows))
        for form, x, bar in (("binary", (grey > 0.5).astype("f4"), -13.6), ("grey", grey.astype("f4"), -17.7))[: 2 if thorough else 1]:
            held_out, trained = x[order[:360]], x[order[360:]]
            for kind in kinds if thorough else ["CD"]:
                machine = unsupervised.RBM(100, seed=split, **kinds[kind]).fit(trained, epochs=50 if thorough else 4, engine="inline")
                figures.setdefault((form, kind, bar), []).append(machine.pseudo_likelihood(held_out))
            for rate in (0.06, 0.1, 0.2) if thorough else ():
                from sklearn.neural_network import BernoulliRBM

                other = BernoulliRBM(100, learning_rate=rate, n_iter=50, random_state=split).fit(trained)
                score = unsupervised.pseudo_likelihood(held_out, other.components_.T, other.intercept_visible_, other.intercept_hidden_)
                figures.setdefault((form, f"scikit-learn {rate}", -100), []).append(score)
    print({key: round(float(np.mean(values)), 2) for key, values in figures.items()})
    for (form, kind, bar), values in figures.items():
        assert np.mean(values) > (bar if thorough else -17)  # columns by themselves: below -25
        for (other, name, _), theirs in figures.items():
            if other == form and name.startswith("scikit") and not kind.startswith("scikit"):
                assert np.mean(values) > np.mean(theirs)


def test_what_a_machine_does_not_take_is_named():
    with pytest.raises(DataError, match="from 0 to 1"):
        unsupervised.RBM(3).fit(ROWS * 16)
    with pytest.raises(DataError, match="from 0 to 1, and x has columns with others"):
        unsupervised.RBM(2).fit(da.from_array(2 * np.eye(4, dtype="f4"), chunks=(2, 4)), epochs=1)
    with pytest.raises(ArgumentError, match="call fit"):
        unsupervised.RBM(3).transform(ROWS)
    with pytest.raises(ArgumentError, match="units must be"):
        unsupervised.RBM(0)
    with pytest.raises(ArgumentError, match="unknown visible"):
        unsupervised.RBM(3, visible="grey")
    with pytest.raises(ArgumentError, match="at least one layer"):
        unsupervised.DBN([])
    with pytest.raises(ArgumentError, match="units is a list of whole numbers"):
        unsupervised.DBN(4)
    with pytest.raises(ArgumentError, match="persistent is True or False"):
        unsupervised.RBM(3, persistent="no")
    with pytest.raises(ArgumentError, match=r"persistent chains.* must be a whole number"):
        unsupervised.RBM(3, persistent=True).fit(ROWS, epochs=1, shards="auto")
    with pytest.raises(DataError, match="a DBN takes an array"):
        unsupervised.DBN([3]).fit([delayed(ROWS)])


def test_rows_are_checked_where_they_are_used():
    machine = unsupervised.RBM(3).fit(ROWS[:20], epochs=1)
    for use in (machine.transform, machine.pseudo_likelihood, machine.free_energy):
        for x, kind, words in (
            (ROWS[0], ShapeError, r"One row alone is x\[None\]"),
            (ROWS[:, :1], ShapeError, r"rows have the shape \(6,\), as in training"),
            (ROWS * 16, DataError, "from 0 to 1"),
            (ROWS + np.nan, DataError, "not finite: row 0"),
            (ROWS.astype(str), DataError, "x has dtype <U"),
            (ROWS[:0], DataError, "x is empty"),
        ):
            with pytest.raises(kind, match=words):
                use(x)
    with pytest.raises(ShapeError, match="weights and biases"):
        unsupervised.pseudo_likelihood(ROWS, machine.weights.T, machine.visible_bias, machine.hidden_bias)
    for name, value in (("engine", "lanes"), ("shards", 2)):
        with pytest.raises(ArgumentError, match=f"goes on with {name}=.* comes too late"):
            machine.fit(ROWS[:20], epochs=1, **{name: value})
