"""Captions: a convolutional network sees a scene of two shapes, and a recurrent one with attention says where they are.

    ┌──────────┐
    │ ●        │  ──▶ places ──▶ "a red circle is left of a blue square"
    │       ■  │
    └──────────┘

The scenes that judge it have combinations of shape, colour and relation that training never showed. A caption is grammatical if it is in
one of the six forms, and true if it says what is in the scene.

Run: python examples/captions.py
"""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import dagtrain as dt
from dagtrain.data.generated import Scenes, caption_entropy, draw_scenes, judge_caption

nn, text = dt.nn, dt.text


def seeing(filters: tuple[int, ...]) -> nn.Sequential:
    """Convolutions that make the picture an eighth as high and as wide."""
    layers: list[nn.Layer] = []
    for i, n in enumerate(filters):
        convolution = nn.Conv2D(n, 3 if i else 5, strides=1 if i else 2, padding="same", use_bias=False)
        layers += [convolution, nn.BatchNorm(), nn.Activation("relu"), *([nn.MaxPooling2D()] if i else [])]
    return nn.Sequential(layers)


def train(images: int, epochs: int, encoder: nn.Layer, units: int = 128, batch: int = 32, first: float = 2.5e-3, verbose: int = 0) -> Any:
    """A trained captioner, and the fingerprint of its weights."""
    scenes = draw_scenes(images, seed=1)
    words = text.Words.learn(scenes.captions)
    tokens, lengths = words.encode_all(scenes.captions, start=True, end=True)
    mask = text.mask_of(lengths - 1, tokens.shape[1] - 1)
    rate = dt.optim.schedules.polynomial(first, epochs * -(-images // batch))
    model = nn.models.Captioner(encoder, words, (units,))
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(rate), shards=2)
    y = tokens[:, 1:].astype("i8")
    history = trainer.fit((scenes.images, tokens[:, :-1]), y, sample_weight=mask, epochs=epochs, batch_size=batch, verbose=verbose)
    return trainer, history.fingerprint


def judged(captions: list[str], scenes: Scenes) -> dict[str, Any]:
    """Of captions, how many are grammatical and true, how many forms they use, and the entropy of the forms in nats."""
    judgements = [judge_caption(*pair) for pair in zip(captions, scenes.facts, strict=True)]
    forms = Counter(judgement.form for judgement in judgements if judgement.form)
    entropy = -sum(n / forms.total() * math.log(n / forms.total()) for n in forms.values())
    grammatical, true = forms.total() / len(captions), float(np.mean([judgement.true for judgement in judgements]))
    return {"grammatical": grammatical, "true": true, "forms": len(forms), "entropy": entropy}


def main(quick: bool = False, verbose: int = 0, folder: str | Path = ".") -> dict[str, Any]:
    """Train, judge the likeliest captions and drawn ones of scenes that are held out, and print some."""
    if quick:  # to learn the sentences, and little of what is in the pictures
        trainer, fingerprint = train(1_500, 8, seeing((8, 12, 16)), 48, first=8e-3, verbose=verbose)
    else:
        trainer, fingerprint = train(20_000, 8, seeing((16, 32, 64)), verbose=verbose)
    scenes = draw_scenes(200 if quick else 1_000, seed=2, held_out=True)
    decoder = text.Decoder(trainer)
    best = [row[0].text for row in decoder.beam(None, scenes.images, length=14, width=3)]
    drawn = [caption.text for caption in decoder.sample(None, scenes.images, length=14, key=dt.key(1))]
    results = {"likeliest": judged(best, scenes), "drawn": judged(drawn, scenes), "fingerprint": fingerprint}
    for name in ("likeliest", "drawn"):
        print(f"{name} captions: " + ", ".join(f"{what} {value:.3f}" for what, value in results[name].items()))
    print(f"a caption of one scene has {caption_entropy():.3f} nats")
    for caption, other, fact in list(zip(best, drawn, scenes.facts, strict=True))[:6]:
        print(f"    {' '.join(fact)}: {caption!r}, or {other!r}")
    picture(scenes, best, Path(folder))
    return results


def picture(scenes: Scenes, captions: list[str], folder: Path) -> None:
    """Six scenes with their captions, if matplotlib is there."""
    try:
        from matplotlib import pyplot
    except ImportError:
        return
    figure, axes = pyplot.subplots(2, 3, figsize=(12, 8))
    for axis, image, caption in zip(axes.flat, scenes.images, captions, strict=False):
        axis.imshow(np.clip(image, 0, 1))
        axis.set_title(caption, fontsize=9)
        axis.axis("off")
    figure.savefig(folder / "captions.png")


if __name__ == "__main__":
    main(verbose=2)
