"""The job of scripts/prove-hosts: it trains on the digits until a file exists, then trains as many epochs in this process.

    python proof_job.py SCHEDULER CERTIFICATES FILE [PAUSE]

It prints the progress, the fingerprints of both, and in the last line what happened as JSON. PAUSE are seconds to wait after each epoch.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from distributed import Client

import dagtrain as dt
from dagtrain.data import load_digits
from dagtrain.deploy import security


class Watch(dt.callbacks.Callback):
    """Stops the fit once the file exists, and takes the longest time between the ends of two epochs."""

    def __init__(self, file: Path, pause: float) -> None:
        self.file, self.pause = file, pause
        self.last, self.longest = 0.0, 0.0

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        now = time.monotonic()
        self.longest = max(self.longest, now - (self.last or now))
        if self.file.exists():
            self.trainer.stop()
        time.sleep(self.pause)
        self.last = time.monotonic()


def fit(epochs: int, **options: Any) -> Any:
    data = load_digits()
    model = dt.nn.Sequential([dt.nn.Dense(128, "relu"), dt.nn.Dropout(0.1), dt.nn.Dense(10)])
    fitting = {name: options.pop(name) for name in ("callbacks", "verbose") if name in options}
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(1e-3), shards=8, seed=0, **options)
    return trainer.fit(data.x, data.y, epochs=epochs, batch_size=192, **fitting)


def main(scheduler: str, certificates: str, file: str, pause: str = "0") -> None:
    watch = Watch(Path(file), float(pause))
    with Client(scheduler, security=security(certificates)) as client:
        history = fit(1_000_000, client=client, callbacks=[watch])
    seconds, epochs = sum(history.history["seconds"]), history.epochs
    alone = fit(epochs, engine="inline", verbose=0)
    print(f"alone        {alone.fingerprint}")
    result = {"epochs": epochs, "seconds": round(seconds, 1), "longest_pause_seconds": round(watch.longest, 1)}
    result |= {"fingerprint": history.fingerprint, "alone": alone.fingerprint, "events": [event.line for event in history.events]}
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
