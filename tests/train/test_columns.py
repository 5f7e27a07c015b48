"""Columns by name in a trainer: a cost function gets the user's nest; tables are put in the order of the first fit, on every way in."""

from dataclasses import dataclass
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

import dagtrain as dt
from dagtrain.errors import DagtrainError, DataError

X = np.random.default_rng(0).normal(size=(40, 4)).astype("f4")
LABELS = np.arange(40) % 3
FRAME = pd.DataFrame(X, columns=list("abcd"))
TURNED = FRAME[list("dcba")]
RENAMED = FRAME.rename(columns={"a": "e"})
MASK = np.arange(40) % 4 > 0


def trainer(**options: Any) -> dt.Trainer:
    return dt.Trainer(dt.nn.Sequential([dt.nn.Dense(3)]), loss="cross_entropy", shards=2, **options)


def fit(trainer: dt.Trainer, x: Any = FRAME, y: Any = LABELS, **options: Any) -> str:
    return trainer.fit(x, y, batch_size=16, verbose=0, **options).fingerprint


@pytest.fixture(scope="module")
def fitted() -> dt.Trainer:
    made = trainer()
    fit(made)
    return made


def cost(params: Any, x: Any, y: Any) -> Any:
    return np.mean(x["mask"] * (x["a"] @ params["w"] - y) ** 2)


def masked(params: Any, x: Any) -> Any:
    return cost(params, x, x["y"])


def of_cost(function: Any = cost, **options: Any) -> dt.Trainer:
    return dt.Trainer(function, parameters={"w": np.zeros(4, "f4")}, optimizer="sgd", shards=3, **options)


@pytest.mark.cluster
@pytest.mark.parametrize("engine", ["inline", "lanes", "scheduler"])
def test_a_cost_gets_the_dict_and_all_forms_give_the_same_bits(request: Any, engine: str) -> None:
    if engine != "inline":
        request.getfixturevalue("threads")
    y = X.sum(axis=1)
    expected = fit(of_cost(), {"a": X, "mask": MASK}, y)
    lazy = {"mask": da.from_array(MASK, chunks=7), "a": da.from_array(X, chunks=(16, 2))}
    assert fit(of_cost(engine=engine), lazy, y) == expected
    assert fit(of_cost(masked, engine=engine), {"y": y, "a": FRAME, "mask": MASK}, None) == expected


def test_a_cost_gets_tuples() -> None:
    y = X.sum(axis=1)
    by_name, by_place = of_cost(), of_cost(lambda params, x, y: np.mean(x[1] * (x[0] @ params["w"] - y[0]) ** 2))
    assert fit(by_place, (X, MASK), (y,)) == fit(by_name, {"a": X, "mask": MASK}, y)
    assert by_place.evaluate((X, MASK), (y,)) == by_name.evaluate({"mask": MASK, "a": X}, y)


def test_columns_of_a_cost_are_bound_by_name() -> None:
    made = of_cost()
    fit(made, {"a": X, "mask": MASK}, LABELS)
    with pytest.raises(DataError, match=r"x has other columns than the trainer was fitted on: it comes without 'mask' and with 'm'"):
        fit(made, {"a": X, "m": MASK}, LABELS)
    with pytest.raises(DataError, match=r"the trainer was fitted on a dict of a, mask as x, got one array as x"):
        made.evaluate(X, LABELS)
    with pytest.raises(DataError, match="validation_data: x has other columns"):
        fit(made, {"a": X, "mask": MASK}, LABELS, validation_data=({"a": X}, LABELS))


def test_a_model_of_one_array_says_what_to_do_with_a_dict() -> None:
    with pytest.raises(DagtrainError, match=r"the model takes one array as x, got a dict of a, b: join them with np.concatenate"):
        fit(trainer(), {"a": X, "b": X})


