"""The next character: a transformer reads the sentences of a small café letter by letter, and its cost is set beside the least possible.

    d o _ y o u _ w a n t _ a _ ──▶ b .32, p .22, d .21 …       the grammar's own probabilities beside the network's

The sentences come from a grammar of words whose entropy is known. Letters and words say the same, so that entropy, shared by the characters
of a sentence and its end, is the least cost of a character. A row holds whole sentences, one below the other.

Run: python examples/next_character.py
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

import dagtrain as dt
from dagtrain.data.generated import cafe_grammar

text = dt.text
PROMPT = "do you want a "
LENGTH = 80  # characters of a row


def rows_of(sentences: Sequence[str]) -> list[str]:
    """Rows of whole sentences, a line each."""
    rows = [""]
    for sentence in sentences:
        fits = len(rows[-1]) + len(sentence) < LENGTH
        rows[len(rows) - 1 if fits else len(rows) :] = [(rows[-1] if fits else "") + sentence + "\n"]
    return rows


def columns(characters: text.Characters, sentences: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The characters of each row, those behind them, and which of these are there."""
    tokens, lengths = characters.encode_all(rows_of(sentences), LENGTH + 1, start=True)
    return tokens[:, :-1], tokens[:, 1:].astype("i8"), text.mask_of(lengths - 1, LENGTH)


def true_letters(prompt: str) -> dict[str, float]:
    """The grammar's own probability of each letter behind a prompt that ends with a space."""
    letters: dict[str, float] = {}
    for word, probability in cafe_grammar().next_words(prompt.strip()).items():
        letters[word[0]] = letters.get(word[0], 0.0) + probability
    return letters


def train(
    sentences: int, epochs: int, width: int = 48, num_layers: int = 2, batch: int = 16, rate: float = 6e-3, verbose: int = 0
) -> tuple[dt.Trainer, dict[str, Any]]:
    """A trained model, and by how much its cost is above the best one."""
    grammar = cafe_grammar()
    characters = text.Characters.learn(["\n ", *grammar.words])
    x, y, mask = columns(characters, grammar.sample(sentences, seed=1).texts)
    steps = epochs * -(-len(x) // batch)
    optimizer = dt.optim.adamw(dt.optim.schedules.cosine(rate, steps, warmup_steps=steps // 20))
    model = dt.nn.models.TransformerLM(characters, num_layers, num_heads=4, width=width, max_length=2 * LENGTH, positions="rotary")
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=optimizer)
    history = trainer.fit(x, y, sample_weight=mask, epochs=epochs, batch_size=batch, verbose=verbose)
    held_out = grammar.sample(20_000 if sentences > 5_000 else 2_000, seed=2)
    x, y, mask = columns(characters, held_out.texts)
    cost, best = trainer.evaluate(x, y, sample_weight=mask)["loss"], float(held_out.costs.sum() / mask.sum())
    return trainer, {"cost": cost, "best": best, "excess": cost / best - 1, "fingerprint": history.fingerprint}


def main(quick: bool = False, verbose: int = 0) -> dict[str, Any]:
    """Train, print the probability of every next letter, and write a few sentences."""
    trainer, results = train(*((2_000, 2, 48, 1, 8) if quick else (16_000, 4)), verbose=verbose)
    cost, best, excess = results["cost"], results["best"], results["excess"]
    print(f"{cost:.4f} nats a character on new sentences, {excess:.2%} above the best possible, which is {best:.4f}")
    decoder, entries = text.Decoder(trainer), trainer.model.vocabulary.entries
    probabilities, true = decoder.next_tokens([PROMPT])[0], true_letters(PROMPT)
    order = [i for i in np.argsort(-probabilities) if probabilities[i] > 0.001]
    print(f"behind {PROMPT!r}, with the grammar's own probability in brackets:")
    print(", ".join(f"{entries[i]} {probabilities[i]:.4f} ({true.get(entries[i], 0):.2f})" for i in order))
    print(decoder.sample([""], key=dt.key(1), length=LENGTH)[0].text)
    return results | {"letters": {entries[i]: float(probabilities[i]) for i in order}, "true": true}


if __name__ == "__main__":
    main(verbose=2)
