"""The tools of others in the documentation: what of them is used here, and whether the files and names are there.

Contract: kubectl's own parser reads its command lines. For tools that cannot be asked, the commands and options that
the documentation uses are written down here; any other is refused, and whoever adds it has looked it up.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import yaml

from tests.docs.pages import ROOT
from tests.docs.shell import MORE, Command
from tests.docs.trees import WrongUse, is_placeholder

VARIABLES = {
    "AWS_ACCESS_KEY_ID",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "GF_PATHS_PROVISIONING",
    "GF_SERVER_HTTP_ADDR",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
    "ORCHESTRATOR_LOG",
    "RAY_ADDRESS",
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S",
    "RAY_JOB_STOP_WAIT_TIME_S",
    "SYNCNET_CACHE",
}
"""What a program reads of its environment. A misspelt variable is one that nobody reads, and nobody says so."""
_OURS_AND_THEIRS = ("AWS_", "GF_", "MLFLOW_", "ORCHESTRATOR_", "RAY_", "SYNCNET_")
_KUBERNETES = ROOT / "cluster" / "kubernetes"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise WrongUse(f"{self.prog}: {message}")


def parser(program: str) -> argparse.ArgumentParser:
    """A parser that raises `WrongUse`, and abbreviates nothing."""
    return _Parser(program, allow_abbrev=False, add_help=False)


def is_variable(text: str) -> bool:
    """Whether a piece of inline code is a variable of the environment that this project or one below it reads."""
    return re.fullmatch(r"[A-Z][A-Z0-9_]+(=\S*)?", text) is not None and text.startswith(_OURS_AND_THEIRS)


def variable_problems(command: Command) -> Iterator[str]:
    """Variables that nobody reads."""
    for name, _ in command.variables:
        if name.startswith(_OURS_AND_THEIRS) and name not in VARIABLES:
            yield f"nobody reads the variable {name}: see VARIABLES in tests/docs/tools.py"


def _kubectl(words: Sequence[str], mention: bool) -> Iterator[str]:
    given = [word for word in words if word != MORE]
    if not mention or len(given) > 1:
        yield from _refused_by_kubectl(given)
    for option, wanted in (("-k", "kustomization.yaml"), ("-f", "")):
        for path in (given[at + 1] for at, word in enumerate(given[:-1]) if word == option):
            if not (ROOT / path / wanted).exists():
                yield f"kubectl {option}: there is no {Path(path, wanted)}"
    kinds = ("secret", "generic", "rayjob", "raycluster", "service")
    for kind, name in pairwise(given):
        if kind in kinds and name not in (*kinds, *_names()) and not is_placeholder(name):
            yield f"no file below cluster/kubernetes names {name!r}"
    for name in (word.partition("/")[2] for word in given if word.startswith("service/")):
        if name not in _names():
            yield f"no file below cluster/kubernetes leads to {name!r}"


def _refused_by_kubectl(words: Sequence[str]) -> Iterator[str]:
    # with --help it reads its command line, says what it would do, and does nothing
    command = [str(Path(sys.executable).with_name("kubectl")), *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ})
    if done.returncode:
        yield f"kubectl: {done.stderr.splitlines()[0]}"


@cache
def _names() -> frozenset[str]:
    """Names that the manifests give or refer to."""
    found = {"syncnet-head-svc"} if (_KUBERNETES / "base" / "raycluster.yaml").is_file() else set()
    for path in _KUBERNETES.rglob("*.yaml"):
        found |= set(re.findall(r"\b(?:name|secretName): ([\w-]+)", path.read_text("utf-8")))
    return frozenset(found)


def _docker(words: Sequence[str], _: bool) -> Iterator[str]:
    root = parser("docker")
    programs = root.add_subparsers(dest="program", required=True)
    build = programs.add_parser("build", allow_abbrev=False)
    for option in ("-f", "-t", "--build-arg", "--target", "--platform"):
        build.add_argument(option, action="append", default=[])
    build.add_argument("context")
    compose = programs.add_parser("compose", allow_abbrev=False)
    for option in ("-f", "--profile", "--env-file"):
        compose.add_argument(option, action="append", default=[])
    verbs = compose.add_subparsers(dest="verb", required=True)
    for verb, flags in _COMPOSE.items():
        below = verbs.add_parser(verb, allow_abbrev=False)
        for flag in flags:
            below.add_argument(flag, action="store_true")
        below.add_argument("--scale", action="append", default=[])
        below.add_argument("services", nargs="*")
    given = root.parse_args([word for word in words if word != MORE])
    yield from _build_problems(given) if given.program == "build" else _compose_problems(given)


_COMPOSE = {
    "up": ("--build", "--detach", "--wait", "--force-recreate"),
    "down": ("--volumes", "--remove-orphans"),
    "build": ("--pull", "--no-cache"),
    "logs": ("--follow",),
    "ps": ("--all",),
    "config": ("--quiet",),
}
"""Verbs of `docker compose` and their options that take no value."""


def _build_problems(given: Any) -> Iterator[str]:
    for name in given.f:
        if not (ROOT / name).is_file():
            yield f"docker build: there is no {name}"
            continue
        declared = re.findall(r"^ARG (\w+)", (ROOT / name).read_text("utf-8"), re.MULTILINE)
        for argument in (item.partition("=")[0] for item in given.build_arg):
            if argument not in declared:
                yield f"docker build: {name} has no ARG {argument}"


def _compose_problems(given: Any) -> Iterator[str]:
    missing = [name for name in given.f if not (ROOT / name).is_file()]
    yield from (f"docker compose: there is no {name}" for name in missing)
    if missing:
        return
    services: dict[str, Any] = {}
    for name in given.f:
        services |= yaml.load((ROOT / name).read_text("utf-8"), _Tagged)["services"]
    profiles = {profile for service in services.values() for profile in (service or {}).get("profiles", [])}
    named = [*given.services, *(item.partition("=")[0] for item in given.scale)]
    yield from (f"docker compose: there is no service {name!r}" for name in named if name not in services)
    yield from (f"docker compose: there is no profile {name!r}" for name in given.profile if name not in profiles)


class _Tagged(yaml.SafeLoader):
    """Reads Compose's own tags, `!reset` and `!override`, as what they stand before."""


