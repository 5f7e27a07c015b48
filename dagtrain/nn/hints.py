"""Names that other libraries use, with the name here: a hint that is a name alone is taken, the others are for errors.

A key is the other name in small letters and digits, without a "loss" at its end: ``MSELoss``, ``mse_loss`` and ``mse`` are all ``mse``.
"""

from __future__ import annotations

from dagtrain.registry import hints

__all__ = ["ACTIVATIONS", "ATTRIBUTES", "CALL", "CONTEXT", "INITIALIZERS", "LOSSES", "METRICS", "MODEL", "OPTIONS"]

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
    ("multiclasshinge", "'categorical_hinge'"),
    ("multimargin", "'categorical_hinge': of the other classes the highest counts, not the sum over the number of classes"),
    ("multilabelsoftmargin multilabel", "'binary_cross_entropy': a logit and a target of 0 or 1 for each label"),
    ("binaryfocal focal sigmoidfocal", "'binary_focal_cross_entropy': the model's last layer has no sigmoid"),
    ("categoricalfocal categoricalfocalcrossentropy", "'focal_cross_entropy': labels, and no softmax in the model's last layer"),
    ("poissonnll", "'poisson': outputs are logarithms of rates"),
    ("pinball meanpinball", "'quantile'"),
    ("logcosh", "'log_cosh'"),
    ("tripletmargin", "'triplet'"),
    ("cosine cosineembedding cosinedistance", "'cosine_similarity'"),
)
OPTIONS = hints(
    ("fromlogits", "no option: outputs are logits"),
    ("reduction sizeaverage reduce", "no option: the loss is the mean over the samples, with their weights"),
    ("ignoreindex", "a weight of 0 for such positions: fit(..., sample_weight=mask)"),
    ("weight weights", "'class_weights' of a loss, and fit(..., sample_weight=) for samples"),
    ("posweight", "'positive_weight'"),
    ("beta", "'delta'"),
    ("threshold thresholds", "no option: the class that is at least as probable as the others counts"),
    ("numclasses labels", "no option: classes are those of the outputs"),
    ("nbins", "'bins'"),
)
"""For options of losses and metrics."""
METRICS = hints(
    ("acc categoricalaccuracy sparsecategoricalaccuracy multiclassaccuracy accuracyscore", "'accuracy'"),
    (
        "topk topkcategoricalaccuracy sparsetopkcategoricalaccuracy top5accuracy topkaccuracyscore",
        "dt.nn.metrics.find('top_k_accuracy', k=5)",
    ),
    ("precisionscore positivepredictivevalue", "'precision'"),
    ("recallscore sensitivity truepositiverate", "'recall'"),
    ("f1score fscore", "'f1'"),
    ("balancedaccuracyscore", "'balanced_accuracy'"),
    ("rmse", "'root_mean_squared_error'"),
    ("mape", "'mean_absolute_percentage_error'"),
    ("r2score rsquared", "'r2'"),
    ("rocauc rocaucscore rocaucovr auroc areaundercurve", "'auc'"),
    ("averageprecisionscore ap prauc auprc aucpr", "'average_precision'"),
    ("ece calibrationerror", "'expected_calibration_error'"),
    ("confusion", "'confusion_matrix'"),
    *(
        (f"neg{name.replace('_', '')}", f"'{name}': higher is not better there, and dagtrain knows it")
        for name in ("mean_squared_error", "mean_absolute_error", "root_mean_squared_error", "mean_absolute_percentage_error")
    ),
    *LOSSES.items(),
)
INITIALIZERS = hints(
    ("xavieruniform", "'glorot_uniform'"),
    ("xavier glorot", "'glorot_uniform' or 'glorot_normal'"),
    ("xaviernormal", "'glorot_normal'"),
    ("kaiminguniform", "'he_uniform'"),
    ("kaiming he", "'he_uniform' or 'he_normal'"),
    ("kaimingnormal", "'he_normal'"),
    ("lecun", "'lecun_uniform' or 'lecun_normal'"),
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
    ("exp", "'exponential'"),
    ("hardswish", "'hard_silu'"),
)
ATTRIBUTES = hints(
    ("linear", "nn.Dense(units); the number of features is that of the data"),
    ("lazylinear", "nn.Dense(units)"),
    ("inputlayer", "nn.Input((64,)), or nn.Sequential([...], input_shape=(64,))"),
    (
        "relu relu6 gelu silu mish sigmoid logsigmoid tanh softplus softsign logsoftmax hardtanh hardsigmoid hardswish selu",
        'nn.Activation("relu"), or nn.Dense(units, "relu")',
    ),
    ("batchnorm1d batchnorm2d batchnorm3d batchnormalization", "nn.BatchNorm()"),
    ("layernormalization", "nn.LayerNorm()"),
    ("rmsnormalization", "nn.RMSNorm()"),
    ("groupnormalization", "nn.GroupNorm(groups)"),
    ("instancenorm1d instancenorm2d instancenorm3d instancenormalization", "nn.GroupNorm(-1)"),
    *((f"dropout{n}d", f"nn.SpatialDropout{n}D(rate)") for n in (1, 2, 3)),
    ("identity", 'nn.Activation("linear")'),
    ("unflatten view", "nn.Reshape(shape)"),
    ("randomhorizontalflip", 'nn.RandomFlip("horizontal")'),
    ("randomverticalflip", 'nn.RandomFlip("vertical")'),
    ("randomresizedcrop centercrop", "nn.RandomCrop(height, width)"),
    ("randomerasing randomcutout", "nn.Cutout(size)"),
    ("colorjitter", "nn.RandomBrightness(factor) and nn.RandomContrast(factor)"),
    ("transpose", "nn.Permute(dims)"),
    ("standardscaler", "nn.Normalization(statistics.mean, statistics.variance), with statistics = dagtrain.data.moments(x)"),
    (
        "onehotencoder ordinalencoder categoryencoding stringlookup simpleimputer columntransformer featurespace densefeatures",
        "nn.FeatureEmbedding(features), with features = dagtrain.data.Features.learn(table)",
    ),
    ("temperaturescaling plattscaling calibratedclassifier", "nn.Temperature() as the last layer, and dagtrain.calibrate"),
    (
        "mse l1 crossentropy bce bcewithlogits huber smoothl1 nll kldiv",
        'a loss by name: Trainer(model, loss="cross_entropy"); see nn.losses',
    ),
    (
        "accuracy precision recall f1score auc f1 meanmetric confusionmatrix r2score",
        'a metric by name: Trainer(model, loss="cross_entropy", metrics=["f1"]); see nn.metrics',
    ),
    ("module", "nn.Layer: a frozen dataclass with forward(self, c, x)"),
    ("functional", "nn.Model(inputs, outputs); functions are in nn.spatial, nn.activations and nn.losses"),
    *((f"maxpool{n}d", f"nn.MaxPooling{n}D()") for n in (1, 2, 3)),
    *((f"avgpool{n}d averagepool{n}d", f"nn.AveragePooling{n}D()") for n in (1, 2, 3)),
    *((f"globalavgpool{n}d", f"nn.GlobalAveragePooling{n}D()") for n in (1, 2, 3)),
    *((f"globalmaxpool{n}d", f"nn.GlobalMaxPooling{n}D()") for n in (1, 2, 3)),
    *((f"adaptiveavgpool{n}d adaptiveaveragepool{n}d", f"nn.AdaptiveAveragePooling{n}D(size)") for n in (1, 2, 3)),
    *((f"adaptivemaxpool{n}d", f"nn.AdaptiveMaxPooling{n}D(size)") for n in (1, 2, 3)),
    *((f"convtranspose{n}d", f"nn.Conv{n}DTranspose(filters, kernel_size)") for n in (1, 2, 3)),
    *((f"lppool{n}d", f"nn.LpPooling{n}D(p)") for n in (1, 2, 3)),
    ("upsample", "nn.UpSampling2D(size), or nn.spatial.resize(x, size)"),
    ("convolution1d", "nn.Conv1D(filters, kernel_size)"),
    ("convolution2d conv", "nn.Conv2D(filters, kernel_size)"),
    ("zeropad2d", "nn.ZeroPadding2D(padding)"),
    ("localresponsenormalization lrn", "nn.LocalResponseNorm()"),
    ("unfold fold", "nn.spatial.patches(x, size) and nn.spatial.patches_transpose(y, lengths, size)"),
    ("rnn", "nn.SimpleRNN(units); nn.LSTM and nn.GRU are layers too"),
    ("rnncell lstmcell grucell stackedrnncells", "nn.LSTM(units), nn.GRU(units) or nn.SimpleRNN(units); dt.scan for a cell of one's own"),
    ("concat merge", "nn.Concatenate()([a, b]), or nn.Add()([a, b])"),
)
"""For attributes of the module `dagtrain.nn`."""
CONTEXT = hints(
    ("param parameters addweight addparameter weight variable addvariable createparameter", "c.parameter(name, shape, initializer)"),
    ("buffer registerbuffer variables statevariable getstate addstate", "c.state(name, shape, initializer), and c.update(name, value)"),
    ("rng makerng randomkey prngkey", "c.key()"),
    ("istraining train", "c.training"),
    ("sow addmetric penalty", "c.add_loss(name, value)"),
    ("call layer apply submodule", "c(self.field, x), which calls a layer in a field"),
)
"""For attributes of the context of a layer."""
CALL = hints(
    ("training", "no argument: c.training in forward says it, and apply(..., training=True) sets it"),
    ("mask", "a second input: layer(x, mask)"),
    ("inputs x", "an input without a name: layer(x)"),
)
"""For arguments in a call of a layer on symbolic values."""
MODEL = hints(
    ("compile", 'an argument of the trainer: dt.Trainer(model, loss="cross_entropy", optimizer="adam")'),
    ("fit train", 'done by a trainer: dt.Trainer(model, loss="cross_entropy").fit(x, y)'),
    ("predict evaluate save", "done by the trainer that trained the model: trainer.predict(x), trainer.evaluate(x, y), trainer.save(path)"),
    ("weights getweights parameters statedict variables trainablevariables", "held by the trainer: trainer.parameters"),
    ("add append", "Sequential([*model.layers, layer]), since a model never changes"),
    ("call", "model.apply(params, state, x)"),
    ("plot plotmodel draw", "model.visualize(filename), or model.summary(), a table"),
    ("getlayer", "model.layers[name], or model.value(name), the symbolic output of a layer"),
    ("countparams", "model.summary().parameters"),
)
"""For attributes of a model: methods of a model in other libraries that belong to the trainer here."""
