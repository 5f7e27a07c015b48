"""What is wrong with Kubernetes manifests, found without a server: for `scripts/prove-manifests` and the tests.

    DaskCluster ─ schema of its definition ─▶ what Dask's operator makes of it ┐
    Service, Deployment, Job ──────────────────────────────────────────────────┴─▶ Kubernetes' schemas, RULES ─▶ complaints

Kubernetes' schemas (package kubernetes-validate) know fields and types; the rules know what fields mean together. A kind without a schema
is an error.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

VERSION = "1.37"  # of Kubernetes' schemas
GRACE = 30  # seconds for a worker to leave
NANNY = 200 * 2**20  # bytes of a worker's container that its workers may not take

Document = Mapping[str, Any]

UNITS = {"": Decimal(1), "m": Decimal("0.001"), **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGT", 1)}}
UNITS |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGT", 1)}
NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
CHOICES = {
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "podReplacementPolicy": {"Failed", "TerminatingOrFailed"},
    "protocol": {"TCP", "UDP", "SCTP"},
}
RESTARTS = {"Deployment": {"Always"}, "Job": {"OnFailure", "Never"}}


def complaints(documents: Sequence[Document]) -> list[str]:
    """What is wrong with manifests that are applied together; empty if nothing is."""
    made: list[Document] = []
    found = []
    for document in documents:
        if document.get("kind") == "DaskCluster":
            wrong = dask_cluster(document)
            found += wrong
            made += [] if wrong else by_operator(document)
        else:
            made.append(document)
    found += [f"{named(document)}: {wrong}" for document in made for wrong in schema(document)]
    if not found:  # the rules take the shape for granted
        found += [f"{rule.__name__}: {wrong}" for rule in RULES for wrong in rule(made)]
    return list(dict.fromkeys(found))


def named(document: Document) -> str:
    return f"{document.get('kind')} {document.get('metadata', {}).get('name')}"


# Schemas.


def schema(document: Document) -> tuple[str, ...]:
    """Fields and types, by Kubernetes' own schema."""
    return schema_of(json.dumps(document))


@functools.cache  # a tenth of a second each
def schema_of(text: str) -> tuple[str, ...]:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(json.loads(text), VERSION, strict=True)
    except kubernetes_validate.SchemaNotFoundError as error:
        return (error.message,)
    except kubernetes_validate.ValidationError as error:
        return (f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}",)
    return ()


def closed(node: Any) -> Any:
    """A schema of a custom resource as JSON Schema, in which a field that it does not name is an error. Kubernetes drops such a field."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: closed(value) for key, value in node.items()}
    if node.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if "properties" in node and "additionalProperties" not in node and not node.get("x-kubernetes-preserve-unknown-fields"):
        node["additionalProperties"] = False
    return node


@functools.cache
def definitions() -> dict[str, Any]:
    """The schemas of a DaskCluster that the operator installs, by apiVersion."""
    import dask_kubernetes
    import yaml

    helm = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm/dask-kubernetes-operator/crds/daskcluster.yaml"
    load = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C takes a tenth of the time, and may be absent
    definition = yaml.load(helm.read_text(), load)["spec"]
    schemas = {f"{definition['group']}/{v['name']}": closed(v["schema"]["openAPIV3Schema"]) for v in definition["versions"]}
    for strict in schemas.values():
        strict["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {"type": "object", "required": ["name"]}}
    return schemas


def dask_cluster(document: Document) -> list[str]:
    """Fields and types of a DaskCluster."""
    import jsonschema

    if document.get("apiVersion") not in definitions():
        return [f"{named(document)}: no such apiVersion: {document.get('apiVersion')}"]
    errors = jsonschema.Draft7Validator(definitions()[document["apiVersion"]]).iter_errors(document)
    return [f"{named(document)}: {'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in errors]


def by_operator(document: Document) -> list[Document]:
    """The service and the deployments that the operator makes of a DaskCluster, by its own functions, with one worker."""
    from dask_kubernetes.operator.controller import controller

    data, spec = document["metadata"], document["spec"]
    name, namespace, labels = data["name"], data.get("namespace", "default"), data.get("labels", {})
    scheduler, worker = spec["scheduler"], spec["worker"]
    made = [
        controller.build_scheduler_service_spec(name, scheduler["service"], {}, labels),
        controller.build_scheduler_deployment_spec(name, scheduler["spec"], {}, labels),
        controller.build_worker_deployment_spec(f"{name}-default", namespace, name, "0123456789", worker["spec"], {}, labels),
    ]
    return [{**part, "metadata": {**part["metadata"], "namespace": namespace}} for part in made]


# Rules. Each takes all documents, whose schemas hold.


def pods(documents: list[Document]) -> Iterator[tuple[Document, Document]]:
    """Each document with a pod's template, and the template."""
    for document in documents:
        if "template" in document.get("spec", {}):
            yield document, document["spec"]["template"]


