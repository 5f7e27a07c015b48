"""A cluster on Kubernetes, and a job on it: manifests, applied and deleted by kubectl."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dagtrain.deploy.clusters.dask_programs import check_memory
from dagtrain.deploy.clusters.launch import Ending, Launch, Plan
from dagtrain.deploy.clusters.manifests import GRACE, manifests
from dagtrain.deploy.clusters.programs import output
from dagtrain.deploy.clusters.started import Started, check_name, files_of
from dagtrain.errors import ArgumentError, ClusterError

__all__ = ["KUBERNETES", "Kubernetes"]

ABSENT = "install it (https://kubernetes.io/docs/tasks/tools), or apply what --dry-run prints on a machine that has it."
ANSWER = 30.0
"""Seconds for a request to the server."""
REQUEST = f"--request-timeout={ANSWER:.0f}s"


@dataclass(frozen=True)
class Kubernetes:
    """A scheduler, workers, and a job that trains the digits, each in pods of its own.

    Parameters
    ----------
    workers
        Number of worker pods.
    name
        The cluster's name, which begins the names of all objects.
    nthreads
        Threads of each worker, and processors that it requests.
    memory_limit
        Of each worker, in bytes as in "2GiB"; its container gets a quarter more.
    image
        With dagtrain: the project's Dockerfile makes one.
    namespace
        An existing namespace.
    context
        Of kubectl's settings; the current one by default.
    epochs
        Of the job.
    claim
        A PersistentVolumeClaim for the job's checkpoint. Without one it lasts as long as the job's pod.
    tls_secret
        A secret with the files that `make_certificates` wrote; the cluster then encrypts.
    operator
        Whether Dask's operator is to make the cluster, of a DaskCluster.
    timeout
        Seconds until all pods are ready.
    """

    workers: int = 2
    name: str = "kubernetes"
    nthreads: int = 1
    memory_limit: str = "2GiB"
    image: str = "dagtrain:local"
    namespace: str = "default"
    context: str = ""
    epochs: int = 30
    claim: str = ""
    tls_secret: str = ""
    operator: bool = False
    timeout: float = 300

    def __post_init__(self) -> None:
        if check_name(self.name)[0].isdigit():
            raise ArgumentError(f"on Kubernetes a cluster's name begins with a letter; got {self.name!r}.")
        if self.workers < 1 or self.nthreads < 1 or self.epochs < 1:
            raise ArgumentError(f"workers, nthreads and epochs are at least 1; got {self.workers}, {self.nthreads} and {self.epochs}.")
        if check_memory(self.memory_limit) is None:
            raise ArgumentError(f"on Kubernetes a memory limit is a number of bytes, as in 2GiB; got {self.memory_limit!r}.")
        for option, value in (("namespace", self.namespace), ("claim", self.claim), ("tls_secret", self.tls_secret)):
            if not re.fullmatch(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?", value) and (value or option == "namespace"):
                raise ArgumentError(f"{option} is a name of Kubernetes, of small letters, digits and hyphens; got {value!r}.")
        if not re.fullmatch(r"\S+", self.image):
            raise ArgumentError(f"image is an image's name, as registry/dagtrain:1; got {self.image!r}.")
        if self.tls_secret and self.operator:
            raise ArgumentError("Dask's operator gives workers a tcp:// address: without operator=True a cluster can encrypt.")

    @property
    def memory_bytes(self) -> float:
        """A worker's memory limit."""
        return check_memory(self.memory_limit) or 0

    @property
    def address(self) -> str:
        """The scheduler's address within the Kubernetes cluster."""
        return f"{'tls' if self.tls_secret else 'tcp'}://{self.name}-scheduler.{self.namespace}:8786"

    def plan(self) -> Plan:
        """The manifests, as a text that kubectl takes."""
        return Plan([], {str(files_of(self.name) / "manifests.yaml"): self.text(kubectl(self.context, self.namespace))})

    def text(self, program: Sequence[str]) -> str:
        """The manifests as YAML."""
        import yaml

        applied = shlex.join([*program, "apply", "--filename"])
        return f"# For: {applied} THIS_FILE\n" + str(yaml.safe_dump_all(manifests(self), sort_keys=False, width=120))

    def start(self) -> Started:
        """Apply the manifests; returns when scheduler and workers are ready. The job goes on."""
        until = time.monotonic() + self.timeout
        with Launch(self.name, "kubernetes", KUBERNETES) as launch:
            context = self.context or current_context()
            program = kubectl(context, self.namespace)
            path = launch.files / "manifests.yaml"
            path.write_text(self.text(program))
            try:
                present = objects(program, str(path))
            except ClusterError as error:
                cure = "Look at: kubectl cluster-info; --context takes another cluster."
                raise ClusterError(f"Kubernetes cannot be asked for the objects of this cluster. {cure}\n{error}") from error
            if present:
                raise ClusterError(
                    f"the namespace {self.namespace!r} already has {', '.join(present)}, which this cluster did not make: "
                    f"give another --name, or delete them."
                )
            launch.record(
                external={
                    "kubectl": shlex.join(program),
                    "manifests": str(path),
                    "inside": self.address,
                    "trainer": shlex.join([*program, "logs", "--follow", f"job/{self.name}-trainer"]),
                    "forward": shlex.join([*program, "port-forward", f"service/{self.name}-scheduler", "8786", "8787"]),
                }
            )
            output([*program, "apply", "--filename", str(path), REQUEST], 2 * ANSWER, ABSENT)
            self.wait(program, until)
            return launch.up()

    def wait(self, program: Sequence[str], until: float) -> None:
        """Wait until scheduler and workers are ready."""
        if self.operator:
            waits = [["wait", "--for=jsonpath={.status.phase}=Running", f"daskcluster/{self.name}"]]
        else:
            waits = [["rollout", "status", f"deployment/{self.name}-{role}"] for role in ("scheduler", "worker")]
        for words in waits:
            left = max(until - time.monotonic(), 1)
            try:
                output([*program, *words, f"--timeout={left:.0f}s"], left + ANSWER, ABSENT)
            except ClusterError as error:
                raise ClusterError(f"the cluster did not become ready: {error}\nIts pods:\n{self.pods(program)}") from error

    def pods(self, program: Sequence[str]) -> str:
        """What the pods wait for, in kubectl's words."""
        label = f"dask.org/cluster-name={self.name}" if self.operator else f"app.kubernetes.io/instance={self.name}"
        try:
            return output([*program, "get", "pods", "--selector", label, REQUEST], 2 * ANSWER, ABSENT)
        except ClusterError as error:
            return str(error)


