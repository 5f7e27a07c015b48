"""Hints for arguments and attributes that have other names in Keras, PyTorch and scikit-learn.

@hinted                      a function or method           adam(lr=0.1) ──▶ unknown argument of adam 'lr'. Here it is 'learning_rate'.
class Trainer(Hinted)        a class and its subclasses     Trainer(model, criterion="mse")
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache, wraps
from typing import Any, ParamSpec, Self, TypeVar

from dagtrain.errors import UnknownArgumentError, UnknownNameError, bare
from dagtrain.registry import hints

__all__ = ["Hinted", "hinted", "no_attribute"]

P = ParamSpec("P")
R = TypeVar("R")

ARGUMENTS = hints(
    ("lr learningrate initiallr initiallearningrate peaklr eta0 learningrateinit", "'learning_rate'"),
    ("criterion lossfn lossfunction objective", "'loss'"),
    ("optim optimiser solver updater", "'optimizer'"),
    ("metric scoring scorers", "'metrics'"),
    ("randomstate randomseed rngseed", "'seed'"),
    ("nbepoch epoch nepochs maxepochs numepochs maxiter niter", "'epochs'"),
    ("batchsize bs nbatch minibatchsize", "'batch_size'"),
    ("njobs numthreads nthreads workers numworkers usemultiprocessing", "'threads'"),
    ("valdata validation evalset", "'validation_data'"),
    ("valsplit validationfraction testsize", "'validation_split'"),
    ("sampleweights weights", "'sample_weight'"),
    ("classweights", "'class_weight'"),
    ("callback", "'callbacks'"),
    ("features outputs outfeatures nunits outputdim", "'units'"),
    ("activationfn nonlinearity act", "'activation'"),
    ("kernelinit weightinitializer init", "'kernel_initializer'"),
    ("biasinit", "'bias_initializer'"),
    ("bias usebias", "'use_bias'"),
    ("p dropout dropoutrate prob", "'rate'"),
    ("inputshape inputdim infeatures", "an argument of the model: nn.Sequential([...], input_shape=(64,))"),
    ("kernelregularizer biasregularizer activityregularizer", "the optimiser: optim.chain(optim.l2(1e-4), optim.adam(1e-3))"),
    ("trainable requiresgrad", '`trainable=False` of a layer, or the optimiser: optim.by_name({"dense_1.*": optim.frozen(), "*": "adam"})'),
    ("betas", "'beta_1' and 'beta_2'"),
    ("beta1 b1", "'beta_1'"),
    ("beta2 b2", "'beta_2'"),
    ("eps", "'epsilon'"),
    ("rho alpha", "'decay'"),
    ("l2 penalty l2regularization", "'weight_decay'"),
    ("weightdecay", "optim.adamw(weight_decay=...), or optim.chain(optim.l2(1e-4), ...) before any optimiser"),
    ("clipnorm globalclipnorm maxgradnorm gradientclipval", "optim.chain(optim.clip_by_global_norm(1.0), ...) before the optimiser"),
    ("clipvalue", "optim.chain(optim.clip_by_value(1.0), ...) before the optimiser"),
    ("decaysteps tmax totalsteps numsteps", "'steps'"),
    ("decayrate gamma", "'rate' of an exponential schedule, 'factor' of steps"),
    ("minlr etamin alpha0 endlearningrate", "'final'"),
    ("useema emamomentum", "an optimiser around this one: optim.averaged(optim.adam(1e-3), decay=0.999)"),
    ("amsgrad", "an optimiser of its own: optim.amsgrad(1e-3)"),
    ("dropout.seed gaussiannoise.seed randomflip.seed", "no argument: random numbers follow from the seed of the trainer"),
    *(
        (f"{cell}.{name}", text)
        for cell in ("simplernn", "lstm", "gru")
        for name, text in {
            "stateful": "a layer around it: nn.Stateful(layer, rows)",
            "bidirectional": "a layer around it: nn.Bidirectional(layer)",
            "numlayers": "several layers in nn.Sequential, all but the last with return_sequences=True",
            "hiddensize": "'units'",
            "inputsize": "no argument: the layer takes it from x",
            "batchfirst": "no argument: samples are the first axis, and steps the second",
            "implementation": "no argument: a sequence is one op",
            "unroll": "no argument: a sequence is one op",
            "timemajor": "no argument: samples are the first axis, and steps the second",
            "recurrentregularizer": "the optimiser: optim.chain(optim.l2(1e-4), optim.adam(1e-3))",
            "zerooutputformask": "no argument: np.where(mask[..., None], y, 0) of the outputs",
        }.items()
    ),
    ("batchnorm.axis groupnorm.axis", "no argument: features and channels are the last axis"),
    ("dataformat channelsfirst channelslast", "no argument: channels are the last axis"),
    ("inchannels inputchannels", "no argument: the layer takes the channels of its input"),
    ("outchannels nfilters", "'filters'"),
    ("stride", "'strides'"),
    ("dilation", "'dilation_rate'"),
    ("kernel", "'kernel_size'"),
    ("embeddim dmodel", "no argument: the layer takes the features of the query"),
    ("numembeddings vocabsize", "'input_dim'"),
    ("embeddingdim embeddingsize", "'output_dim'"),
    ("attnmask keypaddingmask", "a second input, a mask that is true where a key is seen: layer(query, mask)"),
    ("nhead nheads", "'num_heads'"),
    ("causal iscausal", "'use_causal_mask'"),
    ("maxtokens", "'size'"),
    ("learn.vocabsize learn.nummerges", "'merges', which come beside 256 bytes and 4 special tokens"),
    ("minfrequency mincount mindf", "'least'"),
    ("maxlength maxnewtokens maxlen", "'length'"),
    ("truncation", "'cut'"),
    ("numbeams beamwidth beamsize", "'width'"),
    ("topp", "'nucleus'"),
    ("dosample", "a method of its own: decoder.sample(prompts, key=dt.key(0))"),
    ("normalizedshape", "'axis', as in LayerNorm(axis=(-2, -1))"),
    ("numgroups", "'groups'"),
    ("leakyrelu.alpha slope", "'negative_slope'"),
    ("degrees", "'factor', in full turns: 20 degrees are 20 / 360"),
    ("affine", "'center' and 'scale'"),
    ("gradientaccumulationsteps", "`shards` of the trainer: a batch in S shards takes the memory of one"),
    ("devices device gpus accelerator", "'engine', the place of the steps: this process or a Dask cluster"),
    ("trainer.precision trainer.mixedprecision", "'dtype', as in Trainer(..., dtype=\"float64\")"),
    ("dtype precision mixedprecision", 'an argument of the trainer: Trainer(..., dtype="float64")'),
    ("strategy backend distributed", "'engine'"),
    ("validationfreq valcheckinterval", "no argument: validation follows each epoch"),
    ("initialepoch", "resume=True with checkpoint=: it continues at the saved epoch"),
    ("validationsteps", "no argument: validation uses all samples"),
    ("earlystopping", 'callbacks=[dt.callbacks.EarlyStopping("val_loss")]'),
    ("warmstart", "no argument: a second fit continues, and a new Trainer begins anew"),
    ("input.batchsize input.batchshape", "no argument: the number of samples stays open"),
    ("predict.verbose evaluate.verbose", "no argument: it prints nothing"),
    ("trainer.learningrate trainer.lr fit.learningrate fit.lr", "an argument of the optimiser: Trainer(optimizer=dt.optim.adam(1e-2))"),
    (
        "trainer.epochs trainer.epoch trainer.nbepoch trainer.maxepochs trainer.batchsize trainer.callbacks trainer.verbose "
        "trainer.validationdata trainer.validationsplit trainer.classweight trainer.sampleweight trainer.shuffle trainer.checkpoint",
        "an argument of fit: trainer.fit(x, y, epochs=10)",
    ),
    ("fit.optimizer fit.metrics fit.seed fit.engine fit.client fit.criterion", "an argument of the trainer: dt.Trainer(model, ...)"),
    ("evaluate.batchsize", "no argument: 1,024 samples are evaluated at once"),
    ("evaluate.steps predict.steps", "no argument: all samples are used"),
    ("verbose", "no argument: fit(verbose=) and history.events report"),
    ("saveweightsonly savefreq", "no argument: a checkpoint has all of the state"),
    ("threshold tol", "'min_delta'"),
    ("staticargnums staticargnames", "no argument: close over values that are no arrays"),
    ("hasaux", "no argument: return the cost alone"),
    ("wrt", "'argnums'"),
    ("ncomponents", "'units'"),
    ("rbm.niter rbm.epochs rbm.batchsize", "an argument of fit: machine.fit(x, epochs=50, batch_size=10)"),
    ("latentdim codesize bottleneck", "'code'"),
    ("contamination nu", "'risk'"),
    ("windowsize lookback timesteps sequencelength", "'width'"),
    ("recurrentdetector.validationsplit autoencodingdetector.validationsplit", "'held_out'"),
    ("env", "'environment'"),
    ("discountfactor dqn.gamma ddpg.gamma qlearning.gamma sarsa.gamma expectedsarsa.gamma", "'discount'"),
    ("qlearning.alpha sarsa.alpha expectedsarsa.alpha", "'learning_rate'"),
    ("dqn.tau ddpg.tau polyakfactor", "'target_rate'"),
    ("buffersize replaysize", "'capacity'"),
    ("learningstarts warmupsteps", "'random_steps'"),
    ("nstep nsteps", "'returns_over'"),
    ("policydelay", "'actor_every'"),
    ("targetpolicynoise", "'target_noise'"),
    ("epsilonfinal epsilonend explorationfinaleps", "'final_epsilon'"),
    ("integratedgradients.nsteps", "'steps'"),
    ("baselines", "'baseline'"),
    ("internalbatchsize perturbationsperbatch", "'batch_size'"),
    ("patchsize windowshape", "'size'"),
    ("sr samplerate samplingrate", "'rate'"),
    ("nmfcc numceps", "'coefficients'"),
    ("nmels nummelbins", "'bands'"),
    ("fmin lowfreq", "'low'"),
    ("fmax highfreq", "'high'"),
    ("hoplength frameshift", "'step', in seconds, not in samples"),
    ("winlength nfft framelength", "'length', in seconds, not in samples"),
)
"""Argument, or owner.argument, in other libraries → the name here, or what takes its place."""


def hinted(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that an unknown keyword argument is an error with a hint.

    Examples
    --------
    >>> @hinted
    ... def descend(learning_rate=0.1): ...
    >>> descend(lr=0.5)
    Traceback (most recent call last):
    dagtrain.errors.UnknownArgumentError: unknown argument of descend 'lr'. Here it is 'learning_rate'. Known: learning_rate.
    """
    known = _keywords(function)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if known is not None and not known >= kwargs.keys():
            _refuse(function.__name__, kwargs, known)
        return function(*args, **kwargs)

    return checked


