"""The Kubernetes manifests of a cluster and of a job on it, as data.

    Service NAME-scheduler ──▶ Deployment NAME-scheduler      or, of Dask's operator, which makes these four:
                               Deployment NAME-worker             DaskCluster NAME
    Job NAME-trainer                                              Job NAME-trainer

All of them run as a user without rights, on a root file system that is read-only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagtrain.deploy.certificates import AUTHORITY
from dagtrain.deploy.clusters.dask_programs import SCHEDULER, WORKER, tls_arguments

if TYPE_CHECKING:
    from dagtrain.deploy.clusters.kubernetes import Kubernetes

__all__ = ["Manifest", "container_mib", "manifests"]

Manifest = dict[str, Any]

SCHEDULER_PORTS = {"tcp-comm": 8786, "http-dashboard": 8787}  # the operator demands these names
WORKER_PORTS = {"http-dashboard": 8788}
GRACE = 60
"""Seconds between SIGTERM and SIGKILL: a worker leaves within 30 s."""
MIB = 2**20
OTHER_MIB = 1024
"""Memory of the scheduler, and of the trainer."""
NANNY_MIB = 256
USER = 1000
CERTIFICATES = Path("/certificates")
CHECKPOINTS = "/checkpoints"


@dataclass(frozen=True)
class Program:
    """One program of the cluster, in a pod of its own."""

    role: str
    arguments: list[str]
    mib: int
    cpus: float
    ports: Mapping[str, int] = field(default_factory=dict)
    certificate: str = ""
    """Whose certificate it has."""
    volumes: Mapping[str, tuple[str, Manifest]] = field(default_factory=dict)
    """Name → where it is mounted, and what it is."""


def container_mib(limit: float) -> int:
    """Memory of a container, in MiB, for a worker that itself takes `limit` bytes: its nanny needs some, and Dask reacts after a delay."""
    return math.ceil(max(limit * 1.25, limit + NANNY_MIB * MIB) / MIB)


def manifests(options: Kubernetes) -> list[Manifest]:
    """All that is applied, in order."""
    if options.operator:
        return [dask_cluster(options), job(options, trainer(options))]
    return [
        service(options),
        deployment(options, scheduler(options), 1),
        deployment(options, worker(options), options.workers),
        job(options, trainer(options)),
    ]


# The programs.


def scheduler(options: Kubernetes) -> Program:
    """Dask's scheduler."""
    comm, dashboard = SCHEDULER_PORTS.values()
    command = ["dask", "scheduler", *SCHEDULER, "--port", str(comm), "--dashboard-address", f":{dashboard}"]
    command += tls_arguments(CERTIFICATES if options.tls_secret else None, "scheduler")
    return Program("scheduler", command, OTHER_MIB, 0.5, SCHEDULER_PORTS, "scheduler")


def worker(options: Kubernetes) -> Program:
    """Dask's worker, with a memory limit below that of its container."""
    command = ["dask", "worker", options.address, *WORKER, "--nthreads", str(options.nthreads)]
    command += ["--memory-limit", f"{int(options.memory_bytes // MIB)}MiB", "--dashboard-address", f":{WORKER_PORTS['http-dashboard']}"]
    command += ["--local-directory", "/tmp", *tls_arguments(CERTIFICATES if options.tls_secret else None, "worker")]
    if options.operator:
        command += ["--name", "$(DASK_WORKER_NAME)"]  # by which the operator retires it
    return Program("worker", command, container_mib(options.memory_bytes), options.nthreads, WORKER_PORTS, "worker")


def trainer(options: Kubernetes) -> Program:
    """The job: a trainer that was stopped continues from its checkpoint by the same command."""
    command = ["dagtrain", "train", "digits", "--scheduler", options.address, "--epochs", str(options.epochs), "--no-pictures"]
    command += ["--checkpoint", f"{CHECKPOINTS}/digits", "--resume", *(["--certs", str(CERTIFICATES)] if options.tls_secret else [])]
    claim = {"persistentVolumeClaim": {"claimName": options.claim}} if options.claim else {"emptyDir": {}}
    return Program("trainer", command, OTHER_MIB, 0.5, {}, "client", {"checkpoints": (CHECKPOINTS, claim)})


# Their pods.


def labels(options: Kubernetes, role: str) -> dict[str, str]:
    """Kubernetes' recommended labels."""
    return {"app.kubernetes.io/name": "dagtrain", "app.kubernetes.io/instance": options.name, "app.kubernetes.io/component": role}


def metadata(options: Kubernetes, role: str, name: str) -> Manifest:
    """Of an object."""
    return {"name": name, "namespace": options.namespace, "labels": labels(options, role)}


