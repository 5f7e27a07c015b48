"""Wrong arguments and data are errors before any step runs: what, where, and what to do."""

import io
import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest

import dagtrain as dt
from dagtrain.engines.engine import InlineEngine
from dagtrain.errors import ArgumentError, ClusterError, DagtrainError, DataError, NotScalarError, ShapeError, UnknownNameError

X = np.random.default_rng(0).random((40, 6)).astype("f4")
LABELS = np.arange(40) % 3


def network():
    return dt.nn.Sequential([dt.nn.Dense(4, "relu"), dt.nn.Dense(3)])


def trainer(**options):
    return dt.Trainer(network(), **{"loss": "cross_entropy", "shards": 4, **options})


def changed(array, index, value, dtype=None):
    array = np.array(array, dtype)
    array[index] = value
    return array


DATA = {
    "lengths": (X, LABELS[:-1], "40.*39|39.*40"),
    "objects": (X.astype(object), LABELS, "object"),
    "complex": (X.astype("c8"), LABELS, "complex"),
    "text labels": (X, np.array(["a", "b"] * 20), "text"),
    "text labels of a Series": (
        X,
        pd.Series(["a", "b"] * 20),
        r"(Number text with|number them with) np.unique\(labels, return_inverse=True\)",
    ),
    "categories": (X, pd.Series(["a", "b"] * 20, dtype="category"), r"number them with \.cat\.codes"),
    "one-hot labels": (X, np.eye(3)[LABELS], "argmax"),
    "a negative label": (X, changed(LABELS, 17, -1), "negative: row 17"),
    "a label too large": (X, changed(LABELS, 21, 3), "3 classes.*row 21"),
    "a label not whole": (X, changed(LABELS, 5, 1.5, "f8"), "not a whole number: row 5"),
    "NaN": (changed(X, (30, 2), np.nan), LABELS, "nan: row 30, column 2"),
    "infinity": (changed(X, (8, 0), np.inf), LABELS, "inf: row 8, column 0"),
    "NaN among the labels": (X, changed(LABELS, 9, np.nan, "f8"), "nan: row 9"),
    "too large": (changed(X, (3, 1), 1e300, "f8"), LABELS, "float32: row 3, column 1"),
    "no rows": (X[:0], LABELS[:0], "empty"),
    "no columns": (X[:, :0], LABELS, "empty"),
    "a single number": (np.float32(3), np.int64(1), "single number"),
    "nothing": (None, LABELS, "x "),
    "no targets": (X, None, "targets"),
    "ragged rows": ([[1.0, 2.0], [3.0]], [0, 1], "x .*same length"),
    "a string": ("digits", LABELS, "x is a str"),
    "a Delayed": (dask.delayed("digits"), LABELS, "partition 0: x is a str"),
}


class Idle(InlineEngine):
    """Fails when a step runs."""

    def session(self, program, source, exact=False):
        session = super().session(program, source, exact)
        session.run = self.refuse
        return session

    def refuse(self, *args, **kwargs):
        raise AssertionError("a step was run")


def test_an_idle_engine_fails_when_a_step_runs():
    with pytest.raises(AssertionError, match="a step was run"):
        trainer(engine=Idle()).fit(X, LABELS, verbose=0)


@pytest.mark.parametrize(("x", "y", "says"), DATA.values(), ids=DATA)
def test_data_that_cannot_be_used(x, y, says):
    with pytest.raises(DataError, match=says):
        trainer(engine=Idle()).fit(x, y, verbose=0)


CHUNKED = [name for name, (x, y, _) in DATA.items() if isinstance(x, np.ndarray) and x.ndim == 2 and x.size and isinstance(y, np.ndarray)]


@pytest.mark.parametrize("name", CHUNKED)
def test_chunked_data_that_cannot_be_used(name):
    x, y, says = DATA[name]
    with pytest.raises(DataError, match=says):
        trainer(engine=Idle()).fit(da.from_array(x, chunks=(7, 6)), da.from_array(y, chunks=11), verbose=0)


@pytest.mark.parametrize("name", ["lengths", "NaN", "a label too large", "no targets", "no rows"])
def test_validation_data_that_cannot_be_used(name):
    x, y, says = DATA[name]
    with pytest.raises(DataError, match=says):
        trainer(engine=Idle()).fit(X, LABELS, validation_data=(x, y), verbose=0)


def test_validation_rows_of_another_shape():
    with pytest.raises(DataError, match=r"\(6,\).*\(5,\)"):
        trainer(engine=Idle()).fit(X, LABELS, validation_data=(X[:, :5], LABELS), verbose=0)


