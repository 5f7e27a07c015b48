"""The manifests of a cluster on Kubernetes, and that the rules of scripts/manifests.py find what is wrong with others."""

from __future__ import annotations

import copy
import runpy
from pathlib import Path

import pytest

from dagtrain.deploy.clusters import Kubernetes
from dagtrain.deploy.clusters.manifests import container_mib, manifests

ROOT = Path(__file__).parent.parent.parent.parent
SHORT = 4  # one in so many of the planted errors

pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")


@pytest.fixture(scope="module")
def proof():
    """The names of scripts/prove-manifests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        yield runpy.run_path(str(ROOT / "scripts" / "prove-manifests"), run_name="proof")


@pytest.mark.slow
def test_no_set_of_options_has_a_complaint(proof):
    assert proof["plain"](None, errors={})["sets_without_complaint"] >= 3


@pytest.mark.slow
def test_planted_errors_are_found(proof, thorough):
    errors = dict(list(proof["ERRORS"].items())[:: 1 if thorough else SHORT])
    missed = [name for name, complaint in proof["plain"](None, errors)["complaints"].items() if complaint == "missed"]
    assert set(missed) <= {"image that does not exist"}
    assert len(errors) >= 8


@pytest.mark.slow
def test_operator_gets_a_cluster_by_its_definition(proof, thorough):
    pytest.importorskip("dask_kubernetes", reason="needs dask-kubernetes")
    errors = dict(list(proof["OPERATOR_ERRORS"].items())[:: 1 if thorough else SHORT])
    table = proof["operator"](None, errors)
    assert table["sets_without_complaint"] >= 2
    assert "missed" not in table["complaints"].values()


def test_operators_pods_are_those_of_the_deployments():
    _, scheduler, worker, job = manifests(Kubernetes())
    cluster, operators_job = manifests(Kubernetes(operator=True))
    workers = copy.deepcopy(cluster["spec"]["worker"]["spec"])
    arguments = workers["containers"][0]["args"]
    assert arguments[-2:] == ["--name", "$(DASK_WORKER_NAME)"]
    del arguments[-2:]
    assert workers == worker["spec"]["template"]["spec"]
    assert cluster["spec"]["scheduler"]["spec"] == scheduler["spec"]["template"]["spec"]
    assert operators_job == job


def test_secret_shows_each_pod_only_its_own_key():
    for manifest in manifests(Kubernetes(tls_secret="keys"))[1:]:
        volumes = {volume["name"]: volume for volume in manifest["spec"]["template"]["spec"]["volumes"]}
        keys = [item["key"] for item in volumes["certificates"]["secret"]["items"] if item["key"].endswith("-key.pem")]
        assert len(keys) == 1
        assert "tcp://" not in " ".join(manifest["spec"]["template"]["spec"]["containers"][0]["args"])


def test_container_has_room_for_the_nanny():
    assert container_mib(2 * 2**30) == 2560
    assert container_mib(512 * 2**20) == 768
