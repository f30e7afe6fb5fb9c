"""The manifests: kustomize builds them, a strict server takes them, they keep the house's rules; broken ones do not.

The last part is the test of the tests: each kind of mistake is made in a copy, and must be found.
"""

from __future__ import annotations

import copy
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import load_config
from tests.cluster.manifests import CLUSTER, KUBERNETES, OVERLAYS, ROOT, build, pins, problems, replaced
from tests.cluster.rules import object_problems, pods, ray_clusters

_HEAD = "spec/rayClusterSpec/headGroupSpec"
_POD = f"{_HEAD}/template/spec"
_CONTAINER = f"{_POD}/containers/0"
_WORKER = "spec/rayClusterSpec/workerGroupSpecs/0"


@pytest.fixture(scope="module")
def built() -> dict[str, list[dict[str, Any]]]:
    """Every overlay, built once."""
    return {overlay: build(KUBERNETES / overlay) for overlay in OVERLAYS}


def test_there_is_an_overlay_for_each_purpose() -> None:
    assert {Path(overlay).name for overlay in OVERLAYS} == {"cpu-smoke", "gpu", "sweep", "train"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_valid_and_keeps_the_rules(built: dict[str, list[dict[str, Any]]], overlay: str) -> None:
    assert {thing["kind"]: problems(thing) for thing in built[overlay] if problems(thing)} == {}
    assert [problem for thing in built[overlay] for problem in object_problems(thing)] == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_has_one_cluster_behind_a_policy(built: dict[str, list[dict[str, Any]]], overlay: str) -> None:
    things = built[overlay]
    assert len([cluster for thing in things for cluster in ray_clusters(thing)]) == 1
    policies = [thing["spec"] for thing in things if thing["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress"]} in policies  # whoever is not named is kept out
    assert {thing["metadata"].get("namespace") for thing in things if thing["kind"] != "Namespace"} == {"syncnet"}


def test_every_component_is_built_by_an_overlay_or_here(tmp_path: Path) -> None:
    used = {line for path in KUBERNETES.rglob("overlays/*/kust*.yaml") for line in path.read_text().splitlines()}
    unused = [
        path
        for path in sorted((KUBERNETES / "components").iterdir())
        if f"  - ../../components/{path.name}" not in used
    ]
    assert [path.name for path in unused] == ["podmonitor"]
    tree = _copy(tmp_path)
    overlay = tree / "overlays" / "train" / "kustomization.yaml"
    overlay.write_text(overlay.read_text().replace("components:\n", "components:\n  - ../../components/podmonitor\n"))
    (monitor,) = (thing for thing in build(overlay.parent) if thing["kind"] == "PodMonitor")
    assert problems(monitor) == []
    replaced(monitor, "spec/podMetricsEndpoints/0/intervall", "15s")
    assert "intervall" in problems(monitor)[0]


def test_metrics_are_where_the_monitors_look(built: dict[str, list[dict[str, Any]]]) -> None:
    for cluster in (cluster for things in built.values() for thing in things for cluster in ray_clusters(thing)):
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            port = group["rayStartParams"]["metrics-export-port"]
            named = {
                item["name"]: item["containerPort"] for item in group["template"]["spec"]["containers"][0]["ports"]
            }
            assert str(named["metrics"]) == port == group["template"]["metadata"]["annotations"]["prometheus.io/port"]


def test_the_smoke_test_is_one_pod_and_the_others_have_gpus(built: dict[str, list[dict[str, Any]]]) -> None:
    """What a component changes arrives in the cluster of a job, too."""
    found = {Path(overlay).name: [dict(pods(thing)) for thing in things] for overlay, things in built.items()}
    clusters = {name: next(item for item in every if "head" in item) for name, every in found.items()}
    assert list(clusters.pop("cpu-smoke")) == ["head"]
    for cluster in clusters.values():
        assert cluster["workers"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"


def test_workers_have_the_cpus_that_ray_gives_out(built: dict[str, list[dict[str, Any]]]) -> None:
    for cluster in (cluster for things in built.values() for thing in things for cluster in ray_clusters(thing)):
        for group in cluster["workerGroupSpecs"]:
            asked = group["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]
            assert group["rayStartParams"]["num-cpus"] == asked


def test_the_readmes_own_overlay_changes_what_it_says(tmp_path: Path) -> None:
    text = (CLUSTER / "README.md").read_text()
    (example,) = (block.partition("```")[0] for block in text.split("```yaml\n")[1:])
    overlay = _copy(tmp_path) / "overlays" / "mine"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(example)
    things = build(overlay)
    assert [problem for thing in things for problem in (*problems(thing), *object_problems(thing))] == []
    job, site = _only(things, "RayJob"), _only(things, "ConfigMap")["data"]
    images = {pod["containers"][0]["image"] for _, pod in pods(job)}
    assert images == {"registry.example.org/syncnet-orchestrator:0.1.0"}
    assert "--name mine" in job["spec"]["entrypoint"]
    assert set(site) == {"AWS_ENDPOINT_URL_S3", "AWS_REGION", "MLFLOW_TRACKING_URI"}


def test_versions_are_those_of_the_project(built: dict[str, list[dict[str, Any]]]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for thing in (thing for things in built.values() for thing in things):
        for cluster in ray_clusters(thing):
            assert cluster["rayVersion"] == pins()["ray"]
            for _, pod in pods(thing):
                assert pod["containers"][0]["image"] == f"syncnet-orchestrator:{project['version']}"


def test_entrypoints_are_jobs_that_start(built: dict[str, list[dict[str, Any]]]) -> None:
    entrypoints = [
        thing["spec"]["entrypoint"] for things in built.values() for thing in things if thing["kind"] == "RayJob"
    ]
    assert len(entrypoints) == 3
    for words in map(shlex.split, entrypoints):
        if words[0] == "orchestrator":
            assert words[1:3] == ["demo", "--out"]
            continue
        script, config, name_option, _, *overrides = words[1:]
        assert words[0] == "python" and name_option == "--name"
        assert (ROOT / Path(script).relative_to("/app")).is_file()
        load_config(ROOT / Path(config).relative_to("/app"), overrides)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec/entryPoint", "python x.py", "entryPoint"),
        ("spec/backoffLimit", "5", "backoffLimit"),
        ("spec/submissionMode", "HttpMode", "submissionMode"),
        (_HEAD, ..., "headGroupSpec"),
        (f"{_WORKER}/maxReplicas", ..., "maxReplicas"),
        (f"{_WORKER}/replica", 2, "replica"),
        (f"{_HEAD}/rayStartParams/num-cpus", 0, "num-cpus"),
        ("spec/rayClusterSpec/authOptions/mode", "basic", "mode"),
        (f"{_POD}/terminationGracePeriod", 150, "terminationGracePeriod"),
        (f"{_CONTAINER}/image", 7, "image"),
        (f"{_CONTAINER}/securityContext/runAsNotRoot", True, "runAsNotRoot"),
        (f"{_CONTAINER}/env/0/valueForm", {}, "valueForm"),
        (f"{_CONTAINER}/name", ..., "name"),
    ],
)
def test_a_server_refuses_a_broken_job(
    built: dict[str, list[dict[str, Any]]], path: str, value: Any, words: str
) -> None:
    broken = copy.deepcopy(_only(built["overlays/train"], "RayJob"))
    replaced(broken, path, value)
    found = problems(broken)
    assert len(found) == 1 and words in found[0]


@pytest.mark.parametrize(
    ("kind", "path", "value", "words"),
    [
        ("NetworkPolicy", "spec/podSelectors", {}, "podSelectors"),
        ("NetworkPolicy", "spec/podSelector", "all", "podSelector"),
        ("StatefulSet", "spec/template/spec/containers/0/ports/0/containerPort", "6379", "containerPort"),
        ("StatefulSet", "spec/selector", ..., "selector"),
        ("Service", "spec/ports/0/targetport", 6379, "targetport"),
        ("RayCluster", "spec/gcsFaultToleranceOptions/redisAddress", ..., "redisAddress"),
        ("RayCluster", "spec/gcsFaultToleranceOptions/redisPasword", {}, "redisPasword"),
        ("RayCluster", "kind", "RayClutser", "RayClutser"),
    ],
)
def test_a_server_refuses_other_broken_objects(
    built: dict[str, list[dict[str, Any]]], kind: str, path: str, value: Any, words: str
) -> None:
    broken = copy.deepcopy(_only(built["overlays/gpu"], kind))
    replaced(broken, path, value)
    found = problems(broken)
    assert len(found) == 1 and words in found[0]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (f"{_POD}/securityContext/runAsNonRoot", False, "root"),
        (f"{_POD}/securityContext/runAsUser", 0, "root"),
        (f"{_POD}/securityContext/seccompProfile", ..., "seccomp"),
        (f"{_POD}/hostNetwork", True, "hostNetwork"),
        (f"{_POD}/volumes/1", {"name": "scratch", "hostPath": {"path": "/"}}, "path of the host"),
        (f"{_CONTAINER}/securityContext/privileged", True, "privileged"),
        (f"{_CONTAINER}/securityContext/allowPrivilegeEscalation", ..., "privileges"),
        (f"{_CONTAINER}/securityContext/capabilities/add", ["SYS_ADMIN"], "capabilities"),
        (f"{_CONTAINER}/image", "syncnet-orchestrator", "no version"),
        (f"{_CONTAINER}/image", "syncnet-orchestrator:latest", "no version"),
        (f"{_CONTAINER}/env/0/value", "disabled", "does not ask for a token"),
        (f"{_CONTAINER}/env/1", {"name": "RAY_AUTH_TOKEN", "value": "a1b2"}, "not taken from a Secret"),
        (f"{_CONTAINER}/env/2/value", "600", "RAY_JOB_STOP_WAIT_TIME_S"),
        (f"{_CONTAINER}/env/3", ..., "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"),
        (f"{_CONTAINER}/resources/limits/memory", ..., "no limit of memory"),
        (f"{_CONTAINER}/volumeMounts/0", ..., "no shared memory"),
        (f"{_HEAD}/template/metadata/labels/app.kubernetes.io~part-of", "other", "network policy"),
        (f"{_HEAD}/serviceType", "LoadBalancer", "open to others"),
        (f"{_HEAD}/enableIngress", True, "open to others"),
        ("spec/rayClusterSpec/authOptions/mode", "disabled", "not told to use the token"),
        ("spec/rayClusterSpec/autoscalerOptions/securityContext", ..., "autoscaler"),
    ],
)
def test_the_rules_notice_a_broken_job(
    built: dict[str, list[dict[str, Any]]], path: str, value: Any, words: str
) -> None:
    broken = copy.deepcopy(_only(built["overlays/train"], "RayJob"))
    replaced(broken, path, value)
    assert any(words in found for found in object_problems(broken))


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ({"kind": "Secret", "stringData": {"auth_token": "x"}}, "made by hand"),
        ({"kind": "ConfigMap", "data": {"AWS_SECRET_ACCESS_KEY": "x"}}, "belongs into a Secret"),
        ({"kind": "Service", "spec": {"type": "NodePort"}}, "opens it"),
        ({"kind": "Ingress"}, "port-forward"),
        ({"kind": "NetworkPolicy", "spec": {"ingress": [{}]}}, "anybody"),
        ({"kind": "NetworkPolicy", "spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}}, "anybody"),
        ({"kind": "NetworkPolicy", "spec": {"ingress": [{"from": [{"namespaceSelector": {}}]}]}}, "every port"),
    ],
)
def test_the_rules_notice_other_broken_objects(thing: dict[str, Any], words: str) -> None:
    assert any(words in found for found in object_problems(thing))


def test_kustomize_refuses_a_broken_overlay(tmp_path: Path) -> None:
    tree = _copy(tmp_path)
    patch = tree / "components" / "gpu" / "workers.yaml"
    patch.write_text(patch.read_text().replace("workerGroupSpecs/0", "workerGroups/0"))
    with pytest.raises(ValueError, match="workerGroups"):
        build(tree / "overlays" / "train")


def _copy(folder: Path) -> Path:
    return Path(shutil.copytree(CLUSTER / "kubernetes", folder / "kubernetes"))


def _only(things: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(thing for thing in things if thing["kind"] == kind)