def containers(documents: list[Document]) -> Iterator[tuple[str, Document, Document]]:
    """Each container with its place in words, and the specification of its pod."""
    for document, template in pods(documents):
        for container in template["spec"]["containers"]:
            yield f"{named(document)}, container {container['name']}", container, template["spec"]


def option(container: Document, name: str) -> str | None:
    """The value of an option in a container's arguments."""
    words = container.get("args", [])
    return words[words.index(name) + 1] if name in words[:-1] else None


def quantity(text: Any) -> Decimal:
    """A number of Kubernetes, such as 500m or 1Gi."""
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", str(text))
    if not matched or matched[2] not in UNITS:
        raise ValueError(f"{text!r} is no quantity")
    return Decimal(matched[1]) * UNITS[matched[2]]


def names(documents: list[Document]) -> Iterator[str]:
    for document in documents:
        name = document["metadata"]["name"]
        letters = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?" if document["kind"] == "Service" else NAME
        if not re.fullmatch(letters, name):
            yield f"{named(document)}: no name of Kubernetes"
    spaces = {document["metadata"].get("namespace", "default") for document in documents}
    if len(spaces) > 1:
        yield f"several namespaces: {', '.join(sorted(spaces))}"
    keys = [(document["kind"], document["metadata"]["name"]) for document in documents]
    yield from (f"{kind} {name}: twice" for kind, name in set(keys) if keys.count((kind, name)) > 1)
    for place, container, _ in containers(documents):
        ports = [port.get("name", "a") for port in container.get("ports", [])]
        if not all(re.fullmatch(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?", port) for port in ports) or len(set(ports)) < len(ports):
            yield f"{place}: names of ports {ports}"
        if not re.fullmatch(NAME, container["name"]):
            yield f"{place}: no name of Kubernetes"


def choices(documents: list[Document]) -> Iterator[str]:
    def walk(node: Any, place: str) -> Iterator[str]:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            if key in CHOICES and value not in CHOICES[key]:
                yield f"{place}: {key} {value!r} is none of {', '.join(sorted(CHOICES[key]))}"
            yield from walk(value, place)

    for document in documents:
        yield from walk(document, named(document))
    for document, template in pods(documents):
        policy = template["spec"].get("restartPolicy", "Always")
        if policy not in RESTARTS.get(document["kind"], set()):
            yield f"{named(document)}: restartPolicy {policy!r}"


def selectors(documents: list[Document]) -> Iterator[str]:
    for document, template in pods(documents):
        chosen = document["spec"].get("selector", {}).get("matchLabels", {})
        if not chosen.items() <= template["metadata"].get("labels", {}).items():
            yield f"{named(document)}: its selector {chosen} does not choose its own pods"


def services(documents: list[Document]) -> Iterator[str]:
    for document in documents:
        if document["kind"] != "Service":
            continue
        chosen = document["spec"].get("selector", {})
        behind = [template["spec"] for _, template in pods(documents) if chosen.items() <= template["metadata"].get("labels", {}).items()]
        if len(behind) != 1:
            yield f"{named(document)}: its selector chooses the pods of {len(behind)} objects"
        open_ports = {
            port[key] for pod in behind for c in pod["containers"] for port in c.get("ports", []) for key in port if key != "protocol"
        }
        for port in document["spec"]["ports"]:
            if port.get("targetPort", port["port"]) not in open_ports:
                yield f"{named(document)}: no container has the port {port.get('targetPort', port['port'])}"


def resources(documents: list[Document]) -> Iterator[str]:
    for place, container, _ in containers(documents):
        limits, requests = (container.get("resources", {}).get(key, {}) for key in ("limits", "requests"))
        try:
            for what, amount in requests.items():
                if quantity(amount) > quantity(limits.get(what, amount)):
                    yield f"{place}: requests more {what} than its limit"
            if "memory" not in limits:
                yield f"{place}: no limit of memory"
                continue
            room = quantity(limits["memory"])
        except ValueError as error:
            yield f"{place}: {error}"
            continue
        limit = option(container, "--memory-limit")
        matched = re.fullmatch(r"(\d+)MiB", limit or "")
        if limit is not None and (not matched or int(matched[1]) * 2**20 > room - NANNY):
            yield f"{place}: --memory-limit {limit} leaves less than {NANNY // 2**20} MiB of {limits['memory']}"


def listening(container: Document) -> dict[str, int]:
    """The ports at which a container's program listens, by option."""
    found = {name: option(container, name) for name in ("--port", "--dashboard-address")}
    return {name: int(value.rpartition(":")[2]) for name, value in found.items() if value}


def ports(documents: list[Document]) -> Iterator[str]:
    for place, container, _ in containers(documents):
        program, declared = listening(container), {port.get("name"): port["containerPort"] for port in container.get("ports", [])}
        if set(program.values()) != set(declared.values()):
            yield f"{place}: its program listens at {sorted(program.values())}, and its ports are {sorted(declared.values())}"
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            ask = container.get(kind, {}).get("httpGet")
            if ask is None:
                if program:
                    yield f"{place}: no {kind}"
            elif declared.get(ask["port"], ask["port"]) != program.get("--dashboard-address") or ask.get("path") != "/health":
                yield f"{place}: {kind} asks {ask}, where nothing answers"


def addresses(documents: list[Document]) -> Iterator[str]:
    known = {
        f"{document['metadata']['name']}.{document['metadata'].get('namespace', 'default')}:{port['port']}"
        for document in documents
        if document["kind"] == "Service"
        for port in document["spec"]["ports"]
    }
    for place, container, _ in containers(documents):
        for word in container.get("args", []):
            matched = re.fullmatch(r"(tcp|tls)://(.+)", word)
            if matched and matched[2] not in known:
                yield f"{place}: no service is at {word}"


def commands(documents: list[Document]) -> Iterator[str]:
    from distributed.cli.dask_scheduler import main as scheduler
    from distributed.cli.dask_worker import main as worker

    from dagtrain.cli.train import digits

    for place, container, _ in containers(documents):
        words = container.get("args", [])
        of = {"dask scheduler": scheduler, "dask worker": worker, "dagtrain train": digits}.get(" ".join(words[:2]))
        if of is None:
            yield f"{place}: no program of the image: {words[:2]}"
            continue
        options = {name for parameter in of.params for name in (*parameter.opts, *parameter.secondary_opts)}
        yield from (
            f"{place}: {' '.join(words[:2])} has no option {word}" for word in words if word.startswith("--") and word not in options
        )


def volumes(documents: list[Document]) -> Iterator[str]:
    for place, container, pod in containers(documents):
        mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
        for name in mounts.keys() - {volume["name"] for volume in pod.get("volumes", [])}:
            yield f"{place}: there is no volume {name}"
        for name in ("--checkpoint", "--local-directory", "--certs", "--tls-cert"):
            path = option(container, name)
            if path is not None and not any(f"{path}/".startswith(f"{mount}/") for mount in mounts.values()):
                yield f"{place}: {name} {path} lies in no volume"


def rights(documents: list[Document]) -> Iterator[str]:
    for place, container, pod in containers(documents):
        own, shared = container.get("securityContext", {}), pod.get("securityContext", {})
        if shared.get("runAsNonRoot") is not True or not shared.get("runAsUser"):
            yield f"{place}: may run as root"
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged") or own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{place}: may gain privileges"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{place}: may write to its root file system"
        if pod.get("terminationGracePeriodSeconds", 30) <= GRACE:
            yield f"{place}: {pod.get('terminationGracePeriodSeconds', 30)} s are too few for a worker to leave"


RULES: tuple[Callable[[list[Document]], Iterator[str]], ...] = (
    *(names, choices, selectors, services, resources),
    *(ports, addresses, commands, volumes, rights),
)
