"""Names of trainers' and callbacks' parts in other libraries → what to write here; see `dagtrain.hinting`."""

from __future__ import annotations

from dagtrain.registry import hints

__all__ = ["CALLBACK", "CALLBACKS", "FIXED", "MOMENTS", "TRAINER"]

FIXED = ("approximate", "coupled", "dtype", "loss", "loss_weights", "metrics", "model", "seed", "shards")
"""Arguments of a trainer that are fixed when it is made."""
TRAINER = hints(
    ("learningrate lr", "trainer.learning_rate_scale, a factor of the optimiser's rate, or another trainer.optimizer"),
    ("score", 'trainer.evaluate(x, y)["accuracy"], for a trainer with metrics=["accuracy"]'),
    ("predictproba predictprobabilities", "trainer.predict(x, probabilities=True)"),
    ("predictclasses", "trainer.predict(x).argmax(axis=-1)"),
    ("call forward transform decisionfunction", "trainer.predict(x)"),
    ("fitgenerator partialfit trainonbatch train trainingstep trainstep", "trainer.fit(x, y); a second fit continues"),
    ("test validate testonbatch evaluategenerator", "trainer.evaluate(x, y)"),
    ("compile", 'the arguments of the trainer: dt.Trainer(model, loss="cross_entropy", optimizer="adam")'),
    ("load fromcheckpoint loadcheckpoint loadmodel loadstatedict", "dt.load(path), or trainer.load_weights(path)"),
    ("savemodel savecheckpoint dump", "trainer.save(path)"),
    ("getweights statedict coef coefs trainableweights variables", "trainer.weights(), by name, or trainer.parameters"),
    ("setweights parameters", "trainer.load_weights(weights)"),
    ("layers", "trainer.model.layers"),
    ("classes", "y's own labels: numbers from 0, as predict's columns"),
    ("niter epoch currentepoch nepochs", "trainer.progress.epochs"),
    ("globalstep step", "trainer.state.step"),
    ("losscurve losses", 'trainer.history.history["loss"]'),
    ("stoptraining shouldstop", "trainer.stop(), called by a callback"),
    ("callbacks callbackmetrics", "an argument of fit: trainer.fit(x, y, callbacks=[...])"),
    ("visualize plot plotmodel draw", "trainer.graph().visualize(), or trainer.step_graph().visualize()"),
    ("getparams setparams clone", "a new dt.Trainer(...): a trainer is no scikit-learn estimator"),
    ("to cuda cpu device", "Trainer(engine=...), the place of the steps"),
    ("randomstate", "trainer.seed"),
    ("lrfind lrfinder learningratefinder tune", "dt.learning_rate_range(trainer, x, y)"),
)
CALLBACK = hints(
    ("model", "self.trainer, whose model is self.trainer.model"),
    ("params", "self.trainer"),
    ("plmodule", "self.trainer"),
)
MOMENTS = hints(
    ("onbatchend onbatchfinished ontrainstepend onstepend", "'on_train_batch_end'"),
    ("onbatchbegin onbatchstart ontrainbatchbegin ontrainbatchstart onstepbegin", "'on_train_batch_end', after a step: none is before it"),
    ("onepochstart ontrainepochstart", "'on_epoch_begin'"),
    ("onepochfinished ontrainepochend onvalidationend onvalidationepochend ontestend onevaluate", "'on_epoch_end', after the validation"),
    (
        "ontestbegin onvalidationbegin onvalidationstart ontestbatchend",
        "'on_epoch_end': validation has no moments",
    ),
    ("onpredictbegin onpredictend onpredictbatchbegin onpredictbatchend", "no moment: predict calls no callback"),
    ("ontrainstart onfitstart", "'on_train_begin'"),
    ("ontrainfinished onfitend", "'on_train_end'"),
)
CALLBACKS = hints(
    ("backupandrestore", 'trainer.fit(..., checkpoint="runs/a", resume=True)'),
    ("terminateonnan", "no callback: NaN is an error that names the op"),
    ("csvlog historylogger", "'CSVLogger'"),
    ("progbarlogger progressbar tqdmcallback", "trainer.fit(..., verbose=1)"),
    ("history", "what trainer.fit returns"),
    ("remotemonitor wandblogger wandbcallback", "'JSONLines', or a Callback of your own"),
    ("learningratemonitor", "a Callback of your own that reads trainer.learning_rate_scale"),
    ("timer", "'TimeLimit'"),
    ("checkpoint modelcheckpointcallback", "'ModelCheckpoint'"),
    (
        "stochasticweightaveraging swa ema exponentialmovingaverage",
        'an optimiser: optim.averaged(optim.adam(), decay=0.999), and trainer.predict(x, weights="average")',
    ),
)
