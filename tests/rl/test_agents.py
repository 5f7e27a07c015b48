"""Agents with networks: equal bits wherever episodes are played and whenever a run is stopped, and rows that mean what they should."""

import os
import pickle
import signal
from dataclasses import dataclass

import numpy as np
import pytest

from dagtrain import nn, rl
from dagtrain.errors import ArgumentError, CheckpointError
from dagtrain.rl.gathering import Episode
from dagtrain.rl.replay import Replay, transitions

from ..each import rarely

SMALL = {"hidden": (16,), "batch_size": 16, "random_steps": 60, "learning_rate": 0.02}


@dataclass(frozen=True)
class Listed(nn.Layer):
    sizes: list[int]
    name: str | None = None
    trainable: bool = True

    def forward(self, c, x):
        return c(nn.Dense(self.sizes[0]), x, name="dense")


def kinds():
    """An agent of each kind, with all switches on and off."""
    return {
        "dqn": lambda: rl.DQN("CartPole-v1", seed=3, epsilon_episodes=2, **SMALL),
        "all of dqn": lambda: rl.DQN(
            "CartPole-v1",
            seed=3,
            epsilon_episodes=2,
            dueling=True,
            priority=0.6,
            double=False,
            target_rate=1.0,
            target_every=10,
            rounds_late=1,
            **SMALL,
        ),
        "ddpg": lambda: rl.DDPG("Pendulum-v1", seed=3, noise="ornstein_uhlenbeck", **SMALL),
        "td3": lambda: rl.DDPG("Pendulum-v1", seed=3, twin=True, actor_every=2, target_noise=0.2, episodes_per_round=2, **SMALL),
    }


@pytest.mark.parametrize("kind", [rarely("dqn"), "all of dqn", rarely("ddpg"), "td3"])
def test_stopped_and_continued_or_played_on_a_cluster_it_has_the_same_bits(threads, tmp_path, kind):
    make = kinds()[kind]
    whole = make().learn(150, client=False)

    class StoppedError(Exception):
        pass

    def stop(agent):
        if agent.steps > 90:
            agent.save(tmp_path)
            raise StoppedError

    with pytest.raises(StoppedError):
        make().learn(150, client=False, each_round=stop)
    again = make().learn(150, client=False, checkpoint=tmp_path, resume=True)
    on_cluster = make().learn(150, client=threads)
    for other in (again, on_cluster):
        assert other.fingerprint == whole.fingerprint
        assert other.returns == whole.returns
        assert (other.steps, other.updates) == (whole.steps, whole.updates) == (150, 90)
    assert np.array_equal(type(whole).load(tmp_path).evaluate(2), whole.evaluate(2))


