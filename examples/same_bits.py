"""The same bits, so the same fingerprint: on one thread or four, on one worker or two, with a worker killed midway, and with each engine.

Run: python examples/same_bits.py
"""

import os
import signal

from distributed import Client, LocalCluster

import dagtrain as dt
from dagtrain.data import load_digits


class KillAfter(dt.callbacks.Callback):
    """Kills a process with -9 at the end of an epoch."""

    def __init__(self, victim: int, epoch: int) -> None:
        self.victim, self.last_epoch = victim, epoch

    def on_epoch_end(self, epoch, logs):
        """Kill at the end of the chosen epoch."""
        if epoch + 1 == self.last_epoch:
            os.kill(self.victim, signal.SIGKILL)


def train(engine: str, epochs: int = 6, threads: int | None = None, callbacks=()) -> str:
    data = load_digits()
    model = dt.nn.Sequential([dt.nn.Dense(128, "relu"), dt.nn.Dense(10)])
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(1e-2), shards=8, seed=0, engine=engine, threads=threads)
    return trainer.fit(data.x, data.y, epochs=epochs, batch_size=256, verbose=0, callbacks=callbacks).fingerprint


def main(quick: bool = False) -> dict[str, str]:
    """The fingerprint of each run; `quick` trains half the epochs, and leaves out the runs on one worker."""
    epochs, killed = (3, 1) if quick else (6, 2)
    fingerprints = {f"inline, {n} thread{'s' * (n > 1)}": train("inline", epochs, threads=n) for n in (1, 4)}
    for workers in (2,) if quick else (1, 2):
        with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
            for engine in ("scheduler", "lanes"):
                fingerprints[f"{engine}, {workers} worker{'s' * (workers > 1)}"] = train(engine, epochs)
                if workers == 2:
                    victim = next(iter(client.run(os.getpid).values()))
                    fingerprints[f"{engine}, 2 workers, one killed"] = train(engine, epochs, callbacks=[KillAfter(victim, killed)])
                    client.wait_for_workers(2, timeout=120)
    for name, fingerprint in fingerprints.items():
        print(f"{name:32} {fingerprint}")
    print("the same bits" if len(set(fingerprints.values())) == 1 else "NOT the same bits")
    return fingerprints


if __name__ == "__main__":
    main()