@dataclass(frozen=True)
class Towers(dt.nn.Layer):
    """A model of a dict of inputs."""

    def forward(self, c: dt.nn.Context, left: Any, right: Any) -> Any:
        weights = c.parameter("left", (left.shape[1], 2), "ones"), c.parameter("right", (1, 2), "ones")
        return left @ weights[0] + right[:, None] * weights[1]


def test_a_model_of_several_inputs_predicts_from_any_form() -> None:
    made = dt.Trainer(Towers(), loss="mean_squared_error", shards=2)
    y = np.stack([X.sum(axis=1), X[:, 0]], axis=1)
    fit(made, {"left": FRAME, "right": X[:, 0]}, y)
    expected = made.predict({"right": X[:, 0], "left": TURNED}, batch_size=10)
    lazy = {"right": da.from_array(X[:, 0], chunks=10), "left": dd.from_pandas(TURNED, npartitions=4)}
    assert np.array_equal(made.predict(lazy, batch_size=10).compute(), expected)
    mixed = {"left": da.from_array(X, chunks=(10, 2)), "right": X[:, 0]}
    assert np.array_equal(made.predict(mixed, batch_size=10).compute(), expected)
    parts = [dask_delayed({"right": X[i : i + 10, 0], "left": TURNED[i : i + 10]}) for i in range(0, 40, 10)]
    assert np.array_equal(made.predict(parts, batch_size=10).compute(), expected)


def test_lazy_predictions_compare_rows_and_names_of_columns_as_a_fit_does() -> None:
    made, left, right = dt.Trainer(Towers(), loss="mean_squared_error", shards=2), FRAME, FRAME["a"].rename("r")
    fit(made, {"left": left, "right": right}, X[:, :2])
    other = right.set_axis(np.arange(40) + 1)

    def frames(left: Any, right: Any, cuts: int = 2) -> Any:
        return {"left": dd.from_pandas(left, npartitions=2), "right": dd.from_pandas(right, npartitions=cuts)}

    def delayed(left: Any, right: Any) -> Any:
        return {name: [dask_delayed(part.iloc[:30]), dask_delayed(part.iloc[30:])] for name, part in (("left", left), ("right", right))}

    for form in (frames, delayed, lambda left, right: [dask_delayed({"left": left, "right": right})]):
        assert made.predict(form(left, right)).compute().shape == (40, 2)
        with pytest.raises(DataError, match=r"partition \d: x.left and x.right have different indexes"):
            made.predict(form(left, other)).compute()
    with pytest.raises(DataError, match=r"partition \d: x.left has 20 samples and x.right has 15: every sample"):
        made.predict(frames(left, right[:30])).compute()
    for x in (frames(left, right, 3), frames(left, right) | {"left": X}):
        with pytest.raises(DataError, match=r"are not counted yet, so it does not go with a?.*\.to_dask_array\(lengths=True\)"):
            made.predict(x)
    with pytest.raises(DataError, match=r"a partition has no column x\.right"):
        made.predict([dask_delayed({"left": left, "wrong": right})]).compute()


def dask_delayed(value: Any) -> Any:
    import dask

    return dask.delayed(lambda: value)()


