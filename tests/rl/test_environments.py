"""Environments: Gymnasium's interface and transitions, several copies at once, and what cannot be used."""

from types import SimpleNamespace

import numpy as np
import pytest

from dagtrain import rl
from dagtrain.errors import ArgumentError, UnknownNameError
from dagtrain.rl.making import ENVIRONMENTS


def actions_of(space, random, count):
    return random.integers(space.n, size=count) if hasattr(space, "n") else random.uniform(space.low, space.high, (count, 1)).astype("f4")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_transitions_are_those_of_gymnasium(name):
    gymnasium = pytest.importorskip("gymnasium", reason="Gymnasium is what the environments are compared with")
    ours, theirs, random = rl.make(name), gymnasium.make(name), np.random.default_rng(0)
    for seed in range(3):
        assert np.array_equal(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])
        for action in actions_of(ours.action_space, random, 250):
            found, wanted = ours.step(action), theirs.step(action)
            assert np.array_equal(found[0], wanted[0])
            assert found[1] == pytest.approx(wanted[1], rel=1e-9)
            assert found[2:4] == wanted[2:4]
            if any(found[2:4]):
                break


@pytest.mark.filterwarnings("ignore:.*space.*:UserWarning")  # a speed has no bound, a torque is up to 2
def test_gymnasium_accepts_them():
    gymnasium = pytest.importorskip("gymnasium", reason="Gymnasium is what checks them")
    from gymnasium.utils.env_checker import check_env

    class Adapted(gymnasium.Env):
        metadata = rl.CartPole.metadata

        def __init__(self, environment):
            self.environment, spaces = environment, gymnasium.spaces
            seen, done = environment.observation_space, environment.action_space
            self.observation_space = spaces.Discrete(seen.n) if hasattr(seen, "n") else spaces.Box(seen.low, seen.high)
            self.action_space = spaces.Discrete(done.n) if hasattr(done, "n") else spaces.Box(done.low, done.high)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.environment.reset(seed=seed, options=options)

        def step(self, action):
            return self.environment.step(action)

    for name in ENVIRONMENTS:
        check_env(Adapted(rl.make(name)), skip_render_check=True)


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("mode", ["disabled", "same_step", "next_step"])
def test_copies_do_what_each_does_alone(name, mode):
    count, random = 3, np.random.default_rng(1)
    vector, alone = rl.Vector(rl.make(name), count, autoreset_mode=mode), [rl.make(name) for _ in range(count)]
    assert vector.metadata == {"autoreset_mode": mode}
    seen = vector.reset(range(count))
    ended = [False] * count
    for i, each in enumerate(alone):
        assert np.array_equal(seen[i], each.reset(seed=i)[0])
    for _ in range(120):
        actions = actions_of(rl.make(name).action_space, random, count)
        steps = vector.step(actions)
        for i, each in enumerate(alone):
            if ended[i] and mode == "disabled":
                assert not steps.valid[i]
            elif ended[i]:  # the action counts for nothing, and the row is no step
                assert np.array_equal(steps.observations[i], each.reset()[0])
                assert not steps.valid[i]
                assert steps.rewards[i] == 0
                ended[i] = False
            else:
                after, reward, terminated, truncated, _ = each.step(actions[i])
                assert steps.valid[i]
                assert np.array_equal(steps.final_observations[i], after)
                assert (steps.rewards[i], steps.terminated[i], steps.truncated[i]) == (reward, terminated, truncated)
                ended[i] = terminated or truncated
                if ended[i] and mode == "same_step":
                    assert np.array_equal(steps.observations[i], each.reset()[0])
                    ended[i] = False


def test_time_is_up_without_an_end():
    pendulum = rl.Pendulum()
    pendulum.reset(seed=0)
    ends = [pendulum.step(np.zeros(1, "f4"))[2:4] for _ in range(200)]
    assert ends == [(False, False)] * 199 + [(False, True)]


