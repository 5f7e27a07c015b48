"""`Decoder`: texts from a model that predicts the next token, by the likeliest token, by beam search, or drawn by a key."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from dagtrain.arguments import is_whole, not_negative, whole
from dagtrain.backends.blas import guard
from dagtrain.errors import ArgumentError, DataError
from dagtrain.graph import Array
from dagtrain.hinting import Hinted, hinted
from dagtrain.nn.checks import check_key
from dagtrain.nn.layer import Layer
from dagtrain.nn.naming import nested
from dagtrain.ops.random import key as new_key
from dagtrain.text import beam
from dagtrain.text.choice import draw, log_probabilities, probabilities
from dagtrain.text.stepping import Ahead, Stepping
from dagtrain.text.vocabulary import END, PAD, START, Vocabulary
from dagtrain.trace.tree import flatten

__all__ = ["Decoded", "Decoder"]


class Decoded(NamedTuple):
    """What was decoded behind a prompt.

    Attributes
    ----------
    tokens
        The tokens behind the prompt, without the end.
    text
        Their text; empty without a vocabulary.
    log_probability
        Of these tokens, and of the end if it is finished, by the model's own probabilities.
    score
        What it was ranked by: of beam search with the length penalty, else the log probability.
    finished
        Whether the end token came within the length.
    """

    tokens: Array
    text: str
    log_probability: float
    score: float
    finished: bool


class Decoder(Hinted):
    """Decodes what a model predicts: one step is compiled once for each number of rows, and the model's state is kept from step to step.

    The model has methods ``begin(c, tokens, *inputs)``, which gives its first state, and ``step(c, tokens, state)``, which gives the
    logits of the next token and the next state; a state is a nest of arrays with a row for each row of tokens. A model without them is
    called for a window of all tokens so far: what it says of a position may depend on that position and those before it alone.

    Parameters
    ----------
    model
        A trainer, or a model with its weights.
    params, state
        Weights of a model, as `Layer.init` gives them and `Layer.apply` takes them.
    vocabulary
        Of prompts and results; by default the model's field `vocabulary`.
    end
        The token that ends a text; by default that of the vocabulary.
    exclude
        Tokens that are never chosen; by default padding and start of the vocabulary.
    window
        Positions of a model without state, of which the last ones stay; by default as many as prompts and results have.
    weights
        Of a trainer: "trained" or "average", as for `Trainer.predict`.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import dagtrain as dt
    >>> @dataclass(frozen=True)
    ... class Next(dt.nn.Layer):
    ...     "After each token comes the next one."
    ...     def forward(self, c, tokens):
    ...         return dt.one_hot(tokens + 1, 10) * c.parameter("scale", (), "ones")
    >>> params, state = Next().init(dt.key(0), np.zeros((1, 4), "i4"))
    >>> decoder = Decoder(Next(), params, state, end=9)
    >>> [decoded.tokens.tolist() for decoded in decoder.greedy([[3], [6, 7]], length=4)]
    [[4, 5, 6, 7], [8]]
    """

    def __init__(
        self,
        model: Any,
        params: Any = None,
        state: Any = None,
        *,
        vocabulary: Vocabulary | None = None,
        end: int | None = None,
        exclude: Collection[int] | None = None,
        window: int | None = None,
        weights: str = "trained",
    ) -> None:
        layer, nests = _weights(model, params, state, weights)
        if not isinstance(vocabulary, Vocabulary | None):
            raise ArgumentError(f"vocabulary is one of dagtrain.text, such as Words.learn(texts), got {vocabulary!r}.")
        vocabulary = getattr(layer, "vocabulary", None) if vocabulary is None else vocabulary
        self.vocabulary = vocabulary if isinstance(vocabulary, Vocabulary) else None
        known = self.vocabulary is not None
        self.end = whole("end", end, 0) if end is not None else END if known else None
        if exclude is not None and (isinstance(exclude, str) or not isinstance(exclude, Collection)):
            raise ArgumentError(f"exclude takes several numbers of tokens, as in [0, 2], got {exclude!r}.")
        self.exclude = tuple(exclude) if exclude is not None else (PAD, START) if known else ()
        self._stepping = Stepping(layer, *nests, None if window is None else whole("window", window))

    # ---- prompts

    def _read(self, prompts: Any, inputs: Sequence[Any], length: int) -> tuple[Ahead, int]:
        """What the model says behind the prompts, and the number of rows."""
        whole("length", length)
        inputs = [np.asarray(part) for part in (inputs if isinstance(inputs, list | tuple) else [inputs])]
        for part in inputs:
            if not part.ndim or part.dtype.kind not in "biuf":
                raise DataError(
                    f"inputs are arrays with a row for each prompt, got {part.dtype} of shape {part.shape}; texts become numbers "
                    "by encode_all of a vocabulary."
                )
        rows = [self._numbers(prompt, i) for i, prompt in enumerate(self._each(prompts, inputs))]
        if not rows:
            raise DataError("there are no prompts.")
        different = next((part for part in inputs if len(part) != len(rows)), None)
        if different is not None:
            raise DataError(f"there are {len(rows)} prompts, and inputs of {len(different)} rows: each prompt has a row.")
        with guard():
            ahead = self._stepping.read(rows, inputs, length)
        if self.end is not None and self.end >= ahead.logits.shape[1]:
            raise ArgumentError(f"end: {self.end} is the number of no token: the model knows {ahead.logits.shape[1]}.")
        return ahead, len(rows)

    def _each(self, prompts: Any, inputs: Sequence[Array]) -> Sequence[Any]:
        if prompts is None:
            if not inputs:
                raise ArgumentError('without inputs, prompts are needed: [""] is the beginning of one text.')
            return [[START]] * len(inputs[0]) if self.vocabulary is None else [""] * len(inputs[0])
        if isinstance(prompts, str) or is_whole(prompts):
            raise ArgumentError(f"prompts are a list, as in [{prompts!r}].")
        return list(prompts)

    def _numbers(self, prompt: Any, i: int) -> Array:
        if isinstance(prompt, str):
            if self.vocabulary is None:
                raise ArgumentError(f"prompt {i} is a text, and the model has no vocabulary: give numbers, or vocabulary= of the Decoder.")
            return self.vocabulary.encode(prompt, start=True)
        numbers = np.asarray(prompt)
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise DataError(f"prompt {i} is a text or a list of whole numbers, got {numbers.dtype} of shape {numbers.shape}.")
        count = math.inf if self.vocabulary is None else len(self.vocabulary)
        wrong = numbers[(numbers < 0) | (numbers >= count)]
        if wrong.size:
            raise DataError(f"prompt {i} holds {wrong[0]}, which is the number of no token.")
        return numbers.astype(np.int32)

    # ---- results

    @hinted
    def next_tokens(self, prompts: Any = None, inputs: Sequence[Any] = ()) -> Array:
        """The probability of each token behind each prompt, in float64 of shape (prompts, tokens).

        Parameters
        ----------
        prompts
            Texts, to which the start token is put in front, or lists of numbers; None for the start token alone, for each row of inputs.
        inputs
            What else the model takes, such as pictures to describe: an array or a list of them, with a row for each prompt.
        """
        return np.exp(log_probabilities(self._read(prompts, inputs, 1)[0].logits, self.exclude))

    @hinted
    def greedy(self, prompts: Any = None, inputs: Sequence[Any] = (), *, length: int = 50) -> list[Decoded]:
        """The likeliest token, again and again; of tokens as likely, the first.

        Parameters
        ----------
        prompts, inputs
            As for `next_tokens`.
        length
            The most tokens behind a prompt, the end included.
        """
        return self._follow(prompts, inputs, length, lambda logs, logits, i: logs.argmax(axis=-1).astype(np.int32))

    @hinted
    def sample(
        self,
        prompts: Any = None,
        inputs: Sequence[Any] = (),
        *,
        key: Any,
        length: int = 50,
        temperature: float = 1.0,
        top_k: int | None = None,
        nucleus: float | None = None,
    ) -> list[Decoded]:
        """Tokens drawn by a key; the same ones for the same key.

        Parameters
        ----------
        prompts, inputs, length
            As for `greedy`.
        key
            See `dagtrain.key`. A draw is a function of the key, the position and the number of the row.
        temperature, top_k, nucleus
            See `dagtrain.text.probabilities`.
        """
        check_key(key)
        key = new_key(int(key)) if is_whole(key) else key

        def choose(logs: Array, logits: Array, i: int) -> Array:
            return draw(probabilities(logits, temperature, top_k, nucleus, self.exclude), key, i)

        return self._follow(prompts, inputs, length, choose)

    @hinted
    def beam(
        self, prompts: Any = None, inputs: Sequence[Any] = (), *, length: int = 50, width: int = 4, length_penalty: float = 0.6
    ) -> list[list[Decoded]]:
        """For each prompt the best results of a beam search, at most `width`, the best first.

        Parameters
        ----------
        prompts, inputs, length
            As for `greedy`.
        width
            How many results are followed at once; 1 is `greedy`.
        length_penalty
            The exponent of ``(5 + length) / 6``, by which log probabilities are divided; 0 ranks by the log probability.
        """
        whole("width", width)
        not_negative("length_penalty", length_penalty)
        ahead, _ = self._read(prompts, inputs, length)
        with guard():
            found = beam.search(self._stepping, ahead, length, width, length_penalty, self.end, self.exclude)
        return [[self._decoded(*one) for one in row] for row in found]

    def _follow(self, prompts: Any, inputs: Sequence[Any], length: int, choose: Any) -> list[Decoded]:
        """One token after the other, until each row has ended or is long enough."""
        ahead, rows = self._read(prompts, inputs, length)
        tokens, logs, goes_on = np.zeros((rows, 0), np.int32), np.zeros(rows), np.ones(rows, bool)
        lengths = np.zeros(rows, int)
        with guard():
            for i in range(length):
                known = log_probabilities(ahead.logits, self.exclude)
                chosen = choose(known, ahead.logits, i)
                logs += np.where(goes_on, np.take_along_axis(known, chosen[:, None], 1)[:, 0], 0)
                tokens = np.concatenate([tokens, chosen[:, None]], axis=1)
                if self.end is not None:
                    goes_on &= chosen != self.end
                lengths += goes_on
                if not goes_on.any() or i == length - 1:
                    break
                ahead = self._stepping.step(np.where(goes_on, chosen, PAD), ahead.state)
        rest = zip(tokens, lengths, logs.tolist(), ~goes_on, strict=True)
        return [self._decoded(row[:n], log, log, bool(finished)) for row, n, log, finished in rest]

    def _decoded(self, tokens: Array, log: float, score: float, finished: bool) -> Decoded:
        text = "" if self.vocabulary is None else self.vocabulary.decode(tokens)
        return Decoded(tokens, text, log, score, finished)


def _weights(model: Any, params: Any, state: Any, which: str) -> tuple[Layer, tuple[Any, Any]]:
    """A model, and its parameters and state."""
    if isinstance(model, Layer):
        if params is None:
            raise ArgumentError("Decoder takes a trainer, or a model with its weights: Decoder(model, params, state).")
        if which != "trained":
            raise ArgumentError(f"weights={which!r} is of a trainer: give those of a model as params and state.")
        return model, (params, {} if state is None else state)
    if not isinstance(getattr(model, "model", None), Layer) or params is not None:
        raise ArgumentError(
            f"Decoder takes a trainer of a model, or a model with its weights, Decoder(model, params, state), got {model!r}."
        )
    weights = model.weights(which)
    names = set(flatten(model.parameters)[0])
    parts: tuple[dict[Any, Any], dict[Any, Any]] = {}, {}
    for name, array in weights.items():
        parts[name not in names][tuple(name.split("."))] = array
    return model.model, (nested(parts[0]), nested(parts[1]))