@pytest.mark.fault
def test_a_worker_that_is_killed_while_it_plays_changes_nothing(cluster, client, tmp_path):
    mark = str(tmp_path / "killed")

    class Deadly(rl.CartPole):
        def advance(self, states, actions, draws):
            if os.getpid() != owner and not os.path.exists(mark):
                open(mark, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().advance(states, actions, draws)

    owner = os.getpid()
    found = rl.DQN(Deadly(), seed=3, **SMALL).learn(300, client=client)
    assert os.path.exists(mark)
    assert found.fingerprint == rl.DQN("CartPole-v1", seed=3, **SMALL).learn(300, client=False).fingerprint


class Point(rl.Environment):
    """Come to 0 and stay there: a step moves by up to a fifth, and costs the distance after it."""

    name, limit = "Point", 20
    observation_space = rl.Box(np.full(1, -2.0), np.full(1, 2.0))
    action_space = rl.Box(np.full(1, -0.2), np.full(1, 0.2))

    def start(self, random):
        return random.uniform(-1, 1, 1)

    def advance(self, states, actions, draws):
        after = np.clip(states + actions, -2, 2)
        return after, -np.abs(after[:, 0]), np.zeros(len(states), bool)


@pytest.mark.parametrize("switches", [rarely({}), {"twin": True, "actor_every": 2, "target_noise": 0.2}])
def test_vectors_of_actions_are_learnt(switches):
    """The best is to go straight, and gives about -0.6; standing still gives -10."""
    options = {"hidden": (32,), "batch_size": 64, "random_steps": 200, "learning_rate": 3e-3}
    agent = rl.DDPG(Point(), seed=0, **options, **switches).learn(1000, client=False)
    starts = np.array([Point().start(rl.generator([1, number, 1]))[0] for number in range(50)])
    best = -np.mean([sum(max(abs(x) - 0.2 * step, 0) for step in range(1, 21)) for x in starts])
    assert best - 1.5 < agent.evaluate(50, seed=1).mean() <= best + 1e-3


def test_gymnasiums_environments_are_learnt_in_too():
    pytest.importorskip("gymnasium", reason="these are Gymnasium's environments")
    agent = rl.DQN("gymnasium:MountainCar-v0", seed=3, **{**SMALL, "random_steps": 20}).learn(60, client=False)
    assert (agent.steps, agent.updates) == (60, 40)
    assert agent.evaluate(2, most_steps=10).tolist() == [-10, -10]
    assert agent.act(np.zeros(2, "f4")) in range(3)


def test_an_agent_is_pickled_after_use():
    agent = kinds()["all of dqn"]().learn(100, client=False)
    again = pickle.loads(pickle.dumps(agent))
    assert again.learn(30, client=False).fingerprint == agent.learn(30, client=False).fingerprint


def test_what_was_not_written_to_its_end_does_not_count(tmp_path):
    for name in ("round-0.part", "round-of-my-own"):
        (tmp_path / name).mkdir()
    agent = rl.DQN("CartPole-v1", seed=3, **SMALL).learn(100, client=False, checkpoint=tmp_path, resume=True)
    agent.save(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"round-0.part", "round-of-my-own", f"round-{agent.rounds}"}
    (tmp_path / f"round-{agent.rounds}" / "replay.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        rl.DQN.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"discount=0\.99, and this one has 0\.5"):
        rl.DQN("CartPole-v1", seed=3, discount=0.5, **SMALL).learn(100, client=False, checkpoint=tmp_path, resume=True)


def test_another_run_is_not_written_over(tmp_path):
    (tmp_path / "round-7").mkdir()
    with pytest.raises(ArgumentError, match=r"already holds a run, up to round 7\. Continue it with resume=True"):
        rl.DQN("CartPole-v1", **SMALL).learn(100, client=False, checkpoint=tmp_path)
    file = tmp_path / "file"
    file.touch()
    for use in (lambda agent: agent.learn(100, client=False, checkpoint=file), lambda agent: agent.save(file)):
        with pytest.raises(CheckpointError, match="A checkpoint is a folder: choose another path"):
            use(rl.DQN("CartPole-v1", **SMALL))


def test_rows_go_over_several_steps_and_end_only_where_the_episode_did():
    def rows(terminated, steps):
        return transitions(Episode(np.arange(5.0)[:, None], np.arange(4), np.array([1.0, 2.0, 3.0, 4.0]), terminated), steps, 0.5)

    one = rows(terminated=False, steps=1)
    assert one["returns"].tolist() == [1, 2, 3, 4]
    assert one["factors"].tolist() == [0.5] * 4  # time was up: the last observation has a value
    three = rows(terminated=True, steps=3)
    assert three["returns"].tolist() == [1 + 1 + 0.75, 2 + 1.5 + 1, 3 + 2, 4]
    assert three["factors"].tolist() == [0.125, 0, 0, 0]
    assert three["following"][:, 0].tolist() == [3, 4, 4, 4]
    assert rows(terminated=False, steps=3)["factors"].tolist() == [0.125, 0.125, 0.25, 0.5]


def test_a_memory_keeps_the_newest_and_draws_by_priority():
    def rows(numbers):
        return {"observations": np.array(numbers, "f4")[:, None], "returns": np.array(numbers, "f4")}

    memory = Replay(5, priority=1.0)
    memory.add(rows(range(3)))
    memory.add(rows(range(3, 7)))
    assert sorted(memory.columns["returns"].tolist()) == [2, 3, 4, 5, 6]
    memory.priorities[:] = [1, 0.5, 0.5, 0.25, 0.25]
    drawn = np.bincount(memory.draw(np.random.default_rng(0), 100, 100).ravel(), minlength=5) / 10_000
    assert drawn == pytest.approx([0.4, 0.2, 0.2, 0.1, 0.1], abs=0.02)
    assert memory.weights(1.0).tolist() == [0.25, 0.5, 0.5, 1, 1]
    memory.add(rows(range(10, 22)))  # more than it holds
    assert sorted(memory.columns["returns"].tolist()) == [17, 18, 19, 20, 21]
    again = Replay(5, priority=1.0)
    again.restore(memory.state())
    assert np.array_equal(again.draw(np.random.default_rng(1), 3, 3), memory.draw(np.random.default_rng(1), 3, 3))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda path: rl.DQN("Pendulum-v1"), "use DDPG"),
        (lambda path: rl.DDPG("CartPole-v1"), "use DQN"),
        (lambda path: rl.DQN("CartPole-v1", dueling=True, network=nn.Dense(2)), "dueling is a property of the network"),
        (lambda path: rl.DQN("CartPole-v1", network=nn.Sequential([nn.BatchNorm(), nn.Dense(2)])), "keep no state"),
        (lambda path: rl.DQN("CartPole-v1", network=Listed([2])), "tuples in the place of lists"),
        (lambda path: rl.DDPG("Pendulum-v1", noise="pink"), "unknown noise"),
        (lambda path: rl.DQN("CartPole-v1", discount=2.0), "discount"),
        (lambda path: rl.DQN("CartPole-v1", double="no"), "double is True or False"),
        (lambda path: rl.DDPG("Pendulum-v1", twin=1), "twin is True or False"),
        (lambda path: rl.DDPG("Pendulum-v1", hidden=64), "hidden is a list of whole numbers"),
        (lambda path: rl.DQN("CartPole-v1", network=3), "a network of an agent is a layer"),
        (lambda path: rl.DQN("CartPole-v1", network=nn.Dense(3)), r"shape \(batch, 2\), and this one gives \(1, 3\) of \(1, 4\)"),
        (lambda path: rl.DDPG("Pendulum-v1", actor=nn.Dense(2)), r"shape \(batch, 1\), and this one gives \(1, 2\)"),
        (lambda path: rl.DQN("CartPole-v1", **SMALL).act([1.0]), r"an observation is in Box.* got \[1.0\]"),
        (lambda path: rl.DDPG("Pendulum-v1").act([np.nan, 0, 0]), "an observation is in Box"),
        (lambda path: rl.DQN("CartPole-v1").learn(0), "steps must be"),
        (lambda path: rl.DQN("CartPole-v1").learn(10, resume=True), "needs a checkpoint"),
        (lambda path: rl.DQN("CartPole-v1").learn(10, checkpoint=path, resume="no"), "resume is True or False"),
        (lambda path: rl.DQN("CartPole-v1").learn(10, checkpoint=3), "a checkpoint's path is text"),
        (
            lambda path: (rl.DQN("CartPole-v1", **SMALL).save(path), rl.DDPG("Pendulum-v1").learn(9, checkpoint=path, resume=True)),
            "another kind",
        ),
    ],
)
def test_what_cannot_be_done_is_named(tmp_path, wrong, text):
    with pytest.raises((ArgumentError, CheckpointError), match=text):
        wrong(tmp_path)
