"""Tables of values, beside the exact ones."""

import numpy as np
import pytest

from dagtrain import rl
from dagtrain.errors import ArgumentError


def test_exact_values_are_the_known_ones():
    """The figures are those of an independent program; -13 and 14/17 can be found by hand."""
    lake, wide, cliff = rl.FrozenLake(), rl.FrozenLake("8x8"), rl.CliffWalking()
    assert rl.value_iteration(lake)[0].max() == pytest.approx(14 / 17, abs=1e-6)
    assert rl.value_iteration(lake, steps=100)[0].max() == pytest.approx(0.7442, abs=1e-4)
    assert rl.value_iteration(lake, discount=0.99)[0].max() == pytest.approx(0.5420, abs=1e-4)
    assert rl.policy_return(lake, rl.value_iteration(lake, discount=0.99).argmax(axis=1), 100) == pytest.approx(0.7402, abs=1e-4)
    assert rl.value_iteration(wide, steps=200)[0].max() == pytest.approx(0.9132, abs=1e-4)
    edge, soft = (rl.value_iteration(cliff, epsilon=epsilon).argmax(axis=1) for epsilon in (0, 0.1))
    assert rl.policy_return(cliff, edge, 1000) == -13
    assert rl.policy_return(cliff, soft, 1000) == -15  # one row further from the edge
    returns = [rl.policy_return(cliff, 0.9 * np.eye(4)[policy] + 0.025, 3000) for policy in (edge, soft)]
    assert returns == pytest.approx([-45.8, -20.7], abs=0.05)


def test_q_learning_walks_the_edge_and_sarsa_the_safe_path():
    """Bounds: the exact returns under ε = 0.1 are -45.8 along the edge, and -20.7 for the best policy."""
    last, greedy = {}, {}
    for kind in (rl.QLearning, rl.SARSA, rl.ExpectedSARSA):
        agents = [kind("CliffWalking-v1", learning_rate=0.5, epsilon=0.1, seed=seed).learn(500) for seed in range(2)]
        last[kind] = np.mean([np.mean(agent.returns[-100:]) for agent in agents])
        greedy[kind] = [agent.evaluate(1, most_steps=100)[0] for agent in agents]
    assert greedy[rl.QLearning] == [-13] * 2
    assert -65 < last[rl.QLearning] < -35
    assert -37 < last[rl.SARSA] < -20
    assert -26 < last[rl.ExpectedSARSA] < -15  # the minimum of the mean is -20.7; a hundred episodes scatter
    assert np.median(greedy[rl.SARSA]) in (-17, -15)  # a row or two from the edge
    assert set(greedy[rl.ExpectedSARSA]) == {-15}


def test_equal_seeds_give_equal_bits_and_parts_are_the_whole():
    def agent(seed):
        return rl.SARSA("FrozenLake-v1", discount=0.99, seed=seed, epsilon=lambda episode: 1 / (1 + episode / 50))

    whole = agent(0).learn(200)
    assert agent(0).learn(120).learn(80).fingerprint == whole.fingerprint
    assert agent(1).learn(200).fingerprint != whole.fingerprint
    assert len(whole.returns) == 200


def test_an_end_has_no_value_and_time_that_is_up_has():
    """One square, whose step gives 1: it is worth 1 if it ends the episode, and 1 + γ of its own value if time is up."""

    class Square(rl.GridWorld):
        name = "Square"
        limit, first, shape = 1, 0, (1, 1)
        observation_space = action_space = rl.Discrete(1)

        def __init__(self, ends):
            self.probability, self.reward = np.ones((1, 1, 1)), np.ones((1, 1, 1))
            self.following, self.terminated = np.zeros((1, 1, 1), int), np.full((1, 1, 1), ends)

    for kind in (rl.QLearning, rl.SARSA, rl.ExpectedSARSA):
        for ends, value in ((True, 1.0), (False, 2.0)):
            assert kind(Square(ends), learning_rate=0.5, discount=0.5, seed=0).learn(60).values[0, 0] == pytest.approx(value)


def test_what_a_table_cannot_hold_is_refused():
    with pytest.raises(ArgumentError, match="needs numbered observations"):
        rl.QLearning("CartPole-v1")
    with pytest.raises(ArgumentError, match="discount"):
        rl.SARSA("CliffWalking-v1", discount=1.5)
    with pytest.raises(ArgumentError, match="epsilon"):
        rl.SARSA("CliffWalking-v1", epsilon=lambda episode: 2).learn(1)
    with pytest.raises(ArgumentError, match="learning_rate"):
        rl.QLearning("CliffWalking-v1", learning_rate="fast")
    agent, world = rl.QLearning("CliffWalking-v1").learn(3), rl.CliffWalking()
    assert [agent.act(seen) for seen in range(48)] == agent.policy.tolist()
    with pytest.raises(ArgumentError, match=r"an observation is in Discrete\(n=48\), got 48"):
        agent.act(48)
    with pytest.raises(ArgumentError, match="a seed is"):
        agent.evaluate(1, seed=-1)
    for policy in (np.full(48, -1), np.full(48, 4), np.zeros(47, int), np.ones((48, 4)), np.zeros(48)):
        with pytest.raises(ArgumentError, match="an action from 0 to 3 for each of 48 squares"):
            rl.policy_return(world, policy, 10)
    for call in (lambda: rl.value_iteration("CliffWalking-v1"), lambda: rl.policy_return(rl.CartPole(), np.zeros(48, int), 10)):
        with pytest.raises(ArgumentError, match="a world with a table of transitions"):
            call()
    with pytest.raises(ArgumentError, match="no finite values"):
        rl.value_iteration(Endless())


class Endless(rl.GridWorld):
    name = "Endless"
    limit, first, shape = None, 0, (1, 1)
    observation_space = action_space = rl.Discrete(1)
    probability = reward = np.ones((1, 1, 1))
    following, terminated = np.zeros((1, 1, 1), int), np.zeros((1, 1, 1), bool)
