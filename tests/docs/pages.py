"""What the documentation shows: its code blocks and its inline code, read from Markdown as a renderer reads it.

Contract: a block has the language of its fence, which is empty where none is given; both know their page and line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = (
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "cluster").rglob("*.md")),
)
JOBS = sorted((ROOT / "jobs").glob("*.py"))
"""Scripts whose docstrings show how they are submitted."""
SHELL = frozenset({"bash", "sh", "console"})
_PROMPT = "$ "
_SCRIPT = re.compile(r"`(jobs/\w+\.py)`")


@dataclass(frozen=True)
class Shown:
    """A piece of code in a page."""

    page: str
    line: int
    text: str
    language: str = ""
    kind: Literal["fence", "indented", "inline"] = "fence"

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def script(self) -> str:
        """What of a shell block is typed: of a console, the lines after a prompt."""
        if self.language != "console":
            return self.text
        lines = self.text.splitlines(keepends=True)
        return "".join(line.removeprefix(_PROMPT) if line.startswith(_PROMPT) else "\n" for line in lines)


def shown(text: str, page: str) -> Iterator[Shown]:
    """Blocks and inline code of one page, in order.

    In a table, what stands beside a script of jobs/ are its arguments, and is shown as the whole command.
    """
    row: list[str] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "fence":
            yield Shown(page, line + 1, token.content, token.info.partition(" ")[0])
        if token.type == "code_block":
            yield Shown(page, line, token.content, kind="indented")
        if token.type == "tr_open":
            row = []
        row += [token.content] if token.type == "inline" else []
        script = _SCRIPT.fullmatch(row[0]) if len(row) == 2 else None
        for child in token.children or ():
            if child.type == "code_inline":
                yield Shown(
                    page, line, f"python {script[1]} {child.content}" if script else child.content, kind="inline"
                )


def all_shown() -> list[Shown]:
    """Everything that the documentation shows, and the docstrings of the jobs."""
    found = [each for path in PAGES for each in shown(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())]
    for path in JOBS:
        found += shown(ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "", f"jobs/{path.name}")
    return found
