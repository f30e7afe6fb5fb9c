"""All of `cluster/` at once: no secret in any file, no open door, and a README that names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cluster.manifests import CLUSTER, ROOT
from tests.cluster.rules import literal_secrets

_FILES = sorted(path for path in CLUSTER.rglob("*") if path.is_file())
_INSIDE_A_CONTAINER = {"compose/compose.yaml", "image/mlflow.Dockerfile", "kubernetes/base/raycluster.yaml"}
"""Where a server listens on every address of a network that only its own containers are in."""


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.relative_to(CLUSTER).as_posix())
def test_a_file_holds_no_secret_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert list(literal_secrets(text)) == []
    if path.suffix in (".yaml", ".sbatch", ""):
        assert text.startswith(("# ", "#!")), "the first lines say what it is"


def test_nothing_listens_to_everybody_outside_of_containers() -> None:
    found = {
        path.relative_to(CLUSTER).as_posix() for path in _FILES if re.search(r"0\.0\.0\.0|\[::\]", path.read_text())
    }
    assert found - {"README.md"} == _INSIDE_A_CONTAINER


@pytest.mark.parametrize(
    "line",
    [
        "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
        "  aws_secret_access_key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        'RAY_AUTH_TOKEN: "3f0a9c6d1e5b48a7b2c4"',
        "tracking: https://mlflow:hunter2@mlflow.example.org",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_a_planted_secret_is_noticed(line: str) -> None:
    assert list(literal_secrets(f"# a file\n{line}\n")) == ["line 2 holds what looks like a secret"]


@pytest.mark.parametrize(
    "line",
    [
        "RAY_AUTH_TOKEN=",
        "password: ${POSTGRES_PASSWORD:?set it in .env}",
        "secretName: ray-token",
        "url: http://mlflow:5000",
    ],
)
def test_a_reference_to_a_secret_is_none(line: str) -> None:
    assert list(literal_secrets(line)) == []


def test_the_readme_names_what_is_there() -> None:
    text = (CLUSTER / "README.md").read_text()
    named = {match.rstrip("/.,") for match in re.findall(r"cluster/[\w./-]+", text)}
    assert {path for path in named if not (ROOT / path).exists() and path != "cluster/compose/.env"} == set()
    folders = {f"cluster/{path.name}" for path in CLUSTER.iterdir() if path.is_dir()}
    assert {folder for folder in folders if not any(path.startswith(folder) for path in named)} == set()