_Tagged.add_multi_constructor("!", lambda loader, _, node: loader.construct_yaml_object(node, object))


def sbatch_job(words: Sequence[str]) -> list[str]:
    """The script that `sbatch` is given, and what follows it.

    Raises:
        WrongUse: it has no such option.
    """
    known = parser("sbatch")
    for option in ("--nodes", "--gpus-per-node", "--cpus-per-task", "--time", "--partition", "--account", "--job-name"):
        known.add_argument(option)
    known.add_argument("job", nargs=argparse.REMAINDER)
    return list(known.parse_args(list(words)).job)


def _written_down(program: str, options: Sequence[str] = (), flags: Sequence[str] = (), **choices: Any) -> Checker:
    """A tool of which only what is listed here is used; `words` may be a list of choices for each word."""

    def check(words: Sequence[str], mention: bool) -> Iterator[str]:
        known = parser(program)
        for option in options:
            known.add_argument(option)
        for flag in flags:
            known.add_argument(flag, action="store_true")
        for number, allowed in enumerate(choices.get("words", ())):
            known.add_argument(f"word{number}", choices=allowed)
        if choices.get("any_words"):
            known.add_argument("others", nargs="*")
        if words or not mention:
            known.parse_args(list(words))
        yield from ()

    return check


def _copy(words: Sequence[str], _: bool) -> Iterator[str]:
    known = parser("cp")
    known.add_argument("-r", action="store_true")
    known.add_argument("source")
    known.add_argument("target")
    source = known.parse_args(list(words)).source
    if not (ROOT / source).exists():
        yield f"cp: there is no {source} in the repository"


def _anything(_words: Sequence[str], _mention: bool) -> Iterator[str]:
    """A builtin of the shell, or a program without a grammar that could be wrong."""
    yield from ()


Checker = Callable[[Sequence[str], bool], Iterator[str]]
TOOLS: dict[str, Checker] = {
    "kubectl": _kubectl,
    "docker": _docker,
    "cp": _copy,
    "scancel": _written_down("scancel", ["--signal"], ["--batch"], any_words=True),
    "openssl": _written_down("openssl", ["-hex"], words=[["rand"]]),
    "base64": _written_down("base64", flags=["-d"]),
    "aws": _written_down(
        "aws", ["--secret-id", "--query", "--output"], words=[["secretsmanager"], ["get-secret-value"]]
    ),
    "prometheus": _written_down("prometheus", ["--config.file", "--web.listen-address"]),
    "grafana": _written_down("grafana", ["--homepath"], words=[["server"]]),
    "export": _anything,
    "echo": _anything,
    "cd": _anything,
}
