"""An actor and a critic swing a pendulum up; beside it the best that is possible from the same beginnings, by dynamic programming.

The networks that count are those after the last of 20,000 steps. All seeds are printed.

Run: python examples/c4_pendulum.py [PICTURE]    a file for the returns of all seeds as they were played, which needs matplotlib
"""

import sys

import numpy as np

from dagtrain import explain, rl

SEEDS = range(5)
STARTS = 1
ANGLES, SPEEDS, TORQUES = 241, 201, 31


def optimum(starts: np.ndarray, steps: int = 200) -> np.ndarray:
    """The returns of the best policy from these states (angle, speed): values on a grid, backwards in time, then a step ahead of them.

    Bellman, "Dynamic Programming" (1957). Between the points of the grid values are interpolated.
    """
    world = rl.Pendulum()
    angles, speeds = np.linspace(-np.pi, np.pi, ANGLES), np.linspace(-8, 8, SPEEDS)
    torques = np.linspace(-2, 2, TORQUES)

    def after(states: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return [world.advance(states, np.full((len(states), 1), torque), None)[:2] for torque in torques]

    def corners(states: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Numbers of the four points around each state, with their parts."""
        places = (((states[:, 0] + np.pi) % (2 * np.pi)) / (2 * np.pi) * (ANGLES - 1), (states[:, 1] + 8) / 16 * (SPEEDS - 1))
        (row, across), (column, along) = ((np.minimum(p.astype(int), n - 2), p) for p, n in zip(places, (ANGLES, SPEEDS), strict=True))
        across, along = across - row, along - column
        at = row * SPEEDS + column
        return [
            (at, (1 - across) * (1 - along)),
            (at + 1, (1 - across) * along),
            (at + SPEEDS, across * (1 - along)),
            (at + SPEEDS + 1, across * along),
        ]

    grid = np.stack(np.meshgrid(angles, speeds, indexing="ij"), axis=-1).reshape(-1, 2)
    moves = [(corners(states), rewards) for states, rewards in after(grid)]
    values = [np.zeros(len(grid))]
    for _ in range(steps - 1):
        later = values[-1]
        values.append(np.max([rewards + sum(later[at] * part for at, part in around) for around, rewards in moves], axis=0))
    states, returns = starts, np.zeros(len(starts))
    for later in reversed(values):
        choices = after(states)
        worth = [rewards + sum(later[at] * part for at, part in corners(there)) for there, rewards in choices]
        best = np.argmax(worth, axis=0)
        returns += np.stack([rewards for _, rewards in choices])[best, np.arange(len(states))]
        states = np.stack([there for there, _ in choices])[best, np.arange(len(states))]
    return returns


def main(quick: bool = False, seeds: range = SEEDS, picture: str | None = None) -> dict[str, float]:
    """The mean return of 100 episodes for each seed, over all seeds, and the best possible one."""
    results, played = {}, {}
    for seed in seeds[: 1 if quick else None]:
        agent = rl.DDPG("Pendulum-v1", seed=seed).learn(5_000 if quick else 20_000)
        returns = agent.evaluate(episodes=100, seed=STARTS)
        played[f"seed {seed}"] = agent.returns
        results[f"seed {seed}"] = float(returns.mean())
        print(f"seed {seed}: {returns.mean():.1f} after {agent.steps:,} steps, fingerprint {agent.fingerprint[:16]}", flush=True)
    results["mean"] = float(np.mean(list(results.values())))
    if not quick:
        world = rl.Pendulum()
        starts = np.stack([world.start(rl.generator([STARTS, number, 1])) for number in range(100)])
        results["best possible"] = float(optimum(starts).mean())
        gap = results["mean"] / results["best possible"] - 1
        print(f"mean {results['mean']:.1f}; best possible from the same beginnings {results['best possible']:.1f}: {gap:.1%} below it")
    if picture is not None:
        bounds = {"best possible": results["best possible"]} if not quick else {}
        explain.plot_lines(played, bounds, 5, "episode", "return, mean of 5", "Pendulum", picture)
    return results


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
