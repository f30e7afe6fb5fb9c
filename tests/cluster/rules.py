"""What must hold for everything in `cluster/`, whatever its format: nothing privileged, nothing open, nothing secret.

Contract: every function takes what was loaded and yields one line per violation. Tests break copies to see it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_SECRET_NAME = re.compile(r"TOKEN|PASSWORD|SECRET|ACCESS_KEY|CREDENTIAL", re.IGNORECASE)
_PUBLIC = {"RAY_AUTH_TOKEN_PATH"}
"""Names that only sound secret."""
_LITERALS = (
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    re.compile(r"://[^/\s:@$]+:[^/\s@$]+@"),  # user:password@ in an address
    re.compile(
        r"(?i)(?:token|password|secret(?:_access)?_?key|passwd)[\"']?\s*[:=]\s*[\"']?(?=[\w+/-]*\d)[A-Za-z0-9+/_-]{12,}"
    ),
)


def image_problems(image: str) -> Iterator[str]:
    """An image must name one version for good."""
    name, _, tag = image.rpartition("/")[2].partition(":")
    if "@sha256:" not in image and (not tag or tag == "latest" or not re.search(r"\d", tag)):
        yield f"{name}: the image {image!r} has no version"


def literal_secrets(text: str) -> Iterator[str]:
    """Lines of any file that look as if they held a credential."""
    for number, line in enumerate(text.splitlines(), 1):
        if any(pattern.search(line) for pattern in _LITERALS):
            yield f"line {number} holds what looks like a secret"


def environment_problems(where: str, environment: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Of Kubernetes' lists of variables: what is secret comes from a Secret."""
    for variable in environment:
        name = str(variable["name"])
        if _SECRET_NAME.search(name) and name not in _PUBLIC and "secretKeyRef" not in variable.get("valueFrom", {}):
            yield f"{where}: {name} is not taken from a Secret"


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a credential."""
    return _SECRET_NAME.search(name) is not None and name not in _PUBLIC


def object_problems(thing: Mapping[str, Any]) -> Iterator[str]:
    """A whole Kubernetes object: its pods, its secrets, its services."""
    kind = thing["kind"]
    if kind == "Secret":
        yield "a Secret is made by hand, and lies in no file"
    if kind == "ConfigMap":
        yield from (f"ConfigMap: {key} belongs into a Secret" for key in thing.get("data", {}) if is_secret(key))
    if kind == "Service" and thing["spec"].get("type", "ClusterIP") != "ClusterIP":
        yield f"Service: type {thing['spec']['type']} opens it to others"
    if kind == "Ingress":
        yield "Ingress: dashboards are reached through `kubectl port-forward`"
    if kind == "NetworkPolicy":
        yield from policy_problems(thing["spec"])
    for where, pod in pods(thing):
        yield from pod_problems(f"{kind} {where}", pod)
    for cluster in ray_clusters(thing):
        yield from ray_problems(kind, cluster)


def ray_clusters(thing: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The specification of the Ray cluster in an object, if there is one."""
    if thing["kind"] == "RayCluster":
        yield thing["spec"]
    if thing["kind"] == "RayJob" and "rayClusterSpec" in thing["spec"]:
        yield thing["spec"]["rayClusterSpec"]


def pods(thing: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every pod template in an object, and where it is."""
    for cluster in ray_clusters(thing):
        yield "head", cluster["headGroupSpec"]["template"]["spec"]
        for group in cluster.get("workerGroupSpecs", []):
            yield str(group["groupName"]), group["template"]["spec"]
    if thing["kind"] in ("StatefulSet", "Deployment", "DaemonSet", "Job"):
        yield "pod", thing["spec"]["template"]["spec"]


def pod_problems(where: str, pod: Mapping[str, Any]) -> Iterator[str]:
    """What Kubernetes' level `restricted` asks for, and what else a pod of ours keeps to."""
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") in (0, None):
        yield f"{where}: may run as root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{where}: no seccomp profile"
    yield from (f"{where}: {name} shares the host's" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    yield from (f"{where}: mounts a path of the host" for volume in pod.get("volumes", []) if "hostPath" in volume)
    if pod.get("terminationGracePeriodSeconds") is None:
        yield f"{where}: no time to end is given"
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        yield from container_problems(f"{where} {container['name']}", container)


def container_problems(where: str, container: Mapping[str, Any]) -> Iterator[str]:
    """One container: without privileges, with limits, from an image of one version."""
    yield from security_problems(where, container.get("securityContext", {}))
    yield from image_problems(container["image"])
    yield from environment_problems(where, container.get("env", []))
    if "memory" not in container.get("resources", {}).get("limits", {}):
        yield f"{where}: no limit of memory"


def security_problems(where: str, context: Mapping[str, Any]) -> Iterator[str]:
    """The security context of one container."""
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{where}: may gain privileges"
    if context.get("privileged"):
        yield f"{where}: is privileged"
    if "ALL" not in context.get("capabilities", {}).get("drop", []) or context.get("capabilities", {}).get("add"):
        yield f"{where}: keeps capabilities"


def ray_problems(where: str, cluster: Mapping[str, Any]) -> Iterator[str]:
    """A Ray cluster on Kubernetes: nobody without the token, no way in from outside, time to save."""
    if cluster.get("authOptions", {}).get("mode") != "token" or not cluster["authOptions"].get("secretName"):
        yield f"{where}: the operator is not told to use the token"
    head = cluster["headGroupSpec"]
    if head.get("serviceType", "ClusterIP") != "ClusterIP" or head.get("enableIngress"):
        yield f"{where}: the dashboard is open to others"
    if cluster.get("enableInTreeAutoscaling"):
        autoscaler = cluster.get("autoscalerOptions", {}).get("securityContext", {})
        yield from security_problems(f"{where} autoscaler", autoscaler)
    for template in [head["template"], *(group["template"] for group in cluster.get("workerGroupSpecs", []))]:
        yield from _ray_pod_problems(where, template)


def policy_problems(policy: Mapping[str, Any]) -> Iterator[str]:
    """A network policy that lets in named pods only."""
    for rule in policy.get("ingress", []):
        peers = rule.get("from", [])
        named = [peer for peer in peers if "podSelector" in peer or peer.get("namespaceSelector")]
        if not peers or len(named) < len(peers):
            yield "NetworkPolicy: lets in anybody"
        if not rule.get("ports") and any("namespaceSelector" in peer for peer in peers):
            yield "NetworkPolicy: opens every port to another namespace"


def _ray_pod_problems(where: str, template: Mapping[str, Any]) -> Iterator[str]:
    container = template["spec"]["containers"][0]
    variables = {variable["name"]: variable for variable in container.get("env", [])}
    name = f"{where} {container['name']}"
    if variables.get("RAY_AUTH_MODE", {}).get("value") != "token" or "RAY_AUTH_TOKEN" not in variables:
        yield f"{name}: Ray does not ask for a token"
    grace = template["spec"].get("terminationGracePeriodSeconds", 30)
    for setting in ("RAY_JOB_STOP_WAIT_TIME_S", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"):
        if not 0 < int(variables.get(setting, {}).get("value", 0)) < grace:
            yield f"{name}: {setting} is not within the {grace} s that a pod has to end"
    if template["metadata"]["labels"].get("app.kubernetes.io/part-of") != "syncnet":
        yield f"{name}: the network policy does not know it"
    if not any(mount["mountPath"] == "/dev/shm" for mount in container.get("volumeMounts", [])):
        yield f"{name}: no shared memory"