def pod(options: Kubernetes, program: Program, **more: Any) -> Manifest:
    """The specification of a program's pod."""
    volumes: dict[str, tuple[str, Manifest]] = {"tmp": ("/tmp", {"emptyDir": {}}), **program.volumes}
    if options.tls_secret:
        files = [AUTHORITY, f"{program.certificate}.pem", f"{program.certificate}-key.pem"]
        items = [{"key": file, "path": file} for file in files]
        secret = {"secret": {"secretName": options.tls_secret, "items": items, "defaultMode": 0o440}}
        volumes["certificates"] = (str(CERTIFICATES), secret)
    return {
        **more,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # Dask would read variables such as DASK_SCHEDULER_PORT as its settings
        "shareProcessNamespace": True,  # the first process of a PID namespace would have to reap the orphans of killed workers
        "terminationGracePeriodSeconds": GRACE,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,  # volumes can be written, and secrets read, by this group
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(options, program, {name: path for name, (path, _) in volumes.items()})],
        "volumes": [{"name": name, **volume} for name, (_, volume) in volumes.items()],
    }


def container(options: Kubernetes, program: Program, mounts: Mapping[str, str]) -> Manifest:
    """The container of a program."""
    memory = f"{program.mib}Mi"
    described: Manifest = {
        "name": program.role,
        "image": options.image,
        "imagePullPolicy": "IfNotPresent",
        "args": program.arguments,
        "workingDir": "/tmp",
        "env": [{"name": "HOME", "value": "/tmp"}],
        # No limit of processors: it would stop a rank for parts of every 100 ms, and all others wait for it.
        "resources": {"requests": {"cpu": f"{int(program.cpus * 1000)}m", "memory": memory}, "limits": {"memory": memory}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": name, "mountPath": path, **({"readOnly": True} if name == "certificates" else {})} for name, path in mounts.items()
        ],
    }
    if program.ports:
        described["ports"] = [{"name": name, "containerPort": port} for name, port in program.ports.items()]
        for name, seconds, failures in (("startup", 2, 60), ("readiness", 5, 3), ("liveness", 15, 6)):
            ask = {"httpGet": {"path": "/health", "port": "http-dashboard"}}
            described[f"{name}Probe"] = {**ask, "periodSeconds": seconds, "timeoutSeconds": 5, "failureThreshold": failures}
    return described


# The objects.


def service_spec(selector: dict[str, str]) -> Manifest:
    """A service for the scheduler's ports."""
    ports = [{"name": name, "port": port, "targetPort": name} for name, port in SCHEDULER_PORTS.items()]
    return {"type": "ClusterIP", "selector": selector, "ports": ports}


def service(options: Kubernetes) -> Manifest:
    """The scheduler's address within the Kubernetes cluster."""
    described = metadata(options, "scheduler", f"{options.name}-scheduler")
    return {"apiVersion": "v1", "kind": "Service", "metadata": described, "spec": service_spec(labels(options, "scheduler"))}


def deployment(options: Kubernetes, program: Program, replicas: int) -> Manifest:
    """Pods that are always replaced."""
    alone = {"strategy": {"type": "Recreate"}} if program.role == "scheduler" else {}  # never two schedulers behind one address
    template = {"metadata": {"labels": labels(options, program.role)}, "spec": pod(options, program)}
    spec = {"replicas": replicas, **alone, "selector": {"matchLabels": labels(options, program.role)}, "template": template}
    described = metadata(options, program.role, f"{options.name}-{program.role}")
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": described, "spec": spec}


def job(options: Kubernetes, program: Program) -> Manifest:
    """A pod that runs until it succeeds. It is started again while there are no workers yet, at longer and longer intervals."""
    template = {"metadata": {"labels": labels(options, program.role)}, "spec": pod(options, program, restartPolicy="OnFailure")}
    # A pod that ends slowly still writes its checkpoint: the next one waits.
    spec = {"backoffLimit": 12, "podReplacementPolicy": "Failed", "template": template}
    described = metadata(options, program.role, f"{options.name}-{program.role}")
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": described, "spec": spec}


def dask_cluster(options: Kubernetes) -> Manifest:
    """A cluster of Dask's operator, which makes service and deployments of it, with the names that they have without it."""
    described = {"name": options.name, "namespace": options.namespace, "labels": labels(options, "cluster")}
    selector = {"dask.org/cluster-name": options.name, "dask.org/component": "scheduler"}
    spec = {
        "worker": {"replicas": options.workers, "spec": pod(options, worker(options))},
        "scheduler": {"spec": pod(options, scheduler(options)), "service": service_spec(selector)},
    }
    return {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "metadata": described, "spec": spec}
