"""Fit, evaluate and predict on streams of batches: the bits of arrays in their order, through stops, rounds, resumes and engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.data.stream import Stream
from dagtrain.errors import ArgumentError, DagtrainError, DataError, NotFiniteError, NotScalarError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 5)).astype("f4")
Y = (X.sum(1) > 0).astype("i8")
WEIGHTS = RNG.uniform(size=150).astype("f4")
SIZE, STEPS = 64, 3


def new(**options: Any) -> Any:
    layers = [dt.nn.BatchNorm(), dt.nn.Dense(8, "tanh"), dt.nn.Dropout(0.2), dt.nn.Dense(2)]
    options = {"engine": "inline", "threads": 1, "shards": 2, **options}
    return dt.Trainer(dt.nn.Sequential(layers), loss="cross_entropy", metrics=["accuracy"], **options)


def fit(trainer: Any, batches: Any, epochs: int = 3, **options: Any) -> Any:
    return trainer.fit(batches, epochs=epochs, verbose=0, **options)


def batches() -> Iterator[Any]:
    """The rows in their order; the last batch is smaller."""
    for start in range(0, len(X), SIZE):
        yield X[start : start + SIZE], Y[start : start + SIZE]


def endless() -> Iterator[Any]:
    while True:
        yield from batches()


def shuffled(epoch: int) -> Iterator[Any]:
    order = np.random.default_rng(epoch).permutation(len(X))
    for start in range(0, len(X), SIZE):
        rows = order[start : start + SIZE]
        yield X[rows], Y[rows]


class Loader:
    """Begun anew by each iteration; gives lists, as a DataLoader does."""

    def __iter__(self) -> Iterator[Any]:
        return (list(batch) for batch in batches())


class StopAt(dt.callbacks.Callback):
    """Stops after a step of the fit."""

    def __init__(self, step: int) -> None:
        self.left = step

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.trainer.stop("enough")


def values(history: Any) -> tuple[str, dict[str, list[float]]]:
    """Weights, and the history without times."""
    return history.fingerprint, {k: v for k, v in history.history.items() if k not in ("seconds", "samples_per_second")}


@pytest.fixture(scope="module")
def expected() -> Any:
    """Three epochs of the arrays in their order."""
    return values(new().fit(X, Y, batch_size=SIZE, shuffle=False, epochs=3, verbose=0))


FORMS: dict[str, Callable[[], dict[str, Any]]] = {
    "function": lambda: {"batches": batches},
    "loader": lambda: {"batches": Loader()},
    "iterator": lambda: {"batches": endless(), "steps_per_epoch": STEPS},
    "cut function": lambda: {"batches": endless, "steps_per_epoch": STEPS},
    "small rounds": lambda: {"batches": Stream(batches, nbytes=1)},
    "slow iterator": lambda: {"batches": Stream(endless(), seconds=1e-9), "steps_per_epoch": STEPS},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_has_the_bits_of_arrays_in_their_order(form: str, expected: Any) -> None:
    trainer = new()
    assert values(fit(trainer, **FORMS[form]())) == expected
    trainer.ledger().verify()
    assert [trainer.ledger().counts(epoch).size for epoch in range(3)] == [150] * 3


@pytest.mark.parametrize("stop", [2, 5])
@pytest.mark.parametrize("form", FORMS)
def test_a_stopped_fit_goes_on(form: str, stop: int, expected: Any) -> None:
    trainer, arguments = new(), FORMS[form]()
    history = fit(trainer, **arguments, callbacks=[StopAt(stop)])
    assert history.stopped == "enough"
    assert trainer.progress.place == divmod(stop, STEPS)
    done = history.epochs
    rest = fit(trainer, **{**arguments, "epochs": 3 - done})
    assert rest.fingerprint == expected[0]
    assert history.history.get("loss", []) + rest.history["loss"] == expected[1]["loss"]
    trainer.ledger().verify()


def test_an_iterator_keeps_what_was_read_and_another_one_begins_anew() -> None:
    trainer = new()
    history = fit(trainer, endless(), steps_per_epoch=STEPS, callbacks=[StopAt(1)])
    assert "2 more batches were read" in history.events[-1].text
    with pytest.warns(UserWarning, match="the epoch begins again"):
        fit(trainer, endless(), epochs=1, steps_per_epoch=STEPS)
    trainer.ledger().verify()


def test_an_iterator_goes_on_with_other_weights_of_classes() -> None:
    trainer, iterator = new(), endless()
    fit(trainer, iterator, epochs=1, steps_per_epoch=STEPS)
    fit(trainer, iterator, epochs=1, steps_per_epoch=STEPS, class_weight={1: 2.0}, callbacks=[StopAt(1)])
    with pytest.raises(ArgumentError, match=r"2 batches of this iterator were read ahead with class_weight=\{1: 2.0\}"):
        fit(trainer, iterator, epochs=1, steps_per_epoch=STEPS)
    fit(trainer, iterator, epochs=1, steps_per_epoch=STEPS, class_weight={1: 2.0})
    assert trainer.progress.place == (2, 0)


@pytest.mark.parametrize("stop", [2, 4])
def test_resume_skips_the_steps_that_were_done(stop: int, tmp_path: Path) -> None:
    whole = values(fit(new(), shuffled))
    fit(new(), shuffled, checkpoint=tmp_path, callbacks=[StopAt(stop)])
    again = new()
    assert values(fit(again, shuffled, checkpoint=tmp_path, resume=True)) == whole
    again.ledger().verify()


def test_a_resumed_stream_that_is_shorter_is_an_error(tmp_path: Path) -> None:
    fit(new(), batches, checkpoint=tmp_path, callbacks=[StopAt(2)])
    with pytest.raises(DataError, match="ended after 1, but 2 steps of it were done"):
        fit(new(), lambda: [(X[:SIZE], Y[:SIZE])], checkpoint=tmp_path, resume=True)


def test_batches_of_other_sizes_can_be_resumed(tmp_path: Path) -> None:
    def uneven(epoch: int) -> Iterator[Any]:
        for start in range(0, 40, 10 + epoch):
            yield X[start : start + 10 + epoch], Y[start : start + 10 + epoch]

    whole = values(fit(new(), uneven))
    fit(new(), uneven, epochs=2, checkpoint=tmp_path)
    assert values(fit(new(), uneven, checkpoint=tmp_path, resume=True)) == whole


@pytest.mark.parametrize("nbytes", [1, 1 << 20])
def test_the_users_error_comes_as_it_is_after_the_steps_before(nbytes: int) -> None:
    def broken() -> Iterator[Any]:
        yield from batches()
        raise KeyError("mine")

    trainer = new()
    with pytest.raises(KeyError, match="mine"):
        fit(trainer, Stream(broken, nbytes=nbytes))
    assert trainer.progress.place == (0, STEPS)
    assert trainer.state.fingerprint == fit(new(), batches, epochs=1).fingerprint


def test_what_a_step_made_infinite_is_named_with_its_row() -> None:
    rows = np.ones((40, 2), "f4")
    rows[30:] = -1

    def cost(parameters: Any, x: Any) -> Any:
        return np.log(x[:, 0] * 1.0 + 0.0 * parameters["w"])

    trainer = dt.Trainer(cost, parameters={"w": np.float32(1)}, engine="inline", shards=1)
    with pytest.raises(NotFiniteError, match=r"at step 3, shard 0 \(first of its rows: 30\) in the op 'log'"):
        fit(trainer, Stream(lambda: (rows[i : i + 10] for i in range(0, 40, 10)), nbytes=1))


def test_a_cost_that_does_not_add_up_is_found_in_the_first_batch() -> None:
    trainer = dt.Trainer(lambda p, x: np.sum((x - p["w"]) ** 2), parameters={"w": np.float32(1)}, engine="inline")
    with pytest.raises(NotScalarError, match="does not add up"):
        fit(trainer, lambda: iter([X]))


def test_weights_of_samples_and_of_classes() -> None:
    class_weight = {0: 1.0, 1: 3.0}
    arrays = new().fit(X, Y, sample_weight=WEIGHTS, class_weight=class_weight, batch_size=SIZE, shuffle=False, verbose=0)

    def weighted() -> Iterator[Any]:
        for start in range(0, len(X), SIZE):
            part = slice(start, start + SIZE)
            yield X[part], Y[part], WEIGHTS[part]

    assert fit(new(), weighted, epochs=1, class_weight=class_weight).fingerprint == arrays.fingerprint


def test_an_iterator_that_ends_early_ends_training() -> None:
    trainer = new()
    with pytest.warns(UserWarning, match="the batches ended, with 1 of the 2 steps of an epoch done"):
        history = fit(trainer, batches(), steps_per_epoch=2)
    assert (history.epochs, trainer.progress.place) == (1, (1, 1))
    assert "the batches ended" in history.stopped


def test_dicts_of_columns_in_any_order() -> None:
    def columns() -> Iterator[Any]:
        yield {"a": X[:10], "b": X[:10, :1]}, Y[:10].astype("f4")
        yield {"b": X[10:20, :1], "a": X[10:20]}, Y[10:20].astype("f4")

    def cost(parameters: Any, x: Any, y: Any) -> Any:
        return np.square(x["a"].sum(axis=1) * parameters["w"] + x["b"][:, 0] - y)

    def trainer() -> Any:
        return dt.Trainer(cost, parameters={"w": np.float32(1)}, engine="inline")

    x = {"a": X[:20], "b": X[:20, :1]}
    arrays = trainer().fit(x, Y[:20].astype("f4"), batch_size=10, shuffle=False, verbose=0)
    assert fit(trainer(), columns, epochs=1).fingerprint == arrays.fingerprint


@pytest.mark.long  # it takes seconds to import torch
def test_a_loader_of_torch() -> None:
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader = torch.utils.data.DataLoader(data, batch_size=SIZE)
    trainer = new()
    assert fit(trainer, loader).fingerprint == fit(new(), batches).fingerprint
    assert trainer.evaluate(loader) == trainer.evaluate(X, Y)


@pytest.fixture(scope="module")
def trained() -> Any:
    trainer = new()
    fit(trainer, batches, epochs=1)
    return trainer


def test_evaluation_of_a_stream_is_that_of_its_rows() -> None:
    x, y, weight = (np.concatenate([part] * 20) for part in (X, Y, WEIGHTS))  # three pieces of evaluation, which batches cross
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy", metrics=["accuracy"], engine="inline")
    trainer.fit(X, Y, verbose=0)
    for columns in ((x, y), (x, y, weight)):
        stream = (tuple(c[i : i + 700] for c in columns) for i in range(0, 3000, 700))
        assert trainer.evaluate(stream) == trainer.evaluate(*columns[:2], sample_weight=columns[2] if len(columns) == 3 else None)


def test_prediction_of_a_stream(trained: Any) -> None:
    outputs = np.concatenate([trained.predict(X[:SIZE]), trained.predict(X[SIZE:])])
    assert (trained.predict(X[part] for part in (slice(0, SIZE), slice(SIZE, None))) == outputs).all()
    assert (trained.predict((X[part], Y[part]) for part in (slice(0, SIZE), slice(SIZE, None))) == outputs).all()


@pytest.mark.parametrize("data", [(X, Y), batches], ids=["arrays", "stream"])
@pytest.mark.parametrize("train", [(X, Y), (batches,)], ids=["arrays", "stream"])
def test_validation(train: Any, data: Any) -> None:
    trainer = new()
    history = trainer.fit(*train, epochs=2, validation_data=data, verbose=0)
    assert history.history["val_loss"][-1] == trainer.evaluate(X, Y)["loss"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"y": Y}, "y goes with arrays.*yield x, y"),
    ({"sample_weight": WEIGHTS}, "sample_weight goes with arrays"),
    ({"batch_size": 32}, "batch_size goes with arrays.*each batch is one step"),
    ({"shuffle": True}, r"shuffle goes with arrays.*def batches\(epoch\)"),
    ({"validation_split": 0.1}, "validation_split goes with arrays"),
    ({"class_weight": "balanced"}, "class_weight goes with arrays"),
    ({"class_weight": {"label": "balanced"}}, "class_weight goes with arrays"),
    ({"steps_per_epoch": 0}, "steps_per_epoch must be a whole number from 1 up"),
    ({"x": batches(), "epochs": 2}, "an iterator can be read once.*steps_per_epoch=100"),
    ({"x": batches(), "resume": True, "checkpoint": "unused"}, "resume=True reads the epoch under way from its beginning"),
    ({"x": X, "y": Y, "steps_per_epoch": 2}, "steps_per_epoch cuts a stream into epochs"),
    ({"x": lambda: iter([])}, "there are no batches: the iterator ended before its first"),
    ({"x": iter([])}, "there are no batches: the iterator has ended"),
    ({"x": lambda: iter([X])}, "batch 0, counted from 0: a model needs targets"),
    ({"validation_data": batches()}, "validation_data is used after each epoch"),
    ({"validation_data": lambda: iter([])}, "validation_data has no batches"),
    ({"validation_data": lambda: iter([(X[:, :2], Y)])}, "validation_data: batch 0, counted from 0: .*shape"),
]


@pytest.mark.parametrize(("options", "says"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_go_with_a_stream_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DagtrainError, match=says):
        new().fit(**{"x": batches, "verbose": 0, **options})


def test_a_function_that_gives_one_iterator_again_is_an_error() -> None:
    iterator = batches()
    trainer = new()
    with pytest.raises(DataError, match=r"epoch 1 has no batches.*a new iterator at each call"):
        fit(trainer, lambda: iterator)
    assert trainer.progress.place == (1, 0)


def test_evaluation_takes_no_arguments_of_arrays(trained: Any) -> None:
    with pytest.raises(ArgumentError, match="y goes with arrays"):
        trained.evaluate(batches, Y)
    with pytest.raises(DataError, match="there is no batch"):
        trained.evaluate(iter([]))
    with pytest.raises(DataError, match="there are no batches"):
        trained.predict(iter([]))


def test_what_a_trainer_shows_after_a_stream(trained: Any, tmp_path: Path) -> None:
    assert trained.graph().inputs["x"].spec.shape == (SIZE // 2, 5)
    assert trained.step_graph(2).compute()
    trained.save(tmp_path)
    assert dt.load(tmp_path).evaluate(batches) == trained.evaluate(batches)


@pytest.mark.cluster
@pytest.mark.parametrize("engine", ["lanes", "scheduler"])
def test_streams_on_a_cluster(threads: Any, engine: str, expected: Any) -> None:
    history = fit(new(engine=engine), Stream(endless(), nbytes=2 * SIZE * 28), steps_per_epoch=STEPS)
    assert values(history) == expected
