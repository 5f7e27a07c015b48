"""Decoding: by the likeliest token, by beam search against all sentences, by draws against exact probabilities."""

from __future__ import annotations

import itertools
import math
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, DataError, NotFiniteError, ShapeError
from dagtrain.text import Decoder, probabilities
from dagtrain.text.choice import draw, log_probabilities

from ..each import each

TOKENS, END = 5, 4
TABLE = np.random.default_rng(1).normal(0, 1.5, (TOKENS, TOKENS, TOKENS)).astype("f4")
"""The logits behind each pair of tokens."""


@dataclass(frozen=True)
class Pairs(dt.nn.Layer):
    """A model that looks at two tokens and keeps the first of them."""

    def forward(self, c: Any, tokens: Any) -> Any:
        table = c.parameter("table", TABLE.shape, lambda key, shape, dtype: TABLE)
        before = np.concatenate([np.zeros_like(tokens[:, :1]), tokens[:, :-1]], axis=1)
        return table[before, tokens]

    def begin(self, c: Any, tokens: Any) -> Any:
        return {"before": np.zeros_like(tokens)}

    def step(self, c: Any, tokens: Any, state: Any) -> Any:
        return c.parameter("table", TABLE.shape, "zeros")[state["before"], tokens], {"before": tokens}


@dataclass(frozen=True)
class Window(dt.nn.Layer):
    """The same without a state."""

    pairs: Pairs

    def forward(self, c: Any, tokens: Any) -> Any:
        return c(self.pairs, tokens)


def decoder(model: Any = None, **options: Any) -> Decoder:
    model = Pairs() if model is None else model
    params, state = model.init(dt.key(0), np.zeros((1, 3), "i4"))
    return Decoder(model, params, state, **{"end": END, **options})


def all_sentences(prompt: list[int], length: int, penalty: float) -> list[tuple[float, list[int], bool]]:
    """Every sentence behind a prompt with its score, the best first."""
    found = []
    for n in range(1, length + 1):
        for tokens in itertools.product(range(TOKENS), repeat=n):
            finished = tokens[-1] == END
            if END in tokens[:-1] or (not finished and n < length):
                continue
            text, log = [0, *prompt, *tokens], 0.0
            for i in range(len(prompt) + 1, len(text)):
                log += log_probabilities(TABLE[text[i - 2], text[i - 1]])[text[i]]
            found.append((finished, log / ((5 + n) / 6) ** penalty, list(tokens[:-1] if finished else tokens)))
    return sorted(((score, tokens, finished) for finished, score, tokens in found), key=lambda one: (not one[2], -one[0]))


def test_a_wide_beam_finds_what_a_search_of_all_sentences_finds():
    for penalty in (0.0, 0.6, 2.0):
        best = decoder().beam([[1, 2], [3]], length=4, width=TOKENS**4, length_penalty=penalty)
        for prompt, row in zip([[1, 2], [3]], best, strict=True):
            expected = all_sentences(prompt, 4, penalty)[: len(row)]
            assert [one.tokens.tolist() for one in row[:10]] == [tokens for _, tokens, _ in expected[:10]]
            np.testing.assert_allclose([one.score for one in row], [score for score, *_ in expected], rtol=1e-6)
            assert [one.finished for one in row] == [finished for *_, finished in expected]


def test_a_beam_of_one_is_the_likeliest_token_and_a_wider_one_is_no_worse():
    prompts = [[1], [2], [3, 3]]
    greedy = decoder().greedy(prompts, length=6)
    narrow = decoder().beam(prompts, length=6, width=1, length_penalty=0)
    assert [row[0].tokens.tolist() for row in narrow] == [one.tokens.tolist() for one in greedy]
    assert [row[0].log_probability for row in narrow] == pytest.approx([one.log_probability for one in greedy])
    wide = decoder().beam(prompts, length=6, width=6, length_penalty=0)
    assert all(row[0].score >= one.log_probability - 1e-9 for row, one in zip(wide, greedy, strict=True) if one.finished)


