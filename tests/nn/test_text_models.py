"""Models of text: steps give what whole sequences give, padding does not matter, and a model is saved with its words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain import nn
from dagtrain.errors import ArgumentError, UnknownNameError
from dagtrain.nn.models import Captioner, LanguageModel, SequenceToSequence, TransformerLM
from dagtrain.text import Decoder, Words, mask_of
from dagtrain.text.choice import log_probabilities

WORDS = Words.learn(["a b c d e f"])
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(4, 10, (3, 6)).astype("i4")
SOURCE = np.where(mask_of([5, 3, 4], 5), RANDOM.integers(4, 10, (3, 5)), 0).astype("i4")
PICTURES = RANDOM.normal(size=(3, 4, 4, 1)).astype("f4")


def seeing() -> nn.Layer:
    return nn.Sequential([nn.Flatten(), nn.Dense(5, "tanh")])


CASES: list[tuple[Any, tuple[Any, ...]]] = [
    (LanguageModel(WORDS, (7, 6), 5), ()),
    (LanguageModel(WORDS, (7, 5), 5, cell="gru", tied=True), ()),
    (TransformerLM(WORDS, 2, 2, 8, 12), ()),
    (TransformerLM(WORDS, 1, 2, 8, 12, positions="rotary", tied=False), ()),
    (SequenceToSequence(WORDS, WORDS, (6, 7), 5), (SOURCE,)),
    (SequenceToSequence(12, WORDS, 6, 5, cell="gru"), (SOURCE,)),
    (Captioner(seeing(), WORDS, (6,), 5), (PICTURES,)),
    (Captioner(nn.Conv2D(4, 2, "tanh"), WORDS, (6, 5), 5), (PICTURES,)),
]


def test_a_step_at_a_time_gives_what_whole_sequences_give():
    for model, inputs in CASES:
        params, state = model.init(dt.key(3), *inputs, TOKENS)
        whole = log_probabilities(model.apply(params, state, *inputs, TOKENS)[0])
        decoder = Decoder(model, params, state, exclude=())
        for i in (0, 5):
            by_steps = np.log(decoder.next_tokens(list(TOKENS[:, : i + 1]), inputs))
            np.testing.assert_allclose(by_steps, whole[:, i], rtol=1e-4, atol=1e-5, err_msg=repr(model))


def test_padding_does_not_matter():
    for model, inputs in CASES:
        params, state = model.init(dt.key(3), *inputs, TOKENS)
        wider = [np.pad(x, ((0, 0), (0, 3))) if x is SOURCE else x for x in inputs]
        outputs = model.apply(params, state, *inputs, TOKENS)[0]
        padded = model.apply(params, state, *wider, np.pad(TOKENS, ((0, 0), (0, 4))))[0]
        np.testing.assert_allclose(padded[:, :6], outputs, rtol=1e-5, atol=1e-6, err_msg=repr(model))


def test_models_are_trained_and_saved_with_their_words(tmp_path):
    y = np.roll(TOKENS, -1, axis=1).astype("i8")
    for i, (model, inputs) in enumerate(CASES):
        trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(0.02), seed=i)
        losses = trainer.fit((*inputs, TOKENS) if inputs else TOKENS, y, epochs=30, verbose=0).history["loss"]
        assert losses[-1] < 0.8 * losses[0]
        trainer.save(tmp_path / str(i))
        again = dt.load(tmp_path / str(i))
        assert again.model.vocabulary == WORDS
        one, other = (Decoder(each).beam(None if inputs else [""] * 3, inputs, length=5) for each in (trainer, again))
        assert [row[0].text for row in one] == [row[0].text for row in other]
        assert [row[0].log_probability for row in one] == [row[0].log_probability for row in other]


def test_mistakes_are_named():
    mistakes = [
        (lambda: LanguageModel("words"), ArgumentError, r"such as Words.learn\(texts\)"),
        (lambda: LanguageModel(WORDS, ()), ArgumentError, "units are those of each recurrent layer"),
        (lambda: LanguageModel(WORDS, (7,), 5, tied=True), ArgumentError, r"units\[-1\]=7, embedding=5"),
        (lambda: LanguageModel(WORDS, cell="rnn"), UnknownNameError, "unknown cell of LanguageModel 'rnn'"),
        (lambda: Decoder(CASES[2][0], *CASES[2][0].init(dt.key(0), TOKENS)).greedy(["a b"], length=11), ArgumentError, "max_length=12"),
        (lambda: Captioner(WORDS, WORDS), ArgumentError, "encoder is a layer"),
        (lambda: Captioner(nn.Dense(3), WORDS).init(dt.key(0), PICTURES[..., 0], TOKENS), ArgumentError, r"or places \(samples, height"),
    ]
    for call, kind, message in mistakes:
        with pytest.raises(kind, match=message):
            call()
