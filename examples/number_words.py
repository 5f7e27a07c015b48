"""Sequence to sequence: a network reads a number in words and writes its digits, for numbers that it never saw.

    seven thousand and forty two ──▶ encoder ──▶ attention ──▶ 7042

The words do not line up with the digits: a digit may have no word, and "thousand" no digit.

Run: python examples/number_words.py
"""

from typing import Any

import numpy as np

import dagtrain as dt

text = dt.text
ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen"]
ONES += ["fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(number: int) -> str:
    """A number below 10,000 in words.

    Examples
    --------
    >>> in_words(7042), in_words(319), in_words(20)
    ('seven thousand and forty two', 'three hundred and nineteen', 'twenty')
    """
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10 - 2] + (f" {ONES[number % 10]}" if number % 10 else "")
    unit, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    rest = number % unit
    joint = " and " if 0 < rest < 100 else " " if rest else ""
    return f"{in_words(number // unit)} {name}{joint}{in_words(rest) if rest else ''}"


def main(quick: bool = False, verbose: int = 0) -> dict[str, Any]:
    """How many numbers that were not in training are written without a fault, by the likeliest digit and by beam search."""
    count, epochs, units = (2_000, 5, 48) if quick else (4_000, 20, 96)
    order = np.random.default_rng(0).permutation(10_000)
    seen, held_out = order[:count].tolist(), order[-300:].tolist()
    words, digits = text.Words.learn(map(in_words, range(10_000))), text.Characters.learn(["0123456789"])
    source, _ = words.encode_all([in_words(n) for n in seen])
    tokens, lengths = digits.encode_all(map(str, seen), start=True, end=True)
    mask = text.mask_of(lengths - 1, tokens.shape[1] - 1)
    rate = dt.optim.schedules.polynomial(1e-2, epochs * -(-count // 64))
    model = dt.nn.models.SequenceToSequence(words, digits, (units,), embedding=32, cell="gru")
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(rate), shards=2)
    history = trainer.fit(
        (source, tokens[:, :-1]), tokens[:, 1:].astype("i8"), sample_weight=mask, epochs=epochs, batch_size=64, verbose=verbose
    )
    decoder = text.Decoder(trainer)
    inputs = words.encode_all([in_words(n) for n in held_out], source.shape[1])[0]
    likeliest = [result.text for result in decoder.greedy(None, inputs, length=6)]
    best = [results[0].text for results in decoder.beam(None, inputs, length=6, width=3)]
    right = {"likeliest": likeliest, "beam": best}
    results = {name: float(np.mean([a == str(n) for a, n in zip(found, held_out, strict=True)])) for name, found in right.items()}
    print(f"of numbers never seen, {results['likeliest']:.1%} are right, and {results['beam']:.1%} by beam search")
    for number, written in list(zip(held_out, best, strict=True))[:5]:
        print(f"    {in_words(number)} → {written}")
    return results | {"fingerprint": history.fingerprint}


if __name__ == "__main__":
    main(verbose=2)
