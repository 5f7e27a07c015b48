"""The same bits, so the same fingerprint: on one thread or four, on one worker or two, with a worker killed midway, and with each engine.

Run: python examples/same_bits.py
"""

import os
import signal

from distributed import Client, LocalCluster

import dagtrain as dt
from dagtrain.data import load_digits


class Kill(dt.callbacks.Callback):
    """Kills a process with -9 at the end of the first epoch."""

    def __init__(self, victim: int) -> None:
        self.victim = victim

    def on_epoch_end(self, epoch, logs):
        """Kill once."""
        if epoch == 0:
            os.kill(self.victim, signal.SIGKILL)


def train(engine: str, epochs: int = 6, threads: int | None = None, callbacks=()) -> str:
    data = load_digits()
    model = dt.nn.Sequential([dt.nn.Dense(128, "relu"), dt.nn.Dense(10)])
    trainer = dt.Trainer(model, loss="cross_entropy", optimizer=dt.optim.adam(1e-2), shards=8, seed=0, engine=engine, threads=threads)
    return trainer.fit(data.x, data.y, epochs=epochs, batch_size=256, verbose=0, callbacks=callbacks).fingerprint


def main(quick: bool = False) -> dict[str, str]:
    """The fingerprint of each run; `quick` leaves out the runs on one worker."""
    fingerprints = {f"inline, {n} thread{'s' * (n > 1)}": train("inline", threads=n) for n in (1, 4)}
    for workers in (2,) if quick else (1, 2):
        # The client knows the address alone: one with the cluster would change its list of workers, which the kill changes too.
        options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": ":0"}
        with LocalCluster(**options) as cluster, Client(cluster.scheduler_address) as client:
            for engine in ("scheduler", "lanes"):
                fingerprints[f"{engine}, {workers} worker{'s' * (workers > 1)}"] = train(engine)
                if workers == 2:
                    victim = next(iter(client.run(os.getpid).values()))
                    fingerprints[f"{engine}, 2 workers, one killed"] = train(engine, callbacks=[Kill(victim)])
                    client.wait_for_workers(2, timeout=120)
    for name, fingerprint in fingerprints.items():
        print(f"{name:32} {fingerprint}")
    print("the same bits" if len(set(fingerprints.values())) == 1 else "NOT the same bits")
    return fingerprints


if __name__ == "__main__":
    main()