def kubectl(context: str, namespace: str) -> list[str]:
    """The command for a namespace of a Kubernetes cluster, whatever the settings say later."""
    return ["kubectl", *(["--context", context] if context else []), "--namespace", namespace]


def current_context() -> str:
    """The context that kubectl uses, which another command may change; empty within a pod, which needs none."""
    try:
        return output(["kubectl", "config", "current-context"], ANSWER, ABSENT)
    except ClusterError as error:
        if "not set" in str(error):
            return ""
        raise


def objects(program: Sequence[str], path: str) -> list[str]:
    """Which of the objects in a file the server has, such as "job.batch/a-trainer"."""
    words = ["get", "--ignore-not-found", "--output=name", "--filename", path, REQUEST]
    return output([*program, *words], 2 * ANSWER, ABSENT).split()


def running(started: Started) -> list[str]:
    """The objects of a record that exist."""
    if "kubectl" not in started.external:
        return []
    return objects(shlex.split(started.external["kubectl"]), started.external["manifests"])


def stop(started: Started) -> None:
    """Delete the objects of a record and their pods, and wait for it."""
    if "kubectl" not in started.external:
        return
    seconds = GRACE + 60
    words = ["delete", "--ignore-not-found", "--cascade=foreground", f"--timeout={seconds}s", "--filename", started.external["manifests"]]
    output([*shlex.split(started.external["kubectl"]), *words], seconds + ANSWER, ABSENT)


KUBERNETES = Ending(running, stop)