def test_results_of_a_state_and_of_a_window_are_the_same_and_do_not_depend_on_other_prompts():
    prompts = [[1, 2, 3], [2], [3, 1]]
    with_state, without = decoder(), decoder(Window(Pairs()))
    for decode in (
        lambda d, p: d.greedy(p, length=8),
        lambda d, p: d.sample(p, length=8, key=dt.key(5)),
        lambda d, p: [one for row in d.beam(p, length=5, width=3) for one in row],
    ):
        together = [(one.tokens.tolist(), one.finished) for one in decode(with_state, prompts)]
        assert [(one.tokens.tolist(), one.finished) for one in decode(without, prompts)] == together
        alone = [(one.tokens.tolist(), one.finished) for one in decode(with_state, prompts[:1])]
        assert together[: len(alone)] == alone
    short = decoder(Window(Pairs()), window=3)  # two tokens are all that the model looks at
    assert [one.tokens.tolist() for one in short.greedy(prompts, length=8)] == [
        one.tokens.tolist() for one in with_state.greedy(prompts, length=8)
    ]


@each([Pairs(), Window(Pairs())])
def test_a_copy_in_another_process_decodes_the_same(model):
    one = decoder(model)
    texts = [d.tokens.tolist() for d in one.greedy([[1], [2, 3]], length=6)]
    assert [d.tokens.tolist() for d in pickle.loads(pickle.dumps(one)).greedy([[1], [2, 3]], length=6)] == texts


def test_a_step_is_compiled_once():
    one = decoder()
    for method, options in ((one.greedy, {}), (one.sample, {"key": dt.key(1)}), (one.greedy, {})):
        method([[1, 2], [3]], length=7, **options)
    assert "1 signatures" in repr(one._stepping._step)