def test_gymnasiums_environments_can_be_copied_too():
    gymnasium = pytest.importorskip("gymnasium", reason="these are Gymnasium's environments")
    vector = rl.Vector([gymnasium.make("CartPole-v1") for _ in range(2)], autoreset_mode="disabled")
    vector.reset([[0, 1], [0, 2]])
    steps = [vector.step(np.ones(2, int)) for _ in range(30)]
    assert not steps[-1].valid.any()  # both poles have fallen
    assert sum(step.terminated.sum() for step in steps) == 2


class Space(SimpleNamespace):
    """As Gymnasium's Discrete(start=...), MultiBinary and Dict."""


class Other(SimpleNamespace):
    """An environment of another library."""

    reset, step = rl.CartPole.reset, rl.CartPole.step
    observation_space, action_space = rl.Discrete(2), rl.Discrete(2)


def stepped(world, actions):
    vector = rl.Vector(world, 3)
    vector.reset([0, 1, 2])
    return vector.step(np.array(actions))


def test_nothing_comes_after_the_end_but_a_new_episode():
    world = rl.CartPole()
    for _ in range(2):
        world.reset(seed=0)
        while not world.step(1)[2]:
            pass
        with pytest.raises(ArgumentError, match=r"the episode has ended: call reset\(\)"):
            world.step(1)


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (lambda: rl.make("CartPol-v1"), UnknownNameError, "Did you mean 'CartPole-v1'"),
        (lambda: rl.make(rl.CartPole), ArgumentError, "an environment has Gymnasium's interface"),
        (lambda: rl.make(3), ArgumentError, "without reset, step"),
        (lambda: rl.make(Other(reset=lambda: 0)), ArgumentError, "the interface of old Gym"),
        (
            lambda: rl.DQN(Other(observation_space=Space(n=2, start=1, shape=()))),
            ArgumentError,
            "observations of agents are numbers from 0",
        ),
        (lambda: rl.QLearning(Other(action_space=Space(n=2, start=5, shape=()))), ArgumentError, "actions of agents are numbers from 0 up"),
        (lambda: rl.DQN(Other(observation_space=Space(n=4, shape=(4,)))), ArgumentError, "observations of agents"),
        (lambda: rl.DDPG(Other(observation_space=Space(shape=None, dtype=None))), ArgumentError, "observations of agents"),
        (lambda: rl.CartPole().step(0), ArgumentError, "call reset"),
        (lambda: rl.CartPole().reset(options={"low": 0}), ArgumentError, "no options"),
        (lambda: (cart := rl.CartPole(), cart.reset(), cart.step(2)), ArgumentError, "an action is in"),
        (lambda: (lake := rl.FrozenLake(), lake.reset(), lake.step(4)), ArgumentError, "an action is in"),
        (lambda: rl.FrozenLake("5x5"), UnknownNameError, "unknown map"),
        (lambda: rl.Vector(rl.CartPole(), 0), ArgumentError, "count is at least 1"),
        (lambda: rl.Vector(rl.CartPole(), 2, autoreset_mode="never"), UnknownNameError, "unknown autoreset_mode"),
        (lambda: rl.Vector(rl.CartPole(), 2).step(np.zeros(2, int)), ArgumentError, "call reset"),
        (lambda: rl.Vector(rl.CartPole(), 2).reset([1]), ArgumentError, "a seed for each of 2"),
        (lambda: rl.CartPole().reset(seed=-1), ArgumentError, "a seed is a whole number from 0 up"),
        (lambda: stepped(rl.CartPole(), [0, 1, 2]), ArgumentError, r"CartPole-v1 is in Discrete\(n=2\)"),
        (lambda: stepped(rl.CartPole(), [0, 1]), ArgumentError, "an action for each of 3"),
        (lambda: stepped(rl.CartPole(), [0.0, 1.0, 0.5]), ArgumentError, "CartPole-v1 is in"),
        (lambda: stepped(rl.Pendulum(), [0.0, 1.0, 0.5]), ArgumentError, "Pendulum-v1 is in"),
    ],
)
def test_what_cannot_be_used_is_named(wrong, error, text):
    with pytest.raises(error, match=text):
        wrong()
