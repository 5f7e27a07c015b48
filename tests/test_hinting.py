"""Arguments and attributes of other libraries are errors that name what is here."""

import copy
import inspect
import pickle
import re

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import hinting
from dagtrain.errors import UnknownArgumentError
from dagtrain.train import hints

X, Y = np.eye(8, dtype="f4"), np.arange(8) % 2


def trainer(**options):
    return dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy", **options)


ARGUMENTS = {
    "fit epochs": (lambda: trainer().fit(X, Y, nb_epoch=3), "unknown argument of fit 'nb_epoch'. Here it is 'epochs'"),
    "fit steps": (lambda: trainer().fit(X, Y, validation_steps=3), "validation uses all samples"),
    "fit loss": (lambda: trainer().fit(X, Y, optimizer="adam"), "an argument of the trainer"),
    "evaluate": (lambda: trainer().evaluate(X, Y, batch_size=3), "1,024 samples are evaluated at once"),
    "predict": (lambda: trainer().predict(X, verbose=0), "it prints nothing"),
    "loss": (lambda: dt.Trainer(None, criterion="mse"), "unknown argument of Trainer 'criterion'. Here it is 'loss'"),
    "seed": (lambda: trainer(random_state=1), "'seed'"),
    "rate of a trainer": (lambda: trainer(lr=0.1), "an argument of the optimiser"),
    "epochs of a trainer": (lambda: trainer(epochs=3), "an argument of fit"),
    "rate": (lambda: dt.optim.adam(lr=0.1), "unknown argument of adam 'lr'. Here it is 'learning_rate'"),
    "rate by name": (lambda: dt.optim.find("adam", lr=0.1), "'learning_rate'"),
    "decay": (lambda: dt.optim.adam(weight_decay=0.1), "optim.adamw"),
    "betas": (lambda: dt.optim.adam(betas=(0.9, 0.99)), "'beta_1' and 'beta_2'"),
    "schedule": (lambda: dt.optim.cosine(0.1, T_max=10), "'steps'"),
    "callback": (lambda: dt.callbacks.EarlyStopping(verbose=1), "fit(verbose=)"),
    "model": (lambda: dt.nn.models.MLP(nonlinearity="relu"), "unknown argument of MLP 'nonlinearity'. Here it is 'activation'"),
    "layout": (lambda: dt.nn.Conv2D(3, 3, data_format="channels_first"), "no argument: channels are the last axis"),
    "vocabulary": (
        lambda: dt.text.Words.learn(["a"], max_tokens=9),
        "argument of learn 'max_tokens'. Here it is 'size'. Known: least",
    ),
    "beams": (lambda: dt.text.Decoder.beam(None, num_beams=3), "unknown argument of beam 'num_beams'. Here it is 'width'"),
    "misspelt": (lambda: dt.callbacks.EarlyStopping(patienc=1), "Did you mean 'patience'"),
    "layer": (lambda: dt.nn.Dense(out_features=3), "unknown argument of Dense 'out_features'. Here it is 'units'"),
    "input": (lambda: dt.nn.Dense(3, input_dim=4), "nn.Sequential([...], input_shape=(64,))"),
    "another spelling": (lambda: dt.nn.Sequential([], inputShape=(4,)), "Here it is 'input_shape'"),
    "graph": (lambda: dt.grad(np.sum, wrt=0), "'argnums'"),
    "machine": (lambda: dt.unsupervised.RBM(n_components=3), "unknown argument of RBM 'n_components'. Here it is 'units'"),
    "epochs of a machine": (lambda: dt.unsupervised.DBN([3], n_iter=3), "an argument of fit"),
    "code": (
        lambda: dt.unsupervised.VariationalAutoencoder.dense(8, code=2, nois=0.1),
        "unknown argument of VariationalAutoencoder 'nois'",
    ),
    "detector": (lambda: dt.series.RecurrentDetector(contamination=0.1), "'risk'"),
    "agent": (lambda: dt.rl.DQN("CartPole-v1", gamma=0.9), "'discount'"),
    "table": (lambda: dt.rl.QLearning("CliffWalking-v1", alpha=0.9), "'learning_rate'"),
    "sound": (lambda: dt.audio.mfcc(X[0], sr=8000), "'rate'"),
    "seconds": (lambda: dt.audio.log_mel(X[0], 8000, hop_length=160), "'step', in seconds, not in samples"),
    "shares": (lambda: dt.explain.integrated_gradients(None, X, n_steps=3), "'steps'"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_keyword_arguments(name):
    call, hint = ARGUMENTS[name]
    with pytest.raises(UnknownArgumentError, match=re.escape(hint)) as caught:
        call()
    assert isinstance(caught.value, TypeError)


def test_a_hint_is_an_argument_that_there_is():
    with pytest.raises(UnknownArgumentError, match=r"unknown argument of constant 'lr'\. Known: value"):
        dt.optim.constant(lr=0.1)


def test_hinted_calls_are_what_they_were():
    assert list(inspect.signature(dt.optim.sgd).parameters) == ["learning_rate", "momentum", "nesterov"]
    assert list(inspect.signature(dt.Trainer).parameters)[:2] == ["model", "loss"]
    assert pickle.loads(pickle.dumps(dt.optim.sgd)) is dt.optim.sgd
    made = trainer()
    made.fit(X, Y, verbose=0)
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert np.array_equal(again.predict(X), made.predict(X))


class Plain(hinting.Hinted):
    pass


@pytest.mark.parametrize("call", [lambda: Plain(1), lambda: Plain(a=1)])
def test_a_class_without_arguments_takes_none(call):
    with pytest.raises(TypeError, match="Plain takes no arguments"):
        call()


ATTRIBUTES = {
    "score": (lambda: trainer().score, "trainer.evaluate"),
    "fitt": (lambda: trainer().fitt, "Did you mean 'fit'"),
    "model of a callback": (lambda: dt.callbacks.Callback().model, "self.trainer.model"),
    "jit": (lambda: dt.jit, "unknown name in dagtrain 'jit'. Here it is 'compile'"),
    "layer": (lambda: dt.Sequential, "dt.nn"),
    "metrics": (lambda: dt.metrics, "dt.nn.metrics"),
    "callback": (lambda: dt.callbacks.TerminateOnNaN, "NaN is an error"),
    "item": (lambda: dt.array(1.0).item(), "tensor.compute()"),
    "backward": (lambda: dt.array(1.0).backward(), "dt.grad"),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes(name):
    look, hint = ATTRIBUTES[name]
    with pytest.raises(AttributeError, match=re.escape(hint)):
        look()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learning_rate", "trainer.learning_rate_scale"),
        ("learning_rate_scal", "Did you mean 'learning_rate_scale'"),
        ("loss", "fixed when a trainer is made"),
        ("seed", "fixed when a trainer is made"),
        ("parameters", "trainer.load_weights"),
    ],
)
def test_a_trainer_swallows_no_assignment(name, hint):
    with pytest.raises(AttributeError, match=hint):
        setattr(trainer(), name, 1)


def test_assignments_that_have_a_meaning():
    made = trainer()
    made.optimizer, made.engine, made.learning_rate_scale = "sgd", "inline", 0.5
    made.fit(X, Y, verbose=0)
    assert (made.optimizer.name, made.history.info["engine"], made.learning_rate_scale) == ("sgd", "inline", 0.5)


def test_hints_name_no_name_of_their_own():
    assert not set(hints.TRAINER) & set(dir(dt.Trainer)) - {"parameters"}  # which cannot be assigned
    assert not set(dt._HINTS) & set(dt.__all__)
