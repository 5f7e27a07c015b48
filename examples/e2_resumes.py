"""Thirty thousand résumés ranked for a post in one go, on a cluster, by a network on hashed n-grams.

    text ──▶ n-grams of its words, hashed ──▶ a vector for each, summed ──▶ probabilities of the grades 0 to 4 ──▶ expected gain ──▶ rank
              where the texts lie                               the same bits anywhere

The network learns from 12,000 résumés that recruiters graded; the 30,000 are others. What counts is nDCG of the first fifty: the gain of
the grades that they get, more for those on top, as a share of the best order's. The bound is the order by the expected gain that the
generator itself gives: grades are partly luck. Settings were picked on the résumés of seeds 100 and 200.

Run: python examples/e2_resumes.py [PICTURE]    three minutes; a file for gains by rank, which needs matplotlib
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import dagtrain as dt
from dagtrain.data.generated import Resumes, draw_resumes, graded_gain

nn = dt.nn
GRAMS, LENGTH, FIRST = dt.text.HashedNGrams(8192, sizes=(1, 2, 3, 4)), 160, 50
PART = 2048
"""Résumés in a partition."""


@dataclass(frozen=True)
class Bag(nn.Layer):
    """The sum of the vectors of a text's n-grams, by the root of their number."""

    embedding: nn.Layer

    def forward(self, c: Any, tokens: Any) -> Any:
        """One vector for each text."""
        vectors, mask = c(self.embedding, tokens)
        count = np.sum(mask, axis=1, keepdims=True).astype(c.dtype)
        return np.sum(np.where(mask[..., None], vectors, 0), axis=1) / np.sqrt(np.maximum(count, 1))


def encode(texts: Sequence[str]) -> np.ndarray:
    """The numbers of n-grams of texts; what is longer is cut off."""
    return GRAMS.encode_all(texts, LENGTH, cut=True)[0]


def train(graded: Resumes, seed: int, epochs: int, engine: Any = "auto") -> dt.Trainer:
    """A network that tells the probabilities of the grades."""
    model = nn.Sequential([Bag(nn.Embedding(len(GRAMS), 16, mask_zero=True)), nn.Dense(64, "relu"), nn.Dense(5)])
    falling = dt.optim.cosine(1e-2, epochs * -(-len(graded.texts) // 128))
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(falling), seed=seed, engine=engine)
    trainer.fit(encode(graded.texts), graded.grades, epochs=epochs, batch_size=128, verbose=0)
    return trainer


def scores(trainer: dt.Trainer, parts: Sequence[Any]) -> np.ndarray:
    """The expected gain of each résumé; parts are lists of texts, here or as delayed values or futures, which stay where they are."""
    if isinstance(parts[0], list):
        tables = [trainer.predict(encode(part), probabilities=True) for part in parts]
        return np.concatenate(tables) @ graded_gain(np.arange(5))
    import dask

    encoded = [dask.delayed(encode)(part) for part in parts]
    return np.asarray(trainer.predict(encoded, probabilities=True).compute()) @ graded_gain(np.arange(5))


def ndcg(gains: np.ndarray, by: np.ndarray, first: int = FIRST) -> float:
    """The discounted gain of the first in an order, as a share of the best order's."""
    discounts = 1 / np.log2(np.arange(first) + 2)

    def discounted(score: np.ndarray) -> float:
        return float(gains[np.argsort(-score, kind="stable")[:first]] @ discounts)

    return discounted(by) / discounted(gains)


def throughput(trainer: dt.Trainer, texts: list[str], workers: int) -> tuple[float, np.ndarray]:
    """Résumés ranked in a second on so many workers, which hold the texts; and the scores."""
    from distributed import Client, LocalCluster

    parts = [texts[i : i + PART] for i in range(0, len(texts), PART)]
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        held = client.scatter(parts, hash=False)
        scores(trainer, client.scatter([parts[0][:64]] * workers, hash=False))  # workers import and compile
        start = time.perf_counter()
        found = scores(trainer, held)
        return len(texts) / (time.perf_counter() - start), found


def main(quick: bool = False, picture: str | None = None) -> dict[str, Any]:
    """Quality of the first fifty and its bound, means of three pools, in the quick form one; in full also résumés a second."""
    values, bounds = [], []
    for seed in range(1 if quick else 3):
        graded = draw_resumes(2000 if quick else 12_000, seed=2 * seed + 1)
        pool = draw_resumes(3000 if quick else 30_000, seed=2 * seed + 2)
        trainer = train(graded, seed, 5 if quick else 8)
        found = scores(trainer, [pool.texts[i : i + PART] for i in range(0, len(pool.texts), PART)])
        gains = graded_gain(pool.grades)
        values.append(ndcg(gains, found))
        bounds.append(ndcg(gains, pool.expected_gain))
        print(f"nDCG@{FIRST} {values[-1]:.3f}, of the generator's order {bounds[-1]:.3f}; fingerprint {trainer.state.fingerprint[:8]}")
    results = {"figure": f"nDCG@{FIRST} of {len(gains):,} résumés", "value": float(np.mean(values)), "bound": float(np.mean(bounds))}
    for workers in () if quick else (1, 2):
        rate, there = throughput(trainer, pool.texts, workers)
        name = "1 worker" if workers == 1 else f"{workers} workers"
        results[f"résumés/s, {name}"] = rate
        print(f"{name}: {rate:,.0f} résumés/s, the same bits: {np.array_equal(there, found)}")
    if picture is not None:
        orders = {"network": found, "generator": pool.expected_gain, "by chance": np.random.default_rng(0).random(len(gains))}
        ranked = {name: gains[np.argsort(-score, kind="stable")[:500]] for name, score in orders.items()}
        dt.explain.plot_lines(ranked, mean_over=50, x="rank", y="gain, mean of fifty", title="Gains in ranked order", filename=picture)
    return {**results, "fingerprint": trainer.state.fingerprint}


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
