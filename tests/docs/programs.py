"""What is wrong with a command of the documentation, by its program: its own parser decides wherever one can be asked.

Contract: nothing runs. A program that is not in the table is a problem, so that no command stays unchecked. What a job
or a batch system starts is checked like a command of its own.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import PurePath
from typing import Any

import typer
from packaging.requirements import InvalidRequirement, Requirement

from orchestrator.cli import app
from tests.docs import tools
from tests.docs.pages import ROOT
from tests.docs.settings import run_problems
from tests.docs.shell import MORE, Command
from tests.docs.trees import WrongUse, call, is_placeholder

_FOLDERS = tuple(f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
_NOT_THERE_YET = ("cluster/compose/.env",)
"""Files that the commands themselves make in folders of the repository."""
_RUNS = {"train", "plan", "run"}
"""Commands of ours that take a configuration."""
_JOBS = "jobs/"
_IN_THE_IMAGE = "/app/"
_PROJECT = "syncnet-orchestrator"


def problems(command: Command, *, mention: bool = False) -> list[str]:
    """Everything that is wrong with a command, one sentence each.

    Args:
        command: what a person would type.
        mention: whether it stands in a text, where the name of a command is enough.
    """
    found = [*tools.variable_problems(command), *missing_paths(command.words)]
    if not command.words:
        return found
    program = PurePath(command.words[0]).name
    try:
        if program not in PROGRAMS:
            return [*found, f"nobody checks commands of {program!r}: add it to tests/docs/programs.py or tools.py"]
        return [*found, *PROGRAMS[program](command.words[1:], mention)]
    except WrongUse as wrong:
        return [*found, str(wrong)]


def missing_paths(words: Sequence[str]) -> Iterator[str]:
    """Words that lead into a folder of the repository, and to nothing there."""
    for word in words:
        path = word.removeprefix(_IN_THE_IMAGE)
        absent = path.startswith(_FOLDERS) and not (ROOT / path).exists() and path not in _NOT_THERE_YET
        if absent and not any(map(is_placeholder, re.split(r"[/.]", path))):
            yield f"there is no {path} in the repository"


def _orchestrator(words: Sequence[str], mention: bool) -> Iterator[str]:
    asked = call(_ours(), words, "orchestrator", mention=mention)
    if asked is None:
        return
    values = asked.values
    if asked.name in _RUNS:
        budget = {key: values[key] for key in ("trials", "hours") if isinstance(values.get(key), (int, float))}
        yield from run_problems(values["config"], values["overrides"], **budget)
    elif "overrides" in values:
        yield from run_problems(None, values["overrides"])


def _python(words: Sequence[str], _: bool) -> Iterator[str]:
    if len(words) > 1 and words[0] == "-m":
        yield from _module(words[1], words[2:])
        return
    script = words[0].removeprefix(_IN_THE_IMAGE) if words else ""
    if not (ROOT / script).is_file():
        yield f"there is no script {script!r} in the repository"
    elif script.startswith(_JOBS):
        yield from _orchestrator([*_job(script), *words[1:]], mention=False)
    else:
        yield from _options((ROOT / script).read_text("utf-8"), script, words[1:])


def _module(name: str, words: Sequence[str]) -> Iterator[str]:
    path = ROOT.joinpath(*name.split("."))
    main = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    if main.is_file():
        yield from _options(main.read_text("utf-8"), name, words)
    elif name in PROGRAMS:  # `python -m pip` and the like
        yield from PROGRAMS[name](words, False)
    elif f"{name.partition('.')[0]}/" in _FOLDERS or importlib.util.find_spec(name.partition(".")[0]) is None:
        yield f"there is no module {name}"


def _options(source: str, name: str, words: Sequence[str]) -> Iterator[str]:
    """Options that a script of ours does not tell argparse of."""
    known = set(re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", source)) | {"--help"}
    for word in (word for word in words if word.startswith("-") and word.partition("=")[0] not in known):
        yield f"{name} has no option {word}"


@cache
def _job(script: str) -> list[str]:
    """The words that a job puts before its arguments: those of `main(["train", *sys.argv[1:]])`."""
    lists = [node for node in ast.walk(ast.parse((ROOT / script).read_text("utf-8"))) if isinstance(node, ast.List)]
    return [str(element.value) for element in lists[0].elts if isinstance(element, ast.Constant)]


def _ray(words: Sequence[str], mention: bool) -> Iterator[str]:
    from ray.scripts.scripts import cli

    asked = call(cli, words, "ray", mention=mention)
    if asked is None:
        return
    yield from _runtime_environment(asked.values.get("runtime_env_json"))
    cluster = asked.values.get("cluster_config_file")
    if isinstance(cluster, str) and not is_placeholder(cluster) and not (ROOT / cluster).is_file():
        yield f"there is no file {cluster}"
    if asked.values.get("entrypoint"):
        yield from problems(Command(tuple(asked.values["entrypoint"]), (), 0))


def _runtime_environment(text: Any) -> Iterator[str]:
    from ray.runtime_env import RuntimeEnv

    if not text or is_placeholder(text):
        return
    try:
        environment = json.loads(text)
    except ValueError as error:
        yield f"the runtime environment is no JSON: {error}"
        return
    yield from (f"a runtime environment has no {key!r}" for key in set(environment) - RuntimeEnv.known_fields)
    yield from tools.variable_problems(Command((), tuple(environment.get("env_vars", {}).items()), 0))


def _mlflow(words: Sequence[str], mention: bool) -> Iterator[str]:
    from mlflow.cli import cli

    call(cli, words, "mlflow", mention=mention)
    yield from ()


def _make(words: Sequence[str], _: bool) -> Iterator[str]:
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z-]+):.*##", text, re.MULTILINE)
    variables = re.findall(r"^(\w+) \?=", text, re.MULTILINE)
    for word in words:
        name, sign, _value = word.partition("=")
        if sign and name not in variables:
            yield f"the Makefile has no variable {name}"
        if not sign and word not in targets:
            yield f"the Makefile has no target {word}"


def _pip(words: Sequence[str], _: bool) -> Iterator[str]:
    parser = tools.parser("pip")
    install = parser.add_subparsers(required=True).add_parser("install", allow_abbrev=False)
    for option in ("-c", "-r", "-e"):
        install.add_argument(option, default=[], action="append")
    install.add_argument("-q", "-U", "--upgrade", "--quiet", action="store_true")
    install.add_argument("wanted", nargs="*")
    given = parser.parse_args(list(words))
    yield from (f"there is no file {name}" for name in [*given.c, *given.r] if not (ROOT / name).is_file())
    for text in [*given.wanted, *given.e]:
        yield from _requirement(text)


def _requirement(text: str) -> Iterator[str]:
    try:
        wanted = Requirement(f"{_PROJECT}{text.removeprefix('.')}" if text.startswith(".") else text)
    except InvalidRequirement as error:
        yield f"pip cannot read {text!r}: {str(error).splitlines()[0]}"
        return
    if wanted.name == _PROJECT:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        yield from (f"there is no extra {extra!r}" for extra in wanted.extras - set(project["optional-dependencies"]))


def _sbatch(words: Sequence[str], mention: bool) -> Iterator[str]:
    script, *job = tools.sbatch_job(words) or [""]
    if script and not (ROOT / script).is_file():
        yield f"sbatch: there is no script {script}"
    if not script and not mention:
        yield "sbatch: no script is given"
    if job not in ([], [MORE]):
        yield from _python(job, False)


@cache
def _ours() -> Any:
    return typer.main.get_command(app)


Checker = Callable[[Sequence[str], bool], Iterator[str]]
PROGRAMS: dict[str, Checker] = {
    "orchestrator": _orchestrator,
    "python": _python,
    "ray": _ray,
    "mlflow": _mlflow,
    "make": _make,
    "pip": _pip,
    "sbatch": _sbatch,
    **tools.TOOLS,
}
"""Program -> what is wrong with its arguments."""
