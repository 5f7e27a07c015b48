"""Payments by card, in the order of time, of which one in a hundred is fraud: a process whose every probability is known."""

from __future__ import annotations

import numpy as np

from dagtrain.data.generated.cases import Column, Process, Term, by_value, choose, with_gaps
from dagtrain.graph import Array

__all__ = ["PAYMENTS"]

_A_DAY = 4000
"""Payments."""
SHOPS = {"groceries": 26, "restaurants": 15, "fuel": 10, "clothes": 9, "travel": 5, "electronics": 6}
SHOPS |= {"gift cards": 2, "gambling": 2, "pharmacy": 7, "subscriptions": 10, "cash": 8}
_LOG_AMOUNTS = dict.fromkeys(SHOPS, 3.6) | {"groceries": 3.3, "clothes": 4.0, "travel": 5.3, "electronics": 5.0, "gift cards": 3.9}
_ONLINE = dict.fromkeys(SHOPS, 0.3) | {"groceries": 0.1, "fuel": 0.0, "clothes": 0.5, "travel": 0.8, "electronics": 0.6, "gift cards": 0.5}


def _columns(draw: np.random.Generator, numbers: Array) -> dict[str, Column]:
    count = len(numbers)
    shop = choose(draw, SHOPS, count)
    amount = np.exp(by_value(_LOG_AMOUNTS)(shop) + 0.9 * draw.normal(size=count))
    online = draw.random(count) < by_value(_ONLINE)(shop)
    entry = np.where(shop == "cash", "machine", np.where(online, "online", choose(draw, {"chip": 45, "contactless": 55}, count)))
    is_known = draw.random(count) < 0.85
    far = draw.choice([1, 30], count, p=[0.96, 0.04])
    busy = draw.random(count) < 0.08
    return {
        "day": (numbers / _A_DAY).round(3),
        "hour": np.where(draw.random(count) < 0.88, draw.normal(15, 3.8, count), draw.uniform(0, 24, count)).round(2) % 24,
        "amount": amount.round(2),
        "shop": shop,
        "entry": entry.astype(object),
        "device": with_gaps(np.where(is_known, "known", "new").astype(object), entry != "online"),
        "distance": np.where(entry == "online", np.nan, np.exp(draw.normal(1.2, 1.5, count)) * far).round(1),
        "minutes before": (np.exp(np.where(busy, draw.normal(2.0, 1.0, count), draw.normal(6.6, 1.3, count)))).round(1),
        "payments today": draw.poisson(np.where(busy, 7.0, 1.2)).astype(float),
        "months of account": np.minimum(draw.exponential(50.0, count), 240.0).round(),
        "country": choose(draw, {"home": 88, "neighbour": 8, "overseas": 4}, count),
    }


def _night(hour: Array) -> Array:
    """1 at 3 o'clock, and next to nothing in the day."""
    return np.asarray(np.exp(-(((hour + 9) % 24 - 12) ** 2) / 8))


def _tried_out(amount: Array, minutes: Array) -> Array:
    """A small payment right after another one, to see if the card is good."""
    return np.asarray(4.5 * np.exp(-amount / 25 - minutes / 15))


def _too_fast(distance: Array, minutes: Array) -> Array:
    """Further from the last payment than anyone travels."""
    speed = np.nan_to_num(distance) / (minutes + 2)
    return np.asarray(4.0 * speed**2 / (speed**2 + 6))


def _large_for_shop(amount: Array, shop: Column) -> Array:
    above = np.maximum(np.log(amount) - by_value(_LOG_AMOUNTS)(shop) - 0.4, 0)
    return above * by_value({**dict.fromkeys(SHOPS, 0.6), "electronics": 2.0, "gift cards": 2.8})(shop)


def _new_device(device: Column, amount: Array) -> Array:
    return by_value({"new": 1.0, "known": -0.3, None: 0.0})(device) * (1.5 + 0.9 * np.log(amount / 40))


def _at_night(hour: Array, entry: Column) -> Array:
    return 3.0 * _night(hour) * by_value({"machine": 1.0, "online": 0.5, "chip": 0.0, "contactless": 0.0})(entry)


_TERMS: list[Term] = [
    (("hour",), lambda hour: 0.8 * _night(hour)),
    (("hour", "entry"), _at_night),
    (("amount", "minutes before"), _tried_out),
    (("distance", "minutes before"), _too_fast),
    (("amount", "shop"), _large_for_shop),
    (("device", "amount"), _new_device),
    (("payments today",), lambda payments: 0.1 * payments),
    (("months of account",), lambda months: 1.6 * np.exp(-months / 6)),
    (("country",), by_value({"home": 0.0, "neighbour": 0.4, "overseas": 1.0})),
    (("country", "entry"), lambda country, entry: 1.8 * ((country == "overseas") & (entry == "contactless"))),
    (("shop",), by_value({**dict.fromkeys(SHOPS, 0.0), "gift cards": 0.9, "gambling": 0.8, "electronics": 0.4, "groceries": -0.6})),
    (("day",), lambda day: 0.012 * (day - 25)),
]

PAYMENTS = Process("payments", _columns, -6.35, _TERMS)
"""Payments by card, 4,000 a day in the order of their numbers; label 1 is fraud, which becomes more frequent with the days."""
