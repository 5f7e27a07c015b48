"""Speech: which phone is spoken in each hundredth of a second, by voices that training never heard.

    WAV ──▶ 13 MFCC and their derivatives ──┬──▶ a frame ──▶ logistic regression, or a deep network ──▶ phone
                                            ├──▶ 11 frames ──▶ a deep network ──▶ phone of the one in the middle
                                            └──▶ all frames ──▶ an LSTM in both directions ──▶ phone of each

A frame of a stranger is ambiguous: a short throat moves the resonances of one vowel to those of another, a closed mouth sounds the same in
p, t, k and a pause, and noise hides much. The frames around tell what is meant. The speech is that of a synthesiser, which knows each phone
(`dagtrain.data.generated`), and nothing is claimed of people.

Run: python examples/b7_speech.py [PICTURE]    seven minutes; the picture needs matplotlib
"""

import io
import itertools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

import dagtrain as dt
from dagtrain import audio, nn
from dagtrain.data.generated import PHONES, draw_speech, draw_voices

RATE, LENGTH, STEP = 16_000, 400, 160
AROUND = 5


class Settings(NamedTuple):
    """How much is generated, and how the networks are made and trained.

    Attributes
    ----------
    voices, texts, syllables
        Of training: voices, texts of each, and syllables of each text.
    new_voices, new_texts
        Voices that training never hears, and texts of each.
    known_texts
        Further texts of the voices of training.
    deep
        Width, dropout and epochs of the networks on frames.
    lstm
        Units, layers, dropout, epochs, batch and rate of the network on sequences.
    """

    voices: int
    texts: int
    syllables: int
    new_voices: int
    new_texts: int
    known_texts: int
    deep: tuple[int, float, int]
    lstm: tuple[int, int, float, int, int, float]


FULL = Settings(32, 16, 8, 16, 10, 5, (256, 0.2, 12), (64, 2, 0.3, 12, 8, 3e-3))
QUICK = Settings(8, 4, 4, 4, 3, 0, (64, 0.1, 8), (32, 1, 0.1, 16, 16, 2e-2))
Method = Callable[[list[np.ndarray]], list[np.ndarray]]
"""Features of recordings → the phone of each frame."""


def listen(samples: np.ndarray) -> np.ndarray:
    """The features of a recording, by way of a WAV file."""
    file = io.BytesIO()
    audio.write_wav(file, samples, RATE)
    file.seek(0)
    return audio.standardize(audio.deltas(audio.mfcc(*audio.read_wav(file))))


