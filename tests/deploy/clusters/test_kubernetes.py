"""A cluster on Kubernetes, with a stand-in kubectl that records its commands. No server is there to run the manifests."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from dagtrain.cli import main
from dagtrain.deploy.clusters import Kubernetes, clusters, load, stop
from dagtrain.deploy.clusters.manifests import manifests
from dagtrain.errors import ArgumentError, ClusterError

# What the server has is in the file $OBJECTS. A verb fails if a file FAIL.VERB exists, with its text.
KUBECTL = """#!/bin/bash
echo "$*" >> "$LOG"
words=" $* "
for verb in current-context get apply rollout delete; do
  if [[ $words == *" $verb "* && -f "$FAIL.$verb" ]]; then cat "$FAIL.$verb" >&2; exit 1; fi
done
case $words in
  *" current-context "*) echo blue ;;
  *" get pods "*) echo "a-worker-1  0/1  ImagePullBackOff" ;;
  *" get "*) [ ! -f "$OBJECTS" ] || cat "$OBJECTS" ;;
  *" apply "*) echo deployment.apps/a-worker > "$OBJECTS" ;;
  *" delete "*) rm -f "$OBJECTS" ;;
esac
"""


class Server:
    """What a test sees of kubectl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log, self.objects = folder / "log", folder / "objects"

    def verbs(self) -> list[str]:
        """What it was asked for, without where."""
        verbs = ("current-context", "get", "apply", "rollout", "delete")
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [next(verb for verb in verbs if f" {verb} " in f" {line} ") for line in lines]

    def fails(self, verb: str, text: str) -> None:
        (self.folder / f"fail.{verb}").write_text(text)


@pytest.fixture
def server(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(KUBECTL)
    program.chmod(0o755)
    seen = Server(tmp_path)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name, path in (("LOG", seen.log), ("OBJECTS", seen.objects), ("FAIL", tmp_path / "fail")):
        monkeypatch.setenv(name, str(path))
    return seen


def test_start_applies_the_manifests_and_stop_deletes_the_same(server):
    options = Kubernetes(name="a", workers=3)
    started = options.start()
    assert server.verbs() == ["current-context", "get", "apply", "rollout", "rollout"]
    applied = Path(started.external["manifests"])
    assert list(yaml.safe_load_all(applied.read_text())) == manifests(options)
    assert started.external["forward"] == "kubectl --context blue --namespace default port-forward service/a-scheduler 8786 8787"
    assert clusters()[0][2] == "running"
    assert stop("a") == ["deployment.apps/a-worker"]
    assert not server.objects.exists()
    deleted = server.log.read_text().splitlines()[-1]
    assert deleted.startswith("--context blue --namespace default delete ")  # whatever is the current one by now
    assert deleted.endswith(f"--filename {applied}")
    with pytest.raises(ArgumentError, match="no cluster 'a'"):
        load("a")


def test_pods_that_are_not_ready_in_time_are_named_and_deleted(server):
    server.fails("rollout", "error: timed out waiting for the condition")
    with pytest.raises(ClusterError, match=r"did not become ready(?s:.*)timed out(?s:.*)ImagePullBackOff"):
        Kubernetes(name="a", timeout=60).start()
    assert not server.objects.exists()
    assert clusters() == []


def test_what_was_applied_in_part_is_deleted(server):
    server.fails("apply", 'Error from server (NotFound): namespaces "a" not found')
    server.objects.write_text("")
    with pytest.raises(ClusterError, match='namespaces "a" not found'):
        Kubernetes(name="a", namespace="a").start()
    assert server.verbs()[-1] == "delete"


def test_objects_of_others_are_neither_changed_nor_deleted(server):
    server.objects.write_text("service/a-scheduler\n")
    with pytest.raises(ClusterError, match="already has service/a-scheduler"):
        Kubernetes(name="a").start()
    assert server.verbs() == ["current-context", "get"]
    assert clusters() == []


def test_server_that_does_not_answer_is_an_error(server):
    server.fails("get", "E1130 02:24:40.450851 memcache.go\nThe connection to the server was refused\n")
    with pytest.raises(ClusterError, match=r"kubectl cluster-info(?s:.*)status 1:\n    The connection") as caught:
        Kubernetes(name="a").start()
    assert "memcache" not in str(caught.value)
    assert clusters() == []


def test_record_stays_if_the_objects_cannot_be_deleted(server):
    Kubernetes(name="a").start()
    server.fails("delete", "Unauthorized")
    with pytest.raises(ClusterError, match="Unauthorized"):
        stop("a")
    assert load("a").kind == "kubernetes"


def test_pod_without_a_context_uses_none(server):
    server.fails("current-context", "error: current-context is not set")
    assert Kubernetes(name="a").start().external["kubectl"] == "kubectl --namespace default"


def test_without_kubectl_a_plan_can_be_made_and_a_start_says_what_is_absent(server, monkeypatch):
    monkeypatch.setenv("PATH", str(server.folder))
    text = str(Kubernetes(name="a").plan())
    assert list(yaml.safe_load_all(text)) == manifests(Kubernetes(name="a"))  # kubectl takes it as it is
    assert "&id" not in text
    with pytest.raises(ClusterError, match=r"no program kubectl on PATH: install it(?s:.*)--dry-run"):
        Kubernetes(name="a").start()
    assert clusters() == []


def test_command_prints_the_manifests_of_its_options():
    words = ["--name", "a", "--workers", "4", "--image", "registry/dagtrain:1", "--operator", "--dry-run"]
    printed = CliRunner().invoke(main, ["cluster", "kubernetes", *words], catch_exceptions=False).stdout
    assert list(yaml.safe_load_all(printed)) == manifests(Kubernetes(name="a", workers=4, image="registry/dagtrain:1", operator=True))


def test_operator_is_waited_for_by_its_own_state(server):
    Kubernetes(name="a", operator=True).start()
    assert "wait --for=jsonpath={.status.phase}=Running daskcluster/a" in server.log.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "1a"}, "begins with a letter"),
        ({"workers": 0}, "at least 1"),
        ({"memory_limit": "0.8"}, "number of bytes"),
        ({"namespace": ""}, "namespace is a name"),
        ({"claim": "My_Disk"}, "claim is a name"),
        ({"image": "a b"}, "image is an image's name"),
        ({"tls_secret": "keys", "operator": True}, "operator"),
    ],
)
def test_options_that_cannot_be_applied_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        Kubernetes(**options)