class Hinted:
    """Base of classes whose unknown keyword arguments are errors with a hint; subclasses too."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """A new instance, after a look at the names of its arguments."""
        if cls.__init__ is object.__init__ and (args or kwargs):
            raise TypeError(f"{cls.__name__} takes no arguments.")
        known = _keywords(cls.__init__) if kwargs else None
        if known is not None and not known >= kwargs.keys():
            _refuse(cls.__name__, kwargs, known)
        return super().__new__(cls)


def no_attribute(kind: str, name: str, known: Iterable[str], table: Mapping[str, str]) -> AttributeError:
    """The error for an attribute that does not exist, with a hint; for private names, which tools look for everywhere, without one."""
    if name.startswith("_"):
        return AttributeError(f"unknown {kind} {name!r}.")
    return AttributeError(str(UnknownNameError.of(kind, name, [n for n in known if not n.startswith("_")], table)))


@cache
def _keywords(function: Callable[..., Any]) -> frozenset[str] | None:
    """The keyword arguments that a function takes; None if any."""
    parameters = list(inspect.signature(function).parameters.values())
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in ("self", "cls"))


def _refuse(owner: str, arguments: Iterable[str], known: Collection[str]) -> None:
    """Raise UnknownArgumentError for the first argument that is not known."""
    name = next(name for name in arguments if name not in known)
    plain = bare(name)
    same = next((f"'{here}'" for here in known if bare(here) == plain), None)  # another spelling
    hint = same or ARGUMENTS.get(f"{bare(owner)}.{plain}", ARGUMENTS.get(plain, ""))
    quoted = hint.split("'")[1::2]  # a hint that is arguments here is one only where they are known
    is_here = all(argument in known for argument in quoted)
    raise UnknownArgumentError.of(f"argument of {owner}", name, known, {plain: hint} if hint and is_here else None)