def draw(voices: int, texts: int, syllables: int, voice_seed: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Features and labels of the frames of each recording."""
    recordings = draw_speech(draw_voices(voices, voice_seed), texts, seed, syllables, RATE)
    return [listen(r.samples) for r in recordings], [audio.frames(r.labels, LENGTH, STEP)[:, LENGTH // 2] for r in recordings]


def train(model: nn.Layer, data: tuple[Any, Any, Any], epochs: int, batch: int, rate: float, seed: int) -> dt.Trainer:
    x, y, mask = data
    steps = epochs * -(-len(y) // batch)
    optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(1.0), dt.optim.adam(dt.optim.schedules.polynomial(rate, steps)))
    trainer = dt.Trainer(model, loss="cross_entropy", metrics=["accuracy"], optimizer=optimizer, seed=seed, shards=2)
    trainer.fit(x, y, sample_weight=mask, epochs=epochs, batch_size=batch, verbose=0)
    return trainer


def on_frames(width: int, dropout: float) -> nn.Layer:
    """A deep network on one frame, with or without those around it."""
    hidden = [layer for _ in range(3) for layer in (nn.Dense(width, "relu"), nn.Dropout(dropout))]
    return nn.Sequential([*hidden, nn.Dense(len(PHONES))])


def on_sequences(units: int, layers: int, dropout: float) -> nn.Layer:
    """LSTMs that go through a recording in both directions."""
    hidden = [layer for _ in range(layers) for layer in (nn.Bidirectional(nn.LSTM(units, return_sequences=True)), nn.Dropout(dropout))]
    return nn.Sequential([*hidden, nn.Dense(len(PHONES))])


def joined(features: list[np.ndarray], around: int) -> np.ndarray:
    """All frames beside their neighbours within each recording."""
    return np.concatenate([audio.context(recording, around, around) for recording in features])


def padded(features: list[np.ndarray], labels: list[np.ndarray], length: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """Recordings as rows of one length; the mask leaves padding out of the loss."""
    x, lengths = dt.text.pad(features, length)
    return (x, lengths), dt.text.pad(labels, length)[0], dt.text.mask_of(lengths, length)


def framewise(predict: Callable[[np.ndarray], Any], around: int) -> Method:
    """Phones of recordings by a model of frames."""

    def guess(features: list[np.ndarray]) -> list[np.ndarray]:
        ends = np.cumsum([len(recording) for recording in features])
        return np.split(np.asarray(predict(joined(features, around))).argmax(axis=-1), ends[:-1])

    return guess


def sequencewise(trainer: dt.Trainer, length: int) -> Method:
    """Phones of recordings by a model of sequences."""
    return lambda features: [
        row[: len(recording)]
        for row, recording in zip(trainer.predict(dt.text.pad(features, length)).argmax(axis=-1), features, strict=True)
    ]


def main(quick: bool = False, picture: str | None = None, seed: int = 0) -> dict[str, Any]:
    """Frame accuracy on held-out voices, and beside it that on further texts of the voices of training."""
    settings = QUICK if quick else FULL
    known, new, further = 1000 + seed, 2000 + seed, 3000 + seed
    features, labels = draw(settings.voices, settings.texts, settings.syllables, known, known)
    sets = {"new voices": draw(settings.new_voices, settings.new_texts, settings.syllables, new, new)}
    if settings.known_texts:
        sets["known voices"] = draw(settings.voices, settings.known_texts, settings.syllables, known, further)
    y = np.concatenate(labels)

    methods = {"logistic regression": framewise(LogisticRegression(max_iter=300).fit(joined(features, 0), y).predict_proba, 0)}
    width, dropout, epochs = settings.deep
    for around in (0,) if quick else (0, AROUND):
        trainer = train(on_frames(width, dropout), (joined(features, around), y, None), epochs, 128, 2e-3, seed)
        methods[f"deep, {2 * around + 1} frames" if around else "deep, a frame"] = framewise(trainer.predict, around)
    units, layers, dropout, epochs, batch, rate = settings.lstm
    length = max(len(recording) for each in (features, *(x for x, _ in sets.values())) for recording in each)
    trainer = train(on_sequences(units, layers, dropout), padded(features, labels, length), epochs, batch, rate, seed)
    methods["LSTM"] = sequencewise(trainer, length)

    accuracies: dict[str, float] = {}
    for which, (x, true) in sets.items():
        for name, method in methods.items():
            accuracies[f"{name}, {which}"] = float(np.mean(np.concatenate(method(x)) == np.concatenate(true)))
    for name, value in accuracies.items():
        print(f"{name:36} {value:.3f}")
    if picture is not None:
        x, true = sets["new voices"]
        sound = draw_speech(draw_voices(1, new), 1, new, settings.syllables, RATE)[0].samples
        plot(picture, sound, {"spoken": true[0], **{name: method(x[:1])[0] for name, method in methods.items()}})
    return {
        "figure": "frame accuracy of an LSTM on new voices",
        "value": accuracies["LSTM, new voices"],
        "bound": 1.0,
        "accuracies": accuracies,
        "fingerprint": trainer.history.fingerprint,
    }


def plot(picture: str, sound: np.ndarray, phones: dict[str, np.ndarray]) -> None:
    """The mel bands of a recording, and beneath what each method takes it for; what is wrong is red."""
    from matplotlib import pyplot

    spectrum = audio.log_mel(sound, RATE, bands=40)
    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(11, 5), height_ratios=(3, 2), sharex=True, layout="constrained")
    top.imshow(spectrum.T, origin="lower", aspect="auto", vmin=np.percentile(spectrum, 10))
    top.set_ylabel("mel band")
    for row, guessed in enumerate(phones.values()):
        right = guessed == phones["spoken"]
        borders = np.flatnonzero(np.diff(2 * guessed + right, prepend=-1, append=-1))
        for start, end in itertools.pairwise(borders):
            color = "lightgrey" if right[start] else "salmon"
            bottom.barh(-row, end - start, left=start - 0.5, height=0.9, color=color, edgecolor="white")
            if end - start > 2:
                bottom.text((start + end - 1) / 2, -row, list(PHONES)[guessed[start]], ha="center", va="center")
    bottom.set_yticks(-np.arange(len(phones)), phones)
    bottom.set_xlabel("hundredths of a second")
    figure.savefig(picture)
    pyplot.close(figure)


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
