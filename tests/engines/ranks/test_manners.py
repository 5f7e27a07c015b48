"""The engine *lanes* leaves the cluster as it found it, whoever ends it, and shares it with others."""

import gc
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import dask
import numpy as np
import pytest
from distributed import Client, wait

import dagtrain as dt
from dagtrain.engines.client import wait_for_workers
from dagtrain.engines.ranks import LanesEngine, SegmentPolicy


def ranks_on(dask_worker):
    """What is there of ranks: themselves, tasks at work on them, their threads, and descriptors of their memory."""
    plugin = dask_worker.plugins.get("dagtrain-lanes")
    stacks = [frame.f_code.co_name for top in sys._current_frames().values() for frame in back(top)]
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    windows = [link for link in links if "dagtrain-window" in link]
    return [
        *(plugin.ranks if plugin else ()),
        *(plugin._endpoints if plugin else ()),
        *[name for name in stacks if name == "run_rank"],
        *windows,
    ]


def back(frame):
    while frame is not None:
        yield frame
        frame = frame.f_back


def what_is_left(client):
    tasks = client.run_on_scheduler(lambda dask_scheduler: sorted(map(str, dask_scheduler.tasks)))
    sessions = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.plugins["dagtrain-lanes"].sessions))
    data = [key for keys in client.run(lambda dask_worker: list(map(str, dask_worker.data))).values() for key in keys]
    ranks = [found for some in client.run(ranks_on).values() for found in some]
    return sorted(map(str, client.futures)) + tasks + sessions + data + ranks


@pytest.fixture
def is_empty(eventually):
    def look(client):
        gc.collect()
        eventually(lambda: what_is_left(client), [])

    return look


def test_nothing_is_left_behind(threads, digits, mixed, is_empty):
    trainer = mixed.trainer(engine="lanes")
    mixed.fit(trainer, validation_data=digits[2:])
    trainer.evaluate(*digits[2:])
    is_empty(threads)


def test_while_it_runs_there_is_something(threads, mixed, looking, is_empty):
    """Or the tests of what is left would see nothing ever."""
    look = looking(lambda: " ".join(map(str, what_is_left(threads))))
    mixed.fit(mixed.trainer(engine="lanes"), callbacks=[look])
    assert all("rank-" in seen and "dagtrain-window" in seen for seen in look.seen)
    is_empty(threads)


def observations(client):
    def look(dask_worker=None, dask_scheduler=None):
        callbacks = (dask_worker or dask_scheduler).periodic_callbacks
        return {name: callbacks[name].callback_time for name in ("tick", "profile") if name in callbacks}

    return [*client.run(look).values(), client.run_on_scheduler(look)]


def test_dask_observes_itself_seldom_while_ranks_are_at_work(local_cluster, mixed, eventually):
    often = {"distributed.admin.tick.interval": "20ms", "distributed.worker.profile.enabled": True}
    with dask.config.set(often), local_cluster(2) as cluster, Client(cluster) as client:
        before, during = observations(client), []
        assert before[0]["tick"] < before[0]["profile"] * 10 < 500
        seen = dt.callbacks.LambdaCallback(on_epoch_end=lambda *_: during.append(observations(client)))
        mixed.fit(mixed.trainer(engine="lanes"), callbacks=[seen])
        assert all(set(each.values()) == {500.0} for each in during[-1])
        eventually(lambda: observations(client), before)


def test_nothing_is_left_behind_by_an_error(threads, mixed, is_empty):
    class Reporter(dt.callbacks.Callback):
        def on_train_batch_end(self, batch, logs):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        mixed.fit(mixed.trainer(engine="lanes"), callbacks=[Reporter()])
    is_empty(threads)
    assert caught.value.__traceback__ is not None, "the error is alive, and all that its frames hold"


def test_nothing_is_left_behind_by_killed_workers(client, kill_at, plain, is_empty):
    kill_at("update", 7, others=1)
    history = plain.fit(plain.trainer(engine=LanesEngine(client, policy=SegmentPolicy(most=2))))
    assert history.fingerprint == plain.inline.fingerprint
    wait_for_workers(client, 3, 60)
    is_empty(client)