WAYS = {
    "fit": fit,
    "evaluate": lambda t, x: t.evaluate(x, LABELS),
    "predict": lambda t, x: t.predict(x).tolist(),
    "predict of a dask table": lambda t, x: t.predict(dd.from_pandas(x, npartitions=1)).compute().tolist(),
    "predict of delayed tables": lambda t, x: t.predict([dask_delayed(x)]).compute().tolist(),
    "validation": lambda t, x: t.fit(FRAME, LABELS, validation_data=(x, LABELS), verbose=0).history["val_loss"],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loaded", [False, True])
def test_a_table_is_put_in_order_or_refused(fitted: dt.Trainer, tmp_path: Any, way: str, loaded: bool) -> None:
    fitted.save(tmp_path)

    def again() -> dt.Trainer:
        return dt.load(tmp_path) if loaded or way in ("fit", "validation") else fitted

    assert WAYS[way](again(), TURNED) == WAYS[way](again(), FRAME)
    with pytest.raises(DataError, match="x has other columns than the trainer was fitted on: it comes without 'a' and with 'e'"):
        WAYS[way](again(), RENAMED)


def test_a_resumed_fit_puts_a_table_in_order_or_refuses_it(tmp_path: Any) -> None:
    fit(trainer(), epochs=1, checkpoint=tmp_path)
    with pytest.raises(DataError, match="without 'a' and with 'e'"):
        fit(trainer(), RENAMED, epochs=2, checkpoint=tmp_path, resume=True)
    assert fit(trainer(), TURNED, epochs=2, checkpoint=tmp_path, resume=True) == fit(trainer(), epochs=2)


def test_a_trainer_of_arrays_adopts_the_names_of_a_table(tmp_path: Any) -> None:
    def of_arrays() -> dt.Trainer:
        made = trainer()
        fit(made, X, checkpoint=tmp_path)
        return made

    def resumed() -> dt.Trainer:
        fit(made := trainer(), epochs=2, checkpoint=tmp_path, resume=True)
        return made

    for made in (of_arrays(), dt.load(tmp_path), resumed()):
        fit(made)
        fit(made, da.from_array(X, chunks=(16, 4)), sample_weight=np.ones(40))  # arrays take no names away
        assert np.array_equal(made.predict(TURNED), made.predict(FRAME))
        with pytest.raises(DataError, match="without 'a' and with 'e'"):
            made.evaluate(RENAMED, LABELS)


@pytest.mark.parametrize("kinds", [{}, {"b": "i4"}, dict.fromkeys("abcd", "u1")])
def test_a_dask_table_of_integers_can_be_predicted(kinds: dict[str, str]) -> None:
    frame = (FRAME.abs() * 10).astype("i8").astype(kinds)
    made = trainer()
    fit(made, frame.astype("i8"))
    assert np.array_equal(made.predict(dd.from_pandas(frame[list("dcba")], npartitions=2)).compute(), made.predict(frame))


def test_integers_and_masked_rows_in_predictions(fitted: dt.Trainer) -> None:
    whole = (X * 10).astype("i8")
    assert np.array_equal(fitted.predict(whole), fitted.predict(whole.astype("f4")))
    assert np.array_equal(fitted.predict(da.from_array(whole, chunks=40)).compute(), fitted.predict(whole))
    bad = np.where(np.arange(160).reshape(40, 4) == 101, np.nan, X)
    for x in (bad, np.ma.masked_invalid(bad)):
        with pytest.raises(DataError, match=r"x holds (nan|a masked element): row 25"):
            fitted.predict(x)
        with pytest.raises(DataError, match=r"partition 1: x holds (nan|a masked element): row 5"):
            fitted.predict(da.from_array(x, chunks=(20, 4), asarray=False)).compute()


def test_integers_reach_the_cost_as_they_are() -> None:
    seen = []

    def look(params: Any, x: Any) -> Any:
        seen.append((x["ids"].dtype, x["flag"].dtype, x["number"].dtype))
        return np.mean(x["flag"] * x["ids"] * params["w"][0] + x["number"])

    fit(of_cost(look), {"ids": LABELS.astype("u1"), "flag": MASK, "number": X[:, 0].astype("f8")}, None)
    assert set(seen) == {(np.dtype("u1"), np.dtype("?"), np.dtype("f4"))}


def test_errors_of_validation_data_say_so() -> None:
    for x, y in ((np.full_like(X, np.nan), LABELS), (X, LABELS + 5), (X, LABELS[1:]), (X[:, :2], LABELS)):
        with pytest.raises(DataError, match=r"^validation_data: "):
            fit(trainer(), X, validation_data=(x, y))


def test_positions_are_weighted() -> None:
    x, y = X.reshape(40, 4, 1), np.arange(160).reshape(40, 4) % 3
    weights = (np.random.default_rng(1).random((40, 4)) > 0.3) * 1.0
    made = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(3)]), loss="cross_entropy", metrics=["accuracy", "f1_macro"], shards=3)
    made.fit(x, y, sample_weight=np.ones(40), verbose=0)
    loss = made.fit(x, y, sample_weight=weights, batch_size=40, shuffle=False, verbose=0, validation_split=0.2).history["loss"][0]
    assert np.isfinite(loss)
    outputs = made.predict(x)
    expected = dt.nn.losses.cross_entropy(outputs[weights > 0], y[weights > 0])
    for wrap in (np.asarray, lambda a: da.from_array(a, chunks=(16, *a.shape[1:]))):
        figures = made.evaluate(wrap(x), wrap(y), sample_weight=wrap(weights))
        np.testing.assert_allclose(figures["loss"], expected, rtol=1e-6)
        assert np.isclose(figures["accuracy"], np.mean((outputs.argmax(-1) == y)[weights > 0]))
    assert figures["loss"] != made.evaluate(x, y, sample_weight=weights[:, 0])["loss"] != made.evaluate(x, y)["loss"]


