"""Records of clusters, and what a start, a list and a stop make of them."""

import json
import subprocess
import sys

import pytest

from dagtrain.deploy.clusters import KINDS, Launch, Started, clusters, load, stop
from dagtrain.deploy.clusters.launch import PROCESSES
from dagtrain.deploy.clusters.processes import Process
from dagtrain.errors import ArgumentError, ClusterError

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
ENDED = Process(1, "an earlier start")


def test_record_is_read_as_it_was_written(state):
    with Launch("a", "local", PROCESSES) as launch:
        launch.record(external={"job": "17"}, processes=(ENDED,))
        started = launch.up(scheduler="tcp://127.0.0.1:8786", dashboard="http://127.0.0.1:8787/status")
    assert load("a") == started
    assert [path.name for path in state.iterdir() if path.is_file()] == ["a.json"]
    assert (state / "a.json").stat().st_mode & 0o777 == 0o600


def launch():
    return Launch("a", "local", PROCESSES)


def start_that_ends(error):
    """A start that fails after it has started a process; the process, or the error with it."""
    with launch() as started:
        child = started.run(SLEEP, "sleeper")
        assert load("a").processes == (Process.of(child.pid),)
        error.child = child
        raise error


def refused_start():
    with launch():
        raise AssertionError("this start was not refused")


@pytest.mark.parametrize("error", [ClusterError("for a reason"), KeyboardInterrupt(), SystemExit(143)])
def test_start_that_fails_or_is_interrupted_ends_what_it_has_started_and_leaves_logs(state, error):
    with pytest.raises(type(error)):
        start_that_ends(error)
    assert error.child.wait(10) < 0
    assert [path.name for path in state.iterdir()] == ["a"]
    assert (state / "a" / "sleeper.log").exists()


def test_process_that_ends_while_the_cluster_starts_is_an_error_with_the_end_of_its_log():
    def start():
        with launch() as started:
            child = started.run([sys.executable, "-c", "print('no luck'); raise SystemExit(3)"], "sleeper")
            child.wait(60)
            started.check(child, "sleeper")

    with pytest.raises(ClusterError, match=r"(?s)sleeper ended with status 3\. The end of .*sleeper\.log:\n    no luck"):
        start()


def test_name_of_a_running_cluster_is_refused_and_stop_frees_it():
    with launch() as first:
        child = first.run(SLEEP, "sleeper")
        first.up()
    with pytest.raises(ClusterError, match=f"'a' is running .process {child.pid}.: stop it with: dagtrain cluster stop a"):
        refused_start()
    assert [(name, state) for name, _, state in clusters()] == [("a", "running")]
    assert stop("a") == [f"process {child.pid}"]
    assert child.wait(10) < 0
    assert clusters() == []


def test_record_of_ended_processes_is_replaced_once_what_it_left_elsewhere_is_ended():
    first = Started("a", "local", up=True, processes=(ENDED,))
    first.write()
    assert [(name, state) for name, _, state in clusters()] == [("a", "ended")]
    stopped = []
    with Launch("a", "local", PROCESSES._replace(stop=stopped.append)) as second:
        second.up()
    assert stopped == [first]
    assert load("a").processes == ()


def test_name_of_a_cluster_that_is_being_started_is_refused():
    with subprocess.Popen(SLEEP) as other:
        Started("a", "local", launcher=Process.of(other.pid)).write()
        with pytest.raises(ClusterError, match=f"is being started by process {other.pid}"), launch():
            pass
        with pytest.raises(ClusterError, match="end that one with Ctrl-C"):
            stop("a")
        assert clusters()[0][2] == "starting"
        other.kill()


def test_cluster_of_a_killed_start_can_be_stopped():
    with subprocess.Popen(SLEEP) as child:
        Started("a", "local", launcher=ENDED, processes=(Process.of(child.pid),)).write()
        assert stop("a") == [f"process {child.pid}"]


def test_processes_of_another_host_are_left_alone():
    Started("a", "local", host="elsewhere", up=True, processes=(ENDED,)).write()
    with pytest.raises(ClusterError, match="started on the host elsewhere"):
        stop("a")
    with pytest.raises(ClusterError, match="started on the host elsewhere"):
        refused_start()


def test_name_of_another_kind_is_refused():
    Started("a", "ssh", up=True).write()
    with pytest.raises(ClusterError, match="belongs to a cluster of kind ssh"):
        refused_start()


def test_unknown_name_lists_the_known_ones():
    Started("a", "local").write()
    with pytest.raises(ArgumentError, match=r"no cluster 'b' was started by this user on this machine\. Known: a"):
        stop("b")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "b"),
        ("up", 1),
        ("processes", [[0, "x"]]),
        ("processes", [["1", "x"]]),
        ("launcher", [1]),
        ("external", {"job": 17}),
        ("kind", None),
    ],
)
def test_damaged_record_is_an_error_that_names_the_file(state, key, value):
    Started("a", "local").write()
    record = json.loads((state / "a.json").read_text())
    (state / "a.json").write_text(json.dumps({**record, key: value}))
    with pytest.raises(ClusterError, match=r"a\.json is damaged"):
        load("a")
    with pytest.raises(ClusterError, match=r"a\.json is damaged"):
        refused_start()
    assert "is damaged" in clusters()[0][2]


def test_record_that_is_cut_off_is_an_error(state):
    (state / "a.json").write_text('{"name": "a"')
    with pytest.raises(ClusterError, match=r"a\.json is damaged"):
        load("a")


@pytest.mark.parametrize("name", ["", "-a", "a-", "../a", "A", "a b", "a" * 41])
def test_name_that_is_no_file_job_and_container_is_refused(name):
    with pytest.raises(ArgumentError, match="small letters, digits and hyphens"):
        load(name)


def test_state_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(ArgumentError, match=r"cannot be written to .*file/dagtrain/clusters: Not a directory\. Set XDG_STATE_HOME"):
        refused_start()
    assert clusters() == []


def test_user_without_a_home_is_told_to_name_a_folder(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setattr("pathlib.Path.home", no_home)
    with pytest.raises(ArgumentError, match="has no home for the records of clusters: set XDG_STATE_HOME"):
        clusters()


def test_every_kind_in_the_table_ends_a_record_that_has_nothing_to_end():
    for kind, ending in KINDS.items():
        started = Started("a", kind)
        assert ending.running(started) == []
        ending.stop(started)