def test_many_fits_leave_no_descriptors(client, mixed, is_empty):
    def count():
        is_empty(client)
        return client.run(lambda: len(os.listdir("/proc/self/fd")))

    def fit():
        mixed.fit(mixed.trainer(engine="lanes"), epochs=1)

    for _ in range(2):
        fit()
    before = count()
    for _ in range(6):
        fit()
    after = count()
    assert all(after[worker] <= before[worker] + 4 for worker in after), (before, after)


def test_the_users_own_data_stays(threads, mixed, is_empty):
    other = threads.submit(lambda: np.arange(3), pure=False)
    wait(other)
    mixed.fit(mixed.trainer(engine="lanes"))
    assert other.result().tolist() == [0, 1, 2]
    del other
    is_empty(threads)


@pytest.mark.parametrize("clients", [1, 2])
def test_two_trainings_at_once_do_not_wait_for_each_other(client, mixed, is_empty, clients):
    """Three workers of one thread, three ranks each: they would, if a rank kept a thread."""
    with Client(client.scheduler.address, set_as_default=False) as other, ThreadPoolExecutor(2) as pool:
        use = [client, other if clients == 2 else client]
        found = list(pool.map(lambda c: mixed.fit(mixed.trainer(engine="lanes", client=c)), use))
    assert [history.fingerprint for history in found] == [mixed.inline.fingerprint] * 2
    assert [history.events for history in found] == [[], []]
    is_empty(client)


DRIVER = """
import sys
import dagtrain as dt
from distributed import Client

class Reporter(dt.callbacks.Callback):
    def on_train_batch_end(self, batch, logs):
        print("step", flush=True)

if __name__ == "__main__":
    with Client(sys.argv[1]):
        digits = dt.data.load_digits()
        model = dt.nn.Sequential([dt.nn.Dense(10)])
        trainer = dt.Trainer(model, loss="cross_entropy", shards=4, engine="lanes")
        trainer.fit(digits.x, digits.y, epochs=100_000, verbose=0, callbacks=[Reporter()])
"""


def test_a_driver_that_is_killed_leaves_nothing(client, tmp_path, is_empty):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    with subprocess.Popen([sys.executable, str(script), client.scheduler.address], stdout=subprocess.PIPE) as driver:
        assert driver.stdout.readline() == b"step\n"
        assert any(client.run(ranks_on).values())
        driver.kill()
    is_empty(client)


class Interrupted(dt.callbacks.Callback):
    """A callback that presses Ctrl-C at some step, once or twice."""

    def __init__(self, times):
        self.times = times

    def on_train_batch_end(self, batch, logs):
        if batch == 2:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_after_a_segment_and_the_rest_gives_the_same(threads, plain, is_empty, tmp_path):
    trainer = plain.trainer(engine=LanesEngine(threads, policy=SegmentPolicy(most=1)))
    history = plain.fit(trainer, callbacks=[Interrupted(1)], checkpoint=tmp_path)
    assert history.stopped is not None
    is_empty(threads)
    assert history.epochs < plain.epochs
    rest = plain.fit(plain.trainer(engine="inline"), checkpoint=tmp_path, resume=True)
    assert rest.fingerprint == plain.inline.fingerprint


def test_ctrl_c_twice_ends_at_once(threads, plain, is_empty):
    with pytest.raises(KeyboardInterrupt):
        plain.fit(plain.trainer(engine="lanes"), callbacks=[Interrupted(2)])
    is_empty(threads)


def test_keys_of_tasks_can_be_read(threads, mixed):
    mixed.fit(mixed.trainer(engine="lanes"), epochs=1)
    prefixes = threads.run_on_scheduler(lambda dask_scheduler: set(dask_scheduler.task_prefixes))
    assert {"data", "state", "group", "rank", "program"} <= prefixes


def test_a_step_that_nobody_waits_for_is_forgotten(threads, mixed, is_empty):
    """Ranks have begun on the next epoch when a fit is stopped."""

    class Stopping(dt.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            trainer.stop()

    trainer = mixed.trainer(engine="lanes")
    mixed.fit(trainer, callbacks=[Stopping()])
    is_empty(threads)
    assert trainer.fit(mixed.digits.x[:196], mixed.digits.y[:196], batch_size=64, verbose=0).fingerprint == mixed.inline.fingerprint
