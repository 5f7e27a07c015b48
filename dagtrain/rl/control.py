"""Two tasks of control: a pole on a cart, and a pendulum, with the physics of Gymnasium's CartPole-v1 and Pendulum-v1."""

from __future__ import annotations

import numpy as np

from dagtrain.graph import Array
from dagtrain.rl.environment import Box, Discrete, Environment

__all__ = ["CartPole", "Pendulum"]


class CartPole(Environment):
    """Balance a pole on a cart by pushing it to the left (0) or right (1); each step gives 1, an episode ends when the pole falls.

    The state is position, speed, angle (radians, 0 is upright) and its speed. Barto, Sutton and Anderson, "Neuronlike adaptive elements
    that can solve difficult learning control problems", IEEE Transactions on Systems, Man, and Cybernetics 13 (1983).

    Examples
    --------
    >>> from dagtrain import rl
    >>> cart = rl.CartPole()
    >>> observation, info = cart.reset(seed=0)
    >>> cart.step(1)[1:4]
    (1.0, False, False)
    """

    name = "CartPole-v1"
    scale = np.array([2.4, 2.0, 0.21, 2.0])
    limit = 500
    action_space = Discrete(2)
    _POSITION, _ANGLE = 2.4, 12 * 2 * np.pi / 360
    _reach = np.array([2 * _POSITION, np.inf, 2 * _ANGLE, np.inf], np.float32)
    observation_space = Box(-_reach, _reach)

    def start(self, random: np.random.Generator) -> Array:
        """All four near 0."""
        return random.uniform(-0.05, 0.05, 4)

    def advance(self, states: Array, actions: Array, draws: Array | None) -> tuple[Array, Array, Array]:
        """One step of Euler's method, 0.02 s."""
        gravity, cart, pole, half, push, seconds = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
        total, moment = pole + cart, pole * half
        x, speed, angle, turning = states.T
        force = np.where(actions == 1, push, -push)
        cosine, sine = np.cos(angle), np.sin(angle)
        pushed = (force + moment * np.square(turning) * sine) / total
        angular = (gravity * sine - cosine * pushed) / (half * (4.0 / 3.0 - pole * np.square(cosine) / total))
        linear = pushed - moment * angular * cosine / total
        after = np.stack([x + seconds * speed, speed + seconds * linear, angle + seconds * turning, turning + seconds * angular], axis=1)
        ends = (np.abs(after[:, 0]) > self._POSITION) | (np.abs(after[:, 2]) > self._ANGLE)
        return after, np.ones(len(states)), ends


class Pendulum(Environment):
    """Swing a pendulum up and hold it there by a torque from -2 to 2; the reward is 0 at rest above, and negative elsewhere.

    The state is the angle (radians, 0 is upright) and its speed; an agent sees cosine, sine and speed. An episode has 200 steps.

    Examples
    --------
    >>> import numpy as np
    >>> from dagtrain import rl
    >>> pendulum = rl.Pendulum()
    >>> observation, info = pendulum.reset(seed=0)
    >>> observation.shape, pendulum.step(np.zeros(1))[2:4]
    ((3,), (False, False))
    """

    name = "Pendulum-v1"
    scale = np.array([1.0, 1.0, 8.0])
    limit = 200
    action_space = Box(np.full(1, -2, np.float32), np.full(1, 2, np.float32))
    _reach = np.array([1, 1, 8], np.float32)
    observation_space = Box(-_reach, _reach)

    def start(self, random: np.random.Generator) -> Array:
        """Any angle, a slow speed."""
        reach = np.array([np.pi, 1.0])
        return random.uniform(-reach, reach)

    def advance(self, states: Array, actions: Array, draws: Array | None) -> tuple[Array, Array, Array]:
        """One step of Euler's method, 0.05 s."""
        gravity, seconds, fastest = 10.0, 0.05, 8.0
        angle, speed = states.T
        torque = np.clip(actions, -2, 2)[:, 0]
        around = (angle + np.pi) % (2 * np.pi) - np.pi
        cost = around**2 + 0.1 * speed**2 + 0.001 * torque**2
        faster = np.clip(speed + (3 * gravity / 2 * np.sin(angle) + 3.0 * torque) * seconds, -fastest, fastest)
        return np.stack([angle + faster * seconds, faster], axis=1), -cost, np.zeros(len(states), bool)

    def observe(self, states: Array) -> Array:
        """Cosine and sine of the angle, and its speed."""
        return np.stack([np.cos(states[:, 0]), np.sin(states[:, 0]), states[:, 1]], axis=1).astype(np.float32)
