"""Every command, setting, configuration and line of Python in the documentation is one that the programs would take.

Nothing is started here: `test_walk.py` runs what is cheap to run. `test_mistakes.py` is the test of these tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.findings import findings, shellcheck
from tests.docs.pages import JOBS, PAGES, ROOT, SHELL, Shown, all_shown
from tests.docs.shell import commands

_NAMES = [path.relative_to(ROOT).as_posix() for path in (*PAGES, *JOBS)]


@pytest.fixture(scope="module")
def everything() -> dict[str, list[Shown]]:
    """What each page shows."""
    found: dict[str, list[Shown]] = {name: [] for name in _NAMES}
    for each in all_shown():
        found[each.page].append(each)
    return found


@pytest.mark.parametrize("page", _NAMES)
def test_what_a_page_shows_is_right(everything: dict[str, list[Shown]], page: str) -> None:
    assert {str(each): found for each in everything[page] if (found := list(findings(each)))} == {}


def test_shellcheck_has_nothing_to_say(everything: dict[str, list[Shown]], tmp_path: Path) -> None:
    blocks = [each for page in everything.values() for each in page if each.kind == "fence" and each.language in SHELL]
    for number, block in enumerate(blocks):
        (tmp_path / f"{number:03}.bash").write_text(block.script)
    assert {f"{blocks[int(name)]}: {what}" for name, what in shellcheck(tmp_path)} == set()


def test_the_documentation_shows_each_kind(everything: dict[str, list[Shown]]) -> None:
    """A reader of Markdown that finds nothing would find nothing wrong."""
    shells = [each for page in everything.values() for each in page if each.kind == "fence" and each.language in SHELL]
    programs = {command.words[0] for block in shells for command in commands(block.script) if command.words}
    assert {"orchestrator", "ray", "make", "kubectl", "docker", "sbatch", "pip"} <= programs
    assert {each.language for page in everything.values() for each in page} >= {"bash", "python", "yaml", "text"}
    assert {each.page for each in all_shown() if each.kind == "inline"} >= {path for path in _NAMES if "jobs/" in path}