def test_draws_follow_the_key_and_the_probabilities():
    logits = np.array([1.0, 0.2, -0.5, 2.0, -3.0])
    for options in ({}, {"temperature": 0.7}, {"top_k": 3}, {"nucleus": 0.8}, {"temperature": 2.0, "top_k": 4, "nucleus": 0.9}):
        p = probabilities(logits, **options)
        drawn = draw(np.tile(p, (4000, 1)), dt.key(3), 0)
        counts = np.bincount(drawn, minlength=5) / 4000
        assert (np.abs(counts - p) <= 4 * np.sqrt(p * (1 - p) / 4000)).all(), options
        assert p.sum() == pytest.approx(1)
    one = decoder()
    tokens = [[d.tokens.tolist() for d in one.sample([[1]] * 20, key=dt.key(seed), length=10)] for seed in (1, 1, 2)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert [d.tokens.tolist() for d in one.sample([[1]] * 20, key=1, length=10)] == tokens[0]
    assert len({tuple(t) for t in tokens[0]}) > 10  # rows draw for themselves


def test_probabilities_are_the_exact_ones():
    p = np.array([[0.4, 0.1, 0.3, 0.2], [0.25, 0.25, 0.25, 0.25]])
    cases = [
        ({}, p),
        ({"nucleus": 1.0}, p),
        ({"temperature": 0.5}, p**2 / (p**2).sum(axis=-1, keepdims=True)),
        ({"top_k": 1}, [[1, 0, 0, 0], [1, 0, 0, 0]]),
        ({"top_k": 9}, p),
        ({"top_k": 3}, [[4 / 9, 0, 3 / 9, 2 / 9], [1 / 3, 1 / 3, 1 / 3, 0]]),
        ({"nucleus": 0.39}, [[1, 0, 0, 0], [0.5, 0.5, 0, 0]]),
        ({"nucleus": 0.69}, [[4 / 7, 0, 3 / 7, 0], [1 / 3, 1 / 3, 1 / 3, 0]]),
        ({"nucleus": 0.71}, [[4 / 9, 0, 3 / 9, 2 / 9], [1 / 3, 1 / 3, 1 / 3, 0]]),
        ({"top_k": 2, "nucleus": 0.45}, [[1, 0, 0, 0], [1, 0, 0, 0]]),
        ({"exclude": [0]}, [[0, 1 / 6, 1 / 2, 1 / 3], [0, 1 / 3, 1 / 3, 1 / 3]]),
    ]
    for options, expected in cases:
        np.testing.assert_allclose(probabilities(np.log(p), **options), expected, atol=1e-12, err_msg=str(options))
    assert decoder().next_tokens([[2, 3]])[0] == pytest.approx(probabilities(TABLE[2, 3]))


def test_texts_are_read_and_written_by_the_vocabulary_of_the_model():
    words = dt.text.Words.learn(["a b c"])

    @dataclass(frozen=True)
    class Next(dt.nn.Layer):
        vocabulary: dt.text.Vocabulary

        def forward(self, c: Any, tokens: Any) -> Any:
            after = np.where(tokens == 2, 4, np.where(tokens == 6, 3, tokens + 1))  # <start> a b c <end>
            return 9 * dt.one_hot(after, 7) * c.parameter("scale", (), "ones")

    model = Next(words)
    params, state = model.init(dt.key(0), np.zeros((1, 3), "i4"))
    one = Decoder(model, params, state)
    assert [(d.text, d.finished) for d in one.greedy(["", "a b", "c"], length=4)] == [("a b c", True), ("c", True), ("", True)]
    assert one.greedy(["a"], length=1)[0][1:2] == ("b",)
    assert not one.greedy(["a"], length=1)[0].finished
    assert one.next_tokens(["a"])[0, [dt.text.PAD, dt.text.START]].tolist() == [0, 0]


@dataclass(frozen=True)
class Wrong(dt.nn.Layer):
    """Says what its field says."""

    rows: int = 1
    logits: float = 0.0

    def forward(self, c: Any, tokens: Any) -> Any:
        return np.zeros((1,)) * c.parameter("scale", (), "ones")

    def begin(self, c: Any, tokens: Any, x: Any = None) -> Any:
        return np.zeros((self.rows, 2), "f4") + c.parameter("scale", (), "ones")

    def step(self, c: Any, tokens: Any, state: Any) -> Any:
        return state + self.logits, state


def test_mistakes_are_named():
    params = {"scale": np.ones((), "f4")}
    one, window = decoder(), decoder(Window(Pairs()))
    mistakes = [
        (lambda: one.greedy([]), DataError, "no prompts"),
        (one.greedy, ArgumentError, "prompts are needed"),
        (lambda: one.greedy([[1], []]), DataError, "prompt 1 is empty"),
        (lambda: one.greedy("a"), ArgumentError, "as in \\['a'\\]"),
        (lambda: one.greedy(["a"]), ArgumentError, "has no vocabulary"),
        (lambda: one.greedy([[0.5]]), DataError, "prompt 0 is a text or a list of whole numbers"),
        (lambda: one.greedy([[1]], length=0), ArgumentError, "length"),
        (lambda: one.beam([[1]], width=0), ArgumentError, "width"),
        (lambda: one.beam([[1]], length_penalty=-1), ArgumentError, "length_penalty"),
        (lambda: one.sample([[1]], key="x"), ArgumentError, r"dagtrain.key\(seed\)"),
        (lambda: one.sample([[1]], key=dt.key(0), temperature=0), ArgumentError, "temperature"),
        (lambda: one.sample([[1]], key=dt.key(0), nucleus=1.5), ArgumentError, "nucleus"),
        (lambda: one.sample([[1]], key=dt.key(0), top_k=0), ArgumentError, "top_k"),
        (lambda: one.greedy(inputs=["one"]), DataError, r"got <U3 of shape \(\); texts become numbers by encode_all"),
        (lambda: one.greedy([[-1]]), DataError, "prompt 0 holds -1, which is the number of no token"),
        (lambda: decoder(exclude=[-1]).greedy([[1]]), ArgumentError, "exclude: -1 is the number of no token"),
        (lambda: decoder(exclude=1), ArgumentError, r"as in \[0, 2\], got 1"),
        (lambda: decoder(exclude=range(5)).greedy([[1]]), ArgumentError, "all 5 tokens are excluded"),
        (lambda: decoder(end="<end>"), ArgumentError, "end must be a whole number"),
        (lambda: decoder(vocabulary=["a"]), ArgumentError, r"vocabulary is one of dagtrain.text.*got \['a'\]"),
        (lambda: decoder(weights="average"), ArgumentError, "'average' is of a trainer"),
        (lambda: window.greedy([[1]], [np.zeros((1, 2))]), ArgumentError, "has no method begin"),
        (lambda: one.greedy([[1]], [np.zeros((2, 2))]), DataError, "1 prompts, and inputs of 2 rows"),
        (lambda: decoder(end=7).greedy([[1]]), ArgumentError, "7 is the number of no token"),
        (lambda: decoder(window=3), ArgumentError, "has no window"),
        (lambda: Decoder(Pairs()), ArgumentError, "a model with its weights"),
        (lambda: Decoder("model"), ArgumentError, "a model with its weights"),
        (lambda: Decoder(Wrong(rows=2), params).greedy([[1]]), ShapeError, "the first axis of each array of the state"),
        (lambda: Decoder(Wrong(logits=math.nan), params).greedy([[1]]), NotFiniteError, "NaN or infinity"),
    ]
    for call, kind, message in mistakes:
        with pytest.raises(kind, match=message):
            call()
