"""Stop training at any step and resume it: the weights, the history and the ledger of samples are those of an uninterrupted run.

Run: python examples/stop_and_go_on.py
"""

import tempfile

import dagtrain as dt
from dagtrain.data import load_digits


def fit(epochs, folder=None, *callbacks):
    """Train until the end or until a callback stops; with a folder, begin at its last checkpoint."""
    data = load_digits()
    model = dt.nn.Sequential([dt.nn.Dense(64, "relu"), dt.nn.Dropout(0.2), dt.nn.Dense(10)])
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(1e-2), metrics=["accuracy"], seed=0)
    history = trainer.fit(
        data.x,
        data.y,
        epochs=epochs,
        batch_size=64,
        validation_data=(data.x_validation, data.y_validation),
        callbacks=[dt.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=2), *callbacks],
        checkpoint=folder,
        checkpoint_every=60,
        resume=folder is not None,
        verbose=0,
    )
    return trainer, history


class StopAfter(dt.callbacks.Callback):
    """Stops a fit after `steps` steps, within an epoch."""

    def __init__(self, steps):
        self.remaining = steps

    def on_train_batch_end(self, batch, logs):
        """Count steps, and stop; Ctrl-C would do the same."""
        self.remaining -= 1
        if self.remaining == 0:
            self.trainer.stop("enough for now")


def main(quick=False):
    """The fingerprints of an uninterrupted run and of one in pieces, the number of pieces, and whether the validation losses are equal.

    `quick` trains four epochs instead of twelve, in smaller pieces.
    """
    epochs, steps = (4, 30) if quick else (12, 100)
    _, whole = fit(epochs)
    print(f"in one go     {whole.fingerprint[:16]}  val_accuracy {whole.history['val_accuracy'][-1]:.4f}")
    attempts = 0
    with tempfile.TemporaryDirectory() as folder:
        while True:
            attempts += 1
            trainer, history = fit(epochs, folder, StopAfter(steps))
            if history.stopped is None:
                break
            print(f"  attempt {attempts}: {history.events[-1]}")
    trainer.ledger().verify()  # raises if a sample was left out or used twice
    print(f"in {attempts} pieces   {history.fingerprint[:16]}  val_accuracy {history.history['val_accuracy'][-1]:.4f}")
    same = history.history["val_loss"] == whole.history["val_loss"]
    print(f"every validation loss is the same number: {same}")
    return whole.fingerprint, history.fingerprint, attempts, same


if __name__ == "__main__":
    main()
