"""The engine lanes: a worker is killed with -9 midway, and the weights are those of a run in one process, bit for bit.

Run: python examples/lanes.py [FOLDER FOR THE PICTURE]
"""

import logging
import os
import signal
import sys
from pathlib import Path

from distributed import Client, LocalCluster

import dagtrain as dt
from dagtrain.data import load_digits


class Kill(dt.callbacks.Callback):
    """Kills a process with -9, once, within an epoch; epochs and batches are counted from 0."""

    def __init__(self, victim: int, epoch: int, batch: int) -> None:
        self.victim, self.moment, self.epoch = victim, (epoch, batch), 0

    def on_epoch_begin(self, epoch):
        """Remember the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs):
        """Kill after the chosen batch."""
        if (self.epoch, batch) == self.moment:
            os.kill(self.victim, signal.SIGKILL)


def fit(epochs, *callbacks, **options):
    """Train with the given engine; everything else is the same each time."""
    data = load_digits()
    model = dt.nn.Sequential([dt.nn.Dense(512, "relu"), dt.nn.Dropout(0.1), dt.nn.Dense(128, "relu"), dt.nn.Dense(10)])
    optimizer = dt.optim.chain(dt.optim.clip_by_global_norm(1.0), dt.optim.adam(2e-3))
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=optimizer, metrics=["accuracy"], shards=8, seed=0, **options)
    trainer.fit(data.x, data.y, epochs=epochs, batch_size=64, callbacks=callbacks, verbose=0)
    return trainer


def main(folder: Path, quick: bool = False):
    """The fingerprint in one process, the one of the engine lanes, and its events; `quick` trains a third of the epochs."""
    epochs, killed = (4, 1) if quick else (12, 4)
    alone = fit(epochs, engine="inline").history
    print(f"in this process      {alone.fingerprint}")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": logging.ERROR}
    with LocalCluster(**options) as cluster, Client(cluster.scheduler_address) as client:
        victim = next(iter(client.run(os.getpid).values()))
        trainer = fit(epochs, Kill(victim, killed, batch=10), engine="lanes")
        history = trainer.history
        print(f"lanes, one killed    {history.fingerprint}")
        for event in history.events:
            print(f"  after {event.seconds:.1f} s: {event}")
        ledger = trainer.ledger()
        ledger.verify()  # raises if a sample was left out or used twice
        counts = ledger.counts(killed)
        print(f"epoch of the kill    {len(counts)} samples, each used {counts.min()} to {counts.max()} times")
        client.wait_for_workers(2, timeout=120)  # the nanny restarts the killed worker
        picture = folder / "lanes.svg"
        trainer.placement().visualize(picture)
        print(f"picture: {picture}")
    print("the same bits" if history.fingerprint == alone.fingerprint else "NOT the same bits")
    return alone.fingerprint, history.fingerprint, history.events


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