@pytest.mark.parametrize("data", [X, (X, LABELS, None, X), (X,)], ids=["array", "four", "one"])
def test_validation_data_is_a_pair(data):
    with pytest.raises(ArgumentError, match="pair"):
        trainer(engine=Idle()).fit(X, LABELS, validation_data=data, verbose=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": "32"}, "batch_size"),
        ({"batch_size": 3}, "4 shards are more than batch_size=3"),
        ({"verbose": 7}, "verbose"),
    ],
    ids=str,
)
def test_arguments_of_fit(options, says):
    with pytest.raises(ArgumentError, match=says):
        trainer(engine=Idle()).fit(X, LABELS, **{"verbose": 0, **options})


def test_more_shards_than_samples():
    with pytest.raises(DataError, match=r"41 shards .* 40 samples"):
        trainer(engine=Idle(), shards=41).fit(X, LABELS, batch_size=64, verbose=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"engine": "shceduler"}, "Did you mean 'scheduler'"),
        ({"loss": "cros_entropy"}, "Did you mean 'cross_entropy'"),
        ({"metrics": ["acuracy"]}, "Did you mean 'accuracy'"),
        ({"optimizer": "adm"}, "Did you mean 'adam"),
    ],
    ids=str,
)
def test_unknown_names_come_with_the_nearest(options, says):
    with pytest.raises(UnknownNameError, match=says):
        trainer(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": None}, "a model needs a loss"),
        ({"metrics": "accuracy"}, "list of names"),
        ({"metrics": ["accuracy", "accuracy"]}, "once"),
        ({"threads": 0}, "threads"),
        ({"threads": True}, "threads"),
        ({"optimizer": 0.1}, "optimiser"),
        ({"parameters": {}}, "parameters"),
        ({"shards": 0}, "shards"),
        ({"shards": 2.0}, "shards"),
        ({"shards": "many"}, "shards"),
        ({"seed": -1}, "seed"),
        ({"seed": 0.5}, "seed"),
    ],
    ids=str,
)
def test_arguments_of_a_trainer(options, says):
    with pytest.raises(ArgumentError, match=says):
        trainer(**options)


def test_a_cost_function_needs_parameters_and_no_loss():
    with pytest.raises(ArgumentError, match="parameters="):
        dt.Trainer(lambda p, x: p)
    with pytest.raises(ArgumentError, match="its own loss"):
        dt.Trainer(lambda p, x: p, loss="huber", parameters={})
    with pytest.raises(ArgumentError, match=r"Sequential\(\[\.\.\.\]\)"):
        dt.Trainer([dt.nn.Dense(2)], loss="cross_entropy")
    with pytest.raises(ArgumentError, match="a model or a cost function, not a str"):
        dt.Trainer("network", parameters={})


def test_a_cost_that_is_no_single_number():
    with pytest.raises(NotScalarError, match=r"np\.mean"):
        dt.Trainer(lambda p, x: p * np.mean(x), parameters=np.zeros(6, "f4"), shards=2, engine=Idle()).fit(X, verbose=0)


def test_parameters_that_are_not_floats():
    with pytest.raises(DagtrainError, match=r"'w' is int64.*astype"):
        dt.Trainer(lambda p, x: np.mean(x @ p["w"]), parameters={"w": np.zeros(6, int)}, engine=Idle()).fit(X, verbose=0)


def test_targets_that_do_not_fit_the_outputs():
    model = dt.nn.Sequential([dt.nn.Dense(2)])
    with pytest.raises((ShapeError, DataError), match=r"outputs of shape"):
        dt.Trainer(model, loss="mean_squared_error", shards=1, engine=Idle()).fit(X, np.zeros((40, 3), "f4"), verbose=0)


def test_a_second_fit_takes_rows_of_the_same_shape():
    refitted = trainer()
    refitted.fit(X, LABELS, verbose=0)
    with pytest.raises(DataError, match=r"\(6,\).*\(5,\)"):
        refitted.fit(X[:, :5], LABELS, verbose=0)


def test_refused_rows_do_not_fix_the_shape_of_rows():
    refitted = trainer()
    with pytest.raises(DataError):
        refitted.fit(X, LABELS, validation_data=(X[:, :5], LABELS), verbose=0)
    refitted.fit(X[:, :5], LABELS, verbose=0)
    assert refitted.predict(X[:, :5]).shape == (40, 3)


def test_an_error_in_a_cost_function_is_raised_unchanged():
    def cost(w, x):
        return np.mean(x @ w["weight"])

    with pytest.raises(KeyError, match="weight"):
        dt.Trainer(cost, parameters={"w": np.zeros(6, "f4")}, engine=Idle()).fit(X, verbose=0)


def test_an_error_in_a_loss_or_a_metric_names_it():
    def absolute(outputs, targets):
        raise KeyError("no")

    with pytest.raises(ArgumentError, match=r"the loss 'absolute' raised KeyError \(.*test_errors.py:\d+ in absolute\)"):
        trainer(loss=absolute).fit(X, LABELS, verbose=0)
    with pytest.raises(ArgumentError, match="the metric 'absolute' raised KeyError"):
        trainer(metrics=[absolute]).fit(X, LABELS, verbose=0)


