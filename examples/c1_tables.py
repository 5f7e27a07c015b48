"""Q-learning and SARSA with a table, beside the exact values: a frozen lake, and a walk along a cliff.

    lake     the share of episodes that reach the goal on slippery ice; the best policy reaches .7442 within 100 steps
    cliff    a random move in ten: Q-learning learns the shortest path, 13 steps along the edge, and falls at times; SARSA learns a path
             further away, which is worth more as it behaves

The bounds are computed: by value iteration, and by the exact return of policies with random moves.

Run: python examples/c1_tables.py [PICTURE]    a file for the returns along the cliff, which needs matplotlib
"""

import sys

import numpy as np

from dagtrain import explain, rl

EPSILON, SEEDS = 0.1, range(30)


def lake(quick: bool) -> dict[str, float]:
    """Of 10,000 episodes under the learnt policy, the share that reaches the goal; the best policies with and without discount."""
    world = rl.FrozenLake()
    rate, epsilon = (lambda episode: max(0.002, 0.1 / (1 + episode / 2000))), (lambda episode: max(0.2, 1 - episode / 4000))
    agent = rl.QLearning(world, discount=0.99, learning_rate=rate, epsilon=epsilon, seed=0).learn(6_000 if quick else 20_000)
    greedy = rl.value_iteration(world, discount=0.99).argmax(axis=1)
    return {
        "reached": float(agent.evaluate(1_000 if quick else 10_000).mean()),
        "exact value of its policy": rl.policy_return(world, agent.policy, 100),
        "best with discount .99": rl.policy_return(world, greedy, 100),
        "best": float(rl.value_iteration(world, steps=100)[0].max()),
    }


def cliff(quick: bool, picture: str | None = None) -> dict[str, float]:
    """Mean returns of episodes 401 to 500 over all seeds, and the median return without random moves; the exact ones."""
    world = rl.CliffWalking()
    results, played = {}, {}
    for kind in (rl.QLearning, rl.SARSA, rl.ExpectedSARSA):
        agents = [kind(world, learning_rate=0.5, epsilon=EPSILON, seed=seed).learn(500) for seed in SEEDS[: 4 if quick else None]]
        played[kind.__name__] = np.mean([agent.returns for agent in agents], axis=0)
        results[kind.__name__] = float(np.mean([agent.returns[400:] for agent in agents]))
        results[f"{kind.__name__}, greedy"] = float(np.median([agent.evaluate(1, most_steps=100)[0] for agent in agents]))
    for name, epsilon in (("edge", 0.0), ("best", EPSILON)):
        policy = rl.value_iteration(world, epsilon=epsilon).argmax(axis=1)
        results[f"{name}, exact"] = rl.policy_return(world, (1 - EPSILON) * np.eye(4)[policy] + EPSILON / 4, 3000)
    if picture is not None:
        bounds = {"best with random moves": results["best, exact"], "along the edge": results["edge, exact"]}
        later = {name: returns[50:] for name, returns in played.items()}
        explain.plot_lines(later, bounds, 20, "episodes after the first 50", "return, mean of 20 and of seeds", "Cliff", picture)
    return results


def main(quick: bool = False, picture: str | None = None) -> dict[str, float]:
    """All figures, with their bounds."""
    results = {**lake(quick), **cliff(quick, picture)}
    for name, value in results.items():
        print(f"{name:28} {value:9.4f}")
    return results


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
