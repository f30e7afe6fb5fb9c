"""The small site in containers: its file against the Compose specification's own schema, and against the house's rules.

The schema is the copy that `check-jsonschema` carries. Where Docker Compose itself is at hand it is asked, too.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema.validators import validator_for

from tests.cluster.manifests import CLUSTER, pins, replaced
from tests.cluster.rules import image_problems, is_secret

FOLDER = CLUSTER / "compose"
FILES = sorted(FOLDER.glob("compose*.yaml"))
_BUILT = {"syncnet-orchestrator", "syncnet-mlflow"}


@pytest.fixture(scope="module")
def site() -> dict[str, Any]:
    """The main file, with its YAML merges done."""
    return dict(yaml.safe_load((FOLDER / "compose.yaml").read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_follows_the_specification(path: Path) -> None:
    assert specification_problems(yaml.safe_load(path.read_text())) == []


def test_every_service_keeps_the_rules(site: dict[str, Any]) -> None:
    found = [problem for name, service in site["services"].items() for problem in service_problems(name, service)]
    assert found == []


def test_what_is_waited_for_has_a_health_check_or_ends(site: dict[str, Any]) -> None:
    images_with_one = {"syncnet-mlflow"}
    for service in site["services"].values():
        for name, wait in service.get("depends_on", {}).items():
            target = site["services"][name]
            if wait["condition"] == "service_healthy":
                assert "test" in target.get("healthcheck", {}) or target["image"].split(":")[0] in images_with_one
            else:
                assert wait["condition"] == "service_completed_successfully" and "restart" not in target


def test_storage_and_records_have_no_way_out(site: dict[str, Any]) -> None:
    assert all(site["networks"][name]["internal"] for name in ("storage", "records"))
    assert site["services"]["postgres"]["networks"] == ["records"]
    assert site["services"]["s3"]["networks"] == ["storage"]
    assert "records" not in site["services"]["worker"]["networks"]


def test_every_variable_is_in_the_example_which_holds_no_value(site: dict[str, Any]) -> None:
    text = (FOLDER / "compose.yaml").read_text()
    wanted = set(re.findall(r"\$\{(\w+)", text)) | {secret["environment"] for secret in site["secrets"].values()}
    lines = [line for line in (FOLDER / ".env.example").read_text().splitlines() if line and line[0] != "#"]
    example = dict(line.split("=", 1) for line in lines)
    assert set(example) == wanted
    assert {name for name, value in example.items() if value} == {"SHM_SIZE"}


def test_versions_are_those_of_the_project(site: dict[str, Any]) -> None:
    assert site["services"]["mlflow"]["image"] == f"syncnet-mlflow:{pins()['mlflow']}"
    assert site["services"]["head"]["image"] == site["services"]["worker"]["image"]


def test_what_is_mounted_from_the_project_is_there(site: dict[str, Any]) -> None:
    sources = [item.split(":")[0] for service in site["services"].values() for item in service.get("volumes", [])]
    builds = [service["build"]["dockerfile"] for service in site["services"].values() if "build" in service]
    assert {source for source in sources if source[0] != "."} <= set(site["volumes"])
    for path in (*(FOLDER / source for source in sources if source[0] == "."), *(CLUSTER.parent / b for b in builds)):
        assert path.exists(), path


@pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="docker-compose is not installed; the schema is asked"
)
def test_compose_itself_takes_the_files(tmp_path: Path) -> None:
    example = (FOLDER / ".env.example").read_text()
    (tmp_path / "env").write_text(re.sub(r"=$", "=x1", example, flags=re.MULTILINE))
    command = ["docker-compose", "--env-file", tmp_path / "env", *(word for path in FILES for word in ("-f", path))]
    done = subprocess.run([*command, "config", "--quiet"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("services/head/portz", ["127.0.0.1:1:1"], "portz"),
        ("services/head/healthcheck/retry", 3, "retry"),
        ("services/head/healthcheck/retries", {}, "retries"),
        ("services/worker/depends_on/head/condition", "healthy", "condition"),
        ("services/worker/depends_on/head", {}, "depends_on"),
        ("services/worker/deploy/replicas", [2], "replicas"),
        ("networks/storage/internall", True, "internall"),
        ("secrets/ray_token/env", "X", "env"),
        ("services/s3", ["image"], "s3"),
        ("version-of-this", 3, "version-of-this"),
    ],
)
def test_the_schema_notices_a_broken_file(site: dict[str, Any], path: str, value: Any, words: str) -> None:
    broken = copy.deepcopy(site)
    replaced(broken, path, value)
    found = specification_problems(broken)
    assert found and words in found[0]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("head/image", "syncnet-orchestrator", "no version"),
        ("postgres/image", "postgres:latest", "no version"),
        ("head/ports", ["8265:8265"], "published"),
        ("mlflow/ports", ["0.0.0.0:5000:5000"], "published"),
        ("grafana/ports", [{"target": 3000, "published": "3000"}], "published"),
        ("head/user", "root", "root"),
        ("s3/user", "0:0", "root"),
        ("s3/user", ..., "root"),
        ("worker/privileged", True, "privileged"),
        ("worker/network_mode", "host", "host's network"),
        ("worker/cap_drop", ..., "capabilities"),
        ("worker/cap_add", ["SYS_ADMIN"], "capabilities"),
        ("mlflow/security_opt", [], "gain privileges"),
        ("mlflow/environment/PGPASSWORD", "hunter2", "PGPASSWORD"),
        ("s3/environment/ROOT_SECRET_KEY", "${S3_SECRET_KEY:-minio123}", "ROOT_SECRET_KEY"),
        ("head/environment/RAY_AUTH_MODE", "disabled", "token"),
        ("worker/secrets", [], "token"),
        ("worker/stop_grace_period", "10s", "time to save"),
        ("prometheus/volumes", ["/:/host:ro"], "path of the host"),
        ("head/volumes", ["/var/run/docker.sock:/var/run/docker.sock"], "path of the host"),
    ],
)
def test_the_rules_notice_a_broken_service(site: dict[str, Any], path: str, value: Any, words: str) -> None:
    broken = copy.deepcopy(site["services"])
    replaced(broken, path, value)
    name = path.split("/")[0]
    assert any(words in found for found in service_problems(name, broken[name]))


def specification_problems(document: dict[str, Any]) -> list[str]:
    """What the Compose specification refuses."""
    place = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json")
    schema = json.loads(place.read_text())
    validator = validator_for(schema)(schema)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(document)]


def service_problems(name: str, service: dict[str, Any]) -> Iterator[str]:
    """What the house's rules say of one service."""
    yield from image_problems(service["image"])
    yield from _privilege_problems(name, service)
    for port in service.get("ports", []):
        if not isinstance(port, str) or not port.startswith("127.0.0.1:"):
            yield f"{name}: {port} is published to others"
    for variable, value in service.get("environment", {}).items():
        if is_secret(variable) and not re.fullmatch(r"\$\{\w+:\?[^}]+\}|/run/secrets/\w+", value):
            yield f"{name}: {variable} is neither from the environment nor a file"
    if service.get("command", [""])[:2] == ["ray", "start"]:
        yield from _ray_problems(name, service)


def _privilege_problems(name: str, service: dict[str, Any]) -> Iterator[str]:
    user = str(service.get("user", "root")).split(":")[0]
    if user in ("root", "0"):
        yield f"{name}: runs as root"
    if service.get("privileged"):
        yield f"{name}: is privileged"
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
        yield f"{name}: keeps capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield f"{name}: may gain privileges"
    if service.get("network_mode") == "host":
        yield f"{name}: uses the host's network"
    yield from (f"{name}: mounts a path of the host" for item in service.get("volumes", []) if item[0] in "/~")


def _ray_problems(name: str, service: dict[str, Any]) -> Iterator[str]:
    token = service["environment"].get("RAY_AUTH_TOKEN_PATH", "").removeprefix("/run/secrets/")
    if service["environment"].get("RAY_AUTH_MODE") != "token" or token not in service.get("secrets", []):
        yield f"{name}: Ray does not ask for a token"
    if int(service.get("stop_grace_period", "10s").removesuffix("s")) <= 120:
        yield f"{name}: too little time to save when it is stopped"
