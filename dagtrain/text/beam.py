"""Beam search: the likeliest sentences, of as many as are followed at once.

    rows × width sentences ──step──▶ each with each next token ──▶ the `width` likeliest of each row ──▶ go on
                                                                └─▶ those that end are finished

A sentence's score is its log probability divided by a penalty that grows with its length, so long sentences are not at a disadvantage.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from dagtrain.graph import Array
from dagtrain.text.choice import log_probabilities
from dagtrain.text.stepping import Ahead, Stepping, rows_of
from dagtrain.text.vocabulary import PAD

__all__ = ["Found", "search"]


class Found(NamedTuple):
    """A sentence that was found, without its end.

    Attributes
    ----------
    tokens
        Its tokens.
    log_probability
        Of its tokens and, if it is finished, of its end.
    score
        The log probability divided by the length penalty.
    finished
        Whether it ended by itself.
    """

    tokens: Array
    log_probability: float
    score: float
    finished: bool


def penalty(length: int, exponent: float) -> float:
    """What the log probability of so many tokens is divided by (Wu et al., arXiv:1609.08144, equation 14)."""
    return float(((5 + length) / 6) ** exponent)


def search(
    stepping: Stepping, ahead: Ahead, length: int, width: int, exponent: float, end: int | None, exclude: Collection[int]
) -> list[list[Found]]:
    """For each row the best sentences, at most `width`: finished ones first, then by score.

    Parameters
    ----------
    stepping, ahead
        The model, and what it says behind the prompts.
    length
        The most tokens of a sentence, its end included.
    width
        Sentences that are followed at once.
    exponent
        Of the length penalty, from 0 up.
    end
        The token that ends a sentence; None for sentences of this length alone.
    exclude
        Tokens that are never chosen.
    """
    rows = len(ahead.logits)
    finished: list[list[Found]] = [[] for _ in range(rows)]
    logs = np.full((rows, width), -np.inf)
    logs[:, 0] = 0.0  # the others are copies of the first
    tokens = np.zeros((rows, width, 0), np.int32)
    ahead = Ahead(np.repeat(ahead.logits, width, axis=0), rows_of(ahead.state, np.repeat(np.arange(rows), width)))
    for n in range(1, length + 1):
        each = (logs[..., None] + log_probabilities(ahead.logits, exclude).reshape(rows, width, -1)).reshape(rows, -1)
        count = each.shape[1] // width
        order = np.argsort(-each, axis=1, kind="stable")[:, : 2 * width]
        beams, chosen = order // count, (order % count).astype(np.int32)
        best = np.take_along_axis(each, order, 1)
        ends = chosen == end if end is not None else np.zeros(chosen.shape, bool)
        for row, place in zip(*np.nonzero(ends[:, :width] & np.isfinite(best[:, :width])), strict=True):
            log = float(best[row, place])
            finished[row].append(Found(tokens[row, beams[row, place]], log, log / penalty(n, exponent), True))
        first = np.argsort(ends, axis=1, kind="stable")[:, :width]  # those that go on: at most `width` of twice as many end
        beams, chosen, logs, ends = (np.take_along_axis(a, first, 1) for a in (beams, chosen, best, ends))
        logs = np.where(ends, -np.inf, logs)
        tokens = np.concatenate([np.take_along_axis(tokens, beams[..., None], 1), chosen[..., None]], axis=2)
        finished = [sorted(row, key=lambda found: -found.score)[:width] for row in finished]
        if n == length or all(_is_done(row, log, width, penalty(length, exponent)) for row, log in zip(finished, logs, strict=True)):
            break
        state = rows_of(ahead.state, (np.arange(rows)[:, None] * width + beams).reshape(-1))
        ahead = stepping.step(np.where(ends, PAD, chosen).reshape(-1), state)
    unfinished = [
        [Found(t, float(log), float(log) / penalty(len(t), exponent), False) for t, log in zip(*pair, strict=True) if np.isfinite(log)]
        for pair in zip(tokens, logs, strict=True)
    ]
    return [[*done, *others][:width] for done, others in zip(finished, unfinished, strict=True)]


def _is_done(finished: list[Found], logs: Array, width: int, most: float) -> bool:
    """Whether no sentence that goes on can become better than those finished: its log probability only falls."""
    return bool(np.isneginf(logs.max())) or (len(finished) == width and finished[-1].score >= logs.max() / most)
