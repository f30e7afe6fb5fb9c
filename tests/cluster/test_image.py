"""The images: hadolint reads their recipes; they are pinned, without root and without what a build leaves behind."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.manifests import CLUSTER, ROOT, pins
from tests.cluster.rules import image_problems, is_secret

FOLDER = CLUSTER / "image"
RECIPES = sorted(FOLDER.glob("*Dockerfile"))
_BUILD_TOOLS = ("gcc", "g++", "build-essential", "git", "make")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_is_clean_and_keeps_the_rules(path: Path) -> None:
    assert lint(path.read_text()) == []
    assert list(recipe_problems(path.read_text())) == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_build_sees_what_it_copies_and_no_more(path: Path) -> None:
    lines = path.with_name(f"{path.name}.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and line[0] != "#"]
    allowed = {rule[1:] for rule in rules if rule[0] == "!"}
    assert rules[0] == "*"
    assert copied(path.read_text()) == allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_caches_and_keys_stay_at_home() -> None:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    for name in ("__pycache__", "run.pyc", ".env"):
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name


def test_what_the_package_is_built_from_is_copied() -> None:
    """`pip install .` reads more than the package: what pyproject.toml names must be in the image's first stage."""
    text = (ROOT / "pyproject.toml").read_text()
    named = {
        match[1]
        for match in re.finditer(r'^readme = "(.+)"|^license-files = \["(.+)"\]', text, re.MULTILINE)
        if match[1]
    }
    assert {*named, "LICENSE", "orchestrator", "constraints.txt"} <= copied((FOLDER / "Dockerfile").read_text())


def test_packages_beside_the_pins_are_those_of_the_machines() -> None:
    """boto3 is no dependency of the project; where it is installed it is one version."""
    texts = [path.read_text() for path in (*RECIPES, *(CLUSTER / "vms").glob("*.yaml"))]
    assert len({match for text in texts for match in re.findall(r"boto3==([\d.]+)", text)}) == 1
    assert {"mlflow", "psycopg2-binary"} <= set(pins())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("python:3.11.14-slim-bookworm", "python", "DL3006"),
        ("python:3.11.14-slim-bookworm", "python:latest", "DL3007"),
        ("WORKDIR /app", "WORKDIR app", "DL3000"),
        ("apt-get install --yes", "apt-get install", "DL3014"),
        ("--no-install-recommends", "", "DL3015"),
        (" -c constraints.txt", " numpy", "DL3013"),
        ('CMD ["orchestrator", "--help"]', "CMD orchestrator --help", "DL3025"),
        ("USER 1000:1000", "USER root", "DL3002"),
        ("COPY jobs jobs", "CPY jobs jobs", "unexpected"),
    ],
)
def test_the_linter_notices_a_broken_recipe(old: str, new: str, words: str) -> None:
    text = (FOLDER / "Dockerfile").read_text()
    assert old in text
    assert any(words in found for found in lint(text.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("FROM python:3.11.14-slim-bookworm AS build", "FROM python AS build", "no version"),
        ("USER 1000:1000", "USER ray", "number"),
        ("USER 1000:1000\n", "", "root"),
        (" -c constraints.txt", "", "pins"),
        ("install --yes --no-install-recommends wget", "install --yes --no-install-recommends gcc", "gcc"),
        ("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled", "token"),
        ("RAY_USAGE_STATS_ENABLED=0", "RAY_AUTH_TOKEN=abc", "RAY_AUTH_TOKEN"),
        ('EXTRAS=""', 'AWS_SECRET_ACCESS_KEY=""', "AWS_SECRET_ACCESS_KEY"),
        ("HEALTHCHECK", "LABEL health", "HEALTHCHECK"),
    ],
)
def test_the_rules_notice_a_broken_recipe(old: str, new: str, words: str) -> None:
    text = (FOLDER / "Dockerfile").read_text()
    assert old in text
    assert any(words in found for found in recipe_problems(text.replace(old, new)))


def lint(text: str) -> list[str]:
    """What hadolint says, as `code: message`."""
    command = [Path(sys.executable).with_name("hadolint"), "--format", "json", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return [f"{item['code']}: {item['message']}" for item in found]


def recipe_problems(text: str) -> Iterator[str]:
    """What the house's rules say of a recipe."""
    steps = list(instructions(text))
    stages = {words.split()[2] for name, words in steps if name == "FROM" and " AS " in words}
    for words in (words for name, words in steps if name == "FROM"):
        yield from image_problems(words.split()[0])
    last = steps[max(index for index, (name, _) in enumerate(steps) if name == "FROM") :]
    users = [words for name, words in last if name == "USER"]
    if not users or users[-1].split(":")[0] in ("root", "0"):
        yield "ends as root"
    elif not users[-1].split(":")[0].isdigit():
        yield "the user has a name: Kubernetes can tell by a number only that it is not root"
    if not any(name == "HEALTHCHECK" for name, _ in last):
        yield "no HEALTHCHECK"
    for name, words in steps:
        yield from _step_problems(name, words)
    if stages and "RAY_AUTH_MODE=token" not in text:
        yield "Ray would start without a token"


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction of a recipe and its words, comments left out and lines joined."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    for line in filter(None, joined.splitlines()):
        name, _, words = line.strip().partition(" ")
        yield name, words.strip()


def copied(text: str) -> set[str]:
    """What a recipe takes from the project."""
    steps = [shlex.split(words) for name, words in instructions(text) if name == "COPY"]
    return {source for words in steps if not words[0].startswith("--from") for source in words[:-1]}


def _step_problems(name: str, words: str) -> Iterator[str]:
    if name == "RUN" and "pip install" in words and " -c " not in words:
        yield "pip is not held by the pins"
    if name == "RUN":
        yield from (f"{tool} is left in the image" for tool in _BUILD_TOOLS if f" {tool} " in f"{words} ")
    if name in ("ENV", "ARG"):
        for variable in (word.partition("=")[0] for word in shlex.split(words)):
            if is_secret(variable):
                yield f"{variable} would be readable in every copy of the image"