def test_class_weights_are_sample_weights() -> None:
    weights = np.where(LABELS == 1, 3.0, 1.0)
    expected = fit(trainer(), sample_weight=weights)
    assert fit(trainer(), class_weight={1: 3.0}) == expected != fit(trainer())
    made = trainer()
    assert fit(made, da.from_array(X, chunks=(16, 4)), da.from_array(LABELS, chunks=16), class_weight={1: 3.0}) == expected
    assert made.evaluate(X, LABELS)["loss"] != made.evaluate(X, LABELS, sample_weight=weights)["loss"]


@pytest.mark.parametrize("wrap", [np.asarray, lambda array: da.from_array(array, chunks=(16, *array.shape[1:]))])
def test_a_split_holds_out_the_last_samples(wrap: Any) -> None:
    plain, held = trainer(), trainer()
    expected = plain.fit(X[:29], LABELS[:29], validation_data=(X[29:], LABELS[29:]), batch_size=16, verbose=0)
    history = held.fit(wrap(X), wrap(LABELS), validation_split=0.27, batch_size=16, verbose=0)
    assert (history.fingerprint, history.history["val_loss"]) == (expected.fingerprint, expected.history["val_loss"])
    held.ledger().verify()
    assert held.ledger().counts(0).size == 29


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"validation_split": 1.0}, "validation_split must be a number from 0 up to"),
        ({"validation_split": 0.001}, "of 40 samples leaves none to validate on"),
        ({"validation_split": 0.999}, "of 40 samples leaves none to train on"),
        ({"validation_split": 0.2, "validation_data": (X, LABELS)}, "validation_data or validation_split, not both"),
    ],
)
def test_splits_that_cannot_be_made(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DagtrainError, match=says):
        fit(trainer(), **options)


@pytest.mark.cluster
@pytest.mark.parametrize("engine", ["lanes", "scheduler"])
def test_weights_and_splits_on_a_cluster(threads: Any, engine: str) -> None:
    options: dict[str, Any] = {"sample_weight": np.arange(40.0), "class_weight": "balanced", "validation_split": 0.3}
    expected = trainer().fit(FRAME, LABELS, batch_size=16, verbose=0, **options)
    lazy = dd.from_pandas(TURNED, npartitions=3)[list("abcd")], da.from_array(LABELS, chunks=12)
    history = trainer(engine=engine).fit(*lazy, batch_size=16, verbose=0, **options)
    assert (history.fingerprint, history.history["val_loss"]) == (expected.fingerprint, expected.history["val_loss"])


def test_a_model_that_does_not_fit_its_labels_says_what_to_change() -> None:
    one = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(1)]), loss="cross_entropy", shards=2)
    with pytest.raises(DataError, match=r"one output, which this loss takes for one class.*binary_cross_entropy"):
        fit(one, X, LABELS % 2)
    with pytest.raises(DataError, match=r"put dt\.nn\.Flatten\(\) before"):
        fit(trainer(), X[:, :, None] * np.ones(5), LABELS)
