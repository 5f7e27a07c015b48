"""How the next token is chosen: the probabilities of all, and a draw from them by a key."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from dagtrain.arguments import fraction, is_whole, positive, whole
from dagtrain.errors import ArgumentError, NotFiniteError
from dagtrain.graph import Array
from dagtrain.ops import find
from dagtrain.ops.random import derive

__all__ = ["draw", "log_probabilities", "probabilities"]


def log_probabilities(logits: Any, exclude: Collection[int] = ()) -> Array:
    """The logarithm of the probability of each token, in float64; tokens to exclude have none."""
    z = np.array(logits, np.float64)
    if not np.isfinite(z).all():
        raise NotFiniteError("the model's logits hold NaN or infinity, so they choose no token.")
    count = z.shape[-1]
    wrong = [number for number in exclude if not is_whole(number) or not 0 <= number < count]
    if wrong:
        raise ArgumentError(f"exclude: {wrong[0]!r} is the number of no token: the model knows {count}.")
    if len(set(exclude)) == count:
        raise ArgumentError(f"exclude: all {count} tokens are excluded, so there is none to choose.")
    z[..., list(exclude)] = -np.inf
    z -= z.max(axis=-1, keepdims=True)
    logs: Array = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return logs


def probabilities(
    logits: Any, temperature: float = 1.0, top_k: int | None = None, nucleus: float | None = None, exclude: Collection[int] = ()
) -> Array:
    """The probabilities that a token is drawn from, in float64.

    First the temperature changes them, then `top_k` and then `nucleus` leave tokens out; those that stay sum to 1.

    Parameters
    ----------
    logits
        Of shape (..., tokens).
    temperature
        Logits are divided by it: below 1 likely tokens become likelier.
    top_k
        How many of the likeliest tokens stay; of those that are as likely, the first ones.
    nucleus
        The likeliest tokens stay, as few as have this probability together (Holtzman et al., "The curious case of neural text
        degeneration", arXiv:1904.09751, section 3.1).
    exclude
        Tokens that are never drawn.

    Examples
    --------
    >>> logits = np.log([0.5, 0.3, 0.15, 0.05])
    >>> probabilities(logits, nucleus=0.7).round(4)
    array([0.625, 0.375, 0.   , 0.   ])
    >>> probabilities(logits, temperature=0.5, top_k=3).round(4)
    array([0.6897, 0.2483, 0.0621, 0.    ])
    """
    if is_whole(temperature) and temperature == 0:
        raise ArgumentError("temperature must be a finite number above 0, got 0: Decoder.greedy takes the likeliest token.")
    p = np.exp(log_probabilities(np.asarray(logits, np.float64) / positive("temperature", temperature), exclude))
    if top_k is None and nucleus is None:
        return p
    order = np.argsort(-p, axis=-1, kind="stable")
    ranked = np.take_along_axis(p, order, -1)
    if top_k is not None:
        ranked[..., whole("top_k", top_k) :] = 0
        ranked /= ranked.sum(axis=-1, keepdims=True)
    if nucleus is not None:
        fraction("nucleus", positive("nucleus", nucleus), one=True)
        before = np.cumsum(ranked, axis=-1) - ranked
        ranked[before >= nucleus] = 0  # of those that have it without this one
        ranked /= ranked.sum(axis=-1, keepdims=True)
    kept: Array = np.zeros_like(p)
    np.put_along_axis(kept, order, ranked, -1)
    return kept


def draw(p: Array, key: Any, position: int) -> Array:
    """A token for each row, drawn from its probabilities: a function of the key, the position and the number of the row."""
    at = find("random_uniform").kernel(derive(key, position), shape=p.shape[:-1], dtype="<f8")
    ends = np.cumsum(p, axis=-1)
    chosen: Array = (ends <= at[..., None] * ends[..., -1:]).sum(axis=-1, dtype=np.int32)
    return chosen
