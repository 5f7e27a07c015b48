"""Names that other libraries use, with the name here: hints in error messages, never second names.

A key is the other name in small letters and digits, without a "loss" at its end: ``MSELoss``, ``mse_loss`` and ``mse`` are all ``mse``.
"""

from __future__ import annotations

from dagtrain.registry import hints

__all__ = ["ACTIVATIONS", "ATTRIBUTES", "INITIALIZERS", "LOSSES", "METRICS", "MODEL"]

LOSSES = hints(
    ("mse meansquarederror squarederror quadratic l2", "'mean_squared_error'"),
    ("mae meanabsoluteerror absoluteerror l1", "'mean_absolute_error'"),
    ("smoothl1", "'huber'"),
    (
        "crossentropy sparsecategoricalcrossentropy softmaxcrossentropy nll log logistic multinomial",
        "'cross_entropy': labels are whole numbers, and the model's last layer has no softmax",
    ),
    (
        "categoricalcrossentropy",
        "'cross_entropy': turn one-hot rows into labels with y.argmax(axis=-1), and leave softmax out of the model's last layer",
    ),
    (
        "bce bcewithlogits binarycrossentropy sigmoidcrossentropy",
        "'binary_cross_entropy': the model's last layer has no sigmoid",
    ),
    ("kl kld kldiv kldivergence kullbackleibler kullbackleiblerdivergence", "'kl_divergence': the model's last layer has no softmax"),
    ("multimargin multiclasshinge", "'categorical_hinge'"),
)
_FROM_PREDICTIONS = (
    "computed from predictions, as in sklearn.metrics.f1_score(y, trainer.predict(x).argmax(-1)), since it is no mean over samples"
)
METRICS = hints(
    ("acc categoricalaccuracy sparsecategoricalaccuracy multiclassaccuracy", "'accuracy'"),
    ("topk topkcategoricalaccuracy sparsetopkcategoricalaccuracy top5accuracy", "metrics.find('top_k_accuracy', k=5)"),
    ("rmse rootmeansquarederror", "the root of 'mean_squared_error', taken when training is over"),
    ("auc rocauc f1 f1score precision recall r2 r2score", _FROM_PREDICTIONS),
    *LOSSES.items(),
)
INITIALIZERS = hints(
    ("xavier xavieruniform glorot", "'glorot_uniform'"),
    ("xaviernormal", "'glorot_normal'"),
    ("kaiming kaiminguniform he", "'he_uniform'"),
    ("kaimingnormal", "'he_normal'"),
    ("lecun", "'lecun_uniform'"),
    ("randomnormal gaussian", "'normal'"),
    ("randomuniform", "'uniform'"),
    ("truncnormal", "'truncated_normal'"),
    ("zero", "'zeros'"),
    ("one", "'ones'"),
)
ACTIVATIONS = hints(
    ("swish", "'silu'"),
    ("identity none", "'linear'"),
    ("lrelu leakyrelu", "'leaky_relu'"),
    ("logistic expit", "'sigmoid'"),
    ("gelunew geluapproximate", "'gelu_tanh'"),
    ("logsoftmax", "'log_softmax'"),
)
ATTRIBUTES = hints(
    ("linear", "nn.Dense(units); the number of features is that of the data"),
    ("lazylinear", "nn.Dense(units)"),
    ("input inputlayer", "nn.Sequential([...], input_shape=(64,))"),
    ("relu leakyrelu elu gelu silu sigmoid tanh softplus softmax logsoftmax", 'nn.Activation("relu"), or nn.Dense(units, "relu")'),
    ("batchnorm1d batchnorm2d batchnormalization", "nn.BatchNorm()"),
    ("layernormalization", "nn.LayerNorm()"),
    ("dropout1d", "nn.Dropout(rate)"),
    (
        "mse l1 crossentropy bce bcewithlogits huber smoothl1 nll kldiv",
        'a loss by name: Trainer(model, loss="cross_entropy"); see nn.losses',
    ),
    ("model module", "nn.Sequential, or any frozen dataclass with the methods init and apply"),
)
"""For attributes of the module `dagtrain.nn`."""
MODEL = hints(
    ("compile", 'an argument of the trainer: dt.Trainer(model, loss="cross_entropy", optimizer="adam")'),
    ("fit train", 'done by a trainer: dt.Trainer(model, loss="cross_entropy").fit(x, y)'),
    ("predict evaluate save", "done by the trainer that trained the model: trainer.predict(x), trainer.evaluate(x, y), trainer.save(path)"),
    ("weights getweights parameters statedict variables trainablevariables", "held by the trainer: trainer.parameters"),
    ("add append", "Sequential([*model.layers, layer]), since a model never changes"),
    ("forward call", "model.apply(params, state, x)"),
    ("countparams", "model.summary().parameters"),
)
"""For attributes of a model: methods of a model in other libraries that belong to the trainer here."""
