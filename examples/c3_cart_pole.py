"""A deep Q-network balances a pole: 500 steps are the longest that an episode may last, and 475 count as solved.

    rounds of four episodes (on the workers of a Dask cluster, if there is a client) ─▶ replay ─▶ updates, one for each step

The network that counts is the one after the last of 50,000 steps: no best moment or best seed is picked. All seeds are printed. The same
seed gives the same fingerprint for any number of workers.

Run: python examples/c3_cart_pole.py [PICTURE]    a file for the returns of all seeds as they were played, which needs matplotlib
"""

import sys

import numpy as np

from dagtrain import explain, rl

SEEDS = range(5)
STARTS = 1


def main(quick: bool = False, seeds: range = SEEDS, picture: str | None = None) -> dict[int, float]:
    """The mean return of 100 episodes for each seed."""
    results, played = {}, {}
    for seed in seeds[: 1 if quick else None]:
        agent = rl.DQN("CartPole-v1", seed=seed).learn(6_000 if quick else 50_000)
        played[f"seed {seed}"] = agent.returns
        results[seed] = float(agent.evaluate(episodes=100, seed=STARTS).mean())
        print(f"seed {seed}: {results[seed]:.1f} of 500 after {agent.steps:,} steps, fingerprint {agent.fingerprint[:16]}", flush=True)
    solved = sum(value >= 475 for value in results.values())
    print(f"mean {np.mean(list(results.values())):.1f}; {solved} of {len(results)} seeds at 475 or above")
    if picture is not None:
        bounds = {"solved": 475}
        explain.plot_lines(played, bounds, 20, "episode", "return, mean of 20", "Cart and pole", picture)
    return results


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
