"""GoogLeNet learns coloured digits on coloured noise, with its two auxiliary heads and without them.

    picture 64 × 64 × 3 ──▶ 3a 3b 4a ──▶ 4b 4c 4d ──▶ 4e 5a 5b ──▶ main
                                  └▶ aux1      └▶ aux2                        in training alone; each counts 0.3 in the loss

The digits that are held out never appear in training. All 22 layers are trained from scratch, with batch normalisation: without it the loss
stays at that of a guess for the first hundreds of steps. Networks of a quarter of the filters take some three minutes of one core each, and
read 98 % of the held-out digits with the heads, 96 % without. With all filters (``width=1.0, epochs=3, rate=2e-3``) it is 98 % with them.

Run: python examples/googlenet.py [FOLDER]    a folder for checkpoints: started again, it goes on where it stopped
"""

import sys
from pathlib import Path

import dagtrain as dt
from dagtrain.data import coloured_digits

nn = dt.nn


def train(
    auxiliary: bool,
    width: float = 0.25,
    epochs: int = 6,
    rate: float = 3e-3,
    folder: Path | None = None,
    verbose: int = 0,
) -> dict[str, list[float]]:
    """The history of a network; its ``accuracy`` is that on held-out digits after each epoch. `width` is a factor of numbers of filters."""
    data = coloured_digits(64, copies=4)
    model = nn.models.GoogLeNet(10, (64, 64, 3), auxiliary, width, batch_norm=True)
    outputs = ["main", "aux1", "aux2"] if auxiliary else ["main"]
    falling = dt.optim.cosine(rate, epochs * -(-len(data.x) // 32), warmup_steps=100)
    trainer = dt.Trainer(
        model,
        loss=dict.fromkeys(outputs, "cross_entropy"),
        loss_weights=dict.fromkeys(outputs[1:], 0.3),
        metrics={"main": ["accuracy"]},
        optimizer=dt.optim.chain(dt.optim.clip_by_global_norm(5.0), dt.optim.adam(falling)),
        shards=1,
    )
    history = trainer.fit(
        data.x,
        dict.fromkeys(outputs, data.y),
        epochs=epochs,
        batch_size=32,
        validation_data=(data.x_validation, {"main": data.y_validation}),
        checkpoint=folder and folder / ("with-heads" if auxiliary else "without-heads"),
        resume=folder is not None,
        keep=1,
        verbose=verbose,
    ).history
    return {**history, "accuracy": history["val_main_accuracy" if auxiliary else "val_accuracy"]}


def main(folder: Path | None = None, verbose: int = 0) -> dict[str, list[float]]:
    """Accuracy on held-out digits after each epoch, with the auxiliary heads and without."""
    results = {}
    for name, auxiliary in {"with heads": True, "without heads": False}.items():
        results[name] = train(auxiliary, folder=folder, verbose=verbose)["accuracy"]
        print(f"{name}:", " ".join(f"{accuracy:.3f}" for accuracy in results[name]))
    return results


if __name__ == "__main__":
    main(folder=Path(sys.argv[1]) if len(sys.argv) > 1 else None, verbose=2)