def test_an_error_takes_the_progress_bar_away(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")

    def fail(batch, logs):
        if batch == 1:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        trainer().fit(X, LABELS, batch_size=4, callbacks=[dt.callbacks.LambdaCallback(on_train_batch_end=fail)])
    assert "epoch 1/1 [" in terminal.getvalue()
    assert terminal.getvalue().endswith(" \r")


def test_targets_of_another_shape_than_those_trained_on():
    model = dt.nn.Sequential([dt.nn.Dense(2)])
    fitted_trainer = dt.Trainer(model, loss="mean_squared_error", shards=2)
    fitted_trainer.fit(X, np.zeros((40, 2), "f4"), verbose=0)
    with pytest.raises(DataError, match=r"targets that are float32\[2\]"):
        fitted_trainer.evaluate(X, np.zeros((40, 3), "f4"))
    with pytest.raises(DataError, match=r"targets that are float32\[2\]"):
        fitted_trainer.fit(X, np.zeros(40, "f4"), verbose=0)


def test_a_cost_with_targets_is_evaluated_with_targets():
    def cost(w, x, y):
        return np.mean((x @ w - y) ** 2)

    fitted_trainer = dt.Trainer(cost, parameters=np.zeros(6, "f4"), shards=2)
    fitted_trainer.fit(X, X[:, 0], verbose=0)
    with pytest.raises(DataError, match="targets"):
        fitted_trainer.evaluate(X)


@pytest.mark.parametrize(
    "use",
    [
        lambda t: t.predict(X),
        lambda t: t.evaluate(X, LABELS),
        lambda t: t.parameters,
        lambda t: t.program,
        lambda t: t.graph(),
        lambda t: t.step_graph(),
    ],
    ids=["predict", "evaluate", "parameters", "program", "graph", "step_graph"],
)
def test_nothing_works_before_fit(use):
    with pytest.raises(ArgumentError, match="fit"):
        use(trainer())


@pytest.fixture(scope="module")
def fitted():
    fitted_trainer = trainer()
    fitted_trainer.fit(X, LABELS, verbose=0)
    return fitted_trainer


@pytest.mark.parametrize("wrap", [np.asarray, lambda x: da.from_array(x, chunks=(9, 3))], ids=["array", "chunks"])
def test_rows_of_another_shape_are_refused(fitted, wrap):
    with pytest.raises(DataError, match=r"\(6,\).*\(5,\)"):
        fitted.predict(wrap(X[:, :5]))
    with pytest.raises(DataError, match=r"\(6,\).*\(5,\)"):
        fitted.evaluate(wrap(X[:, :5]), LABELS)


def test_predict_checks_its_batch_size(fitted):
    with pytest.raises(ArgumentError, match="batch_size"):
        fitted.predict(X, batch_size=0)


def test_predict_refuses_what_it_cannot_use(fitted):
    with pytest.raises(DataError, match="nan: row 30, column 2"):
        fitted.predict(DATA["NaN"][0])
    with pytest.raises(DataError, match="complex"):
        fitted.predict(da.from_array(X.astype("c8"), chunks=9))


def test_a_plain_cost_function_predicts_nothing():
    fitted_trainer = dt.Trainer(lambda w, x: np.mean((x - w) ** 2), parameters=np.zeros(6, "f4"))
    fitted_trainer.fit(X, verbose=0)
    with pytest.raises(ArgumentError, match="no outputs to predict"):
        fitted_trainer.predict(X)


def test_the_scheduler_engine_needs_a_client():
    with pytest.raises(ClusterError, match=r"no client.*Client\(\)"):
        trainer(engine="scheduler").fit(X, LABELS, verbose=0)


QUIET = """
import sys, socket
opened = []
bind = socket.socket.bind
socket.socket.bind = lambda self, address: (opened.append(address), bind(self, address))[1]
import numpy as np
import dagtrain as dt
x = np.random.default_rng(0).random((40, 6)).astype("f4")
model = dt.nn.Sequential([dt.nn.Dense(4, "relu"), dt.nn.Dense(3)])
trainer = dt.Trainer(model, loss="cross_entropy", shards=4, engine=sys.argv[1], threads=2)
trainer.fit(x, np.arange(40) % 3, validation_data=(x, np.arange(40) % 3), verbose=0)
trainer.predict(x)
print(opened, sorted(name for name in sys.modules if name.split(".")[0] in ("distributed", "graphviz", "tornado")), end="")
"""


@pytest.mark.parametrize("engine", ["inline", "auto"])
def test_inline_opens_no_port_and_imports_no_server(engine):
    process = subprocess.run([sys.executable, "-c", QUIET, engine], capture_output=True, text=True, timeout=60, check=True)
    assert process.stdout == "[] []"
    assert process.stderr == ""
