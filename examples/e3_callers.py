"""Callers: the tone of a voice from its pitch, tempo and loudness, and which calls a person should take.

    sound ──▶ pitch, tempo, level ──▶ network ──▶ calm 7 %  glad 24 %  angry 69 %  ──▶ 69 % ≥ threshold: to a person

An angry caller who is left to the machine costs 5, a call that takes a person's time for nothing costs 1. The threshold is the one of least
cost on calls that are neither for training nor for the figures. The calls are generated: pitch, pace and level of each are drawn from known
distributions, so the cost of the best possible decisions is known. Nothing is claimed of how people sound.

Run: python examples/e3_callers.py [PICTURE]    three minutes; the picture needs matplotlib
"""

import sys
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dagtrain as dt
from dagtrain import audio, nn
from dagtrain.data.generated import CALL_RATE, TONES, draw_calls, tone_probabilities

MISSED, NEEDLESS = 5.0, 1.0
"""What an angry caller costs who does not get a person, and a person for another caller."""
ANGRY = list(TONES).index("angry")


def heard(sound: np.ndarray) -> list[float]:
    """The logarithm of the pitch, that of the tempo, and the level in decibels, as far as there is voice."""
    pitch = audio.pitch(sound, CALL_RATE, high=450, step=0.02)
    level = audio.level(sound, CALL_RATE, length=0.05, step=0.02)
    voiced = (pitch.strength > 0.6) & (level > np.percentile(level, 95) - 15)
    loudness = 10 * np.log10(np.mean(10 ** (level[voiced] / 10)))
    return [np.median(np.log(pitch.hertz[voiced])), np.log(audio.tempo(sound, CALL_RATE)), loudness]


def draw(count: int, seed: int, syllables: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is heard of calls, their tones, and the exact probabilities of these."""
    calls = draw_calls(count, seed, syllables)
    return np.array([heard(sound) for sound in calls.sounds], "f4"), calls.tones, tone_probabilities(calls.prosody)


def cost(escalated: np.ndarray, angry: np.ndarray) -> float:
    """The mean cost of a call."""
    return float(np.mean(MISSED * (angry & ~escalated) + NEEDLESS * (escalated & ~angry)))


def cheapest(probabilities: np.ndarray, angry: np.ndarray) -> float:
    """The threshold of least cost on these calls: from it up, calls are escalated."""
    thresholds = np.append(np.unique(probabilities), 2.0)
    return float(thresholds[np.argmin([cost(probabilities >= threshold, angry) for threshold in thresholds])])


def network(x: np.ndarray, y: np.ndarray, epochs: int, seed: int) -> dt.Trainer:
    """A small network on what is heard, trained."""
    statistics = dt.data.moments(x)
    layers = [nn.Normalization(statistics.mean, statistics.variance), nn.Dense(16, "tanh"), nn.Dense(len(TONES))]
    trainer = dt.Trainer(nn.Sequential(layers), loss="cross_entropy", optimizer=dt.optim.adam(1e-2), seed=seed, shards=2)
    trainer.fit(x, y, epochs=epochs, batch_size=64, verbose=0)
    return trainer


def main(quick: bool = False, picture: str | None = None, seed: int = 0) -> dict[str, Any]:
    """Costs of the network's decisions, of scikit-learn's on the same calls, of the best constant one, and of the best possible ones."""
    counts, syllables = ((120, 100, 100), (4, 6)) if quick else ((2000, 2000, 4000), (8, 16))
    (x, y, _), (x_chosen, y_chosen, _), (x_test, y_test, exact) = (draw(n, 3 * seed + i, syllables) for i, n in enumerate(counts))
    angry_chosen, angry = y_chosen == ANGRY, y_test == ANGRY
    trainer = network(x, y, 60 if quick else 40, seed)
    predict = {"network": lambda rows: nn.activations.softmax(trainer.predict(rows))}
    opponents = {"logistic regression": make_pipeline(StandardScaler(), LogisticRegression())}
    if not quick:
        opponents["boosted trees"] = HistGradientBoostingClassifier(max_iter=50, random_state=seed)
    for name, model in opponents.items():
        predict[name] = model.fit(x, y).predict_proba
    heard_tones = {**{name: probabilities(x_test) for name, probabilities in predict.items()}, "best possible": exact}
    tones = {name: float(np.mean(probabilities.argmax(axis=1) == y_test)) for name, probabilities in heard_tones.items()}
    chosen = {name: probabilities(x_chosen)[:, ANGRY] for name, probabilities in predict.items()}
    tested = {name: probabilities[:, ANGRY] for name, probabilities in heard_tones.items()}
    thresholds = {name: cheapest(chosen[name], angry_chosen) for name in predict}
    costs = {name: cost(tested[name] >= thresholds[name], angry) for name in predict}
    always = cost(np.full(len(angry_chosen), True), angry_chosen) < cost(np.full(len(angry_chosen), False), angry_chosen)
    costs["always a person" if always else "never a person"] = constant = cost(np.full(len(angry), always), angry)
    costs["best possible"] = bound = cost(tested["best possible"] >= NEEDLESS / (MISSED + NEEDLESS), angry)
    confusion = confusion_matrix(angry, tested["network"] >= thresholds["network"])
    for name, right in tones.items():
        print(f"{name:20} has {right:.1%} of the tones right")
    for name, value in costs.items():
        print(f"{name:20} costs {value:.3f} a call" + (f", from a probability of {thresholds[name]:.3f} up" if name in thresholds else ""))
    print("            left to the machine, to a person")
    for name, (left, taken) in zip(("others", "angry"), confusion, strict=True):
        print(f"{name:12}{left:19}{taken:13}")
    if picture is not None:
        known = {"calls for the choice": (chosen["network"], angry_chosen), "calls for the figures": (tested["network"], angry)}
        plot(picture, known, thresholds["network"], {"best constant decision": constant, "best possible": bound}, confusion)
    return {
        "figure": "mean cost of a call",
        "value": costs["network"],
        "bound": bound,
        "constant": constant,
        "costs": costs,
        "tones": tones,
        "threshold": thresholds["network"],
        "confusion": confusion,
        "fingerprint": trainer.history.fingerprint,
    }


def plot(
    picture: str, known: dict[str, tuple[np.ndarray, np.ndarray]], threshold: float, lines: dict[str, float], confusion: np.ndarray
) -> None:
    """The cost by the threshold, and how many calls were decided in which way."""
    from matplotlib import pyplot

    figure, (curve, table) = pyplot.subplots(1, 2, figsize=(10, 4), width_ratios=(3, 2), layout="constrained")
    thresholds = np.linspace(0, 1, 201)
    for name, (probabilities, angry) in known.items():
        curve.plot(thresholds, [cost(probabilities >= t, angry) for t in thresholds], label=name)
    for style, (name, value) in zip((":", "--"), lines.items(), strict=True):
        curve.axhline(value, linestyle=style, color="grey", label=name)
    curve.axvline(threshold, color="black", linewidth=0.8, label="chosen threshold")
    curve.set(xlabel="a person takes the call from this probability of anger up", ylabel="cost of a call", ylim=(0, None))
    curve.legend()
    table.imshow(confusion / confusion.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        table.text(column, row, f"{count:,}", ha="center", va="center", color="white" if count > confusion[row].sum() / 2 else "black")
    table.set_xticks((0, 1), ("left to the machine", "to a person"))
    table.set_yticks((0, 1), ("others", "angry"))
    figure.savefig(picture)
    pyplot.close(figure)


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
