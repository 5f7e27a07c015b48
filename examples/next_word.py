"""The next word: an LSTM learns the sentences of a small café, whose grammar says how well it can be done at best.

    do you want a ──▶ drink .30, burger .22, café .17, …        the grammar's own probabilities beside the network's

The grammar has 48 words, and verbs that agree with their subject over a phrase between them. Its entropy is the least cost that any model
can have; the network's cost on sentences that it never saw is compared with it.

Run: python examples/next_word.py
"""

from typing import Any

import numpy as np

import dagtrain as dt
from dagtrain.data.generated import cafe_grammar

text = dt.text
PROMPT = "do you want a"


def columns(words: text.Words, sentences: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The words of each sentence, those behind them, and which of these are there."""
    tokens, lengths = words.encode_all(sentences, start=True, end=True)
    return tokens[:, :-1], tokens[:, 1:].astype("i8"), text.mask_of(lengths - 1, tokens.shape[1] - 1)


def train(sentences: int, epochs: int, units: int = 128, batch: int = 64, verbose: int = 0) -> tuple[dt.Trainer, dict[str, Any]]:
    """A trained model, and by how much its cost is above the best one."""
    grammar = cafe_grammar()
    words = text.Words(grammar.words)
    x, y, mask = columns(words, grammar.sample(sentences, seed=1).texts)
    steps = epochs * -(-len(x) // batch)
    optimizer = dt.optim.adamw(dt.optim.schedules.polynomial(6e-3, steps))
    model = dt.nn.models.LanguageModel(words, (units,), embedding=32)
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=optimizer, shards=2)
    history = trainer.fit(x, y, sample_weight=mask, epochs=epochs, batch_size=batch, verbose=verbose)
    held_out = grammar.sample(20_000 if sentences > 5_000 else 4_000, seed=2)
    x, y, mask = columns(words, held_out.texts)
    cost, best = trainer.evaluate(x, y, sample_weight=mask)["loss"], float(held_out.costs.sum() / mask.sum())
    return trainer, {"cost": cost, "best": best, "excess": cost / best - 1, "fingerprint": history.fingerprint}


def main(quick: bool = False, verbose: int = 0) -> dict[str, Any]:
    """Train, print the probability of every next word, and write a few sentences."""
    trainer, results = train(*((4_000, 4, 48, 32) if quick else (20_000, 8)), verbose=verbose)
    cost, best, excess = results["cost"], results["best"], results["excess"]
    print(f"{cost:.4f} nats a word on new sentences, {excess:.2%} above the best possible, which is {best:.4f}")
    decoder, words = text.Decoder(trainer), trainer.model.vocabulary.entries
    probabilities, true = decoder.next_tokens([PROMPT])[0], cafe_grammar().next_words(PROMPT)
    order = np.argsort(-probabilities)
    print(f"behind {PROMPT!r}, with the grammar's own probability in brackets:")
    print(", ".join(f"{words[i]} {probabilities[i]:.4f} ({true.get(words[i], 0):.2f})" for i in order))
    for sentence in decoder.sample([""] * 5, key=dt.key(1), length=14):
        print("   ", sentence.text)
    return results | {"ranked": [words[i] for i in order], "true": list(true)}


if __name__ == "__main__":
    main(verbose=2)
