"""What is wrong with one piece of code that the documentation shows, whatever its language: one sentence each.

Contract: nothing is started. What no branch below knows is a finding itself, so that nothing stays unchecked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import SHELL, Shown
from tests.docs.programs import PROGRAMS, missing_paths, problems
from tests.docs.python import python_problems
from tests.docs.settings import is_setting, setting_problems, yaml_problems
from tests.docs.shell import Command, ShellError, commands, usage
from tests.docs.tools import is_variable, variable_problems

LANGUAGES = SHELL | {"python", "yaml", "json", "text"}
_OVERLAYS = {"cluster/README.md"}
"""Pages whose Kubernetes objects tests/cluster builds."""
_SHELLCHECK_IGNORES = ("SC2155",)
"""`export X=$(...)` hides the code of what gives X; a person sees the message."""


def findings(each: Shown) -> Iterator[str]:
    """What is wrong with one block or piece of inline code."""
    if each.kind == "inline":
        yield from _inline_findings(each.text)
    elif each.kind == "fence":
        yield from block_findings(each)


def block_findings(block: Shown) -> Iterator[str]:
    """What is wrong with a block, by its language."""
    if block.language not in LANGUAGES:
        yield f"nobody checks a block in {block.language!r}; it may be any of {', '.join(sorted(LANGUAGES))}"
    elif block.language in SHELL:
        yield from shell_findings(block.script)
    elif block.language == "python":
        yield from python_problems(block.text)
    elif block.language == "json":
        yield from _json_findings(block.text)
    elif block.language == "yaml" and "apiVersion:" not in block.text:
        yield from yaml_problems(block.text)
    elif block.language == "yaml" and block.page not in _OVERLAYS:
        yield "no test builds this Kubernetes object"


def shell_findings(text: str, *, mention: bool = False) -> Iterator[str]:
    """What is wrong with the commands of a script, or of a piece of inline code, where a name is enough."""
    try:
        for command in commands(text):
            yield from (f"{' '.join(command.words[:4])}: {what}" for what in problems(command, mention=mention))
    except ShellError as error:
        yield str(error)


def _inline_findings(text: str) -> Iterator[str]:
    yield from missing_paths(text.split())
    if is_setting(text):
        yield from setting_problems(text)
    if is_variable(text):
        yield from variable_problems(Command((), ((text.partition("=")[0], ""),), 0))
    program, space, _ = text.partition(" ")
    if space and program in PROGRAMS:
        yield from shell_findings(usage(text), mention=True)


def _json_findings(text: str) -> Iterator[str]:
    try:
        json.loads(text)
    except ValueError as error:
        yield f"no JSON: {error}"


def shellcheck(folder: Path) -> Iterator[tuple[str, str]]:
    """What shellcheck has to say about the scripts of a folder: the name of the file, and what."""
    program = Path(sys.executable).with_name("shellcheck")
    ignored = [f"--exclude={','.join(_SHELLCHECK_IGNORES)}", "--severity=warning", "--shell=bash", "--format=json"]
    command = [program, *ignored, *sorted(folder.glob("*.bash"))]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout)
    for each in said:
        yield Path(each["file"]).stem, f"line {each['line']}: SC{each['code']} {each['message']}"
