"""Learning by reward: environments with Gymnasium's interface, exact values, tables of values, and networks.

agent = rl.QLearning("CliffWalking-v1", learning_rate=0.5, seed=0).learn(episodes=500)
agent = rl.DQN("CartPole-v1", seed=0).learn(50_000)
agent.evaluate(episodes=100, seed=1)
"""

from dagtrain.rl.control import CartPole, Pendulum
from dagtrain.rl.ddpg import DDPG
from dagtrain.rl.dqn import DQN
from dagtrain.rl.environment import Box, Discrete, Environment, generator
from dagtrain.rl.exact import policy_return, value_iteration
from dagtrain.rl.grids import CliffWalking, FrozenLake, GridWorld
from dagtrain.rl.making import make
from dagtrain.rl.tabular import SARSA, ExpectedSARSA, QLearning, TabularAgent
from dagtrain.rl.vector import Vector

__all__ = [
    "DDPG",
    "DQN",
    "SARSA",
    "Box",
    "CartPole",
    "CliffWalking",
    "Discrete",
    "Environment",
    "ExpectedSARSA",
    "FrozenLake",
    "GridWorld",
    "Pendulum",
    "QLearning",
    "TabularAgent",
    "Vector",
    "generator",
    "make",
    "policy_return",
    "value_iteration",
]
