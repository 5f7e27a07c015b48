"""Deep Q-learning beside Stable-Baselines3: steps of the environment a second, with one update for each step.

    python benchmarks/reward.py [--steps 3000] [--rounds 3] [--json FILE]

Both balance the pole of CartPole-v1 by a network of 64 and 64 relu units, minibatches of 64 from a replay of 50,000, Adam, and one update a
step after 1,000 random steps, on one thread. dagtrain plays four episodes by the same weights, and then does their updates; its targets are
those of double Q-learning over ten steps and move softly. Stable-Baselines3 has one-step targets that are copied. They take turns in one
process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

RANDOM = 1000


def dagtrain(steps: int) -> float:
    """Seconds of the steps after the random ones."""
    from dagtrain import rl

    agent = rl.DQN("CartPole-v1", seed=0, random_steps=RANDOM).learn(RANDOM + 200, client=False)
    begun = time.perf_counter()
    agent.learn(steps, client=False)
    return time.perf_counter() - begun


def stable_baselines3(steps: int) -> float:
    """The same."""
    import torch
    from stable_baselines3 import DQN

    torch.set_num_threads(1)
    agent: Any = DQN(
        "MlpPolicy",
        "CartPole-v1",
        seed=0,
        learning_rate=1e-3,
        buffer_size=50_000,
        learning_starts=RANDOM,
        batch_size=64,
        gamma=0.99,
        train_freq=1,
        gradient_steps=1,
        target_update_interval=500,
        policy_kwargs={"net_arch": [64, 64]},
        device="cpu",
    )
    agent.learn(RANDOM + 200)
    begun = time.perf_counter()
    agent.learn(steps, reset_num_timesteps=False)
    return time.perf_counter() - begun


def main() -> None:
    """Measure in turns, and print steps a second and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    seconds: dict[str, list[float]] = {"dagtrain": [], "Stable-Baselines3": []}
    for _ in range(options.rounds):
        seconds["dagtrain"].append(dagtrain(options.steps))
        seconds["Stable-Baselines3"].append(stable_baselines3(options.steps))
    speed = {name: options.steps / statistics.median(values) for name, values in seconds.items()}
    for name, value in speed.items():
        print(f"{name:20} {value:8.0f} steps a second, one update each")
    print(f"{'ratio':20} {speed['dagtrain'] / speed['Stable-Baselines3']:8.2f}")
    if options.json:
        options.json.write_text(json.dumps({"steps_a_second": speed, "seconds": seconds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
